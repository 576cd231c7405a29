//! What the language has and this engine does not do yet: refused with its place, before any work.

use super::add::is_linked;
use super::add_remote;
use super::confined;
use super::copy::{ChmodSpec, Filter};
use super::request::Request;
use crate::dockerfile::{
    CopyInstruction, Diagnostic, Expanded, Instruction, RunSecurity, Span, Spanned, Statement,
    nearest, syntax,
};
use crate::oci::Platform;

/// Refuses a foreign frontend, before the text is parsed as what it may not be. `docker/dockerfile`
/// in any version is the language built in here.
pub(crate) fn check_frontend(text: &str, request: &Request) -> Result<(), Diagnostic> {
    let argument = request
        .build_args
        .iter()
        .rev()
        .find(|(name, _)| name == "BUILDKIT_SYNTAX");
    let written = syntax(text);
    let span = written.as_ref().map_or(Span::default(), |word| word.span);
    let frontend = match (argument, &written) {
        (Some((_, value)), _) if !value.is_empty() => value,
        (_, Some(written)) => &written.value,
        (_, None) => return Ok(()),
    };
    if is_built_in(frontend) {
        return Ok(());
    }
    Err(
        Diagnostic::new(span, format!("the frontend {frontend} is not supported"))
            .with_label("rbuild runs no frontend images")
            .with_help(
                "docker/dockerfile is built in; --build-arg BUILDKIT_SYNTAX=dockerfile.v0 ignores \
                 this line",
            ),
    )
}

fn is_built_in(syntax: &str) -> bool {
    if syntax == "dockerfile.v0" {
        return true;
    }
    let name = syntax.split(['@', ' ']).next().unwrap_or(syntax);
    let name = name.strip_prefix("docker.io/").unwrap_or(name);
    let name = name.split(':').next().unwrap_or(name);
    matches!(name, "docker/dockerfile" | "docker/dockerfile-upstream")
}

/// The value of `FROM --platform`; `known` are the arguments that it may name.
pub(crate) fn parse_platform(
    expanded: &Expanded,
    written: &Spanned<String>,
    known: &[&str],
) -> Result<Platform, Diagnostic> {
    let suggest = |error: Diagnostic| {
        let mut unset = expanded.unset.iter();
        match unset.find_map(|name| nearest(name, known.iter().copied())) {
            Some(near) => error.with_help(format!("did you mean {near}?")),
            None => error,
        }
    };
    let shown = &written.value;
    if expanded.value.is_empty() {
        let message = format!("empty platform value from expression {shown}");
        return Err(suggest(Diagnostic::new(written.span, message)));
    }
    expanded.value.parse().map_err(|error| {
        let message = format!("failed to parse platform {shown}: {error}");
        suggest(Diagnostic::new(written.span, message))
    })
}

/// A RUN for an architecture that nothing here can run.
pub(crate) fn no_emulator(platform: &Platform, run: Span) -> Diagnostic {
    let host = Platform::host();
    let error = Diagnostic::new(
        run,
        format!("RUN for {platform} cannot be carried out on {host}"),
    );
    if platform.os != host.os {
        return error.with_help(format!("only {} programs can be run here", host.os));
    }
    let architecture = &platform.architecture;
    error
        .with_label(format!(
            "this kernel has no handler for {architecture} programs"
        ))
        .with_help(format!(
            "register an emulator with binfmt_misc and the flag F, which takes root once: \
             apt-get install qemu-user-static binfmt-support, or docker run --privileged \
             tonistiigi/binfmt --install {architecture}; stages that only COPY need none"
        ))
}

/// The part of an instruction that is not supported, if it has one.
pub(crate) fn check(
    statement: &Statement,
    location: Span,
    request: &Request,
) -> Option<Diagnostic> {
    // A trigger of the base image has no text here: its place is the FROM line.
    let own = statement.span == location;
    let at = |span: Span| if own { span } else { location };
    match &statement.instruction {
        Instruction::Run(run) => {
            if let Some(refused) = confined::check(run, location, &at, request) {
                return Some(refused);
            }
            if let Some(device) = run.devices.first() {
                return Some(
                    Diagnostic::new(
                        at(device.span),
                        format!("RUN --device={} is not supported", device.value.name),
                    )
                    .with_help("a build without root has no devices to give"),
                );
            }
            match &run.security {
                Some(security)
                    if security.value == RunSecurity::Insecure && !request.run.allow_insecure =>
                {
                    Some(
                        Diagnostic::new(at(security.span), "security.insecure is not allowed")
                            .with_help("--allow security.insecure on the command line allows it"),
                    )
                }
                _ => None,
            }
        }
        Instruction::Copy(copy) => {
            add_remote::check_copy(copy, &at).or_else(|| check_copy(copy, &at))
        }
        Instruction::Add(add) => add_remote::check(add, &at).or_else(|| check_copy(&add.copy, &at)),
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
