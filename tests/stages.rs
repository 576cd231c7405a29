//! FROM: stages, targets, bases, and what runs when.

use std::fs;

use crate::rig::Rig;
use crate::rig::image::Image;

#[test]
fn scratch_is_empty_and_has_no_layers() {
    let rig = Rig::empty();
    let image = rig.image("FROM scratch\nLABEL a=b");
    assert!(image.layers.is_empty());
    assert_eq!(image.setting("Labels")["a"], "b");
}

#[test]
fn a_stage_continues_another_with_files_and_configuration() {
    let rig = Rig::new();
    let image = rig.image(
        "FROM base AS one\nWORKDIR /w\nENV A=1\nRUN touch here\n\
         FROM one\nRUN test -e here && test $A = 1 && touch there",
    );
    assert!(image.has("w/here") && image.has("w/there"));
    assert_eq!(image.setting("WorkingDir"), "/w");
}

#[test]
fn stage_names_ignore_case() {
    let rig = Rig::new();
    let image =
        rig.image("FROM base AS Build\nRUN touch /x\nFROM scratch\nCOPY --from=bUILD /x /x");
    assert!(image.has("x"));
}

#[test]
fn only_what_the_target_needs_is_built() {
    let rig = Rig::new();
    rig.dockerfile(
        "FROM base AS needed\nRUN echo needed > /f\n\
         FROM base AS unneeded\nRUN false\n\
         FROM base AS target\nCOPY --from=needed /f /f\n\
         FROM nosuchimage AS last\nRUN false",
    );
    let outcome = rig.build(&["--target=target"]).succeeds();
    outcome.step("RUN echo needed > /f");
    assert!(!outcome.stderr.contains("RUN false"), "{}", outcome.stderr);
}

#[test]
fn a_target_may_be_a_number() {
    let rig = Rig::new();
    rig.dockerfile("FROM base\nLABEL is=first\nFROM base\nRUN false");
    rig.build(&["--target=0"]).succeeds();
}

#[test]
fn a_failing_stage_ends_the_others_and_the_build() {
    let rig = Rig::new();
    let mark = format!("8{:06}", std::process::id());
    rig.dockerfile(&format!(
        "FROM base AS slow\nRUN sleep {mark}\nFROM base AS bad\nRUN sleep 1 && exit 3\n\
         FROM scratch\nCOPY --from=slow /x /\nCOPY --from=bad /x /"
    ));
    rig.build(&[]).exits_with(1).says(&["exit code: 3"]);
    assert_eq!(
        crate::rig::host::processes_with(&format!("sleep {mark}")),
        [""; 0]
    );
}

/// Builds a Dockerfile in which `MEET` stands twice: each side waits there for the other, through the
/// network that both share with the host.
fn both_sides_meet(dockerfile: &str) {
    let rig = Rig::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let meeting = std::thread::spawn(move || {
        let first = listener.accept().unwrap();
        let second = listener.accept().unwrap();
        drop((first, second));
    });
    // nc ends when the peer closes, and the peer closes when both have come.
    rig.dockerfile(&dockerfile.replace("MEET", &format!("timeout 60 nc 127.0.0.1 {port}")));
    rig.build(&[]).succeeds();
    meeting.join().unwrap();
}

#[test]
fn independent_stages_run_at_the_same_time() {
    both_sides_meet(
        "FROM base AS one\nRUN MEET && touch /one\n\
         FROM base AS two\nRUN MEET && touch /two\n\
         FROM scratch\nCOPY --from=one /one /\nCOPY --from=two /two /",
    );
}

#[test]
fn a_stage_waits_for_another_only_where_it_reads_it() {
    both_sides_meet(
        "FROM base AS one\nRUN MEET && touch /one\n\
         FROM base\nRUN MEET\nCOPY --from=one /one /",
    );
}

#[test]
fn a_base_is_found_by_tag_and_by_digest() {
    let rig = Rig::new();
    rig.dockerfile("FROM base\nRUN touch /mine");
    rig.build(&["-t", "mine:v1", "-t", "also-mine"]).succeeds();
    for name in ["mine:v1", "also-mine", "also-mine:latest"] {
        assert!(
            rig.image(&format!("FROM {name}\nRUN touch /more"))
                .has("mine"),
            "{name}"
        );
    }
    let image = rig.image("FROM also-mine\nLABEL x=y");
    assert!(image.has("mine"));
}

#[test]
fn a_base_may_be_a_layout_or_an_archive() {
    let rig = Rig::new();
    let path = |name: &str| rig.path(name).display().to_string();
    rig.dockerfile("FROM base\nRUN touch /mine\nENV X=y");
    rig.build(&[
        "-t",
        "mine",
        "-o",
        &format!("type=oci,dest={}", path("mine.tar")),
        "-o",
        &format!("type=docker,dest={}", path("mine-docker.tar")),
        "-o",
        &format!("type=oci,tar=false,dest={}", path("layout")),
    ])
    .succeeds();
    for base in [
        format!("oci-archive:{}", path("mine.tar")),
        format!("docker-archive:{}", path("mine-docker.tar")),
        format!("oci-layout://{}", path("layout")),
    ] {
        let other = Rig::empty();
        let image = other.image_with(
            "FROM given\nRUN test -e /mine && test $X = y && touch /more",
            &["--build-context", &format!("given={base}")],
        );
        assert!(image.has("mine") && image.has("more"), "{base}");
    }
}

#[test]
fn targets_are_named_in_any_case_or_counted() {
    let rig = Rig::empty();
    let file = "FROM scratch AS One\nLABEL v=one\nFROM scratch AS two\nLABEL v=two\n\
                FROM scratch AS one\nLABEL v=again";
    for (target, expected) in [
        ("two", "two"),
        ("TWO", "two"),
        ("one", "again"),
        ("0", "one"),
        ("2", "again"),
    ] {
        let image = rig.image_with(file, &["--target", target]);
        assert_eq!(image.setting("Labels")["v"], expected, "{target}");
    }
    for (target, says) in [
        (
            "twoo",
            &[
                "target stage \"twoo\" could not be found",
                "did you mean two?",
            ][..],
        ),
        (
            "zebra",
            &[
                "target stage \"zebra\" could not be found",
                "the file has the stages one, two, one",
            ],
        ),
        ("3", &["target stage \"3\" could not be found"]),
        ("-1", &["target stage \"-1\" could not be found"]),
    ] {
        let option = format!("--target={target}");
        rig.build(&[&option]).exits_with(1).says(says);
    }
}

#[test]
fn copies_name_stages_in_any_case_or_by_number() {
    let rig = Rig::new();
    let file = "FROM base AS Abc\nRUN touch /x\nFROM scratch\nCOPY --from=";
    for from in ["abc", "ABC", "0"] {
        assert!(rig.image(&format!("{file}{from} /x /x")).has("x"), "{from}");
    }
    for (from, says) in [
        ("1", "circular dependency detected on stage: 1"),
        ("2", "invalid stage index 2"),
        ("-1", "invalid stage index -1"),
    ] {
        rig.dockerfile(&format!("{file}{from} /x /x"));
        rig.build(&[]).exits_with(1).says(&[says]);
    }
    // FROM takes the exact name only: anything else is an image.
    rig.dockerfile("FROM base AS abc\nFROM Abc");
    rig.build(&[])
        .exits_with(1)
        .says(&["Dockerfile:2", "lowercase"]);
}

/// The sources of a COPY are read while the one before it is carried out.
#[test]
fn copies_after_each_other_have_their_own_keys_and_files() {
    let rig = Rig::new();
    let dockerfile = "FROM scratch AS files\nCOPY files /\nFROM base\n\
                      COPY --from=files /one /a\nCOPY --from=files /two /b\n\
                      COPY --chmod=600 --from=files /two /c\nARG NAME=one\n\
                      COPY --from=files /$NAME /d\nCOPY --from=files /${NAME}e* /two /e/\n";
    let steps = ["/one /a", "/two /b", "/$NAME /d", "/${NAME}e* /two /e/"];
    let check = |image: &Image, two: &str| {
        for (path, text) in [
            ("a", "1"),
            ("b", two),
            ("c", two),
            ("d", "1"),
            ("e/onee", "3"),
            ("e/two", two),
        ] {
            assert_eq!(image.text(path), text, "{path}");
        }
        assert_eq!(image.file("c").mode & 0o777, 0o600);
    };
    rig.write("files/one", "1").write("files/two", "2");
    rig.write("files/onee", "3");
    check(&rig.image(dockerfile), "2");
    // The stage is another, and what the first COPY takes from it is not.
    rig.write("files/two", "two");
    let build = rig.build(&[]).succeeds();
    for (step, is_cached) in steps.iter().zip([true, false, false, false]) {
        assert_eq!(
            build.is_cached(&format!("--from=files {step}")),
            is_cached,
            "{step}"
        );
    }
    check(&rig.image(dockerfile), "two");
}

/// What is wrong with the next COPY is told where that is.
#[test]
fn a_copy_that_fails_after_another_is_the_one_in_the_message() {
    let rig = Rig::new();
    rig.write("one", "1").dockerfile(
        "FROM scratch AS files\nCOPY one /\nFROM base\nCOPY --from=files /one /a\n\
         COPY --from=files /none /b\n",
    );
    let failed = rig.build(&[]);
    failed.exits_with(1).says(&["Dockerfile:5", "/none"]);
}

#[test]
fn a_stage_may_be_named_like_its_base_or_an_image() {
    let rig = Rig::new();
    let image = rig.image(
        "FROM base AS base\nRUN touch /one\nFROM base AS base\nRUN touch /two\nFROM base\n\
         RUN test -e /one && touch /three",
    );
    assert!(image.has("two") && image.has("three"));
}

#[test]
fn a_named_context_takes_the_place_of_an_image() {
    let rig = Rig::new();
    rig.dockerfile("FROM base\nRUN touch /mine\nENV X=y\nONBUILD LABEL triggered=yes");
    rig.build(&["-t", "mine"]).succeeds();
    for (name, from) in [
        ("alpine", "alpine"),
        ("alpine", "alpine:latest"),
        ("alpine", "docker.io/library/alpine"),
        ("docker.io/library/alpine:latest", "alpine"),
        ("alpine:3.20", "alpine:3.20"),
        ("ghcr.io/a/b", "ghcr.io/a/b:latest"),
        ("given", "given"),
    ] {
        let option = format!("{name}=docker-image://mine");
        let options = ["--build-context", &option];
        let image = rig.image_with(&format!("FROM {from}\nLABEL a=b"), &options);
        assert!(image.has("mine"), "{name} for {from}");
        assert_eq!(
            image.setting("Labels")["triggered"],
            "yes",
            "{name} for {from}"
        );
        let copy = format!("FROM scratch\nCOPY --from={from} /mine /copied");
        assert!(
            rig.image_with(&copy, &options).has("copied"),
            "{name} for {from}"
        );
    }
    // The last of a name wins; one for the platform comes before; other tags are other images.
    let machine = if cfg!(target_arch = "x86_64") {
        "amd64"
    } else {
        "arm64"
    };
    let exact = format!("x::linux/{machine}=docker-image://mine");
    let options = [
        "--build-context",
        &exact,
        "--build-context",
        "x=docker-image://base",
    ];
    assert!(rig.image_with("FROM x\nLABEL a=b", &options).has("mine"));
    let options = [
        "--build-context",
        "x::linux/s390x=docker-image://mine",
        "--build-context",
        "x=docker-image://base",
    ];
    assert!(!rig.image_with("FROM x\nLABEL a=b", &options).has("mine"));
}

#[test]
fn a_named_context_takes_the_place_of_a_stage() {
    let rig = Rig::new();
    rig.dockerfile("FROM base\nRUN echo mine > /made\nENV X=y");
    rig.build(&["-t", "mine"]).succeeds();
    let other = rig.path("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("made"), "directory\n").unwrap();
    fs::write(other.join("ignored"), "").unwrap();
    fs::write(other.join(".dockerignore"), "ignored").unwrap();
    let directory = format!("Build={}", other.display());
    let file = "FROM nosuchimage AS build\nRUN false\nFROM scratch\nCOPY --from=build /made /out\n";
    for (context, expected) in [
        ("build=docker-image://mine", "mine\n"),
        (directory.as_str(), "directory\n"),
    ] {
        let options = ["--build-context", context];
        assert_eq!(rig.image_with(file, &options).text("out"), expected);
        // By number too, and as a base.
        let by_number = file.replace("=build", "=0");
        assert_eq!(rig.image_with(&by_number, &options).text("out"), expected);
        let based = "FROM nosuchimage AS build\nRUN false\nFROM build\nLABEL a=b";
        let image = rig.image_with(based, &options);
        assert_eq!(image.text("made"), expected);
        assert!(!image.has("ignored"));
        assert_eq!(
            image.setting("Env").to_string().contains("X=y"),
            context.contains("mine")
        );
        // And as the target.
        let image = rig.image_with("FROM nosuchimage AS build\nRUN false", &options);
        assert_eq!(image.text("made"), expected);
    }
}

#[test]
fn a_directory_may_be_a_base() {
    let rig = Rig::empty();
    let other = rig.path("other");
    fs::create_dir_all(other.join("sub")).unwrap();
    fs::write(other.join("sub/file"), "content").unwrap();
    let context = format!("files={}", other.display());
    let options = ["--build-context", &context];
    let image = rig.image_with("FROM files\nLABEL a=b", &options);
    assert_eq!(image.text("sub/file"), "content");
    assert_eq!(image.setting("Labels")["a"], "b");
}

#[test]
fn scratch_and_the_context_are_never_taken_over() {
    let rig = Rig::new();
    let options = [
        "--build-context",
        "scratch=docker-image://base",
        "--build-context",
        "empty=docker-image://scratch",
    ];
    for base in ["scratch", "empty"] {
        let image = rig.image_with(&format!("FROM {base}\nLABEL a=b"), &options);
        assert!(image.layers.is_empty(), "{base}");
        assert_eq!(image.setting("WorkingDir"), "/");
    }
}

#[test]
fn frontends_are_built_in_or_refused() {
    let rig = Rig::empty();
    let digest = format!("@sha256:{}", "a".repeat(64));
    for syntax in [
        "docker/dockerfile",
        "docker/dockerfile:1",
        "docker/dockerfile:1.7-labs",
        "docker/dockerfile:labs",
        "docker.io/docker/dockerfile:1",
        "docker/dockerfile-upstream:master",
        "docker/dockerfile-upstream:master-labs",
        &format!("docker/dockerfile:1{digest}"),
        &format!("docker/dockerfile{digest}"),
        "dockerfile.v0",
    ] {
        rig.dockerfile(&format!("# syntax={syntax}\nFROM scratch\nLABEL a=b"));
        rig.build(&[]).succeeds();
        rig.dockerfile("# syntax=foreign/one\nFROM scratch\nLABEL a=b");
        rig.build(&["--build-arg", &format!("BUILDKIT_SYNTAX={syntax}")])
            .succeeds();
    }
    for (text, line) in [
        ("# syntax=foreign/one:1\nFROM scratch", 1),
        (
            "#!/usr/bin/env rbuild\n# syntax=foreign/one:1\nFROM scratch",
            2,
        ),
        ("# escape=`\n#SYNTAX = foreign/one:1\nFROM scratch", 2),
        ("// syntax=foreign/one:1\nfunction build() {}", 1),
        ("{\"syntax\": \"foreign/one:1\", \"steps\": []}", 1),
        ("# syntax=foreign/one:1\nkind: pipeline\nsteps: [", 1),
    ] {
        rig.dockerfile(text);
        let place = format!("Dockerfile:{line}");
        rig.build(&[]).exits_with(1).says(&[
            "the frontend foreign/one:1 is not supported",
            "rbuild runs no frontend images",
            &place,
        ]);
    }
    rig.dockerfile("FROM scratch\nLABEL a=b");
    rig.build(&["--build-arg=BUILDKIT_SYNTAX=foreign/one"])
        .exits_with(1)
        .says(&["the frontend foreign/one is not supported"]);
    rig.dockerfile("# syntax=docker/dockerfile:1\n# syntax=docker/dockerfile:1\nFROM scratch");
    rig.build(&[]).exits_with(1).says(&[
        "only one syntax parser directive can be used",
        "Dockerfile:2",
    ]);
}

#[test]
fn files_are_read_as_they_come() {
    let image = |name: &str, text: &str| {
        let rig = Rig::empty();
        rig.write(name, text);
        let archive = rig.path("image.tar");
        rig.build(&["-o", &format!("type=oci,dest={}", archive.display())])
            .succeeds();
        Image::open(&archive).setting("Labels")["a"].clone()
    };
    for (name, text, expected) in [
        ("Dockerfile", "FROM scratch\nLABEL a=b", "b"),
        ("dockerfile", "FROM scratch\nLABEL a=b", "b"),
        ("Containerfile", "FROM scratch\nLABEL a=b", "b"),
        ("Dockerfile", "\u{feff}FROM scratch\nLABEL a=b", "b"),
        (
            "Dockerfile",
            "\u{feff}# escape=`\nFROM scratch\nLABEL a=c:\\d",
            "c:\\d",
        ),
        ("Dockerfile", "FROM scratch\r\nLABEL \\\r\n  a=b\r\n", "b"),
        (
            "Dockerfile",
            "# ESCAPE = `\nFROM scratch\nLABEL `\n  a=b",
            "b",
        ),
        (
            "Dockerfile",
            "# comment\n# escape=`\nFROM scratch\nLABEL \\\n  a=b",
            "b",
        ),
        (
            "Dockerfile",
            "#!/usr/bin/env rbuild\nFROM scratch\nLABEL a=b",
            "b",
        ),
        (
            "Dockerfile",
            "  from scratch\n\tlabel \\\n# inside\n\n  a=b",
            "b",
        ),
    ] {
        assert_eq!(image(name, text), expected, "{name}: {text:?}");
    }
    let rig = Rig::empty();
    rig.dockerfile("# escape=x\nFROM scratch");
    rig.build(&[])
        .exits_with(1)
        .says(&["invalid escape token 'x' does not match", "Dockerfile:1"]);
}
