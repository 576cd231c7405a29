//! Terminals: their size, their modes, and both sides of a new one (ioctl_tty(2), pty(7)).
#![expect(unsafe_code, reason = "nix does not wrap these requests")]

use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

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

/// Sets columns and rows; the foreground processes of the terminal get SIGWINCH.
pub(crate) fn set_size(fd: impl AsFd, columns: u16, rows: u16) -> Result<()> {
    let size = libc::winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the kernel reads one winsize, which outlives the call.
    let result = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    done(result, "TIOCSWINSZ")
}

/// Lets the other side of the new terminal `master` be opened.
pub(crate) fn unlock(master: impl AsFd) -> Result<()> {
    let locked: libc::c_int = 0;
    // SAFETY: the kernel reads one int, which outlives the call.
    let result = unsafe {
        libc::ioctl(
            master.as_fd().as_raw_fd(),
            libc::TIOCSPTLCK,
            &raw const locked,
        )
    };
    done(result, "TIOCSPTLCK")
}

/// The other side of `master`, found without a path.
pub(crate) fn peer(master: impl AsFd) -> Result<OwnedFd> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: integers only.
    let fd = unsafe { libc::ioctl(master.as_fd().as_raw_fd(), libc::TIOCGPTPEER, flags) };
    let fd = Errno::result(fd).map_err(|errno| Error::new("ioctl", "TIOCGPTPEER", errno))?;
    // SAFETY: the kernel just made this descriptor for us, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Makes `fd` the controlling terminal of this process, which leads a session that has none.
pub(crate) fn make_controlling(fd: impl AsFd) -> Result<()> {
    // SAFETY: integers only.
    let result = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::TIOCSCTTY, 0) };
    done(result, "TIOCSCTTY")
}

fn done(result: libc::c_int, request: &'static str) -> Result<()> {
    Errno::result(result)
        .map(drop)
        .map_err(|errno| Error::new("ioctl", request, errno))
}

/// Makes the terminal pass on every byte as it is (cfmakeraw(3)); the modes that it had.
pub(crate) fn make_raw(fd: impl AsFd) -> Result<Termios> {
    let failed = |call| move |errno| Error::new(call, "", errno);
    let before = tcgetattr(&fd).map_err(failed("tcgetattr"))?;
    let mut raw = before.clone();
    cfmakeraw(&mut raw);
    tcsetattr(&fd, SetArg::TCSADRAIN, &raw).map_err(failed("tcsetattr"))?;
    Ok(before)
}

/// Gives the terminal `modes`.
pub(crate) fn restore(fd: impl AsFd, modes: &Termios) -> Result<()> {
    tcsetattr(fd, SetArg::TCSADRAIN, modes).map_err(|errno| Error::new("tcsetattr", "", errno))
}
