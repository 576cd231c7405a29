//! `--limits` in a cgroup v2 that rbuild may divide. `scripts/unprivileged` makes one where it can.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::rig::outcome::Outcome;
use crate::rig::{Rig, host, terminal};

/// A new cgroup beside that of the tests, gone with the value.
struct Cgroup {
    directory: PathBuf,
}

impl Cgroup {
    /// Says why the test is skipped when there is none with `controllers`.
    fn with(controllers: &[&str]) -> Option<Self> {
        let made = Self::make();
        if made.is_none() {
            host::skip("no cgroup v2 is delegated to this user");
        }
        let made = made?;
        let there = made.read("cgroup.controllers");
        let is_there = |name: &&str| there.split_whitespace().any(|one| one == *name);
        if !controllers.iter().all(is_there) {
            host::skip("the cgroup v2 of this user lacks a controller (v1 may have it)");
            return None;
        }
        Some(made)
    }

    fn make() -> Option<Self> {
        let cgroups = fs::read_to_string("/proc/self/cgroup").unwrap();
        let own = cgroups.lines().find_map(|line| line.strip_prefix("0::/"))?;
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mount = mounts
            .lines()
            .find(|line| line.contains(" - cgroup2 "))?
            .split(' ')
            .nth(4)?;
        let parent = Path::new(mount).join(own);
        let parent = parent.parent()?;
        let may_write = |name: &str| {
            let flags = nix::unistd::AccessFlags::W_OK;
            nix::unistd::access(&parent.join(name), flags).is_ok()
        };
        if own.is_empty() || !may_write("cgroup.procs") {
            return None;
        }
        let name = tempfile::Builder::new().prefix("it-").tempdir_in(parent);
        Some(Self {
            directory: name.ok()?.keep(),
        })
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.directory.join(name)).unwrap()
    }

    /// `command` in it, for two minutes at most.
    fn command(&self, command: &Command) -> Command {
        let enter = format!(
            "echo $$ > {}/cgroup.procs && exec \"$0\" \"$@\"",
            self.directory.display()
        );
        let inside = terminal::started_by(&["sh", "-c", &enter], command);
        terminal::bounded(&inside)
    }

    fn build(&self, rig: &Rig, limits: &str) -> Outcome {
        Outcome::of(&mut self.command(&rig.build_command(&["--limits", limits])))
    }

    fn below(&self) -> Vec<PathBuf> {
        fs::read_dir(&self.directory)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_dir())
            .collect()
    }

    /// It can be used again: rbuild has put everything back.
    #[track_caller]
    fn is_as_before(&self) {
        assert_eq!(self.below(), Vec::<PathBuf>::new());
        assert_eq!(self.read("cgroup.subtree_control").trim(), "");
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        drop(fs::write(self.directory.join("cgroup.kill"), "1"));
        drop(fs::remove_dir(&self.directory));
    }
}

#[test]
fn cpus_are_refused_where_no_cgroup_keeps_them() {
    if host::is_root() {
        return host::skip("root may divide the root of the hierarchy");
    }
    let rig = Rig::new();
    rig.dockerfile("FROM base\nRUN echo built");
    let outcome = rig.build(&["--limits", "cpus=1.5"]).exits_with(3).says(&[
        "the limit cpus needs a cgroup v2",
        "Delegate=yes",
        "cpus=none",
    ]);
    assert!(!outcome.stderr.contains("built"), "{}", outcome.stderr);
    rig.run(&["--limits", "cpus=1.5", "base", "true"])
        .exits_with(125)
        .says(&["the limit cpus needs a cgroup v2"]);
    rig.build(&["--limits", "cpus=1.5,cpus=none"]).succeeds();
}

#[test]
fn a_cgroup_without_the_controller_is_refused_and_left_alone() {
    let Some(cgroup) = Cgroup::with(&[]) else {
        return;
    };
    let rig = Rig::new();
    rig.dockerfile("FROM base\nRUN echo built");
    if cgroup.read("cgroup.controllers").contains("cpu ") {
        return host::skip("the controller cpu is there");
    }
    cgroup
        .build(&rig, "cpus=1.5,memory=1g")
        .exits_with(3)
        .says(&["no controller cpu"]);
    cgroup.is_as_before();
    cgroup.build(&rig, "memory=1g,processes=100").succeeds();
    cgroup.is_as_before();
}

#[test]
fn memory_that_belongs_to_no_process_ends_the_step() {
    let Some(cgroup) = Cgroup::with(&["memory"]) else {
        return;
    };
    let rig = Rig::new();
    rig.dockerfile(
        "FROM base\nRUN --mount=type=tmpfs,target=/a --mount=type=tmpfs,target=/b \
         for to in a b; do dd if=/dev/zero of=/$to/fill bs=1M count=60; done",
    );
    let outcome = cgroup
        .build(&rig, "memory=64m,step-seconds=60")
        .exits_with(1)
        .says(&[
            "the processes of the step together took more memory than the limit memory=64m allows",
            "--limits memory=VALUE",
        ]);
    assert!(
        !outcome.stderr.contains("per process"),
        "{}",
        outcome.stderr
    );
    cgroup.is_as_before();
    rig.dockerfile("FROM base\nRUN echo fine");
    cgroup.build(&rig, "memory=64m").succeeds();
    cgroup.is_as_before();
}

#[test]
fn threads_and_processes_end_at_a_wall_of_the_step() {
    let Some(cgroup) = Cgroup::with(&["pids"]) else {
        return;
    };
    let rig = Rig::new();
    rig.dockerfile("FROM base\nRUN while :; do sleep 1000 & done");
    cgroup
        .build(&rig, "processes=40,step-seconds=60")
        .exits_with(1)
        .says(&["the limit processes=40 allows"]);
    cgroup.is_as_before();
    let bomb = "while :; do sleep 1000 & done";
    let options = [
        "run",
        "--limits",
        "processes=40,step-seconds=60",
        "base",
        "sh",
        "-c",
        bomb,
    ];
    Outcome::of(&mut cgroup.command(&rig.command(options)))
        .exits_with(125)
        .says(&["the limit processes=40 allows"]);
    cgroup.is_as_before();
}

#[test]
fn a_step_has_the_cpus_of_its_limit() {
    let Some(cgroup) = Cgroup::with(&["cpu"]) else {
        return;
    };
    let rig = Rig::new();
    rig.dockerfile("FROM base\nRUN sleep 1000");
    let mut child = cgroup
        .command(&rig.build_command(&["--limits", "cpus=0.5"]))
        .spawn()
        .unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    let limit = |path: &PathBuf| {
        let processes = fs::read_to_string(path.join("step/cgroup.procs")).ok()?;
        // Init is there, and what it has started.
        (processes.lines().count() > 1).then(|| fs::read_to_string(path.join("cpu.max")))
    };
    let found = loop {
        let found = cgroup.below().iter().find_map(limit);
        if found.is_some() || Instant::now() > until || child.try_wait().unwrap().is_some() {
            break found;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let own = Pid::from_raw(child.id().cast_signed());
    kill(own, Signal::SIGTERM).unwrap();
    child.wait().unwrap();
    assert_eq!(found.unwrap().unwrap(), "50000 100000\n");
    cgroup.is_as_before();
}

/// What a step mounts that may mount is its own cgroup, which has no limits to write to.
#[test]
fn an_insecure_step_cannot_lift_its_limits() {
    let Some(cgroup) = Cgroup::with(&["cpu", "memory", "pids"]) else {
        return;
    };
    let rig = Rig::new();
    rig.dockerfile(
        "FROM base\nRUN --security=insecure mkdir /tree && mount -t cgroup2 none /tree && \
         echo 1 > /tree/cgroup.procs && { echo max > /tree/cgroup.max.descendants; \
         ! mkdir /tree/more; } && for limit in cpu.max memory.max pids.max; do \
         test -z \"$(find /sys /tree -name $limit)\" || exit 9; done",
    );
    let options = [
        "--limits",
        "cpus=0.5,memory=256m,processes=40",
        "--allow",
        "security.insecure",
    ];
    Outcome::of(&mut cgroup.command(&rig.build_command(&options))).succeeds();
    cgroup.is_as_before();
}
