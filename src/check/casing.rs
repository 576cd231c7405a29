//! Upper and lower case.

use super::Check;
use super::rule::{
    CONSISTENT_INSTRUCTION_CASING, EXPOSE_PROTO_CASING, FROM_AS_CASING, STAGE_NAME_CASING,
};
use crate::dockerfile::{Diagnostic, Instruction, Span};

pub(super) fn check(check: &mut Check<'_>) {
    names_and_as(check);
    instructions(check);
    protocols(check);
}

fn is_lower(text: &str) -> bool {
    text == text.to_lowercase()
}

fn is_upper(text: &str) -> bool {
    text == text.to_uppercase()
}

fn names_and_as(check: &mut Check<'_>) {
    let (source, dockerfile) = (check.subject.source, check.subject.dockerfile);
    for stage in &dockerfile.stages {
        let Some(name) = &stage.name else { continue };
        let place = Some(check.place_of_from(stage.index));
        let written = &source[name.span.start..name.span.end];
        if written != name.value {
            let message = format!("Stage name '{written}' should be lowercase");
            let diagnostic =
                Diagnostic::new(name.span, message).with_help(format!("write {}", name.value));
            check.report(&STAGE_NAME_CASING, diagnostic, place);
        }
        let from = &source[stage.from.keyword_span.start..stage.from.keyword_span.end];
        let Some(keyword) = stage.from.text.split_whitespace().rev().nth(1) else {
            continue;
        };
        let matches = if is_lower(from) {
            is_lower(keyword)
        } else {
            // A FROM of mixed case is another rule's.
            !is_upper(from) || is_upper(keyword)
        };
        if !matches {
            let start = source[..name.span.start].rfind(keyword);
            let span = start.map_or(name.span, |at| Span::new(at, at + keyword.len()));
            let message = format!("'{keyword}' and '{from}' keywords' casing do not match");
            let right = if is_lower(from) { "as" } else { "AS" };
            let diagnostic = Diagnostic::new(span, message)
                .with_related(stage.from.keyword_span, "in the case of this")
                .with_help(format!("write {right}"));
            check.report(&FROM_AS_CASING, diagnostic, place);
        }
    }
}

/// Every keyword is in the case that most of them have; of equally many, upper case wins.
fn instructions(check: &mut Check<'_>) {
    let (source, dockerfile) = (check.subject.source, check.subject.dockerfile);
    let mut keywords = Vec::new();
    for stage in &dockerfile.stages {
        keywords.push((stage.from.keyword_span, check.place_of_from(stage.index)));
        for statement in &stage.statements {
            keywords.push((statement.keyword_span, check.place(statement)));
        }
    }
    let word = |span: Span| &source[span.start..span.end];
    let lower = keywords.iter().filter(|(span, _)| is_lower(word(*span)));
    let lower = lower.count();
    let upper = keywords.iter().filter(|(span, _)| is_upper(word(*span)));
    let mostly_lower = lower > upper.count();
    for (span, place) in keywords {
        let keyword = word(span);
        let (right, case) = if mostly_lower {
            (keyword.to_lowercase(), "lowercase")
        } else {
            (keyword.to_uppercase(), "uppercase")
        };
        if keyword != right {
            let message = format!(
                "Command '{keyword}' should match the case of the command majority ({case})"
            );
            let diagnostic = Diagnostic::new(span, message).with_help(format!("write {right}"));
            check.report(&CONSISTENT_INSTRUCTION_CASING, diagnostic, Some(place));
        }
    }
}

fn protocols(check: &mut Check<'_>) {
    for statement in check.statements() {
        let Instruction::Expose(ports) = &statement.instruction else {
            continue;
        };
        for port in ports {
            let protocol = port
                .value
                .split_once('/')
                .map_or("", |(_, protocol)| protocol);
            if !is_lower(protocol) && !port.value.contains('$') {
                let message = format!(
                    "Defined protocol '{}' in EXPOSE instruction should be lowercase",
                    port.value
                );
                let diagnostic = Diagnostic::new(port.span, message)
                    .with_help(format!("write {}", port.value.to_lowercase()));
                let place = check.place(statement);
                check.report(&EXPOSE_PROTO_CASING, diagnostic, Some(place));
            }
        }
    }
}
