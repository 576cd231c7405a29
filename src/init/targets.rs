//! Places to mount on: found in the image, or made and remembered.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc::dev_t;
use nix::sys::stat::FileStat;

use crate::ownership::record::ATTRIBUTE;
use crate::sandbox::spec::{Created, Touched};
use crate::sys::{self, fs, xattr};

/// As many links as the kernel follows in one path (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// What a missing target becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Directory,
    File,
}

/// The mount targets of one sandbox. Nothing else runs in it yet, but a cache that is mounted already may
/// be another step's too, which changes it at any time.
pub(super) struct Targets {
    root: OwnedFd,
    record: Record,
}

/// What was made in the upper so far.
struct Record {
    upper: OwnedFd,
    /// Device of the overlay's directories; on any other, nothing we make reaches the upper.
    device: dev_t,
    created: Vec<Created>,
    touched: Vec<Touched>,
}

impl Targets {
    pub(super) fn new(root: &OwnedFd, upper: OwnedFd) -> sys::Result<Self> {
        let root = fs::open_directory_at(root, OsStr::new("."))?;
        let record = Record {
            upper,
            device: fs::stat(&root)?.st_dev,
            created: Vec::new(),
            touched: Vec::new(),
        };
        Ok(Self { root, record })
    }

    /// Opens `target` as a process in the image would see it, making what is missing. EPERM where links
    /// lead to the root, or into /proc: programs, and rbuild, must find the kernel's own files there.
    pub(super) fn open(&mut self, target: &Path, shape: Shape) -> sys::Result<OwnedFd> {
        let found = match fs::open_in_root(&self.root, target, OFlag::O_PATH, 0) {
            Err(error) if error.errno == Errno::ENOENT => self.make(target, shape)?,
            other => other?,
        };
        let (root, stat) = (fs::stat(&self.root)?, fs::stat(&found)?);
        if (stat.st_dev, stat.st_ino) == (root.st_dev, root.st_ino) {
            return Err(sys::Error::on("mount onto the root", target, Errno::EPERM));
        }
        if fs::is_of_proc(&found)? {
            return Err(sys::Error::on("mount into /proc", target, Errno::EPERM));
        }
        Ok(found)
    }

    /// Opens the directory `name` in the root of the image, made if missing. A link or file of that name
    /// is refused: it would lead the mount, and what programs believe to find there, elsewhere.
    pub(super) fn open_top(&mut self, name: &str) -> sys::Result<OwnedFd> {
        match fs::open_directory_at(&self.root, OsStr::new(name)) {
            Err(error) if matches!(error.errno, Errno::ELOOP | Errno::ENOTDIR) => {
                let path = Path::new("/").join(name);
                Err(sys::Error::on("mount", path, Errno::ENOTDIR))
            }
            Err(error) if error.errno == Errno::ENOENT => {
                self.make(Path::new(name), Shape::Directory)
            }
            other => other,
        }
    }

    /// Walks to `target` one name at a time, below links too, and makes every name that is missing.
    fn make(&mut self, target: &Path, shape: Shape) -> sys::Result<OwnedFd> {
        let mut pending = steps(target);
        let mut walked: Vec<(OsString, OwnedFd)> = Vec::new();
        let mut links = 0;
        while let Some(step) = pending.pop_front() {
            let name = match step {
                Walk::Up => {
                    walked.pop();
                    continue;
                }
                Walk::Top => {
                    walked.clear();
                    continue;
                }
                Walk::Into(name) => name,
            };
            let parent = walked.last().map_or(&self.root, |(_, fd)| fd);
            match fs::open_at(parent, &name, OFlag::O_PATH, 0) {
                Ok(fd) if fs::Kind::of(&fs::stat(&fd)?) == fs::Kind::Symlink => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(sys::Error::on("openat", target, Errno::ELOOP));
                    }
                    let text = fs::read_link_at(parent, &name)?;
                    let mut rest = steps(Path::new(&text));
                    rest.append(&mut pending);
                    pending = rest;
                }
                Ok(fd) => walked.push((name, fd)),
                Err(error) if error.errno == Errno::ENOENT => {
                    let shape = if pending.is_empty() {
                        shape
                    } else {
                        Shape::Directory
                    };
                    let fd = self.record.make(&self.root, &walked, &name, shape)?;
                    walked.push((name, fd));
                }
                Err(error) => return Err(error),
            }
        }
        match walked.pop() {
            Some((_, fd)) => Ok(fd),
            None => self
                .root
                .try_clone()
                .map_err(|_| sys::Error::on("dup", target, Errno::EMFILE)),
        }
    }

    /// What was made, and the directories that it changed, as they are in the upper now.
    pub(super) fn finish(self) -> sys::Result<(Vec<Created>, Vec<Touched>)> {
        let mut record = self.record;
        for directory in &mut record.touched {
            let path = Path::new(&directory.path);
            let stat = stat_below(&record.upper, path)?
                .ok_or_else(|| sys::Error::on("fstatat", path, Errno::ENOENT))?;
            directory.mode = fs::permissions(&stat);
            directory.uid = stat.st_uid;
            directory.gid = stat.st_gid;
            let at = if directory.path.is_empty() {
                OsStr::new(".")
            } else {
                path.as_os_str()
            };
            directory.record = xattr::get_at(&record.upper, at, OsStr::new(ATTRIBUTE))?;
            directory.after = (stat.st_mtime, stat.st_mtime_nsec);
        }
        Ok((record.created, record.touched))
    }
}

impl Record {
    /// Makes `name` in the directory that was reached from `root` over the names and descriptors of
    /// `walked`.
    fn make(
        &mut self,
        root: &OwnedFd,
        walked: &[(OsString, OwnedFd)],
        name: &OsStr,
        shape: Shape,
    ) -> sys::Result<OwnedFd> {
        let parent = walked.last().map_or(root, |(_, fd)| fd);
        let in_upper = fs::stat(parent)?.st_dev == self.device;
        let mut path = PathBuf::new();
        if in_upper {
            self.remember(root, &path, walked.is_empty())?;
            for (index, (name, fd)) in walked.iter().enumerate() {
                path.push(name);
                self.remember(fd, &path, index + 1 == walked.len())?;
            }
        }
        let fd = match shape {
            Shape::Directory => {
                fs::make_directory_at(parent, name, 0o755)?;
                fs::open_at(parent, name, OFlag::O_PATH | OFlag::O_DIRECTORY, 0)?
            }
            Shape::File => {
                let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
                fs::open_at(parent, name, flags, 0o644)?
            }
        };
        if in_upper {
            path.push(name);
            let stat = stat_below(&self.upper, &path)?
                .ok_or_else(|| sys::Error::on("fstatat", &path, Errno::ENOENT))?;
            self.created.push(Created {
                path: path.into_os_string(),
                directory: shape == Shape::Directory,
                inode: stat.st_ino,
            });
        }
        Ok(fd)
    }

    /// Remembers a directory whose entries are about to change (`changes`), or which is about to be
    /// copied up because one below it changes.
    fn remember(&mut self, directory: &OwnedFd, path: &Path, changes: bool) -> sys::Result<()> {
        let copied_up = stat_below(&self.upper, path)?.is_none();
        let known = self
            .touched
            .iter()
            .any(|touched| Path::new(&touched.path) == path);
        if known || !(changes || copied_up) {
            return Ok(());
        }
        let stat = fs::stat(directory)?;
        let before = (stat.st_mtime, stat.st_mtime_nsec);
        self.touched.push(Touched {
            path: path.as_os_str().to_owned(),
            copied_up,
            mode: 0,
            uid: 0,
            gid: 0,
            record: None,
            before,
            after: before,
        });
        Ok(())
    }
}

/// The entry of the upper at `path`, a path without links; `None` where the upper has nothing.
fn stat_below(upper: &OwnedFd, path: &Path) -> sys::Result<Option<FileStat>> {
    if path.as_os_str().is_empty() {
        return fs::stat(upper).map(Some);
    }
    fs::try_stat_at(upper, path.as_os_str())
}

/// One move on the way to a target.
enum Walk {
    Top,
    Up,
    Into(OsString),
}

fn steps(path: &Path) -> VecDeque<Walk> {
    path.components()
        .filter_map(|component| match component {
            Component::RootDir => Some(Walk::Top),
            Component::ParentDir => Some(Walk::Up),
            Component::Normal(name) => Some(Walk::Into(name.to_owned())),
            Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}

#[cfg(test)]
mod tests;
