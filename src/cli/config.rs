//! The configuration file: `$RBUILD_CONFIG`, else `$XDG_CONFIG_HOME/rbuild/config.json` (`~/.config`).
//!
//! ```json
//! {
//!   "profile": "multi-tenant",
//!   "limits": {"step-seconds": 600, "memory": "4g", "file-size": "none"},
//!   "refuse-private-addresses": true,
//!   "network": "isolated",
//!   "secret-scan": "fail"
//! }
//! ```

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Value;

use super::build_values::{parse_network, parse_secret_scan};
use super::limits::{Change, Profile, change_of};
use crate::build::request::Network;
use crate::build::secret_scan::SecretScan;

/// What the file says.
#[derive(Debug, Default)]
pub(super) struct Config {
    pub(super) profile: Profile,
    pub(super) limits: Vec<Change>,
    pub(super) refuse_private_addresses: bool,
    /// As of `build --network`.
    pub(super) network: Option<Network>,
    /// As of `build --secret-scan`.
    pub(super) secret_scan: Option<SecretScan>,
}

/// The file as it is written. A key that is not known is an error.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Written {
    #[serde(default)]
    profile: Profile,
    #[serde(default)]
    limits: BTreeMap<String, Value>,
    #[serde(default)]
    refuse_private_addresses: bool,
    network: Option<String>,
    secret_scan: Option<String>,
}

impl Config {
    /// Reads the file; without one nothing is said. The error is one line.
    pub(super) fn load() -> Result<Self, String> {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let (path, chosen) = match set("RBUILD_CONFIG") {
            Some(path) => (PathBuf::from(path), true),
            None => {
                let directory = set("XDG_CONFIG_HOME")
                    .map(PathBuf::from)
                    .or_else(|| Some(std::env::home_dir()?.join(".config")));
                match directory {
                    Some(directory) => (directory.join("rbuild/config.json"), false),
                    None => return Ok(Self::default()),
                }
            }
        };
        match std::fs::read(&path) {
            Ok(bytes) => Self::parse(&bytes).map_err(|why| format!("{}: {why}", path.display())),
            // A home that is no directory of this user's has no file either.
            Err(_) if !chosen && path.symlink_metadata().is_err() => Ok(Self::default()),
            Err(error) => Err(format!("{}: {error}", path.display())),
        }
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let written: Written = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let limits = written.limits.iter().map(|(name, value)| match value {
            Value::String(text) => change_of(name, text),
            Value::Number(number) => change_of(name, &number.to_string()),
            _ => Err(format!("the limit {name} is neither a number nor text")),
        });
        Ok(Self {
            profile: written.profile,
            limits: limits.collect::<Result<_, _>>()?,
            refuse_private_addresses: written.refuse_private_addresses,
            secret_scan: written
                .secret_scan
                .as_deref()
                .map(parse_secret_scan)
                .transpose()?,
            network: written.network.as_deref().map(parse_network).transpose()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_are_not_known_are_named() {
        for (text, named) in [
            (r#"{"profil": "none"}"#, "profil"),
            (r#"{"profile": "lax"}"#, "lax"),
            (r#"{"limits": {"stepseconds": 1}}"#, "stepseconds"),
            (r#"{"limits": {"step-seconds": true}}"#, "step-seconds"),
            (r#"{"limits": {"step-seconds": 1.5}}"#, "1.5"),
            (r#"{"limits": {"cpu": 2}}"#, "cpu"),
            (r#"{"network": "bridge"}"#, "bridge"),
        ] {
            let message = Config::parse(text.as_bytes()).unwrap_err();
            assert!(message.contains(named), "{text}: {message}");
        }
    }

    #[test]
    fn limits_are_numbers_or_sizes() {
        let text = r#"{"profile": "multi-tenant", "limits": {"step-seconds": 5, "memory": "1g"}}"#;
        let config = Config::parse(text.as_bytes()).unwrap();
        assert_eq!(config.profile, Profile::MultiTenant);
        assert_eq!(config.limits.len(), 2);
        assert!(Config::parse(b"{}").unwrap().limits.is_empty());
    }
}
