//! The mount calls of Linux 5.2 and later, which work on descriptors.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::Result;

/// A detached overlay (never attached, gone with the descriptor) of `lowers`, topmost first, and an upper
/// with its work directory. With a single lower and no upper there is nothing to merge and the result is
/// that directory itself.
pub(crate) fn overlay(
    lowers: &[PathBuf],
    upper: Option<&Path>,
    work: Option<&Path>,
) -> Result<OwnedFd> {
    todo!()
}
