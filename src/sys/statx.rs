//! `statx(2)`, for what stat(2) does not tell.
#![expect(unsafe_code, reason = "nix does not wrap the call")]

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd as _};

use nix::errno::Errno;

/// When the open file was made, seconds and nanoseconds; `None` where the file system does not know.
pub(crate) fn birth_time(fd: impl AsFd) -> Option<(i64, i64)> {
    let mut found = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the empty path is NUL-terminated, and `found` is writable for a whole statx; both
    // outlive the call.
    let status = unsafe {
        libc::statx(
            fd.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            libc::STATX_BTIME,
            found.as_mut_ptr(),
        )
    };
    Errno::result(status).ok()?;
    // SAFETY: zeroed memory is a valid statx, and the kernel wrote more of it.
    let found = unsafe { found.assume_init() };
    let known = found.stx_mask & libc::STATX_BTIME != 0;
    known.then_some((found.stx_btime.tv_sec, i64::from(found.stx_btime.tv_nsec)))
}
