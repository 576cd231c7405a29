//! Bad input: one clear message, the documented exit code, the store as before.

use std::fs;
use std::process::Command;

use crate::rig::outcome::Outcome;
use crate::rig::{Rig, host};

/// Builds, expects `code` and `needles`, and that the store holds what it held.
#[track_caller]
fn refused(rig: &Rig, options: &[&str], code: i32, needles: &[&str]) -> Outcome {
    let before = rig.store_listing();
    let outcome = rig.build(options).exits_with(code).says(needles);
    assert_eq!(rig.store_listing(), before, "the store changed");
    assert!(outcome.stdout.is_empty(), "an image id was printed");
    let errors = outcome
        .stderr
        .lines()
        .filter(|line| line.starts_with("error: "))
        .count();
    assert_eq!(errors, 1, "one message:\n{}", outcome.stderr);
    assert!(!outcome.stderr.contains("panicked"), "{}", outcome.stderr);
    outcome
}

#[test]
fn a_dockerfile_that_is_missing_or_empty() {
    let rig = Rig::new();
    refused(
        &rig,
        &[],
        1,
        &["Dockerfile", &rig.context().display().to_string()],
    );
    refused(
        &rig,
        &["-f", "/no/such/Dockerfile"],
        1,
        &["/no/such/Dockerfile"],
    );
    for text in ["", "\n", "# only a comment\n"] {
        rig.dockerfile(text);
        refused(&rig, &[], 1, &["Dockerfile"]);
    }
    rig.dockerfile("ARG a=1\n");
    refused(&rig, &[], 1, &["stage"]);
}

#[test]
fn a_context_that_is_missing_or_a_file() {
    let rig = Rig::new();
    rig.rbuild(["build", "/no/such/context"])
        .exits_with(1)
        .says(&["/no/such/context"]);
    let file = rig.path("file");
    fs::write(&file, "").unwrap();
    rig.rbuild(["build", file.to_str().unwrap()])
        .exits_with(1)
        .says(&[file.to_str().unwrap()]);
    rig.rbuild(["build"]).exits_with(2);
}

#[test]
fn options_that_make_no_sense() {
    let rig = Rig::new();
    rig.dockerfile("FROM base");
    for (options, needle) in [
        (&["-t", "UPPER"][..], "UPPER"),
        (&["-t", "a:b:c"], "a:b:c"),
        (&["-t", "a@sha256:00"], "a@sha256:00"),
        (&["-t", ""], "tag \"\""),
        (&["--build-arg", "=x"], "=x"),
        (&["--build-context", "novalue"], "novalue"),
        (&["--network", "bridge"], "bridge"),
        (&["--progress", "fancy"], "fancy"),
        (&["--no-such-option"], "--no-such-option"),
        (&["--label", ""], "label"),
    ] {
        let before = rig.store_listing();
        rig.build(options).exits_with(2).says(&[needle]);
        assert_eq!(rig.store_listing(), before, "{options:?}");
    }
}

#[test]
fn errors_in_a_dockerfile_are_found_before_any_work() {
    for (text, needles) in [
        (
            "FROM base\nRUNN true",
            &[
                "unknown instruction: RUNN",
                "RUN?",
                "Dockerfile:2",
                "2 | RUNN true",
            ][..],
        ),
        ("FROM base\nCPOY a b", &["CPOY", "COPY?"]),
        (
            "FROM base\nCOPY --chwon=1 a b",
            &["unknown flag: --chwon", "chown?"],
        ),
        (
            "FROM base\nCOPY --from a b",
            &["missing a value on flag: --from"],
        ),
        (
            "FROM base\nCOPY --from=x --from=y a b",
            &["duplicate flag specified: --from"],
        ),
        (
            "FROM base\nCOPY a",
            &["COPY requires at least two arguments"],
        ),
        ("FROM base\nRUN [\"a\", 1]", &["JSON", "Dockerfile:2"]),
        ("FROM base\nENTRYPOINT [1]", &["JSON"]),
        (
            "FROM base\nRUN <<EOF\nnever",
            &["unterminated heredoc", "Dockerfile:2"],
        ),
        (
            "FROM base\nRUN --mount=type=bin true",
            &["unsupported mount type \"bin\"", "bind?"],
        ),
        ("FROM base AS 1x", &["invalid name for build stage: \"1x\""]),
        ("FROM", &["FROM requires either one or three arguments"]),
        (
            "FROM ${nothing}",
            &["base name (${nothing}) should not be blank"],
        ),
        ("RUN true", &["Dockerfile:1"]),
        ("FROM base\nLABEL a=${a", &["Dockerfile:2"]),
        ("# escape=x\nFROM base", &["escape"]),
        ("FROM base\nHEALTHCHECK CMD", &["HEALTHCHECK"]),
        (
            "FROM base\nEXPOSE",
            &["EXPOSE requires at least one argument"],
        ),
    ] {
        let rig = Rig::new();
        rig.dockerfile(text);
        refused(&rig, &[], 1, needles);
    }
}

#[test]
fn every_error_of_a_dockerfile_is_said_at_once() {
    let rig = Rig::new();
    rig.dockerfile("FROM base\nRUNN true\nRUN true\nCPOY a b");
    rig.build(&[])
        .exits_with(1)
        .says(&["RUNN", "CPOY", "Dockerfile:2", "Dockerfile:4"]);
}

#[test]
fn stages_that_are_unknown_later_or_circular() {
    for (text, options, needles) in [
        (
            "FROM base AS one",
            &["--target=on"][..],
            &["target stage \"on\" could not be found", "one?"][..],
        ),
        ("FROM base AS one", &["--target=7"], &["7"]),
        (
            "FROM base AS a\nCOPY --from=b /x /\nFROM base AS b\nRUN true",
            &[],
            &["cannot copy from stage \"b\", it needs to be defined before current stage \"a\""],
        ),
        (
            "FROM base AS a\nCOPY --from=a /x /",
            &[],
            &["circular dependency detected on stage: a"],
        ),
        ("FROM base\nCOPY --from=5 /x /", &[], &["Dockerfile:2"]),
    ] {
        let rig = Rig::new();
        rig.dockerfile(text);
        refused(&rig, options, 1, needles);
    }
}

#[test]
fn a_copy_of_what_is_not_there() {
    let rig = Rig::new();
    rig.write("present", "");
    rig.dockerfile("FROM base\nCOPY present absent /d/");
    refused(
        &rig,
        &[],
        1,
        &["absent", "Dockerfile:2", ">>> COPY present absent /d/"],
    );
    rig.dockerfile("FROM base AS a\nFROM base\nCOPY --from=a /absent /d/");
    refused(&rig, &[], 1, &["/absent", "Dockerfile:3"]);
}

#[test]
fn a_base_that_does_not_exist() {
    let rig = Rig::new();
    // Port 1 of the loopback refuses.
    rig.dockerfile("FROM 127.0.0.1:1/no/such:image\nRUN true");
    refused(&rig, &[], 1, &["127.0.0.1:1/no/such:image", "Dockerfile:1"]);
    let digest = format!("sha256:{}", "0".repeat(64));
    rig.dockerfile(&format!("FROM base@{digest}\nRUN true"));
    assert_eq!(rig.build(&[]).code, Some(1));
}

#[test]
fn a_named_context_that_is_not_there_or_not_known() {
    let rig = Rig::new();
    rig.dockerfile("FROM extra\nRUN true");
    for (value, needle) in [
        ("/no/such/directory", "/no/such/directory"),
        ("oci-layout:///no/such/layout", "/no/such/layout"),
        ("oci-archive:/no/such/archive.tar", "/no/such/archive.tar"),
        (
            "docker-archive:/no/such/archive.tar",
            "/no/such/archive.tar",
        ),
    ] {
        let outcome = rig.build(&["--build-context", &format!("extra={value}")]);
        assert!(
            matches!(outcome.code, Some(1 | 2)),
            "{value}: {}",
            outcome.stderr
        );
        outcome.says(&[needle]);
    }
}

#[test]
fn an_archive_base_whose_blob_lies_about_its_digest() {
    let rig = Rig::new();
    rig.dockerfile("FROM base\nRUN echo genuine > /f");
    let archive = rig.path("image.tar");
    rig.build(&[
        "-o",
        &format!(
            "type=oci,compression=uncompressed,dest={}",
            archive.display()
        ),
    ])
    .succeeds();
    let mut bytes = fs::read(&archive).unwrap();
    let at = bytes
        .windows(7)
        .position(|bytes| bytes == b"genuine")
        .unwrap();
    bytes[at..at + 7].copy_from_slice(b"forgery");
    let forged = rig.path("forged.tar");
    fs::write(&forged, bytes).unwrap();
    let other = Rig::new();
    other.dockerfile("FROM given\nRUN cat /f");
    let option = format!("given=oci-archive:{}", forged.display());
    refused(&other, &["--build-context", &option], 1, &["sha256:"]);
}

#[test]
fn a_file_of_the_context_that_cannot_be_read() {
    if host::is_root() {
        return host::skip("root reads everything");
    }
    let rig = Rig::new();
    rig.dockerfile("FROM base\nCOPY shadow /");
    let dockerfile = rig.context().join("Dockerfile");
    let file = dockerfile.to_str().unwrap();
    rig.rbuild(["build", "--progress=plain", "-f", file, "/etc"])
        .exits_with(1)
        .says(&["shadow", "Permission denied"]);
}

#[test]
fn a_context_that_changes_while_it_is_read() {
    let rig = Rig::new();
    for file in 0..400 {
        rig.write(&format!("files/{file}"), vec![b'x'; 20_000]);
    }
    rig.dockerfile("FROM base\nCOPY files /files");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let path = rig.context().join("files/399");
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                fs::write(&path, vec![b'y'; 10]).unwrap();
                fs::write(&path, vec![b'z'; 30_000]).unwrap();
            }
        });
        for _ in 0..5 {
            let outcome = rig.build(&["--no-cache"]);
            if outcome.code != Some(0) {
                outcome.exits_with(1).says(&["files/399"]);
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    // What was published while the file changed is not taken for what it is now.
    rig.write("files/399", "now");
    let image = rig.image("FROM base\nCOPY files /files");
    assert_eq!(image.text("files/399"), "now");
}

#[test]
fn a_store_that_cannot_be_written() {
    let rig = Rig::empty();
    rig.dockerfile("FROM scratch\nLABEL a=b");
    if host::is_root() {
        host::skip("root writes to all directories");
    } else {
        let context = rig.context();
        let context = context.to_str().unwrap();
        let arguments = ["--root", "/usr/rbuild-store", "build", context];
        Outcome::of(Command::new(host::binary()).args(arguments))
            .exits_with(3)
            .says(&["/usr/rbuild-store", "Permission denied"]);
    }

    fs::create_dir(rig.store()).unwrap();
    let build = rig.build_command(&[]);
    let mut command = Command::new("unshare");
    command
        .args(["--user", "--map-root-user", "--mount", "sh", "-c"])
        .arg(
            "mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\" && shift && exec \"$@\"",
        )
        .arg("sh")
        .arg(rig.store())
        .arg(build.get_program())
        .args(build.get_args());
    Outcome::of(&mut command)
        .exits_with(3)
        .says(&[rig.store().to_str().unwrap(), "Read-only file system"]);

    let file = rig.path("file");
    fs::write(&file, "").unwrap();
    let mut command = Command::new(host::binary());
    command
        .arg("--root")
        .arg(&file)
        .arg("build")
        .arg(rig.context());
    Outcome::of(&mut command)
        .exits_with(3)
        .says(&[file.to_str().unwrap()]);
}

#[test]
fn a_store_of_a_later_format_is_left_alone_by_every_command() {
    let rig = Rig::new();
    rig.dockerfile("FROM base\nRUN true");
    let format = ["format", "version"].map(|name| rig.store().join(name));
    let Some(file) = format.iter().find(|path| path.exists()) else {
        panic!("the store does not say its format");
    };
    fs::write(file, "99\n").unwrap();
    let message = format!(
        "the store at {} has format \"99\", this program knows 1",
        rig.store().display()
    );
    let before = rig.store_listing();
    rig.build(&[]).exits_with(1).says(&[&message]);
    for command in [
        &["images"][..],
        &["inspect", "base"],
        &["tag", "base", "other"],
        &["save", "base"],
        &["load", "-i", "base.tar"],
        &["import", "base.tar", "other"],
        &["export", "base"],
        &["pull", "127.0.0.1:9/base"],
        &["push", "base"],
        &["rmi", "base"],
        &["image", "prune", "-af"],
        &["builder", "prune", "-af"],
        &["system", "df"],
    ] {
        rig.rbuild(command).exits_with(1).says(&[&message]);
    }
    rig.run(&["base", "true"]).exits_with(125).says(&[&message]);
    assert_eq!(rig.store_listing(), before);
}

/// Runs `rbuild OPTIONS CONTEXT` in a mount namespace where the store is on a tmpfs of `size`.
fn build_on_small_disk(rig: &Rig, size: &str) -> Option<Outcome> {
    let script =
        format!("mount -t tmpfs -o size={size} none \"$1\" || exit 99; shift; exec \"$@\"");
    fs::create_dir_all(rig.store()).unwrap();
    let build = rig.build_command(&[]);
    let mut command = Command::new("unshare");
    command
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script])
        .arg("sh")
        .arg(rig.store())
        .arg(build.get_program())
        .args(build.get_args());
    let outcome = Outcome::of(&mut command);
    let cannot = outcome.code == Some(99) || outcome.stderr.starts_with("unshare:");
    if cannot {
        host::skip("this user cannot mount a small disk");
        return None;
    }
    Some(outcome)
}

#[test]
fn a_full_disk() {
    let rig = Rig::empty();
    rig.write("big", vec![7; 8 << 20]);
    rig.dockerfile("FROM scratch\nCOPY big /big");
    let Some(outcome) = build_on_small_disk(&rig, "4m") else {
        return;
    };
    outcome.exits_with(1).says(&["No space left on device"]);
}

#[test]
fn a_machine_without_user_namespaces() {
    let rig = Rig::new();
    rig.dockerfile("FROM base\nRUN true");
    let build = rig.build_command(&[]);
    // Inside a namespace whose limit is 0, the kernel answers as one that has them switched off.
    let mut command = Command::new("unshare");
    command
        .args(["--user", "--map-root-user", "sh", "-c"])
        .arg("echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"")
        .arg("sh")
        .arg(build.get_program())
        .args(build.get_args());
    Outcome::of(&mut command)
        .exits_with(3)
        .says(&["user namespaces", "user.max_user_namespaces"]);
}

#[test]
fn what_the_engine_does_not_do_is_refused_before_any_work() {
    for instruction in [
        "RUN --device=vendor.com/class=name true",
        "RUN --device=vendor.com/class=name,required=false true",
        "RUN --security=insecure true",
    ] {
        let rig = Rig::new();
        rig.dockerfile(&format!("FROM base\nRUN echo started\n{instruction}"));
        let outcome = refused(
            &rig,
            &[],
            1,
            &["Dockerfile:3", &format!("3 | {instruction}")],
        );
        assert!(!outcome.stderr.contains(" started\n"), "{}", outcome.stderr);
    }
    let rig = Rig::new();
    rig.dockerfile("# syntax=example.org/my/frontend\nFROM base\nRUN echo started");
    refused(&rig, &[], 1, &["example.org/my/frontend"]);
}

#[test]
fn standard_input_that_is_no_dockerfile_and_no_archive() {
    let rig = Rig::new();
    rig.build_from_stdin(&["-"], b"").exits_with(1);
    rig.build_from_stdin(&["-"], &[0x1f, 0x8b, 8, 0, 0, 0])
        .exits_with(1);
    rig.build_from_stdin(&["-"], b"FROM base\nRUN true")
        .succeeds();
    rig.build_from_stdin(&["-"], b"FROM base\nCOPY x /")
        .exits_with(1)
        .says(&["x"]);
}

#[test]
fn hostile_dockerfiles_end_with_a_message() {
    let deep = format!(
        "FROM base\nLABEL a=\"{}x{}\"",
        "${a:-".repeat(5000),
        "}".repeat(5000)
    );
    let bodies = "FROM base\nRUN ".to_owned() + &"<<A ".repeat(2000);
    for text in [
        deep,
        bodies,
        "FROM base\nRUN ".to_owned() + &"\\\n".repeat(100_000),
        format!("FROM base\nLABEL a={}", "x".repeat(2_000_000)),
        "\u{0}\u{1}\u{2}".to_owned(),
        "FROM \u{202e}base".to_owned(),
    ] {
        let rig = Rig::new();
        rig.dockerfile(&text);
        let outcome = rig.build(&[]);
        assert!(
            matches!(outcome.code, Some(0 | 1)),
            "{:?}: {}",
            outcome.code,
            outcome.stderr
        );
        assert!(!outcome.stderr.contains("panicked"), "{}", outcome.stderr);
    }
}
