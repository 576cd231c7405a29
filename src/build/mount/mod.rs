//! The mounts of RUN: from `--mount=` to what the sandbox is told.
//!
//! [`Mounts::resolve`] expands the flags and digests what they bind, for the cache key;
//! [`Mounts::prepare`] makes what a run needs: copies, cache directories with their locks, secrets,
//! the ssh proxy. All of it but the cache directories is gone when the [`Prepared`] is.

mod bind;
mod cache;
mod secret;
mod ssh;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Mutex;

use super::add;
use super::engine::Engine;
use super::error::StepError;
use super::event::VertexId;
use super::key::KeyBuilder;
use super::plan::Step;
use super::stage::source_of;
use super::state::StageState;
use crate::dockerfile::{RunInstruction, RunMount, SecretMount, SshMount};
use crate::oci::Digest;
use crate::sandbox;
use crate::store::{Active, CacheDirectory};

use bind::Bind;
use cache::Cache;
use ssh::Proxy;

/// Where ssh looks for its agent. A value from the Dockerfile stays, as with BuildKit.
const SSH_AUTH_SOCK: &str = "SSH_AUTH_SOCK";

/// What the mounts of all steps of one build share.
#[derive(Debug, Default)]
pub(crate) struct Mounted {
    /// Copies of what an ignore file leaves of a context, by their content.
    copies: Mutex<BTreeMap<Digest, PathBuf>>,
    /// Cache directories that `--no-cache` has renewed.
    renewed: Mutex<BTreeSet<Digest>>,
}

/// The mounts of one RUN with expanded values, in the order in which they are mounted.
#[derive(Debug)]
pub(crate) struct Mounts {
    list: Vec<Resolved>,
    /// The first socket of an agent in the order of the Dockerfile.
    socket: Option<String>,
}

#[derive(Debug)]
struct Resolved {
    /// Absolute and cleaned; empty for a secret that is only in the environment.
    target: String,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Bind(Bind),
    Cache(Cache),
    Tmpfs { size: Option<u64> },
    Secret(SecretMount),
    Ssh(SshMount),
}

/// What one run of the command mounts, and what has to stay until it is over.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    pub(crate) mounts: Vec<sandbox::Mount>,
    /// Variables for the command alone. They replace others of the name.
    pub(crate) environment: Vec<(String, OsString)>,
    /// What the command may print and the log may not have.
    pub(crate) secrets: Vec<Vec<u8>>,
    _uppers: Vec<Active>,
    _caches: Vec<CacheDirectory>,
    _proxies: Vec<Proxy>,
}

impl Prepared {
    /// What the command writes to besides its layer.
    pub(crate) fn written_directories(&self) -> Vec<PathBuf> {
        let caches = self._caches.iter().map(|cache| cache.path().to_owned());
        caches
            .chain(self._uppers.iter().map(Active::upper))
            .collect()
    }
}

impl Mounts {
    /// The mounts that `instruction` means in `state`. Fetches and digests what they bind.
    pub(crate) fn resolve(
        engine: &Engine<'_>,
        id: VertexId,
        instruction: &RunInstruction,
        step: &Step,
        state: &StageState,
    ) -> Result<Self, StepError> {
        let escape = engine.plan.escape;
        let mut list: Vec<Resolved> = Vec::new();
        let mut sockets = Vec::new();
        for (flag, from) in instruction.mounts.iter().zip(&step.mounts) {
            let mut expand = |word: &str| state.scope.expand(word, escape).map(|e| e.value);
            // The span of a trigger's flag is not one of this file: the step has the place.
            let mount = flag
                .resolve(&mut expand)
                .map_err(|diagnostic| StepError::Value {
                    message: diagnostic.message,
                })?;
            let (target, kind) = match mount {
                RunMount::Bind(bind) => {
                    let target = bind.target.clone();
                    let source = source_of(engine, id, from.as_ref())?;
                    (target, Kind::Bind(Bind::new(engine, bind, source)?))
                }
                RunMount::Cache(cache) => {
                    let target = cache.target.clone();
                    let seed = match from {
                        Some(from) => Some(source_of(engine, id, Some(from))?),
                        None => None,
                    };
                    (target, Kind::Cache(Cache::new(engine, cache, seed)?))
                }
                RunMount::Tmpfs(tmpfs) => (tmpfs.target, Kind::Tmpfs { size: tmpfs.size }),
                RunMount::Secret(secret) => {
                    let target = secret.target.clone().unwrap_or_default();
                    if target.is_empty() {
                        list.push(Resolved {
                            target,
                            kind: Kind::Secret(secret),
                        });
                        continue;
                    }
                    (target, Kind::Secret(secret))
                }
                RunMount::Ssh(ssh) => {
                    let number = sockets.len();
                    let default = || format!("/run/buildkit/ssh_agent.{number}");
                    let target = ssh.target.clone().unwrap_or_else(default);
                    sockets.push(add::join(state.working_directory(), &target));
                    (target, Kind::Ssh(ssh))
                }
            };
            let target = add::join(state.working_directory(), &target);
            check_target(&target)?;
            list.push(Resolved { target, kind });
        }
        // As BuildKit does it: what is below another mount comes after it, and the later of two with
        // one target covers the earlier.
        list.sort_by(|a, b| a.target.cmp(&b.target));
        Ok(Self {
            list,
            socket: sockets.into_iter().next(),
        })
    }

    /// Adds the options of every mount, and the content of those that bind. What is in caches and
    /// secrets does not count.
    pub(crate) fn add_to_key(&self, key: &mut KeyBuilder) {
        let number = |number: Option<u32>| number.map_or_else(String::new, |n| n.to_string());
        for mount in &self.list {
            key.field("mount", &mount.target);
            match &mount.kind {
                Kind::Bind(bind) => bind.add_to_key(key),
                Kind::Cache(cache) => cache.add_to_key(key),
                Kind::Tmpfs { size } => {
                    key.field("tmpfs", size.map_or_else(String::new, |s| s.to_string()));
                }
                Kind::Secret(secret) => {
                    key.field("secret", &secret.id)
                        .field("env", secret.env.as_deref().unwrap_or(""))
                        .field("required", [u8::from(secret.required)])
                        .field("mode", number(secret.mode))
                        .field("uid", number(secret.uid))
                        .field("gid", number(secret.gid));
                }
                Kind::Ssh(ssh) => {
                    key.field("ssh", &ssh.id)
                        .field("required", [u8::from(ssh.required)])
                        .field("mode", number(ssh.mode))
                        .field("uid", number(ssh.uid))
                        .field("gid", number(ssh.gid));
                }
            }
        }
    }

    /// Makes what the mounts need. Waits for locked caches.
    pub(crate) fn prepare(
        &self,
        engine: &Engine<'_>,
        state: &StageState,
    ) -> Result<Prepared, StepError> {
        let mut prepared = Prepared::default();
        let caches = self.list.iter().filter_map(|mount| match &mount.kind {
            Kind::Cache(cache) => Some(cache),
            _ => None,
        });
        let directories = cache::take(engine, caches)?;
        for Resolved { target, kind } in &self.list {
            let into = OsString::from(target);
            match kind {
                Kind::Bind(bind) => {
                    let (mount, upper) = bind.prepare(engine, into)?;
                    prepared.mounts.push(mount);
                    prepared._uppers.extend(upper);
                }
                Kind::Cache(cache) => {
                    let directory = directories[&cache.key].path();
                    let source = if cache.read_only && engine.store.is_flat() {
                        cache::copy_of(engine, directory)?.into()
                    } else {
                        directory.into()
                    };
                    prepared.mounts.push(sandbox::Mount::Bind {
                        source,
                        target: into,
                        read_only: cache.read_only,
                    });
                }
                Kind::Tmpfs { size } => prepared.mounts.push(sandbox::Mount::Tmpfs {
                    target: into,
                    size: *size,
                    mode: 0o1777,
                    no_exec: false,
                }),
                Kind::Secret(secret) => secret::prepare(engine, secret, into, &mut prepared)?,
                Kind::Ssh(ssh) => {
                    if let Some((proxy, mount)) = ssh::prepare(engine, ssh, into)? {
                        prepared._proxies.push(proxy);
                        prepared.mounts.push(mount);
                    }
                }
            }
        }
        prepared._caches = directories.into_values().collect();
        let is_set = |(name, _): &(String, String)| name == SSH_AUTH_SOCK;
        if let Some(socket) = &self.socket
            && !state.scope.visible().iter().any(is_set)
        {
            let value = OsString::from(socket);
            prepared.environment.push((SSH_AUTH_SOCK.to_owned(), value));
        }
        Ok(prepared)
    }

    /// Whether what was bound still is what the key was made of. The context is not a snapshot: a
    /// step that ran while somebody changed it must not be found under the old content's key.
    pub(crate) fn are_unchanged(&self) -> bool {
        self.list.iter().all(|mount| match &mount.kind {
            Kind::Bind(bind) => bind.is_unchanged(),
            _ => true,
        })
    }
}

/// Refuses what a container runtime refuses: the whole root, and places in /proc, where programs
/// must find the kernel and nothing else.
fn check_target(target: &str) -> Result<(), StepError> {
    if target == "/" {
        let message = format!("invalid mount target {target:?}");
        return Err(StepError::Value { message });
    }
    if target == "/proc" || target.starts_with("/proc/") {
        let message = format!("cannot mount on {target}: it is inside /proc");
        return Err(StepError::Value { message });
    }
    Ok(())
}
