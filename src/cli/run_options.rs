//! Options of `rbuild build` about RUN: `--ssh`, `--allow`, `--add-host`, `--shm-size`, `--ulimit`.

use std::net::IpAddr;
use std::os::unix::fs::FileTypeExt as _;
use std::path::PathBuf;

use clap::Args;
use nix::sys::resource::{RLIM_INFINITY, getrlimit};

use crate::build::run_options::{RunOptions, SshAgent};
use crate::dockerfile::parse_size;
use crate::sandbox::{Limit, limits};

/// HOST_NAME_MAX of Linux (sethostname(2)).
const LONGEST_HOSTNAME: usize = 64;

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// An agent for RUN --mount=type=ssh: default or ID, of $SSH_AUTH_SOCK, or ID=SOCKET; repeatable
    #[arg(long = "ssh", value_name = "AGENT", value_parser = ssh)]
    ssh: Vec<SshAgent>,
    /// What a RUN may ask for: network.host, security.insecure; repeatable
    #[arg(long = "allow", value_name = "RIGHT", value_parser = allow, value_delimiter = ',')]
    allow: Vec<Right>,
    /// A line of /etc/hosts for RUN: NAME:ADDRESS or NAME=ADDRESS; repeatable
    #[arg(long = "add-host", value_name = "HOST", value_parser = host)]
    add_host: Vec<(String, IpAddr)>,
    /// Size of /dev/shm for RUN [default: 64m]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    shm_size: Option<u64>,
    /// A resource limit of RUN, NAME=SOFT[:HARD], not above rbuild's own; repeatable
    #[arg(long = "ulimit", value_name = "LIMIT", value_parser = limit)]
    ulimit: Vec<Limit>,
}

impl RunArgs {
    pub(super) fn into_options(self) -> RunOptions {
        RunOptions {
            ssh: self.ssh,
            allow_host_network: self.allow.contains(&Right::HostNetwork),
            allow_insecure: self.allow.contains(&Right::Insecure),
            extra_hosts: self.add_host,
            shm_size: self.shm_size,
            limits: self.ulimit,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Right {
    /// Means something with `--network isolated`: else the host's network is what every RUN has.
    HostNetwork,
    Insecure,
}

fn allow(text: &str) -> Result<Right, String> {
    match text {
        "network.host" => Ok(Right::HostNetwork),
        "security.insecure" => Ok(Right::Insecure),
        _ => Err(format!(
            "{text:?} cannot be allowed (network.host, security.insecure)"
        )),
    }
}

/// `default`, `ID` or `ID=SOCKET`. docker also takes key files; rbuild holds no private keys.
fn ssh(text: &str) -> Result<SshAgent, String> {
    let (id, path) = match text.split_once('=') {
        Some((id, path)) => (id, Some(path)),
        None => (text, None),
    };
    let id = if id.is_empty() { "default" } else { id };
    let socket = match path.filter(|path| !path.is_empty()) {
        Some(path) => PathBuf::from(path),
        None => std::env::var_os("SSH_AUTH_SOCK")
            .filter(|path| !path.is_empty())
            .map(PathBuf::from)
            .ok_or_else(|| {
                format!("the ssh agent {id:?} has no socket: SSH_AUTH_SOCK is not set")
            })?,
    };
    let metadata = match std::fs::metadata(&socket) {
        Ok(metadata) => metadata,
        // Several key files, as docker takes them.
        Err(_) if path.is_some_and(|path| path.contains(',')) => return Err(no_keys(id)),
        Err(error) => {
            return Err(format!(
                "cannot use the ssh agent {}: {error}",
                socket.display()
            ));
        }
    };
    if !metadata.file_type().is_socket() {
        return Err(no_keys(id));
    }
    Ok(SshAgent {
        id: id.to_owned(),
        socket,
    })
}

fn no_keys(id: &str) -> String {
    format!(
        "key files are not supported: add the key to an agent (ssh-add FILE) and give --ssh {id}"
    )
}

/// `NAME:ADDRESS` or `NAME=ADDRESS`; an IPv6 address may stand in brackets.
pub(super) fn host(text: &str) -> Result<(String, IpAddr), String> {
    let (name, address) = text
        .split_once('=')
        .or_else(|| text.split_once(':'))
        .ok_or_else(|| format!("{text:?} is not NAME:ADDRESS or NAME=ADDRESS"))?;
    if address == "host-gateway" {
        return Err(
            "host-gateway is not supported: a command shares the host's network, where localhost is \
             the host"
                .to_owned(),
        );
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if name.is_empty() || !name.chars().all(is_name) {
        return Err(format!("{name:?} is no host name"));
    }
    let bare = address
        .strip_prefix('[')
        .and_then(|address| address.strip_suffix(']'))
        .unwrap_or(address);
    let address = bare
        .parse()
        .map_err(|_| format!("{address:?} is no IP address"))?;
    Ok((name.to_owned(), address))
}

pub(super) fn size(text: &str) -> Result<u64, String> {
    // The kernel takes no limit at all for zero.
    parse_size(text)
        .filter(|size| *size > 0)
        .ok_or_else(|| format!("{text:?} is no size (as in 64m)"))
}

/// docker's `NAME=SOFT[:HARD]`; -1 is unlimited.
pub(super) fn limit(text: &str) -> Result<Limit, String> {
    let known = || limits::names().collect::<Vec<_>>().join(", ");
    let (name, values) = text
        .split_once('=')
        .ok_or_else(|| format!("{text:?} is not NAME=SOFT[:HARD]"))?;
    let resource = limits::find(name)
        .ok_or_else(|| format!("the limit {name:?} is not known ({})", known()))?;
    let value = |text: &str| match text {
        "-1" => Ok(RLIM_INFINITY),
        text => text
            .parse::<u64>()
            .map_err(|_| format!("{text:?} is not a number")),
    };
    let (soft, hard) = match values.split_once(':') {
        Some((soft, hard)) => (value(soft)?, value(hard)?),
        None => (value(values)?, value(values)?),
    };
    if soft > hard {
        return Err(format!(
            "the soft limit of {name} is above its hard limit ({soft} > {hard})"
        ));
    }
    let (_, most) = getrlimit(resource).map_err(|errno| errno.desc().to_owned())?;
    if hard > most {
        return Err(format!(
            "{name} cannot be raised without root: the limit here is {most}"
        ));
    }
    Ok(Limit {
        name: name.to_owned(),
        soft,
        hard,
    })
}

/// Checks the host name that a build argument gives every RUN.
pub(super) fn check_hostname(name: &str) -> Result<(), String> {
    let is_good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if name.len() > LONGEST_HOSTNAME || !name.chars().all(is_good) {
        return Err(format!("{name:?} is no host name"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_with_addresses() {
        for (text, expected) in [
            ("a:1.2.3.4", Some(("a", "1.2.3.4"))),
            ("a.b=1.2.3.4", Some(("a.b", "1.2.3.4"))),
            ("a:::1", Some(("a", "::1"))),
            ("a=[::1]", Some(("a", "::1"))),
            ("a", None),
            ("a:", None),
            (":1.2.3.4", None),
            ("a b:1.2.3.4", None),
            ("a\n1.1.1.1 b:1.2.3.4", None),
            ("a:1.2.3", None),
            ("a:host-gateway", None),
        ] {
            let expected = expected.map(|(name, ip)| (name.to_owned(), ip.parse().unwrap()));
            assert_eq!(host(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn limits_can_be_lowered_only() {
        let parsed = |text: &str| limit(text).map(|limit| (limit.soft, limit.hard)).ok();
        assert_eq!(parsed("nofile=10"), Some((10, 10)));
        assert_eq!(parsed("nofile=10:20"), Some((10, 20)));
        for wrong in [
            "nofile",
            "nofile=",
            "nofile=a",
            "nofile=20:10",
            "files=1",
            "nofile=-1",
        ] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_agent_is_a_socket() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent");
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let shown = path.display();
        for (text, id) in [
            (format!("default={shown}"), "default"),
            (format!("={shown}"), "default"),
            (format!("work={shown}"), "work"),
        ] {
            let agent = ssh(&text).unwrap();
            assert_eq!((agent.id.as_str(), &agent.socket), (id, &path), "{text}");
        }
        let key = directory.path().join("id_ed25519");
        std::fs::write(&key, "").unwrap();
        for keys in [
            format!("default={}", key.display()),
            format!("default={},other", key.display()),
        ] {
            let message = ssh(&keys).unwrap_err();
            assert!(message.contains("ssh-add"), "{message}");
        }
    }

    #[test]
    fn host_names_have_no_blanks() {
        for (name, good) in [
            ("", true),
            ("build-1.local", true),
            ("a b", false),
            ("a\n", false),
        ] {
            assert_eq!(check_hostname(name).is_ok(), good, "{name:?}");
        }
    }
}
