//! The instructions that only change the image configuration.

use super::{
    arguments::{self, Context, Head},
    diagnostic::Diagnostic,
    duration::Duration,
    flags::{Flags, Kind},
    instruction::{ArgDeclaration, Healthcheck, Instruction, ShellOrExec},
    nearest::nearest,
    port::PortRange,
    signal,
    text::Text,
};

const HEALTHCHECK_FLAGS: [(&str, Kind); 5] = [
    ("interval", Kind::Value),
    ("timeout", Kind::Value),
    ("start-period", Kind::Value),
    ("start-interval", Kind::Value),
    ("retries", Kind::Value),
];

pub(crate) fn arg(head: &Head<'_>, cx: &mut Context<'_>) -> Option<Instruction> {
    let words = arguments::quoted_words(head.arguments, cx.escape);
    if words.is_empty() {
        head.missing("at least one argument", cx);
        return None;
    }
    let mut declarations = Vec::new();
    for word in &words {
        let (name, default) = match arguments::split_equals(*word) {
            Some((name, default)) => (name, Some(default.to_spanned())),
            None => (*word, None),
        };
        if name.is_empty() {
            cx.error(Diagnostic::new(word.span(), "ARG names can not be blank"));
            continue;
        }
        declarations.push(ArgDeclaration {
            name: name.to_spanned(),
            default,
        });
    }
    (declarations.len() == words.len()).then_some(Instruction::Arg(declarations))
}

pub(crate) fn cmd(head: &Head<'_>, cx: &mut Context<'_>) -> Option<Instruction> {
    command(head, cx).map(Instruction::Cmd)
}

pub(crate) fn entrypoint(head: &Head<'_>, cx: &mut Context<'_>) -> Option<Instruction> {
    command(head, cx).map(Instruction::Entrypoint)
}

/// A command line; an empty JSON array is one, nothing at all is not.
fn command(head: &Head<'_>, cx: &mut Context<'_>) -> Option<ShellOrExec> {
    if head.arguments.is_empty() {
        let name = head.name();
        let message = format!("{name} requires at least one argument");
        cx.error(
            Diagnostic::new(head.keyword.span(), message)
                .with_help(format!("write `{name} []` to clear it")),
        );
        return None;
    }
    arguments::command(head.arguments, cx)
}

pub(crate) fn shell(head: &Head<'_>, cx: &mut Context<'_>) -> Option<Instruction> {
    if head.arguments.is_empty() {
        head.missing("at least one argument", cx);
        return None;
    }
    match arguments::command(head.arguments, cx)? {
        ShellOrExec::Exec(list) if !list.value.is_empty() => Some(Instruction::Shell(list.value)),
        ShellOrExec::Exec(_) => {
            head.missing("at least one argument", cx);
            None
        }
        ShellOrExec::Shell(text) => {
            cx.error(
                Diagnostic::new(text.span, "SHELL requires the arguments to be in JSON form")
                    .with_help("write it as `SHELL [\"/bin/sh\", \"-c\"]`"),
            );
            None
        }
    }
}

pub(crate) fn expose(head: &Head<'_>, cx: &mut Context<'_>) -> Option<Instruction> {
    let words: Vec<_> = head
        .arguments
        .words()
        .into_iter()
        .map(Text::to_spanned)
        .collect();
    if words.is_empty() {
        head.missing("at least one argument", cx);
        return None;
    }
    for word in &words {
        if !arguments::is_literal(&word.value, cx.escape) {
            continue;
        }
        if let Err(error) = PortRange::parse(&word.value) {
            cx.error(Diagnostic::new(word.span, error.to_string()));
        }
    }
    Some(Instruction::Expose(words))
}

pub(crate) fn stopsignal(head: &Head<'_>, cx: &mut Context<'_>) -> Option<Instruction> {
    let signal = head.one(cx)?;
    if arguments::is_literal(&signal.value, cx.escape) && !signal::is_signal(&signal.value) {
        let mut message = format!("invalid signal: {}", signal.value);
        let upper = signal.value.to_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Some(candidate) = nearest(name, signal::names()) {
            message.push_str(&format!(" (did you mean SIG{candidate}?)"));
        }
        cx.error(Diagnostic::new(signal.span, message));
    }
    Some(Instruction::Stopsignal(signal))
}

pub(crate) fn volume(head: &Head<'_>, cx: &mut Context<'_>) -> Option<Instruction> {
    let volumes = head.list(cx)?;
    if volumes.is_empty() {
        head.missing("at least one argument", cx);
        return None;
    }
    for volume in &volumes {
        if volume.value.trim().is_empty() {
            let message = "VOLUME specified can not be an empty string";
            cx.error(Diagnostic::new(volume.span, message));
        }
    }
    Some(Instruction::Volume(volumes))
}

pub(crate) fn healthcheck(head: &mut Head<'_>, cx: &mut Context<'_>) -> Option<Instruction> {
    let has_flags = !head.flags.is_empty();
    let flags = head.flags(&HEALTHCHECK_FLAGS, cx);
    let (kind, rest) = head.arguments.split_blank();
    let rest = rest.filter(|rest| !rest.is_empty());
    match kind.as_str().to_uppercase().as_str() {
        "" => {
            head.missing("at least one argument", cx);
            None
        }
        "NONE" => {
            if let Some(rest) = rest {
                let message = "HEALTHCHECK NONE takes no arguments";
                cx.error(Diagnostic::new(rest.span(), message));
            }
            if has_flags {
                let message = "flags have no effect on HEALTHCHECK NONE";
                cx.warnings.push(
                    Diagnostic::new(head.keyword.span().to(kind.span()), message)
                        .with_rule("HealthcheckFlagsIgnored"),
                );
            }
            Some(Instruction::Healthcheck(Healthcheck::None))
        }
        "CMD" => {
            let test = match rest {
                Some(rest) => Some(arguments::command(rest, cx)?),
                None => None,
            };
            let test = test.filter(|test| match test {
                ShellOrExec::Shell(_) => true,
                ShellOrExec::Exec(list) => !list.value.is_empty(),
            });
            if test.is_none() {
                let message = "Missing command after HEALTHCHECK CMD";
                cx.error(Diagnostic::new(kind.span(), message));
            }
            let check = check(test?, &flags, cx)?;
            Some(Instruction::Healthcheck(check))
        }
        other => {
            let message = format!("Unknown type {other:?} in HEALTHCHECK (try CMD)");
            cx.error(Diagnostic::new(kind.span(), message));
            None
        }
    }
}

/// `None` when a flag is wrong; every one is looked at.
fn check(test: ShellOrExec, flags: &Flags, cx: &mut Context<'_>) -> Option<Healthcheck> {
    let before = cx.errors.len();
    let interval = duration(flags, "interval", cx);
    let timeout = duration(flags, "timeout", cx);
    let start_period = duration(flags, "start-period", cx);
    let start_interval = duration(flags, "start-interval", cx);
    let retries = retries(flags, cx);
    (cx.errors.len() == before).then_some(Healthcheck::Check {
        test,
        interval,
        timeout,
        start_period,
        start_interval,
        retries,
    })
}

fn duration(flags: &Flags, name: &str, cx: &mut Context<'_>) -> Option<Duration> {
    let value = flags.value(name)?;
    match Duration::parse(&value.value) {
        Ok(duration) if duration == Duration(0) || duration >= Duration::MILLISECOND => {
            Some(duration)
        }
        Ok(_) => {
            let message = format!("Interval {name:?} cannot be less than 1ms");
            cx.error(Diagnostic::new(value.span, message));
            None
        }
        Err(error) => {
            cx.error(
                Diagnostic::new(value.span, error.to_string())
                    .with_help("write a number with a unit, such as `30s` or `1m30s`"),
            );
            None
        }
    }
}

fn retries(flags: &Flags, cx: &mut Context<'_>) -> Option<u32> {
    let value = flags.value("retries")?;
    let message = match value.value.parse::<i32>() {
        Ok(retries) => match u32::try_from(retries) {
            Ok(retries) => return Some(retries),
            Err(_) => format!("--retries cannot be negative ({retries})"),
        },
        Err(_) => format!("invalid value for --retries: {:?}", value.value),
    };
    cx.error(Diagnostic::new(value.span, message));
    None
}
