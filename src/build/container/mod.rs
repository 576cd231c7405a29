//! A command in an image, outside of a build: what it runs as, over which files, and what is kept.
//!
//! The sandbox is that of RUN. What the command writes goes to a layer that nobody has named yet, and
//! is gone with the [`Container`] unless [`Container::keep`] makes an image of it.

mod locate;
mod process;

use std::ffi::OsString;
use std::net::IpAddr;

pub(crate) use locate::{Found, Pull, find};
pub(crate) use process::Variable;

use super::add;
use super::changes::Changes;
use super::commit::{LayerOptions, commit as commit_layer};
use super::error::StepError;
use super::image::{self, Dialect};
use super::limits::Limits;
use super::request::Encoding;
use super::run;
use super::scope::Scope;
use super::stage::{now, rfc3339};
use super::state::{BUILDERS_OWN, StageState};
use crate::oci::{Digest, History, ImageConfig, Reference};
use crate::sandbox::{self, Console, Limit, Network, Spec, spec};
use crate::store::{Active, Snapshot, Store};

/// Digits of an image's id that name its containers, as docker shortens ids.
const SHORT_ID: usize = 12;

/// What the caller wants to run; what is `None` is as the image says.
#[derive(Debug)]
pub(crate) struct Request {
    /// Replaces the image's ENTRYPOINT and CMD; an empty list is no entrypoint.
    pub(crate) entrypoint: Option<Vec<String>>,
    /// Replaces the image's CMD unless empty.
    pub(crate) command: Vec<String>,
    /// In the order given; the last of a name wins.
    pub(crate) environment: Vec<Variable>,
    pub(crate) mounts: Vec<sandbox::Mount>,
    /// Absolute.
    pub(crate) working_directory: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) hostname: Option<String>,
    pub(crate) extra_hosts: Vec<(String, IpAddr)>,
    pub(crate) network: Network,
    pub(crate) shm_size: Option<u64>,
    pub(crate) limits: Vec<Limit>,
    pub(crate) held_to: Limits,
    pub(crate) read_only: bool,
    pub(crate) console: Console,
    /// The command reads what the caller types or pipes.
    pub(crate) reads_input: bool,
}

/// What an image that is made of a command's files says beside them (docker's `commit`).
#[derive(Debug, Default)]
pub(crate) struct Commit {
    pub(crate) changes: Changes,
    pub(crate) message: Option<String>,
    pub(crate) author: Option<String>,
}

/// A command that is ready to run, and the layer for what it writes.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) spec: Spec,
    active: Active,
    config: ImageConfig,
}

impl Container {
    /// Prepares the command of `request` in the image `found`, whose files are `snapshot`.
    pub(crate) fn new(
        store: &Store,
        found: &Found,
        snapshot: &Snapshot,
        request: &Request,
    ) -> Result<Self, StepError> {
        let config = &found.config().config;
        let arguments = process::arguments(request.entrypoint.as_deref(), &request.command, config)
            .ok_or_else(|| StepError::Value {
                message: format!(
                    "no command specified: {} has neither CMD nor ENTRYPOINT",
                    found.name()
                ),
            })?;
        let id = found.id().hex();
        let hostname = request
            .hostname
            .clone()
            .unwrap_or_else(|| id[..SHORT_ID.min(id.len())].to_owned());
        let has_terminal = matches!(request.console, Console::Terminal { .. });
        let environment =
            process::environment(&config.env, &request.environment, &hostname, has_terminal);
        let directory = request
            .working_directory
            .as_deref()
            .unwrap_or(&config.working_dir);
        let user = request.user.as_ref().unwrap_or(&config.user);
        let mut mounts = in_order(&request.mounts)?;
        request.held_to.bound_mounts(&mut mounts);
        let active = store.prepare(snapshot)?;
        let lowers = store.layer_paths(active.parent()).into_iter();
        let tree = store.tree(&active)?;
        let spec = Spec {
            lowers: lowers.chain([store.stub()]).map(OsString::from).collect(),
            upper: active.upper().into(),
            work: active.work()?.into(),
            args: arguments.into_iter().map(OsString::from).collect(),
            env: environment,
            cwd: add::join("/", directory).into(),
            console: request.console,
            read_only: request.read_only,
            user: user.clone(),
            network: request.network,
            resolv_conf: run::resolv_conf(request.network),
            hosts: run::hosts(&hostname, &request.extra_hosts),
            hostname,
            shm_size: request.shm_size.unwrap_or(spec::DEFAULT_SHM_SIZE),
            limits: [request.held_to.of_processes(), request.limits.clone()].concat(),
            insecure: false,
            mounts,
            filters: sandbox::seccomp::filters(tree.is_some())
                .map_err(|source| StepError::Filters { source })?,
            tree: tree.map(OsString::from),
            emulation: run::emulation(store, &active),
        };
        Ok(Self {
            spec,
            active,
            config: found.config().clone(),
        })
    }

    /// Takes note of what stood aside while the command ran, which [`Container::keep`] needs to know.
    pub(crate) fn settle(&self, store: &Store, ended: &sandbox::Exit) -> Result<(), StepError> {
        Ok(store.renew(&self.active, &ended.restored)?)
    }

    /// Makes an image of what the command wrote and calls it `name`; the image's id. The configuration
    /// is that of the image that ran with the changes of `commit`, not what the caller replaced of it.
    /// Nothing of the command may be running any more. `epoch` replaces the current time.
    pub(crate) fn keep(
        self,
        store: &Store,
        name: &Reference,
        commit: &Commit,
        epoch: Option<i64>,
    ) -> Result<Digest, StepError> {
        let created = epoch.map_or_else(now, rfc3339);
        let encoding = Encoding::default();
        let options = LayerOptions {
            blob: Some(encoding),
            is_commands: true,
            ..LayerOptions::default()
        };
        let committed = commit_layer(store, self.active, options, None, None)?;
        let (snapshot, layer) = (committed.snapshot, committed.diff_id);
        let mut config = self.config;
        for stale in BUILDERS_OWN
            .iter()
            .chain(&["container", "container_config"])
        {
            config.other.remove(*stale);
        }
        config.created = Some(created.clone());
        let command: Vec<_> = self.spec.args.iter().map(|a| a.to_string_lossy()).collect();
        config.history.push(History {
            created: Some(created),
            created_by: Some(format!("rbuild run {}", command.join(" "))),
            author: commit.author.clone(),
            comment: commit.message.clone(),
            empty_layer: layer.is_none(),
            ..History::default()
        });
        // Whoever made the image below did not make this one.
        config.author.clone_from(&commit.author);
        commit.changes.apply(&mut config)?;
        config.rootfs.diff_ids.extend(layer);
        let state = StageState {
            snapshot,
            config,
            scope: Scope::default(),
            cmd_set: false,
            expanded: 0,
        };
        let blobs = image::assemble(store, &state, &state.config, encoding, Dialect::Oci, None)?;
        let id = blobs.config.digest.clone();
        image::publish(store, &blobs.into(), std::slice::from_ref(name))?;
        Ok(id)
    }
}

fn target(mount: &sandbox::Mount) -> &OsString {
    match mount {
        sandbox::Mount::Bind { target, .. }
        | sandbox::Mount::Tree { target, .. }
        | sandbox::Mount::Tmpfs { target, .. }
        | sandbox::Mount::File { target, .. } => target,
    }
}

/// What is below another mount comes after it, as with docker, which also takes no target twice.
fn in_order(mounts: &[sandbox::Mount]) -> Result<Vec<sandbox::Mount>, StepError> {
    let depth = |mount: &sandbox::Mount| std::path::Path::new(target(mount)).components().count();
    let mut sorted = mounts.to_vec();
    sorted.sort_by_key(depth);
    for (index, mount) in sorted.iter().enumerate() {
        if sorted[..index]
            .iter()
            .any(|other| target(other) == target(mount))
        {
            return Err(StepError::Value {
                message: format!("duplicate mount point: {}", target(mount).display()),
            });
        }
    }
    Ok(sorted)
}
