//! Writing a layer.

use std::io::Write;
use std::os::fd::{BorrowedFd, OwnedFd};

/// What the caller chooses about the tar.
#[derive(Debug, Clone, Default)]
pub(crate) struct PackOptions {
    /// Modification times later than this (seconds since 1970, `SOURCE_DATE_EPOCH`) are written as it.
    pub(crate) clamp_mtime: Option<i64>,
    /// Whether an unchanged directory appears when something below it does, as containerd writes
    /// layers. Without it the directories of a layer are exactly the changed ones.
    pub(crate) include_parents: bool,
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Packed {
    /// Members of the tar; zero means that nothing changed.
    pub(crate) entries: u64,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("writing the tar failed")]
    Write(#[source] std::io::Error),
}

/// Writes what `upper` changes on top of `lowers` (topmost first) as a layer.
pub(crate) fn pack(
    upper: BorrowedFd<'_>,
    lowers: &[OwnedFd],
    options: &PackOptions,
    out: &mut dyn Write,
) -> Result<Packed, Error> {
    let _ = (upper, lowers, options, out);
    todo!()
}

/// Writes everything below `root`, a merged tree, as a tar without whiteouts.
pub(crate) fn pack_tree(
    root: BorrowedFd<'_>,
    options: &PackOptions,
    out: &mut dyn Write,
) -> Result<Packed, Error> {
    let _ = (root, options, out);
    todo!()
}
