//! The two ends of one entry's copy, and the calls that open or make them.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::FileStat;

use super::Origin;
use super::digest::unreadable;
use super::entries::Entry;
use super::error::Error;
use super::select::shown;
use super::walk::Node;
use crate::ownership::Ownership;
use crate::sys;
use crate::sys::fs::Kind;

/// A directory of the image.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) directory: Arc<OwnedFd>,
    /// From the root of the image, for messages.
    pub(super) path: PathBuf,
}

/// Where an entry comes from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) origin: Origin,
    pub(super) directory: BorrowedFd<'a>,
    pub(super) name: &'a OsStr,
    pub(super) node: &'a Node,
    /// The text of a link.
    pub(super) link: Option<&'a OsStr>,
}

/// Where an entry goes.
pub(super) struct Sink<'a> {
    pub(super) directory: BorrowedFd<'a>,
    pub(super) name: &'a OsStr,
    pub(super) top: &'a Target,
    /// The directory that it is in, if that is not the top.
    pub(super) between: Option<&'a Level<'a>>,
}

/// A directory below the top that is being filled.
pub(super) struct Level<'e> {
    pub(super) source: OwnedFd,
    pub(super) sink: OwnedFd,
    pub(super) entry: Entry<'e>,
    pub(super) is_new: bool,
    pub(super) above: Option<Arc<Self>>,
    /// Batches of its files that other threads have not written yet.
    pub(super) batches: AtomicUsize,
}

impl Level<'_> {
    /// From the top.
    fn path(&self) -> PathBuf {
        let above = self.above.as_ref().map(|above| above.path());
        above.unwrap_or_default().join(self.entry.name)
    }
}

impl Sink<'_> {
    pub(super) fn below_top(&self) -> PathBuf {
        let between = self.between.map(Level::path);
        between.unwrap_or_default().join(self.name)
    }

    pub(super) fn path(&self) -> PathBuf {
        self.top.path.join(self.below_top())
    }

    pub(super) fn failed(&self) -> impl FnOnce(sys::Error) -> Error + use<'_> {
        |source| Error::Write {
            path: self.path(),
            source,
        }
    }
}

/// Bits are set explicitly where the umask or a change of the owner took some away.
pub(super) fn chmod_open(
    sink: &Sink<'_>,
    fd: BorrowedFd<'_>,
    stat: &FileStat,
    (ownership, mode): (&Ownership, u32),
) -> Result<(), Error> {
    // chown(2) clears set-id bits, so with them the mode before says nothing.
    if mode & 0o6000 == 0 && sys::fs::permissions(stat) == mode {
        return Ok(());
    }
    ownership.set_mode(fd, mode).map_err(sink.failed())
}

pub(super) fn check_unchanged(
    file: &File,
    source: &Source<'_>,
    sink: &Sink<'_>,
) -> Result<(), Error> {
    let path = || shown(&sink.below_top());
    let stat = sys::fs::stat(file).map_err(|source| Error::Source {
        path: path(),
        source,
    })?;
    if source.node.stamp.is_of(&stat) {
        Ok(())
    } else {
        Err(Error::ChangedDuringBuild { path: path() })
    }
}

/// Opens a directory of the source, which must be the one that was selected.
pub(super) fn open_source(source: &Source<'_>, sink: &Sink<'_>) -> Result<OwnedFd, Error> {
    let path = sink.below_top();
    let opened = sys::fs::open_directory_at(source.directory, source.name)
        .map_err(|error| unreadable(&path, error))?;
    let stat = sys::fs::stat(&opened).map_err(|error| unreadable(&path, error))?;
    let stamp = &source.node.stamp;
    if (stat.st_dev, stat.st_ino) == (stamp.device, stamp.inode) {
        Ok(opened)
    } else {
        Err(Error::ChangedDuringBuild { path: shown(&path) })
    }
}

/// Opens the directory, which is made when there is none, and tells whether it was. A link to a
/// directory is none.
pub(super) fn make_directory(sink: &Sink<'_>) -> Result<(OwnedFd, bool), Error> {
    let is_new = match sys::fs::make_directory_at(sink.directory, sink.name, 0o700) {
        Ok(()) => true,
        Err(error) if error.errno == Errno::EEXIST => {
            let stat = sys::fs::stat_at(sink.directory, sink.name).map_err(sink.failed())?;
            if Kind::of(&stat) != Kind::Directory {
                return Err(Error::NotDirectory { path: sink.path() });
            }
            false
        }
        Err(error) => return Err(sink.failed()(error)),
    };
    let opened = sys::fs::open_directory_at(sink.directory, sink.name).map_err(sink.failed())?;
    Ok((opened, is_new))
}

/// Creates a new file in place of whatever non-directory has its name; nothing is written through a
/// link, and other names of an old file keep its content. Whoever makes it can write to it, whatever
/// `mode` says of that. The answer also tells whether something was replaced.
pub(super) fn create(sink: &Sink<'_>, mode: u32) -> Result<(File, bool), Error> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
    let (fd, has_replaced) = replacing(sink, || {
        sys::fs::open_at(sink.directory, sink.name, flags, (mode | 0o600) & 0o777)
    })?;
    Ok((File::from(fd), has_replaced))
}

/// Runs `make`, which fails when the name is taken, and once more after the name was freed.
/// The answer also tells whether it was.
pub(super) fn replacing<T>(
    sink: &Sink<'_>,
    make: impl Fn() -> sys::Result<T>,
) -> Result<(T, bool), Error> {
    match make() {
        Err(error) if error.errno == Errno::EEXIST => {}
        other => return Ok((other.map_err(sink.failed())?, false)),
    }
    match sys::fs::unlink_at(sink.directory, sink.name) {
        Ok(()) => Ok((make().map_err(sink.failed())?, true)),
        // unlink(2) of a directory is EISDIR on Linux, EPERM by POSIX.
        Err(error) if matches!(error.errno, Errno::EISDIR | Errno::EPERM) => {
            let stat = sys::fs::stat_at(sink.directory, sink.name).map_err(sink.failed())?;
            if Kind::of(&stat) == Kind::Directory {
                Err(Error::ReplaceDirectory { path: sink.path() })
            } else {
                Err(sink.failed()(error))
            }
        }
        Err(error) => Err(sink.failed()(error)),
    }
}

/// Copies as many bytes as `buffer` holds, or fewer where the file has shrunk.
pub(super) fn copy_small(from: &mut File, to: &mut File, buffer: &mut [u8]) -> io::Result<u64> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    to.write_all(&buffer[..filled])?;
    Ok(filled as u64)
}
