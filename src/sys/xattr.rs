//! Extended attributes of a name in a directory, never through a link (xattr(7)). An empty name is the
//! directory, or whatever else the descriptor is. In `AT_FDCWD` a name may be any path.
#![expect(unsafe_code, reason = "libc has the calls, nix does not wrap them")]

use std::ffi::{CStr, CString, OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use nix::errno::Errno;

use super::{Error, Result};

/// `/proc/self/fd/N/name`: the l-variants take paths only, and this one starts at the descriptor.
fn path_of(dir: &impl AsFd, name: &OsStr) -> CString {
    let mut path = match dir.as_fd().as_raw_fd() {
        libc::AT_FDCWD => Vec::new(),
        open => format!("/proc/self/fd/{open}/").into_bytes(),
    };
    path.extend_from_slice(name.as_bytes());
    if name.is_empty() {
        path.pop();
    }
    CString::new(path).expect("names from the kernel and checked names hold no NUL")
}

fn c_name(name: &OsStr) -> CString {
    CString::new(name.as_bytes()).expect("attribute names hold no NUL")
}

/// Names of the attributes of `name`, sorted; empty where the file system has none.
pub(crate) fn list_at(dir: impl AsFd, name: &OsStr) -> Result<Vec<OsString>> {
    let path = path_of(&dir, name);
    let mut buffer = vec![0_u8; 256];
    loop {
        // SAFETY: `path` is NUL-terminated and `buffer` is writable for the length passed; both
        // outlive the call.
        let length =
            unsafe { libc::llistxattr(path.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) };
        match Errno::result(length) {
            Ok(length) => {
                buffer.truncate(usize::try_from(length).expect("not negative"));
                break;
            }
            // The attribute name list is limited to 64 KiB (XATTR_LIST_MAX).
            Err(Errno::ERANGE) => buffer.resize(65_536, 0),
            Err(Errno::ENOTSUP) => return Ok(Vec::new()),
            Err(errno) => return Err(Error::on("llistxattr", name, errno)),
        }
    }
    let mut names: Vec<OsString> = buffer
        .split(|byte| *byte == 0)
        .filter(|part| !part.is_empty())
        .map(|part| OsString::from_vec(part.to_vec()))
        .collect();
    names.sort_unstable();
    Ok(names)
}

/// The value of one attribute; `None` when the file has none of that name.
pub(crate) fn get_at(dir: impl AsFd, name: &OsStr, attribute: &OsStr) -> Result<Option<Vec<u8>>> {
    let path = path_of(&dir, name);
    let attribute_c = c_name(attribute);
    // The path of a descriptor is a link of the kernel's, to the file itself.
    let call = if name.is_empty() {
        libc::getxattr
    } else {
        libc::lgetxattr
    };
    let mut buffer = vec![0_u8; 256];
    loop {
        // SAFETY: both strings are NUL-terminated and `buffer` is writable for the length passed;
        // all three outlive the call.
        let length = unsafe {
            call(
                path.as_ptr(),
                attribute_c.as_ptr(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
            )
        };
        match Errno::result(length) {
            Ok(length) => {
                buffer.truncate(usize::try_from(length).expect("not negative"));
                return Ok(Some(buffer));
            }
            // A value is limited to 64 KiB (XATTR_SIZE_MAX).
            Err(Errno::ERANGE) => buffer.resize(65_536, 0),
            Err(Errno::ENODATA | Errno::ENOTSUP) => return Ok(None),
            Err(errno) => return Err(Error::on("lgetxattr", name, errno)),
        }
    }
}

/// Sets one attribute, replacing its value.
pub(crate) fn set_at(dir: impl AsFd, name: &OsStr, attribute: &OsStr, value: &[u8]) -> Result<()> {
    let path = path_of(&dir, name);
    let attribute_c = c_name(attribute);
    let call = if name.is_empty() {
        libc::setxattr
    } else {
        libc::lsetxattr
    };
    // SAFETY: both strings are NUL-terminated, `value` is readable for its length; all outlive the
    // call.
    let status = unsafe {
        call(
            path.as_ptr(),
            attribute_c.as_ptr(),
            value.as_ptr().cast(),
            value.len(),
            0,
        )
    };
    Errno::result(status).map_err(|errno| Error::on("lsetxattr", name, errno))?;
    Ok(())
}

/// [`get_into`] of an open file; EBADF of one of O_PATH.
pub(crate) fn get_of(fd: impl AsFd, attribute: &CStr, buffer: &mut [u8]) -> nix::Result<usize> {
    // SAFETY: `attribute` is NUL-terminated and `buffer` is writable for the length passed; both outlive
    // the call.
    let length = unsafe {
        libc::fgetxattr(
            fd.as_fd().as_raw_fd(),
            attribute.as_ptr(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
        )
    };
    let length = Errno::result(length)?;
    Ok(usize::try_from(length).expect("not negative"))
}

/// The value of an attribute of `path`, read into `buffer`; its length. For the hot path: no allocation,
/// and the bare errno.
pub(crate) fn get_into(
    path: &CStr,
    follow: bool,
    attribute: &CStr,
    buffer: &mut [u8],
) -> nix::Result<usize> {
    let call = if follow {
        libc::getxattr
    } else {
        libc::lgetxattr
    };
    // SAFETY: both strings are NUL-terminated and `buffer` is writable for the length passed; all three
    // outlive the call.
    let length = unsafe {
        call(
            path.as_ptr(),
            attribute.as_ptr(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
        )
    };
    Errno::result(length).map(|length| usize::try_from(length).expect("not negative"))
}

/// Sets an attribute of what `path` leads to.
pub(crate) fn set(path: &CStr, attribute: &CStr, value: &[u8]) -> nix::Result<()> {
    // SAFETY: both strings are NUL-terminated, `value` is readable for its length; all outlive the call.
    let status = unsafe {
        libc::setxattr(
            path.as_ptr(),
            attribute.as_ptr(),
            value.as_ptr().cast(),
            value.len(),
            0,
        )
    };
    Errno::result(status).map(drop)
}

/// Removes an attribute of what `path` leads to; that there is none is success.
pub(crate) fn remove(path: &CStr, attribute: &CStr) -> nix::Result<()> {
    // SAFETY: both strings are NUL-terminated and outlive the call.
    let status = unsafe { libc::removexattr(path.as_ptr(), attribute.as_ptr()) };
    match Errno::result(status) {
        Ok(_) | Err(Errno::ENODATA) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// The names of the attributes of `path`, each ended by a zero byte, as the kernel lists them.
pub(crate) fn list(path: &CStr, follow: bool) -> nix::Result<Vec<u8>> {
    let call = if follow {
        libc::listxattr
    } else {
        libc::llistxattr
    };
    // XATTR_LIST_MAX of linux/limits.h.
    let mut names = vec![0_u8; 65_536];
    // SAFETY: `path` is NUL-terminated and `names` is writable for the length passed; both outlive the
    // call.
    let length = unsafe { call(path.as_ptr(), names.as_mut_ptr().cast(), names.len()) };
    let length = Errno::result(length)?;
    names.truncate(usize::try_from(length).expect("not negative"));
    Ok(names)
}

/// Removes one attribute. One that is not there, or cannot be, is success.
pub(crate) fn remove_at(dir: impl AsFd, name: &OsStr, attribute: &OsStr) -> Result<()> {
    let path = path_of(&dir, name);
    let attribute_c = c_name(attribute);
    let call = if name.is_empty() {
        libc::removexattr
    } else {
        libc::lremovexattr
    };
    // SAFETY: both strings are NUL-terminated and outlive the call.
    let status = unsafe { call(path.as_ptr(), attribute_c.as_ptr()) };
    match Errno::result(status) {
        Ok(_) | Err(Errno::ENODATA | Errno::ENOTSUP) => Ok(()),
        Err(errno) => Err(Error::on("lremovexattr", name, errno)),
    }
}
