//! `--change` of commands that make an image without a Dockerfile: instructions for its configuration.

use super::add;
use super::error::StepError;
use super::metadata::{self, Evaluation};
use super::scope::{Globals, Scope};
use super::state::StageState;
use crate::dockerfile::{Instruction, Statement, parse};
use crate::oci::{ImageConfig, Platform};
use crate::store::Snapshot;

/// Instructions, in the order given.
#[derive(Debug, Clone, Default)]
pub(crate) struct Changes(Vec<Statement>);

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{text:?} cannot be read: {message}")]
    Syntax { text: String, message: String },
    /// The text of docker.
    #[error("{name} is not a valid change command")]
    Forbidden { name: String },
}

impl Changes {
    /// Parses each text as lines of a Dockerfile that docker takes here: instructions that change the
    /// configuration of an image, and neither its files nor how a build goes on.
    pub(crate) fn parse(texts: &[String]) -> Result<Self, Error> {
        let mut all = Vec::new();
        for text in texts {
            let bad = |message: String| Error::Syntax {
                text: text.clone(),
                message,
            };
            let file = parse(&format!("FROM scratch\n{text}")).map_err(|diagnostics| {
                let first = diagnostics.into_iter().next();
                bad(first.map_or_else(String::new, |first| first.message))
            })?;
            let [stage] = file.stages.as_slice() else {
                let name = "FROM".to_owned();
                return Err(Error::Forbidden { name });
            };
            if stage.statements.is_empty() {
                return Err(bad("it holds no instruction".to_owned()));
            }
            let forbidden = stage.statements.iter().find(|one| !is_allowed(one));
            if let Some(forbidden) = forbidden {
                let name = forbidden.text.split_whitespace().next();
                return Err(Error::Forbidden {
                    name: name.unwrap_or_default().to_owned(),
                });
            }
            all.extend(stage.statements.iter().cloned());
        }
        Ok(Self(all))
    }

    /// Changes `config`. Variables are those of its environment. Its history stays as it is: docker
    /// tells of the changes in no row of their own.
    pub(crate) fn apply(&self, config: &mut ImageConfig) -> Result<(), StepError> {
        let platform = Platform::new(&config.os, &config.architecture, config.variant.as_deref());
        let globals = Globals::new(&[], &platform, None);
        let (history, args_escaped) = (config.history.clone(), config.config.args_escaped);
        let mut state = StageState {
            snapshot: Snapshot::default(),
            scope: Scope::of_environment(&config.config.env, &globals),
            config: config.clone(),
            cmd_set: false,
            expanded: 0,
        };
        let evaluation = Evaluation {
            escape: '\\',
            globals: &globals,
            epoch: None,
        };
        for statement in &self.0 {
            if let Instruction::Workdir(path) = &statement.instruction {
                let expanded = state.scope.expand(&path.value, evaluation.escape);
                let path = expanded.map_err(|source| StepError::Word { source })?.value;
                state.config.config.working_dir = add::join(state.working_directory(), &path);
            } else {
                metadata::apply(&mut state, statement, evaluation)?;
            }
        }
        *config = state.config;
        config.history = history;
        config.config.args_escaped = args_escaped;
        Ok(())
    }
}

fn is_allowed(statement: &Statement) -> bool {
    matches!(
        statement.instruction,
        Instruction::Cmd(_)
            | Instruction::Entrypoint(_)
            | Instruction::Env(_)
            | Instruction::Expose(_)
            | Instruction::Healthcheck(_)
            | Instruction::Label(_)
            | Instruction::Onbuild(_)
            | Instruction::Stopsignal(_)
            | Instruction::User(_)
            | Instruction::Volume(_)
            | Instruction::Workdir(_)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(texts: &[&str]) -> ImageConfig {
        let texts: Vec<String> = texts.iter().map(|&text| text.to_owned()).collect();
        let mut config = ImageConfig {
            os: "linux".to_owned(),
            ..ImageConfig::default()
        };
        config.config.env = vec!["PATH=/bin".to_owned()];
        config.config.cmd = Some(vec!["old".to_owned()]);
        let changes = Changes::parse(&texts).unwrap();
        changes.apply(&mut config).unwrap();
        config
    }

    #[test]
    fn instructions_change_the_configuration_and_leave_no_history() {
        let config = changed(&[
            "ENV A=$PATH:/a B=2",
            "env B=3",
            "WORKDIR /srv",
            "WORKDIR app",
            "CMD [\"x\"]",
            "ENTRYPOINT serve",
            "LABEL l=$B",
            "ONBUILD RUN true",
        ]);
        let own = &config.config;
        assert_eq!(own.env, ["PATH=/bin", "A=/bin:/a", "B=3"]);
        assert_eq!(own.working_dir, "/srv/app");
        assert_eq!(own.cmd.as_deref(), Some(&["x".to_owned()][..]));
        let entrypoint = ["/bin/sh", "-c", "serve"].map(str::to_owned);
        assert_eq!(own.entrypoint.as_deref(), Some(&entrypoint[..]));
        assert_eq!(own.labels["l"], "3");
        assert_eq!(own.on_build, ["RUN true"]);
        assert!(config.history.is_empty() && !own.args_escaped);
        assert_eq!(changed(&["ENTRYPOINT a"]).config.cmd, None);
    }

    #[test]
    fn what_docker_does_not_take_is_refused() {
        for (text, why) in [
            ("RUN make", "RUN is not a valid change command"),
            ("copy a b", "copy is not a valid change command"),
            ("SHELL [\"a\"]", "SHELL is not a valid change command"),
            ("ARG a", "ARG is not a valid change command"),
            ("FROM a", "FROM is not a valid change command"),
            ("ENV a=b\nRUN true", "RUN is not a valid change command"),
            ("# nothing", "cannot be read"),
            ("NOTHING a", "cannot be read"),
            ("", "cannot be read"),
            ("ENV", "cannot be read"),
        ] {
            let error = Changes::parse(&[text.to_owned()]).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
