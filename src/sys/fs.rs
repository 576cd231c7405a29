//! Files relative to directory descriptors, confined to a root where the names come from others.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, OpenHow, ResolveFlag};
use nix::sys::stat::{FileStat, Mode, SFlag};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags};

use super::{Error, Result};

/// What a directory entry is, as `getdents64(2)` or a stat says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Directory,
    Regular,
    Symlink,
    CharDevice,
    BlockDevice,
    Fifo,
    Socket,
}

impl Kind {
    /// The kind in the type bits of `st_mode`.
    pub(crate) fn of(stat: &FileStat) -> Self {
        Self::of_mode(stat.st_mode)
    }

    /// The kind in the type bits of a whole mode.
    pub(crate) fn of_mode(mode: u32) -> Self {
        let bits = SFlag::from_bits_truncate(mode) & SFlag::S_IFMT;
        if bits == SFlag::S_IFDIR {
            Self::Directory
        } else if bits == SFlag::S_IFLNK {
            Self::Symlink
        } else if bits == SFlag::S_IFCHR {
            Self::CharDevice
        } else if bits == SFlag::S_IFBLK {
            Self::BlockDevice
        } else if bits == SFlag::S_IFIFO {
            Self::Fifo
        } else if bits == SFlag::S_IFSOCK {
            Self::Socket
        } else {
            Self::Regular
        }
    }
}

/// Permission bits (07777) of a stat.
pub(crate) fn permissions(stat: &FileStat) -> u32 {
    stat.st_mode & 0o7777
}

/// Opens the directory `path` of the host, following links: only for paths that the user chose.
pub(crate) fn open_directory(path: &Path) -> Result<OwnedFd> {
    nix::fcntl::open(
        path,
        OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .map_err(|errno| Error::on("open", path, errno))
}

/// `openat(2)` of one name, which must not be a link; `O_CLOEXEC` and `O_NOFOLLOW` are added.
pub(crate) fn open_at(dir: impl AsFd, name: &OsStr, flags: OFlag, mode: u32) -> Result<OwnedFd> {
    let flags = flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    nix::fcntl::openat(dir, name, flags, Mode::from_bits_truncate(mode))
        .map_err(|errno| Error::on("openat", name, errno))
}

/// Opens the directory `name` in `dir` without following a link.
pub(crate) fn open_directory_at(dir: impl AsFd, name: &OsStr) -> Result<OwnedFd> {
    open_at(dir, name, OFlag::O_RDONLY | OFlag::O_DIRECTORY, 0)
}

/// Opens `path` as a process whose root is `root` would: absolute links and `..` stay inside
/// (`openat2(2)` with `RESOLVE_IN_ROOT`, Linux 5.6). `O_CLOEXEC` is added.
pub(crate) fn open_in_root(
    root: impl AsFd,
    path: &Path,
    flags: OFlag,
    mode: u32,
) -> Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .mode(Mode::from_bits_truncate(mode))
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    loop {
        match nix::fcntl::openat2(root.as_fd(), path, how) {
            Ok(fd) => return Ok(fd),
            // openat2(2): a rename elsewhere made `..` unsafe to judge; the call is to be repeated.
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(errno) => return Err(Error::on("openat2", path, errno)),
        }
    }
}

/// `fstatat(2)` of one name without following a link.
pub(crate) fn stat_at(dir: impl AsFd, name: &OsStr) -> Result<FileStat> {
    nix::sys::stat::fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW)
        .map_err(|errno| Error::on("fstatat", name, errno))
}

/// [`stat_at`], with a missing name as `None`.
pub(crate) fn try_stat_at(dir: impl AsFd, name: &OsStr) -> Result<Option<FileStat>> {
    match stat_at(dir, name) {
        Ok(stat) => Ok(Some(stat)),
        Err(Error {
            errno: Errno::ENOENT,
            ..
        }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// `fstat(2)`.
pub(crate) fn stat(fd: impl AsFd) -> Result<FileStat> {
    nix::sys::stat::fstat(fd).map_err(|errno| Error::new("fstat", "", errno))
}

/// Whether the open file (`O_PATH` is enough) is one of a proc file system.
pub(crate) fn is_of_proc(fd: impl AsFd) -> Result<bool> {
    nix::sys::statfs::fstatfs(fd)
        .map(|of| of.filesystem_type() == nix::sys::statfs::PROC_SUPER_MAGIC)
        .map_err(|errno| Error::new("fstatfs", "", errno))
}

/// The names in a directory, sorted by bytes, without `.` and `..`. The descriptor must be readable
/// (not `O_PATH`); its own position is left alone.
pub(crate) fn read_names(dir: impl AsFd) -> Result<Vec<OsString>> {
    let names = read_few_names(dir, usize::MAX)?;
    Ok(names.expect("no directory has as many names"))
}

/// [`read_names`] of a directory with at most so many names; `None` where there are more, of which no more
/// are read.
pub(crate) fn read_few_names(dir: impl AsFd, most: usize) -> Result<Option<Vec<OsString>>> {
    let own = open_at(
        &dir,
        OsStr::new("."),
        OFlag::O_RDONLY | OFlag::O_DIRECTORY,
        0,
    )?;
    let mut stream =
        nix::dir::Dir::from_fd(own).map_err(|errno| Error::new("fdopendir", ".", errno))?;
    let mut names = Vec::new();
    for entry in stream.iter() {
        let entry = entry.map_err(|errno| Error::new("getdents64", ".", errno))?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            if names.len() == most {
                return Ok(None);
            }
            names.push(OsString::from_vec(name.to_vec()));
        }
    }
    names.sort_unstable_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    Ok(Some(names))
}

/// The target text of the link `name`.
pub(crate) fn read_link_at(dir: impl AsFd, name: &OsStr) -> Result<OsString> {
    nix::fcntl::readlinkat(dir, name).map_err(|errno| Error::on("readlinkat", name, errno))
}

/// `mkdirat(2)`; the mode is still subject to the umask.
pub(crate) fn make_directory_at(dir: impl AsFd, name: &OsStr, mode: u32) -> Result<()> {
    nix::sys::stat::mkdirat(dir, name, Mode::from_bits_truncate(mode))
        .map_err(|errno| Error::on("mkdirat", name, errno))
}

/// `symlinkat(2)`: `name` in `dir` with the text `target`.
pub(crate) fn symlink_at(target: &OsStr, dir: impl AsFd, name: &OsStr) -> Result<()> {
    nix::unistd::symlinkat(target, dir, name).map_err(|errno| Error::on("symlinkat", name, errno))
}

/// `linkat(2)` without following a link at the old name.
pub(crate) fn hard_link_at(
    old_dir: impl AsFd,
    old: &OsStr,
    new_dir: impl AsFd,
    new: &OsStr,
) -> Result<()> {
    nix::unistd::linkat(old_dir, old, new_dir, new, AtFlags::empty())
        .map_err(|errno| Error::on("linkat", new, errno))
}

/// Gives the open file `file`, which has no name (`O_TMPFILE`), one: `linkat(2)` by way of /proc, as open(2) says.
pub(crate) fn link_open(file: impl AsFd, path: &Path) -> Result<()> {
    let own = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    nix::unistd::linkat(
        AT_FDCWD,
        own.as_str(),
        AT_FDCWD,
        path,
        AtFlags::AT_SYMLINK_FOLLOW,
    )
    .map_err(|errno| Error::on("linkat", path, errno))
}

/// `renameat(2)`: takes the place of what has the new name, if the kernel lets it.
pub(crate) fn rename_at(
    old_dir: impl AsFd,
    old: &OsStr,
    new_dir: impl AsFd,
    new: &OsStr,
) -> Result<()> {
    nix::fcntl::renameat(old_dir, old, new_dir, new)
        .map_err(|errno| Error::on("renameat", new, errno))
}

/// `mknodat(2)`. In a user namespace only FIFOs, sockets, regular files and the character device 0:0
/// (overlayfs' whiteout) can be made; everything else answers EPERM.
pub(crate) fn make_node_at(
    dir: impl AsFd,
    name: &OsStr,
    kind: SFlag,
    mode: u32,
    device: u64,
) -> Result<()> {
    nix::sys::stat::mknodat(dir, name, kind, Mode::from_bits_truncate(mode), device)
        .map_err(|errno| Error::on("mknodat", name, errno))
}

/// `unlinkat(2)` of a non-directory.
pub(crate) fn unlink_at(dir: impl AsFd, name: &OsStr) -> Result<()> {
    nix::unistd::unlinkat(dir, name, UnlinkatFlags::NoRemoveDir)
        .map_err(|errno| Error::on("unlinkat", name, errno))
}

/// `unlinkat(2)` of an empty directory.
pub(crate) fn remove_directory_at(dir: impl AsFd, name: &OsStr) -> Result<()> {
    nix::unistd::unlinkat(dir, name, UnlinkatFlags::RemoveDir)
        .map_err(|errno| Error::on("unlinkat", name, errno))
}

/// `fchownat(2)` of the name itself, link or not.
pub(crate) fn chown_at(dir: impl AsFd, name: &OsStr, uid: u32, gid: u32) -> Result<()> {
    nix::unistd::fchownat(
        dir,
        name,
        Some(Uid::from_raw(uid)),
        Some(Gid::from_raw(gid)),
        AtFlags::AT_SYMLINK_NOFOLLOW,
    )
    .map_err(|errno| Error::on("fchownat", name, errno))
}

/// `fchown(2)`.
pub(crate) fn chown(fd: impl AsFd, uid: u32, gid: u32) -> Result<()> {
    nix::unistd::fchown(fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
        .map_err(|errno| Error::new("fchown", format!("{uid}:{gid}"), errno))
}

/// `fchmod(2)`; all twelve bits.
pub(crate) fn chmod(fd: impl AsFd, mode: u32) -> Result<()> {
    nix::sys::stat::fchmod(fd, Mode::from_bits_truncate(mode))
        .map_err(|errno| Error::new("fchmod", format!("{mode:o}"), errno))
}

/// `fchmodat(2)` of a name that is known not to be a link.
pub(crate) fn chmod_at(dir: impl AsFd, name: &OsStr, mode: u32) -> Result<()> {
    nix::sys::stat::fchmodat(
        dir,
        name,
        Mode::from_bits_truncate(mode),
        nix::sys::stat::FchmodatFlags::FollowSymlink,
    )
    .map_err(|errno| Error::on("fchmodat", name, errno))
}

/// Sets the modification time (and the access time to the same) of the name itself.
pub(crate) fn set_mtime_at(
    dir: impl AsFd,
    name: &OsStr,
    seconds: i64,
    nanoseconds: i64,
) -> Result<()> {
    let time = TimeSpec::new(seconds, nanoseconds);
    nix::sys::stat::utimensat(
        dir,
        name,
        &time,
        &time,
        nix::sys::stat::UtimensatFlags::NoFollowSymlink,
    )
    .map_err(|errno| Error::on("utimensat", name, errno))
}

/// Sets the modification time (and the access time to the same) of an open file.
pub(crate) fn set_mtime(fd: impl AsFd, seconds: i64, nanoseconds: i64) -> Result<()> {
    let time = TimeSpec::new(seconds, nanoseconds);
    nix::sys::stat::futimens(fd, &time, &time).map_err(|errno| Error::new("futimens", "", errno))
}

/// Waits until everything written to the file system of `fd` is on disk (`syncfs(2)`).
pub(crate) fn sync_file_system(fd: impl AsFd) -> Result<()> {
    nix::unistd::syncfs(fd).map_err(|errno| Error::new("syncfs", "", errno))
}
