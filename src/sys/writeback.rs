//! `sync_file_range(2)`: writing back before anybody waits for it.
#![expect(unsafe_code, reason = "nix does not wrap the call")]

use std::os::fd::{AsFd, AsRawFd as _};

use nix::errno::Errno;

use super::{Error, Result};

/// Has the kernel begin to write what is dirty of `length` bytes from `offset` on. It promises nothing:
/// neither that the bytes arrive, nor that the file can be found after a crash.
pub(crate) fn start(file: impl AsFd, offset: u64, length: u64) -> Result<()> {
    let failed = |errno| Error::new("sync_file_range", format!("{offset}+{length}"), errno);
    let number = |number| libc::off64_t::try_from(number).map_err(|_| failed(Errno::EINVAL));
    let fd = file.as_fd().as_raw_fd();
    let (from, count) = (number(offset)?, number(length)?);
    // SAFETY: the call takes numbers only, and the descriptor is open as long as it lasts.
    let status = unsafe { libc::sync_file_range(fd, from, count, libc::SYNC_FILE_RANGE_WRITE) };
    Errno::result(status).map(drop).map_err(failed)
}
