//! A layer's tar, from its compressed form to a directory that can be published.

use std::io::{self, Read};
use std::os::fd::AsFd as _;

use super::error::StepError;
use crate::layer::{Decoder, Form, Limits, unpack};
use crate::oci::{DiffId, StreamHasher};
use crate::store::{Snapshot, StagedSnapshot, Store};

/// A layer's directory, complete, that stands on nothing yet.
#[derive(Debug)]
pub(crate) struct Unpacked {
    active: crate::store::Active,
    /// Bytes of the tar.
    pub(super) size: u64,
    /// Members of it.
    pub(super) files: u64,
}

impl Unpacked {
    /// Puts the layer on `parent`.
    pub(crate) fn publish(
        self,
        store: &Store,
        parent: &Snapshot,
        diff_id: DiffId,
    ) -> Result<Snapshot, StepError> {
        let active = store.rebase(self.active, parent)?;
        store.remember_layer_size(&diff_id, self.size)?;
        let staged: StagedSnapshot = store.stage(active, diff_id, None);
        Ok(store.publish_snapshot(staged)?)
    }
}

/// Why a layer could not be unpacked.
#[derive(Debug)]
pub(crate) enum UnpackFailure {
    Store(crate::store::Error),
    Decode(io::Error),
    Unpack(crate::layer::UnpackError),
    DiffId { expected: DiffId, actual: DiffId },
    Open(crate::sys::Error),
}

impl UnpackFailure {
    pub(crate) fn into_step(self, name: &str, origin: &str) -> StepError {
        let name = name.to_owned();
        match self {
            Self::Store(source) => StepError::Store { source },
            Self::Decode(source) => StepError::Blob {
                name,
                origin: origin.to_owned(),
                source,
            },
            Self::Unpack(source) => StepError::Unpack { name, source },
            Self::DiffId { expected, actual } => StepError::DiffId {
                name,
                expected,
                actual,
            },
            Self::Open(source) => StepError::Directory { path: name, source },
        }
    }
}

/// Unpacks a compressed layer into a new directory and checks that its tar is `expected`.
pub(super) fn unpack_layer(
    store: &Store,
    blob: &mut dyn Read,
    expected: &DiffId,
) -> Result<Unpacked, UnpackFailure> {
    let (unpacked, actual) = unpack_blob(store, blob)?;
    if actual == *expected {
        Ok(unpacked)
    } else {
        Err(UnpackFailure::DiffId {
            expected: expected.clone(),
            actual,
        })
    }
}

/// Unpacks a compressed layer into a new directory and says which one it is.
pub(crate) fn unpack_blob(
    store: &Store,
    blob: &mut dyn Read,
) -> Result<(Unpacked, DiffId), UnpackFailure> {
    let active = store
        .prepare(&Snapshot::default())
        .map_err(UnpackFailure::Store)?;
    let root = crate::sys::fs::open_directory(&active.upper()).map_err(UnpackFailure::Open)?;
    let mut tar = Hashing {
        reader: Decoder::detect(blob).map_err(UnpackFailure::Decode)?,
        hasher: StreamHasher::new(),
    };
    let files = unpack(
        &mut tar,
        root.as_fd(),
        active.ownership(),
        Form::Overlay,
        &Limits::in_force(),
    )
    .map_err(UnpackFailure::Unpack)?
    .entries;
    io::copy(&mut tar, &mut io::sink()).map_err(UnpackFailure::Decode)?;
    let size = tar.hasher.length();
    let unpacked = Unpacked {
        active,
        size,
        files,
    };
    Ok((unpacked, DiffId(tar.hasher.finish())))
}

struct Hashing<R> {
    reader: R,
    hasher: StreamHasher,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.reader.read(buffer)?;
        self.hasher.update(&buffer[..length]);
        Ok(length)
    }
}
