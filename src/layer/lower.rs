//! A snapshot below another one: a stack has hundreds of them, of which a layer needs few.

use std::cell::OnceCell;
use std::ffi::OsStr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use nix::sys::stat::FileStat;

use super::attributes;
use super::outline::{Outline, Shape};
use crate::sys;
use crate::sys::fs::Kind;

/// The directory of a snapshot that nothing changes any more, opened when that is worth it.
#[derive(Debug)]
pub(crate) struct Lower {
    path: PathBuf,
    opened: OnceCell<OwnedFd>,
    outline: Option<Arc<Outline>>,
}

/// `PATH_MAX` of linux/limits.h, which counts the zero byte at the end.
const PATH_MAX: usize = 4096;

impl Lower {
    /// The directory at `path`, which is absolute. It is not looked at.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            opened: OnceCell::new(),
            outline: None,
        }
    }

    /// [`Lower::new`] for a directory of which `outline` is, and will be asked again.
    pub(crate) fn with_outline(path: PathBuf, outline: Arc<Outline>) -> Self {
        Self {
            outline: Some(outline),
            ..Self::new(path)
        }
    }

    /// The directory, which stays open for as long as this value lives.
    pub(super) fn open(&self) -> sys::Result<BorrowedFd<'_>> {
        if let Some(opened) = self.opened.get() {
            return Ok(opened.as_fd());
        }
        let opened = sys::fs::open_directory(&self.path)?;
        Ok(self.opened.get_or_init(|| opened).as_fd())
    }

    /// What `path` in it is, whose parents are directories; `None` where nothing has that name.
    pub(super) fn stat(&self, path: &OsStr) -> sys::Result<Option<FileStat>> {
        match self.host_path(path) {
            Some(path) => sys::fs::try_stat_at(sys::mount::working_directory(), path.as_os_str()),
            None => sys::fs::try_stat_at(self.open()?, path),
        }
    }

    /// Whether `path` in it, whose parents are directories, is one; `None` where nothing has that name.
    pub(super) fn is_directory(&self, path: &OsStr) -> sys::Result<Option<bool>> {
        if let Some(known) = self.known(path) {
            return Ok(known.map(|shape| shape != Shape::Other));
        }
        let stat = self.stat(path)?;
        Ok(stat.map(|stat| Kind::of(&stat) == Kind::Directory))
    }

    /// Whether its directory `path` hides those below it.
    pub(super) fn is_opaque(&self, path: &OsStr) -> sys::Result<bool> {
        if let Some(Some(Shape::Directory { is_opaque })) = self.known(path) {
            return Ok(is_opaque);
        }
        match self.host_path(path) {
            Some(path) => attributes::is_opaque(sys::mount::working_directory(), path.as_os_str()),
            None => attributes::is_opaque(self.open()?, path),
        }
    }

    fn known(&self, path: &OsStr) -> Option<Option<Shape>> {
        self.outline.as_ref()?.at(&self.path, path)
    }

    /// `path` as the host has it: where nothing is open one such call is cheaper than three. `None` where
    /// something is, or where the kernel takes no path as long.
    fn host_path(&self, path: &OsStr) -> Option<PathBuf> {
        let is_short = self.path.as_os_str().len() + 1 + path.len() < PATH_MAX;
        (is_short && self.opened.get().is_none()).then(|| self.path.join(path))
    }
}
