//! What a registry is shown: docker's configuration, its credential helpers, and podman's auth.json.

mod helper;
mod keep;

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::Stop;

pub(crate) use keep::{Kept, forget, keep};

/// Docker Hub as docker's files call it: the address of its first protocol.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// What to log in with. It shows itself to registries only.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Credential {
    Password {
        user: String,
        password: String,
    },
    /// A token that a token server takes instead of a password (OAuth 2 refresh token).
    IdentityToken(String),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(xxxxx)")
    }
}

/// Where docker's `config.json` is: `dir`, else `$DOCKER_CONFIG`, else `~/.docker`.
pub(crate) fn docker_directory(dir: Option<&Path>) -> Option<PathBuf> {
    dir.map(Path::to_owned)
        .or_else(|| environment("DOCKER_CONFIG"))
        .or_else(|| Some(std::env::home_dir()?.join(".docker")))
}

/// Looks `registry` up for `repository`. `dir` is as for [`docker_directory`]; given, no other file is
/// read. Otherwise `$REGISTRY_AUTH_FILE` comes first, then docker's file, then podman's. Nothing found
/// is anonymous access.
///
/// # Errors
/// One line about what is wrong with a file or a helper, without anything secret in it.
pub(super) fn find(
    dir: Option<&Path>,
    registry: &str,
    repository: &str,
    stop: &Stop,
) -> Result<Option<Credential>, String> {
    let mut files = Vec::new();
    if dir.is_none() {
        files.extend(environment("REGISTRY_AUTH_FILE"));
    }
    files.extend(docker_directory(dir).map(|dir| dir.join("config.json")));
    if dir.is_none() {
        let runtime = environment("XDG_RUNTIME_DIR");
        let config =
            environment("XDG_CONFIG_HOME").or_else(|| Some(std::env::home_dir()?.join(".config")));
        let places = runtime.into_iter().chain(config);
        files.extend(places.map(|place| place.join("containers/auth.json")));
    }
    for path in files {
        let bad = |why: String| format!("{}: {why}", path.display());
        if let Some(config) = read(&path)?
            && let Some(found) = look_up(&config, registry, repository, stop).map_err(bad)?
        {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// A directory or file of the environment, where it is set.
fn environment(name: &str) -> Option<PathBuf> {
    let value = std::env::var_os(name).filter(|value| !value.is_empty())?;
    Some(value.into())
}

/// The file's JSON; `None` where there is no file.
fn read(path: &Path) -> Result<Option<Value>, String> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("{}: {error}", path.display())),
    };
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    match serde_json::from_slice(&bytes) {
        Ok(value @ Value::Object(_)) => Ok(Some(value)),
        // The parser's message could repeat a piece of the file.
        _ => Err(format!("{}: is not a JSON object", path.display())),
    }
}

/// What files call `registry`, the most usual first.
fn keys(registry: &str) -> Vec<String> {
    match registry {
        "docker.io" => [
            DOCKER_HUB,
            "docker.io",
            "index.docker.io",
            "registry-1.docker.io",
        ]
        .map(str::to_owned)
        .into(),
        other => vec![
            other.to_owned(),
            format!("https://{other}"),
            format!("https://{other}/"),
            format!("http://{other}"),
        ],
    }
}

/// The program that keeps the credentials of `registry`, when it is not the file itself.
fn helper_of(config: &Value, registry: &str) -> Option<String> {
    let own = keys(registry)
        .into_iter()
        .find_map(|key| config["credHelpers"][&key].as_str().map(str::to_owned));
    own.or_else(|| config["credsStore"].as_str().map(str::to_owned))
        .filter(|name| !name.is_empty())
}

fn look_up(
    config: &Value,
    registry: &str,
    repository: &str,
    stop: &Stop,
) -> Result<Option<Credential>, String> {
    if let Some(helper) = helper_of(config, registry) {
        for key in keys(registry).into_iter().take(2) {
            if let Some(found) = helper::get(&helper, &key, stop)? {
                return Ok(Some(found));
            }
        }
    }
    // podman has entries for a part of a registry; the longest that fits is meant.
    let mut below = format!("{registry}/{repository}");
    let mut names = Vec::new();
    while below.len() > registry.len() {
        names.push(below.clone());
        below.truncate(below.rfind('/').unwrap_or_default());
    }
    names.extend(keys(registry));
    for name in names {
        let entry = &config["auths"][&name];
        if entry.is_object()
            && let Some(found) = of_entry(entry)?
        {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// An entry of `auths`; one that is empty marks that a helper has it.
fn of_entry(entry: &Value) -> Result<Option<Credential>, String> {
    let text = |name: &str| entry[name].as_str().filter(|text| !text.is_empty());
    if let Some(token) = text("identitytoken") {
        return Ok(Some(Credential::IdentityToken(token.to_owned())));
    }
    if let Some(encoded) = text("auth") {
        let decoded = STANDARD.decode(encoded).ok();
        let decoded = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
        let pair = decoded.as_deref().and_then(|text| text.split_once(':'));
        let (user, password) = pair.ok_or("auth is not base64 of user:password")?;
        return Ok(Some(Credential::Password {
            user: user.to_owned(),
            password: password.trim_end_matches('\0').to_owned(),
        }));
    }
    Ok(text("username")
        .zip(text("password"))
        .map(|(user, password)| Credential::Password {
            user: user.to_owned(),
            password: password.to_owned(),
        }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look_up(config: &str, registry: &str) -> Result<Option<Credential>, String> {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("config.json"), config).unwrap();
        find(Some(dir.path()), registry, "team/app", &Stop::default())
    }

    fn password() -> Option<Credential> {
        Some(Credential::Password {
            user: "user".to_owned(),
            password: "pass".to_owned(),
        })
    }

    #[test]
    fn docker_hub_is_found_under_each_of_its_names() {
        for key in [DOCKER_HUB, "docker.io", "index.docker.io"] {
            let config = format!(r#"{{"auths":{{"{key}":{{"auth":"dXNlcjpwYXNz"}}}}}}"#);
            assert_eq!(look_up(&config, "docker.io").unwrap(), password());
        }
    }

    #[test]
    fn an_absent_file_or_entry_is_anonymous_and_a_broken_file_is_an_error() {
        let missing = find(
            Some(Path::new("/nonexistent")),
            "a.test",
            "x",
            &Stop::default(),
        )
        .unwrap();
        assert_eq!(missing, None);
        let other = r#"{"auths":{"b.test":{"auth":"dXNlcjpwYXNz"},"a.test":{}}}"#;
        assert_eq!(look_up(other, "a.test").unwrap(), None);
        assert!(look_up("{", "a.test").unwrap_err().contains("JSON"));
        let bad = r#"{"auths":{"a.test":{"auth":"!"}}}"#;
        assert!(look_up(bad, "a.test").unwrap_err().contains("base64"));
        let token = r#"{"auths":{"a.test":{"auth":"dXNlcjo=","identitytoken":"x"}}}"#;
        let token = look_up(token, "a.test").unwrap();
        assert_eq!(token, Some(Credential::IdentityToken("x".to_owned())));
    }

    #[test]
    fn the_entry_for_the_nearest_part_of_a_registry_is_taken() {
        let config = r#"{"auths":{"a.test":{"auth":"bzpv"},"a.test/team":{"auth":"dXNlcjpwYXNz"},
            "a.test/team/ap":{"auth":"bzpv"}}}"#;
        assert_eq!(look_up(config, "a.test").unwrap(), password());
        assert!(!format!("{:?}", password()).contains("pass"));
    }
}
