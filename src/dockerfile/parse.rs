//! From logical lines to stages of typed statements.

use std::collections::HashMap;

use super::{
    Dockerfile, FromLine, Stage, Statement,
    arguments::{self, Context, Head},
    diagnostic::Diagnostic,
    flags::Kind,
    heredoc::{self, Marker},
    instruction::{Heredoc, Instruction, OnbuildInstruction},
    lines::{Lines, LogicalLine},
    metadata,
    nearest::nearest,
    run,
    span::{Span, Spanned},
    text::Text,
};

const KEYWORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// Parses a whole Dockerfile and reports every error of it, in the order of the source.
pub(crate) fn parse(source: &str) -> Result<Dockerfile, Vec<Diagnostic>> {
    let mut parser = Parser::new(source);
    if source.is_empty() {
        let message = "the Dockerfile cannot be empty";
        return Err(vec![Diagnostic::new(Span::default(), message)]);
    }
    while let Some(line) = parser.lines.next_logical() {
        parser.read_line(&line);
    }
    parser.finish()
}

/// Parses an ONBUILD trigger as an image configuration stores it: one instruction, heredoc bodies
/// behind its line. Spans are offsets into `text`.
pub(crate) fn parse_trigger(text: &str) -> Result<Statement, Vec<Diagnostic>> {
    let mut parser = Parser::new(text);
    let Some(line) = parser.lines.next_logical() else {
        let message = "the ONBUILD trigger holds no instruction";
        return Err(vec![Diagnostic::new(parser.lines.whole(), message)]);
    };
    let head = Head::split(line.text.all(), parser.lines.directives.escape);
    let statement = if refuse_trigger(&head, &mut parser.errors) {
        None
    } else {
        parser.read_statement(&line, head)
    };
    if let Some(second) = parser.lines.next_logical() {
        let message = "onbuild trigger should be a single expression";
        parser
            .errors
            .push(Diagnostic::new(second.text.all().trim().span(), message));
    }
    let errors = parser.all_errors();
    statement.filter(|_| errors.is_empty()).ok_or(errors)
}

struct Parser<'s> {
    lines: Lines<'s>,
    global_args: Vec<Statement>,
    stages: Vec<Stage>,
    errors: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
    /// Where each stage name was used last.
    names: HashMap<String, Span>,
    /// An instruction before the first FROM was reported.
    homeless_reported: bool,
    /// The heredocs of an unknown instruction had no end. Looking for more of them would read the
    /// rest of the file again and again.
    open_heredoc_seen: bool,
}

impl<'s> Parser<'s> {
    fn new(source: &'s str) -> Self {
        Self {
            lines: Lines::new(source),
            global_args: Vec::new(),
            stages: Vec::new(),
            errors: Vec::new(),
            warnings: Vec::new(),
            names: HashMap::new(),
            homeless_reported: false,
            open_heredoc_seen: false,
        }
    }

    fn read_line(&mut self, line: &LogicalLine) {
        let head = Head::split(line.text.all(), self.lines.directives.escape);
        if head.name() == "FROM" {
            self.read_from(line, head);
            return;
        }
        let keyword_span = head.keyword.span();
        let known = KEYWORDS.contains(&head.name().as_str());
        let is_arg = head.name() == "ARG";
        let statement = self.read_statement(line, head);
        if let Some(stage) = self.stages.last_mut() {
            stage.statements.extend(statement);
        } else if is_arg {
            self.global_args.extend(statement);
        } else if known && !self.homeless_reported {
            self.homeless_reported = true;
            self.errors.push(
                Diagnostic::new(keyword_span, "no build stage in current context")
                    .with_label("only ARG may stand before the first FROM")
                    .with_help("start the file with FROM"),
            );
        }
    }

    fn read_from(&mut self, line: &LogicalLine, mut head: Head<'_>) {
        let text = line.text.all().trim();
        let mut cx = Context {
            escape: self.lines.directives.escape,
            errors: &mut self.errors,
            warnings: &mut self.warnings,
        };
        let flags = head.flags(&[("platform", Kind::Value)], &mut cx);
        let words = head.arguments.words();
        let name = match words.as_slice() {
            [_, keyword, name] if keyword.as_str().eq_ignore_ascii_case("as") => {
                stage_name(*name, &mut self.errors)
            }
            [_] => None,
            _ => {
                let message = "FROM requires either one or three arguments";
                self.errors.push(
                    Diagnostic::new(text.span(), message)
                        .with_help("write `FROM image` or `FROM image AS name`"),
                );
                None
            }
        };
        if let Some(name) = &name {
            self.warn_about_repeated_name(name);
        }
        let base = words.first().map_or_else(
            || Spanned::new(String::new(), head.keyword.span()),
            |base| base.to_spanned(),
        );
        self.stages.push(Stage {
            index: self.stages.len(),
            name,
            base,
            platform: flags.value("platform"),
            from: FromLine {
                span: text.span(),
                keyword_span: head.keyword.span(),
                text: text.as_str().to_owned(),
                line: line.number,
                comments: line.comments.clone(),
            },
            statements: Vec::new(),
        });
    }

    fn warn_about_repeated_name(&mut self, name: &Spanned<String>) {
        if let Some(earlier) = self.names.insert(name.value.clone(), name.span) {
            let message = format!(
                "Duplicate stage name {:?}, stage names should be unique",
                name.value
            );
            self.warnings.push(
                Diagnostic::new(name.span, message)
                    .with_rule("DuplicateStageName")
                    .with_label("this stage hides the earlier one")
                    .with_related(earlier, "used here before"),
            );
        }
    }

    /// Reads one instruction with its heredocs; `None` when it was reported as wrong.
    fn read_statement(&mut self, line: &LogicalLine, head: Head<'_>) -> Option<Statement> {
        let escape = self.lines.directives.escape;
        let known = KEYWORDS.contains(&head.name().as_str());
        let markers = if known || !self.open_heredoc_seen {
            heredoc_markers(&head, escape)
        } else {
            Vec::new()
        };
        let mark = self.lines.mark();
        let heredocs = match self.lines.read_heredocs(&markers) {
            Ok(heredocs) => heredocs,
            Err(_) if !known => {
                self.open_heredoc_seen = true;
                self.lines.rewind(mark);
                Vec::new()
            }
            Err(index) => {
                self.errors
                    .push(unterminated(&head, &markers[index], escape));
                return None;
            }
        };
        let mut cx = Context {
            escape,
            errors: &mut self.errors,
            warnings: &mut self.warnings,
        };
        statement(
            line.text.all().trim(),
            line,
            head,
            &markers,
            heredocs,
            &mut cx,
        )
    }

    fn all_errors(&mut self) -> Vec<Diagnostic> {
        let mut errors = std::mem::take(&mut self.lines.errors);
        errors.append(&mut self.errors);
        errors.sort_by_key(|error| error.span.start);
        errors
    }

    fn finish(mut self) -> Result<Dockerfile, Vec<Diagnostic>> {
        let mut errors = self.all_errors();
        if errors.is_empty() && self.stages.is_empty() {
            let message = match self.global_args.first() {
                Some(_) => "dockerfile contains no stages to build",
                None => "file with no instructions",
            };
            errors.push(Diagnostic::new(self.lines.whole(), message));
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let mut warnings = self.lines.warnings;
        warnings.append(&mut self.warnings);
        warnings.sort_by_key(|warning| warning.span.start);
        Ok(Dockerfile {
            directives: self.lines.directives,
            global_args: self.global_args,
            stages: self.stages,
            warnings,
        })
    }
}

/// Checks a stage name and puts it into lower case.
fn stage_name(name: Text<'_>, errors: &mut Vec<Diagnostic>) -> Option<Spanned<String>> {
    let lower = name.as_str().to_lowercase();
    let valid = lower.starts_with(|first: char| first.is_ascii_lowercase())
        && lower
            .chars()
            .all(|c| matches!(c, 'a'..='z' | '0'..='9' | '-' | '_' | '.'));
    if !valid {
        let message = format!(
            "invalid name for build stage: {:?}, name can't start with a number or contain symbols",
            name.as_str()
        );
        errors.push(Diagnostic::new(name.span(), message));
        return None;
    }
    Some(Spanned::new(lower, name.span()))
}

/// The markers that an instruction has: RUN, COPY and ADD in shell form, also under ONBUILD, and
/// unknown instructions, so that the body of a misspelt one is not taken for instructions.
fn heredoc_markers(head: &Head<'_>, escape: char) -> Vec<Marker> {
    let nested;
    let head = if head.name() == "ONBUILD" {
        nested = Head::split(head.arguments, escape);
        &nested
    } else {
        head
    };
    let name = head.name();
    let possible =
        matches!(name.as_str(), "RUN" | "COPY" | "ADD") || !KEYWORDS.contains(&name.as_str());
    if !possible || !head.arguments.as_str().contains("<<") || arguments::is_json(head.arguments) {
        return Vec::new();
    }
    heredoc::markers(head.arguments.as_str())
}

fn unterminated(head: &Head<'_>, marker: &Marker, escape: char) -> Diagnostic {
    let nested;
    let arguments = if head.name() == "ONBUILD" {
        nested = Head::split(head.arguments, escape);
        nested.arguments
    } else {
        head.arguments
    };
    let span = arguments.slice(marker.range.start, marker.range.end).span();
    Diagnostic::new(span, "unterminated heredoc")
        .with_label(format!("no line below is just `{}`", marker.name))
        .with_help("for a shift in shell arithmetic write `<<` without blanks around it")
}

/// `text` is the part of the line that the instruction takes up.
fn statement(
    text: Text<'_>,
    line: &LogicalLine,
    head: Head<'_>,
    markers: &[Marker],
    heredocs: Vec<Heredoc>,
    cx: &mut Context<'_>,
) -> Option<Statement> {
    let keyword_span = head.keyword.span();
    let end = heredocs
        .last()
        .map_or(text.span(), |document| document.terminator);
    let instruction = if head.name() == "ONBUILD" {
        onbuild(line, head, markers, heredocs, cx)
    } else {
        instruction(head, markers, heredocs, cx)
    };
    Some(Statement {
        instruction: instruction?,
        span: text.span().to(end),
        keyword_span,
        text: text.as_str().to_owned(),
        line: line.number,
        comments: line.comments.clone(),
    })
}

fn instruction(
    mut head: Head<'_>,
    markers: &[Marker],
    heredocs: Vec<Heredoc>,
    cx: &mut Context<'_>,
) -> Option<Instruction> {
    match head.name().as_str() {
        "RUN" => return run::run(&mut head, heredocs, cx),
        "COPY" => return run::copy(&mut head, markers, heredocs, cx),
        "ADD" => return run::add(&mut head, markers, heredocs, cx),
        "HEALTHCHECK" => return metadata::healthcheck(&mut head, cx),
        name if !KEYWORDS.contains(&name) => {
            cx.error(unknown_instruction(&head));
            return None;
        }
        _ => {}
    }
    head.flags(&[], cx);
    match head.name().as_str() {
        "ARG" => metadata::arg(&head, cx),
        "CMD" => metadata::cmd(&head, cx),
        "ENTRYPOINT" => metadata::entrypoint(&head, cx),
        "ENV" => arguments::key_values(&head, cx).map(Instruction::Env),
        "EXPOSE" => metadata::expose(&head, cx),
        "LABEL" => arguments::key_values(&head, cx).map(Instruction::Label),
        "MAINTAINER" => head.one(cx).map(Instruction::Maintainer),
        "SHELL" => metadata::shell(&head, cx),
        "STOPSIGNAL" => metadata::stopsignal(&head, cx),
        "USER" => head.one(cx).map(Instruction::User),
        "VOLUME" => metadata::volume(&head, cx),
        "WORKDIR" => head.one(cx).map(Instruction::Workdir),
        _ => None,
    }
}

fn unknown_instruction(head: &Head<'_>) -> Diagnostic {
    let word = head.keyword.as_str();
    let mut message = format!("unknown instruction: {word}");
    if let Some(candidate) = nearest(word, KEYWORDS) {
        message.push_str(&format!(" (did you mean {candidate}?)"));
    }
    Diagnostic::new(head.keyword.span(), message)
        .with_help(format!("known instructions: {}", KEYWORDS.join(", ")))
}

fn onbuild(
    line: &LogicalLine,
    mut head: Head<'_>,
    markers: &[Marker],
    heredocs: Vec<Heredoc>,
    cx: &mut Context<'_>,
) -> Option<Instruction> {
    head.flags(&[], cx);
    if head.arguments.is_empty() {
        head.missing("at least one argument", cx);
        return None;
    }
    let mut trigger = head.arguments.as_str().to_owned();
    for document in &heredocs {
        trigger.push('\n');
        trigger.push_str(&document.body);
        trigger.push_str(&document.name);
    }
    let inner = Head::split(head.arguments, cx.escape);
    if refuse_trigger(&inner, cx.errors) {
        return None;
    }
    let parsed = statement(head.arguments, line, inner, markers, heredocs, cx)?;
    Some(Instruction::Onbuild(OnbuildInstruction {
        trigger,
        parsed: Box::new(parsed),
    }))
}

/// Reports an instruction that cannot be a trigger.
fn refuse_trigger(head: &Head<'_>, errors: &mut Vec<Diagnostic>) -> bool {
    let message = match head.name().as_str() {
        "ONBUILD" => "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed".to_owned(),
        name @ ("FROM" | "MAINTAINER") => format!("{name} isn't allowed as an ONBUILD trigger"),
        _ => return false,
    };
    errors.push(Diagnostic::new(head.keyword.span(), message));
    true
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "parse_error_tests.rs"]
mod error_tests;
