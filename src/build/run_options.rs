//! What the command line says about every RUN.

use std::net::IpAddr;
use std::path::PathBuf;

use crate::sandbox::Limit;

/// The build argument with the host name of RUN (Dockerfile reference, "BuildKit built-in build args").
pub(crate) const HOSTNAME_ARGUMENT: &str = "BUILDKIT_SANDBOX_HOSTNAME";

/// Options of `rbuild build` that only RUN sees.
#[derive(Debug, Clone, Default)]
pub(crate) struct RunOptions {
    /// `--ssh`; of two with one id the later counts.
    pub(crate) ssh: Vec<SshAgent>,
    /// `--allow security.insecure`.
    pub(crate) allow_insecure: bool,
    /// `--allow network.host`.
    pub(crate) allow_host_network: bool,
    /// `--add-host`: lines of /etc/hosts.
    pub(crate) extra_hosts: Vec<(String, IpAddr)>,
    /// `--shm-size`: bytes of /dev/shm.
    pub(crate) shm_size: Option<u64>,
    /// `--ulimit`: not above the limits of rbuild itself.
    pub(crate) limits: Vec<Limit>,
}

/// One `--ssh`: an agent that RUN may ask for signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SshAgent {
    pub(crate) id: String,
    pub(crate) socket: PathBuf,
}
