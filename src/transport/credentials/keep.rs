//! `login` and `logout`: what docker's configuration keeps of a registry.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::{Credential, docker_directory, helper, helper_of, keys, read};

/// Where credentials were put.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// In this file, as anybody who can read it sees.
    InFile(PathBuf),
    ByHelper(String),
}

/// Remembers `credential` for `registry`, where docker does: with its helper, else in its file. The
/// rest of the file stays, and the file is replaced as a whole with mode 0600.
pub(crate) fn keep(registry: &str, credential: &Credential) -> Result<Kept, String> {
    let (path, mut config) = open()?;
    let key = key(registry);
    let (user, secret) = match credential {
        Credential::Password { user, password } => (user.as_str(), password.as_str()),
        Credential::IdentityToken(token) => ("<token>", token.as_str()),
    };
    if let Some(name) = helper_of(&config, registry) {
        helper::store(&name, &key, user, secret)?;
        return Ok(Kept::ByHelper(name));
    }
    let entry = match credential {
        Credential::Password { .. } => json!({"auth": STANDARD.encode(format!("{user}:{secret}"))}),
        Credential::IdentityToken(token) => json!({"identitytoken": token}),
    };
    auths(&mut config)
        .ok_or_else(|| format!("{}: auths is not an object", path.display()))?
        .insert(key, entry);
    write(&path, &config)?;
    Ok(Kept::InFile(path))
}

/// Forgets `registry`; whether anything was known of it.
pub(crate) fn forget(registry: &str) -> Result<bool, String> {
    let (path, mut config) = open()?;
    let mut known = false;
    if let Some(name) = helper_of(&config, registry) {
        helper::erase(&name, &key(registry))?;
        known = true;
    }
    if let Some(auths) = config.get_mut("auths").and_then(Value::as_object_mut) {
        let removed = keys(registry)
            .iter()
            .filter(|key| auths.remove(*key).is_some())
            .count();
        if removed > 0 {
            known = true;
            write(&path, &config)?;
        }
    }
    Ok(known)
}

fn key(registry: &str) -> String {
    keys(registry).swap_remove(0)
}

fn auths(config: &mut Value) -> Option<&mut Map<String, Value>> {
    let entry = config.as_object_mut()?.entry("auths");
    entry.or_insert_with(|| json!({})).as_object_mut()
}

fn open() -> Result<(PathBuf, Value), String> {
    let directory =
        docker_directory(None).ok_or("there is no home directory: set DOCKER_CONFIG")?;
    let path = directory.join("config.json");
    // A file that is a link to the real one stays a link.
    let path = fs::read_link(&path).map_or(path, |target| directory.join(target));
    let config = read(&path)?.unwrap_or_else(|| json!({}));
    Ok((path, config))
}

fn write(path: &Path, config: &Value) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{} cannot be written: {error}", path.display());
    let directory = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(directory).map_err(failed)?;
    let mut file = tempfile::NamedTempFile::new_in(directory).map_err(failed)?;
    serde_json::to_writer_pretty(&mut file, config).map_err(|error| failed(error.into()))?;
    file.write_all(b"\n").map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}
