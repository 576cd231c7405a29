//! What is known of a registry before it is spoken to: its address, its mirrors.
//!
//! `$RBUILD_REGISTRIES`, else `$XDG_CONFIG_HOME/rbuild/registries.json` (`~/.config`):
//!
//! ```json
//! {
//!   "stall-seconds": 30,
//!   "registries": {
//!     "docker.io": {"mirrors": ["mirror.example.org"]},
//!     "10.0.0.5:5000": {"plain-http": true},
//!     "registry.example.org": {"token-hosts": ["login.example.net"]}
//!   }
//! }
//! ```
//!
//! A mirror is asked before its registry and may answer for tags too, so it is trusted with them; what
//! it sends has the digests that the manifest gives, as everything else. Only pulls use mirrors.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::reach;

const DEFAULT_STALL: Duration = Duration::from_secs(30);

/// The configuration file. A key that is not known is an error.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Hosts {
    /// After how many seconds of silence a connection is given up.
    stall_seconds: Option<u32>,
    #[serde(default)]
    registries: BTreeMap<String, Host>,
}

/// What the file says of one registry, which it calls as images do: `HOST[:PORT]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Host {
    /// Registries (`HOST[:PORT]`) that have the same repositories.
    #[serde(default)]
    pub(super) mirrors: Vec<String>,
    /// Speak HTTP without encryption; by default so with registries on this machine only.
    plain_http: Option<bool>,
    /// Hosts of other domains whose token servers may see this registry's password.
    #[serde(default)]
    pub(super) token_hosts: Vec<String>,
}

impl Hosts {
    /// Reads the file; without one nothing is special. The error is one line.
    pub(super) fn load() -> Result<Self, String> {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let (path, chosen) = match set("RBUILD_REGISTRIES") {
            Some(path) => (PathBuf::from(path), true),
            None => {
                let config = set("XDG_CONFIG_HOME")
                    .map(PathBuf::from)
                    .or_else(|| Some(std::env::home_dir()?.join(".config")));
                match config {
                    Some(config) => (config.join("rbuild/registries.json"), false),
                    None => return Ok(Self::default()),
                }
            }
        };
        match fs::read(&path) {
            Ok(bytes) => Self::parse(&bytes).map_err(|why| format!("{}: {why}", path.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !chosen => Ok(Self::default()),
            Err(error) => Err(format!("{}: {error}", path.display())),
        }
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let hosts: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if hosts.stall_seconds == Some(0) {
            return Err("stall-seconds must be at least 1".to_owned());
        }
        let mirrors = hosts.registries.values().flat_map(|host| &host.mirrors);
        for name in hosts.registries.keys().chain(mirrors) {
            if name.is_empty() || name.contains(['/', '@', '?', '#', ' ']) {
                return Err(format!("{name:?} is not HOST[:PORT]"));
            }
        }
        Ok(hosts)
    }

    pub(super) fn host(&self, registry: &str) -> Host {
        self.registries.get(registry).cloned().unwrap_or_default()
    }

    /// The hosts that `registry` may lead to whatever their addresses are: those that the file names.
    pub(super) fn chosen(&self, registry: &str) -> Vec<String> {
        let mut mirrors = self.registries.values().flat_map(|host| &host.mirrors);
        let is_mirror = mirrors.any(|mirror| mirror == registry);
        let token_hosts = match self.registries.get(registry) {
            Some(host) => host.token_hosts.as_slice(),
            None if is_mirror => &[],
            None => return Vec::new(),
        };
        let hosts = token_hosts.iter().map(String::as_str).chain([registry]);
        hosts.map(|host| reach::host_of(host).to_owned()).collect()
    }

    pub(super) fn stall(&self) -> Duration {
        self.stall_seconds
            .map_or(DEFAULT_STALL, |seconds| Duration::from_secs(seconds.into()))
    }
}

impl Host {
    /// Where the registry is. Those on this machine are spoken to in plain HTTP, as docker does.
    pub(super) fn address(&self, registry: &str) -> String {
        let host = match registry {
            "docker.io" => "registry-1.docker.io",
            other => other,
        };
        let scheme = if self.plain_http.unwrap_or_else(|| is_loopback(registry)) {
            "http"
        } else {
            "https"
        };
        format!("{scheme}://{host}/")
    }
}

/// Whether `registry` (`host[:port]`) is this machine.
pub(super) fn is_loopback(registry: &str) -> bool {
    let host = match registry.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => registry,
    };
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_spoken_to_in_the_clear() {
        for local in [
            "localhost",
            "localhost:5000",
            "127.0.0.1:5000",
            "127.1.2.3",
            "[::1]:80",
        ] {
            assert!(is_loopback(local), "{local}");
        }
        for other in [
            "docker.io",
            "localhost.example:5000",
            "10.0.0.1:5000",
            "127.0.0.1.example",
        ] {
            assert!(!is_loopback(other), "{other}");
        }
    }

    #[test]
    fn the_file_says_where_registries_are() {
        let hosts = Hosts::parse(
            br#"{"stall-seconds": 2, "registries": {"a.test:1": {"plain-http": true},
                "127.0.0.1:1": {"plain-http": false},
                "docker.io": {"mirrors": ["m.test"]}}}"#,
        )
        .unwrap();
        assert_eq!(hosts.stall(), Duration::from_secs(2));
        for (name, address) in [
            ("a.test:1", "http://a.test:1/"),
            ("b.test", "https://b.test/"),
            ("127.0.0.1:1", "https://127.0.0.1:1/"),
            ("docker.io", "https://registry-1.docker.io/"),
            ("localhost:5000", "http://localhost:5000/"),
        ] {
            assert_eq!(hosts.host(name).address(name), address);
        }
        assert_eq!(hosts.host("docker.io").mirrors, ["m.test"]);
    }

    #[test]
    fn what_the_file_should_not_say_is_an_error() {
        for (text, why) in [
            (r#"{"registry": {}}"#, "unknown field `registry`"),
            (
                r#"{"registries": {"a": {"plain": true}}}"#,
                "unknown field `plain`",
            ),
            (r#"{"registries": {"https://a": {}}}"#, "is not HOST[:PORT]"),
            (
                r#"{"registries": {"a": {"mirrors": ["b/c"]}}}"#,
                "is not HOST[:PORT]",
            ),
            (r#"{"stall-seconds": 0}"#, "at least 1"),
            ("{", "EOF"),
        ] {
            let error = Hosts::parse(text.as_bytes()).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
