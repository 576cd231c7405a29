//! Instructions in a form that says something else than was meant.

use super::Check;
use super::rule::{
    EXPOSE_INVALID_FORMAT, INVALID_DEFINITION_DESCRIPTION, JSON_ARGS_RECOMMENDED,
    LEGACY_KEY_VALUE_FORMAT, MAINTAINER_DEPRECATED, MULTIPLE_INSTRUCTIONS_DISALLOWED,
};
use crate::dockerfile::{Diagnostic, Instruction, KeyValues, ShellOrExec, Spanned, Statement};

pub(super) fn check(check: &mut Check<'_>) {
    for statement in check.statements() {
        forms(check, statement);
    }
    json_recommended(check);
    used_once(check);
    descriptions(check);
}

/// The keyword as it is written.
fn keyword<'a>(check: &Check<'a>, statement: &Statement) -> &'a str {
    &check.subject.source[statement.keyword_span.start..statement.keyword_span.end]
}

fn forms(check: &mut Check<'_>, statement: &Statement) {
    let place = Some(check.place(statement));
    match &statement.instruction {
        Instruction::Maintainer(author) => {
            let message = "Maintainer instruction is deprecated in favor of using label";
            let diagnostic = Diagnostic::new(statement.keyword_span, message).with_help(format!(
                "write LABEL org.opencontainers.image.authors=\"{}\"",
                author.value.trim_matches('"')
            ));
            check.report(&MAINTAINER_DEPRECATED, diagnostic, place);
        }
        Instruction::Env(values) | Instruction::Label(values) if values.legacy => {
            let diagnostic = legacy(keyword(check, statement), values, statement);
            check.report(&LEGACY_KEY_VALUE_FORMAT, diagnostic, place);
        }
        Instruction::Expose(ports) => {
            for port in ports {
                if let Some((_, container)) = port.value.rsplit_once(':') {
                    let message = format!(
                        "EXPOSE instruction should not define an IP address or host-port mapping, \
                         found '{}'",
                        port.value
                    );
                    let diagnostic =
                        Diagnostic::new(port.span, message).with_help(format!("write {container}"));
                    check.report(&EXPOSE_INVALID_FORMAT, diagnostic, place);
                }
            }
        }
        _ => {}
    }
}

fn legacy(keyword: &str, values: &KeyValues, statement: &Statement) -> Diagnostic {
    let message = format!(
        "\"{keyword} key=value\" should be used instead of legacy \"{keyword} key value\" format"
    );
    match values.pairs.first() {
        Some((key, value)) => {
            let plain = !value.value.contains([' ', '\t', '"', '\'']);
            let right = if plain {
                value.value.clone()
            } else {
                format!("\"{}\"", value.value.replace('"', "\\\""))
            };
            Diagnostic::new(key.span.to(value.span), message)
                .with_help(format!("write {keyword} {}={right}", key.value))
        }
        None => Diagnostic::new(statement.keyword_span, message),
    }
}

/// Shell form is the choice of who set SHELL, in the stage or in one that it is made from.
fn json_recommended(check: &mut Check<'_>) {
    let stages = &check.subject.dockerfile.stages;
    let mut shells: Vec<bool> = Vec::with_capacity(stages.len());
    for stage in stages {
        let mut shell = check.bases[stage.index].is_some_and(|base| shells[base]);
        let checked = check.subject.stages.get(stage.index).copied();
        for statement in &stage.statements {
            match &statement.instruction {
                Instruction::Shell(_) => shell = true,
                Instruction::Cmd(ShellOrExec::Shell(text))
                | Instruction::Entrypoint(ShellOrExec::Shell(text))
                    if !shell && checked.unwrap_or(true) =>
                {
                    let name = keyword(check, statement);
                    let message = format!(
                        "JSON arguments recommended for {name} to prevent unintended behavior \
                         related to OS signals"
                    );
                    let mut diagnostic = Diagnostic::new(text.span, message);
                    if let Some(list) = as_json(&text.value) {
                        diagnostic = diagnostic.with_help(format!("write {name} {list}"));
                    }
                    let place = check.place(statement);
                    check.report(&JSON_ARGS_RECOMMENDED, diagnostic, Some(place));
                }
                _ => {}
            }
        }
        shells.push(shell);
    }
}

/// The exec form of a command line in which the shell would do nothing but split words.
fn as_json(text: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    let mut words = text.split_whitespace().peekable();
    words.peek();
    let first_sets_variable = text.split_whitespace().next()?.contains('=');
    if first_sets_variable || !text.chars().all(|c| plain(c) || c == ' ') {
        return None;
    }
    let quoted: Vec<String> = words.map(|word| format!("\"{word}\"")).collect();
    Some(format!("[{}]", quoted.join(", ")))
}

/// Of several CMD, ENTRYPOINT or HEALTHCHECK of a stage, all but the last are ignored.
fn used_once(check: &mut Check<'_>) {
    for stage in &check.subject.dockerfile.stages {
        if !check
            .subject
            .stages
            .get(stage.index)
            .copied()
            .unwrap_or(true)
        {
            continue;
        }
        let mut last: [Option<&Statement>; 3] = [None; 3];
        for statement in &stage.statements {
            let kind = match &statement.instruction {
                Instruction::Cmd(_) => 0,
                Instruction::Entrypoint(_) => 1,
                Instruction::Healthcheck(_) => 2,
                _ => continue,
            };
            if let Some(earlier) = last[kind].replace(statement) {
                let name = keyword(check, statement);
                let message = format!(
                    "Multiple {name} instructions should not be used in the same stage because \
                     only the last one will be used"
                );
                let diagnostic = Diagnostic::new(earlier.span, message)
                    .with_label("this one has no effect")
                    .with_related(statement.keyword_span, "replaced here")
                    .with_help("remove all but the last");
                let place = check.place(earlier);
                check.report(&MULTIPLE_INSTRUCTIONS_DISALLOWED, diagnostic, Some(place));
            }
        }
    }
}

/// The comment that describes an ARG or a stage starts with its name.
fn descriptions(check: &mut Check<'_>) {
    let subject = check.subject;
    for stage in &subject.dockerfile.stages {
        if let Some(name) = &stage.name {
            let place = check.place_of_from(stage.index);
            if let Some(diagnostic) = description("FROM", &[&name.value], &stage.from.comments) {
                check.report(&INVALID_DEFINITION_DESCRIPTION, diagnostic, Some(place));
            }
        }
    }
    let of_stages: Vec<&Statement> = check.statements().collect();
    for statement in subject.dockerfile.global_args.iter().chain(of_stages) {
        let Instruction::Arg(declarations) = &statement.instruction else {
            continue;
        };
        let names: Vec<&str> = declarations.iter().map(|d| d.name.value.as_str()).collect();
        if let Some(diagnostic) = description("ARG", &names, &statement.comments) {
            let place = check.place(statement);
            check.report(&INVALID_DEFINITION_DESCRIPTION, diagnostic, Some(place));
        }
    }
}

fn description(
    instruction: &str,
    names: &[&str],
    comments: &[Spanned<String>],
) -> Option<Diagnostic> {
    let last = comments
        .iter()
        .rfind(|comment| !comment.value.to_ascii_lowercase().starts_with("check="))?;
    if names.contains(&last.value.split(' ').next()?) {
        return None;
    }
    let example = match names {
        [name] => name,
        _ => "<arg_key>",
    };
    let message =
        format!("Comment for {instruction} should follow the format: `# {example} <description>`");
    Some(Diagnostic::new(last.span, message))
}
