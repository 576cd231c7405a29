//! `statx(2)`, for what stat(2) does not tell.
#![expect(unsafe_code, reason = "nix does not wrap the call")]

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, AsRawFd as _};
use std::os::unix::ffi::OsStrExt as _;

use nix::errno::Errno;

use super::{Error, Result};

/// What tells a file from every other of its file system, also from one that had its inode before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Birth {
    pub(crate) inode: u64,
    /// Seconds since 1970 and nanoseconds; zero where the file system does not know.
    pub(crate) time: (i64, u32),
}

impl Birth {
    /// What [`Birth::MASK`] of [`statx`] is asked for.
    pub(crate) const MASK: u32 = libc::STATX_INO | libc::STATX_BTIME;

    pub(crate) fn of(found: &libc::statx) -> Self {
        let time = if found.stx_mask & libc::STATX_BTIME == 0 {
            (0, 0)
        } else {
            (found.stx_btime.tv_sec, found.stx_btime.tv_nsec)
        };
        Self {
            inode: found.stx_ino,
            time,
        }
    }
}

/// `statx(2)` of `path` from `dir`, with the bare errno: for the hot path.
pub(crate) fn statx(
    dir: impl AsFd,
    path: &CStr,
    flags: i32,
    mask: u32,
) -> nix::Result<libc::statx> {
    // SAFETY: the structure holds integers only, for which zero is a value.
    let mut found: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: `path` is NUL-terminated, `found` is writable; both outlive the call.
    let status = unsafe {
        libc::statx(
            dir.as_fd().as_raw_fd(),
            path.as_ptr(),
            flags,
            mask,
            &raw mut found,
        )
    };
    Errno::result(status)?;
    Ok(found)
}

/// Of `name` in `dir`, without following a link; an empty name is `dir` itself.
pub(crate) fn birth_at(dir: impl AsFd, name: &OsStr) -> Result<Birth> {
    let failed = |errno| Error::on("statx", name, errno);
    let path = CString::new(name.as_bytes()).map_err(|_| failed(Errno::EINVAL))?;
    let flags = libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH;
    let found = statx(dir, &path, flags, Birth::MASK).map_err(failed)?;
    Ok(Birth::of(&found))
}

/// When the open file was made, seconds and nanoseconds; `None` where the file system does not know.
pub(crate) fn birth_time(fd: impl AsFd) -> Option<(i64, u32)> {
    let found = statx(fd, c"", libc::AT_EMPTY_PATH, libc::STATX_BTIME).ok()?;
    let known = found.stx_mask & libc::STATX_BTIME != 0;
    known.then(|| Birth::of(&found).time)
}
