//! Applying a layer or an archive.

use std::io::Read;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use crate::ownership::Ownership;

/// What the names of an archive mean and what they are unpacked into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// A layer, into an empty directory that becomes a snapshot: `.wh.` names become whiteouts.
    Overlay,
    /// Any archive, into a file system that exists: `.wh.` names are names.
    Plain,
}

/// The most that one archive may ask for.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    pub(crate) entries: u64,
    /// Bytes of one file, holes included.
    pub(crate) file_bytes: u64,
    /// Bytes of the whole tar.
    pub(crate) total_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 10_000_000,
            file_bytes: 64 << 30,
            total_bytes: 100 << 30,
        }
    }
}

/// What was unpacked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Unpacked {
    /// Members of the archive.
    pub(crate) entries: u64,
    /// Device nodes, which no user namespace can make; they are left out.
    pub(crate) devices_skipped: Vec<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("reading the archive failed")]
    Read(#[source] std::io::Error),
}

/// Unpacks `tar` below `root`. After an error part of it is there: the caller throws the root away.
pub(crate) fn unpack(
    tar: &mut dyn Read,
    root: BorrowedFd<'_>,
    ownership: &Ownership,
    form: Form,
    limits: &Limits,
) -> Result<Unpacked, Error> {
    let _ = (tar, root, ownership, form, limits);
    todo!()
}
