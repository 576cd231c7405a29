//! Owners of files: chown(2) and what stat(2) shows of it.

use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag};
use nix::sys::stat::{FileStat, Mode, SFlag};

use super::caller::{Caller, Lookup, Target, is_per_process};
use super::credentials::{Credentials, UNCHANGED};
use super::layout;
use super::records::touch;
use super::{Reply, Supervisor};
use crate::ownership::record::Record;
use crate::sandbox::emulation::calls::{Layout, Width};
use crate::sys::fs::Kind;
use crate::sys::notify;

/// What an id of 16 bits says for "leave it".
#[cfg(target_arch = "x86_64")]
const UNCHANGED_HALF: u32 = 0xffff;

/// The argument of a call that has ids of `width`.
pub(super) fn id(caller: &Caller<'_>, index: usize, width: Width) -> u32 {
    let word = caller.word(index);
    match width {
        Width::Full => word,
        #[cfg(target_arch = "x86_64")]
        Width::Half => match word & 0xffff {
            UNCHANGED_HALF => UNCHANGED,
            id => id,
        },
    }
}

/// Opens a file without opening it: enough to change its owner and attributes.
pub(super) fn open(target: &Target) -> nix::Result<OwnedFd> {
    let mut flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    flags.set(OFlag::O_NOFOLLOW, !target.follow);
    nix::fcntl::openat(AT_FDCWD, target.path.as_c_str(), flags, Mode::empty())
}

impl Supervisor {
    /// The stat family: fills `buffer` of the caller where a record says more than the kernel.
    pub(super) fn stat(
        &self,
        caller: &Caller<'_>,
        target: Option<&Target>,
        layout: Layout,
        buffer: u64,
    ) -> nix::Result<Reply> {
        let Some(target) = target else {
            return Ok(Reply::Continue);
        };
        let mut flags = AtFlags::empty();
        flags.set(AtFlags::AT_SYMLINK_NOFOLLOW, !target.follow);
        let Ok(mut stat) = nix::sys::stat::fstatat(AT_FDCWD, target.path.as_c_str(), flags) else {
            return Ok(Reply::Continue);
        };
        let Some(record) = self.records.find(target, Kind::of(&stat)) else {
            return Ok(Reply::Continue);
        };
        let record = of_contents(record, stat.st_size > 0);
        apply(&mut stat, record);
        match layout {
            Layout::Native => caller.write(buffer, notify::bytes_of(&stat))?,
            #[cfg(target_arch = "x86_64")]
            Layout::Large => caller.write(buffer, &layout::large(&stat))?,
            #[cfg(target_arch = "x86_64")]
            Layout::Small => caller.write(buffer, &layout::small(&stat)?)?,
        }
        Ok(Reply::Value(0))
    }

    pub(super) fn statx(&self, caller: &Caller<'_>) -> nix::Result<Reply> {
        let flags = caller.int(2);
        let lookup = Lookup {
            no_follow: flags & libc::AT_SYMLINK_NOFOLLOW != 0,
            allows_empty: flags & libc::AT_EMPTY_PATH != 0,
        };
        let Some(target) = caller.target_at(caller.int(0), caller.address(1), lookup)? else {
            return Ok(Reply::Continue);
        };
        let follow = if target.follow {
            0
        } else {
            libc::AT_SYMLINK_NOFOLLOW
        };
        let sync =
            flags & (libc::AT_STATX_DONT_SYNC | libc::AT_STATX_FORCE_SYNC | libc::AT_NO_AUTOMOUNT);
        let Ok(mut stat) = notify::statx(&target.path, follow | sync, caller.word(3)) else {
            return Ok(Reply::Continue);
        };
        let Some(record) = self
            .records
            .find(&target, Kind::of_mode(stat.stx_mode.into()))
        else {
            return Ok(Reply::Continue);
        };
        let record = of_contents(record, stat.stx_size > 0);
        stat.stx_uid = record.uid;
        stat.stx_gid = record.gid;
        if let Some(device) = record.device {
            let kind = if device.is_block {
                SFlag::S_IFBLK
            } else {
                SFlag::S_IFCHR
            };
            let permissions = stat.stx_mode & 0o7777;
            stat.stx_mode =
                u16::try_from(kind.bits()).expect("the type is in 16 bits") | permissions;
            stat.stx_rdev_major = device.major;
            stat.stx_rdev_minor = device.minor;
            stat.stx_blocks = 0;
        }
        caller.write(caller.address(4), notify::bytes_of(&stat))?;
        Ok(Reply::Value(0))
    }

    /// chown(2) and its kin, of what `path` in `directory` is.
    pub(super) fn chown_path(
        &mut self,
        caller: &Caller<'_>,
        directory: i32,
        address: u64,
        lookup: Lookup,
        (uid, gid): (u32, u32),
    ) -> nix::Result<Reply> {
        let path = if address == 0 {
            return Err(Errno::EFAULT);
        } else {
            caller.path(address)?
        };
        // The outputs of the command are pipes of rbuild's, which keep the owner that they have.
        if is_per_process(&path) && self.credentials(caller)?.is_capable() {
            return Ok(Reply::Value(0));
        }
        match caller.target(directory, &path, lookup)? {
            Some(target) => self.chown(caller, &target, (uid, gid)),
            None => Ok(Reply::Continue),
        }
    }

    pub(super) fn chown(
        &mut self,
        caller: &Caller<'_>,
        target: &Target,
        (uid, gid): (u32, u32),
    ) -> nix::Result<Reply> {
        let fd = match open(target) {
            Ok(fd) => fd,
            // A link into /proc leads nowhere from here, and to the caller's own files from there.
            Err(Errno::ENOENT | Errno::EACCES) if target.follow && leads_to_proc(target) => {
                return Ok(Reply::Value(0));
            }
            Err(errno) => return Err(errno),
        };
        caller.check()?;
        let stat = nix::sys::stat::fstat(&fd)?;
        let handle = Target {
            path: super::records::own(&fd),
            follow: true,
        };
        let old = self
            .records
            .find(&handle, Kind::of(&stat))
            .unwrap_or_default();
        let choose = |id, old| if id == UNCHANGED { old } else { id };
        let new = Record {
            uid: choose(uid, old.uid),
            gid: choose(gid, old.gid),
            device: old.device,
        };
        if !may_chown(self.credentials(caller)?, old, (uid, gid)) {
            return Err(Errno::EPERM);
        }
        touch(&fd)?;
        if new != old {
            self.records.set(&fd, &stat, new)?;
        }
        Ok(Reply::Value(0))
    }
}

/// chown(2), "EPERM": root may all; the owner may choose among its own groups.
fn may_chown(credentials: &Credentials, old: Record, (uid, gid): (u32, u32)) -> bool {
    let own = credentials.user.file == old.uid;
    let uid_allowed = uid == UNCHANGED || (own && uid == old.uid);
    let gid_allowed = gid == UNCHANGED || (own && (gid == old.gid || credentials.is_in_group(gid)));
    credentials.is_capable() || (uid_allowed && gid_allowed)
}

fn leads_to_proc(target: &Target) -> bool {
    nix::fcntl::readlink(target.path.as_c_str())
        .is_ok_and(|place| is_per_process(std::os::unix::ffi::OsStrExt::as_bytes(&*place)))
}

/// What `record` means of a file: one that has something in it stands for no device.
fn of_contents(record: Record, has_contents: bool) -> Record {
    Record {
        device: record.device.filter(|_| !has_contents),
        ..record
    }
}

/// Puts into `stat` what `record` says.
pub(super) fn apply(stat: &mut FileStat, record: Record) {
    stat.st_uid = record.uid;
    stat.st_gid = record.gid;
    if let Some(device) = record.device {
        let kind = if device.is_block {
            SFlag::S_IFBLK
        } else {
            SFlag::S_IFCHR
        };
        stat.st_mode = kind.bits() | (stat.st_mode & 0o7777);
        stat.st_rdev = nix::sys::stat::makedev(device.major.into(), device.minor.into());
        stat.st_blocks = 0;
    }
}
