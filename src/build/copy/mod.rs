//! COPY and ADD: choose source files, digest them for the cache key, copy them into a root.
//!
//! The three phases share one [`Selection`], made once: what is hashed is what is copied.

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use crate::context::digest::Memo;
use crate::context::ignore::Ignore;
use crate::oci::Digest;
use crate::ownership::Ownership;

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
    pub(crate) origin: Origin,
    pub(crate) ignore: Option<&'a Ignore>,
}

/// What the sources of one COPY are.
#[derive(Debug)]
pub(crate) struct Selection<'a> {
    tree: std::marker::PhantomData<&'a ()>,
}

/// Finds the sources `patterns` name in `tree`, in their order.
pub(crate) fn select<'a>(tree: &Tree<'a>, patterns: &[&str]) -> Result<Selection<'a>, Error> {
    todo!()
}

impl<'a> Selection<'a> {
    /// One file with the text of a heredoc: 0644, root's.
    pub(crate) fn inline(name: &str, bytes: Vec<u8>) -> Self {
        todo!()
    }
    /// Adds the sources of `other` after those of `self`.
    pub(crate) fn append(&mut self, other: Selection<'a>) {
        todo!()
    }
    /// Whether nothing was selected (patterns with wildcards may match nothing).
    pub(crate) fn is_empty(&self) -> bool {
        todo!()
    }
    /// Everything about the sources that the result of the copy depends on; modification times are left
    /// out, as Docker does.
    pub(crate) fn digest(&self, memo: &Memo) -> Result<Digest, Error> {
        todo!()
    }
}

/// A parsed `--chmod`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChmodSpec {}

impl ChmodSpec {
    pub(crate) fn parse(text: &str) -> Result<Self, ChmodError> {
        todo!()
    }
    /// The permission bits (07777) of a file that had `mode`.
    pub(crate) fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        todo!()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777")]
pub(crate) struct ChmodError {
    pub(crate) text: String,
}

/// Where and how a selection is written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Destination<'a> {
    /// The merged root of the image that is built.
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

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Skipped {
    Socket { path: PathBuf },
    Attribute { path: PathBuf, name: String },
}

/// How ADD recognises and extracts archives.
pub(crate) struct Archives<'a> {
    /// Whether the file is an archive; the position afterwards does not matter.
    pub(crate) sniff: &'a dyn Fn(&mut File) -> io::Result<bool>,
    /// Extracts the file, positioned at its start, into a directory.
    pub(crate) extract: &'a mut dyn FnMut(
        File,
        BorrowedFd<'_>,
    )
        -> Result<(), Box<dyn std::error::Error + Send + Sync>>,
}

/// COPY: writes the selection.
pub(crate) fn copy(
    selection: &Selection<'_>,
    destination: &Destination<'_>,
) -> Result<Copied, Error> {
    todo!()
}

/// ADD of local files: as [`copy`], but archives are extracted.
pub(crate) fn add(
    selection: &Selection<'_>,
    destination: &Destination<'_>,
    archives: Archives<'_>,
) -> Result<Copied, Error> {
    todo!()
}

/// Copies the tree `root` into the directory `destination` of the host for `--output type=local`: modes are kept, owners
/// are not, devices are skipped.
pub(crate) fn copy_tree_to_host(root: BorrowedFd<'_>, destination: &Path) -> Result<Copied, Error> {
    todo!()
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {}
