//! What lies below a snapshot: the merged view of its lower directories, looked up without mounting.

use std::cell::RefCell;
use std::ffi::{OsStr, OsString};
use std::rc::Rc;

use nix::sys::stat::FileStat;

use super::attributes::{self, Attributes, View};
use super::lower::Lower;
use crate::ownership::{self, Owners};
use crate::sys;
use crate::sys::fs::Kind;

/// One directory of the merged lower view: the lower directories that take part in it, topmost first.
/// A step changes few directories and mostly the uppermost ones say how they were, so each is asked
/// only when those above it have not answered.
pub(super) struct Below<'a> {
    lowers: &'a [Lower],
    owners: &'a Owners,
    merged: Rc<Merged>,
}

struct Merged {
    /// The directory it is in; the root has none.
    above: Option<Rc<Self>>,
    path: OsString,
    found: RefCell<Found>,
}

/// How far the lower directories have been asked. They are kept as indices, so a deep tree on many
/// layers needs no more descriptors than a flat one.
#[derive(Default)]
struct Found {
    taking_part: Vec<usize>,
    /// Whether the last of them hides the rest has not been asked.
    may_hide: bool,
    /// Of those that take part in the directory above, how many have been asked.
    asked: usize,
    is_complete: bool,
}

impl Merged {
    fn new(above: Option<Rc<Self>>, path: &OsStr) -> Rc<Self> {
        Rc::new(Self {
            above,
            path: path.to_owned(),
            found: RefCell::default(),
        })
    }

    /// The lower directory that takes part as the `n`th, counted from 0.
    fn nth(&self, lowers: &[Lower], n: usize) -> sys::Result<Option<usize>> {
        let mut found = self.found.borrow_mut();
        while found.taking_part.len() <= n && !found.is_complete {
            if let Some(last) = found.taking_part.last().filter(|_| found.may_hide) {
                found.is_complete = lowers[*last].is_opaque(&self.path)?;
                found.may_hide = false;
                continue;
            }
            let next = match &self.above {
                Some(above) => above.nth(lowers, found.asked)?,
                None => Some(found.asked).filter(|index| *index < lowers.len()),
            };
            let Some(index) = next else {
                found.is_complete = true;
                break;
            };
            let is_directory = match &self.above {
                None => Some(true),
                // Every directory on the way was found to be one, so no link is followed.
                Some(_) => lowers[index].is_directory(&self.path)?,
            };
            found.asked += 1;
            match is_directory {
                None => {}
                Some(true) => {
                    found.taking_part.push(index);
                    found.may_hide = true;
                }
                // A whiteout or another kind of file hides what is below it.
                Some(false) => found.is_complete = true,
            }
        }
        Ok(found.taking_part.get(n).copied())
    }
}

impl<'a> Below<'a> {
    /// The root of the merged view of `lowers`, whose files belong to whom `owners` says.
    pub(super) fn root(lowers: &'a [Lower], owners: &'a Owners) -> Self {
        Self {
            lowers,
            owners,
            merged: Merged::new(None, OsStr::new(".")),
        }
    }

    /// The directory `path` (from the root), where `self` is the directory it is in. Empty where the
    /// merged view has no directory of that path.
    pub(super) fn descend(&self, path: &OsStr) -> Self {
        Self {
            merged: Merged::new(Some(Rc::clone(&self.merged)), path),
            ..*self
        }
    }

    /// The same view with nothing in it, as below an opaque directory.
    pub(super) fn hidden(&self) -> Self {
        let merged = Merged::new(None, &self.merged.path);
        merged.found.borrow_mut().is_complete = true;
        Self { merged, ..*self }
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
        let mut nth = 0;
        while let Some(index) = self.merged.nth(self.lowers, nth)? {
            nth += 1;
            let Some(mut below) = self.lowers[index].stat(path)? else {
                continue;
            };
            let root = self.lowers[index].open()?;
            self.owners.of(root, path, &mut below)?;
            return Ok(Kind::of(&below) == Kind::of(stat) && below.st_rdev == stat.st_rdev);
        }
        Ok(false)
    }

    fn metadata(&self, path: &OsStr) -> Result<Option<(FileStat, Attributes)>, ownership::Error> {
        let Some(index) = self.merged.nth(self.lowers, 0)? else {
            return Ok(None);
        };
        let root = self.lowers[index].open()?;
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
