mod cases;

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::dockerfile::parse;
use cases::CASES;

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
fn a_stage_whose_name_is_in_a_variable_is_known() {
    let stages = "FROM a AS x-1\nSHELL [\"/bin/bash\", \"-c\"]\nARG tag\nWORKDIR /b\n";
    let text = format!("ARG n=1\n{stages}FROM x-$n\nLABEL t=$tag\nWORKDIR c\nCMD d");
    assert_eq!(findings(&text), []);
    let text = text.replace("x-$n", "y-$n");
    let names: Vec<&str> = findings(&text).iter().map(|f| f.rule.name).collect();
    assert_eq!(names, ["WorkdirRelativePath", "JSONArgsRecommended"]);
}

#[test]
fn a_platform_argument_that_is_not_declared_is_undefined() {
    let text = "FROM a\nCOPY bin-$TARGETARCH /";
    let found = findings(text);
    assert_eq!(found[0].rule.name, "UndefinedVar");
    let help = found[0].diagnostic.help.as_deref();
    assert_eq!(help, Some("add ARG TARGETARCH above this instruction"));
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
    for text in ["# check=skip\nFROM a", "FROM a\n# check=what=x\nUSER b"] {
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

proptest! {
    #[test]
    fn no_text_that_parses_panics_and_every_place_lies_in_it(
        parts in prop::collection::vec(prop::sample::select(FRAGMENTS), 0..30)
    ) {
        let text = format!("# check=experimental=all\nFROM a\n{}", parts.concat());
        if parse(&text).is_ok() {
            let ignore = Ignore::parse(".dockerignore", "a*\nü").unwrap();
            for finding in findings_with(&text, Some(&ignore), &[]).findings {
                let diagnostic = &finding.diagnostic;
                let related = diagnostic.related.iter().map(|(span, _)| *span);
                for span in related.chain([diagnostic.span]) {
                    prop_assert!(text.get(span.start..span.end).is_some());
                }
                let (first, last) = finding.lines;
                prop_assert!(1 <= first && first <= last && last <= text.split('\n').count());
            }
        }
    }
}

const FRAGMENTS: &[&str] = &[
    "FROM ",
    "from ",
    "FROM a aS Ü\n",
    "FROM a as b\n",
    "ARG ",
    "ARG a=1\n",
    "RUN ",
    "RUN cd /ü\n",
    "COPY . .\n",
    "COPY ",
    "ADD ",
    "ENV ",
    "ENV a ü\n",
    "CMD ",
    "MAINTAINER ü\n",
    "WORKDIR ",
    "EXPOSE 80/TCP ",
    "HEALTHCHECK ",
    "ONBUILD ",
    "--platform=$x ",
    "--mount=type=cache,id=$ü ",
    "--from=0 ",
    "$a",
    "${aü}",
    "\\\n",
    "\n",
    "\n\n",
    "# check=skip=all\n",
    "# ü\n",
    "sudo ",
    "ü",
    "a",
    "ghp_",
    "https://a:b@c ",
    "apt-get update ",
    "chown a b ",
    "<<E\n",
    "\nE\n",
    "\r\n",
    " ",
];

#[test]
fn every_rule_of_ours_is_in_the_readme() {
    let readme = include_str!("../../README.md");
    for rule in rule::ALL.iter().filter(|rule| rule.url().is_none()) {
        let row = format!("| `{}` |", rule.name);
        let line = readme.lines().find(|line| line.starts_with(&row));
        let line = line.unwrap_or_else(|| panic!("README.md has no row {row}"));
        assert_eq!(
            line.contains("experimental"),
            rule.experimental,
            "{}",
            rule.name
        );
    }
}
