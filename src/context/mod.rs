//! Build contexts: the trees that COPY, ADD and bind mounts read, and what is hidden from them.

pub(crate) mod digest;
pub(crate) mod glob;
pub(crate) mod ignore;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::context::ignore::Ignore;
use crate::sys;

/// A source tree, opened once: every later look goes through the descriptor.
#[derive(Debug)]
pub(crate) struct Context {
    root: OwnedFd,
    ignore: Ignore,
    /// Holds the files of a context that has no directory of its own; removed with the context.
    scratch: Option<tempfile::TempDir>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot open the build context {}", path.display())]
    Open {
        path: PathBuf,
        #[source]
        source: sys::Error,
    },
    #[error("cannot make a scratch directory in {}", path.display())]
    Scratch {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot unpack the build context")]
    Unpack {
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("cannot read {}", path.display())]
    ReadIgnore {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is not a regular UTF-8 file below {limit} bytes", path.display())]
    NotText { path: PathBuf, limit: u64 },
    #[error("{}, line {}", path.display(), source.line)]
    Ignore {
        path: PathBuf,
        #[source]
        source: ignore::Error,
    },
}

impl Context {
    /// The directory `path` of the host, without what `ignore` hides.
    pub(crate) fn directory(path: &Path, ignore: Ignore) -> Result<Self, Error> {
        todo!()
    }

    /// A context without files, in a new directory below `scratch`.
    pub(crate) fn empty(scratch: &Path) -> Result<Self, Error> {
        todo!()
    }

    /// The files of an uncompressed tar, which `unpack` writes into a new directory below `scratch`;
    /// no ignore file applies to it, as with BuildKit.
    pub(crate) fn from_tar<R, E>(
        tar: R,
        scratch: &Path,
        unpack: impl FnOnce(R, BorrowedFd<'_>) -> Result<(), E>,
    ) -> Result<Self, Error>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        todo!()
    }

    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    pub(crate) fn ignore(&self) -> &Ignore {
        &self.ignore
    }
}

/// The ignore rules for a build of `dockerfile` in `context`, and the file they came from:
/// `<dockerfile>.dockerignore` when there is one, else `.dockerignore` in the context. `dockerfile` is
/// `None` when it has no place (stdin).
pub(crate) fn read_ignore_file(
    context: &Path,
    dockerfile: Option<&Path>,
) -> Result<(Ignore, Option<PathBuf>), Error> {
    todo!()
}
