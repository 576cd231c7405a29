//! The instructions that change the configuration and no files.

use super::error::StepError;
use super::scope::Globals;
use super::state::StageState;
use crate::dockerfile::{
    Healthcheck, Instruction, PortRange, ShellOrExec, Statement, expand_to_words, is_signal,
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
    let expand = |word: &str| {
        scope
            .expand(word, escape)
            .map(|expanded| expanded.value)
            .map_err(|source| StepError::Word { source })
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
                let value = state
                    .scope
                    .arguments()
                    .iter()
                    .find(|(there, _)| there == name);
                shown.push(match value {
                    Some((_, value)) => format!("{name}={value}"),
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
            let mut shown = Vec::new();
            for word in ports {
                let (words, _) = expand_to_words(&word.value, escape, &scope)
                    .map_err(|source| StepError::Word { source })?;
                for word in words {
                    let range =
                        PortRange::parse(&word).map_err(|error| value(error.to_string()))?;
                    shown.extend(range.entries());
                }
            }
            shown.sort();
            shown.dedup();
            for port in &shown {
                let empty = serde_json::Value::Object(serde_json::Map::new());
                state
                    .config
                    .config
                    .exposed_ports
                    .insert(port.clone(), empty);
            }
            format!(
                "EXPOSE map[{}]",
                shown
                    .iter()
                    .map(|p| format!("{p}:{{}}"))
                    .collect::<Vec<_>>()
                    .join(" ")
            )
        }
        Instruction::Volume(paths) => {
            let mut shown = Vec::new();
            for path in paths {
                let path = expand(&path.value)?;
                if path.is_empty() {
                    return Err(value("VOLUME specified can not be an empty string"));
                }
                let empty = serde_json::Value::Object(serde_json::Map::new());
                state.config.config.volumes.insert(path.clone(), empty);
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
            let (arguments, escaped) = in_exec_form(state, command);
            let shown = format!("CMD {}", json(&arguments));
            state.config.config.cmd = Some(arguments);
            state.config.config.args_escaped = escaped;
            state.cmd_set = true;
            shown
        }
        Instruction::Entrypoint(command) => {
            let (arguments, _) = in_exec_form(state, command);
            let shown = format!("ENTRYPOINT {}", json(&arguments));
            state.config.config.entrypoint = Some(arguments);
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
            state.config.config.on_build.push(onbuild.trigger.clone());
            format!("ONBUILD {}", onbuild.trigger)
        }
        Instruction::Add(_)
        | Instruction::Copy(_)
        | Instruction::Run(_)
        | Instruction::Workdir(_) => return Ok(false),
    };
    state.add_history(created_by, evaluation.epoch);
    Ok(true)
}

fn value(message: impl Into<String>) -> StepError {
    StepError::Value {
        message: message.into(),
    }
}

fn json(arguments: &[String]) -> String {
    serde_json::to_string(arguments).expect("strings are JSON")
}

/// The argument vector of a command, and whether it came from the shell form.
fn in_exec_form(state: &StageState, command: &ShellOrExec) -> (Vec<String>, bool) {
    match command {
        ShellOrExec::Exec(arguments) => (arguments.value.clone(), false),
        ShellOrExec::Shell(text) => {
            let mut arguments = state.shell();
            arguments.push(text.value.clone());
            (arguments, true)
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
            }
        }
    }
}

/// Go's `%q` of Docker's health configuration, as `docker history` shows it.
fn describe(check: &oci::Healthcheck) -> String {
    let quoted: Vec<String> = check.test.iter().map(|word| format!("{word:?}")).collect();
    let seconds = |nanoseconds: i64| {
        if nanoseconds == 0 {
            "0s".to_owned()
        } else {
            format!("{}s", nanoseconds as f64 / 1e9)
        }
    };
    format!(
        "&{{[{}] {} {} {} {} {}}}",
        quoted.join(" "),
        seconds(check.interval),
        seconds(check.timeout),
        seconds(check.start_period),
        seconds(check.start_interval),
        check.retries,
    )
}
