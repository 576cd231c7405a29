//! Checks of a Dockerfile that parses: what is allowed and yet most likely a mistake.
//!
//! The room is pure. BuildKit's rules have its names and words, so that `# check=` means the same
//! and tools that read the output find what they know; the others are in README.md.

mod arguments;
mod casing;
mod copy;
mod instructions;
mod options;
pub(crate) mod outline;
mod platform;
pub(crate) mod rule;
mod shell;
mod stages;
mod variables;

use std::path::Path;

use crate::context::ignore::Ignore;
use crate::dockerfile::{Diagnostic, Dockerfile, Spanned, Statement};
use crate::oci::Platform;

use options::Options;
pub(crate) use platform::base_platform;
use rule::Rule;

/// Everything that the rules look at.
#[derive(Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) source: &'a str,
    pub(crate) dockerfile: &'a Dockerfile,
    pub(crate) build_args: &'a [(String, String)],
    pub(crate) platform: &'a Platform,
    pub(crate) target: Option<&'a str>,
    /// `None` when the context has no ignore file.
    pub(crate) ignore: Option<&'a Ignore>,
    /// Per stage, whether its instructions are checked; all are when it is empty. What concerns the
    /// file as a whole always is.
    pub(crate) stages: Vec<bool>,
}

/// What a rule found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) rule: &'static Rule,
    /// With the exact place.
    pub(crate) diagnostic: Diagnostic,
    /// First and last line of the instruction, counted from 1: where BuildKit reports it.
    pub(crate) lines: (usize, usize),
}

/// The findings of a file, in its order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Checked {
    pub(crate) findings: Vec<Finding>,
    /// The findings are to fail the build (`error=true`).
    pub(crate) is_error: bool,
    options: Options,
}

impl Checked {
    /// Adds what became known only later, if its rule is asked.
    pub(crate) fn add(&mut self, finding: Finding) {
        if self.options.asks(finding.rule) && !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }

    /// BuildKit's error for findings that fail the build, with the rules in the order of their names.
    pub(crate) fn violation(&self) -> Option<String> {
        if !self.is_error || self.findings.is_empty() {
            return None;
        }
        let mut names: Vec<&str> = self.findings.iter().map(|f| f.rule.name).collect();
        names.sort_unstable();
        names.dedup();
        Some(format!(
            "lint violation found for rules: {}",
            names.join(", ")
        ))
    }
}

/// Asks every rule that the options choose. The error is that the options cannot be read.
pub(crate) fn check(subject: &Subject<'_>) -> Result<Checked, Diagnostic> {
    let (options, written) = options_of(subject)?;
    for comments in comments(subject.dockerfile) {
        own_options(comments)?;
    }
    let mut check = Check {
        subject,
        options: &options,
        line_feeds: subject
            .source
            .match_indices('\n')
            .map(|(at, _)| at)
            .collect(),
        bases: stages::bases(subject),
        findings: Vec::new(),
        is_error: options.error,
    };
    if let Some(written) = written {
        for misspelt in options.misspelt(written.span) {
            check.report(&rule::UNKNOWN_CHECK, misspelt, None);
        }
    }
    check.report_warnings_of_the_parser();
    stages::check(&mut check);
    casing::check(&mut check);
    instructions::check(&mut check);
    arguments::check(&mut check);
    variables::check(&mut check);
    shell::check(&mut check);
    copy::check(&mut check);
    let Check {
        mut findings,
        is_error,
        ..
    } = check;
    findings.sort_by_key(|finding| (finding.lines.0, finding.diagnostic.span));
    Ok(Checked {
        findings,
        is_error,
        options,
    })
}

/// The build argument replaces the directive.
fn options_of<'a>(
    subject: &Subject<'a>,
) -> Result<(Options, Option<&'a Spanned<String>>), Diagnostic> {
    let named = |(name, _): &&(String, String)| name == "BUILDKIT_DOCKERFILE_CHECK";
    let directive = subject.dockerfile.directives.check.as_ref();
    let given = subject.build_args.iter().rev().find(named);
    let (text, written) = match (given, directive) {
        (Some((_, text)), _) => (text.as_str(), None),
        (None, Some(directive)) => (directive.value.as_str(), Some(directive)),
        (None, None) => ("", None),
    };
    let options = Options::parse(text).map_err(|message| {
        let span = written.map(|written| written.span).unwrap_or_default();
        Diagnostic::new(span, format!("failed to parse check options: {message}"))
            .with_help("known: skip=RULE,RULE or skip=all; error=true; experimental=RULE or all")
    })?;
    Ok((options, written))
}

/// The work of the rules, and what they found so far.
struct Check<'a> {
    subject: &'a Subject<'a>,
    options: &'a Options,
    /// Where the lines end, so that no rule has to count them.
    line_feeds: Vec<usize>,
    /// Per stage, the earlier one that it is made from.
    bases: Vec<Option<usize>>,
    findings: Vec<Finding>,
    is_error: bool,
}

/// What a finding belongs to: its lines, and the comments that may skip it.
#[derive(Clone, Copy)]
struct Place<'a> {
    lines: (usize, usize),
    comments: &'a [Spanned<String>],
}

impl<'a> Check<'a> {
    /// Takes a finding at `place`, by default the lines that it spans, unless it is skipped there.
    fn report(&mut self, rule: &'static Rule, diagnostic: Diagnostic, place: Option<Place<'_>>) {
        let span = diagnostic.span;
        let place = place.unwrap_or_else(|| Place {
            lines: (self.line(span.start), self.line(span.end)),
            comments: &[],
        });
        // What cannot be read ended the check before its first rule.
        let own = own_options(place.comments).unwrap_or_default();
        if !self.options.asks_here(&own, rule) {
            return;
        }
        self.is_error |= own.error;
        self.findings.push(Finding {
            rule,
            diagnostic,
            lines: place.lines,
        });
    }

    /// The line of an offset, counted from 1.
    fn line(&self, offset: usize) -> usize {
        1 + self
            .line_feeds
            .partition_point(|line_feed| *line_feed < offset)
    }

    fn place<'s>(&self, statement: &'s Statement) -> Place<'s> {
        Place {
            lines: (statement.line, self.line(statement.span.end)),
            comments: &statement.comments,
        }
    }

    /// Where the FROM line of a stage stands.
    fn place_of_from(&self, stage: usize) -> Place<'a> {
        let from = &self.subject.dockerfile.stages[stage].from;
        Place {
            lines: (from.line, self.line(from.span.end)),
            comments: &from.comments,
        }
    }

    /// The instructions of every stage that is checked.
    fn statements(&self) -> impl Iterator<Item = &'a Statement> + use<'a> {
        let subject = self.subject;
        let stages = subject.dockerfile.stages.iter();
        stages
            .filter(|stage| subject.stages.get(stage.index).copied().unwrap_or(true))
            .flat_map(|stage| &stage.statements)
    }

    /// What parsing noticed; each such warning names its rule.
    fn report_warnings_of_the_parser(&mut self) {
        let dockerfile = self.subject.dockerfile;
        let of_stages = dockerfile.stages.iter().flat_map(|stage| &stage.statements);
        let statements: Vec<&Statement> = dockerfile.global_args.iter().chain(of_stages).collect();
        for warning in &self.subject.dockerfile.warnings {
            let Some(rule) = warning.rule.and_then(rule::find) else {
                continue;
            };
            let begun = statements.partition_point(|s| s.span.start <= warning.span.start);
            let statement = begun
                .checked_sub(1)
                .map(|last| statements[last])
                .filter(|statement| warning.span.end <= statement.span.end);
            let place = statement.map(|statement| {
                let mut place = self.place(statement);
                if *rule == rule::NO_EMPTY_CONTINUATION {
                    // BuildKit names the line that ends the instruction.
                    let last = warning
                        .related
                        .first()
                        .map_or(warning.span, |(span, _)| *span);
                    place.lines = (self.line(last.end), self.line(last.end));
                }
                place
            });
            self.report(rule, warning.clone(), place);
        }
    }
}

/// The comment block above each instruction.
fn comments(dockerfile: &Dockerfile) -> impl Iterator<Item = &[Spanned<String>]> {
    let of_stages = dockerfile.stages.iter().flat_map(|stage| {
        let statements = stage.statements.iter().map(|statement| &statement.comments);
        std::iter::once(&stage.from.comments).chain(statements)
    });
    let of_globals = dockerfile.global_args.iter().map(|global| &global.comments);
    of_globals.chain(of_stages).map(Vec::as_slice)
}

/// What `# check=` lines directly above an instruction say of it alone.
fn own_options(comments: &[Spanned<String>]) -> Result<Options, Diagnostic> {
    let mut options = Options::default();
    for comment in comments {
        if let Some((key, value)) = comment.value.split_once('=')
            && key.trim().eq_ignore_ascii_case("check")
        {
            options = Options::parse(value).map_err(|message| {
                let message = format!("failed to parse check options: {message}");
                Diagnostic::new(comment.span, message)
            })?;
        }
    }
    Ok(options)
}

/// Whether the ignore file hides `path`, and none of its exceptions could show something of it.
fn is_ignored(ignore: &Ignore, path: &Path) -> bool {
    !ignore.has_exceptions() && ignore.verdict_of(&ignore.matched(path)).ignored
}

#[cfg(test)]
mod tests;
