//! `--check`, `--call` and the warnings of a build: what they print, and that nothing else happens.

use std::process::Stdio;

use serde_json::{Value, json};

use crate::rig::Rig;
use crate::rig::image::sha256;
use crate::rig::outcome::Outcome;
use crate::rig::registry::Registry;

const WRONG: &str = "FROM base AS Build\nARG foo=1\nCOPY x /$fo/\nCMD a\nCMD [\"b\"]\n";

/// Runs without a store, and expects that none is made.
#[track_caller]
fn look(dockerfile: &str, options: &[&str]) -> Outcome {
    let rig = Rig::empty();
    rig.dockerfile(dockerfile);
    let outcome = rig.build(options);
    assert!(!rig.store().exists(), "the store was touched");
    assert!(!outcome.stderr.contains("panicked"), "{}", outcome.stderr);
    outcome
}

fn stdout(outcome: &Outcome) -> String {
    String::from_utf8(outcome.stdout.clone()).unwrap()
}

#[test]
fn a_file_without_mistakes_is_said_to_be_so() {
    for options in [&["--check"][..], &["--call=check"], &["--call", "lint"]] {
        let outcome = look("FROM base\nRUN true\n", options).succeeds();
        assert_eq!(stdout(&outcome), "Check complete, no warnings found.\n");
        assert_eq!(outcome.stderr, "");
    }
}

#[test]
fn findings_are_printed_with_their_lines_as_buildkit_prints_them() {
    let outcome = look(
        "FROM base\n\nARG foo=1\nRUN true\n\nMAINTAINER me\n",
        &["--check"],
    );
    let outcome = outcome.exits_with(1);
    assert_eq!(
        stdout(&outcome),
        "\
Check complete, 1 warning has been found!

WARNING: MaintainerDeprecated - https://docs.docker.com/go/dockerfile/rule/maintainer-deprecated/
Maintainer instruction is deprecated in favor of using label
Dockerfile:6
--------------------
   4 |     RUN true
   5 |     \n   6 | >>> MAINTAINER me
   7 |     \n--------------------
help: write LABEL org.opencontainers.image.authors=\"me\"
"
    );
}

#[test]
fn every_stage_is_checked_unless_a_target_is_named() {
    let text = "FROM base AS a\nMAINTAINER me\nFROM base AS b\nMAINTAINER me\n";
    for (options, count) in [
        (&["--check"][..], 2),
        (&["--check", "--target=a"], 1),
        (&["--check", "--target=b"], 1),
    ] {
        let outcome = look(text, options).exits_with(1);
        let found = stdout(&outcome).matches("WARNING: ").count();
        assert_eq!(found, count, "{options:?}");
    }
}

#[test]
fn the_json_of_check_has_buildkits_shape() {
    let outcome = look(WRONG, &["--call=check,format=json"]).exits_with(1);
    let result: Value = serde_json::from_slice(&outcome.stdout).unwrap();
    let warnings = result["warnings"].as_array().unwrap();
    let names: Vec<&str> = warnings
        .iter()
        .map(|warning| warning["ruleName"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "StageNameCasing",
            "UndefinedVar",
            "MultipleInstructionsDisallowed",
            "JSONArgsRecommended",
        ]
    );
    assert_eq!(
        warnings[0],
        json!({
            "ruleName": "StageNameCasing",
            "description": "Stage names should be lowercase",
            "url": "https://docs.docker.com/go/dockerfile/rule/stage-name-casing/",
            "detail": "Stage name 'Build' should be lowercase",
            "location": {"ranges": [{"start": {"line": 1}, "end": {"line": 1}}]},
        })
    );
    assert_eq!(result["sources"][0]["filename"], "Dockerfile");
    assert_eq!(result["buildError"], Value::Null);
}

#[test]
fn what_would_be_refused_is_said_beside_the_findings() {
    let text = "FROM base\nMAINTAINER me\nCOPY --from=nothere:$x a b\n";
    look(text, &["--check"])
        .exits_with(1)
        .says(&["variable expansion"]);
    let text = "FROM ${x}\nMAINTAINER me\n";
    let outcome = look(text, &["--call=check,format=json"]).exits_with(1);
    let result: Value = serde_json::from_slice(&outcome.stdout).unwrap();
    assert_eq!(
        result["buildError"]["message"],
        "base name (${x}) should not be blank"
    );
    let outcome = look(text, &["--check"]).exits_with(1);
    let outcome = outcome.says(&["error: base name (${x}) should not be blank"]);
    assert!(stdout(&outcome).contains("MaintainerDeprecated"));
}

#[test]
fn findings_that_are_errors_are_named_by_their_rules() {
    let text = format!("# check=error=true;skip=JSONArgsRecommended\n{WRONG}");
    look(&text, &["--check"]).exits_with(1).says(&[
        "error: lint violation found for rules: MultipleInstructionsDisallowed, StageNameCasing, \
         UndefinedVar",
    ]);
    // Nothing is built and no store is made.
    let outcome = look(&text, &[]).exits_with(1);
    assert!(outcome.stdout.is_empty());
    outcome.says(&[
        "warning: Stage name 'Build' should be lowercase",
        "lint violation found for rules: ",
    ]);
    look("# check=error=maybe\nFROM base", &[])
        .exits_with(1)
        .says(&["failed to parse check options", "Dockerfile:1"]);
}

#[test]
fn a_dockerfile_on_stdin_is_checked_and_an_archive_is_not() {
    let rig = Rig::empty();
    let outcome = rig.build_from_stdin(&["--check", "-"], b"FROM base\nMAINTAINER me\n");
    assert!(stdout(&outcome.exits_with(1)).contains("MaintainerDeprecated"));
    rig.write("Dockerfile", "FROM base");
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_path_with_name(rig.context().join("Dockerfile"), "Dockerfile")
        .unwrap();
    let outcome = rig.build_from_stdin(&["--check", "-"], &tar.into_inner().unwrap());
    outcome.exits_with(1).says(&["context archive"]);
    assert!(!rig.store().exists());
}

#[test]
fn the_ignore_file_of_the_context_is_looked_at() {
    let rig = Rig::empty();
    rig.dockerfile("FROM base\nCOPY secret.txt /\n");
    rig.write(".dockerignore", "*.txt\n");
    let outcome = rig.build(&["--check"]).exits_with(1);
    let text = stdout(&outcome);
    assert!(text.contains("WARNING: CopyIgnoredFile"), "{text}");
    assert!(
        text.contains("line 1 of .dockerignore hides it: *.txt"),
        "{text}"
    );
}

#[test]
fn warnings_of_a_build_are_listed_below_it() {
    let rig = Rig::new();
    rig.dockerfile("FROM base\nENV a 1\nCMD a\n");
    let outcome = rig.build(&[]).succeeds();
    let list = "\n 2 warnings found (--check shows more):\n - LegacyKeyValueFormat: \"ENV \
                key=value\" should be used instead of legacy \"ENV key value\" format (line 2)\n \
                - JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended \
                behavior related to OS signals (line 3)\n";
    assert!(outcome.stderr.ends_with(list), "{}", outcome.stderr);
    outcome.id();
    // Also when a step fails, before its message.
    rig.dockerfile("FROM base\nENV a 1\nRUN false\n");
    let outcome = rig.build(&[]).exits_with(1);
    let warning = outcome.stderr.find(" 1 warning found").unwrap();
    assert!(warning < outcome.stderr.find("error: process").unwrap());
    // Quiet is quiet.
    rig.dockerfile("FROM base\nENV a 1\n");
    assert_eq!(rig.build(&["-q"]).succeeds().stderr, "");
    let outcome = rig.build(&["--progress=rawjson"]).succeeds();
    assert!(outcome.stderr.contains("LegacyKeyValueFormat: "));
}

#[test]
fn stages_that_are_not_built_are_not_warned_about() {
    let rig = Rig::new();
    rig.dockerfile("FROM base AS a\nENV a 1\nFROM base AS b\n");
    let outcome = rig.build(&[]).succeeds();
    assert!(!outcome.stderr.contains("warning"), "{}", outcome.stderr);
}

#[test]
fn a_base_image_for_another_platform_is_warned_about() {
    let rig = Rig::empty();
    let registry = Registry::start();
    let config = json!({
        "architecture": "s390x", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": []},
    })
    .to_string();
    let digest = sha256(config.as_bytes());
    registry.set_blob("team/foreign", &digest, config.as_bytes());
    let manifest = json!({
        "schemaVersion": 2, "layers": [],
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": digest, "size": config.len(),
        },
    });
    registry.set_manifest(
        "team/foreign",
        "v1",
        manifest["mediaType"].as_str().unwrap(),
        manifest.to_string().as_bytes(),
    );
    let text = format!("FROM {}/team/foreign:v1\nENV a=b\n", registry.host());
    rig.dockerfile(&text);
    let outcome = rig.build(&[]).succeeds();
    outcome.says(&[
        " - InvalidBaseImagePlatform: Base image ",
        "linux/s390x",
        " (line 1)",
    ]);
    rig.dockerfile(&format!("# check=error=true\n{text}"));
    let outcome = rig.build(&[]).exits_with(1);
    outcome.says(&["lint violation found for rules: InvalidBaseImagePlatform"]);
}

const OUTLINE: &str = "\
# VERSION of the base
ARG VERSION=1
FROM base:${VERSION} AS tools
ARG UNUSED
# build makes the program
FROM base AS build
ARG VERSION
# MODE to build in
ARG MODE=debug
RUN --mount=type=secret,id=token,required=true --mount=type=ssh --mount=type=cache,target=/c true
FROM base
";

#[test]
fn the_outline_lists_what_a_target_takes() {
    let outcome = look(OUTLINE, &["--call=outline", "--target=build"]);
    let text = stdout(&outcome);
    assert_eq!(
        text,
        "\
TARGET:      build
DESCRIPTION: makes the program

BUILD ARG   VALUE   DESCRIPTION
VERSION     1       of the base
MODE        debug   to build in

SECRET   REQUIRED
token    true

SSH       REQUIRED
default   \n\n"
    );
    let options = &[
        "--call=outline,format=json",
        "--target=build",
        "--build-arg=MODE=x",
    ];
    let outcome = look(OUTLINE, options);
    let result: Value = serde_json::from_slice(&outcome.stdout).unwrap();
    assert_eq!(result["name"], "build");
    let line = |line: u32| json!({"ranges": [{"start": {"line": line}, "end": {"line": line}}]});
    assert_eq!(
        result["args"][1],
        json!({"name": "MODE", "description": "to build in", "value": "x", "location": line(9)})
    );
    assert_eq!(
        result["secrets"],
        json!([{"name": "token", "required": true, "location": line(10)}])
    );
    assert_eq!(result["cache"], json!([{"ID": "/c", "location": line(10)}]));
}

#[test]
fn the_targets_are_listed_in_their_order() {
    let outcome = look(OUTLINE, &["--call=targets"]).succeeds();
    assert_eq!(
        stdout(&outcome),
        "TARGET    DESCRIPTION\ntools     \nbuild     makes the program\n(default) \n"
    );
    let outcome = look(OUTLINE, &["--call=targets,format=json"]).succeeds();
    let result: Value = serde_json::from_slice(&outcome.stdout).unwrap();
    assert_eq!(
        result["targets"][2],
        json!({
            "default": true,
            "base": "base",
            "location": {"ranges": [{"start": {"line": 11}, "end": {"line": 11}}]},
        })
    );
    assert_eq!(result["targets"][1]["description"], "makes the program");
}

#[test]
fn a_call_that_is_not_known_is_a_wrong_usage() {
    for call in [
        "--call=what",
        "--call=check,format=xml",
        "--error-format=xml",
    ] {
        look("FROM base", &[call]).exits_with(2);
    }
}

#[test]
fn nobody_reading_is_a_failure_and_no_panic() {
    let rig = Rig::empty();
    rig.dockerfile(WRONG);
    let mut command = rig.build_command(&["--check"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"));
}
