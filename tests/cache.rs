//! The cache: what makes a step run again, and what does not.

use std::fs;
use std::time::{Duration, SystemTime};

use crate::rig::{Rig, host};

/// Builds `first`, then `second` with `options`, and tells whether the step whose name ends with
/// `step` was cached in the second build.
fn cached_after(rig: &Rig, first: &str, second: &str, step: &str, options: &[&str]) -> bool {
    rig.dockerfile(first);
    rig.build(&[]).succeeds();
    rig.dockerfile(second);
    rig.build(options).succeeds().is_cached(step)
}

#[test]
fn nothing_changed_means_every_step_is_cached_and_the_image_the_same() {
    let rig = Rig::new();
    rig.write("file", "1");
    rig.dockerfile(
        "FROM base\nWORKDIR /w\nCOPY file .\nADD file /added\nRUN cat file > /out\nENV A=b",
    );
    let first = rig.build(&[]).succeeds();
    let second = rig.build(&[]).succeeds();
    for step in [
        "WORKDIR /w",
        "COPY file .",
        "ADD file /added",
        "RUN cat file > /out",
    ] {
        assert!(!first.is_cached(step), "{step}");
        assert!(second.is_cached(step), "{step}:\n{}", second.stderr);
    }
    assert_eq!(first.id(), second.id());
}

#[test]
fn what_a_run_depends_on() {
    let run = "RUN echo x > /x";
    for (change, first, second, hit) in [
        (
            "its own text",
            "FROM base\nRUN echo x  > /x".into(),
            format!("FROM base\n{run}"),
            false,
        ),
        (
            "a comment",
            format!("FROM base\n{run}"),
            format!("# c\nFROM base\n# d\n{run}"),
            true,
        ),
        (
            "an earlier env",
            format!("FROM base\nENV a=1\n{run}"),
            format!("FROM base\nENV a=2\n{run}"),
            false,
        ),
        (
            "a later env",
            format!("FROM base\n{run}\nENV a=1"),
            format!("FROM base\n{run}\nENV a=2"),
            true,
        ),
        (
            "an arg in scope",
            format!("FROM base\nARG a=1\n{run}"),
            format!("FROM base\nARG a=2\n{run}"),
            false,
        ),
        (
            "an arg declared later",
            format!("FROM base\n{run}\nARG a=1"),
            format!("FROM base\n{run}\nARG a=2"),
            true,
        ),
        (
            "the user",
            format!("FROM base\n{run}"),
            format!("FROM base\nUSER 0:0\n{run}"),
            false,
        ),
        (
            "the directory",
            format!("FROM base\nWORKDIR /tmp\n{run}"),
            format!("FROM base\nWORKDIR /etc\n{run}"),
            false,
        ),
        (
            "the shell",
            format!("FROM base\n{run}"),
            format!("FROM base\nSHELL [\"/bin/sh\",\"-ec\"]\n{run}"),
            false,
        ),
        (
            "an earlier run",
            format!("FROM base\nRUN echo 1 > /y\n{run}"),
            format!("FROM base\nRUN echo 2 > /y\n{run}"),
            false,
        ),
        (
            "a label",
            format!("FROM base\nLABEL a=1\n{run}"),
            format!("FROM base\nLABEL a=2\n{run}"),
            true,
        ),
        (
            "the network",
            format!("FROM base\n{run}"),
            "FROM base\nRUN --network=none echo x > /x".into(),
            false,
        ),
        (
            "the stage's name",
            format!("FROM base AS a\n{run}"),
            format!("FROM base AS b\n{run}"),
            true,
        ),
        (
            "shell form to exec form",
            format!("FROM base\n{run}"),
            "FROM base\nRUN [\"/bin/sh\",\"-c\",\"echo y > /x\"]".into(),
            false,
        ),
    ] {
        let rig = Rig::new();
        let step = if second.ends_with("\"]") {
            "\"]"
        } else {
            "echo x > /x"
        };
        let was_cached = cached_after(&rig, &first, &second, step, &[]);
        assert_eq!(was_cached, hit, "changed: {change}");
    }
}

#[test]
fn what_a_copy_depends_on() {
    type Change = fn(&Rig);
    let changes: &[(&str, Change, bool)] = &[
        (
            "content",
            |rig| {
                rig.write("dir/file", "other");
            },
            false,
        ),
        (
            "content of equal length and time",
            same_size_same_time,
            false,
        ),
        (
            "mode",
            |rig| {
                rig.chmod("dir/file", 0o755);
            },
            false,
        ),
        (
            "a new file",
            |rig| {
                rig.write("dir/new", "");
            },
            false,
        ),
        (
            "a new empty directory",
            |rig| fs::create_dir(rig.context().join("dir/empty")).unwrap(),
            false,
        ),
        (
            "a removed file",
            |rig| fs::remove_file(rig.context().join("dir/file")).unwrap(),
            false,
        ),
        (
            "a new name",
            |rig| {
                fs::rename(
                    rig.context().join("dir/file"),
                    rig.context().join("dir/renamed"),
                )
                .unwrap();
            },
            false,
        ),
        (
            "a link's target",
            |rig| {
                fs::remove_file(rig.context().join("dir/link")).unwrap();
                std::os::unix::fs::symlink("elsewhere", rig.context().join("dir/link")).unwrap();
            },
            false,
        ),
        (
            "time",
            |rig| touch(rig, SystemTime::now() + Duration::from_secs(100)),
            true,
        ),
        (
            "the same content written again",
            |rig| {
                rig.write("dir/file", "one");
            },
            true,
        ),
        (
            "a file outside",
            |rig| {
                rig.write("other", "");
            },
            true,
        ),
        (
            "an ignored file",
            |rig| {
                rig.write("dir/ignored.o", "changed");
            },
            true,
        ),
    ];
    for (what, change, hit) in changes {
        let rig = Rig::new();
        rig.write("dir/file", "one")
            .write("dir/ignored.o", "object")
            .write(".dockerignore", "**/*.o");
        std::os::unix::fs::symlink("file", rig.context().join("dir/link")).unwrap();
        rig.dockerfile("FROM base\nCOPY dir /dir");
        rig.build(&[]).succeeds();
        change(&rig);
        let second = rig.build(&[]).succeeds();
        assert_eq!(
            second.is_cached("COPY dir /dir"),
            *hit,
            "changed: {what}\n{}",
            second.stderr
        );
    }
}

fn touch(rig: &Rig, time: SystemTime) {
    let file = fs::File::options()
        .write(true)
        .open(rig.context().join("dir/file"))
        .unwrap();
    file.set_modified(time).unwrap();
}

/// The change that a cache of stat records must not miss: only the change time tells it.
fn same_size_same_time(rig: &Rig) {
    let path = rig.context().join("dir/file");
    let time = fs::metadata(&path).unwrap().modified().unwrap();
    fs::write(&path, "two").unwrap();
    touch(rig, time);
}

#[test]
fn options_of_copy_are_part_of_its_key() {
    for (first, second) in [
        ("COPY f /f", "COPY --chmod=600 f /f"),
        ("COPY f /f", "COPY --chown=0:0 f /g"),
        ("COPY f /f", "ADD f /g"),
    ] {
        let rig = Rig::new();
        rig.write("f", "1");
        let was_cached = cached_after(
            &rig,
            &format!("FROM base\n{first}"),
            &format!("FROM base\n{second}"),
            second,
            &[],
        );
        assert!(!was_cached, "{first} -> {second}");
    }
}

#[test]
fn a_build_arg_matters_only_where_it_is_declared() {
    let rig = Rig::new();
    let dockerfile = "FROM base\nRUN echo 1 > /1\nARG a\nRUN echo 2 > /2";
    rig.dockerfile(dockerfile);
    rig.build(&["--build-arg=a=1"]).succeeds();
    let second = rig.build(&["--build-arg=a=2"]).succeeds();
    assert!(second.is_cached("RUN echo 1 > /1"));
    assert!(!second.is_cached("RUN echo 2 > /2"));
    let third = rig.build(&["--build-arg=a=1"]).succeeds();
    assert!(
        third.is_cached("RUN echo 2 > /2"),
        "an old result is not forgotten"
    );
}

#[test]
fn a_proxy_arg_is_not_part_of_the_key() {
    let rig = Rig::new();
    rig.dockerfile("FROM base\nRUN echo 1 > /1");
    rig.build(&["--build-arg=http_proxy=http://a.invalid"])
        .succeeds();
    let second = rig
        .build(&["--build-arg=http_proxy=http://b.invalid"])
        .succeeds();
    assert!(second.is_cached("RUN echo 1 > /1"));
}

#[test]
fn no_cache_runs_everything_and_its_results_are_kept() {
    let rig = Rig::new();
    let dockerfile = "FROM base\nRUN date +%s%N > /now";
    assert!(!cached_after(
        &rig,
        dockerfile,
        dockerfile,
        "/now",
        &["--no-cache"]
    ));
    assert!(rig.build(&[]).succeeds().is_cached("/now"));
}

#[test]
fn another_base_is_another_key() {
    let rig = Rig::new();
    rig.dockerfile("FROM base\nRUN echo other > /other");
    rig.build(&["-t", "other"]).succeeds();
    let (first, second) = ("FROM base\nRUN echo 1 > /1", "FROM other\nRUN echo 1 > /1");
    assert!(!cached_after(&rig, first, second, "RUN echo 1 > /1", &[]));
}

#[test]
fn a_rebuilt_stage_with_equal_content_keeps_its_readers_cached() {
    let rig = Rig::new();
    let dockerfile = |comment: &str| {
        format!(
            "FROM base AS made\nRUN echo same > /out # {comment}\n\
             FROM base\nCOPY --from=made /out /out\nRUN cat /out"
        )
    };
    rig.dockerfile(&dockerfile("one"));
    rig.build(&[]).succeeds();
    rig.dockerfile(&dockerfile("two"));
    let second = rig.build(&[]).succeeds();
    assert!(!second.is_cached("# two"));
    assert!(
        second.is_cached("COPY --from=made /out /out"),
        "{}",
        second.stderr
    );
    assert!(second.is_cached("RUN cat /out"), "{}", second.stderr);
}

#[test]
fn a_failed_step_is_not_cached_and_what_came_before_is() {
    let rig = Rig::new();
    rig.write("ok", "");
    let dockerfile = "FROM base\nRUN echo 1 > /1\nRUN test -e /nothing";
    rig.dockerfile(dockerfile);
    rig.build(&[]).exits_with(1);
    let second = rig.build(&[]).exits_with(1);
    assert!(second.is_cached("RUN echo 1 > /1"));
    assert!(!second.is_cached("RUN test -e /nothing"));
}

#[test]
fn builds_of_one_store_share_results_and_can_run_at_once() {
    let rig = Rig::new();
    rig.dockerfile("FROM base\nRUN sleep 0.2; echo 1 > /1\nRUN echo 2 > /2");
    std::thread::scope(|scope| {
        let builds: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| rig.build(&[]).succeeds().id()))
            .collect();
        let ids: Vec<_> = builds
            .into_iter()
            .map(|build| build.join().unwrap())
            .collect();
        assert_eq!(ids.len(), 4);
    });
    assert!(rig.build(&[]).succeeds().is_cached("RUN echo 2 > /2"));
}

#[test]
fn a_cached_build_starts_no_process_in_a_sandbox() {
    if !host::tool("strace") {
        return;
    }
    let rig = Rig::new();
    rig.dockerfile("FROM base\nRUN echo 1 > /1\nRUN echo 2 > /2");
    let trace = rig.path("trace");
    // The store of another identity: newuidmap gets no privileges under strace.
    let traced = || {
        let mut command = std::process::Command::new("strace");
        command
            .args(["-f", "-qq", "-e", "trace=execve", "-o"])
            .arg(&trace);
        let build = rig.build_command(&[]);
        command.arg(build.get_program()).args(build.get_args());
        crate::rig::outcome::Outcome::of(&mut command).succeeds();
        fs::read_to_string(&trace).unwrap()
    };
    let first = traced();
    assert!(
        first.contains("\"-c\", \"echo") && first.contains("rbuild-init"),
        "{first}"
    );
    let second = traced();
    assert!(
        !second.contains("\"-c\", \"echo") && !second.contains("rbuild-init"),
        "{second}"
    );
}
