//! What a terminal says about itself.
#![expect(unsafe_code, reason = "nix wraps no TIOCGWINSZ")]

use std::os::fd::{AsFd, AsRawFd as _};

use nix::errno::Errno;

use super::{Error, Result};

/// Columns and rows of the terminal `fd` (ioctl_tty(2), TIOCGWINSZ); ENOTTY if it is none. Terminals
/// without a size, such as a serial line, say 0.
pub(crate) fn size(fd: impl AsFd) -> Result<(u16, u16)> {
    let mut size = libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the kernel writes one winsize to `size`, which outlives the call.
    let result = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    Errno::result(result)
        .map(|_| (size.ws_col, size.ws_row))
        .map_err(|errno| Error::new("ioctl", "TIOCGWINSZ", errno))
}
