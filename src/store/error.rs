//! What can go wrong with the store.

use std::io;
use std::path::{Path, PathBuf};

use crate::layer::tree;
use crate::oci::Digest;
use crate::{ownership, sys};

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot {operation} {}", path.display())]
    Io {
        operation: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("the store at {} has format {found:?}, this program knows 1", root.display())]
    Version { root: PathBuf, found: String },
    #[error("the store at {} is in use by a build", root.display())]
    Busy { root: PathBuf },
    #[error("{} is damaged", path.display())]
    Damaged {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error("{} describes another snapshot", path.display())]
    OtherSnapshot { path: PathBuf },
    #[error("the blob has digest {actual}, expected {expected}")]
    DigestMismatch { expected: Digest, actual: Digest },
    #[error("the blob {digest} has {actual} bytes, its descriptor says {expected}")]
    SizeMismatch {
        digest: Digest,
        expected: u64,
        actual: u64,
    },
    #[error("the blob {0} is not in the store")]
    MissingBlob(Digest),
    #[error("the snapshot {0} is not in the store")]
    MissingSnapshot(String),
    /// Of a store that was opened by [`super::Store::open_complete`].
    #[error("the store is only read")]
    OnlyRead,
    #[error("cannot mount the file system of {what}")]
    Mount { what: String, source: sys::Error },
    #[error("{count} layers on each other are more than the {limit} that Linux can mount")]
    Layers { count: usize, limit: usize },
    #[error("cannot prepare a layer's directory")]
    Prepare { source: sys::Error },
    #[error("cannot prepare a layer's directory")]
    PrepareOwner { source: ownership::Error },
    #[error("cannot write or compare the file system of a step")]
    Tree { source: Box<tree::Error> },
}

impl Error {
    /// For `map_err`: the I/O error of `operation` on `path`.
    pub(super) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            operation,
            path,
            source,
        }
    }

    /// Whether the disk (or a quota) is full.
    pub(crate) fn is_full(&self) -> bool {
        let is_full = |source: &io::Error| {
            matches!(
                source.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            )
        };
        match self {
            Self::Io { source, .. } => is_full(source),
            Self::Tree { source } => source.io().is_some_and(|error| is_full(&error)),
            _ => false,
        }
    }
}
