//! What a build says while it runs, in the forms that people and programs read.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::rig::outcome::Outcome;
use crate::rig::{Rig, host};

#[test]
fn plain_progress_is_buildkits() {
    let rig = Rig::new();
    rig.dockerfile(
        "FROM base AS build\nRUN echo one\nFROM scratch\nCOPY --from=build /etc/passwd /p",
    );
    let outcome = rig.build(&[]).succeeds();
    let run = outcome.step("RUN echo one");
    assert_eq!(run.name, "[build 2/2] RUN echo one");
    assert_eq!(run.log(), ["one"]);
    let last = run.lines.last().unwrap();
    let seconds = last
        .strip_prefix("DONE ")
        .and_then(|rest| rest.strip_suffix('s'));
    assert!(
        seconds.is_some_and(|text| text.parse::<f64>().is_ok()),
        "{last}"
    );
    let copy = outcome.step("COPY --from=build /etc/passwd /p");
    assert!(copy.name.starts_with("[stage-1 "), "{}", copy.name);
    let numbers: Vec<_> = outcome
        .vertices()
        .iter()
        .map(|vertex| vertex.number)
        .collect();
    let expected: Vec<_> = (1..).take(numbers.len()).collect();
    assert_eq!(numbers, expected, "numbers follow the order of first print");
}

#[test]
fn a_failed_step_ends_with_its_error() {
    let rig = Rig::new();
    rig.dockerfile("FROM base\nRUN echo words && exit 9");
    let outcome = rig.build(&[]).exits_with(1);
    let step = outcome.step("RUN echo words && exit 9");
    let last = step.lines.last().unwrap();
    assert!(
        last.starts_with("ERROR: ") && last.contains("exit code: 9"),
        "{last}"
    );
}

#[test]
fn only_the_last_lines_of_a_long_log_are_repeated() {
    let rig = Rig::new();
    rig.dockerfile("FROM base\nRUN seq 1 500 | sed 's/^/line /' && false");
    let outcome = rig.build(&[]).exits_with(1);
    let count = |text: &str| {
        outcome
            .stderr
            .lines()
            .filter(|line| line.ends_with(text))
            .count()
    };
    assert_eq!(count("line 1"), 1, "the whole log is in the progress");
    assert_eq!(count("line 500"), 2, "its end again in the message");
}

#[test]
fn quiet_says_nothing_but_the_id_and_errors() {
    let rig = Rig::new();
    rig.dockerfile("FROM base\nRUN echo noise");
    let outcome = rig
        .rbuild(["build", "--progress=quiet", rig.context().to_str().unwrap()])
        .succeeds();
    assert_eq!(outcome.stderr, "");
    outcome.id();
    rig.dockerfile("FROM base\nRUN echo noise && false");
    rig.rbuild(["build", "-q", rig.context().to_str().unwrap()])
        .exits_with(1)
        .says(&["exit code: 1", "noise"]);
}

#[test]
fn rawjson_is_one_object_per_line() {
    let rig = Rig::new();
    rig.dockerfile("FROM base\nRUN echo one");
    let outcome = rig
        .rbuild([
            "build",
            "--progress=rawjson",
            rig.context().to_str().unwrap(),
        ])
        .succeeds();
    let mut lines = 0;
    for line in outcome.stderr.lines() {
        let value: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(value.is_object(), "{line}");
        lines += 1;
    }
    assert!(lines > 2, "{}", outcome.stderr);
}

#[test]
fn an_unfinished_line_is_shown_and_long_ones_are_whole() {
    let rig = Rig::new();
    let long = "x".repeat(20_000);
    rig.write("long", &long);
    rig.dockerfile("FROM base\nCOPY long /long\nRUN cat /long; printf end");
    let outcome = rig.build(&[]).succeeds();
    let log = outcome.step("RUN cat /long; printf end").log().concat();
    assert_eq!(log, format!("{long}end"));
}

#[test]
fn a_terminal_gets_the_live_view() {
    if !host::tool("script") {
        return;
    }
    let rig = Rig::new();
    rig.dockerfile("FROM base\nRUN echo one");
    let build = rig.command(["build", rig.context().to_str().unwrap()]);
    let mut line = format!("'{}'", build.get_program().to_str().unwrap());
    for argument in build.get_args() {
        line.push_str(&format!(" '{}'", argument.to_str().unwrap()));
    }
    let mut command = Command::new("script");
    command
        .args(["-qec", &line, "/dev/null"])
        .env("TERM", "xterm")
        .stdin(Stdio::null());
    let outcome = Outcome::of(&mut command).succeeds();
    let screen = String::from_utf8_lossy(&outcome.stdout).into_owned();
    assert!(screen.contains("RUN echo one"), "{screen}");
    assert!(screen.contains("sha256:"), "{screen}");
}

#[test]
fn an_interrupt_ends_everything_at_once_and_leaves_nothing() {
    for signal in ["INT", "TERM"] {
        let rig = Rig::new();
        let mark = format!("5{:06}", std::process::id());
        rig.dockerfile(&format!(
            "FROM base\nRUN trap '' INT TERM; touch /started; sleep {mark}"
        ));
        let before = rig.store_listing();
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let output = format!("type=oci,dest={}", rig.path("image.tar").display());
        let build = rig
            .build_command(&["-o", &output])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        while host::processes_with(&format!("sleep {mark}")).is_empty() {
            assert!(Instant::now() < deadline, "the step did not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        let sent = Instant::now();
        host::stdout_of(Command::new("kill").args(["-s", signal, &build.id().to_string()]));
        let outcome = Outcome::from(build.wait_with_output().unwrap());
        // The promise is one second; the machine under a test suite may be slow.
        assert!(
            sent.elapsed() < Duration::from_secs(5),
            "{:?}",
            sent.elapsed()
        );
        outcome.exits_with(130);
        assert_eq!(host::processes_with(&format!("sleep {mark}")), [""; 0]);
        assert_eq!(
            std::fs::read_to_string("/proc/self/mounts").unwrap(),
            mounts
        );
        assert_eq!(rig.store_listing(), before);
        assert!(!rig.path("image.tar").exists());
    }
}

#[test]
fn the_version_names_the_commit() {
    let version = Rig::empty().rbuild(["--version"]).succeeds().stdout;
    let version = String::from_utf8(version).unwrap();
    assert!(
        version.starts_with(concat!("rbuild ", env!("CARGO_PKG_VERSION"))),
        "{version}"
    );
}
