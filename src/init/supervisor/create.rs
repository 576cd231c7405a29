//! New files, which belong to who makes them: the kernel would say 0:0 of all.

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag};
use nix::sys::stat::{Mode, SFlag, major, minor};

use super::caller::{Caller, Lookup};
use super::{Reply, Supervisor};
use crate::ownership::record::{Device, Record};
use crate::sys::fs::Kind;
use crate::sys::notify;

/// Where something is to be made: an open directory and a name in it.
struct Place {
    directory: OwnedFd,
    name: CString,
    /// Whom a new file there belongs to.
    owner: Record,
}

/// Where the owner of a new file is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Carries {
    Attributes,
    Nothing,
}

/// Whose the new file is.
enum New {
    /// 0:0, as the kernel has it: the kernel can make it.
    Roots,
    Owned(Place),
}

impl Supervisor {
    /// Finds out whom a file made at `address` would belong to.
    fn place(
        &self,
        caller: &Caller<'_>,
        directory: i32,
        path: &[u8],
        carries: Carries,
    ) -> nix::Result<New> {
        let trimmed = path.len() - path.iter().rev().take_while(|byte| **byte == b'/').count();
        let path = &path[..trimmed];
        let at = path.iter().rposition(|byte| *byte == b'/');
        let (parent, name) = match at {
            Some(0) => (&b"/"[..], &path[1..]),
            Some(at) => (&path[..at], &path[at + 1..]),
            None => (&b"."[..], path),
        };
        if matches!(name, b"" | b"." | b"..") {
            return Ok(New::Roots);
        }
        let credentials = self.credentials(caller)?;
        let Some(target) = caller.target(directory, parent, Lookup::default())? else {
            return Ok(New::Roots);
        };
        // What goes wrong on the way the kernel will say as well.
        let Ok(stat) = nix::sys::stat::fstatat(AT_FDCWD, target.path.as_c_str(), AtFlags::empty())
        else {
            return Ok(New::Roots);
        };
        let mut owner = Record::owned_by(credentials.user.file, credentials.group.file);
        if stat.st_mode & SFlag::S_IFMT.bits() != SFlag::S_IFDIR.bits() {
            return Ok(New::Roots);
        }
        if Mode::from_bits_truncate(stat.st_mode).contains(Mode::S_ISGID) {
            let parent = self.records.find(&target, Kind::Directory);
            owner.gid = parent.unwrap_or_default().gid;
        }
        let is_new = carries == Carries::Attributes || !self.records.may_mistake();
        if owner.is_default() && is_new {
            return Ok(New::Roots);
        }
        Ok(New::Owned(Place {
            directory: super::files::open(&target)?,
            name: CString::new(name).map_err(|_| Errno::EINVAL)?,
            owner,
        }))
    }

    /// Runs `make` with the caller's umask. The supervisor answers one call at a time.
    fn with_umask<T>(caller: &Caller<'_>, make: impl FnOnce() -> nix::Result<T>) -> nix::Result<T> {
        let mask = Mode::from_bits_truncate(caller.umask()?);
        let old = nix::sys::stat::umask(mask);
        let made = make();
        nix::sys::stat::umask(old);
        made
    }

    /// Gives what was just made at `place` its owner.
    fn own(&mut self, place: &Place, record: Record) -> nix::Result<()> {
        let fd = nix::fcntl::openat(
            &place.directory,
            place.name.as_c_str(),
            OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
            Mode::empty(),
        )?;
        let stat = nix::sys::stat::fstat(&fd)?;
        self.records.set(&fd, &stat, record)
    }

    /// open(2) with O_CREAT, and O_TMPFILE.
    pub(super) fn open(
        &mut self,
        caller: &Caller<'_>,
        directory: i32,
        address: u64,
        flags: i32,
        mode: u32,
    ) -> nix::Result<Reply> {
        let path = caller.path(address)?;
        let flags = OFlag::from_bits_retain(flags);
        let mode = Mode::from_bits_truncate(mode);
        if flags.contains(OFlag::O_TMPFILE) {
            return self.open_unnamed(caller, directory, &path, flags, mode);
        }
        let carries = Carries::Attributes;
        let New::Owned(place) = self.place(caller, directory, &path, carries)? else {
            return Ok(Reply::Continue);
        };
        if path.last() == Some(&b'/') {
            return Ok(Reply::Continue);
        }
        caller.check()?;
        let exclusive = (flags | OFlag::O_EXCL | OFlag::O_CLOEXEC) - OFlag::O_TRUNC;
        let opened = Self::with_umask(caller, || {
            nix::fcntl::openat(&place.directory, place.name.as_c_str(), exclusive, mode)
        });
        // What is there already keeps its owner.
        let Ok(fd) = opened else {
            return Ok(Reply::Continue);
        };
        let stat = nix::sys::stat::fstat(&fd)?;
        self.records.set(&fd, &stat, place.owner)?;
        Ok(Reply::Descriptor {
            fd,
            close_on_exec: flags.contains(OFlag::O_CLOEXEC),
        })
    }

    fn open_unnamed(
        &mut self,
        caller: &Caller<'_>,
        directory: i32,
        path: &[u8],
        flags: OFlag,
        mode: Mode,
    ) -> nix::Result<Reply> {
        // The directory is what has to be found; any name in it will do.
        let inside = [path, b"/x"].concat();
        let New::Owned(place) = self.place(caller, directory, &inside, Carries::Attributes)? else {
            return Ok(Reply::Continue);
        };
        caller.check()?;
        let opened = Self::with_umask(caller, || {
            nix::fcntl::openat(&place.directory, c".", flags | OFlag::O_CLOEXEC, mode)
        });
        let Ok(fd) = opened else {
            return Ok(Reply::Continue);
        };
        let stat = nix::sys::stat::fstat(&fd)?;
        self.records.set(&fd, &stat, place.owner)?;
        Ok(Reply::Descriptor {
            fd,
            close_on_exec: flags.contains(OFlag::O_CLOEXEC),
        })
    }

    /// openat2(2): the flags are in memory.
    pub(super) fn open_how(&mut self, caller: &Caller<'_>) -> nix::Result<Reply> {
        let mut how = [0; 24];
        caller.read_whole(caller.address(2), &mut how)?;
        let number =
            |at: usize| u64::from_le_bytes(how[at..at + 8].try_into().expect("eight bytes"));
        let (flags, mode, resolve) = (number(0), number(8), number(16));
        let creates = (libc::O_CREAT | libc::O_TMPFILE).cast_unsigned();
        // A way to the file that is restricted is only the kernel's to go.
        if flags & u64::from(creates) == 0 || resolve != 0 {
            return Ok(Reply::Continue);
        }
        let flags = u32::try_from(flags).map_err(|_| Errno::EINVAL)?;
        let mode = u32::try_from(mode).map_err(|_| Errno::EINVAL)?;
        let path = caller.address(1);
        self.open(caller, caller.int(0), path, flags.cast_signed(), mode)
    }

    pub(super) fn make_directory(
        &mut self,
        caller: &Caller<'_>,
        directory: i32,
        address: u64,
        mode: u32,
    ) -> nix::Result<Reply> {
        let path = caller.path(address)?;
        let carries = Carries::Attributes;
        let New::Owned(place) = self.place(caller, directory, &path, carries)? else {
            return Ok(Reply::Continue);
        };
        caller.check()?;
        let mode = Mode::from_bits_truncate(mode);
        Self::with_umask(caller, || {
            nix::sys::stat::mkdirat(&place.directory, place.name.as_c_str(), mode)
        })?;
        self.own(&place, place.owner)?;
        Ok(Reply::Value(0))
    }

    pub(super) fn make_link(
        &mut self,
        caller: &Caller<'_>,
        target: u64,
        directory: i32,
        address: u64,
    ) -> nix::Result<Reply> {
        let path = caller.path(address)?;
        let New::Owned(place) = self.place(caller, directory, &path, Carries::Nothing)? else {
            return Ok(Reply::Continue);
        };
        if path.last() == Some(&b'/') {
            return Ok(Reply::Continue);
        }
        let target = caller.path(target)?;
        caller.check()?;
        nix::unistd::symlinkat(
            OsStr::from_bytes(&target),
            &place.directory,
            place.name.as_c_str(),
        )?;
        self.own(&place, place.owner)?;
        Ok(Reply::Value(0))
    }

    /// mknod(2). A device becomes an empty file with a record that says which device it is.
    pub(super) fn make_node(
        &mut self,
        caller: &Caller<'_>,
        directory: i32,
        address: u64,
        mode: u32,
        device: u32,
    ) -> nix::Result<Reply> {
        let path = caller.path(address)?;
        let kind = Kind::of_mode(mode);
        let carries = match kind {
            Kind::Fifo | Kind::Socket => Carries::Nothing,
            _ => Carries::Attributes,
        };
        let new = self.place(caller, directory, &path, carries)?;
        let mode = Mode::from_bits_truncate(mode);
        if !matches!(kind, Kind::CharDevice | Kind::BlockDevice) {
            let New::Owned(place) = new else {
                return Ok(Reply::Continue);
            };
            caller.check()?;
            let kind = match kind {
                Kind::Fifo => SFlag::S_IFIFO,
                Kind::Socket => SFlag::S_IFSOCK,
                Kind::Regular => SFlag::S_IFREG,
                _ => return Ok(Reply::Continue),
            };
            Self::with_umask(caller, || {
                nix::sys::stat::mknodat(&place.directory, place.name.as_c_str(), kind, mode, 0)
            })?;
            self.own(&place, place.owner)?;
            return Ok(Reply::Value(0));
        }
        // 0:0 is what overlayfs hides files with.
        if !self.credentials(caller)?.is_capable() || device == 0 {
            return Err(Errno::EPERM);
        }
        let (target, owner) = match &new {
            New::Owned(place) => (None, place.owner),
            New::Roots => {
                let lookup = Lookup {
                    no_follow: true,
                    ..Lookup::default()
                };
                (caller.target(directory, &path, lookup)?, Record::default())
            }
        };
        let record = Record {
            device: Some(Device {
                is_block: kind == Kind::BlockDevice,
                major: u32::try_from(major(device.into())).unwrap_or(0),
                minor: u32::try_from(minor(device.into())).unwrap_or(0),
            }),
            ..owner
        };
        caller.check()?;
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        let fd = Self::with_umask(caller, || match (&new, &target) {
            (New::Owned(place), _) => {
                nix::fcntl::openat(&place.directory, place.name.as_c_str(), flags, mode)
            }
            (New::Roots, Some(target)) => {
                nix::fcntl::openat(AT_FDCWD, target.path.as_c_str(), flags, mode)
            }
            (New::Roots, None) => Err(Errno::EPERM),
        })?;
        let stat = nix::sys::stat::fstat(&fd)?;
        self.records.set(&fd, &stat, record)?;
        Ok(Reply::Value(0))
    }

    /// bind(2) of a socket in the file system.
    pub(super) fn bind(&mut self, caller: &Caller<'_>) -> nix::Result<Reply> {
        let mut address = [0; size_of::<libc::sockaddr_un>()];
        let length = usize::try_from(caller.address(2)).unwrap_or(0);
        if length < 3 || length > address.len() {
            return Ok(Reply::Continue);
        }
        caller.read_whole(caller.address(1), &mut address[..length])?;
        let family = u16::from_ne_bytes([address[0], address[1]]);
        // An abstract address begins with a zero byte.
        if i32::from(family) != libc::AF_UNIX || address[2] == 0 {
            return Ok(Reply::Continue);
        }
        let path = &address[2..length];
        let end = path
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(path.len());
        let (here, carries) = (libc::AT_FDCWD, Carries::Nothing);
        let New::Owned(place) = self.place(caller, here, &path[..end], carries)? else {
            return Ok(Reply::Continue);
        };
        let Ok(socket) = notify::steal_descriptor(caller.pid(), caller.int(0)) else {
            return Ok(Reply::Continue);
        };
        caller.check()?;
        let name = nix::sys::socket::UnixAddr::new(place.name.as_c_str())?;
        nix::unistd::fchdir(&place.directory)?;
        let bound = Self::with_umask(caller, || {
            nix::sys::socket::bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &name)
        });
        nix::unistd::fchdir(self.proc.as_fd())?;
        bound?;
        self.own(&place, place.owner)?;
        Ok(Reply::Value(0))
    }
}
