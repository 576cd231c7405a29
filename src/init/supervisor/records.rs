//! What a file is, beyond what the file system says: reading and writing records.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::sys::stat::FileStat;

use super::caller::Target;
use crate::ownership::record::{ATTRIBUTE, Entry, FileId, MAX_VALUE, Record};
use crate::sys::fs::Kind;
use crate::sys::statx::{Birth, statx};
use crate::sys::xattr;

/// Entries of the table in memory. No image has so many links of other users.
const MAX_ENTRIES: usize = 10_000_000;

/// The records of one step.
pub(super) struct Records {
    /// Owners of what cannot carry attributes: what the layers' tables hold, and what this step adds.
    table: HashMap<FileId, (u32, u32)>,
    /// What a file that was copied up in this step is shown as until the kernel forgets it, which is
    /// different for each of its names, and what it is in the layer.
    aliases: HashMap<FileId, FileId>,
    /// Where additions are kept for the layer.
    file: File,
    /// The layer that is being written, for the inodes that its files have there.
    upper: OwnedFd,
    /// The file system whose files are those of the layer.
    device: u64,
    /// Its root, while the supervisor is in another one.
    outside: Option<OwnedFd>,
    attribute: CString,
}

impl Records {
    /// `tables` are those of the lower layers, in any order: they speak of different files.
    pub(super) fn new(tables: &[Vec<u8>], file: File, upper: OwnedFd) -> Self {
        let table = tables
            .iter()
            .flat_map(|table| Entry::decode_all(table))
            .map(|entry| (entry.file, (entry.uid, entry.gid)))
            .collect();
        Self {
            table,
            aliases: HashMap::new(),
            file,
            upper,
            device: 0,
            outside: None,
            attribute: CString::new(ATTRIBUTE).expect("a constant without a zero byte"),
        }
    }

    /// Must be called once the root is that of the image.
    pub(super) fn enter(&mut self) -> nix::Result<()> {
        self.device = nix::sys::stat::stat("/")?.st_dev;
        Ok(())
    }

    /// Says that the root is another one from now on than that of the image, which is `root`; `None` when
    /// it is that again.
    pub(super) fn leave(&mut self, root: Option<OwnedFd>) {
        self.outside = root;
    }

    /// The record of `target`. Most files have none, and the kernel says so in one call.
    pub(super) fn find(&self, target: &Target) -> Option<Record> {
        let mut value = [0; MAX_VALUE + 1];
        match xattr::get_into(&target.path, target.follow, &self.attribute, &mut value) {
            Ok(length) => Record::decode(&value[..length]),
            // What could not have the attribute may be in the table.
            Err(_) => self.find_entry(target),
        }
    }

    /// The record of an open file, where one call tells it.
    pub(super) fn peek(&self, fd: impl AsFd) -> Option<Record> {
        let mut value = [0; MAX_VALUE + 1];
        match xattr::get_of(fd, &self.attribute, &mut value) {
            Ok(length) => Record::decode(&value[..length]),
            Err(Errno::ENODATA) if self.table.is_empty() => Some(Record::default()),
            Err(_) => None,
        }
    }

    /// Whether the file is the layer's, and not of something mounted into it.
    pub(super) fn are_of(&self, stat: &FileStat) -> bool {
        stat.st_dev == self.device
    }

    /// Whether a new file that cannot carry attributes may look like one that the table has: a birth time
    /// is only as fine as the clock's tick, and an inode number may be given again within one.
    pub(super) fn may_mistake(&self) -> bool {
        !self.table.is_empty()
    }

    fn find_entry(&self, target: &Target) -> Option<Record> {
        if self.table.is_empty() {
            return None;
        }
        let file = identify(&target.path, target.follow).ok()?;
        let file = self.aliases.get(&file).unwrap_or(&file);
        let (uid, gid) = self.table.get(file)?;
        Some(Record::owned_by(*uid, *gid))
    }

    /// Replaces the record of an open file (O_PATH is enough).
    pub(super) fn set(
        &mut self,
        fd: impl AsFd,
        stat: &FileStat,
        record: Record,
    ) -> nix::Result<()> {
        let path = own(&fd);
        if matches!(Kind::of(stat), Kind::Regular | Kind::Directory) {
            let done = if record.is_default() {
                xattr::remove(&path, &self.attribute)
            } else {
                xattr::set(&path, &self.attribute, &record.encode())
            };
            match done {
                Err(Errno::EOPNOTSUPP | Errno::ENOSPC | Errno::EPERM)
                    if record.device.is_none() => {}
                other => return other,
            }
        }
        let seen = identify(&path, true)?;
        let known = self.aliases.contains_key(&seen) || self.table.contains_key(&seen);
        if record.is_default() && !known {
            return Ok(());
        }
        if self.table.len() + self.aliases.len() >= MAX_ENTRIES {
            return Err(Errno::ENOSPC);
        }
        let owner = (record.uid, record.gid);
        let stored = if self.are_of(stat) {
            self.stored(&path)
        } else {
            None
        };
        let Some(stored) = stored else {
            self.table.insert(seen, owner);
            return Ok(());
        };
        if seen != stored {
            self.aliases.insert(seen, stored);
        }
        self.table.insert(stored, owner);
        let entry = Entry {
            file: stored,
            uid: owner.0,
            gid: owner.1,
        };
        self.file
            .write_all(&entry.encode())
            .map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
    }

    /// What the file at `path` is in the directory of the layer.
    fn stored(&self, path: &CStr) -> Option<FileId> {
        let place = self.place(path).ok()?;
        let place = Path::new(&place).strip_prefix("/").ok()?.to_owned();
        let place = if place.as_os_str().is_empty() {
            Path::new(".").to_owned()
        } else {
            place
        };
        let file = nix::fcntl::openat(
            &self.upper,
            &place,
            nix::fcntl::OFlag::O_PATH
                | nix::fcntl::OFlag::O_NOFOLLOW
                | nix::fcntl::OFlag::O_CLOEXEC,
            nix::sys::stat::Mode::empty(),
        )
        .ok()?;
        identify(&own(&file), true).ok()
    }

    /// The path in the image of the descriptor that `path` names.
    fn place(&self, path: &CStr) -> nix::Result<std::ffi::OsString> {
        let Some(root) = &self.outside else {
            return nix::fcntl::readlink(path);
        };
        // A link of /proc is told as seen from the root of who reads it.
        let flags = nix::fcntl::OFlag::O_PATH | nix::fcntl::OFlag::O_CLOEXEC;
        let open = |path| nix::fcntl::open(path, flags, nix::sys::stat::Mode::empty());
        let (inside, proc) = (open("/")?, open(".")?);
        let enter = |root: &OwnedFd| {
            nix::unistd::fchdir(root)?;
            nix::unistd::chroot(".")?;
            nix::unistd::fchdir(&proc)
        };
        enter(root)?;
        let place = nix::fcntl::readlink(path);
        enter(&inside)?;
        place
    }

    /// Keeps the record of a special file of a lower layer, which gets another inode when it is changed:
    /// changes it, in nothing but its time of change, and writes the record anew.
    pub(super) fn hold(&mut self, target: &Target) -> nix::Result<()> {
        let Some(record) = self.find_entry(target) else {
            return Ok(());
        };
        let fd = super::files::open(target)?;
        touch(&fd)?;
        let stat = nix::sys::stat::fstat(&fd)?;
        self.set(&fd, &stat, record)
    }
}

/// The chown(2) that changes nothing: it copies a file up, takes set-id bits and capabilities away and
/// sets the time of change.
pub(super) fn touch(fd: impl AsFd) -> nix::Result<()> {
    nix::unistd::fchownat(fd, c"", None, None, AtFlags::AT_EMPTY_PATH)
}

fn identify(path: &CStr, follow: bool) -> nix::Result<FileId> {
    let flags = if follow { 0 } else { libc::AT_SYMLINK_NOFOLLOW };
    let found = statx(AT_FDCWD, path, flags, Birth::MASK)?;
    Ok(Birth::of(&found).into())
}

/// A descriptor of the supervisor's own, as a path below its /proc.
pub(super) fn own(fd: &impl AsFd) -> CString {
    let path = format!("self/fd/{}", fd.as_fd().as_raw_fd());
    CString::new(path).expect("digits and letters")
}
