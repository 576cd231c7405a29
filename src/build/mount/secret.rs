//! `type=secret`: bytes for one command, in memory only.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use super::super::engine::Engine;
use super::super::error::StepError;
use super::super::secret;
use super::Prepared;
use crate::dockerfile::SecretMount;
use crate::sandbox::Mount;

/// Reads the secret and adds its file, its variable, or both. One that is not given and not required
/// is not there.
pub(super) fn prepare(
    engine: &Engine<'_>,
    mount: &SecretMount,
    target: OsString,
    prepared: &mut Prepared,
) -> Result<(), StepError> {
    let Some(secret) = secret::find(&engine.request.secrets, &mount.id) else {
        if !mount.required {
            return Ok(());
        }
        let id = &mount.id;
        let message = format!("secret {id}: not found (--secret id={id},src=FILE gives it)");
        return Err(StepError::Value { message });
    };
    let bytes = secret
        .read()
        .map_err(|source| StepError::Secret { source })?;
    prepared.secrets.push(bytes.clone());
    if let Some(variable) = &mount.env {
        // What execve(2) cannot pass on must not come back in an error message.
        if bytes.contains(&0) {
            let message = format!("secret {}: a variable cannot hold a NUL byte", mount.id);
            return Err(StepError::Value { message });
        }
        let value = OsString::from_vec(bytes.clone());
        prepared.environment.push((variable.clone(), value));
    }
    if !target.is_empty() {
        let (uid, gid) = (mount.uid.unwrap_or(0), mount.gid.unwrap_or(0));
        prepared.mounts.push(Mount::File {
            contents: bytes,
            target,
            mode: mount.mode.unwrap_or(0o400),
            uid,
            gid,
        });
    }
    Ok(())
}
