//! Whole trees, for hosts where nothing can be mounted: what an overlay would show, as files of its
//! own, and what a step changed in it, as a snapshot.
//!
//! [`merge`] writes out the layers of a snapshot, [`list`] notes how every file of a tree is, and
//! [`changes`] compares a tree with its list and writes what is different into an upper directory, in
//! the form that overlayfs would have left. No file of a tree shares its inode with a layer: a step may
//! write to it in place.

mod changes;
mod copy;
mod listing;
mod merge;

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

pub(crate) use changes::changes;
pub(crate) use listing::{Listing, list};
pub(crate) use merge::{copy_tree, merge};

use super::Lower;
use crate::ownership::{self, Owners};
use crate::sys;

/// A tree, and whose its files are.
#[derive(Clone, Copy)]
pub(crate) struct Owned<'a> {
    pub(crate) root: BorrowedFd<'a>,
    pub(crate) owners: &'a Owners,
}

/// Snapshots, topmost first, and whose their files are.
#[derive(Clone, Copy)]
pub(crate) struct Layers<'a> {
    pub(crate) roots: &'a [Lower],
    pub(crate) owners: &'a Owners,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{path:?} cannot be copied")]
    Copy {
        path: PathBuf,
        #[source]
        source: sys::Error,
    },
    #[error("{path:?} cannot get its owner")]
    Owner {
        path: PathBuf,
        #[source]
        source: ownership::Error,
    },
    #[error("the data of {path:?} cannot be copied")]
    Data {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path:?} cannot be compared with what it was")]
    Compare {
        path: PathBuf,
        #[source]
        source: sys::Error,
    },
    #[error("the path {path:?} is too deep for a layer")]
    TooDeep { path: PathBuf },
}

impl Error {
    /// The error of the system call that failed, if one did.
    pub(crate) fn io(&self) -> Option<std::io::Error> {
        match self {
            Self::Copy { source, .. } | Self::Compare { source, .. } => {
                Some(std::io::Error::from_raw_os_error(source.errno as i32))
            }
            Self::Data { source, .. } => Some(source.kind().into()),
            Self::Owner { .. } | Self::TooDeep { .. } => None,
        }
    }

    fn copy(path: &Path) -> impl FnOnce(sys::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Copy { path, source }
    }

    fn owner(path: &Path) -> impl FnOnce(ownership::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Owner { path, source }
    }

    fn compare(path: &Path) -> impl FnOnce(sys::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Compare { path, source }
    }
}

/// Refuses what would need more stack and descriptors than a layer may.
fn check_depth(path: &Path, depth: usize) -> Result<(), Error> {
    if depth > super::MAX_DEPTH {
        return Err(Error::TooDeep {
            path: path.to_owned(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
