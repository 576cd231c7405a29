//! RUN: from an instruction to a sandbox, and from its end to an error that says what happened.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Instant;

use super::error::StepError;
use super::event::{Event, EventSender, Stream, VertexId};
use super::key::KeyBuilder;
use super::log_tail::LogTail;
use super::request;
use super::state::StageState;
use crate::dockerfile::{RunInstruction, RunNetwork, RunScript};
use crate::oci::{Digest, Platform};
use crate::sandbox::{self, Cancel, Mount, Network, Spec, Status, spec};
use crate::store::{Active, Store};

/// Where a heredoc that names its interpreter is mounted, as BuildKit does it.
const SCRIPT_DIRECTORY: &str = "/dev/pipes";

/// A RUN with everything that its result depends on.
#[derive(Debug)]
pub(crate) struct Run {
    arguments: Vec<String>,
    /// An executable file to provide: its place and its text.
    script: Option<(String, String)>,
    network: Network,
    /// The command as messages show it.
    pub(crate) shown: String,
}

impl Run {
    /// The RUN that `instruction` means in `state`.
    pub(crate) fn new(
        instruction: &RunInstruction,
        state: &StageState,
        network: request::Network,
    ) -> Self {
        let mut script = None;
        let (arguments, shown) = match instruction.script() {
            RunScript::Exec(arguments) => {
                let shown = arguments.join(" ");
                (arguments, shown)
            }
            RunScript::Shell(text) => {
                let mut arguments = state.shell();
                arguments.push(text);
                let shown = arguments.join(" ");
                (arguments, shown)
            }
            RunScript::File { name, contents } => {
                let path = format!("{SCRIPT_DIRECTORY}/{name}");
                script = Some((path.clone(), contents));
                (vec![path.clone()], path)
            }
        };
        let network = match (
            instruction.network.as_ref().map(|network| network.value),
            network,
        ) {
            (Some(RunNetwork::None), _) | (None, request::Network::None) => Network::None,
            (Some(RunNetwork::Default), request::Network::None) => Network::None,
            _ => Network::Host,
        };
        Self {
            arguments,
            script,
            network,
            shown,
        }
    }

    /// Everything that the command can see of the build, besides the files below it.
    pub(crate) fn key(
        &self,
        state: &StageState,
        platform: &Platform,
        clamp: Option<i64>,
    ) -> Digest {
        let mut key = KeyBuilder::new("run", state.snapshot.chain_id(), platform);
        key.list("argument", &self.arguments);
        key.list(
            "environment",
            state
                .scope
                .visible()
                .iter()
                .map(|(n, v)| format!("{n}={v}")),
        );
        key.field("user", &state.config.config.user);
        key.field("directory", state.working_directory());
        key.field("network", format!("{:?}", self.network));
        if let Some(hostname) = state.scope.hostname() {
            key.field("hostname", hostname);
        }
        if let Some((path, contents)) = &self.script {
            key.field("script", path).field("script contents", contents);
        }
        if let Some(clamp) = clamp {
            key.field("clamp", clamp.to_string());
        }
        key.finish()
    }

    /// Runs the command over `active`. When this returns, nothing of it runs any more.
    pub(crate) fn execute(
        &self,
        store: &Store,
        state: &StageState,
        active: &Active,
        id: VertexId,
        events: &EventSender,
        cancel: &Cancel,
    ) -> Result<(), StepError> {
        let spec = self.spec(store, state, active)?;
        let mut tail = LogTail::new();
        let began = Instant::now();
        let exit = sandbox::run(
            &spec,
            &mut |output, bytes| {
                let stream = match output {
                    sandbox::Output::Stdout => Stream::Stdout,
                    sandbox::Output::Stderr => Stream::Stderr,
                };
                tail.push(began.elapsed(), stream, bytes);
                events.send(Event::Log {
                    id,
                    stream,
                    bytes: bytes.to_vec(),
                });
            },
            cancel,
        )
        .map_err(|source| match source {
            sandbox::Error::Canceled => StepError::Canceled,
            source => StepError::Sandbox { source },
        })?;
        for message in exit.warnings {
            events.send(Event::Warning {
                id: Some(id),
                message,
            });
        }
        let how = match exit.status {
            Status::Code(0) => return Ok(()),
            Status::Code(code) => format!("exit code: {code}"),
            Status::Signal(signal) => {
                let name = nix::sys::signal::Signal::try_from(signal)
                    .map_or_else(|_| signal.to_string(), |signal| signal.to_string());
                format!("killed by {name}")
            }
        };
        Err(StepError::Run {
            command: self.shown.clone(),
            how,
            log: tail.lines(began.elapsed()),
        })
    }

    fn spec(&self, store: &Store, state: &StageState, active: &Active) -> Result<Spec, StepError> {
        let mut lowers: Vec<PathBuf> = store.layer_paths(active.parent());
        lowers.push(store.stub());
        let mounts = self.script.iter().map(|(path, contents)| Mount::File {
            contents: contents.clone().into_bytes(),
            target: path.into(),
            mode: 0o755,
        });
        let hostname = state.scope.hostname().unwrap_or(spec::DEFAULT_HOSTNAME);
        Ok(Spec {
            lowers: lowers.into_iter().map(OsString::from).collect(),
            upper: active.upper().into(),
            work: active.work()?.into(),
            args: self.arguments.iter().map(OsString::from).collect(),
            env: state
                .scope
                .environment()
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
            cwd: state.working_directory().into(),
            user: state.config.config.user.clone(),
            hostname: hostname.to_owned(),
            network: self.network,
            resolv_conf: resolv_conf(self.network),
            hosts: hosts(hostname),
            shm_size: spec::DEFAULT_SHM_SIZE,
            max_processes: None,
            mounts: mounts.collect(),
            filters: sandbox::seccomp::filters()
                .map_err(|source| StepError::Filters {
                    source: source.clone(),
                })?
                .to_vec(),
        })
    }
}

/// The host's resolver configuration: the sandbox shares the host's network, so what works there
/// works here, the stub resolver on loopback included.
fn resolv_conf(network: Network) -> Vec<u8> {
    match network {
        Network::Host => std::fs::read("/etc/resolv.conf").unwrap_or_default(),
        Network::None => Vec::new(),
    }
}

fn hosts(hostname: &str) -> Vec<u8> {
    format!("127.0.0.1\tlocalhost {hostname}\n::1\tlocalhost ip6-localhost ip6-loopback\n")
        .into_bytes()
}
