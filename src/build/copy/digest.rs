//! The part of a cache key that stands for the sources of a COPY.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Origin;
use super::entries::Entries;
use super::error::Error;
use super::select::{Match, Selection, shown};
use super::walk::Node;
use crate::context::digest::{self, Memo};
use crate::context::hashing::{self, Content, Sequence};
use crate::oci::Digest;
use crate::ownership::record;
use crate::sys;
use crate::sys::fs::Kind;

/// Changes with what is digested, or how.
const VERSION: &str = "rbuild copy 3";

/// Bytes of a content's hash.
const HASH: u64 = 32;

impl Selection<'_> {
    /// Everything about the sources that the result of the copy depends on: names, types, permissions,
    /// contents, targets of links, device numbers and which files are one file; from a root file system
    /// owners and extended attributes too. Modification times are left out, as by Docker.
    ///
    /// Contents of context files come from `memo` where it knows them. Those of root file systems never
    /// do: device numbers of overlay mounts are used again.
    pub(crate) fn digest(&self, memo: &Memo) -> Result<Digest, Error> {
        let mut record = Record {
            sequence: Sequence::new(memo),
            linked: HashMap::new(),
        };
        record.field(VERSION.as_bytes());
        for source in &self.matches {
            record.linked.clear();
            match source {
                Match::Inline { name, bytes } => {
                    record.field(b"inline");
                    record.field(name.as_bytes());
                    record.field(bytes);
                }
                Match::File {
                    origin,
                    name,
                    parent,
                    real_name,
                    node,
                } => {
                    record.field(b"file");
                    record.field(name.as_bytes());
                    let directory = Arc::new(parent.open()?);
                    let path = parent.path.join(real_name);
                    record.node(*origin, &directory, real_name, node, &path)?;
                }
                Match::Directory {
                    origin,
                    place,
                    entries,
                } => {
                    record.field(b"directory");
                    record.entries(*origin, place.open()?, &place.path, entries)?;
                }
            }
        }
        record.sequence.finish().map_err(unhashed)
    }
}

struct Record<'a> {
    sequence: Sequence<'a>,
    /// The number of the first name of each file of one source with several.
    linked: HashMap<(u64, u64), u64>,
}

impl Record<'_> {
    /// Adds bytes so that no two sequences of fields are the same bytes.
    fn field(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.sequence.bytes(bytes);
    }

    fn number(&mut self, number: u64) {
        self.sequence.bytes(&number.to_be_bytes());
    }

    fn entries(
        &mut self,
        origin: Origin,
        top: OwnedFd,
        top_path: &Path,
        entries: &Entries,
    ) -> Result<(), Error> {
        let mut open = vec![(Arc::new(top), top_path.to_owned())];
        for entry in entries.iter() {
            open.truncate(entry.depth);
            let (directory, path) = open.last().expect("entries are below the top");
            let path = path.join(entry.name);
            self.number(entry.depth as u64);
            self.number(entry.is_implied.into());
            self.field(entry.name.as_bytes());
            self.node(origin, directory, entry.name, &entry.node, &path)?;
            if let Some(target) = entry.target {
                self.field(target.as_bytes());
            }
            if entry.node.kind() == Kind::Directory {
                let inner = sys::fs::open_directory_at(directory, entry.name);
                let inner = inner.map_err(|source| unreadable(&path, source))?;
                open.push((Arc::new(inner), path));
            }
        }
        // An end that no depth of an entry can be taken for.
        self.number(0);
        Ok(())
    }

    fn node(
        &mut self,
        origin: Origin,
        directory: &Arc<OwnedFd>,
        name: &OsStr,
        node: &Node,
        path: &Path,
    ) -> Result<(), Error> {
        self.number(node.stamp.mode.into());
        self.number(node.device);
        if origin == Origin::Rootfs {
            self.number(node.owner.0.into());
            self.number(node.owner.1.into());
            let attributes = attributes(directory.as_fd(), name, node)
                .map_err(|source| unreadable(path, source))?;
            self.number(attributes.len() as u64);
            for (attribute, value) in attributes {
                self.field(attribute.as_bytes());
                self.field(&value);
            }
        }
        if node.kind() != Kind::Regular {
            return Ok(());
        }
        let count = self.linked.len() as u64;
        if node.is_linked {
            let inode = (node.stamp.device, node.stamp.inode);
            if let Some(&first) = self.linked.get(&inode) {
                self.field(b"link");
                self.number(first);
                return Ok(());
            }
            self.linked.insert(inode, count);
        }
        let content = Content {
            directory,
            name,
            stamp: &node.stamp,
            path: path.to_owned(),
            is_remembered: origin == Origin::Context,
        };
        self.number(HASH);
        self.sequence.content(content).map_err(unhashed)
    }
}

fn unhashed(failure: hashing::Failure) -> Error {
    let path = shown(&failure.path);
    match failure.source {
        digest::Error::Changed { .. } => Error::ChangedDuringBuild { path },
        source => Error::Digest { path, source },
    }
}

/// The extended attributes that a copy carries over: `user.*` but for what an overlay mount keeps
/// there and rbuild's records, and file capabilities. Links have none.
pub(super) fn attributes(
    directory: BorrowedFd<'_>,
    name: &OsStr,
    node: &Node,
) -> sys::Result<Vec<(OsString, Vec<u8>)>> {
    let mut found = Vec::new();
    if node.kind() == Kind::Symlink {
        return Ok(found);
    }
    for attribute in sys::xattr::list_at(directory, name)? {
        let bytes = attribute.as_bytes();
        let is_carried = bytes == b"security.capability"
            || bytes.starts_with(b"user.")
                && !bytes.starts_with(b"user.overlay.")
                && !bytes.starts_with(record::RESERVED.as_bytes());
        if is_carried && let Some(value) = sys::xattr::get_at(directory, name, &attribute)? {
            found.push((attribute, value));
        }
    }
    Ok(found)
}

pub(super) fn unreadable(path: &Path, source: sys::Error) -> Error {
    let path: PathBuf = shown(path);
    match source.errno {
        // It was there when the sources were selected.
        nix::errno::Errno::ENOENT | nix::errno::Errno::ENOTDIR => {
            Error::ChangedDuringBuild { path }
        }
        _ => Error::Source { path, source },
    }
}
