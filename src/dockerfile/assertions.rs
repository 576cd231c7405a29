//! What holds for every text, however odd; the property tests and the fuzz target ask it.

use std::cell::Cell;

use super::{
    Dockerfile, Expanded, Instruction, Lookup, Source, Span, Spanned, Statement, WordError, expand,
    expand_heredoc, expand_to_words,
    instruction::{CopyInstruction, Healthcheck, Heredoc, ShellOrExec},
    parse, parse_trigger,
};

/// No expansion of one word is longer: its limit, and what one variable may add to it.
const LONGEST: usize = super::words::MAX_LENGTH + 64;

/// Parsing ends without a panic; every span of its result, and of its errors, lies in the text.
pub(crate) fn dockerfile_holds(text: &str) {
    let check = |span: Span| assert_inside(text, span);
    match parse(text) {
        Ok(dockerfile) => {
            assert!(!dockerfile.stages.is_empty());
            dockerfile_spans(&dockerfile).into_iter().for_each(check);
            for statement in dockerfile.stages.iter().flat_map(|stage| &stage.statements) {
                let keyword = &text[statement.keyword_span.start..statement.keyword_span.end];
                assert!(!keyword.is_empty() && !keyword.contains(' '), "{keyword:?}");
                // A lone escape character may stand on lines before the keyword.
                let above = text[..statement.span.start].matches('\n').count();
                assert!((1..=above + 1).contains(&statement.line));
            }
        }
        Err(errors) => {
            assert!(!errors.is_empty());
            for error in errors {
                assert!(!error.message.is_empty());
                check(error.span);
                error.related.iter().for_each(|(span, _)| check(*span));
            }
        }
    }
    if let Ok(statement) = parse_trigger(text) {
        let mut spans = Vec::new();
        statement_spans(&statement, &mut spans);
        spans.into_iter().for_each(check);
    }
}

/// Expansion ends without a panic, asks for each variable once per `$`, and keeps its limit.
pub(crate) fn word_holds(text: &str) {
    for escape in ['\\', '`'] {
        let dollars = text.matches('$').count();
        let check = |result: &dyn Fn(&dyn Lookup) -> Result<Expanded, WordError>, limit: usize| {
            let variables = Counted(Cell::new(0));
            if let Ok(expanded) = result(&variables) {
                assert!(expanded.value.len() <= limit, "{}", expanded.value.len());
                assert!(expanded.used.len() + expanded.unset.len() <= dollars);
            }
            assert!(variables.0.get() <= dollars, "one look-up for each $");
        };
        check(&|variables| expand(text, escape, variables), LONGEST);
        check(
            &|variables| expand_to_words(text, escape, variables).map(|(_, expanded)| expanded),
            LONGEST,
        );
        check(
            &|variables| expand_heredoc(text, variables),
            LONGEST + text.len(),
        );
    }
}

/// Variables with the names of their values, which counts how often it is asked.
struct Counted(Cell<usize>);

impl Lookup for Counted {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.set(self.0.get() + 1);
        match name.len() {
            1 => Some("aXa/b*ü"),
            2 => Some(""),
            _ => None,
        }
    }
}

#[track_caller]
fn assert_inside(text: &str, span: Span) {
    assert!(
        span.start <= span.end && text.get(span.start..span.end).is_some(),
        "{span:?} in {} bytes",
        text.len()
    );
}

fn dockerfile_spans(dockerfile: &Dockerfile) -> Vec<Span> {
    let mut spans = Vec::new();
    let directives = &dockerfile.directives;
    spans.extend(place(&directives.syntax));
    spans.extend(place(&directives.check));
    for warning in &dockerfile.warnings {
        spans.push(warning.span);
        spans.extend(warning.related.iter().map(|(span, _)| *span));
    }
    for stage in &dockerfile.stages {
        spans.extend(place(&stage.name));
        spans.extend(place(&stage.platform));
        spans.extend([stage.base.span, stage.from.span, stage.from.keyword_span]);
        spans.extend(stage.from.comments.iter().map(|comment| comment.span));
    }
    let of_stages = dockerfile.stages.iter().flat_map(|stage| &stage.statements);
    for statement in dockerfile.global_args.iter().chain(of_stages) {
        statement_spans(statement, &mut spans);
    }
    spans
}

fn place<T>(value: &Option<Spanned<T>>) -> Option<Span> {
    value.as_ref().map(|value| value.span)
}

fn statement_spans(statement: &Statement, spans: &mut Vec<Span>) {
    spans.extend([statement.span, statement.keyword_span]);
    spans.extend(statement.comments.iter().map(|comment| comment.span));
    match &statement.instruction {
        Instruction::Add(add) => {
            spans.extend(place(&add.checksum));
            copy_spans(&add.copy, spans);
        }
        Instruction::Copy(copy) => copy_spans(copy, spans),
        Instruction::Arg(declarations) => {
            for declaration in declarations {
                spans.push(declaration.name.span);
                spans.extend(place(&declaration.default));
            }
        }
        Instruction::Cmd(command) | Instruction::Entrypoint(command) => {
            spans.push(command_span(command));
        }
        Instruction::Env(values) | Instruction::Label(values) => {
            for (key, value) in &values.pairs {
                spans.extend([key.span, value.span]);
            }
        }
        Instruction::Expose(words) | Instruction::Volume(words) => {
            spans.extend(words.iter().map(|word| word.span));
        }
        Instruction::Healthcheck(Healthcheck::Check { test, .. }) => spans.push(command_span(test)),
        Instruction::Healthcheck(Healthcheck::None) | Instruction::Shell(_) => {}
        Instruction::Maintainer(word)
        | Instruction::Stopsignal(word)
        | Instruction::User(word)
        | Instruction::Workdir(word) => spans.push(word.span),
        Instruction::Onbuild(onbuild) => statement_spans(&onbuild.parsed, spans),
        Instruction::Run(run) => {
            drop(run.script());
            spans.push(command_span(&run.command));
            spans.extend(place(&run.network));
            spans.extend(place(&run.security));
            spans.extend(run.devices.iter().map(|device| device.span));
            for mount in &run.mounts {
                spans.push(mount.span);
                spans.extend(place(&mount.from));
            }
            heredoc_spans(&run.heredocs, spans);
        }
    }
}

fn command_span(command: &ShellOrExec) -> Span {
    match command {
        ShellOrExec::Shell(text) => text.span,
        ShellOrExec::Exec(list) => list.span,
    }
}

fn copy_spans(copy: &CopyInstruction, spans: &mut Vec<Span>) {
    spans.push(copy.destination.span);
    spans.extend(place(&copy.from));
    spans.extend(place(&copy.chown));
    spans.extend(place(&copy.chmod));
    spans.extend(copy.excludes.iter().map(|exclude| exclude.span));
    for source in &copy.sources {
        match source {
            Source::Path(path) => spans.push(path.span),
            Source::Heredoc(document) => heredoc_spans(std::slice::from_ref(document), spans),
        }
    }
}

fn heredoc_spans(heredocs: &[Heredoc], spans: &mut Vec<Span>) {
    for document in heredocs {
        spans.extend([document.body_span, document.terminator]);
    }
}
