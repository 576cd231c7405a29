use super::*;

fn logical(source: &str) -> Vec<(usize, String)> {
    let mut lines = Lines::new(source);
    std::iter::from_fn(|| lines.next_logical())
        .map(|line| (line.number, line.text.as_str().to_owned()))
        .collect()
}

fn texts(source: &str) -> Vec<String> {
    logical(source).into_iter().map(|(_, text)| text).collect()
}

#[test]
fn lines_are_joined_as_buildkit_joins_them() {
    for (source, expected) in [
        ("", &[][..]),
        ("\n \t\n", &[]),
        ("# only\n  # comments\n", &[]),
        ("RUN a", &["RUN a"]),
        ("  \tRUN a\n", &["RUN a"]),
        ("RUN a \\\n  b\n", &["RUN a   b"]),
        ("RUN a\\\nb\n", &["RUN ab"]),
        ("RUN a \\  \t\nb\n", &["RUN a b"]),
        ("RUN a \\\\\nRUN b\n", &["RUN a \\\\", "RUN b"]),
        ("RUN a \\\\\\\nRUN b\n", &["RUN a \\\\\\", "RUN b"]),
        ("RUN a \\\n  # comment\n  b\n", &["RUN a   b"]),
        ("RUN a \\\n  # comment \\\n  b\n", &["RUN a   b"]),
        ("RUN a \\\n\n  b\n", &["RUN a   b"]),
        ("RUN a # data\n", &["RUN a # data"]),
        ("RUN a \\\n", &["RUN a "]),
        ("RUN a \\", &["RUN a "]),
        ("\\\nRUN a\n", &["RUN a"]),
        ("\\\n", &[]),
        ("RUN \\\n\\\na\n", &["RUN a"]),
        ("\u{feff}RUN a\n", &["RUN a"]),
        ("RUN a \\\r\n  b\r\nRUN c\r\n", &["RUN a   b", "RUN c"]),
        ("# escape=`\nRUN a `\n b\\\nRUN c", &["RUN a  b\\", "RUN c"]),
        ("#!/usr/bin/env x\nRUN a", &["RUN a"]),
    ] {
        assert_eq!(texts(source), expected, "{source:?}");
    }
}

#[test]
fn a_long_line_is_accepted() {
    let source = format!("RUN {}", "x".repeat(100_000));
    assert_eq!(texts(&source), [source.as_str()]);
}

#[test]
fn logical_lines_know_the_line_they_start_on() {
    let source = "# c\n\nRUN a \\\n b\n\nRUN c\n";
    let expected = [(3, "RUN a  b".to_owned()), (6, "RUN c".to_owned())];
    assert_eq!(logical(source), expected);
}

#[test]
fn directives_stand_only_at_the_top() {
    for (source, syntax, check, escape) in [
        (
            "# syntax=docker/dockerfile:1\n",
            Some("docker/dockerfile:1"),
            None,
            '\\',
        ),
        ("#syntax = a b \r\n", Some("a b"), None, '\\'),
        (
            "# SYNTAX=a\n# Escape=`\n# check=skip=all\nRUN",
            Some("a"),
            Some("skip=all"),
            '`',
        ),
        ("  # escape=`\nRUN", None, None, '`'),
        ("\n# escape=`\nRUN", None, None, '\\'),
        ("# comment\n# escape=`\nRUN", None, None, '\\'),
        ("# unknown=x\n# escape=`\nRUN", None, None, '\\'),
        ("RUN a\n# escape=`\nRUN", None, None, '\\'),
        ("# escape=\\\nRUN", None, None, '\\'),
        ("# syntax=\n# escape=`\nRUN", None, None, '\\'),
        ("\u{feff}# escape=`\nRUN", None, None, '`'),
        ("#!/bin/x\n# syntax=a\nRUN", Some("a"), None, '\\'),
    ] {
        let mut lines = Lines::new(source);
        while lines.next_logical().is_some() {}
        assert!(lines.errors.is_empty(), "{source:?}");
        let found = &lines.directives;
        let value = |value: &Option<Spanned<String>>| value.clone().map(|value| value.value);
        assert_eq!(value(&found.syntax).as_deref(), syntax, "{source:?}");
        assert_eq!(value(&found.check).as_deref(), check, "{source:?}");
        assert_eq!(found.escape, escape, "{source:?}");
        if let Some(syntax) = &found.syntax {
            assert_eq!(&source[syntax.span.start..syntax.span.end], syntax.value);
        }
    }
}

#[test]
fn wrong_directives_are_errors() {
    for (source, message, excerpt) in [
        (
            "# syntax=a\n# syntax=b\n",
            "only one syntax parser directive can be used",
            "# syntax=b",
        ),
        (
            "# escape=`\n# ESCAPE=`\n",
            "only one escape parser directive can be used",
            "# ESCAPE=`",
        ),
        (
            "# escape=x\n",
            "invalid escape token 'x' does not match ` or \\",
            "x",
        ),
    ] {
        let mut lines = Lines::new(source);
        assert!(lines.next_logical().is_none());
        assert_eq!(lines.errors.len(), 1, "{source:?}");
        assert_eq!(lines.errors[0].message, message);
        let span = lines.errors[0].span;
        assert_eq!(&source[span.start..span.end], excerpt);
    }
}

#[test]
fn comments_belong_to_the_instruction_below() {
    let source = "# syntax=a\n# one\n#\n# two\n\n#three\nRUN a\n# four\nRUN b\n";
    let mut lines = Lines::new(source);
    let comments: Vec<Vec<String>> = std::iter::from_fn(|| lines.next_logical())
        .map(|line| {
            line.comments
                .into_iter()
                .map(|comment| comment.value)
                .collect()
        })
        .collect();
    assert_eq!(comments, [vec!["two", "three"], vec!["four"]]);
}

#[test]
fn an_empty_continuation_line_is_warned_about() {
    let source = "RUN a \\\n \n\n b\nRUN c";
    let mut lines = Lines::new(source);
    while lines.next_logical().is_some() {}
    assert_eq!(lines.warnings.len(), 1);
    assert_eq!(lines.warnings[0].span, Span::new(8, 9));
    assert_eq!(lines.warnings[0].related[0].0, Span::new(0, 13));
}
