//! How a snapshot stores owners: the one place that decides it.
//!
//! Layers name any user and group; the files of a snapshot can only carry the ids that the build's
//! user namespace maps. Where it maps one id, owners are records beside the files. Everything that
//! sets an owner in a snapshot (unpack, COPY, WORKDIR) goes through [`Ownership`], everything that
//! looks at one (the committer, COPY) through [`Owners`], so another way to keep owners is a variant
//! here. Device nodes, which no user namespace can make, are records in every snapshot.

#[cfg(any(test, fuzzing))]
pub(crate) mod assertions;
mod owners;
pub(crate) mod record;
mod table;

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::sys::stat::FileStat;

use crate::sys;
use crate::sys::fs::Kind;
pub(crate) use owners::Owners;
use record::{ATTRIBUTE, Device, MODE, Record};
pub(crate) use table::{TABLE, Table};

/// The way owners are kept, chosen once when the build enters its user namespace. Snapshots of
/// different ways live apart in the store.
#[derive(Debug, Clone)]
pub(crate) enum Ownership {
    /// Subordinate ids: an image's id is the same id on disk, as the namespace shows it.
    Mapped,
    /// One id: on disk everything belongs to 0:0, and owners are records ([`record`]). The table has
    /// those of what cannot have attributes.
    Recorded(Table),
    /// Owners and devices are dropped: the files are a build context, which has none.
    Discarded,
}

/// Why a file could not get its owner.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the owner {uid}:{gid} is not among the subordinate ids of this host")]
    Unmapped { uid: u32, gid: u32 },
    #[error("the table of owners {} cannot be used", path.display())]
    Table { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Sys(#[from] sys::Error),
}

impl Ownership {
    /// The directory of the store under which snapshots of this kind live.
    pub(crate) fn directory(&self) -> &'static str {
        match self {
            Self::Mapped => "mapped",
            Self::Recorded(_) => "recorded",
            Self::Discarded => unreachable!("snapshots keep owners"),
        }
    }

    /// The same way for the layer whose files are in `diff`.
    pub(crate) fn of_layer(&self, diff: &Path) -> Self {
        match self {
            Self::Recorded(_) => Self::Recorded(Table::of(diff)),
            other => other.clone(),
        }
    }

    /// Gives `name` in `dir`, link or not, its owner. What stands for a device still does.
    pub(crate) fn set_at(
        &self,
        dir: impl AsFd,
        name: &OsStr,
        uid: u32,
        gid: u32,
    ) -> Result<(), Error> {
        match self {
            Self::Mapped => mapped(sys::fs::chown_at(dir, name, uid, gid), uid, gid),
            Self::Discarded => Ok(()),
            Self::Recorded(table) => {
                let stat = sys::fs::stat_at(&dir, name)?;
                match Kind::of(&stat) {
                    Kind::Regular | Kind::Directory => record(table, dir, name, uid, gid),
                    _ => table.append(dir, name, uid, gid),
                }
            }
        }
    }

    /// Gives an open file or directory its owner.
    pub(crate) fn set(&self, fd: impl AsFd, uid: u32, gid: u32) -> Result<(), Error> {
        match self {
            Self::Mapped => mapped(sys::fs::chown(fd, uid, gid), uid, gid),
            Self::Discarded => Ok(()),
            Self::Recorded(table) => record(table, fd, OsStr::new(""), uid, gid),
        }
    }

    /// Puts the owner of the open file or directory of a layer being made into `stat`, which is that of
    /// the file system.
    pub(crate) fn seen(&self, fd: impl AsFd, stat: &mut FileStat) -> Result<(), Error> {
        if matches!(self, Self::Recorded(_)) {
            let record = owners::record_of(&fd, OsStr::new(""))?.unwrap_or_default();
            (stat.st_uid, stat.st_gid) = (record.uid, record.gid);
            owners::apply_mode(fd, OsStr::new(""), stat)?;
        }
        Ok(())
    }

    /// Makes the open file, which is new and empty, stand for a device that belongs to `uid` and `gid`.
    pub(crate) fn set_device(
        &self,
        fd: impl AsFd,
        device: Device,
        uid: u32,
        gid: u32,
    ) -> Result<(), Error> {
        let mut record = Record {
            device: Some(device),
            ..Record::default()
        };
        match self {
            Self::Mapped => self.set(&fd, uid, gid)?,
            Self::Discarded => return Ok(()),
            Self::Recorded(_) => (record.uid, record.gid) = (uid, gid),
        }
        Ok(write(fd, OsStr::new(""), record)?)
    }

    /// Puts the owner of a file that was just made into `stat`, which is that of the file system.
    pub(crate) fn made(&self, stat: &mut FileStat) {
        if matches!(self, Self::Recorded(_)) {
            (stat.st_uid, stat.st_gid) = (0, 0);
        }
    }

    /// Gives an open file or directory its mode; an empty name of [`Ownership::set_mode_at`].
    pub(crate) fn set_mode(&self, fd: impl AsFd, mode: u32) -> sys::Result<()> {
        let own = self.own_mode(&fd, OsStr::new(""), mode)?;
        sys::fs::chmod(fd, own)
    }

    /// Gives `name` in `dir`, which is no link, its mode.
    pub(crate) fn set_mode_at(&self, dir: impl AsFd, name: &OsStr, mode: u32) -> sys::Result<()> {
        let own = self.own_mode(&dir, name, mode)?;
        sys::fs::chmod_at(dir, name, own)
    }

    /// The mode for the file system. Who has no capability to override it must be able to read and
    /// write what it made, so a mode that forbids this is a record too.
    fn own_mode(&self, dir: impl AsFd, name: &OsStr, mode: u32) -> sys::Result<u32> {
        if !matches!(self, Self::Recorded(_)) || overrides_modes() {
            return Ok(mode);
        }
        let stat = match name.is_empty() {
            true => sys::fs::stat(&dir)?,
            false => sys::fs::stat_at(&dir, name)?,
        };
        let needed = match Kind::of(&stat) {
            Kind::Directory => 0o700,
            Kind::Regular => 0o600,
            _ => return Ok(mode),
        };
        let attribute = OsStr::new(MODE);
        if mode & needed == needed {
            sys::xattr::remove_at(dir, name, attribute)?;
        } else {
            sys::xattr::set_at(dir, name, attribute, &mode.to_le_bytes())?;
        }
        Ok(mode | needed)
    }
}

/// Whether this process reads and writes files whatever their modes say.
fn overrides_modes() -> bool {
    static OVERRIDES: OnceLock<bool> = OnceLock::new();
    *OVERRIDES.get_or_init(|| {
        caps::has_cap(
            None,
            caps::CapSet::Effective,
            caps::Capability::CAP_DAC_OVERRIDE,
        )
        .unwrap_or(false)
    })
}

fn mapped(result: sys::Result<()>, uid: u32, gid: u32) -> Result<(), Error> {
    match result {
        // chown(2): EINVAL is an id outside the namespace's map.
        Err(error) if error.errno == Errno::EINVAL => Err(Error::Unmapped { uid, gid }),
        other => Ok(other?),
    }
}

/// Records the owner of a regular file or directory: in its attribute, or in the table where the file
/// system has no room for that.
fn record(table: &Table, dir: impl AsFd, name: &OsStr, uid: u32, gid: u32) -> Result<(), Error> {
    let before = owners::record_of(&dir, name)?;
    let after = Record {
        device: before.and_then(|record| record.device),
        ..Record::owned_by(uid, gid)
    };
    if before == Some(after) {
        return Ok(());
    }
    match write(&dir, name, after) {
        Err(error) if table.is_kept() && has_no_room(error.errno) => {
            // The attribute counts before the table does.
            sys::xattr::remove_at(&dir, name, OsStr::new(ATTRIBUTE))?;
            table.append_for_attribute(dir, name, uid, gid)
        }
        Ok(()) if after.is_default() && table.stands_for_attributes() => {
            table.append(dir, name, uid, gid)
        }
        other => Ok(other?),
    }
}

fn write(dir: impl AsFd, name: &OsStr, record: Record) -> sys::Result<()> {
    let attribute = OsStr::new(ATTRIBUTE);
    if record.is_default() {
        return sys::xattr::remove_at(dir, name, attribute);
    }
    sys::xattr::set_at(dir, name, attribute, &record.encode())
}

/// xattr(7) and setxattr(2): no attributes at all, none of this name, or no space for one more.
fn has_no_room(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::ENOTSUP | Errno::EPERM | Errno::ENOSPC | Errno::EDQUOT | Errno::E2BIG
    )
}

#[cfg(test)]
mod tests;
