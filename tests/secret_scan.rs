//! `--secret-scan`: every way in which a step can leave a secret, and that none is said aloud.

use std::fs;

use base64::Engine as _;

use crate::rig::outcome::Outcome;
use crate::rig::{Rig, host};

const SECRET: &str = "kJ8+vT/q2-Secret-Value-?~zz9";

/// Builds `dockerfile` with the secret and these options.
fn build(rig: &Rig, dockerfile: &str, options: &[&str]) -> Outcome {
    let file = rig.path("token");
    fs::write(&file, format!("{SECRET}\n")).unwrap();
    rig.dockerfile(dockerfile);
    let secret = format!("id=token,src={}", file.display());
    let outcome = rig.build(&[&["--secret", &secret], options].concat());
    let stdout = String::from_utf8_lossy(&outcome.stdout);
    for shown in [stdout.as_ref(), outcome.stderr.as_str()] {
        assert!(!shown.contains(SECRET), "{shown}");
    }
    outcome
}

const MOUNT: &str = "--mount=type=secret,id=token,env=T";

#[test]
fn each_way_to_leave_a_secret_in_a_layer_is_found() {
    let rig = Rig::new();
    for (run, form, place) in [
        ("echo $T > /usr/plain", "is in", "/usr/plain"),
        (
            "yes $T | tr -d '\\n' | head -c 3000000 > /big",
            "is in",
            "/big",
        ),
        (
            "(head -c 70000 /dev/zero; echo x${T}x) > /late",
            "is in",
            "/late",
        ),
        ("echo -n $T | base64 > /encoded", "in base64", "/encoded"),
        ("echo -n \"user:$T\" | base64 > /auth", "in base64", "/auth"),
        (
            "(head -c 100 /dev/zero; echo $T) | base64 > /wrapped",
            "in base64",
            "/wrapped",
        ),
        (
            "echo -n $T | base64 | tr '+/' '-_' > /url",
            "in base64",
            "/url",
        ),
        ("echo -n $T | xxd -p > /hex", "in hexadecimal", "/hex"),
        (
            "mkdir -p /d/$(echo -n $T | xxd -p)",
            "in hexadecimal",
            "/d/***",
        ),
        ("ln -s $T /link", "is in", "/link"),
    ] {
        let before = rig.store_listing();
        build(
            &rig,
            &format!("FROM base\nRUN {MOUNT} {run}"),
            &["--secret-scan"],
        )
        .exits_with(1)
        .says(&["Dockerfile:2", "the secret \"token\"", form, place]);
        assert_eq!(rig.store_listing(), before, "{run}");
    }
}

#[test]
fn extended_attributes_are_looked_at() {
    let source = r#"
        #include <stdlib.h>
        #include <string.h>
        #include <sys/xattr.h>
        int main(void) {
            const char *value = getenv("T");
            return setxattr("/usr", "user.note", value, strlen(value), 0) != 0;
        }"#;
    let Some(program) = host::compile(source) else {
        return;
    };
    let rig = Rig::new();
    rig.write("set", program).chmod("set", 0o755);
    let dockerfile = format!("FROM base\nCOPY set /set\nRUN {MOUNT} /set");
    let outcome = build(&rig, &dockerfile, &["--secret-scan=warn"]);
    // Not every file system keeps such attributes.
    if outcome.code == Some(0) {
        outcome.says(&["the secret \"token\" is in /usr"]);
    }
}

#[test]
fn a_warning_keeps_the_image() {
    let rig = Rig::new();
    let dockerfile = format!("FROM base\nRUN {MOUNT} echo $T > /plain");
    build(&rig, &dockerfile, &["--secret-scan=warn"])
        .succeeds()
        .says(&["the secret \"token\" is in /plain"]);
    let quiet = build(&rig, &dockerfile, &["--secret-scan=off"]).succeeds();
    assert!(!quiet.stderr.contains("the secret"), "{}", quiet.stderr);
}

#[test]
fn a_cached_step_is_looked_through_as_well() {
    let rig = Rig::new();
    let step = format!("RUN {MOUNT} echo $T > /plain");
    let dockerfile = format!("FROM base\n{step}");
    for output in ["type=image", "type=cacheonly"] {
        let rest = ["--output", output];
        build(&rig, &dockerfile, &rest).succeeds();
        build(&rig, &dockerfile, &[&["--secret-scan"][..], &rest].concat())
            .exits_with(1)
            .says(&["Dockerfile:2", "the secret \"token\" is in /plain"]);
        build(
            &rig,
            &dockerfile,
            &[&["--secret-scan=warn"][..], &rest].concat(),
        )
        .succeeds()
        .says(&["CACHED", "the secret \"token\" is in /plain"]);
    }
}

#[test]
fn a_secret_that_another_stage_or_the_context_leaves_is_found() {
    let rig = Rig::new();
    rig.write("file", format!("token={SECRET}"));
    build(&rig, "FROM base\nCOPY file /copied", &["--secret-scan"])
        .exits_with(1)
        .says(&["Dockerfile:2", "is in /copied"]);
    build(
        &rig,
        "FROM base\nCOPY --link file /linked/",
        &["--secret-scan"],
    )
    .exits_with(1)
    .says(&["Dockerfile:2", "is in /linked/file"]);
}

#[test]
fn configuration_and_history_are_looked_at() {
    let rig = Rig::new();
    let hex: String = SECRET.bytes().map(|byte| format!("{byte:02x}")).collect();
    for (dockerfile, places) in [
        (
            format!("FROM base\nENV B=c\nENV A={hex}"),
            ["Dockerfile:3", "Env["],
        ),
        (
            format!("FROM base\nLABEL a={hex}"),
            ["Dockerfile:2", "Labels, a"],
        ),
        (
            format!("FROM base\nLABEL {hex}=a"),
            ["Dockerfile:2", "Labels, ***"],
        ),
        (
            format!("FROM base\nRUN echo {hex}"),
            ["Dockerfile:2", "created_by"],
        ),
    ] {
        build(&rig, &dockerfile, &["--secret-scan"])
            .exits_with(1)
            .says(&["the secret \"token\" is in hexadecimal digits"])
            .says(&places);
    }
    // An argument is in the history, whatever becomes of it.
    let argument = format!("V={SECRET}");
    let options = ["--secret-scan", "--build-arg", &argument];
    build(&rig, "FROM base\nARG V", &options)
        .exits_with(1)
        .says(&["Dockerfile:2", "history[", "created_by"]);
    let label = format!("a={SECRET}");
    build(&rig, "FROM base", &["--secret-scan", "--label", &label])
        .exits_with(1)
        .says(&["Labels, a"]);
}

#[test]
fn an_honest_build_passes_and_short_secrets_are_named() {
    let rig = Rig::new();
    let honest = format!("FROM base\nRUN {MOUNT} test -n \"$T\" && echo fine > /fine && echo $T");
    build(&rig, &honest, &["--secret-scan=fail"]).succeeds();
    fs::write(rig.path("short"), "1234567").unwrap();
    let short = format!("id=short,src={}", rig.path("short").display());
    build(&rig, &honest, &["--secret-scan", "--secret", &short])
        .succeeds()
        .says(&["\"short\" is shorter than 8 bytes"]);
    build(&rig, &honest, &["--secret-scan=maybe"]).exits_with(2);
}

#[test]
fn the_strict_profile_looks_for_secrets() {
    let rig = Rig::new();
    let dockerfile = format!("FROM base\nRUN {MOUNT} echo $T > /plain");
    build(
        &rig,
        &dockerfile,
        &["--profile=multi-tenant", "--network=none"],
    )
    .exits_with(1)
    .says(&["is in /plain"]);
}

#[test]
fn a_token_in_the_configuration_of_a_repository_is_found_where_the_context_has_it() {
    let rig = Rig::new();
    for (config, form) in [
        (
            format!("[remote \"origin\"]\n\turl = https://me:{SECRET}@git.example/app\n"),
            "is in",
        ),
        (
            // What a workflow's checkout leaves behind.
            format!(
                "[http \"https://git.example/\"]\n\textraheader = AUTHORIZATION: basic {}\n",
                base64::engine::general_purpose::STANDARD
                    .encode(format!("x-access-token:{SECRET}"))
            ),
            "in base64",
        ),
    ] {
        rig.write(".git/config", config)
            .write(".git/HEAD", "ref: refs/heads/main\n")
            .write("app", "x");
        for copy in ["COPY . .", "ADD . /src/", "COPY --link . /src/"] {
            build(
                &rig,
                &format!("FROM base\nWORKDIR /src\n{copy}"),
                &["--secret-scan"],
            )
            .exits_with(1)
            .says(&[
                "Dockerfile:3",
                "the secret \"token\"",
                form,
                "/src/.git/config",
            ]);
        }
        rig.write(".dockerignore", ".git\n");
        build(
            &rig,
            "FROM base\nWORKDIR /src\nCOPY . .",
            &["--secret-scan"],
        )
        .succeeds();
        fs::remove_file(rig.context().join(".dockerignore")).unwrap();
    }
}
