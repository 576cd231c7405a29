//! New files, which belong to who makes them: the kernel would say 0:0 of all.

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::rc::Rc;

use caps::Capability;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, OpenHow, ResolveFlag};
use nix::sys::stat::{Mode, SFlag, major, minor};

use super::caller::{Caller, Lookup, Start, Target};
use super::{Reply, Supervisor};
use crate::ownership::record::{Device, Record};
use crate::sys::fs::Kind;
use crate::sys::notify;

/// Where something is to be made: an open directory and a name in it.
struct Place {
    directory: Rc<OwnedFd>,
    name: CString,
    /// Whom a new file there belongs to.
    owner: Record,
    /// Whether the group is the directory's and not the maker's, who then cannot make a program that gives
    /// it (inode_init_owner of linux/fs/inode.c).
    strips: bool,
}

impl Place {
    fn mode(&self, mode: Mode) -> Mode {
        let gives_group = Mode::S_ISGID | Mode::S_IXGRP;
        if self.strips && mode.contains(gives_group) {
            mode - Mode::S_ISGID
        } else {
            mode
        }
    }
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

/// The directory that `path` is to be made in, and the name there; `None` for what is no name.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let trimmed = path.len() - path.iter().rev().take_while(|byte| **byte == b'/').count();
    let path = &path[..trimmed];
    let (parent, name) = match path.iter().rposition(|byte| *byte == b'/') {
        Some(0) => (&b"/"[..], &path[1..]),
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&b"."[..], path),
    };
    (!matches!(name, b"" | b"." | b"..")).then_some((parent, name))
}

impl Supervisor {
    /// Finds out whom a file made at `path` would belong to.
    fn place(
        &self,
        caller: &Caller<'_>,
        start: &Start,
        path: &[u8],
        carries: Carries,
    ) -> nix::Result<New> {
        let Some((parent, name)) = split(path) else {
            return Ok(New::Roots);
        };
        match caller.target_from(start, parent, true)? {
            Some(target) => self.place_in(caller, &target, name, carries),
            None => Ok(New::Roots),
        }
    }

    fn place_in(
        &self,
        caller: &Caller<'_>,
        parent: &Target,
        name: &[u8],
        carries: Carries,
    ) -> nix::Result<New> {
        // What goes wrong on the way the kernel will say as well.
        let Ok(stat) = nix::sys::stat::fstatat(AT_FDCWD, parent.path.as_c_str(), AtFlags::empty())
        else {
            return Ok(New::Roots);
        };
        if stat.st_mode & SFlag::S_IFMT.bits() != SFlag::S_IFDIR.bits() {
            return Ok(New::Roots);
        }
        let credentials = self.credentials(caller)?;
        let mut owner = Record::owned_by(credentials.user.file, credentials.group.file);
        let mut strips = false;
        if Mode::from_bits_truncate(stat.st_mode).contains(Mode::S_ISGID) {
            let record = self.records.find(parent);
            owner.gid = record.unwrap_or_default().gid;
            strips = !credentials.is_capable_on_files() && !credentials.is_in_group(owner.gid);
        }
        let is_new = carries == Carries::Attributes || !self.records.may_mistake();
        if owner.is_default() && is_new {
            return Ok(New::Roots);
        }
        Ok(New::Owned(Place {
            directory: Rc::new(super::files::open(parent)?),
            name: CString::new(name).map_err(|_| Errno::EINVAL)?,
            owner,
            strips,
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
        // O_PATH makes open(2) forget the other flags.
        if flags.contains(OFlag::O_PATH) || path.is_empty() {
            return Ok(Reply::Continue);
        }
        if flags.contains(OFlag::O_TMPFILE) {
            return self.open_unnamed(caller, directory, &path, flags, mode);
        }
        let place = self.place(
            caller,
            &Start::Callers(directory),
            &path,
            Carries::Attributes,
        )?;
        self.open_new(caller, place, path, flags, mode)
    }

    /// Makes the file at `place`, or where a link there leads.
    fn open_new(
        &mut self,
        caller: &Caller<'_>,
        mut place: New,
        mut path: Vec<u8>,
        flags: OFlag,
        mode: Mode,
    ) -> nix::Result<Reply> {
        let exclusive = (flags | OFlag::O_EXCL | OFlag::O_CLOEXEC) - OFlag::O_TRUNC;
        for _ in 0..super::files::MAX_LINKS {
            let New::Owned(new) = place else {
                break;
            };
            if path.last() == Some(&b'/') {
                break;
            }
            caller.check()?;
            let opened = Self::with_umask(caller, || {
                let mode = new.mode(mode);
                nix::fcntl::openat(&new.directory, new.name.as_c_str(), exclusive, mode)
            });
            if let Ok(fd) = opened {
                let stat = nix::sys::stat::fstat(&fd)?;
                self.records.set(&fd, &stat, new.owner)?;
                return Ok(Reply::Descriptor {
                    fd,
                    close_on_exec: flags.contains(OFlag::O_CLOEXEC),
                });
            }
            // What is there already keeps its owner, but for a link to something that is not.
            let follows = !flags.intersects(OFlag::O_EXCL | OFlag::O_NOFOLLOW);
            let link = nix::fcntl::readlinkat(&new.directory, new.name.as_c_str());
            let (true, Err(Errno::EEXIST), Ok(link)) = (follows, opened, link) else {
                break;
            };
            path = link.into_encoded_bytes();
            let start = Start::Own(new.directory);
            place = self.place(caller, &start, &path, Carries::Attributes)?;
        }
        Ok(Reply::Continue)
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
        let start = Start::Callers(directory);
        let New::Owned(place) = self.place(caller, &start, &inside, Carries::Attributes)? else {
            return Ok(Reply::Continue);
        };
        caller.check()?;
        let opened = Self::with_umask(caller, || {
            let mode = place.mode(mode);
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
        if flags & u64::from(creates) == 0 {
            return Ok(Reply::Continue);
        }
        let (Ok(bits), Ok(mode)) = (u32::try_from(flags), u32::try_from(mode)) else {
            return Ok(Reply::Continue);
        };
        let (directory, address) = (caller.int(0), caller.address(1));
        if resolve == 0 {
            return self.open(caller, directory, address, bits.cast_signed(), mode);
        }
        let flags = OFlag::from_bits_retain(bits.cast_signed());
        let path = caller.path(address)?;
        let Some((parent, name)) = split(&path) else {
            return Ok(Reply::Continue);
        };
        let Some(start) = caller.descriptor(directory) else {
            return Ok(Reply::Continue);
        };
        // The way to the directory is as restricted as the caller wants it, and the last step is none.
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::from_bits_retain(resolve));
        let opened = super::files::open(&start)
            .and_then(|start| nix::fcntl::openat2(start, OsStr::from_bytes(parent), how));
        let (Ok(parent), false) = (opened, flags.intersects(OFlag::O_PATH | OFlag::O_TMPFILE))
        else {
            return Ok(Reply::Continue);
        };
        let place = self.place_in(caller, &Target::of(&parent), name, Carries::Attributes)?;
        let mode = Mode::from_bits_truncate(mode);
        self.open_new(caller, place, path, flags | OFlag::O_NOFOLLOW, mode)
    }

    pub(super) fn make_directory(
        &mut self,
        caller: &Caller<'_>,
        directory: i32,
        address: u64,
        mode: u32,
    ) -> nix::Result<Reply> {
        let path = caller.path(address)?;
        let (start, carries) = (Start::Callers(directory), Carries::Attributes);
        let New::Owned(place) = self.place(caller, &start, &path, carries)? else {
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
        let start = Start::Callers(directory);
        let New::Owned(place) = self.place(caller, &start, &path, Carries::Nothing)? else {
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
        let new = self.place(caller, &Start::Callers(directory), &path, carries)?;
        let mode = Mode::from_bits_truncate(mode);
        if path.last() == Some(&b'/') {
            return Ok(Reply::Continue);
        }
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
                let mode = place.mode(mode);
                nix::sys::stat::mknodat(&place.directory, place.name.as_c_str(), kind, mode, 0)
            })?;
            self.own(&place, place.owner)?;
            return Ok(Reply::Value(0));
        }
        // 0:0 is what overlayfs hides files with.
        if !self.is_capable_on_files(caller, Capability::CAP_MKNOD)? || device == 0 {
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
        let here = Start::Callers(libc::AT_FDCWD);
        let New::Owned(place) = self.place(caller, &here, &path[..end], Carries::Nothing)? else {
            return Ok(Reply::Continue);
        };
        let Ok(socket) = notify::steal_descriptor(caller.process()?, caller.int(0)) else {
            return Ok(Reply::Continue);
        };
        // With the caller's words, which getsockname(2) will show, and so from the caller's directory.
        let Ok(name) = nix::sys::socket::UnixAddr::new(OsStr::from_bytes(&path[..end])) else {
            return Ok(Reply::Continue);
        };
        let (cwd, number) = (format!("{}/cwd", caller.pid()), socket.as_raw_fd());
        Self::with_umask(caller, || {
            nix::unistd::chdir(cwd.as_str())?;
            let bound = caller
                .check()
                .and_then(|()| nix::sys::socket::bind(number, &name));
            nix::unistd::fchdir(self.proc.as_fd())?;
            bound
        })?;
        self.own(&place, place.owner)?;
        Ok(Reply::Value(0))
    }
}
