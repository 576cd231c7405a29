//! Processes that are killed anywhere: the store is whole afterwards, and the next run makes the right
//! image.
//!
//! strace(1) kills rbuild where it enters the N-th call of a class. The suite tries a few of these
//! points; `scripts/crash POINTS` (`RBUILD_CRASH_POINTS`) so many of each command and class.

use std::ffi::OsStr;
use std::fs;
use std::process::{Command, Stdio};

use crate::rig::faulty::Faulty;
use crate::rig::image::Image;
use crate::rig::outcome::Outcome;
use crate::rig::terminal::started_by;
use crate::rig::{Rig, host};

/// The calls that a store is changed with.
const CLASSES: [&str; 6] = [
    "rename,renameat,renameat2",
    "openat",
    "unlinkat,unlink,rmdir",
    "mkdir,mkdirat",
    "write",
    "fsync,fdatasync,syncfs",
];

/// How often each command is killed in each class: 0 stands for a sample of the classes.
pub(crate) fn points() -> usize {
    let points = std::env::var("RBUILD_CRASH_POINTS").ok();
    points.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The N-th calls to be killed at: near ones first, then ever farther.
fn calls(points: usize) -> impl Iterator<Item = usize> {
    let mut next = 1;
    (0..points).map(move |number| {
        let this = next;
        // All of the first 30, as beginnings differ most.
        next += if number < 30 { 1 } else { 1 + number / 10 };
        this
    })
}

/// A command that is killed, and the store that it works on.
struct Crash<'a> {
    name: &'a str,
    rig: &'a Rig,
    /// Brings the store to where the command has something to do.
    before: &'a dyn Fn(&Rig, usize),
    command: &'a dyn Fn(&Rig, usize) -> Command,
    /// The same again, not killed, and that its result is right.
    after: &'a dyn Fn(&Rig, usize),
}

impl Crash<'_> {
    /// Kills the command in some of the ways; `number` makes commands differ in their sample.
    fn everywhere(&self, number: usize) {
        if !host::tool("strace") {
            return;
        }
        // newuidmap has no privileges below strace, so the namespace is made before it.
        let outside: &[&str] = if host::maps_many_ids() && host::tool("unshare") {
            &["unshare", "--user", "--map-root-user", "--map-auto", "--"]
        } else {
            &[]
        };
        let (mut round, mut killed, mut failed) = (0, 0, 0);
        let tried: Vec<(&str, usize)> = if points() > 0 {
            let all = CLASSES.iter();
            all.map(|class| (*class, points())).collect()
        } else {
            let sample = [(0, 3), (number % 4 + 1, 2), (4, 1)];
            sample
                .map(|(class, points)| (CLASSES[class], points))
                .to_vec()
        };
        for (class, points) in tried {
            for call in calls(points) {
                // The sample is spread: the first calls are of the dynamic linker and the set-up.
                let call = if self::points() == 0 {
                    call * call + number % 3
                } else {
                    call
                };
                round += 1;
                (self.before)(self.rig, round);
                let outcome = self.killed_at(outside, class, call, round);
                self.is_whole(&format!("{class} {call}"));
                (self.after)(self.rig, round);
                self.is_whole(&format!("{class} {call}, done again"));
                match outcome.code {
                    Some(0) => break,
                    // Of a build, strace may have hit the command of a RUN.
                    Some(1) => failed += 1,
                    None | Some(137) => killed += 1,
                    other => panic!("{other:?}: {}", outcome.stderr),
                }
            }
        }
        println!(
            "{}: killed at {killed} points, and its steps at {failed}",
            self.name
        );
        assert!(killed > 0, "{} was never killed", self.name);
        let repaired = self.rig.rbuild(["store", "check", "--repair", "--deep"]);
        let repaired = String::from_utf8(repaired.succeeds().stdout).unwrap();
        assert!(!repaired.contains("damage: "), "{repaired}");
        let clean = self.rig.rbuild(["store", "check", "--deep"]).succeeds();
        let clean = String::from_utf8(clean.stdout).unwrap();
        assert!(clean.ends_with(": nothing is wrong\n"), "{clean}");
    }

    fn killed_at(&self, outside: &[&str], class: &str, call: usize, round: usize) -> Outcome {
        let trace = format!("trace={class}");
        let inject = format!("inject={class}:signal=KILL:when={call}");
        let mut arguments = vec!["timeout", "-k", "5", "120"];
        arguments.extend(outside);
        arguments.extend(["strace", "-f", "-qq", "-o", "/dev/null"]);
        arguments.extend(["-e", &trace, "-e", &inject]);
        let command = (self.command)(self.rig, round);
        Outcome::of(started_by(&arguments, &command).stdin(Stdio::null()))
    }

    /// Nothing is damaged; leftovers there may be.
    fn is_whole(&self, place: &str) {
        let outcome = self.rig.rbuild(["store", "check"]);
        assert!(
            outcome.code == Some(0),
            "{} killed at {place}: {}{}",
            self.name,
            String::from_utf8_lossy(&outcome.stdout),
            outcome.stderr
        );
    }
}

fn nothing(_: &Rig, _: usize) {}

/// Every round has steps that no round had before.
pub(crate) fn built(rig: &Rig, round: usize, options: &[&str]) -> Command {
    let number = format!("N={round}");
    rig.build_command(&[&["-t", "app", "--build-arg", &number], options].concat())
}

pub(crate) fn with_app() -> Rig {
    let rig = Rig::new();
    rig.write("file", "x").dockerfile(
        "FROM base\nARG N=0\nRUN mkdir /d && echo $N > /d/n\nCOPY --link file /file\nRUN rm /d/n && echo $N > /n\n",
    );
    Outcome::of(&mut built(&rig, 0, &[])).succeeds();
    rig
}

/// The image `app` has the files of this round.
pub(crate) fn has_files_of(rig: &Rig, round: usize) {
    let archive = rig.path("look.tar");
    let saved = archive.to_str().unwrap();
    rig.rbuild(["save", "-o", saved, "app"]).succeeds();
    let image = Image::open(&archive);
    assert_eq!(image.text("n"), format!("{round}\n"));
    assert_eq!(image.text("file"), "x");
}

#[test]
fn a_killed_build() {
    let rig = with_app();
    let crash = Crash {
        name: "build",
        rig: &rig,
        before: &nothing,
        command: &|rig, round| built(rig, round, &[]),
        after: &|rig, round| {
            Outcome::of(&mut built(rig, round, &[])).succeeds();
            has_files_of(rig, round);
        },
    };
    crash.everywhere(0);
}

#[test]
fn a_killed_build_that_compresses_behind_its_steps() {
    let rig = Rig::new();
    rig.dockerfile(
        "FROM base\nARG N=0\nRUN seq $N 700000 > /large && echo $N > /n\nRUN echo $N > /m\nRUN rm /large\n\
         COPY Dockerfile /file\n",
    );
    let crash = Crash {
        name: "build that compresses behind",
        rig: &rig,
        before: &nothing,
        command: &|rig, round| built(rig, round, &[]),
        after: &|rig, round| {
            Outcome::of(&mut built(rig, round, &[])).succeeds();
            let archive = rig.path("look.tar");
            let saved = archive.to_str().unwrap();
            rig.rbuild(["save", "-o", saved, "app"]).succeeds();
            let image = Image::open(&archive);
            assert_eq!(image.text("n"), format!("{round}\n"));
            assert_eq!(image.text("m"), format!("{round}\n"));
        },
    };
    crash.everywhere(1);
}

#[test]
fn a_killed_first_build_of_a_store() {
    let rig = Rig::empty();
    rig.dockerfile("FROM scratch\nCOPY Dockerfile /n\n");
    let crash = Crash {
        name: "first build",
        rig: &rig,
        before: &|rig, _| drop(fs::remove_dir_all(rig.store())),
        command: &|rig, _| rig.build_command(&["-t", "app"]),
        after: &|rig, _| {
            rig.build(&["-t", "app"]).succeeds();
            rig.rbuild(["inspect", "app"]).succeeds();
        },
    };
    crash.everywhere(3);
}

#[test]
fn a_killed_pull_and_a_killed_push() {
    let rig = with_app();
    let registry = Faulty::start();
    let name = format!("{}/app:1", registry.host());
    rig.rbuild(["tag", "app", &name]).succeeds();
    let push = |rig: &Rig, _| rig.command(["push", &name]);
    let crash = Crash {
        name: "push",
        rig: &rig,
        before: &nothing,
        command: &push,
        after: &|rig, _| drop(rig.rbuild(["push", &name]).succeeds()),
    };
    crash.everywhere(1);
    let other = Rig::empty();
    other.rbuild(["pull", &name]).succeeds();
    let crash = Crash {
        name: "pull",
        rig: &other,
        before: &|rig, _| drop(rig.rbuild(["rmi", &name])),
        command: &|rig, _| rig.command(["pull", &name]),
        after: &|rig, _| {
            rig.rbuild(["pull", &name]).succeeds();
            rig.rbuild(["tag", &name, "app"]).succeeds();
            has_files_of(rig, 0);
            rig.rbuild(["rmi", "app"]).succeeds();
        },
    };
    crash.everywhere(2);
    // Its layers are unpacked by the build that is killed.
    other.dockerfile(&format!("FROM {name}\nRUN echo more > /more\n"));
    let crash = Crash {
        name: "build on what was pulled",
        rig: &other,
        before: &|rig, _| {
            // Nothing may be remembered of its layers either.
            rig.rbuild(["image", "prune", "-af"]).succeeds();
            rig.rbuild(["builder", "prune", "-af"]).succeeds();
            rig.rbuild(["pull", &name]).succeeds();
        },
        command: &|rig, _| rig.build_command(&["-t", "app"]),
        after: &|rig, _| {
            rig.build(&["-t", "app"]).succeeds();
            has_files_of(rig, 0);
        },
    };
    crash.everywhere(0);
}

#[test]
fn a_killed_prune() {
    let rig = with_app();
    let crash = Crash {
        name: "builder prune",
        rig: &rig,
        before: &nothing,
        command: &|rig, _| rig.command(["builder", "prune", "-af"]),
        after: &|rig, round| {
            Outcome::of(&mut built(rig, round, &[])).succeeds();
            has_files_of(rig, round);
        },
    };
    crash.everywhere(2);
    let crash = Crash {
        name: "image prune",
        rig: &rig,
        before: &nothing,
        command: &|rig, _| rig.command(["image", "prune", "-f"]),
        // The image of the round before loses its name, so there is one to remove.
        after: &|rig, round| {
            Outcome::of(&mut built(rig, 1000 + round, &[])).succeeds();
            has_files_of(rig, 1000 + round);
        },
    };
    crash.everywhere(1);
}

#[test]
fn a_killed_tag_and_a_killed_rmi() {
    let rig = with_app();
    let crash = Crash {
        name: "tag",
        rig: &rig,
        before: &nothing,
        command: &|rig, round| rig.command(["tag", "app", &format!("other:{round}")]),
        after: &|rig, round| {
            let other = format!("other:{round}");
            rig.rbuild(["tag", "app", &other]).succeeds();
            rig.rbuild(["inspect", &other]).succeeds();
        },
    };
    crash.everywhere(0);
    let crash = Crash {
        name: "rmi",
        rig: &rig,
        before: &|rig, round| drop(Outcome::of(&mut built(rig, round, &[])).succeeds()),
        command: &|rig, _| rig.command(["rmi", "app"]),
        after: &|rig, round| {
            Outcome::of(&mut built(rig, round, &[])).succeeds();
            has_files_of(rig, round);
        },
    };
    crash.everywhere(1);
}

#[test]
fn a_killed_save_a_killed_load_and_a_killed_import() {
    let rig = with_app();
    let archive = rig.path("app.tar");
    let saved = archive.to_str().unwrap();
    rig.rbuild(["save", "-o", saved, "app"]).succeeds();
    let whole = fs::read(&archive).unwrap();
    let crash = Crash {
        name: "save",
        rig: &rig,
        before: &nothing,
        command: &|rig, _| rig.command(["save", "-o", saved, "app"]),
        after: &|rig, _| {
            assert_eq!(fs::read(&archive).unwrap(), whole, "replaced by half of it");
            rig.rbuild(["save", "-o", saved, "app"]).succeeds();
        },
    };
    crash.everywhere(0);
    let other = Rig::empty();
    other.rbuild(["load", "-i", saved]).succeeds();
    let crash = Crash {
        name: "load",
        rig: &other,
        before: &|rig, _| drop(rig.rbuild(["rmi", "app"])),
        command: &|rig, _| rig.command(["load", "-i", saved]),
        after: &|rig, _| {
            rig.rbuild(["load", "-i", saved]).succeeds();
            has_files_of(rig, 0);
        },
    };
    crash.everywhere(1);
    let tar = rig.path("base.tar");
    let import =
        |rig: &Rig, _| rig.command([OsStr::new("import"), tar.as_os_str(), OsStr::new("app")]);
    let crash = Crash {
        name: "import",
        rig: &other,
        before: &|rig, _| drop(rig.rbuild(["rmi", "app"])),
        command: &import,
        after: &|rig, _| {
            Outcome::of(&mut import(rig, 0)).succeeds();
            rig.rbuild(["inspect", "app"]).succeeds();
        },
    };
    crash.everywhere(2);
}
