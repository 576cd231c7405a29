//! Calls that are made to learn whether the kernel allows them.
#![expect(unsafe_code, reason = "neither nix nor libc wraps these calls")]

use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};

use nix::errno::Errno;

use super::{Error, Result};

/// `BPF_RET | BPF_K`.
const RETURN: u16 = 0x06;

/// Installs a filter that allows everything, for as long as the process lives, and returns its listener
/// (seccomp_unotify(2)). EBUSY: a filter of this process has one already. Needs CAP_SYS_ADMIN in the user
/// namespace or no_new_privs.
pub(crate) fn new_listener() -> Result<OwnedFd> {
    let mut program = [libc::sock_filter {
        code: RETURN,
        jt: 0,
        jf: 0,
        k: libc::SECCOMP_RET_ALLOW,
    }];
    let filter = libc::sock_fprog {
        len: 1,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: `filter` points at `program`, whose length it holds; the kernel copies both before the
    // call returns.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &raw const filter,
        )
    };
    let fd = Errno::result(fd)
        .map_err(|errno| Error::new("seccomp", "SECCOMP_FILTER_FLAG_NEW_LISTENER", errno))?;
    let raw = RawFd::try_from(fd).expect("descriptors are ints");
    // SAFETY: the kernel just made this descriptor for us, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}
