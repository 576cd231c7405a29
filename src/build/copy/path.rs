//! Walking down a path by descriptors, links included, without leaving a root.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::sys::stat::FileStat;

use crate::sys;
use crate::sys::fs::Kind;

/// As many links as the kernel follows in one path (path_resolution(7)).
const LINKS: u32 = 40;

/// A path walk as of a process whose root is the tree's: absolute links and `..` stay inside. Unlike
/// one `openat2(2)`, it stops at each link and at what is missing, so that the caller can judge the one
/// and create the other.
#[derive(Debug)]
pub(super) struct Descent {
    /// The directories from the root (with an empty name) to where the walk is.
    directories: Vec<(OsString, OwnedFd)>,
    /// Components to go, the next one last.
    remaining: Vec<OsString>,
    links: u32,
}

/// What a walk came to.
#[derive(Debug)]
pub(super) enum Step {
    /// A directory, which the walk is in now.
    Directory,
    /// A link, which the walk goes on along; its own path.
    Link(PathBuf),
    /// Something that is no directory.
    Leaf(OsString, FileStat),
    /// Nothing.
    Missing(OsString),
    /// The end of the path.
    Arrived,
}

impl Descent {
    pub(super) fn new(root: BorrowedFd<'_>, path: &Path) -> sys::Result<Self> {
        let top = sys::fs::open_directory_at(root, OsStr::new("."))?;
        let mut descent = Self {
            directories: vec![(OsString::new(), top)],
            remaining: Vec::new(),
            links: 0,
        };
        descent.prepend(path);
        Ok(descent)
    }

    fn prepend(&mut self, path: &Path) {
        for component in path.components().rev() {
            match component {
                Component::Normal(name) => self.remaining.push(name.to_owned()),
                Component::ParentDir => self.remaining.push("..".into()),
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            }
        }
    }

    pub(super) fn step(&mut self) -> sys::Result<Step> {
        let Some(name) = self.remaining.pop() else {
            return Ok(Step::Arrived);
        };
        if name == ".." {
            if self.directories.len() > 1 {
                self.directories.pop();
            }
            return Ok(Step::Directory);
        }
        let Some(stat) = sys::fs::try_stat_at(self.directory(), &name)? else {
            return Ok(Step::Missing(name));
        };
        match Kind::of(&stat) {
            Kind::Directory => {
                self.enter(name)?;
                Ok(Step::Directory)
            }
            Kind::Symlink => {
                let link = self.path().join(&name);
                self.links += 1;
                if self.links > LINKS {
                    return Err(sys::Error::on("readlinkat", link, Errno::ELOOP));
                }
                let target = sys::fs::read_link_at(self.directory(), &name)?;
                if target.as_bytes().starts_with(b"/") {
                    self.directories.truncate(1);
                }
                self.prepend(Path::new(&target));
                Ok(Step::Link(link))
            }
            _ => Ok(Step::Leaf(name, stat)),
        }
    }

    /// Opens the directory `name` and goes on from there.
    pub(super) fn enter(&mut self, name: OsString) -> sys::Result<()> {
        let directory = sys::fs::open_directory_at(self.directory(), &name)?;
        self.directories.push((name, directory));
        Ok(())
    }

    /// Whether the last step was the end of the path.
    pub(super) fn is_at_end(&self) -> bool {
        self.remaining.is_empty()
    }

    /// The directory that the walk is in.
    pub(super) fn directory(&self) -> BorrowedFd<'_> {
        let (_, directory) = self.directories.last().expect("the root stays");
        directory.as_fd()
    }

    pub(super) fn into_directory(mut self) -> OwnedFd {
        self.directories.pop().expect("the root stays").1
    }

    /// Where the walk is, relative to the root and without links.
    pub(super) fn path(&self) -> PathBuf {
        self.directories.iter().map(|(name, _)| name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn arrive(root: &Path, path: &str) -> sys::Result<(String, Step)> {
        let fd = sys::fs::open_directory(root)?;
        let mut descent = Descent::new(fd.as_fd(), Path::new(path))?;
        loop {
            match descent.step()? {
                Step::Directory | Step::Link(_) => {}
                step => return Ok((descent.path().display().to_string(), step)),
            }
        }
    }

    #[test]
    fn links_and_parents_stay_below_the_root() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/file"), "").unwrap();
        symlink("/a/b", root.join("absolute")).unwrap();
        symlink("../../../../a", root.join("a/b/out")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        for (path, expected) in [
            ("absolute", "a/b"),
            ("a/b/out/b", "a/b"),
            ("absolute/../b", "a/b"),
            ("../../..", ""),
            ("/", ""),
        ] {
            let (arrived, step) = arrive(root, path).unwrap();
            assert_eq!(arrived, expected, "{path}");
            assert!(matches!(step, Step::Arrived), "{path}");
        }
        assert!(matches!(
            arrive(root, "absolute/../file").unwrap().1,
            Step::Leaf(..)
        ));
        assert!(matches!(
            arrive(root, "a/none/x").unwrap().1,
            Step::Missing(_)
        ));
        assert_eq!(arrive(root, "loop").unwrap_err().errno, Errno::ELOOP);
    }
}
