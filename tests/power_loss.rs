//! What a power cut leaves of a store: names and bytes that were never flushed may be there or not.
//!
//! A build runs under strace(1), in part of the states killed somewhere. From its calls follows what has
//! reached the disk; of everything else that it made, each file keeps its bytes, loses them or is gone,
//! and what it removed may be back. In no such state may a build fail or use what was lost.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::crash::{built, has_files_of, points, with_app};
use crate::rig::outcome::Outcome;
use crate::rig::terminal::started_by;
use crate::rig::{Rig, host};

/// Numbers that look like chance and are always the same (xorshift64*).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % below
    }
}

/// What the calls of a run say of paths, in the order of the calls.
#[derive(Default)]
struct Flushed {
    /// Files whose bytes were flushed.
    bytes: BTreeMap<PathBuf, ()>,
    /// When a name came to be there.
    named: HashMap<PathBuf, usize>,
    /// When the names in a directory were flushed last.
    directories: HashMap<PathBuf, usize>,
}

impl Flushed {
    fn of(log: &str) -> Self {
        let mut flushed = Self::default();
        for (time, call) in calls_of(log).iter().enumerate() {
            flushed.take(time, call);
        }
        flushed
    }

    fn take(&mut self, time: usize, call: &str) {
        let quoted: Vec<PathBuf> = call
            .split('"')
            .skip(1)
            .step_by(2)
            .map(PathBuf::from)
            .collect();
        let shown = |text: &str| {
            let (_, rest) = text.split_once('<')?;
            Some(PathBuf::from(rest.split('>').next()?))
        };
        if call.contains("= -1 ") {
            return;
        }
        let name = call.split('(').next().unwrap_or_default();
        match name {
            "fsync" | "fdatasync" => {
                let path = shown(call).unwrap();
                self.directories.insert(path.clone(), time);
                self.bytes.insert(path, ());
            }
            "openat" if call.contains("O_CREAT") => {
                let opened = call.rsplit_once("= ").and_then(|(_, result)| shown(result));
                if let Some(path) = opened {
                    self.named.entry(path).or_insert(time);
                }
            }
            "mkdir" if quoted.len() == 1 => drop(self.named.insert(quoted[0].clone(), time)),
            "rename" | "renameat" | "renameat2" if quoted.len() == 2 => {
                let moved = |path: &PathBuf| {
                    let rest = path.strip_prefix(&quoted[0]).ok()?;
                    Some(if rest.as_os_str().is_empty() {
                        quoted[1].clone()
                    } else {
                        quoted[1].join(rest)
                    })
                };
                self.bytes.retain(|path, ()| !path.starts_with(&quoted[1]));
                let bytes = std::mem::take(&mut self.bytes).into_keys();
                self.bytes = bytes
                    .map(|path| (moved(&path).unwrap_or(path), ()))
                    .collect();
                let named = std::mem::take(&mut self.named).into_iter();
                self.named = named
                    .map(|(path, at)| (moved(&path).unwrap_or(path), at))
                    .collect();
                let directories = std::mem::take(&mut self.directories).into_iter();
                self.directories = directories
                    .map(|(path, at)| (moved(&path).unwrap_or(path), at))
                    .collect();
                self.named.insert(quoted[1].clone(), time);
            }
            _ => {}
        }
    }

    /// Whether a power cut leaves the name, which the run made.
    fn keeps_name(&self, path: &Path) -> bool {
        let parent = path.parent().unwrap();
        match (self.named.get(path), self.directories.get(parent)) {
            (Some(named), Some(flushed)) => named < flushed,
            _ => false,
        }
    }

    fn keeps_bytes(&self, path: &Path) -> bool {
        self.bytes.contains_key(path)
    }
}

/// The calls of a trace in the order of their ends, those that were interrupted put together.
fn calls_of(log: &str) -> Vec<String> {
    let mut begun = HashMap::new();
    let mut calls = Vec::new();
    for line in log.lines() {
        let Some((pid, call)) = line.split_once(' ') else {
            continue;
        };
        let call = call.trim_start();
        if let Some(begin) = call.strip_suffix(" <unfinished ...>") {
            begun.insert(pid, begin.to_owned());
        } else if let Some(rest) = call.strip_prefix("<... ") {
            let begin = begun.remove(pid).unwrap_or_default();
            let end = rest.split_once(" resumed>").map_or("", |(_, end)| end);
            calls.push(format!("{begin}{end}"));
        } else {
            calls.push(call.to_owned());
        }
    }
    calls
}

/// Runs a shell script as root of the ids that the store's files have.
fn in_namespace(script: &str) -> String {
    let mut run = if host::maps_many_ids() {
        let mut run = Command::new("unshare");
        run.args(["--user", "--map-root-user", "--map-auto", "--", "sh"]);
        run
    } else {
        Command::new("sh")
    };
    run.args(["-e", "-c", script]);
    String::from_utf8(host::stdout_of(&mut run)).unwrap()
}

/// Type and path below `root` of all there is but the store's lock files, directories first.
fn listing(root: &Path) -> BTreeMap<PathBuf, char> {
    let found = in_namespace(&format!("find {} -printf '%y %T@ %P\\n'", root.display()));
    found
        .lines()
        .filter_map(|line| {
            let mut words = line.splitn(3, ' ');
            let kind = words.next()?.chars().next()?;
            let path = PathBuf::from(words.nth(1)?);
            (!path.as_os_str().is_empty()).then_some((path, kind))
        })
        .collect()
}

/// Makes of the store, which was `before` before the run, one of the states that a power cut may leave.
/// Returns what was done to it.
fn cut(rig: &Rig, before: &Path, flushed: &Flushed, numbers: &mut Numbers) -> String {
    let root = rig.store();
    let (old, new) = (listing(before), listing(&root));
    // All in one state lose much, in another little.
    let harm = 1 + numbers.next(4);
    let mut script = String::new();
    let mut gone: Vec<PathBuf> = Vec::new();
    for (path, kind) in &new {
        let place = root.join(path);
        let is_replaced = old.contains_key(path);
        if gone.iter().any(|gone| path.starts_with(gone))
            || (is_replaced && !flushed.named.contains_key(&place))
        {
            continue;
        }
        let shown = place.display();
        if !flushed.keeps_name(&place) && numbers.next(4) < harm {
            if is_replaced {
                script += &format!("cp -a {} {shown}\n", before.join(path).display());
            } else {
                script += &format!("rm -rf {shown}\n");
                gone.push(path.clone());
            }
        } else if *kind == 'f' && !flushed.keeps_bytes(&place) && numbers.next(4) < harm {
            script += &format!(": > {shown}\n");
        }
    }
    for path in old.keys().filter(|path| !new.contains_key(*path)) {
        let parent = path.parent().unwrap();
        if new.contains_key(parent)
            && !gone.iter().any(|gone| path.starts_with(gone))
            && numbers.next(4) < harm
        {
            let (from, to) = (before.join(path), root.join(path));
            script += &format!("cp -a {} {}\n", from.display(), to.display());
        }
    }
    // The machine starts again.
    script += &format!(
        "for marker in {}/*; do if [ -s $marker ]; then echo another-boot > $marker; fi; done\n",
        root.join("unsynced").display()
    );
    in_namespace(&script);
    script
}

/// A build that the power is cut in, and its store.
struct Cut<'a> {
    rig: &'a Rig,
    prepare: &'a dyn Fn(),
    build: &'a dyn Fn(usize) -> Command,
    /// That the image of this round is right.
    is_right: &'a dyn Fn(usize),
    /// The states differ with it.
    seed: u64,
}

impl Cut<'_> {
    /// Looks at so many of the states that a power cut may leave.
    fn everywhere(&self, states: usize) {
        if !host::tool("strace") || (host::maps_many_ids() && !host::tool("unshare")) {
            return;
        }
        let before = self.rig.path("before");
        let store = self.rig.store();
        let mut numbers = Numbers(self.seed);
        let (mut harmed, mut failed) = (0, 0);
        for state in 1..=states {
            (self.prepare)();
            let flushed = self.run(state, &before, &mut numbers);
            let script = cut(self.rig, &before, &flushed, &mut numbers);
            harmed += script.lines().count();
            let told = |what: &str, outcome: &Outcome| {
                let stdout = String::from_utf8_lossy(&outcome.stdout);
                let stderr = &outcome.stderr;
                format!("state {state}, {what}: {stdout}{stderr}\nafter\n{script}")
            };
            if state % 4 > 1 && store.exists() {
                let repaired = self.rig.rbuild(["store", "check", "--repair"]);
                assert!(repaired.code == Some(0), "{}", told("repair", &repaired));
                failed += usize::from(!repaired.stdout.ends_with(b": nothing is wrong\n"));
            }
            for round in ["build", "build of a mended store"] {
                let again = Outcome::of(&mut (self.build)(state));
                assert!(again.code == Some(0), "{}", told(round, &again));
                (self.is_right)(state);
                let checked = self.rig.rbuild(["store", "check", "--repair", "--deep"]);
                assert!(checked.code == Some(0), "{}", told("deep repair", &checked));
                // Records that name what is gone there may be; a build uses none of them.
                let stdout = String::from_utf8_lossy(&checked.stdout);
                let is_used = |line: &str| line.starts_with("damage: snapshot");
                assert!(!stdout.lines().any(is_used), "{}", told(round, &checked));
            }
        }
        println!(
            "{states} states after a power cut, {harmed} files lost or changed in them, {failed} mended first"
        );
        assert!(harmed > states);
    }

    /// Builds, killed somewhere in every other state. `before` is the store as it was, all of it on the
    /// disk.
    fn run(&self, state: usize, before: &Path, numbers: &mut Numbers) -> Flushed {
        let store = self.rig.store();
        in_namespace(&format!(
            "rm -rf {1}; if [ -d {0} ]; then rm -f {0}/unsynced/*; cp -a {0} {1}; else mkdir {1}; fi",
            store.display(),
            before.display()
        ));
        let trace = self.rig.path("trace");
        let mut strace = vec!["timeout", "-k", "5", "120"];
        if host::maps_many_ids() {
            strace.extend(["unshare", "--user", "--map-root-user", "--map-auto", "--"]);
        }
        let shown = trace.to_str().unwrap();
        strace.extend(["strace", "-f", "-y", "-qq", "-s", "4096", "-o", shown]);
        let calls = "trace=openat,mkdir,rename,renameat,renameat2,fsync,fdatasync";
        strace.extend(["-e", calls]);
        let at = 1 + numbers.next(40);
        let inject = format!("inject=rename,fsync,fdatasync:signal=KILL:when={at}");
        let is_killed = state.is_multiple_of(2);
        if is_killed {
            strace.extend(["-e", &inject]);
        }
        let ended = Outcome::of(&mut started_by(&strace, &(self.build)(state)));
        assert!(is_killed || ended.code == Some(0), "{}", ended.stderr);
        Flushed::of(&fs::read_to_string(&trace).unwrap())
    }
}

fn states() -> usize {
    if points() == 0 { 4 } else { 4 * points() }
}

#[test]
fn what_a_power_cut_leaves_is_whole_or_made_anew() {
    let rig = with_app();
    let cut = Cut {
        rig: &rig,
        prepare: &|| (),
        build: &|state| built(&rig, state, &[]),
        is_right: &|state| has_files_of(&rig, state),
        seed: 0x9e37_79b9_7f4a_7c15,
    };
    cut.everywhere(states());
}

#[test]
fn a_store_that_the_power_was_cut_in_at_its_making_is_made_anew() {
    let rig = Rig::empty();
    rig.dockerfile("FROM scratch\nARG N\nCOPY Dockerfile /n\n");
    let cut = Cut {
        rig: &rig,
        prepare: &|| drop(in_namespace(&format!("rm -rf {}", rig.store().display()))),
        build: &|state| {
            let number = format!("N={state}");
            rig.build_command(&["-t", "app", "--build-arg", &number])
        },
        is_right: &|_| drop(rig.rbuild(["inspect", "app"]).succeeds()),
        seed: 0x2545_f491_4f6c_dd1d,
    };
    cut.everywhere(states());
}
