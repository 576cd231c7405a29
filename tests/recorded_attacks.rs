//! Attacks from inside a RUN on the process that answers its system calls where owners are records.
//!
//! `tests/recorded/attacks.c` has the attacks; each must end, and leave the step whole.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::rig::image::Image;
use crate::rig::outcome::Outcome;
use crate::rig::{Rig, host};

/// Builds with owners as records, whatever ids there are.
fn recorded(rig: &Rig, options: &[&str]) -> Command {
    let mut command = rig.build_command(options);
    command.env("RBUILD_SANDBOX", "recorded");
    command
}

fn build(rig: &Rig, dockerfile: &str, options: &[&str]) -> Outcome {
    rig.dockerfile(dockerfile);
    Outcome::of(&mut recorded(rig, options))
}

/// A rig whose context has the attacks and outside of it a file that must stay as it is.
fn rig() -> Option<(Rig, PathBuf)> {
    let source = fs::read_to_string(host::source().join("tests/recorded/attacks.c")).unwrap();
    let program = host::compile(&source)?;
    let rig = Rig::new();
    rig.write("attack", program).chmod("attack", 0o755);
    let victim = rig.path("victim");
    fs::write(&victim, "untouched").unwrap();
    Some((rig, victim))
}

#[test]
fn no_attack_gets_further_than_the_image() {
    let Some((rig, victim)) = rig() else {
        return;
    };
    let before = fs::metadata(&victim).unwrap();
    for attack in [
        "attributes",
        "processes",
        "listener",
        "limits",
        "races",
        "groups",
        "fifos",
        "roots",
        "deaths",
        "signals",
    ] {
        let dockerfile = format!(
            "FROM base\nCOPY attack /attack\nWORKDIR /tmp/work\nRUN chmod 777 . && \
             timeout -s KILL 120 /attack {attack} {} && chown 7:8 . && test $(stat -c %u:%g .) = 7:8",
            victim.display()
        );
        let outcome = build(&rig, &dockerfile, &[]);
        assert!(
            outcome.code == Some(0) && outcome.stderr.contains(" ok\n"),
            "{attack}: {}",
            outcome.stderr
        );
    }
    use std::os::unix::fs::MetadataExt as _;
    let after = fs::metadata(&victim).unwrap();
    assert_eq!(fs::read(&victim).unwrap(), b"untouched");
    assert_eq!(
        (before.ctime(), before.ctime_nsec()),
        (after.ctime(), after.ctime_nsec())
    );
}

#[test]
fn a_signal_to_every_process_reaches_only_those_of_the_step() {
    let rig = Rig::new();
    let dockerfile = "FROM base\nRUN sleep 50 & kill -9 -1; wait; chown 7:8 /home && test $(stat -c %u /home) = 7";
    build(&rig, dockerfile, &[]).succeeds();
}

#[test]
fn very_many_links_have_owners() {
    let Some((rig, _)) = rig() else {
        return;
    };
    let archive = rig.path("links.tar");
    let output = format!("type=oci,dest={}", archive.display());
    let dockerfile =
        "FROM base\nCOPY attack /attack\nWORKDIR /tmp/work\nRUN timeout -s KILL 200 /attack links";
    build(&rig, dockerfile, &["-o", &output]).succeeds();
    let image = Image::open(&archive);
    let node = image.file("tmp/work/l12345");
    assert_eq!((node.uid, node.gid), (12345, 12346));
}

/// Ends the process, with everything below it, when the test does.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// What /proc says of a process.
fn status(pid: u32, field: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(field))?;
    Some(value.trim().to_owned())
}

fn children(of: u32) -> Vec<u32> {
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| status(*pid, "PPid:") == Some(of.to_string()))
        .collect()
}

/// The process below `root` that shares its pid namespace with one that does not: the supervisor and the
/// first process of the sandbox are the children of init.
fn supervisor(root: u32) -> Option<u32> {
    let is_inside =
        |pid: &u32| status(*pid, "NSpid:").is_some_and(|list| list.contains(char::is_whitespace));
    let below = children(root);
    if below.len() == 2 && below.iter().filter(|pid| is_inside(pid)).count() == 1 {
        return below.into_iter().find(|pid| !is_inside(pid));
    }
    below.into_iter().find_map(supervisor)
}

#[test]
fn a_step_does_not_outlive_its_supervisor() {
    let rig = Rig::new();
    rig.dockerfile("FROM base\nRUN echo begun && sleep 100");
    let archive = rig.path("out.tar");
    let output = format!("type=oci,dest={}", archive.display());
    let errors = rig.path("errors");
    let mut build = Killed(
        recorded(&rig, &["-t", "killed", "-o", &output])
            .stderr(fs::File::create(&errors).unwrap())
            .stdout(Stdio::null())
            .stdin(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let begun = Instant::now();
    let said = || fs::read_to_string(&errors).unwrap();
    while !said().contains(" begun\n") {
        assert!(begun.elapsed() < Duration::from_secs(60), "{}", said());
        std::thread::sleep(Duration::from_millis(20));
    }
    let supervisor = supervisor(build.0.id()).expect("a process that answers");
    host::stdout_of(Command::new("kill").args(["-KILL", &supervisor.to_string()]));
    let code = loop {
        if let Some(status) = build.0.try_wait().unwrap() {
            break status.code();
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{}", said());
        std::thread::sleep(Duration::from_millis(20));
    };
    let errors = said();
    assert_eq!(code, Some(1), "{errors}");
    assert_eq!(
        errors
            .matches("the supervisor of the sandbox ended")
            .count(),
        1,
        "{errors}"
    );
    assert!(!archive.exists());
    rig.rbuild(["inspect", "killed"]).exits_with(1);
}
