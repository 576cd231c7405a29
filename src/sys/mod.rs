//! The kernel: thin, typed wrappers around the system calls that rbuild makes.
//!
//! This is the only room with `unsafe`, and it decides nothing: a wrapper is one call, takes
//! descriptors and paths, and returns either what the kernel said or an [`Error`] that prints like a
//! line of strace. Everything above it works relative to directory descriptors.

pub(crate) mod clock;
#[cfg(test)]
pub(crate) mod exchange;
pub(crate) mod fs;
pub(crate) mod mount;
pub(crate) mod netlink;
pub(crate) mod notify;
pub(crate) mod process;
pub(crate) mod remove;
pub(crate) mod socket;
pub(crate) mod statx;
pub(crate) mod terminal;
pub(crate) mod writeback;
pub(crate) mod xattr;

use std::fmt;
use std::path::Path;

use nix::errno::Errno;

/// A system call that failed: which one, on what, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Error {
    pub(crate) call: &'static str,
    pub(crate) object: String,
    pub(crate) errno: Errno,
}

pub(crate) type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn new(call: &'static str, object: impl Into<String>, errno: Errno) -> Self {
        Self {
            call,
            object: object.into(),
            errno,
        }
    }

    /// The error of `call` on `path`; names that are not UTF-8 are shown lossily.
    pub(crate) fn on(call: &'static str, path: impl AsRef<Path>, errno: Errno) -> Self {
        Self::new(call, path.as_ref().display().to_string(), errno)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({}): {}", self.call, self.object, self.errno.desc())
    }
}

impl std::error::Error for Error {}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        let kind = Self::from_raw_os_error(error.errno as i32).kind();
        Self::new(kind, error)
    }
}
