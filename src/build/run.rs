//! RUN: from an instruction to a sandbox, and from its end to an error that says what happened.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::engine::Engine;
use super::error::StepError;
use super::event::{Event, Phase, Spent, Stream, VertexId};
use super::key::KeyBuilder;
use super::limits::Clip;
use super::log_tail::LogTail;
use super::mount::{Mounts, Prepared};
use super::redact::Redactor;
use super::request;
use super::stage::Remember;
use super::state::StageState;
use crate::dockerfile::{RunInstruction, RunNetwork, RunScript, RunSecurity};
use crate::oci::{Digest, Platform};
use crate::ownership::{Ownership, TABLE};
use crate::sandbox::{self, Console, Emulation, Limit, Mount, Network, Spec, Status, spec};
use crate::store::{Active, Store};
use crate::sys::clock::monotonic;

/// Where a heredoc that names its interpreter is mounted, as BuildKit does it.
const SCRIPT_DIRECTORY: &str = "/dev/pipes";

/// A RUN with everything that its result depends on.
#[derive(Debug)]
pub(crate) struct Run {
    arguments: Vec<String>,
    /// An executable file to provide: its place and its text.
    script: Option<(String, String)>,
    network: Network,
    insecure: bool,
    /// The command as messages show it.
    pub(crate) shown: String,
}

impl Run {
    /// The RUN that `instruction` means in `state`.
    pub(crate) fn new(
        instruction: &RunInstruction,
        state: &StageState,
        engine: &Engine<'_>,
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
            engine.request.network,
        ) {
            (Some(RunNetwork::None), _) | (None, request::Network::None) => Network::None,
            (None | Some(RunNetwork::Default), request::Network::Isolated) => Network::Isolated,
            _ => Network::Host,
        };
        let insecure = instruction
            .security
            .as_ref()
            .is_some_and(|security| security.value == RunSecurity::Insecure);
        Self {
            arguments,
            script,
            network,
            insecure,
            shown,
        }
    }

    /// Everything that the command can see of the build, besides the files below it. As with BuildKit
    /// that is also what the command line says about RUN; what is not said leaves no mark.
    pub(crate) fn key(
        &self,
        state: &StageState,
        engine: &Engine<'_>,
        platform: &Platform,
        mounts: &Mounts,
    ) -> Digest {
        let options = &engine.request.run;
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
        if self.insecure {
            key.field("security", "insecure");
        }
        for (name, address) in &options.extra_hosts {
            key.field("host", format!("{address} {name}"));
        }
        if let Some(size) = options.shm_size {
            key.field("shm", size.to_string());
        }
        for Limit { name, soft, hard } in &options.limits {
            key.field("limit", format!("{name} {soft} {hard}"));
        }
        mounts.add_to_key(&mut key);
        if let Some(clamp) = engine.clamp {
            key.field("clamp", clamp.to_string());
        }
        key.finish()
    }

    /// Runs the command over `active`. When this returns, nothing of it runs any more. When it `is_followed`,
    /// the stage has another.
    pub(crate) fn execute(
        &self,
        engine: &Engine<'_>,
        (state, active): (&StageState, &Active),
        mounts: &Mounts,
        id: VertexId,
        is_followed: bool,
    ) -> Result<Remember, StepError> {
        let events = engine.events;
        let limits = &engine.request.limits;
        // Before the locks of caches: who has one must be able to go on.
        let turns = &engine.shared.turns;
        let _turn = turns
            .take(limits.parallel_steps, engine.cancel)
            .ok_or(StepError::Canceled)?;
        let entered = now();
        let mut prepared = mounts.prepare(engine, state)?;
        let spec = self.spec(engine, state, active, &mut prepared)?;
        let mut tail = LogTail::new();
        let began = Instant::now();
        let mut clip = Clip::new(limits.log_bytes);
        let mut log = |stream, bytes: Vec<u8>| {
            tail.push(began.elapsed(), stream, &bytes);
            let bytes = clip.cut(bytes);
            if !bytes.is_empty() {
                events.send(Event::Log { id, stream, bytes });
            }
        };
        let redactor = || Redactor::new(prepared.secrets.iter().map(Vec::as_slice));
        let mut redactors = [redactor(), redactor()];
        let exit = sandbox::run(
            &spec,
            &limits.of_sandbox(prepared.written_directories()),
            (&engine.shared.reserve, is_followed),
            &mut |output, bytes| match output {
                sandbox::Output::Stdout => log(Stream::Stdout, redactors[0].push(bytes)),
                sandbox::Output::Stderr => log(Stream::Stderr, redactors[1].push(bytes)),
            },
            engine.cancel,
        );
        log(Stream::Stdout, redactors[0].finish());
        log(Stream::Stderr, redactors[1].finish());
        let exit = exit.map_err(|source| match source {
            sandbox::Error::Canceled => StepError::Canceled,
            sandbox::Error::Exceeded(source) => StepError::Limit { source },
            source => StepError::Sandbox { source },
        })?;
        let times = [entered, exit.usage.began, exit.usage.ended, now()];
        for spent in phases(times) {
            engine.spent(id, spent);
        }
        engine.store.renew(active, &exit.restored)?;
        for message in exit.warnings {
            events.send(Event::Warning {
                id: Some(id),
                message,
            });
        }
        let how = match exit.status {
            Status::Code(0) if mounts.are_unchanged() => return Ok(Remember::Yes),
            Status::Code(0) => {
                let message = "the build context changed while the command ran, so its result is \
                               not kept in the cache";
                events.send(Event::Warning {
                    id: Some(id),
                    message: message.to_owned(),
                });
                return Ok(Remember::No);
            }
            Status::Code(code) => format!("exit code: {code}"),
            Status::Signal(signal) => {
                let name = nix::sys::signal::Signal::try_from(signal)
                    .map_or_else(|_| signal.to_string(), |signal| signal.to_string());
                format!("killed by {name}")
            }
        };
        let log = tail.lines(began.elapsed());
        Err(StepError::Run {
            command: self.shown.clone(),
            how,
            limit: limits.blame(exit.status, &log).map(Box::new),
            log,
        })
    }

    fn spec(
        &self,
        engine: &Engine<'_>,
        state: &StageState,
        active: &Active,
        prepared: &mut Prepared,
    ) -> Result<Spec, StepError> {
        let store = engine.store;
        let options = &engine.request.run;
        let mut lowers: Vec<PathBuf> = store.layer_paths(active.parent());
        lowers.push(store.stub());
        let mounts = self.script.iter().map(|(path, contents)| Mount::File {
            contents: contents.clone().into_bytes(),
            target: path.into(),
            mode: 0o755,
            uid: 0,
            gid: 0,
        });
        let mut env: Vec<(OsString, OsString)> = state
            .scope
            .environment()
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        for (name, value) in std::mem::take(&mut prepared.environment) {
            let name = OsString::from(name);
            env.retain(|(there, _)| *there != name);
            env.push((name, value));
        }
        // As with BuildKit: what the capabilities are for is not in the list of what is allowed.
        let tree = store.tree(active)?;
        let filters = if self.insecure {
            Vec::new()
        } else {
            sandbox::seccomp::filters(tree.is_some())
                .map_err(|source| StepError::Filters { source })?
        };
        let hostname = state.scope.hostname().unwrap_or(spec::DEFAULT_HOSTNAME);
        let limits = &engine.request.limits;
        limits.bound_mounts(&mut prepared.mounts);
        Ok(Spec {
            tree: tree.map(OsString::from),
            lowers: lowers.into_iter().map(OsString::from).collect(),
            upper: active.upper().into(),
            work: active.work()?.into(),
            args: self.arguments.iter().map(OsString::from).collect(),
            env,
            cwd: state.working_directory().into(),
            console: Console::Captured,
            read_only: false,
            user: state.config.config.user.clone(),
            hostname: hostname.to_owned(),
            network: self.network,
            resolv_conf: resolv_conf(self.network),
            hosts: hosts(hostname, &options.extra_hosts),
            shm_size: options.shm_size.unwrap_or(spec::DEFAULT_SHM_SIZE),
            limits: [limits.of_processes(), options.limits.clone()].concat(),
            insecure: self.insecure,
            mounts: mounts.chain(prepared.mounts.drain(..)).collect(),
            filters,
            emulation: emulation(store, active),
        })
    }
}

/// The clock that init reads too; zero if there is none, which makes phases of nothing.
fn now() -> u64 {
    monotonic().unwrap_or(0)
}

/// The phases between the moments at which a sandbox was begun, its command began and ended, and all of
/// it was gone.
fn phases(times: [u64; 4]) -> impl Iterator<Item = Spent> {
    let names = [Phase::Sandbox, Phase::Command, Phase::Teardown];
    let between = times.into_iter().zip(times.into_iter().skip(1));
    names.into_iter().zip(between).map(|(phase, (from, to))| {
        let took = Duration::from_nanos(to.saturating_sub(from));
        Spent::new(phase, took)
    })
}

/// What a sandbox with one id needs to show several.
pub(super) fn emulation(store: &Store, active: &Active) -> Option<Emulation> {
    if !matches!(store.ownership(), Ownership::Recorded(_)) {
        return None;
    }
    let layers = store.with_tables(active.parent()).into_iter();
    let tables: Vec<PathBuf> = layers.map(|path| path.with_file_name(TABLE)).collect();
    Some(Emulation {
        filter: sandbox::emulation::program(!tables.is_empty()),
        tables: tables.into_iter().map(OsString::from).collect(),
        table: active.upper().with_file_name(TABLE).into(),
    })
}

/// The host's resolver configuration: where the sandbox shares the host's network, what works there
/// works here, the stub resolver on loopback included.
pub(super) fn resolv_conf(network: Network) -> Vec<u8> {
    match network {
        Network::Host => std::fs::read("/etc/resolv.conf").unwrap_or_default(),
        Network::None => Vec::new(),
        Network::Isolated => {
            let host = std::fs::read("/etc/resolv.conf").unwrap_or_default();
            sandbox::network::resolv_conf(&String::from_utf8_lossy(&host)).into_bytes()
        }
    }
}

pub(super) fn hosts(hostname: &str, extra: &[(String, IpAddr)]) -> Vec<u8> {
    let mut text =
        format!("127.0.0.1\tlocalhost {hostname}\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    for (name, address) in extra {
        text.push_str(&format!("{address}\t{name}\n"));
    }
    text.into_bytes()
}
