//! `RUN --mount=type=cache`: what is kept, what is shared with whom, and what is not.

use std::fs;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::rig::Rig;
use crate::rig::outcome::Outcome;

/// Builds `dockerfile` and returns what its steps wrote to /out.
#[track_caller]
fn out(rig: &Rig, dockerfile: &str) -> String {
    rig.image(dockerfile).text("out")
}

/// Waits for a build, and kills it when it takes too long.
#[track_caller]
fn finish(mut child: Child) -> Outcome {
    let deadline = Instant::now() + Duration::from_secs(60);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("the build hangs");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Outcome::from(child.wait_with_output().unwrap())
}

fn start(rig: &Rig, options: &[&str]) -> Child {
    rig.build_command(options)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn a_cache_outlives_builds_and_is_in_no_layer() {
    let rig = Rig::new();
    let step = |mount: &str, text: &str| {
        format!(
            "FROM base\nRUN --mount=type=cache,{mount} echo {text} >> /c/log; cat /c/log > /out"
        )
    };
    let image = rig.image(&step("target=/c", "one"));
    assert_eq!(image.text("out"), "one\n");
    assert!(
        !image.files().contains_key("c"),
        "no trace of the mount point"
    );
    for (mount, text, expected) in [
        ("target=/c", "two", "one\ntwo\n"),
        ("target=/./c/", "three", "one\ntwo\nthree\n"),
        ("target=/c,id=/c", "four", "one\ntwo\nthree\nfour\n"),
        (
            "target=/c,sharing=locked",
            "five",
            "one\ntwo\nthree\nfour\nfive\n",
        ),
        (
            "target=/c,sharing=private,ro",
            "six",
            "one\ntwo\nthree\nfour\nfive\n",
        ),
        ("target=/c,id=other", "x", "x\n"),
        ("target=/c,mode=0700", "y", "y\n"),
    ] {
        assert_eq!(out(&rig, &step(mount, text)), expected, "{mount}");
    }
    // What is in a cache is no reason to run a step again.
    rig.dockerfile(&step("target=/c", "two"));
    let outcome = rig.build(&[]).succeeds();
    assert!(
        outcome
            .vertices()
            .iter()
            .any(|v| v.name.contains("RUN") && v.is_cached())
    );
    let options = ["--build-arg", "BUILDKIT_CACHE_MOUNT_NS=mine"];
    let image = rig.image_with(&step("target=/c", "seven"), &options);
    assert_eq!(image.text("out"), "seven\n");
}

#[test]
fn without_the_cache_only_a_directory_made_for_the_mount_starts_anew() {
    let rig = Rig::new();
    for (mount, expected) in [("target=/c", "x\nx\n"), ("target=/c,mode=0755,id=m", "x\n")] {
        let dockerfile = format!(
            "FROM base\nRUN --mount=type=cache,{mount} echo x >> /c/log; cat /c/log > /out"
        );
        rig.image(&dockerfile);
        let image = rig.image_with(&dockerfile, &["--no-cache"]);
        assert_eq!(image.text("out"), expected, "{mount}");
    }
    // Two steps of one build share the new one.
    let step = "RUN --mount=type=cache,target=/c,mode=0755,id=n";
    let dockerfile =
        format!("FROM base\n{step} echo a >> /c/l\n{step} echo b >> /c/l; cp /c/l /out");
    rig.image(&dockerfile);
    let image = rig.image_with(&dockerfile, &["--no-cache"]);
    assert_eq!(image.text("out"), "a\nb\n");
}

#[test]
fn a_cache_begins_with_its_seed() {
    let rig = Rig::new();
    let dockerfile = |text: &str| {
        format!(
            "FROM base AS seed\nRUN mkdir -m 750 /s && echo seed > /s/f\nFROM base\n\
             RUN --mount=type=cache,target=/c,from=seed,source=/s \
             echo {text} >> /c/f; (cat /c/f; stat -c %a /c) > /out"
        )
    };
    assert_eq!(out(&rig, &dockerfile("one")), "seed\none\n750\n");
    assert_eq!(out(&rig, &dockerfile("two")), "seed\none\ntwo\n750\n");
}

#[test]
fn owner_and_mode_of_a_cache() {
    for (mount, expected) in [
        ("target=/c", "755 0:0"),
        ("target=/c,mode=1777", "1777 0:0"),
        ("target=/c,uid=7", "755 7:0"),
        ("target=/c,uid=7,gid=8,mode=0700", "700 7:8"),
    ] {
        let rig = Rig::new();
        let text = out(
            &rig,
            &format!("FROM base\nRUN --mount=type=cache,{mount} stat -c '%a %u:%g' /c > /out"),
        );
        assert_eq!(text.trim(), expected, "{mount}");
    }
}

#[test]
fn two_builds_take_turns_with_a_locked_cache() {
    let rig = Rig::new();
    // Each would see the other's mark if they ran together.
    let dockerfile = |name: &str| {
        format!(
            "FROM base\nRUN --mount=type=cache,target=/c,sharing=locked \
             echo {name}; test ! -e /c/busy && touch /c/busy && sleep 1 && rm /c/busy && \
             echo {name} >> /c/log && cp /c/log /out"
        )
    };
    rig.dockerfile(&dockerfile("one"));
    let archive = |name: &str| format!("type=oci,dest={}", rig.path(name).display());
    let children: Vec<Child> = ["one", "two"]
        .iter()
        .map(|name| {
            let file = rig.path(name);
            fs::write(&file, dockerfile(name)).unwrap();
            let file = file.display().to_string();
            start(&rig, &["-f", &file, "-o", &archive(&format!("{name}.tar"))])
        })
        .collect();
    for child in children {
        finish(child).succeeds();
    }
    let image =
        rig.image("FROM base\nRUN --mount=type=cache,target=/c,sharing=locked sort /c/log > /out");
    assert_eq!(image.text("out"), "one\ntwo\n");
}

#[test]
fn a_private_cache_that_is_taken_is_another_one() {
    let rig = Rig::new();
    let mount = "RUN --mount=type=cache,id=p,target=/c,sharing=private";
    let shared = "--mount=type=cache,id=meet,target=/meet";
    // Both stages run at once and meet; each has its own /c.
    let dockerfile = format!(
        "FROM base AS a\n{mount} {shared} touch /c/a /meet/a; \
         for i in $(seq 100); do test -e /meet/b && break; sleep 0.1; done; ls /c > /a\n\
         FROM base AS b\n{mount} {shared} touch /c/b /meet/b; \
         for i in $(seq 100); do test -e /meet/a && break; sleep 0.1; done; ls /c > /b\n\
         FROM base\nCOPY --from=a /a /\nCOPY --from=b /b /"
    );
    let image = rig.image(&dockerfile);
    assert_eq!(image.text("a"), "a\n");
    assert_eq!(image.text("b"), "b\n");
}

#[test]
fn a_killed_build_leaves_its_cache_usable() {
    let rig = Rig::new();
    rig.dockerfile(
        "FROM base\nRUN --mount=type=cache,target=/c,sharing=locked echo kept > /c/f; \
         echo started; sleep 100",
    );
    let mut child = start(&rig, &[]);
    let cache = rig.store().join("cache-mounts");
    let deadline = Instant::now() + Duration::from_secs(60);
    while !has_file(&cache, "f") {
        assert!(Instant::now() < deadline, "the step never began");
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    rig.dockerfile("FROM base\nRUN --mount=type=cache,target=/c,sharing=locked cat /c/f");
    let outcome = finish(start(&rig, &[])).succeeds();
    assert!(outcome.stderr.contains(" kept\n"), "{}", outcome.stderr);
}

fn has_file(directory: &std::path::Path, name: &str) -> bool {
    let Ok(entries) = fs::read_dir(directory) else {
        return false;
    };
    entries.flatten().any(|entry| {
        entry.file_name() == name || entry.path().is_dir() && has_file(&entry.path(), name)
    })
}

#[test]
fn the_cache_of_another_id_and_the_rest_of_the_store_cannot_be_reached() {
    let rig = Rig::new();
    rig.image("FROM base\nRUN --mount=type=cache,target=/c echo other-cache > /c/f");
    for id in ["../other", "..", "/", "a/../..", "\\\\0", "."] {
        let text = out(
            &rig,
            &format!(
                "FROM base\nRUN --mount=type=cache,target=/m,id={id} \
                 (find /m; find /m/.. -name f -path '*c*'; cat /m/../*/f /m/f) > /out 2>&1 || true"
            ),
        );
        assert!(!text.contains("other-cache"), "{id}: {text}");
    }
    let text = out(
        &rig,
        "FROM base\nRUN --mount=type=cache,target=/m ln -s /etc /m/link; \
         ln -s .. /m/up; cat /m/up/*/0/f > /out 2>&1 || true",
    );
    assert!(!text.contains("other-cache"), "{text}");
}
