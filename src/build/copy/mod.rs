//! COPY and ADD: choose source files, digest them for the cache key, write them into a root.
//!
//! The three phases share one [`Selection`], made by one walk: what is hashed is what is copied, and a
//! file that is no longer as the walk found it fails the step.

mod chmod;
mod digest;
mod entries;
mod error;
mod filter;
mod host;
mod merge;
mod nearest;
mod parents;
mod path;
mod place;
mod select;
mod sink;
mod walk;
mod write;

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

pub(crate) use chmod::ChmodSpec;
pub(crate) use error::Error;
pub(crate) use filter::Filter;
pub(crate) use host::copy_tree_to_host;
pub(crate) use nearest::nearest;
pub(crate) use select::{Selection, select, select_path, select_with_parents};

use crate::context::ignore::Ignore;
use crate::ownership::{Owners, Ownership};

/// Where sources come from, which decides their owners and attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A build context: files become root's, extended attributes stay behind.
    Context,
    /// The root of a stage or an image: owners and attributes are kept.
    Rootfs,
}

/// A tree to copy from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tree<'a> {
    pub(crate) root: BorrowedFd<'a>,
    pub(crate) owners: &'a Owners,
    pub(crate) origin: Origin,
    /// What of the tree cannot be seen.
    pub(crate) ignore: Option<&'a Ignore>,
}

/// Where and how a selection is written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Destination<'a> {
    /// The merged root of the image that is built; with `--link` an empty directory.
    pub(crate) root: BorrowedFd<'a>,
    /// Expanded and joined with the working directory.
    pub(crate) path: &'a str,
    /// The path was written with a trailing slash, or as `.`.
    pub(crate) is_directory: bool,
    /// `--chown`, as numbers.
    pub(crate) owner: Option<(u32, u32)>,
    pub(crate) mode: Option<&'a ChmodSpec>,
    pub(crate) ownership: &'a Ownership,
}

/// What a copy did.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Copied {
    /// Entries written, directories included.
    pub(crate) files: u64,
    /// Bytes of file content written.
    pub(crate) bytes: u64,
    /// What could not be carried over and fails nothing; worth a warning each.
    pub(crate) skipped: Vec<Skipped>,
}

/// Something a copy left behind, or did otherwise than may be expected: paths are those of sources, of an attribute that of its file in the
/// image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Skipped {
    /// A socket means nothing without the process that made it.
    Socket { path: PathBuf },
    /// A device, by [`copy_tree_to_host`] only.
    Device { path: PathBuf },
    /// A file that `--exclude` names, copied all the same because it is a source itself.
    Exclude { path: PathBuf },
    /// A file that `--unpack` was written for, copied because it is no archive.
    NotArchive { path: PathBuf },
    /// An extended attribute that the destination's file system or the kernel refuses.
    Attribute { path: PathBuf, name: String },
}

impl std::fmt::Display for Skipped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Socket { path } => {
                write!(
                    f,
                    "the socket {} cannot be in an image and was left out",
                    path.display()
                )
            }
            Self::Device { path } => {
                write!(
                    f,
                    "the device {} cannot be written here and was left out",
                    path.display()
                )
            }
            Self::Exclude { path } => {
                write!(
                    f,
                    "{} was copied: --exclude is about what is in a source, and this is one",
                    path.display()
                )
            }
            Self::NotArchive { path } => {
                write!(
                    f,
                    "{} is no archive and was copied as it is",
                    path.display()
                )
            }
            Self::Attribute { path, name } => {
                write!(
                    f,
                    "the attribute {name} of {} could not be copied",
                    path.display()
                )
            }
        }
    }
}
/// Extracts an archive into a directory.
pub(crate) type Extract<'a> =
    dyn FnMut(File, BorrowedFd<'_>) -> Result<(), Box<dyn std::error::Error + Send + Sync>> + 'a;

/// What ADD does with archives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unpack {
    /// Extract every one.
    Archives,
    /// The same, asked for with `--unpack`: a file that is none is copied, and worth a warning.
    Asked,
    /// Copy them.
    Never,
}

/// How ADD recognises and extracts archives.
pub(crate) struct Archives<'a> {
    pub(crate) unpack: Unpack,
    /// Whether the file is an archive; the position afterwards does not matter.
    pub(crate) sniff: &'a dyn Fn(&mut File) -> io::Result<bool>,
    /// Extracts the file, positioned at its start, into a directory.
    pub(crate) extract: &'a mut Extract<'a>,
}

/// COPY: writes the selection. After an error the destination holds a part of it.
pub(crate) fn copy(
    selection: &Selection<'_>,
    destination: &Destination<'_>,
) -> Result<Copied, Error> {
    place::copy(selection, destination, None)
}

/// ADD of local files: as [`copy`], but a file that is an archive is extracted into the destination,
/// which becomes a directory.
pub(crate) fn add(
    selection: &Selection<'_>,
    destination: &Destination<'_>,
    archives: Archives<'_>,
) -> Result<Copied, Error> {
    place::copy(selection, destination, Some(archives))
}

#[cfg(test)]
mod tests;
