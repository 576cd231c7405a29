//! Everything below a directory, as far as the ignore rules show it.

use std::ffi::OsStr;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use nix::sys::stat::FileStat;

use super::entries::{Entries, Entry};
use super::error::Error;
use super::filter::{Filter, Judged};
use super::select::shown;
use super::{Skipped, Tree};
use crate::context::digest::Stamp;
use crate::context::ignore::Matched;
use crate::sys;
use crate::sys::fs::Kind;

/// Each level of a walk holds a descriptor.
const DEPTH: usize = 1024;

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

/// Which rules matched a directory, of each kind.
#[derive(Debug, Clone, Default)]
pub(super) struct Standing {
    ignore: Matched,
    filter: Judged,
}

impl Standing {
    /// The standing of a source, which the ignore rules of its tree judged to be `ignore`. The rules of
    /// the instruction are about what is below it.
    pub(super) fn of_source(ignore: Matched) -> Self {
        Self {
            ignore,
            filter: Judged::default(),
        }
    }
}

/// One walk below a selected directory.
pub(super) struct Walk<'a> {
    tree: Tree<'a>,
    filter: &'a Filter,
    /// Where the walk is, from the root of the tree.
    path: Vec<u8>,
    /// How much of `path` is the selected directory's.
    top: usize,
    pub(super) entries: Entries,
    pub(super) skipped: Vec<Skipped>,
}

impl<'a> Walk<'a> {
    /// A walk that begins in the directory `path` of `tree`.
    pub(super) fn new(tree: Tree<'a>, filter: &'a Filter, path: &Path) -> Self {
        let path = path.as_os_str().as_bytes().to_vec();
        Self {
            tree,
            filter,
            top: path.len() + usize::from(!path.is_empty()),
            path,
            entries: Entries::default(),
            skipped: Vec::new(),
        }
    }

    /// Adds what is in `directory`, whose standing is `standing`.
    pub(super) fn directory(
        &mut self,
        directory: BorrowedFd<'_>,
        standing: &Standing,
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
            self.entry(directory, &name, standing, depth)?;
            self.path.truncate(length);
        }
        Ok(())
    }

    fn entry(
        &mut self,
        directory: BorrowedFd<'_>,
        name: &OsStr,
        parent: &Standing,
        depth: usize,
    ) -> Result<(), Error> {
        let Some((hidden, ignore)) = self.ignored(&parent.ignore) else {
            return Ok(());
        };
        let below_top = OsStr::from_bytes(&self.path[self.top..]);
        let judged = self.filter.judge(&parent.filter, below_top);
        if !judged.is_chosen && !self.filter.may_choose_below(&judged, below_top) {
            return Ok(());
        }
        // What is gone since the directory was read is not part of the selection.
        let stat = sys::fs::try_stat_at(directory, name).map_err(|source| self.failed(source))?;
        let Some(mut stat) = stat else {
            return Ok(());
        };
        let kind = Kind::of(&stat);
        if (hidden || !judged.is_chosen) && kind != Kind::Directory {
            return Ok(());
        }
        let owned = self.tree.owners.of(directory, name, &mut stat);
        owned.map_err(|source| Error::Owned {
            path: self.shown(),
            source,
        })?;
        let target = match kind {
            Kind::Socket => {
                self.skipped.push(Skipped::Socket { path: self.shown() });
                return Ok(());
            }
            Kind::Symlink => {
                let target = sys::fs::read_link_at(directory, name);
                Some(target.map_err(|source| self.failed(source))?)
            }
            _ => None,
        };
        let inner = match kind {
            Kind::Directory => {
                let inner = sys::fs::open_directory_at(directory, name);
                Some(inner.map_err(|source| self.failed(source))?)
            }
            _ => None,
        };
        let before = self.entries.mark();
        self.entries.push(Entry {
            name,
            depth,
            node: Node::of(&stat),
            target: target.as_deref(),
            is_implied: !judged.is_chosen,
        });
        if let Some(inner) = inner {
            let itself = self.entries.mark();
            let only_for_its_content = hidden || !judged.is_chosen;
            let standing = Standing {
                ignore,
                filter: judged,
            };
            self.directory(inner.as_fd(), &standing, depth + 1)?;
            if only_for_its_content && self.entries.mark() == itself {
                self.entries.truncate(before);
            }
        }
        Ok(())
    }

    /// Whether the ignore rules hide the path that the walk is at, and their verdict for what is in
    /// it; `None` where all of it is hidden.
    fn ignored(&self, parent: &Matched) -> Option<(bool, Matched)> {
        let Some(ignore) = self.tree.ignore.filter(|ignore| !ignore.is_empty()) else {
            return Some((false, Matched::default()));
        };
        let path = OsStr::from_bytes(&self.path);
        let matched = ignore.enter(parent, path);
        let hidden = ignore.hides(&matched);
        (!hidden || ignore.may_show_below(&matched, path)).then_some((hidden, matched))
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
