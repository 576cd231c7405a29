//! What lies below a snapshot: the merged view of its lower directories, looked up without mounting.

use std::ffi::OsStr;
use std::os::fd::{AsFd as _, OwnedFd};

use nix::sys::stat::FileStat;

use super::attributes::{self, Attributes, View};
use crate::ownership::{self, Owners};
use crate::sys;
use crate::sys::fs::Kind;

/// One directory of the merged lower view: the lower directories that take part in it, topmost first.
/// They are kept as indices, so a deep tree on many layers needs no more descriptors than a flat one.
pub(super) struct Below<'a> {
    roots: &'a [OwnedFd],
    owners: &'a Owners,
    taking_part: Vec<usize>,
}

impl<'a> Below<'a> {
    /// The root of the merged view of `roots`, whose files belong to whom `owners` says.
    pub(super) fn root(roots: &'a [OwnedFd], owners: &'a Owners) -> sys::Result<Self> {
        let mut taking_part = Vec::with_capacity(roots.len());
        for (index, root) in roots.iter().enumerate() {
            taking_part.push(index);
            if attributes::is_opaque(root.as_fd(), OsStr::new("."))? {
                break;
            }
        }
        Ok(Self {
            roots,
            owners,
            taking_part,
        })
    }

    /// The directory `path` (from the root), where `self` is the directory it is in. Empty where the
    /// merged view has no directory of that path.
    pub(super) fn descend(&self, path: &OsStr) -> sys::Result<Self> {
        let mut taking_part = Vec::new();
        for index in self.taking_part.iter().copied() {
            let root = self.roots[index].as_fd();
            // Every directory on the way was found to be one, so no link is followed.
            match sys::fs::try_stat_at(root, path)? {
                None => {}
                Some(stat) if Kind::of(&stat) == Kind::Directory => {
                    taking_part.push(index);
                    if attributes::is_opaque(root, path)? {
                        break;
                    }
                }
                // A whiteout or another kind of file hides what is below it.
                Some(_) => break,
            }
        }
        Ok(Self {
            roots: self.roots,
            owners: self.owners,
            taking_part,
        })
    }

    /// The same view with nothing in it, as below an opaque directory.
    pub(super) fn hidden(&self) -> Self {
        Self {
            roots: self.roots,
            owners: self.owners,
            taking_part: Vec::new(),
        }
    }

    /// Whether `self`, the directory `path` of the merged view, exists and shows the same mode, owner,
    /// time and attributes.
    pub(super) fn shows(
        &self,
        path: &OsStr,
        stat: &FileStat,
        attributes: &Attributes,
    ) -> Result<bool, ownership::Error> {
        let Some((below, below_attributes)) = self.metadata(path)? else {
            return Ok(false);
        };
        Ok(same_owner_and_mode(stat, &below)
            && (stat.st_mtime, stat.st_mtime_nsec) == (below.st_mtime, below.st_mtime_nsec)
            && *attributes == below_attributes)
    }

    /// [`Below::shows`] for the root, whose time does not count: every build step touches it. Where
    /// nothing is below, the root counts as 0755 of 0:0.
    pub(super) fn shows_root(
        &self,
        stat: &FileStat,
        attributes: &Attributes,
    ) -> Result<bool, ownership::Error> {
        Ok(match self.metadata(OsStr::new("."))? {
            Some((below, below_attributes)) => {
                same_owner_and_mode(stat, &below) && *attributes == below_attributes
            }
            None => {
                (sys::fs::permissions(stat), stat.st_uid, stat.st_gid) == (0o755, 0, 0)
                    && attributes.is_empty()
            }
        })
    }

    /// Whether `path`, a name in the directory that `self` is, stands for the device that `stat` has.
    pub(super) fn has_device(
        &self,
        path: &OsStr,
        stat: &FileStat,
    ) -> Result<bool, ownership::Error> {
        for index in &self.taking_part {
            let root = self.roots[*index].as_fd();
            let Some(mut below) = sys::fs::try_stat_at(root, path)? else {
                continue;
            };
            self.owners.of(root, path, &mut below)?;
            return Ok(Kind::of(&below) == Kind::of(stat) && below.st_rdev == stat.st_rdev);
        }
        Ok(false)
    }

    fn metadata(&self, path: &OsStr) -> Result<Option<(FileStat, Attributes)>, ownership::Error> {
        let Some(index) = self.taking_part.first() else {
            return Ok(None);
        };
        let root = self.roots[*index].as_fd();
        let mut stat = sys::fs::stat_at(root, path)?;
        let (attributes, record) = attributes::read(root, path, View::Snapshot)?;
        self.owners.apply(record, root, path, &mut stat)?;
        Ok(Some((stat, attributes)))
    }
}

fn same_owner_and_mode(a: &FileStat, b: &FileStat) -> bool {
    let key = |stat: &FileStat| (sys::fs::permissions(stat), stat.st_uid, stat.st_gid);
    key(a) == key(b)
}
