//! `RUN --mount`: binds, tmpfs, and how mounts go together: what is seen and what gets out.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;

use crate::rig::Rig;

/// Builds `dockerfile` and returns what its steps wrote to /out.
#[track_caller]
fn out(rig: &Rig, dockerfile: &str) -> String {
    rig.image(dockerfile).text("out")
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
fn set_user_id_programs_of_a_mount_give_nothing() {
    let rig = Rig::new();
    let text = out(
        &rig,
        "FROM base AS tools\nRUN cp /bin/busybox /bin/id2 && chmod 4755 /bin/id2\nFROM base\n\
         RUN --mount=from=tools,target=/t grep ' /t ' /proc/self/mountinfo > /out",
    );
    assert!(text.contains("nosuid") && text.contains("nodev"), "{text}");
}

#[test]
fn a_context_that_changes_while_a_step_reads_it_is_not_cached() {
    let rig = Rig::new();
    let content = |text: &str| {
        // Renamed, so that the step never sees half of it.
        fs::write(rig.path("new"), text).unwrap();
        fs::rename(rig.path("new"), rig.context().join("file")).unwrap();
        rig.chmod("file", 0o644);
    };
    content("1");
    // It waits for 20 seconds at most.
    rig.dockerfile(
        "FROM base\nRUN --mount=target=/m echo it began; \
         for i in $(seq 200); do grep -q 2 /m/file && break; sleep 0.1; done; cat /m/file > /out",
    );
    let begin = || {
        let mut child = rig
            .build_command(&[])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        while !said.ends_with(" it began\n") && lines.read_line(&mut said).unwrap() > 0 {}
        (child, lines, said)
    };
    let (mut child, mut lines, mut said) = begin();
    content("2");
    lines.read_to_string(&mut said).unwrap();
    assert!(child.wait().unwrap().success(), "{said}");
    assert!(said.contains("changed while the command ran"), "{said}");
    // Nothing is known under the content that the step began with.
    content("1");
    let (mut child, _lines, said) = begin();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(said.ends_with(" it began\n"), "{said}");
}
