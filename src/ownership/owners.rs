//! Reading owners.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;

use nix::sys::stat::{FileStat, SFlag};

use super::record::{ATTRIBUTE, Device, MODE, Record};
use super::table::Tables;
use super::{Error, Ownership};
use crate::sys;
use crate::sys::fs::Kind;

/// Whose the files of one tree are, and which of them stand for devices. The tree is the directory of
/// a layer, or a merged view of layers: inodes are the same in both.
#[derive(Debug, Clone)]
pub(crate) struct Owners(Kept);

#[derive(Debug, Clone)]
enum Kept {
    /// The file system has all there is to say.
    Elsewhere,
    /// The file system has the owners; records say which files are devices.
    Mapped,
    Recorded(Arc<Tables>),
}

impl Owners {
    /// For files that are no layer's: everything is what the file system says.
    pub(crate) const NONE: Self = Self(Kept::Elsewhere);

    /// For the layers whose files are in `diffs`, topmost first. Their tables are read once, when the
    /// first of their files may be in one.
    pub(crate) fn new(ownership: &Ownership, diffs: &[PathBuf]) -> Self {
        Self(match ownership {
            Ownership::Mapped => Kept::Mapped,
            Ownership::Recorded(_) => Kept::Recorded(Arc::new(Tables::of(diffs))),
            Ownership::Discarded => Kept::Elsewhere,
        })
    }

    /// Puts what is recorded of `name` in `dir` into `stat`, which is that of the file system: owner,
    /// and of what stands for a device its type and number. An empty name is `dir` itself.
    pub(crate) fn of(
        &self,
        dir: impl AsFd,
        name: &OsStr,
        stat: &mut FileStat,
    ) -> Result<(), Error> {
        let kind = Kind::of(stat);
        let asks = match self.0 {
            Kept::Elsewhere => false,
            Kept::Mapped => kind == Kind::Regular && stat.st_size == 0,
            Kept::Recorded(_) => matches!(kind, Kind::Regular | Kind::Directory),
        };
        let record = if asks { record_of(&dir, name)? } else { None };
        self.apply(record, dir, name, stat)
    }

    /// [`Owners::of`] where the attributes of the file are known: `record` is what they say.
    pub(crate) fn apply(
        &self,
        record: Option<Record>,
        dir: impl AsFd,
        name: &OsStr,
        stat: &mut FileStat,
    ) -> Result<(), Error> {
        if matches!(self.0, Kept::Elsewhere) {
            return Ok(());
        }
        let is_empty_file = Kind::of(stat) == Kind::Regular && stat.st_size == 0;
        let device = record.and_then(|record| record.device);
        if let Kept::Recorded(tables) = &self.0 {
            (stat.st_uid, stat.st_gid) = match record {
                Some(record) => (record.uid, record.gid),
                None => tables.owner(&dir, name, stat.st_ino)?.unwrap_or((0, 0)),
            };
            apply_mode(dir, name, stat)?;
        }
        if let Some(device) = device.filter(|device| is_empty_file && device.exists()) {
            let kind = if device.is_block {
                SFlag::S_IFBLK
            } else {
                SFlag::S_IFCHR
            };
            stat.st_mode = sys::fs::permissions(stat) | kind.bits();
            stat.st_rdev = nix::sys::stat::makedev(device.major.into(), device.minor.into());
        }
        Ok(())
    }
}

impl Device {
    /// The device with `st_mode` and `st_rdev` of a stat.
    pub(crate) fn of(mode: u32, number: u64) -> Self {
        let part = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        Self {
            is_block: Kind::of_mode(mode) == Kind::BlockDevice,
            major: part(nix::sys::stat::major(number)),
            minor: part(nix::sys::stat::minor(number)),
        }
    }

    /// Whether Linux can have the device: 12 bits of major, 20 of minor number, and not 0:0, which is
    /// overlayfs' whiteout.
    pub(crate) fn exists(self) -> bool {
        self.major < 1 << 12
            && self.minor < 1 << 20
            && (self.is_block || (self.major, self.minor) != (0, 0))
    }
}

/// Puts the mode that is recorded of a file or directory into `stat`, where modes are.
pub(super) fn apply_mode(dir: impl AsFd, name: &OsStr, stat: &mut FileStat) -> sys::Result<()> {
    if super::overrides_modes() || !matches!(Kind::of(stat), Kind::Regular | Kind::Directory) {
        return Ok(());
    }
    let value = sys::xattr::get_at(dir, name, OsStr::new(MODE))?;
    if let Some(mode) = value.and_then(|value| value.try_into().ok().map(u32::from_le_bytes)) {
        stat.st_mode = (stat.st_mode & !0o7777) | (mode & 0o7777);
    }
    Ok(())
}

/// The record of a file or directory; one that cannot be understood is none.
pub(super) fn record_of(dir: impl AsFd, name: &OsStr) -> sys::Result<Option<Record>> {
    let value = sys::xattr::get_at(dir, name, OsStr::new(ATTRIBUTE))?;
    Ok(value.and_then(|value| Record::decode(&value)))
}
