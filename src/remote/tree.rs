//! What a checkout leaves becomes what a build may see.

use std::ffi::OsStr;
use std::os::fd::{AsFd as _, BorrowedFd};

use nix::errno::Errno;

use crate::sys;
use crate::sys::fs::Kind;

/// Deeper than the path of a file that git can write.
const DEEPEST: usize = 1000;

/// How [`settle`] treats a tree.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settling {
    /// `.git` stays as it is, at the top and in submodules.
    pub(super) keep_git_dir: bool,
    /// The time of every file, in seconds since 1970; `None` leaves them alone.
    pub(super) mtime: Option<i64>,
}

/// Gives everything in `directory` the permissions that git knows, 0755 and 0644, whatever the umask.
pub(super) fn settle(directory: BorrowedFd<'_>, how: Settling, depth: usize) -> sys::Result<()> {
    if depth > DEEPEST {
        return Err(sys::Error::new("walk", "", Errno::ELOOP));
    }
    for name in sys::fs::read_names(directory)? {
        // git has no file of this name in a commit, so it is its own.
        if name == OsStr::new(".git") {
            if !how.keep_git_dir {
                sys::remove::remove_tree_at(directory, &name)?;
            }
            continue;
        }
        let stat = sys::fs::stat_at(directory, &name)?;
        match Kind::of(&stat) {
            Kind::Directory => {
                let inner = sys::fs::open_directory_at(directory, &name)?;
                settle(inner.as_fd(), how, depth + 1)?;
            }
            Kind::Regular => {
                let mode = if stat.st_mode & 0o111 == 0 {
                    0o644
                } else {
                    0o755
                };
                sys::fs::chmod_at(directory, &name, mode)?;
            }
            _ => {}
        }
        if let Some(seconds) = how.mtime {
            sys::fs::set_mtime_at(directory, &name, seconds, 0)?;
        }
    }
    sys::fs::chmod(directory, 0o755)?;
    match how.mtime {
        Some(seconds) => sys::fs::set_mtime(directory, seconds, 0),
        None => Ok(()),
    }
}
