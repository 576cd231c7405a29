//! The instructions that change the configuration and no files.

use std::cell::Cell;

use super::error::StepError;
use super::scope::Globals;
use super::state::StageState;
use crate::dockerfile::{
    Healthcheck, Instruction, MAX_TOTAL, PortRange, ShellOrExec, Statement, expand_to_words,
    is_signal,
};
use crate::oci;

/// What evaluating an instruction needs besides the stage.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Evaluation<'a> {
    pub(crate) escape: char,
    pub(crate) globals: &'a Globals,
    /// The time that replaces all times, RFC 3339.
    pub(crate) epoch: Option<&'a str>,
}

/// Carries out `statement` if it only changes the configuration. Returns whether it did.
pub(crate) fn apply(
    state: &mut StageState,
    statement: &Statement,
    evaluation: Evaluation<'_>,
) -> Result<bool, StepError> {
    let escape = evaluation.escape;
    // Every word of an instruction sees the variables as they were before it.
    let scope = state.scope.clone();
    let total = Cell::new(state.expanded);
    let count = |text: &str| {
        total.set(total.get() + text.len());
        if total.get() > MAX_TOTAL {
            return Err(value(
                "the instructions of this stage are longer than 4 MiB once their variables are \
                 expanded",
            ));
        }
        Ok(())
    };
    let expand = |word: &str| {
        let expanded = scope.expand(word, escape);
        let expanded = expanded.map_err(|source| StepError::Word { source })?;
        count(&expanded.value)?;
        Ok::<_, StepError>(expanded.value)
    };
    let created_by = match &statement.instruction {
        Instruction::Arg(declarations) => {
            let mut shown = Vec::new();
            for declaration in declarations {
                state
                    .scope
                    .declare(declaration, escape, evaluation.globals)
                    .map_err(|source| StepError::Word { source })?;
                let name = &declaration.name.value;
                count(state.scope.declared(name).unwrap_or_default())?;
                shown.push(match state.scope.declared(name) {
                    Some(value) => format!("{name}={value}"),
                    None => name.clone(),
                });
            }
            format!("ARG {}", shown.join(" "))
        }
        Instruction::Env(pairs) => {
            let mut shown = Vec::new();
            for (name, value) in &pairs.pairs {
                let (name, value) = (expand(&name.value)?, expand(&value.value)?);
                state.set_environment(&name, &value);
                shown.push(format!("{name}={value}"));
            }
            format!("ENV {}", shown.join(" "))
        }
        Instruction::Label(pairs) => {
            let mut shown = Vec::new();
            for (name, value) in &pairs.pairs {
                let (name, value) = (expand(&name.value)?, expand(&value.value)?);
                shown.push(format!("{name}={value}"));
                state.config.config.labels.insert(name, value);
            }
            format!("LABEL {}", shown.join(" "))
        }
        Instruction::Maintainer(name) => {
            state.config.author = Some(name.value.clone());
            format!("MAINTAINER {}", name.value)
        }
        Instruction::Expose(ports) => {
            // BuildKit sorts the words as they are written, before it expands them.
            let mut sorted: Vec<&str> = ports.iter().map(|word| word.value.as_str()).collect();
            sorted.sort_unstable();
            let mut shown = Vec::new();
            for word in sorted {
                let (words, _) = expand_to_words(word, escape, &scope)
                    .map_err(|source| StepError::Word { source })?;
                for word in words {
                    count(&word)?;
                    let range =
                        PortRange::parse(&word).map_err(|error| value(error.to_string()))?;
                    for entry in range.entries() {
                        count(&entry)?;
                        shown.push(entry);
                    }
                }
            }
            let exposed = &mut state.config.config.exposed_ports;
            exposed.extend(shown.iter().map(|port| (port.clone(), empty_object())));
            format!("EXPOSE [{}]", shown.join(" "))
        }
        Instruction::Volume(paths) => {
            let mut shown = Vec::new();
            for path in paths {
                let path = expand(&path.value)?;
                if path.is_empty() {
                    return Err(value("VOLUME specified can not be an empty string"));
                }
                let volumes = &mut state.config.config.volumes;
                volumes.insert(path.clone(), empty_object());
                shown.push(path);
            }
            format!("VOLUME [{}]", shown.join(" "))
        }
        Instruction::User(user) => {
            let user = expand(&user.value)?;
            state.config.config.user.clone_from(&user);
            format!("USER {user}")
        }
        Instruction::Stopsignal(signal) => {
            let signal = expand(&signal.value)?;
            if !is_signal(&signal) {
                return Err(value(format!("invalid signal: {signal}")));
            }
            state.config.config.stop_signal = Some(signal.clone());
            format!("STOPSIGNAL {signal}")
        }
        Instruction::Shell(shell) => {
            state.config.config.shell.clone_from(shell);
            format!("SHELL [{}]", shell.join(" "))
        }
        Instruction::Cmd(command) => {
            let arguments = in_exec_form(state, command);
            let shown = format!("CMD {}", quoted(&arguments));
            state.config.config.cmd = none_if_empty(arguments);
            // Of both forms, as BuildKit has it; it means something on Windows only.
            state.config.config.args_escaped = true;
            state.cmd_set = true;
            shown
        }
        Instruction::Entrypoint(command) => {
            let arguments = in_exec_form(state, command);
            let shown = format!("ENTRYPOINT {}", quoted(&arguments));
            state.config.config.entrypoint = none_if_empty(arguments);
            if !state.cmd_set {
                state.config.config.cmd = None;
            }
            shown
        }
        Instruction::Healthcheck(check) => {
            let healthcheck = healthcheck(check);
            let shown = format!("HEALTHCHECK {}", describe(&healthcheck));
            state.config.config.healthcheck = Some(healthcheck);
            shown
        }
        Instruction::Onbuild(onbuild) => {
            // The one instruction that BuildKit's history does not tell of.
            state.config.config.on_build.push(onbuild.trigger.clone());
            return Ok(true);
        }
        Instruction::Add(_)
        | Instruction::Copy(_)
        | Instruction::Run(_)
        | Instruction::Workdir(_) => return Ok(false),
    };
    count(&created_by)?;
    state.expanded = total.get();
    state.add_history(created_by, evaluation.epoch);
    Ok(true)
}

fn value(message: impl Into<String>) -> StepError {
    StepError::Value {
        message: message.into(),
    }
}

fn empty_object() -> serde_json::Value {
    serde_json::Value::Object(serde_json::Map::new())
}

/// `ENTRYPOINT []` and `CMD []` leave nothing behind: Go writes no empty list.
fn none_if_empty(arguments: Vec<String>) -> Option<Vec<String>> {
    Some(arguments).filter(|arguments| !arguments.is_empty())
}

/// A list of words as Go's `%q` prints it: `["a" "b"]`.
fn quoted(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| quote(word)).collect();
    format!("[{}]", words.join(" "))
}

/// Go's `strconv.Quote`.
fn quote(word: &str) -> String {
    let mut quoted = String::from("\"");
    for character in word.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{b}' => quoted.push_str("\\v"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            control if control.is_ascii_control() => {
                quoted.push_str(&format!("\\x{:02x}", u32::from(control)));
            }
            control if control.is_control() => {
                quoted.push_str(&format!("\\u{:04x}", u32::from(control)));
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

/// The argument vector of a command.
fn in_exec_form(state: &StageState, command: &ShellOrExec) -> Vec<String> {
    match command {
        ShellOrExec::Exec(arguments) => arguments.value.clone(),
        ShellOrExec::Shell(text) => {
            let mut arguments = state.shell();
            arguments.push(text.value.clone());
            arguments
        }
    }
}

fn healthcheck(check: &Healthcheck) -> oci::Healthcheck {
    match check {
        Healthcheck::None => oci::Healthcheck {
            test: vec!["NONE".to_owned()],
            ..oci::Healthcheck::default()
        },
        Healthcheck::Check {
            test,
            interval,
            timeout,
            start_period,
            start_interval,
            retries,
        } => {
            let test = match test {
                ShellOrExec::Shell(text) => vec!["CMD-SHELL".to_owned(), text.value.clone()],
                ShellOrExec::Exec(arguments) => std::iter::once("CMD".to_owned())
                    .chain(arguments.value.clone())
                    .collect(),
            };
            let nanoseconds =
                |duration: &Option<crate::dockerfile::Duration>| duration.map_or(0, |d| d.0);
            oci::Healthcheck {
                test,
                interval: nanoseconds(interval),
                timeout: nanoseconds(timeout),
                start_period: nanoseconds(start_period),
                start_interval: nanoseconds(start_interval),
                retries: retries.map_or(0, i64::from),
                ..oci::Healthcheck::default()
            }
        }
    }
}

/// Go's `%+v` of Docker's health configuration, as the history of current BuildKit shows it.
fn describe(check: &oci::Healthcheck) -> String {
    format!(
        "{{Test:[{}] Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{}}}",
        check.test.join(" "),
        go_duration(check.interval),
        go_duration(check.timeout),
        go_duration(check.start_period),
        go_duration(check.start_interval),
        check.retries,
    )
}

/// Nanoseconds as Go's `time.Duration` prints them: `1h0m0s`, `1.5s`, `20ms`.
fn go_duration(nanoseconds: i64) -> String {
    let decimal = |unit: u64| {
        let total = nanoseconds.unsigned_abs();
        let (whole, rest) = (total / unit, total % unit);
        let digits = unit.ilog10() as usize;
        let fraction = format!("{rest:0digits$}");
        match fraction.trim_end_matches('0') {
            "" => whole.to_string(),
            fraction => format!("{whole}.{fraction}"),
        }
    };
    match nanoseconds.unsigned_abs() {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanoseconds}ns"),
        1_000..1_000_000 => format!("{}\u{b5}s", decimal(1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", decimal(1_000_000)),
        total => {
            let seconds = total / 1_000_000_000;
            let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
            let below_minute = total - (hours * 3600 + minutes * 60) * 1_000_000_000;
            let whole = below_minute / 1_000_000_000;
            let fraction = format!("{:09}", below_minute % 1_000_000_000);
            let fraction = match fraction.trim_end_matches('0') {
                "" => String::new(),
                digits => format!(".{digits}"),
            };
            match (hours, minutes) {
                (0, 0) => format!("{whole}{fraction}s"),
                (0, _) => format!("{minutes}m{whole}{fraction}s"),
                _ => format!("{hours}h{minutes}m{whole}{fraction}s"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_in_go() {
        for (nanoseconds, expected) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5\u{b5}s"),
            (20_000_000, "20ms"),
            (1_500_000_000, "1.5s"),
            (5_000_000_000, "5s"),
            (60_000_000_000, "1m0s"),
            (3_661_000_000_000, "1h1m1s"),
            (3_600_000_000_000, "1h0m0s"),
        ] {
            assert_eq!(go_duration(nanoseconds), expected);
        }
    }

    #[test]
    fn words_are_quoted_as_in_go() {
        for (word, expected) in [
            ("a b", "\"a b\""),
            ("a\"b\\c", r#""a\"b\\c""#),
            ("tab\tend\n", r#""tab\tend\n""#),
            ("\u{1b}[0m", r#""\x1b[0m""#),
            ("\u{d55c}", "\"\u{d55c}\""),
        ] {
            assert_eq!(quote(word), expected);
        }
    }
}
