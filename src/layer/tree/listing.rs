//! How every file of a tree is, so that it is known later which ones have changed.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Component, Path, PathBuf};

use nix::libc::nlink_t;
use nix::sys::stat::FileStat;

use super::{Error, check_depth};
use crate::sys;
use crate::sys::fs::Kind;

/// What a file shows of itself. Everything that changes a file's data, attributes, owner, mode or
/// number of names gives its inode the current time as its ctime, and no call sets a ctime: only
/// who can set the clock of the machine, or write to the disk below the file system, could keep one,
/// and a step has neither (no `CAP_SYS_TIME`, no `CAP_SYS_ADMIN`). So a file whose stamp is the same
/// is the same, provided that the step began when the clock of the file system was past the newest
/// ctime in the list: ctimes come in ticks of some milliseconds, and a change within the tick of the
/// stamp would not show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) mode: u32,
    pub(super) owner: (u32, u32),
    pub(super) size: i64,
    pub(super) node: u64,
    pub(super) names: nlink_t,
    pub(super) mtime: (i64, i64),
    pub(super) ctime: (i64, i64),
    /// When the inode was made: the number of a removed one may be given to the next. `None` where
    /// the file system does not know; asked for with directories only.
    pub(super) born: Option<(i64, u32)>,
}

impl Stamp {
    pub(super) fn of(stat: &FileStat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            mode: stat.st_mode,
            owner: (stat.st_uid, stat.st_gid),
            size: stat.st_size,
            node: stat.st_rdev,
            names: stat.st_nlink,
            mtime: (stat.st_mtime, stat.st_mtime_nsec),
            ctime: (stat.st_ctime, stat.st_ctime_nsec),
            born: None,
        }
    }

    /// The stamp of an open directory.
    pub(super) fn of_directory(directory: BorrowedFd<'_>, stat: &FileStat) -> Self {
        Self {
            born: sys::statx::birth_time(directory),
            ..Self::of(stat)
        }
    }

    /// Whether both are of one inode.
    pub(super) fn is_same_file(&self, other: &Self) -> bool {
        (self.device, self.inode, self.born) == (other.device, other.inode, other.born)
    }

    /// The same but for the number of names and the ctime.
    pub(super) fn looks_like(&self, other: &Self) -> bool {
        let other = Self {
            names: self.names,
            ctime: self.ctime,
            ..*other
        };
        *self == other
    }
}

/// A file of the list, with what is in it if it is a directory.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) stamp: Stamp,
    pub(super) inside: Option<Listing>,
}

/// The files of one directory and below it, by name.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(super) entries: BTreeMap<OsString, Entry>,
}

impl Listing {
    /// The newest ctime in the list, seconds and nanoseconds.
    pub(crate) fn newest(&self) -> (i64, i64) {
        let times = self.entries.values().map(|entry| {
            let inside = entry.inside.as_ref().map_or((0, 0), Self::newest);
            entry.stamp.ctime.max(inside)
        });
        times.max().unwrap_or((0, 0))
    }

    /// Takes `stat` as the new look of `path`, a file whose names were changed by the caller and whose
    /// content nobody touched. A path that is not in the list, or another file, is left alone.
    pub(crate) fn renew(&mut self, path: &Path, stat: &FileStat) {
        let Some(entry) = self.find(path) else { return };
        let now = Stamp::of(stat);
        if now.looks_like(&entry.stamp) {
            entry.stamp = now;
        }
    }

    fn find(&mut self, path: &Path) -> Option<&mut Entry> {
        let mut names = path.components().filter_map(|part| match part {
            Component::Normal(name) => Some(name),
            _ => None,
        });
        let mut entry = self.entries.get_mut(names.next()?)?;
        for name in names {
            entry = entry.inside.as_mut()?.entries.get_mut(name)?;
        }
        Some(entry)
    }
}

/// Lists everything below `root`.
pub(crate) fn list(root: BorrowedFd<'_>) -> Result<Listing, Error> {
    list_directory(root, &mut PathBuf::new(), 0)
}

fn list_directory(
    directory: BorrowedFd<'_>,
    path: &mut PathBuf,
    depth: usize,
) -> Result<Listing, Error> {
    check_depth(path, depth)?;
    let mut listing = Listing::default();
    for name in sys::fs::read_names(directory).map_err(Error::compare(path))? {
        path.push(&name);
        let entry = entry(directory, &name, path, depth)?;
        path.pop();
        listing.entries.insert(name, entry);
    }
    Ok(listing)
}

fn entry(
    directory: BorrowedFd<'_>,
    name: &OsStr,
    path: &mut PathBuf,
    depth: usize,
) -> Result<Entry, Error> {
    let stat = sys::fs::stat_at(directory, name).map_err(Error::compare(path))?;
    if Kind::of(&stat) != Kind::Directory {
        return Ok(Entry {
            stamp: Stamp::of(&stat),
            inside: None,
        });
    }
    let inner = sys::fs::open_directory_at(directory, name).map_err(Error::compare(path))?;
    Ok(Entry {
        stamp: Stamp::of_directory(inner.as_fd(), &stat),
        inside: Some(list_directory(inner.as_fd(), path, depth + 1)?),
    })
}
