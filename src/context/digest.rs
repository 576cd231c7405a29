//! What files hold, remembered by their stat so that an unchanged file is not read again.

use std::ffi::OsStr;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use nix::sys::stat::FileStat;

/// SHA-256 of a file's bytes.
pub(crate) type ContentHash = [u8; 32];

/// Content hashes by stat, kept in one file per context root. Usable from several threads.
#[derive(Debug)]
pub(crate) struct Memo {
    path: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {}

impl Memo {
    /// The memo in the file `path`; a missing or damaged file is an empty memo.
    pub(crate) fn open(path: &Path) -> Self {
        todo!()
    }
    /// A memo that is never written.
    pub(crate) fn ephemeral() -> Self {
        todo!()
    }
    /// Writes what was learned, replacing the file by rename; nothing new writes nothing.
    pub(crate) fn save(&self) -> Result<(), Error> {
        todo!()
    }
    /// How many files were opened and read so far.
    pub(crate) fn files_read(&self) -> u64 {
        todo!()
    }
}
