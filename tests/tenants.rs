//! Builds of strangers that try to take a machine: each ends with one error that says why, the store stays
//! whole, and a neighbour's build on it does not notice.

use std::fs;
use std::process::Stdio;

use crate::rig::outcome::Outcome;
use crate::rig::{Rig, terminal};

/// A build by `attack` under the strict profile and `limits`, beside one of a neighbour.
#[track_caller]
fn attack(name: &str, dockerfile: &str, limits: &str, says: &[&str]) {
    let rig = Rig::new();
    rig.dockerfile(dockerfile);
    let strict = [
        "--profile=multi-tenant",
        "--network=none",
        "--limits",
        limits,
    ];
    let greedy = rig.build_command(&strict);
    let greedy = terminal::bounded(&greedy)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let context = rig.path("neighbour");
    fs::create_dir(&context).unwrap();
    fs::write(
        context.join("Dockerfile"),
        "FROM base\nRUN echo a > /a\nRUN for i in 1 2 3 4; do echo $i >> /b; sleep 0.3; done\nCOPY . /c",
    )
    .unwrap();
    let mut neighbour = rig.command(["build", "--profile=multi-tenant", "--network=none"]);
    neighbour.arg(&context);
    Outcome::bounded(&neighbour).succeeds();
    let outcome = Outcome::from(greedy.wait_with_output().unwrap())
        .exits_with(1)
        .says(says);
    let errors = outcome
        .stderr
        .lines()
        .filter(|line| line.starts_with("error"));
    assert_eq!(errors.count(), 1, "{name}: {}", outcome.stderr);
    assert!(outcome.stderr.len() < 1 << 20, "{name}");
    rig.rbuild(["store", "check"]).succeeds();
    Outcome::of(neighbour.arg("--no-cache")).succeeds();
}

#[test]
fn a_fork_bomb() {
    let bomb = "b() { b | b & }; while :; do b; done";
    attack(
        "fork bomb",
        &format!("FROM base\nRUN {bomb}"),
        "processes=40,step-seconds=60",
        &["Dockerfile:2", "the limit processes=40 allows"],
    );
}

#[test]
fn a_disk_fill() {
    attack(
        "disk fill",
        "FROM base\nRUN cat /dev/zero > /fill",
        "written-bytes=10m,step-seconds=60",
        &["Dockerfile:2", "the limit written-bytes=10m allows"],
    );
}

#[test]
fn an_inode_fill() {
    attack(
        "inode fill",
        "FROM base\nRUN mkdir /m; i=0; while :; do : > /m/$i; i=$((i+1)); done",
        "written-files=2000,step-seconds=60",
        &["Dockerfile:2", "the limit written-files=2000 allows"],
    );
}

#[test]
fn a_log_flood() {
    attack(
        "log flood",
        "FROM base\nRUN yes flood",
        "log-bytes=64k,step-seconds=2",
        &[
            "Dockerfile:2",
            "the limit step-seconds=2 allows",
            "output clipped",
        ],
    );
}

#[test]
fn an_endless_step() {
    attack(
        "endless step",
        "FROM base\nRUN trap '' TERM INT HUP; while :; do sleep 1000; done",
        "step-seconds=2",
        &["Dockerfile:2", "the limit step-seconds=2 allows"],
    );
}

#[test]
fn a_memory_hog() {
    attack(
        "memory hog",
        "FROM base\nRUN awk 'BEGIN { s = \"x\"; while (1) s = s s }'",
        "memory=64m,step-seconds=60",
        &["Dockerfile:2", "the limit memory=64m allows"],
    );
}

#[test]
fn a_huge_heredoc() {
    let line = "x".repeat(99) + "\n";
    let dockerfile = format!("FROM base\nRUN <<EOF\n{}EOF\n", line.repeat(50_000));
    attack("huge heredoc", &dockerfile, "step-seconds=60", &["4 MiB"]);
}

#[test]
fn an_expansion_bomb() {
    let mut dockerfile = "FROM base\nARG A0=0123456789abcdef\n".to_owned();
    for step in 1..40 {
        let before = step - 1;
        dockerfile.push_str(&format!("ARG A{step}=$A{before}$A{before}\n"));
    }
    dockerfile.push_str("RUN echo $A39\n");
    attack(
        "expansion bomb",
        &dockerfile,
        "step-seconds=60",
        &["Dockerfile:18", "4 MiB once"],
    );
}
