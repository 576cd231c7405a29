//! `RUN --mount`: binds, caches, tmpfs; what is seen, what is kept, and what gets out.

use std::fs;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::rig::outcome::Outcome;
use crate::rig::{Rig, host};

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
fn what_a_bind_shows() {
    for (mount, command, expected) in [
        ("target=/m", "cat /m/file /m/sub/inner", "file\ninner\n"),
        ("type=bind,target=/m,source=sub", "cat /m/inner", "inner\n"),
        ("type=bind,dst=/m,src=/sub/", "cat /m/inner", "inner\n"),
        (
            "type=bind,destination=/m/f,source=file",
            "cat /m/f",
            "file\n",
        ),
        ("target=/m,source=link", "cat /m/inner", "inner\n"),
        ("target=/m,source=../../sub", "cat /m/inner", "inner\n"),
        ("target=m,source=sub", "cat /w/m/inner", "inner\n"),
        ("target=.,source=sub", "cat /w/inner", "inner\n"),
        ("target=/m,from=files", "cat /m/made", "made\n"),
        ("target=/m,from=FILES,source=/made", "cat /m", "made\n"),
        (
            "target=/m,from=base,source=etc",
            "grep -c root /m/passwd",
            "1\n",
        ),
        ("target=/m,from=other", "cat /m/o", "other\n"),
        ("target=/m,from=scratch", "ls -A /m", ""),
        (
            "target=/m",
            "echo x > /m/new || echo read-only",
            "read-only\n",
        ),
        (
            "target=/m,ro",
            "echo x > /m/file || echo read-only",
            "read-only\n",
        ),
        ("target=/m,rw", "echo x > /m/new; cat /m/new", "x\n"),
        ("target=/m,rw", "echo x > /m/file; cat /m/file", "x\n"),
        ("target=/m,source=file,rw", "echo x > /m; cat /m", "x\n"),
        (
            "target=/m,rw=true",
            "rm -r /m/sub; ls /m | grep -c sub",
            "0\n",
        ),
        (
            "target=/m,from=files,readwrite",
            "echo x > /m/made; cat /m/made",
            "x\n",
        ),
        (
            "target=/m,from=scratch,rw",
            "echo x > /m/a; cat /m/a",
            "x\n",
        ),
        ("target=/$WHERE,source=${WHAT}", "cat /m/inner", "inner\n"),
        (
            "\\\"target=/a,b\\\",source=sub",
            "cat /a,b/inner",
            "inner\n",
        ),
        ("target=/etc/hosts,source=file", "cat /etc/hosts", "file\n"),
    ] {
        let rig = Rig::new();
        rig.write("file", "file\n").write("sub/inner", "inner\n");
        std::os::unix::fs::symlink("sub", rig.context().join("link")).unwrap();
        fs::create_dir(rig.path("other")).unwrap();
        fs::write(rig.path("other/o"), "other\n").unwrap();
        let named = format!("other={}", rig.path("other").display());
        let dockerfile = format!(
            "FROM base AS files\nRUN echo made > /made\nFROM base\nARG WHERE=m WHAT=sub\nWORKDIR /w\n\
             RUN --mount={mount} ({command}) > /out 2>/dev/null || true"
        );
        let image = rig.image_with(&dockerfile, &["--build-context", &named]);
        assert_eq!(image.text("out"), expected, "{mount}: {command}");
        let added: Vec<&str> = image
            .layers
            .last()
            .unwrap()
            .entries
            .iter()
            .map(|(path, _)| path.as_str())
            .collect();
        assert_eq!(added, ["out"], "{mount}");
        assert_eq!(fs::read(rig.context().join("file")).unwrap(), b"file\n");
        assert!(!rig.context().join("new").exists());
        assert_eq!(fs::read(rig.path("other/o")).unwrap(), b"other\n");
    }
}

#[test]
fn what_is_ignored_cannot_be_seen_in_a_bind() {
    for options in ["", ",rw"] {
        let rig = Rig::new();
        rig.write(".dockerignore", "secret\n**/*.key\nkept/*\n!kept/this\n")
            .write("secret/token", "t")
            .write("a/b.key", "k")
            .write("a/b", "b")
            .write("kept/this", "k")
            .write("kept/that", "t");
        let text = out(
            &rig,
            &format!("FROM base\nRUN --mount=target=/m{options} cd /m && find . | sort > /out"),
        );
        let seen: Vec<&str> = text.lines().collect();
        let expected = [
            ".",
            "./.dockerignore",
            "./Dockerfile",
            "./a",
            "./a/b",
            "./kept",
            "./kept/this",
        ];
        assert_eq!(seen, expected, "{options}");
        rig.dockerfile("FROM base\nRUN --mount=target=/m,source=secret ls /m");
        rig.build(&[])
            .exits_with(1)
            .says(&["Dockerfile:2", "not found", ".dockerignore:1"]);
    }
}

#[test]
fn a_socket_in_the_context_cannot_be_reached() {
    let rig = Rig::new();
    let _listener = std::os::unix::net::UnixListener::bind(rig.context().join("agent")).unwrap();
    rig.write("file", "");
    let text = out(&rig, "FROM base\nRUN --mount=target=/m ls /m > /out");
    assert_eq!(text, "Dockerfile\nfile\n");
}

#[test]
fn only_the_stages_that_a_mount_names_are_built() {
    let rig = Rig::new();
    rig.dockerfile(
        "FROM base AS unused\nRUN false\nFROM base AS used\nRUN echo used > /u\n\
         FROM base\nRUN --mount=from=used,source=/u,target=/m cat /m",
    );
    let outcome = rig.build(&[]).succeeds();
    assert!(!outcome.stderr.contains("RUN false"), "{}", outcome.stderr);
}

#[test]
fn a_stage_of_a_mount_has_to_come_first() {
    for (dockerfile, needles) in [
        (
            "FROM base AS a\nRUN --mount=from=b,target=/m true\nFROM base AS b\nFROM a",
            &["Dockerfile:2", "cannot mount from stage \"b\""][..],
        ),
        (
            "FROM base AS a\nRUN --mount=from=a,target=/m true",
            &["circular dependency detected on stage: a"],
        ),
        (
            "FROM base AS a\nFROM base\nRUN --mount=from=0,target=/m true",
            &["Dockerfile:3", "by its number"],
        ),
        (
            "FROM base\nRUN --mount=source=missing,target=/m true",
            &["Dockerfile:2", "\"/missing\": not found"],
        ),
        (
            "FROM base\nRUN --mount=from=base,source=missing,target=/m true",
            &["Dockerfile:2", "\"/missing\": not found"],
        ),
        (
            "FROM base\nRUN --mount=target=/ true",
            &["Dockerfile:2", "invalid mount target \"/\""],
        ),
        (
            "FROM base\nRUN --mount=target=. true",
            &["Dockerfile:2", "invalid mount target \"/\""],
        ),
        (
            "FROM base\nRUN --mount=target=/a/../ true",
            &["Dockerfile:2", "invalid mount target \"/\""],
        ),
        (
            "FROM base\nRUN --mount=type=tmpfs,target=/proc/sys true",
            &["Dockerfile:2", "inside /proc"],
        ),
        (
            "FROM base\nRUN --mount=target=/bin/sh,source=. true",
            &["Dockerfile:2", "/bin/sh"],
        ),
        (
            "FROM base\nRUN --mount=type=cache,target=/m,source=/x true",
            &["Dockerfile:2", "\"/x\": not found"],
        ),
        (
            "FROM base\nARG T=bin\nRUN --mount=type=$T,target=/m true",
            &["Dockerfile:3", "unsupported mount type \"bin\""],
        ),
        (
            "FROM base\nRUN --mount=type=cache,target=/m,sharing=lock true",
            &["Dockerfile:2", "unsupported sharing value"],
        ),
    ] {
        let rig = Rig::new();
        rig.dockerfile(dockerfile);
        rig.build(&[]).exits_with(1).says(needles);
    }
}

#[test]
fn what_the_key_of_a_mount_depends_on() {
    let cached = |change: &dyn Fn(&Rig), first: &str, second: &str, options: &[&str]| {
        let rig = Rig::new();
        rig.write("in/file", "1").write("out/file", "1");
        let dockerfile =
            |mount: &str| format!("FROM base\nARG A=/m\nRUN --mount={mount} true && echo step");
        rig.dockerfile(&dockerfile(first));
        rig.build(&[]).succeeds();
        change(&rig);
        rig.dockerfile(&dockerfile(second));
        let outcome = rig.build(options).succeeds();
        let step = outcome
            .vertices()
            .into_iter()
            .find(|v| v.name.contains("RUN"));
        step.unwrap().is_cached()
    };
    let nothing = |_: &Rig| {};
    let bind = "source=in,target=/m";
    assert!(cached(&nothing, bind, bind, &[]));
    assert!(
        cached(&nothing, bind, "source=in,target=$A", &[]),
        "only values count"
    );
    let content = |rig: &Rig| {
        rig.write("in/file", "2");
    };
    assert!(!cached(&content, bind, bind, &[]));
    let mode = |rig: &Rig| {
        rig.chmod("in/file", 0o600);
    };
    assert!(!cached(&mode, bind, bind, &[]));
    let elsewhere = |rig: &Rig| {
        rig.write("out/file", "2");
    };
    assert!(cached(&elsewhere, bind, bind, &[]));
    for (first, second) in [
        (bind, "source=in,target=/n"),
        (bind, "source=in,target=/m,rw"),
        ("type=tmpfs,target=/m", "type=tmpfs,target=/m,size=1m"),
        ("type=tmpfs,target=/m", "type=cache,target=/m"),
        ("type=cache,target=/m", "type=cache,target=/m,id=x"),
        ("type=cache,target=/m", "type=cache,target=/m,ro"),
        ("type=cache,target=/m", "type=cache,target=/m,mode=0700"),
        (
            "type=cache,target=/m",
            "type=cache,target=/m,sharing=locked",
        ),
        ("type=cache,target=/m", "type=cache,target=/m,from=base"),
        ("type=secret,id=a", "type=secret,id=b"),
        ("type=secret,id=a", "type=secret,id=a,target=/b"),
        ("type=secret,id=a", "type=secret,id=a,mode=0444"),
        ("type=secret,id=a", "type=secret,id=a,env=A"),
        ("type=ssh", "type=ssh,mode=0666"),
        ("type=ssh", "type=ssh,id=b"),
    ] {
        assert!(cached(&nothing, first, first, &[]), "{first}");
        assert!(!cached(&nothing, first, second, &[]), "{first} {second}");
    }
    let namespace = ["--build-arg", "BUILDKIT_CACHE_MOUNT_NS=n"];
    let cache = "type=cache,target=/m";
    assert!(!cached(&nothing, cache, cache, &namespace));
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
    if !host::maps_many_ids() {
        let rig = Rig::new();
        rig.dockerfile("FROM base\nRUN --mount=type=cache,target=/c,uid=7 true");
        rig.build(&[]).exits_with(3).says(&["subordinate ids"]);
        return;
    }
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
fn a_tmpfs_is_empty_and_as_large_as_it_was_asked_to_be() {
    for (mount, command, expected) in [
        ("target=/etc", "ls -A /etc", ""),
        ("target=/m", "stat -c %a /m", "1777\n"),
        (
            "target=/m,size=1m",
            "df -k /m | tail -1 | awk '{print $2}'",
            "1024\n",
        ),
        (
            "target=/m,tmpfs-size=64k",
            "df -k /m | tail -1 | awk '{print $2}'",
            "64\n",
        ),
        ("target=/m", "echo x > /m/f && cat /m/f", "x\n"),
        (
            "target=/dev/shm/x",
            "touch /dev/shm/x/f && ls /dev/shm/x",
            "f\n",
        ),
    ] {
        let rig = Rig::new();
        let image = rig.image(&format!(
            "FROM base\nRUN --mount=type=tmpfs,{mount} ({command}) > /out 2>&1"
        ));
        assert_eq!(image.text("out"), expected, "{mount}");
        assert_eq!(image.layers.last().unwrap().entries.len(), 1, "{mount}");
    }
}

#[test]
fn several_nested_and_doubled_mounts() {
    let rig = Rig::new();
    rig.write("a", "a").write("d/x", "x");
    for (mounts, command, expected) in [
        (
            // The inner one is named first.
            "--mount=type=tmpfs,target=/m/d --mount=type=tmpfs,target=/m",
            "touch /m/d/f /m/g && find /m | sort",
            "/m\n/m/d\n/m/d/f\n/m/g\n",
        ),
        (
            "--mount=target=/m --mount=type=tmpfs,target=/m/d",
            "ls -A /m/d | wc -l; cat /m/a",
            "0\na",
        ),
        (
            "--mount=type=tmpfs,target=/m --mount=target=/m",
            "cat /m/a",
            "a",
        ),
        (
            "--mount=type=tmpfs,target=/m --mount=source=a,target=/m/new/deep/a",
            "cat /m/new/deep/a",
            "a",
        ),
        (
            "--mount=type=tmpfs,target=/new/deep/m",
            "ls -A /new/deep",
            "m\n",
        ),
    ] {
        let image = rig.image(&format!("FROM base\nRUN {mounts} ({command}) > /out"));
        assert_eq!(image.text("out"), expected, "{mounts}");
        assert_eq!(image.layers.last().unwrap().entries.len(), 1, "{mounts}");
    }
}

#[test]
fn a_trigger_may_mount() {
    let rig = Rig::new();
    rig.write("file", "from the context\n");
    let named = rig.path("other");
    fs::create_dir(&named).unwrap();
    rig.dockerfile(
        "FROM base\nONBUILD RUN --mount=source=file,target=/m --mount=from=files,target=/f \
         --mount=type=cache,target=/c cat /m /f/made > /out && touch /c/x",
    );
    rig.build(&["-t", "parent"]).succeeds();
    let text = out(
        &rig,
        "FROM base AS files\nRUN echo made > /made\nFROM parent",
    );
    assert_eq!(text, "from the context\nmade\n");
    // Where the child has no such stage or image, nothing begins.
    rig.dockerfile("FROM parent AS files\nRUN echo started");
    let outcome = rig.build(&[]).exits_with(1);
    assert!(!outcome.stderr.contains(" started\n"), "{}", outcome.stderr);
}

#[test]
fn links_of_the_image_do_not_lead_a_mount_out_of_it() {
    let rig = Rig::new();
    let outside = rig.path("outside");
    fs::create_dir(&outside).unwrap();
    let outside = outside.display();
    for (attack, target) in [
        (
            format!("mkdir -p /run && ln -s {outside} /run/secrets"),
            "/run/secrets/t".to_owned(),
        ),
        (
            format!("ln -s ../../../../../../..{outside} /l"),
            "/l/t".to_owned(),
        ),
        (format!("ln -s /proc/1/root{outside} /l"), "/l/t".to_owned()),
        (
            "true".to_owned(),
            format!("/../../../../../../..{outside}/t"),
        ),
        ("ln -s /etc /l".to_owned(), "/l/new".to_owned()),
    ] {
        rig.dockerfile(&format!(
            "FROM base\nRUN {attack}\nRUN --mount=type=tmpfs,target={target} \
             touch {target}/reached || true"
        ));
        // Some of these cannot be mounted; none may do anything outside.
        let outcome = rig.build(&[]);
        assert!(matches!(outcome.code, Some(0 | 1)), "{}", outcome.stderr);
        assert_eq!(
            fs::read_dir(rig.path("outside")).unwrap().count(),
            0,
            "{attack}"
        );
    }
    // The same for sources: links in a stage or context stay in it.
    fs::write(rig.path("outside/secret"), "host-secret").unwrap();
    std::os::unix::fs::symlink(rig.path("outside"), rig.context().join("link")).unwrap();
    for (from, source) in [
        ("", "link".to_owned()),
        ("", "link/secret".to_owned()),
        (",from=s", "/l".to_owned()),
        (",from=s", "/l/secret".to_owned()),
        ("", format!("../../../../../..{outside}/secret")),
    ] {
        rig.dockerfile(&format!(
            "FROM base AS s\nRUN ln -s {outside} /l\nFROM base\n\
             RUN --mount=target=/m,source={source}{from} cat /m /m/secret"
        ));
        let outcome = rig.build(&[]).exits_with(1);
        assert!(
            !outcome.stderr.contains("host-secret"),
            "{}",
            outcome.stderr
        );
    }
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

#[test]
fn set_user_id_programs_of_a_mount_give_nothing() {
    let rig = Rig::new();
    let text = out(
        &rig,
        "FROM base AS tools\nRUN cp /bin/busybox /bin/id2 && chmod 4755 /bin/id2\nFROM base\n\
         RUN --mount=from=tools,target=/t grep ' /t ' /proc/self/mountinfo > /out",
    );
    assert!(text.contains("nosuid") && text.contains("nodev"), "{text}");
}
