//! `--limits`: what a hostile step tries to take, and that it ends with the limit's name.

use std::fs;
use std::process::{Command, Stdio};

use crate::rig::outcome::Outcome;
use crate::rig::{Rig, host, terminal};

/// A build that is ended after two minutes, should rbuild not do it.
fn bounded(rig: &Rig, options: &[&str]) -> Command {
    terminal::bounded(&rig.build_command(options))
}

/// Builds `dockerfile` and expects it to end for `limit`, with advice how to raise it.
#[track_caller]
fn ends_for(rig: &Rig, limits: &str, dockerfile: &str, limit: &str) -> Outcome {
    rig.dockerfile(dockerfile);
    let name = limit.split('=').next().unwrap();
    Outcome::of(&mut bounded(rig, &["--limits", limits]))
        .exits_with(1)
        .says(&[
            &format!("the limit {limit} allows"),
            &format!("--limits {name}=VALUE"),
        ])
}

/// The store still builds, and the failed step is nowhere in it.
#[track_caller]
fn store_is_unharmed(rig: &Rig) {
    rig.dockerfile("FROM base\nRUN test ! -e /fill && test ! -e /many && echo fine > /fine");
    rig.build(&["--no-cache"]).succeeds();
}

#[test]
fn an_endless_step_ends_with_everything_it_started() {
    let rig = Rig::new();
    let mark = format!("90{}", std::process::id());
    let outcome = ends_for(
        &rig,
        "step-seconds=1",
        &format!(
            "FROM base\nRUN trap '' TERM INT HUP QUIT; setsid sleep {mark} & \
             (setsid sh -c 'trap \"\" TERM; sleep {mark}' &) ; sleep {mark}"
        ),
        "step-seconds=1",
    );
    assert!(
        !outcome.stderr.contains("interrupted"),
        "{}",
        outcome.stderr
    );
    assert_eq!(host::processes_with(&mark), Vec::<String>::new());
    store_is_unharmed(&rig);
}

#[test]
fn an_endless_build_ends() {
    let rig = Rig::new();
    rig.dockerfile("FROM base\nRUN echo a > /a\nRUN sleep 1000");
    Outcome::of(&mut bounded(&rig, &["--limits", "build-seconds=2"]))
        .exits_with(1)
        .says(&["the build took longer than the limit build-seconds=2 allows"]);
    store_is_unharmed(&rig);
}

#[test]
fn a_fork_bomb_ends() {
    let rig = Rig::new();
    for bomb in [
        "while :; do sleep 1000 & done",
        "(while :; do sleep 1000 & done); exec sleep 1000",
        "b() { b | b & }; while :; do b; done",
    ] {
        ends_for(
            &rig,
            "processes=40,step-seconds=60",
            &format!("FROM base\nRUN {bomb}"),
            "processes=40",
        );
    }
    store_is_unharmed(&rig);
}

#[test]
fn memory_is_bounded_for_each_process_and_for_all_together() {
    let rig = Rig::new();
    let hog = |doublings: u32| {
        format!(
            "awk 'BEGIN {{ s = \"x\"; for (i = 0; i < {doublings}; i++) s = s s; while (1); }}'"
        )
    };
    let limits = "memory=64m,step-seconds=60";
    ends_for(
        &rig,
        limits,
        &format!("FROM base\nRUN {}", hog(40)),
        "memory=64m",
    )
    .says(&["a process wanted more memory", "per process"]);
    let many = format!(
        "FROM base\nRUN for i in 1 2 3 4 5 6 7 8; do {} & done; wait",
        hog(24)
    );
    ends_for(&rig, limits, &many, "memory=64m")
        .says(&["the processes of the step together had more memory"]);
    store_is_unharmed(&rig);
}

#[test]
fn memory_that_no_process_maps_counts() {
    let source = r#"
        #define _GNU_SOURCE
        #include <sys/mman.h>
        #include <unistd.h>
        int main(void) {
            static char block[1 << 20];
            int file = memfd_create("fill", 0);
            for (int i = 0; i < 200; i++)
                if (file < 0 || write(file, block, sizeof block) < 0) return 1;
            sleep(1000);
        }"#;
    let Some(program) = host::compile(source) else {
        return;
    };
    let rig = Rig::new();
    rig.write("fill", program).chmod("fill", 0o755);
    ends_for(
        &rig,
        "memory=100m,step-seconds=60",
        "FROM base\nCOPY fill /usr/fill\nRUN /usr/fill",
        "memory=100m",
    );
}

#[test]
fn a_full_disk_is_not_waited_for() {
    let rig = Rig::new();
    let write = "dd if=/dev/zero bs=1M count=100";
    for (what, run) in [
        ("a file", format!("{write} of=/fill; sleep 1000")),
        ("a file and a quick end", format!("{write} of=/fill")),
        (
            "a file without a name",
            format!("exec 3> /fill; rm /fill; {write} >&3; sleep 1000"),
        ),
        (
            "many small files",
            "mkdir /many; for i in $(seq 4000); do echo x > /many/$i; done; sleep 1000".to_owned(),
        ),
    ] {
        eprintln!("{what}");
        ends_for(
            &rig,
            "written-bytes=10m,step-seconds=60",
            &format!("FROM base\nRUN {run}"),
            "written-bytes=10m",
        );
    }
    rig.dockerfile(
        "FROM base\nRUN --mount=type=cache,target=/c dd if=/dev/zero of=/c/fill bs=1M count=50",
    );
    Outcome::of(&mut bounded(&rig, &["--limits", "written-bytes=10m"]))
        .exits_with(1)
        .says(&["written-bytes=10m"]);
    store_is_unharmed(&rig);
}

#[test]
fn a_hundred_thousand_empty_files_are_too_many() {
    let rig = Rig::new();
    ends_for(
        &rig,
        "written-files=10000,step-seconds=100",
        "FROM base\nRUN mkdir /many; cd /many; i=0; \
         while [ $i -lt 100000 ]; do : > $i; i=$((i+1)); done; sleep 1000",
        "written-files=10000",
    );
    store_is_unharmed(&rig);
}

#[test]
fn what_the_base_has_does_not_count_as_written() {
    let rig = Rig::new();
    rig.dockerfile(
        "FROM base\nRUN dd if=/dev/zero of=/large bs=1M count=20\n\
         RUN --mount=type=cache,target=/c dd if=/dev/zero of=/c/large bs=1M count=20",
    );
    rig.build(&[]).succeeds();
    rig.dockerfile(
        "FROM base\nRUN dd if=/dev/zero of=/large bs=1M count=20\n\
         RUN --mount=type=cache,target=/c echo x > /x && ls -l /c",
    );
    rig.build(&["--limits", "written-bytes=1m,written-files=10"])
        .succeeds();
}

#[test]
fn a_flood_of_output_is_cut_and_the_step_goes_on() {
    let rig = Rig::new();
    rig.dockerfile("FROM base\nRUN yes flood | head -c 20000000; echo the end; test -d /tmp");
    let outcome = Outcome::of(&mut bounded(&rig, &["--limits", "log-bytes=64k"])).succeeds();
    let clipped = "output clipped: the limit log-bytes=64k is reached";
    assert_eq!(outcome.stderr.matches(clipped).count(), 1);
    assert!(outcome.stderr.len() < 1 << 20, "{}", outcome.stderr.len());
    // The end of a failed step's output is still told.
    rig.dockerfile("FROM base\nRUN yes flood | head -c 2000000; echo the end; false");
    Outcome::of(&mut bounded(&rig, &["--limits", "log-bytes=64k"]))
        .exits_with(1)
        .says(&["the end", clipped]);
    ends_for(
        &rig,
        "log-bytes=64k,step-seconds=2",
        "FROM base\nRUN yes",
        "step-seconds=2",
    );
}

#[test]
fn files_and_descriptors_are_bounded() {
    let rig = Rig::new();
    let limits = "file-size=1m,open-files=32";
    for (run, limit) in [
        ("dd if=/dev/zero of=/fill bs=1M count=20", "file-size=1m"),
        (
            "mkdir /many; cd /many; echo x | tee $(seq 100)",
            "open-files=32",
        ),
    ] {
        ends_for(&rig, limits, &format!("FROM base\nRUN {run}"), limit);
    }
    // The command cannot raise them.
    rig.dockerfile("FROM base\nRUN test $(ulimit -n) = 32 && ! ulimit -n 64");
    rig.build(&["--limits", limits]).succeeds();
    store_is_unharmed(&rig);
}

#[test]
fn limits_are_no_part_of_the_cache_key_and_a_failed_step_is_no_record() {
    let rig = Rig::new();
    let step = "RUN dd if=/dev/zero of=/fill bs=1M count=5";
    rig.dockerfile(&format!("FROM base\n{step}"));
    for _ in 0..2 {
        rig.build(&["--limits", "written-bytes=1m"]).exits_with(1);
    }
    let first = rig.build(&["--limits", "written-bytes=100m"]).succeeds();
    assert!(!first.is_cached(step));
    for options in [
        &[][..],
        &["--limits", "written-bytes=1m"],
        &[
            "--limits",
            "processes=100,memory=1g,step-seconds=10,file-size=1k",
        ],
        &["--profile", "multi-tenant", "--network", "default"],
    ] {
        let again = rig.build(options).succeeds();
        assert!(again.is_cached(step), "{options:?}");
        assert_eq!(again.id(), first.id());
    }
}

#[test]
fn another_build_on_the_same_store_does_not_notice() {
    let rig = Rig::new();
    rig.dockerfile("FROM base\nRUN dd if=/dev/zero of=/fill bs=1M count=50; sleep 1000");
    let greedy = bounded(&rig, &["--limits", "written-bytes=10m,step-seconds=60"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let modest = rig.path("modest");
    fs::create_dir(&modest).unwrap();
    fs::write(
        modest.join("Dockerfile"),
        "FROM base\nRUN sleep 2; echo fine > /fine",
    )
    .unwrap();
    rig.rbuild([
        "build",
        "--limits",
        "written-bytes=10m,step-seconds=60",
        modest.to_str().unwrap(),
    ])
    .succeeds();
    Outcome::from(greedy.wait_with_output().unwrap())
        .exits_with(1)
        .says(&["written-bytes=10m"]);
}

#[test]
fn as_many_steps_as_allowed_run_at_one_time() {
    let rig = Rig::new();
    // Whoever is alone finds the cache empty; who is not, fails.
    let alone = "--mount=type=cache,target=/c mkdir /c/busy && sleep 1 && rmdir /c/busy";
    let stages: String = (0..3)
        .map(|number| format!("FROM base AS s{number}\nRUN {alone} && touch /{number}\n"))
        .collect();
    rig.dockerfile(&format!(
        "{stages}FROM base\nCOPY --from=s0 /0 /\nCOPY --from=s1 /1 /\nCOPY --from=s2 /2 /"
    ));
    rig.build(&["--limits", "parallel-steps=1"]).succeeds();
}

#[test]
fn a_command_is_held_to_them_too() {
    let rig = Rig::new();
    for (limits, command, limit) in [
        ("step-seconds=1", "sleep 1000", "step-seconds=1"),
        ("build-seconds=1", "sleep 1000", "build-seconds=1"),
        (
            "processes=40",
            "(while :; do sleep 1000 & done); exec sleep 1000",
            "processes=40",
        ),
        (
            "written-bytes=10m",
            "dd if=/dev/zero of=/fill bs=1M count=50",
            "written-bytes=10m",
        ),
    ] {
        rig.run(&["--limits", limits, "base", "sh", "-c", command])
            .exits_with(125)
            .says(&[&format!("the limit {limit} allows")]);
    }
    rig.run(&[
        "--profile",
        "multi-tenant",
        "--network",
        "host",
        "base",
        "true",
    ])
    .succeeds();
}

#[test]
fn the_strict_profile_builds_ordinary_images() {
    let rig = Rig::new();
    rig.write("file", "x");
    rig.dockerfile(
        "FROM base\nCOPY file /f\nRUN for i in 1 2 3; do (echo $i > /$i &) done; sleep 1; cat /1 /2 /3",
    );
    rig.build(&["--profile=multi-tenant", "--network=none"])
        .succeeds();
}

#[test]
fn the_configuration_file_sets_limits_and_its_mistakes_are_named() {
    let rig = Rig::new();
    rig.dockerfile("FROM base\nRUN sleep 1000");
    let config = rig.path("config.json");
    let build = |text: &str, options: &[&str]| {
        fs::write(&config, text).unwrap();
        Outcome::of(bounded(&rig, options).env("RBUILD_CONFIG", &config))
    };
    build(r#"{"limits": {"step-seconds": 1}}"#, &[])
        .exits_with(1)
        .says(&["the limit step-seconds=1 allows"]);
    build(
        r#"{"profile": "multi-tenant", "limits": {"step-seconds": "none"}}"#,
        &["--limits", "step-seconds=1", "--network", "none"],
    )
    .exits_with(1)
    .says(&["the limit step-seconds=1 allows"]);
    for (text, named) in [
        (r#"{"limit": {}}"#, "limit"),
        (r#"{"limits": {"seconds": 1}}"#, "seconds"),
        (r#"{"profile": "lax"}"#, "lax"),
        ("", "EOF"),
    ] {
        build(text, &[]).exits_with(2).says(&[named, "config.json"]);
    }
    for (limits, named) in [("cpu=2", "cpus"), ("speed=1", "speed"), ("memory=1", "64m")] {
        rig.build(&["--limits", limits])
            .exits_with(2)
            .says(&[named]);
    }
}
