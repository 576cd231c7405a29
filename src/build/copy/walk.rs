//! Everything below a directory, as far as the ignore rules show it.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use nix::sys::stat::FileStat;

use super::error::Error;
use super::select::shown;
use super::{Skipped, Tree};
use crate::context::digest::Stamp;
use crate::context::ignore::Matched;
use crate::sys;
use crate::sys::fs::Kind;

/// Each level of a walk holds a descriptor.
const DEPTH: usize = 1024;

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: Box<OsStr>,
    /// 1 for what is in the selected directory itself.
    pub(super) depth: usize,
    pub(super) node: Node,
    /// The text of a link.
    pub(super) target: Option<Box<OsStr>>,
}

/// What a copy needs to know of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node {
    pub(super) stamp: Stamp,
    pub(super) owner: (u32, u32),
    /// Whether the file has other names.
    pub(super) is_linked: bool,
    /// The device that a device file stands for.
    pub(super) device: u64,
}

impl Node {
    pub(super) fn of(stat: &FileStat) -> Self {
        Self {
            stamp: Stamp::of(stat),
            owner: (stat.st_uid, stat.st_gid),
            is_linked: stat.st_nlink > 1,
            device: stat.st_rdev,
        }
    }

    pub(super) fn kind(&self) -> Kind {
        Kind::of_mode(self.stamp.mode)
    }

    pub(super) fn permissions(&self) -> u32 {
        self.stamp.mode & 0o7777
    }
}

/// One walk below a selected directory.
pub(super) struct Walk<'a> {
    tree: Tree<'a>,
    /// Where the walk is, from the root of the tree.
    path: Vec<u8>,
    pub(super) entries: Vec<Entry>,
    pub(super) skipped: Vec<Skipped>,
}

impl<'a> Walk<'a> {
    /// A walk that begins in the directory `path` of `tree`.
    pub(super) fn new(tree: Tree<'a>, path: &Path) -> Self {
        Self {
            tree,
            path: path.as_os_str().as_bytes().to_vec(),
            entries: Vec::new(),
            skipped: Vec::new(),
        }
    }

    /// Adds what is in `directory`, which the ignore rules judged to be `matched`.
    pub(super) fn directory(
        &mut self,
        directory: BorrowedFd<'_>,
        matched: &Matched,
        depth: usize,
    ) -> Result<(), Error> {
        if depth > DEPTH {
            return Err(Error::TooDeep {
                path: self.shown(),
                limit: DEPTH,
            });
        }
        let names = sys::fs::read_names(directory).map_err(|source| self.failed(source))?;
        let length = self.path.len();
        for name in names {
            if length != 0 {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(name.as_bytes());
            self.entry(directory, name, matched, depth)?;
            self.path.truncate(length);
        }
        Ok(())
    }

    fn entry(
        &mut self,
        directory: BorrowedFd<'_>,
        name: OsString,
        parent: &Matched,
        depth: usize,
    ) -> Result<(), Error> {
        let (hidden, matched) = match self.tree.ignore.filter(|ignore| !ignore.is_empty()) {
            None => (false, Matched::default()),
            Some(ignore) => {
                let path = OsStr::from_bytes(&self.path);
                let matched = ignore.enter(parent, path);
                let hidden = ignore.verdict_of(&matched).ignored;
                if hidden && !ignore.may_show_below(&matched, path) {
                    return Ok(());
                }
                (hidden, matched)
            }
        };
        // What is gone since the directory was read is not part of the selection.
        let stat = sys::fs::try_stat_at(directory, &name).map_err(|source| self.failed(source))?;
        let Some(stat) = stat else {
            return Ok(());
        };
        let kind = Kind::of(&stat);
        if hidden && kind != Kind::Directory {
            return Ok(());
        }
        let target = match kind {
            Kind::Socket => {
                self.skipped.push(Skipped::Socket { path: self.shown() });
                return Ok(());
            }
            Kind::Symlink => {
                let target = sys::fs::read_link_at(directory, &name);
                Some(target.map_err(|source| self.failed(source))?.into())
            }
            _ => None,
        };
        let inner = match kind {
            Kind::Directory => {
                let inner = sys::fs::open_directory_at(directory, &name);
                Some(inner.map_err(|source| self.failed(source))?)
            }
            _ => None,
        };
        self.entries.push(Entry {
            name: name.into(),
            depth,
            node: Node::of(&stat),
            target,
        });
        if let Some(inner) = inner {
            let before = self.entries.len();
            self.directory(inner.as_fd(), &matched, depth + 1)?;
            if hidden && self.entries.len() == before {
                self.entries.pop();
            }
        }
        Ok(())
    }

    fn shown(&self) -> PathBuf {
        shown(Path::new(OsStr::from_bytes(&self.path)))
    }

    fn failed(&self, source: sys::Error) -> Error {
        Error::Source {
            path: self.shown(),
            source,
        }
    }
}
