//! Owners of files: chown(2) and what stat(2) shows of it.

use std::os::fd::OwnedFd;

use caps::Capability;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag};
use nix::sys::stat::{FileStat, Mode, SFlag};

use super::caller::{Caller, Lookup, Target};
use super::credentials::{Credentials, UNCHANGED};
#[cfg(target_arch = "x86_64")]
use super::layout;
use super::records::touch;
use super::{Reply, Supervisor};
use crate::ownership::record::Record;
use crate::sandbox::emulation::calls::{Layout, Width};
use crate::sys::fs::Kind;
use crate::sys::notify;
use crate::sys::statx::statx;

/// What an id of 16 bits says for "leave it".
#[cfg(target_arch = "x86_64")]
const UNCHANGED_HALF: u32 = 0xffff;

/// The flags that newfstatat(2) takes; with others the kernel refuses.
pub(super) const STAT_FLAGS: i32 =
    libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH | libc::AT_NO_AUTOMOUNT;
/// STATX__RESERVED of linux/stat.h.
const STATX_RESERVED: u32 = 0x8000_0000;

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
    /// The record of `target`, and a descriptor of the file where one was cheap.
    fn find(&self, caller: &Caller<'_>, target: &Target) -> Option<(Record, Option<OwnedFd>)> {
        if let Some(fd) = caller.copy_of(target)
            && let Some(record) = self.records.peek(&fd)
        {
            return (!record.is_default()).then_some((record, Some(fd)));
        }
        let record = self.records.find(target)?;
        Some((record, None))
    }

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
        let Some((record, fd)) = self.find(caller, target) else {
            return Ok(Reply::Continue);
        };
        let mut flags = AtFlags::empty();
        flags.set(AtFlags::AT_SYMLINK_NOFOLLOW, !target.follow);
        let stat = match fd {
            Some(fd) => nix::sys::stat::fstat(fd),
            None => nix::sys::stat::fstatat(AT_FDCWD, target.path.as_c_str(), flags),
        };
        let Ok(mut stat) = stat else {
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
        if flags & !(STAT_FLAGS | libc::AT_STATX_SYNC_TYPE) != 0
            || flags & libc::AT_STATX_SYNC_TYPE == libc::AT_STATX_SYNC_TYPE
            || caller.word(3) & STATX_RESERVED != 0
        {
            return Ok(Reply::Continue);
        }
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
        let Some((record, _)) = self.find(caller, &target) else {
            return Ok(Reply::Continue);
        };
        let Ok(mut stat) = statx(AT_FDCWD, &target.path, follow | sync, caller.word(3)) else {
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
        if address == 0 && !lookup.allows_empty {
            return Err(Errno::EFAULT);
        }
        match caller.target_at(directory, address, lookup)? {
            Some(target) => self.chown(caller, &target, (uid, gid)),
            // Only the kernel can say what is wrong, and of the rest of /proc nothing keeps an owner.
            None if self.is_capable_on_files(caller, Capability::CAP_CHOWN)? => Ok(Reply::Value(0)),
            None => Ok(Reply::Continue),
        }
    }

    pub(super) fn fchown(
        &mut self,
        caller: &Caller<'_>,
        (uid, gid): (u32, u32),
    ) -> nix::Result<Reply> {
        let number = caller.int(0);
        let target = caller.descriptor(number);
        if let Some(fd) = target.as_ref().and_then(|target| caller.copy_of(target)) {
            if is_path_only(&fd) {
                return Err(Errno::EBADF);
            }
            return self.chown_open(caller, &fd, (uid, gid));
        }
        match target {
            Some(target) if number >= 0 && !caller.is_path_only(number) => {
                self.chown(caller, &target, (uid, gid))
            }
            _ => Err(Errno::EBADF),
        }
    }

    pub(super) fn chown(
        &mut self,
        caller: &Caller<'_>,
        target: &Target,
        (uid, gid): (u32, u32),
    ) -> nix::Result<Reply> {
        let Some(fd) = open_behind(caller, target) else {
            // The kernel finds the same on its way, and says it.
            return Ok(Reply::Continue);
        };
        self.chown_open(caller, &fd, (uid, gid))
    }

    fn chown_open(
        &mut self,
        caller: &Caller<'_>,
        fd: &OwnedFd,
        (uid, gid): (u32, u32),
    ) -> nix::Result<Reply> {
        caller.check()?;
        let stat = nix::sys::stat::fstat(fd)?;
        let old = self.records.peek(fd);
        let old = old.unwrap_or_else(|| self.records.find(&Target::of(fd)).unwrap_or_default());
        let choose = |id, old| if id == UNCHANGED { old } else { id };
        let new = Record {
            uid: choose(uid, old.uid),
            gid: choose(gid, old.gid),
            device: old.device,
        };
        let who = self.credentials(caller)?;
        let is_root = || who.is_capable_on_files() && caller.has(Capability::CAP_CHOWN);
        if !may_chown(who, old, (uid, gid)) && !is_root() {
            return Err(Errno::EPERM);
        }
        touch(fd)?;
        let is_of_proc = || crate::sys::fs::is_of_proc(fd).unwrap_or(false);
        if new != old && (self.records.are_of(&stat) || !is_of_proc()) {
            self.records.set(fd, &stat, new)?;
        }
        Ok(Reply::Value(0))
    }

    /// chmod(2) with S_ISGID, which only who is in the group of the file may set; without it the kernel
    /// has to do nothing but what it is told.
    pub(super) fn chmod(
        &mut self,
        caller: &Caller<'_>,
        target: Option<Target>,
        mode: u32,
    ) -> nix::Result<Reply> {
        let Some(target) = target else {
            return Ok(Reply::Continue);
        };
        // What goes wrong here goes wrong in the kernel too, which says so.
        let _refused = self.records.hold(&target).is_err();
        let set_group = Mode::S_ISGID.bits();
        if mode & set_group == 0 || self.credentials(caller)?.is_capable_on_files() {
            return Ok(Reply::Continue);
        }
        let Ok(fd) = open(&target) else {
            return Ok(Reply::Continue);
        };
        let stat = nix::sys::stat::fstat(&fd)?;
        let handle = Target::of(&fd);
        let record = self.records.find(&handle);
        if Kind::of(&stat) == Kind::Symlink
            || self
                .credentials(caller)?
                .is_in_group(record.unwrap_or_default().gid)
        {
            return Ok(Reply::Continue);
        }
        caller.check()?;
        let mode = Mode::from_bits_truncate(mode & !set_group);
        let follow = nix::sys::stat::FchmodatFlags::FollowSymlink;
        nix::sys::stat::fchmodat(AT_FDCWD, handle.path.as_c_str(), mode, follow)?;
        Ok(Reply::Value(0))
    }
}

/// Links that a path may go over (path_resolution(7)).
pub(super) const MAX_LINKS: usize = 40;

/// Opens `target`, also where links lead over /proc, in which the caller's own files are others.
fn open_behind(caller: &Caller<'_>, target: &Target) -> Option<OwnedFd> {
    let mut target = target.clone();
    for _ in 0..MAX_LINKS {
        match open(&target) {
            Ok(fd) => return Some(fd),
            Err(Errno::ENOENT | Errno::EACCES) if target.follow => {
                target = caller.behind(&target)?;
            }
            Err(_) => return None,
        }
    }
    None
}

/// Whether `fd` was opened with O_PATH: fchown(2) does not take it.
fn is_path_only(fd: &OwnedFd) -> bool {
    nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_GETFL)
        .is_ok_and(|flags| flags & libc::O_PATH != 0)
}

/// chown(2), "EPERM", of who is not root: the owner may choose among its own groups.
fn may_chown(credentials: &Credentials, old: Record, (uid, gid): (u32, u32)) -> bool {
    let own = credentials.user.file == old.uid;
    let uid_allowed = uid == UNCHANGED || (own && uid == old.uid);
    let gid_allowed = gid == UNCHANGED || (own && (gid == old.gid || credentials.is_in_group(gid)));
    uid_allowed && gid_allowed
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
