use std::collections::BTreeSet;

use super::*;
use crate::dockerfile::parse;

fn findings_with(text: &str, ignore: Option<&Ignore>, build_args: &[(&str, &str)]) -> Checked {
    let dockerfile = parse(text).unwrap();
    let build_args: Vec<(String, String)> = build_args
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    check(&Subject {
        source: text,
        dockerfile: &dockerfile,
        build_args: &build_args,
        platform: &Platform::new("linux", "amd64", None),
        target: None,
        ignore,
        stages: Vec::new(),
    })
    .unwrap()
}

fn findings(text: &str) -> Vec<Finding> {
    findings_with(text, None, &[]).findings
}

const EXPERIMENTAL: &str = "# check=experimental=all\n";

/// Rule, what makes it speak, its message, the text that it points at, the line it names, and a text
/// that is nearly the same and right.
type Case = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    usize,
    &'static str,
);

const CASES: &[Case] = &[
    (
        "StageNameCasing",
        "FROM a AS Build",
        "Stage name 'Build' should be lowercase",
        "Build",
        1,
        "FROM a AS build",
    ),
    (
        "FromAsCasing",
        "FROM a as b",
        "'as' and 'FROM' keywords' casing do not match",
        "as",
        1,
        "FROM a AS b",
    ),
    (
        "NoEmptyContinuation",
        "FROM a\nENV A=1 \\\n\n  B=2",
        "Empty continuation line",
        "",
        4,
        "FROM a\nENV A=1 \\\n#\n  B=2",
    ),
    (
        "ConsistentInstructionCasing",
        "FROM a\nUSER b\ncopy a b",
        "Command 'copy' should match the case of the command majority (uppercase)",
        "copy",
        3,
        "from a\nuser b\ncopy a b",
    ),
    (
        "ConsistentInstructionCasing",
        "FROM a\nUser b",
        "Command 'User' should match the case of the command majority (uppercase)",
        "User",
        2,
        "FROM a\nUSER b",
    ),
    (
        "DuplicateStageName",
        "FROM a AS x\nFROM b AS X",
        "Duplicate stage name \"x\", stage names should be unique",
        "X",
        2,
        "FROM a AS x\nFROM b AS y",
    ),
    (
        "ReservedStageName",
        "FROM a AS context",
        "Stage name should not use the same name as reserved stage \"context\"",
        "context",
        1,
        "FROM a AS contexts",
    ),
    (
        "JSONArgsRecommended",
        "FROM a\nENTRYPOINT serve --all",
        "JSON arguments recommended for ENTRYPOINT to prevent unintended behavior related to OS \
         signals",
        "serve --all",
        2,
        "FROM a\nSHELL [\"/bin/bash\", \"-c\"]\nENTRYPOINT serve --all",
    ),
    (
        "MaintainerDeprecated",
        "FROM a\nMAINTAINER me",
        "Maintainer instruction is deprecated in favor of using label",
        "MAINTAINER",
        2,
        "FROM a\nLABEL maintainer=me",
    ),
    (
        "UndefinedArgInFrom",
        "ARG VERSION=1\nFROM a:${VERSIN}1",
        "FROM argument 'VERSIN' is not declared (did you mean VERSION?)",
        "a:${VERSIN}1",
        2,
        "ARG VERSION\nFROM a:${VERSION}1\nFROM --platform=$BUILDPLATFORM b",
    ),
    (
        "WorkdirRelativePath",
        "FROM a\nWORKDIR app",
        "Relative workdir \"app\" can have unexpected results if the base image changes",
        "app",
        2,
        "FROM a AS x\nWORKDIR /app\nWORKDIR src\nFROM x\nWORKDIR b",
    ),
    (
        "UndefinedVar",
        "ARG tag\nFROM a\nCOPY $tag/x /y",
        "Usage of undefined variable '$tag'",
        "$tag",
        3,
        "ARG tag\nFROM a\nARG tag\nCOPY $tag/x /y",
    ),
    (
        "UndefinedVar",
        "FROM a\nENV PATH=/x:$PAHT",
        "Usage of undefined variable '$PAHT' (did you mean $PATH?)",
        "$PAHT",
        2,
        "FROM a\nENV PATH=/x:$PATH:$GOPATH",
    ),
    (
        "UndefinedVar",
        "FROM scratch\nENV A=1 B=${A}",
        "Usage of undefined variable '$A'",
        "${A}",
        2,
        "FROM scratch\nENV A=1\nENV B=${A}",
    ),
    (
        "MultipleInstructionsDisallowed",
        "FROM a\nCMD [\"a\"]\nCMD [\"b\"]",
        "Multiple CMD instructions should not be used in the same stage because only the last one \
         will be used",
        "CMD [\"a\"]",
        2,
        "FROM a AS x\nCMD [\"a\"]\nFROM x\nCMD [\"b\"]",
    ),
    (
        "LegacyKeyValueFormat",
        "FROM a\nENV key the value",
        "\"ENV key=value\" should be used instead of legacy \"ENV key value\" format",
        "key the value",
        2,
        "FROM a\nENV key=\"the value\"",
    ),
    (
        "RedundantTargetPlatform",
        "FROM --platform=$TARGETPLATFORM a",
        "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the \
         default behavior",
        "$TARGETPLATFORM",
        1,
        "FROM --platform=$BUILDPLATFORM a",
    ),
    (
        "SecretsUsedInArgOrEnv",
        "FROM a\nENV DB_PASSWORD=x",
        "Do not use ARG or ENV instructions for sensitive data (ENV \"DB_PASSWORD\")",
        "DB_PASSWORD",
        2,
        "FROM a\nENV DB_PASSWORD_FILE=/run/secrets/db",
    ),
    (
        "InvalidDefaultArgInFrom",
        "ARG TAG\nFROM a:$TAG",
        "Default value for ARG a:$TAG results in empty or invalid base image name",
        "a:$TAG",
        2,
        "ARG TAG=1\nFROM a:$TAG",
    ),
    (
        "FromPlatformFlagConstDisallowed",
        "FROM --platform=linux/amd64 a AS x",
        "FROM --platform flag should not use constant value \"linux/amd64\"",
        "linux/amd64",
        1,
        "FROM --platform=linux/amd64 a AS x-amd64",
    ),
    (
        "InvalidDefinitionDescription",
        "# the version\nARG VERSION=1\nFROM a",
        "Comment for ARG should follow the format: `# VERSION <description>`",
        "the version",
        3,
        "# VERSION of it\nARG VERSION=1\n# other\n\nFROM a",
    ),
    (
        "ExposeProtoCasing",
        "FROM a\nEXPOSE 80/TCP",
        "Defined protocol '80/TCP' in EXPOSE instruction should be lowercase",
        "80/TCP",
        2,
        "FROM a\nEXPOSE 80/tcp",
    ),
    (
        "ExposeInvalidFormat",
        "FROM a\nEXPOSE 127.0.0.1:80:80",
        "EXPOSE instruction should not define an IP address or host-port mapping, found \
         '127.0.0.1:80:80'",
        "127.0.0.1:80:80",
        2,
        "FROM a\nEXPOSE 80",
    ),
    (
        "BrokenJSONForm",
        "FROM a\nRUN ['a', 'b']",
        "looks like a JSON array but is not valid JSON",
        "['a', 'b']",
        2,
        "FROM a\nRUN [ \"$a\" = \"b\" ]",
    ),
    (
        "HealthcheckFlagsIgnored",
        "FROM a\nHEALTHCHECK --retries=1 NONE",
        "flags have no effect on HEALTHCHECK NONE",
        "HEALTHCHECK --retries=1 NONE",
        2,
        "FROM a\nHEALTHCHECK NONE",
    ),
    (
        "PlatformArgRedefined",
        "FROM a\nARG TARGETARCH=amd64",
        "The default of TARGETARCH hides the value that the builder gives it",
        "ARG TARGETARCH=amd64",
        2,
        "FROM a\nARG TARGETARCH",
    ),
    (
        "RunCdUseless",
        "FROM a\nRUN cd /app",
        "The directory is forgotten when this RUN ends",
        "RUN cd /app",
        2,
        "FROM a\nRUN cd /app && make",
    ),
    (
        "RunExportUseless",
        "FROM a\nRUN export A=b",
        "The variable is forgotten when this RUN ends",
        "RUN export A=b",
        2,
        "FROM a\nRUN export A=b; make",
    ),
    (
        "SecretInRunText",
        "FROM a\nRUN git clone https://me:hunter2@git.corp/x",
        "The instruction holds a password in a URL, which everyone with the image can read",
        "https://me:hunter2",
        2,
        "FROM a\nRUN git clone https://me:$TOKEN@git.corp/x",
    ),
    (
        "UnknownCheck",
        "# check=skip=StageNamCasing\nFROM a",
        "No rule is called 'StageNamCasing' (did you mean StageNameCasing?)",
        "skip=StageNamCasing",
        1,
        "# check=skip=DL3008\nFROM a",
    ),
    (
        "UnreachableStage",
        "FROM a\nRUN b\nFROM c",
        "Stage 0 has no name and no other stage reads it",
        "FROM a",
        1,
        "FROM a\nRUN b\nFROM c\nCOPY --from=0 d d",
    ),
    (
        "AddForPlainFile",
        "FROM a\nADD b c",
        "ADD only copies here, which COPY says more clearly",
        "ADD",
        3,
        "FROM a\nADD b.tar.gz https://c/d /",
    ),
    (
        "AptListsNotRemoved",
        "FROM a\nRUN apt-get update && apt-get install -y b",
        "The package lists stay in the layer",
        "apt-get update",
        3,
        "FROM a\nRUN --mount=type=cache,target=/var/lib/apt apt-get update\nRUN apt-get update && \
         rm -r /var/lib/apt/lists/*",
    ),
    (
        "ChownAfterCopy",
        "FROM a\nCOPY b /c/\nRUN chown -R d /c",
        "The files are in two layers, with and without the new owner",
        "RUN chown -R d /c",
        4,
        "FROM a\nCOPY --chown=d b /c/\nRUN chown -R d /e",
    ),
    (
        "CopyDotBeforeDeps",
        "FROM a\nCOPY . .\nRUN npm ci",
        "Every change of a file repeats the installation of the dependencies",
        "COPY . .",
        3,
        "FROM a\nCOPY package.json .\nRUN npm ci\nCOPY . .",
    ),
    (
        "SudoInRun",
        "FROM a\nRUN sudo b",
        "sudo is not needed: use USER to change who runs the commands",
        "sudo",
        3,
        "FROM a\nRUN apt-get install sudo",
    ),
];

/// With the experimental rules switched on for the cases that need them.
fn prepared(rule: &str, text: &str) -> String {
    let experimental = rule::find(rule).unwrap().experimental;
    let start = if experimental { EXPERIMENTAL } else { "" };
    format!("{start}{text}")
}

#[test]
fn every_rule_speaks_of_its_mistake_at_its_place_and_not_of_what_is_right() {
    for (rule, wrong, message, at, line, right) in CASES {
        let text = prepared(rule, wrong);
        let found = findings(&text);
        let finding = found
            .iter()
            .find(|finding| finding.rule.name == *rule)
            .unwrap_or_else(|| panic!("{rule} is silent about {wrong:?}: {found:?}"));
        let span = finding.diagnostic.span;
        assert_eq!(finding.diagnostic.message, *message, "{rule}");
        assert_eq!(&text[span.start..span.end], *at, "{rule}");
        assert_eq!(finding.lines.0, *line, "{rule}");
        assert!(finding.rule.url().is_some() || !finding.rule.description.is_empty());
        let text = prepared(rule, right);
        let found = findings(&text);
        assert!(
            found.iter().all(|finding| finding.rule.name != *rule),
            "{rule} speaks about {right:?}: {found:?}"
        );
    }
}

#[test]
fn every_rule_has_a_case() {
    let tested: BTreeSet<&str> = CASES.iter().map(|case| case.0).collect();
    for rule in rule::ALL {
        // These need a context or an image.
        let elsewhere = ["CopyIgnoredFile", "InvalidBaseImagePlatform"];
        assert!(
            tested.contains(rule.name) || elsewhere.contains(&rule.name),
            "{} has no case",
            rule.name
        );
    }
}

#[test]
fn a_file_that_the_ignore_file_hides_is_seen() {
    for (rules, text, found) in [
        ("secret\n", "COPY secret x", true),
        ("dir\n", "ADD ./dir/a/../b x", true),
        ("dir\n!dir/b\n", "COPY dir/a x", false),
        ("secret\n", "COPY --from=b secret x", false),
        ("secret\n", "COPY s*t x", false),
        ("*\n", "COPY . x", false),
        ("secret\n", "ADD https://a/secret x", false),
    ] {
        let ignore = Ignore::parse(".dockerignore", rules).unwrap();
        let text = format!("FROM a\n{text}");
        let checked = findings_with(&text, Some(&ignore), &[]);
        let names: Vec<&str> = checked.findings.iter().map(|f| f.rule.name).collect();
        assert_eq!(
            names.contains(&"CopyIgnoredFile"),
            found,
            "{rules:?} {text}"
        );
    }
    let ignore = Ignore::parse(".dockerignore", "# x\nsecret*\n").unwrap();
    let checked = findings_with("FROM a\nCOPY secret.txt x", Some(&ignore), &[]);
    let diagnostic = &checked.findings[0].diagnostic;
    assert_eq!(
        diagnostic.message,
        "Attempting to Copy file \"secret.txt\" that is excluded by .dockerignore"
    );
    assert_eq!(
        diagnostic.help.as_deref(),
        Some("line 2 of .dockerignore hides it: secret*")
    );
}

#[test]
fn related_places_and_fixes_are_named() {
    let text = "FROM a\nCMD [\"a\"]\nCMD [\"b\"]";
    let found = &findings(text)[0].diagnostic;
    let (related, why) = &found.related[0];
    assert_eq!((related.start, why.as_str()), (17, "replaced here"));
    let text = "ARG tag=1\nFROM a\nLABEL v=$tag";
    let found = &findings(text)[0].diagnostic;
    assert_eq!(
        &text[found.related[0].0.start..found.related[0].0.end],
        "ARG tag=1"
    );
    assert_eq!(
        found.help.as_deref(),
        Some("add ARG tag above this instruction")
    );
    let text = "FROM a\nCMD node index.js";
    let found = &findings(text)[0].diagnostic;
    assert_eq!(
        found.help.as_deref(),
        Some("write CMD [\"node\", \"index.js\"]")
    );
    // The shell does more than to split words: there is nothing to suggest.
    let text = "FROM a\nCMD node $FILE";
    assert_eq!(findings(text)[0].diagnostic.help, None);
}

#[test]
fn findings_are_skipped_for_the_file_and_for_one_instruction() {
    let wrong = "MAINTAINER a";
    for (text, count) in [
        (format!("FROM a\n{wrong}"), 1),
        (
            format!("# check=skip=MaintainerDeprecated\nFROM a\n{wrong}"),
            0,
        ),
        (format!("# check=skip=all\nFROM a\n{wrong}"), 0),
        (
            format!("FROM a\n# check=skip=MaintainerDeprecated\n{wrong}"),
            0,
        ),
        (format!("FROM a\n# check=skip=all\n{wrong}\n{wrong}"), 1),
        (format!("FROM a\n# check=skip=StageNameCasing\n{wrong}"), 1),
        (format!("FROM a\n# check=skip=all\n\nUSER b\n{wrong}"), 1),
        (
            "FROM a\n# check=experimental=SudoInRun\nRUN sudo b".to_owned(),
            1,
        ),
    ] {
        assert_eq!(findings(&text).len(), count, "{text}");
    }
}

#[test]
fn the_build_argument_replaces_the_directive() {
    let text = "# check=skip=all;error=true\nFROM a\nMAINTAINER b";
    assert_eq!(findings(text).len(), 0);
    let given = [("BUILDKIT_DOCKERFILE_CHECK", "error=false")];
    let checked = findings_with(text, None, &given);
    assert_eq!((checked.findings.len(), checked.is_error), (1, false));
    let given = [("BUILDKIT_DOCKERFILE_CHECK", "error=true")];
    let checked = findings_with("FROM a AS B\nMAINTAINER b\nMAINTAINER c", None, &given);
    assert_eq!(
        checked.violation().as_deref(),
        Some("lint violation found for rules: MaintainerDeprecated, StageNameCasing")
    );
}

#[test]
fn options_that_cannot_be_read_are_an_error_with_its_place() {
    for text in [
        "# check=skip\nFROM a",
        "FROM a\n# check=what=x\nMAINTAINER b",
    ] {
        let dockerfile = parse(text).unwrap();
        let error = check(&Subject {
            source: text,
            dockerfile: &dockerfile,
            build_args: &[],
            platform: &Platform::host(),
            target: None,
            ignore: None,
            stages: Vec::new(),
        })
        .unwrap_err();
        assert!(error.message.starts_with("failed to parse check options: "));
        assert!(error.span.start > 0);
    }
}

#[test]
fn a_base_image_for_another_platform_is_found() {
    let dockerfile = parse("FROM a").unwrap();
    let from = &dockerfile.stages[0].from;
    let platform = |architecture| Platform::new("linux", architecture, None);
    assert_eq!(
        base_platform("a", from, &platform("amd64"), &platform("amd64")),
        None
    );
    let finding = base_platform("a", from, &platform("amd64"), &platform("arm64")).unwrap();
    assert_eq!(
        finding.diagnostic.message,
        "Base image a was pulled with platform \"linux/arm64\", expected \"linux/amd64\" for \
         current build"
    );
    let mut checked = findings_with("# check=skip=InvalidBaseImagePlatform\nFROM a", None, &[]);
    checked.add(finding);
    assert!(checked.findings.is_empty());
}
