//! Errors as people and programs read them: all at once, at their exact place, in BuildKit's words.

use serde_json::{Value, json};

use crate::rig::Rig;

/// Each line of standard error that is a JSON object.
fn objects(stderr: &str) -> Vec<Value> {
    stderr
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

#[test]
fn texts_that_tools_look_for_are_buildkits() {
    for (text, options, needle) in [
        (
            "RUNN x",
            &[][..],
            "unknown instruction: RUNN (did you mean RUN?)",
        ),
        (
            "COPY --chwon=1 a b",
            &[],
            "unknown flag: --chwon (did you mean chown?)",
        ),
        ("COPY --from a b", &[], "missing a value on flag: --from"),
        (
            "COPY --from=a --from=b c d",
            &[],
            "duplicate flag specified: --from",
        ),
        (
            "RUN --mount=type=cache,targt=/a x",
            &[],
            "unexpected key 'targt' in 'targt=/a' (did you mean target?)",
        ),
        (
            "RUN --mount=type=bin,target=/a x",
            &[],
            "unsupported mount type \"bin\" (did you mean bind?)",
        ),
        ("RUN <<EOF\nx", &[], "unterminated heredoc"),
        (
            "HEALTHCHECK NONE x",
            &[],
            "HEALTHCHECK NONE takes no arguments",
        ),
        ("EXPOSE", &[], "EXPOSE requires at least one argument"),
        (
            "FROM b AS 1x",
            &[],
            "invalid name for build stage: \"1x\", name can't start with a number or contain \
             symbols",
        ),
        ("FROM $X", &[], "base name ($X) should not be blank"),
        (
            "FROM a AS x\nCOPY --from=x b c",
            &[],
            "circular dependency detected on stage: x",
        ),
        (
            "FROM a AS x\nCOPY --from=y b c\nFROM a AS y",
            &[],
            "cannot copy from stage \"y\", it needs to be defined before current stage \"x\"",
        ),
        (
            "FROM a AS build",
            &["--target=biuld"],
            "target stage \"biuld\" could not be found (did you mean build?)",
        ),
        (
            "COPY --from=$x a b",
            &[],
            "variable expansion is not supported for --from, define a new stage with FROM using \
             ARG from global scope as a workaround",
        ),
        (
            "ONBUILD ONBUILD RUN x",
            &[],
            "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
        ),
        ("ENV a", &[], "ENV must have two arguments"),
        (
            "RUN [\"a\", 1]",
            &[],
            "when using JSON array syntax, arrays must be comprised of strings only",
        ),
    ] {
        let rig = Rig::empty();
        rig.dockerfile(&format!("FROM base\n{text}\n"));
        let options = [options, &["--error-format=json"]].concat();
        let outcome = rig.build(&options).exits_with(1);
        let messages: Vec<Value> = objects(&outcome.stderr)
            .into_iter()
            .map(|object| object["message"].clone())
            .collect();
        assert!(messages.contains(&json!(needle)), "{text}: {messages:?}");
        assert!(!rig.store().exists());
    }
    for (text, needle) in [
        ("", "the Dockerfile cannot be empty"),
        ("# x\n", "file with no instructions"),
        ("ARG a\n", "dockerfile contains no stages to build"),
        ("RUN x\n", "no build stage in current context"),
    ] {
        let rig = Rig::empty();
        rig.dockerfile(text);
        rig.build(&[]).exits_with(1).says(&[needle]);
    }
}

#[test]
fn a_failed_step_is_said_in_buildkits_words() {
    let rig = Rig::new();
    rig.dockerfile("FROM base\nRUN echo before; exit 7\n");
    rig.build(&[]).exits_with(1).says(&[
        "process \"/bin/sh -c echo before; exit 7\" did not complete successfully: exit code: 7",
        "   2 | >>> RUN echo before; exit 7",
    ]);
}

#[test]
fn all_errors_of_a_file_are_underlined_in_one_run() {
    let rig = Rig::empty();
    rig.dockerfile("FROM base\nRUNN x\nCOPY --from=a --from=b c d\nEXPOSE 99999\n");
    let outcome = rig.build(&[]).exits_with(1);
    assert_eq!(
        outcome.stderr.matches("error: ").count(),
        3,
        "{}",
        outcome.stderr
    );
    outcome.says(&[
        "2 | RUNN x\n  | ^^^^\n",
        "3 | COPY --from=a --from=b c d\n  |      -------- ^^^^^^^^\n",
        "first given here",
        "4 | EXPOSE 99999\n  |        ^^^^^\n",
    ]);
}

#[test]
fn json_messages_have_exact_places() {
    let rig = Rig::empty();
    rig.dockerfile("FROM base\nLABEL ü=\"é\" --x\nCOPY --from=a --from=b c d\n");
    let outcome = rig.build(&["--error-format=json"]).exits_with(1);
    let objects = objects(&outcome.stderr);
    assert_eq!(objects.len(), outcome.stderr.lines().count());
    assert_eq!(
        objects[0],
        json!({
            "severity": "error", "code": "Dockerfile",
            "message": "Syntax error - can't find = in \"--x\". Must be of the form: name=value",
            "file": "Dockerfile", "line": 2, "column": 13, "end": {"line": 2, "column": 16},
            "help": "a value with blanks stands in quotes: `name=\"a b\"`",
        })
    );
    assert_eq!(
        objects[1]["related"],
        json!([{
            "file": "Dockerfile", "line": 3, "column": 6, "end": {"line": 3, "column": 14},
            "message": "first given here",
        }])
    );
}

#[test]
fn warnings_and_failed_steps_are_json_too() {
    let rig = Rig::new();
    rig.dockerfile("FROM base\nENV a 1\nRUN echo hello; false\n");
    let outcome = rig.build(&["--error-format=json", "-o", "type=cacheonly"]);
    let objects = objects(&outcome.exits_with(1).stderr);
    assert_eq!(objects.len(), 2, "{objects:?}");
    assert_eq!(objects[0]["severity"], "warning");
    assert_eq!(objects[0]["code"], "LegacyKeyValueFormat");
    assert_eq!(
        (&objects[0]["line"], &objects[0]["column"]),
        (&json!(2), &json!(5))
    );
    assert_eq!(objects[1]["code"], "Step");
    assert_eq!(objects[1]["line"], 3);
    assert!(objects[1]["log"][0].as_str().unwrap().ends_with("hello"));
}

#[test]
fn github_gets_annotations() {
    let rig = Rig::empty();
    rig.dockerfile("FROM base\nRUNN 100%\n");
    rig.build(&["--error-format=github"]).exits_with(1).says(&[
        "::error file=Dockerfile,line=2,col=1,endLine=2,endColumn=5,title=Dockerfile::unknown \
         instruction: RUNN (did you mean RUN?)%0Ahelp: known instructions: ADD, ",
    ]);
    rig.dockerfile("FROM base AS B\n");
    let outcome = rig
        .build(&["--check", "--error-format=github"])
        .exits_with(1);
    assert!(outcome.stdout.is_empty());
    outcome.says(&[
        "::warning file=Dockerfile,line=1,col=14,endLine=1,endColumn=15,title=StageNameCasing::\
         Stage name 'B' should be lowercase%0Ahelp: write b",
    ]);
}
