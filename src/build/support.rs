//! What the language has and this engine does not do yet: refused with its place, before any work.

use super::add::is_linked;
use super::copy::{ChmodSpec, Filter};
use super::request::Request;
use crate::dockerfile::{
    CopyInstruction, Diagnostic, Directives, Instruction, RunSecurity, Source, Span, Spanned,
    Statement,
};
use crate::oci::Platform;

/// Refuses a foreign frontend. `docker/dockerfile` in any version is the language built in here.
pub(crate) fn check_directives(
    directives: &Directives,
    request: &Request,
    errors: &mut Vec<Diagnostic>,
) {
    let argument = request
        .build_args
        .iter()
        .rev()
        .find(|(name, _)| name == "BUILDKIT_SYNTAX");
    let (syntax, span) = match (argument, &directives.syntax) {
        (Some((_, value)), syntax) => (
            value.as_str(),
            syntax
                .as_ref()
                .map_or(Span::default(), |syntax| syntax.span),
        ),
        (None, Some(syntax)) => (syntax.value.as_str(), syntax.span),
        (None, None) => return,
    };
    if !is_built_in(syntax) {
        errors.push(
            Diagnostic::new(span, format!("the frontend {syntax} is not supported"))
                .with_label("rbuild runs no frontend images")
                .with_help(
                    "docker/dockerfile is built in; --build-arg BUILDKIT_SYNTAX=dockerfile.v0 \
                     ignores this line",
                ),
        );
    }
}

fn is_built_in(syntax: &str) -> bool {
    if syntax == "dockerfile.v0" {
        return true;
    }
    let name = syntax.strip_prefix("docker.io/").unwrap_or(syntax);
    let name = name.split(['@', ' ']).next().unwrap_or(name);
    let name = name.split(':').next().unwrap_or(name);
    matches!(name, "docker/dockerfile" | "docker/dockerfile-upstream")
}

/// Refuses a stage for another platform than the build's.
pub(crate) fn check_platform(
    expanded: &str,
    written: &Spanned<String>,
    wanted: &Platform,
    errors: &mut Vec<Diagnostic>,
) {
    let mut parts = expanded.splitn(3, '/');
    let (os, architecture, variant) = (
        parts.next().unwrap_or(""),
        parts.next().unwrap_or(""),
        parts.next(),
    );
    if expanded.is_empty() {
        errors.push(Diagnostic::new(
            written.span,
            format!("empty platform value from expression {}", written.value),
        ));
    } else if !Platform::new(os, architecture, variant).satisfies(wanted) {
        errors.push(
            Diagnostic::new(
                written.span,
                format!("the platform {expanded} is not supported: this build is for {wanted}"),
            )
            .with_help("only the platform of this machine can be built"),
        );
    }
}

/// The part of an instruction that is not supported, if it has one.
pub(crate) fn check(statement: &Statement, location: Span) -> Option<Diagnostic> {
    // A trigger of the base image has no text here: its place is the FROM line.
    let own = statement.span == location;
    let at = |span: Span| if own { span } else { location };
    let refuse = |span: Span, what: &str| {
        Some(
            Diagnostic::new(at(span), format!("{what} is not supported yet"))
                .with_help("nothing was built: rbuild carries out every instruction or none"),
        )
    };
    match &statement.instruction {
        Instruction::Run(run) => {
            if !run.mounts.is_empty() {
                return refuse(statement.keyword_span, "RUN --mount");
            }
            if !run.devices.is_empty() {
                return refuse(run.devices[0].span, "RUN --device");
            }
            match &run.security {
                Some(security) if security.value == RunSecurity::Insecure => {
                    refuse(security.span, "RUN --security=insecure")
                }
                _ => None,
            }
        }
        Instruction::Copy(copy) => {
            let remote = copy.sources.iter().find_map(|source| match source {
                Source::Path(path) if is_remote(&path.value) => Some(path),
                _ => None,
            });
            if let Some(path) = remote {
                let is_url = path.value.starts_with("http") && !path.value.ends_with(".git");
                let what = if is_url { "a URL" } else { "a git ref" };
                return Some(
                    Diagnostic::new(at(path.span), format!("source can't be {what} for COPY"))
                        .with_help("ADD fetches"),
                );
            }
            check_copy(copy, &at)
        }
        Instruction::Add(add) => {
            if let Some(checksum) = &add.checksum {
                let problem = match &add.copy.sources[..] {
                    [Source::Path(path)] if is_remote(&path.value) => {
                        return refuse(checksum.span, "ADD --checksum");
                    }
                    [Source::Path(path)] if path.value.contains('$') => {
                        return refuse(checksum.span, "ADD --checksum");
                    }
                    [_] => "checksum requires HTTP(S) or Git sources",
                    _ => "checksum can't be specified for multiple sources",
                };
                return Some(Diagnostic::new(at(checksum.span), problem));
            }
            if add.keep_git_dir.is_some() {
                return refuse(statement.keyword_span, "ADD --keep-git-dir");
            }
            for source in &add.copy.sources {
                if let Source::Path(path) = source
                    && is_remote(&path.value)
                {
                    return refuse(path.span, "ADD of a remote source");
                }
            }
            check_copy(&add.copy, &at)
        }
        _ => None,
    }
}

/// What is wrong with the flags that COPY and ADD share, as far as they are written out.
fn check_copy(copy: &CopyInstruction, at: &dyn Fn(Span) -> Span) -> Option<Diagnostic> {
    let is_literal = |text: &str| !text.contains(['$', '\\', '`', '"', '\'']);
    if let Some(chmod) = copy.chmod.as_ref().filter(|word| is_literal(&word.value))
        && let Err(error) = ChmodSpec::parse(&chmod.value)
    {
        return Some(Diagnostic::new(at(chmod.span), error.to_string()));
    }
    if let Some(chown) = copy.chown.as_ref().filter(|word| is_literal(&word.value))
        && let Err(error) = is_linked(copy.link, Some(&chown.value), copy.chmod.is_some())
    {
        return Some(Diagnostic::new(at(chown.span), error.to_string()));
    }
    let literal = copy.excludes.iter().filter(|word| is_literal(&word.value));
    for exclude in literal {
        if let Err(error) = Filter::excluding(std::slice::from_ref(&exclude.value)) {
            let message = format!("invalid excludepatterns: {error}");
            return Some(Diagnostic::new(at(exclude.span), message));
        }
    }
    None
}

/// Whether ADD would fetch this source: a URL, or a git reference.
fn is_remote(source: &str) -> bool {
    ["http://", "https://", "git://", "ssh://", "git@"]
        .iter()
        .any(|prefix| source.starts_with(prefix))
}
