//! Options of `docker run` that rbuild cannot carry out, each with its reason.

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::OWN_FAILURE;
use crate::cli::{Exit, report};

const NO_DAEMON: &str = "there is no daemon: the command runs in the foreground";
const NOTHING_STAYS: &str = "nothing stays of a container, so there is no list that could have names, \
                             labels or states of it";
const HOST_NETWORK: &str = "the network is the host's, so every port is already there; --network none \
                            takes it away";
const SANDBOX: &str = "the sandbox is that of RUN and cannot be opened or closed further";
const LIMITS: &str =
    "control groups need root or a delegation from systemd; --ulimit limits a process";

const REFUSED: [(&str, &[&str]); 7] = [
    (
        NO_DAEMON,
        &[
            "-d",
            "--detach",
            "--restart",
            "--detach-keys",
            "--sig-proxy",
            "-a",
            "--attach",
            "--stop-signal",
            "--stop-timeout",
            "--health-cmd",
            "--no-healthcheck",
            "--log-driver",
            "--log-opt",
            "--runtime",
        ],
    ),
    (
        NOTHING_STAYS,
        &[
            "--name",
            "--cidfile",
            "-l",
            "--label",
            "--label-file",
            "--volumes-from",
            "--link",
        ],
    ),
    (
        HOST_NETWORK,
        &[
            "-p",
            "--publish",
            "-P",
            "--publish-all",
            "--expose",
            "--ip",
            "--ip6",
            "--mac-address",
            "--dns",
            "--dns-search",
            "--dns-option",
            "--network-alias",
            "--domainname",
        ],
    ),
    (
        SANDBOX,
        &[
            "--privileged",
            "--cap-add",
            "--cap-drop",
            "--security-opt",
            "--device",
            "--gpus",
            "--ipc",
            "--pid",
            "--uts",
            "--userns",
            "--cgroupns",
            "--sysctl",
            "--group-add",
        ],
    ),
    (
        LIMITS,
        &[
            "-m",
            "--memory",
            "--memory-swap",
            "--memory-reservation",
            "-c",
            "--cpu-shares",
            "--cpus",
            "--cpuset-cpus",
            "--pids-limit",
            "--cgroup-parent",
            "--oom-kill-disable",
            "--blkio-weight",
        ],
    ),
    (
        "-v SRC:DST[:ro] mounts what is on this machine, --tmpfs DST memory",
        &["--mount", "--volume-driver", "--storage-opt"],
    ),
    (
        "the first process is rbuild's own, which reaps, so there is an init already",
        &["--init"],
    ),
];

/// Says what is wrong with a command line that clap refused; `None` for what is no failure, such as
/// `--help`. As with docker the code is 125, because others are the command's.
pub(in crate::cli) fn usage_error(error: &clap::Error) -> Option<Exit> {
    if !error.use_stderr() {
        return None;
    }
    match reason(error) {
        Some((option, reason)) => {
            report::print_error(&format!("{option} is not supported: {reason}"));
        }
        None => drop(error.print()),
    }
    Some(OWN_FAILURE)
}

fn reason(error: &clap::Error) -> Option<(&str, &'static str)> {
    if error.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    let Some(ContextValue::String(option)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    let name = option.split(['=', ' ']).next().unwrap_or(option);
    let (reason, _) = REFUSED.iter().find(|(_, names)| names.contains(&name))?;
    Some((name, reason))
}
