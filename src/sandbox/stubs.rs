//! Mount targets: a lowest layer that provides them, and removal of those that init had to make.

use std::os::fd::BorrowedFd;

use super::spec::{Created, Touched};
use crate::sys;

/// Fills an empty directory with the mount targets that every sandbox needs (dev, proc, sys,
/// etc/resolv.conf, etc/hosts). Under all layers of an image it makes them exist in the merged view
/// without being part of any layer.
pub(crate) fn populate(dir: BorrowedFd<'_>) -> Result<(), sys::Error> {
    todo!()
}

/// Takes out of `upper` what init made for mounting: only what is still the same file and empty, with the
/// modification times of the directories as they would be without it.
pub(crate) fn remove(
    upper: BorrowedFd<'_>,
    created: &[Created],
    touched: &[Touched],
) -> Result<(), sys::Error> {
    todo!()
}
