//! `--secret`: what a build may use and must not keep.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::PathBuf;

/// The largest secret, as BuildKit has it.
const LARGEST: u64 = 500 * 1024;

/// One `--secret`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Secret {
    pub(crate) id: String,
    pub(crate) source: SecretSource,
}

/// Where a secret's bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SecretSource {
    File(PathBuf),
    /// A variable of rbuild's own environment.
    Variable(String),
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot read the secret {id:?} from {}", path.display())]
    Read {
        id: String,
        path: PathBuf,
        source: io::Error,
    },
    #[error("the secret {id:?} is larger than 500 KiB")]
    TooLarge { id: String },
    #[error("the environment variable {variable} of the secret {id:?} is not set")]
    NotSet { id: String, variable: String },
}

impl Secret {
    /// Reads the secret, anew each time: nothing of it stays in this process longer than a step.
    pub(crate) fn read(&self) -> Result<Vec<u8>, Error> {
        let bytes = match &self.source {
            SecretSource::Variable(variable) => {
                let value = std::env::var_os(variable).ok_or_else(|| Error::NotSet {
                    id: self.id.clone(),
                    variable: variable.clone(),
                })?;
                std::os::unix::ffi::OsStringExt::into_vec(value)
            }
            SecretSource::File(path) => {
                let fail = |source| Error::Read {
                    id: self.id.clone(),
                    path: path.clone(),
                    source,
                };
                let mut bytes = Vec::new();
                File::open(path)
                    .and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes))
                    .map_err(fail)?;
                bytes
            }
        };
        if bytes.len() as u64 > LARGEST {
            return Err(Error::TooLarge {
                id: self.id.clone(),
            });
        }
        Ok(bytes)
    }
}

/// The secret called `id`; the last one given counts.
pub(crate) fn find<'a>(secrets: &'a [Secret], id: &str) -> Option<&'a Secret> {
    secrets.iter().rev().find(|secret| secret.id == id)
}
