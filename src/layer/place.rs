//! Where a member of an archive goes: its directory as a descriptor, never outside the root.
//!
//! Only whole directories are resolved by the kernel (`openat2` with `RESOLVE_IN_ROOT`); the last name
//! is always used as it stands, so a link at it is replaced or linked to, never followed.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::FileStat;

use super::unpack::Form;
use super::{MAX_DEPTH, MAX_PATH, WHITEOUT_PREFIX, attributes};
use crate::sys;
use crate::sys::fs::Kind;

/// Links that are followed while missing directories are made, as in path_resolution(7).
const MAX_LINKS: u32 = 40;

/// The longest name of a file (`NAME_MAX`).
const MAX_NAME: usize = 255;

/// A path of an archive, below the root whatever it said: no leading slash, no `.` or `..`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EntryPath {
    names: Vec<OsString>,
}

impl EntryPath {
    /// `None` for a path that is too long or too deep. `..` takes a name away, at the root none.
    pub(super) fn clean(raw: &[u8]) -> Option<Self> {
        if raw.len() > MAX_PATH || raw.contains(&0) {
            return None;
        }
        let mut names = Vec::new();
        for name in raw.split(|byte| *byte == b'/') {
            match name {
                b"" | b"." => {}
                b".." => drop(names.pop()),
                name if name.len() > MAX_NAME => return None,
                name => names.push(OsString::from_vec(name.to_vec())),
            }
        }
        (names.len() <= MAX_DEPTH).then_some(Self { names })
    }

    /// The last name and the directory it is in; `None` for the root.
    pub(super) fn split(&self) -> Option<(OsString, &OsStr)> {
        let (last, parents) = self.names.split_last()?;
        Some((parents.join(OsStr::new("/")), last))
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.names.iter().map(|name| name.as_bytes())
    }

    /// Whether a name in it stands for a removal, in a layer.
    pub(super) fn names_removal(&self) -> bool {
        self.names().any(|name| name.starts_with(WHITEOUT_PREFIX))
    }

    pub(super) fn joined(&self) -> OsString {
        self.names.join(OsStr::new("/"))
    }
}

/// A directory below the root.
struct Parent {
    path: OsString,
    fd: OwnedFd,
    /// Files that are made in it get its group.
    gives_group: bool,
}

/// The tree that is unpacked into.
pub(super) struct Place<'a> {
    root: BorrowedFd<'a>,
    form: Form,
    /// The directory of the last member: archives go through a tree directory by directory.
    last: Option<Parent>,
}

impl<'a> Place<'a> {
    pub(super) fn new(root: BorrowedFd<'a>, form: Form) -> Self {
        Self {
            root,
            form,
            last: None,
        }
    }

    /// Opens the directory `path`, and makes it and those it is in where they are missing, 0755 and
    /// of 0:0. A link on the way is followed inside the root. In a layer, anything else on the way is
    /// replaced.
    pub(super) fn directory(&mut self, path: &OsStr) -> sys::Result<BorrowedFd<'_>> {
        if self.last.as_ref().is_none_or(|last| last.path != path) {
            let fd = match self.open(path) {
                Err(error) if matches!(error.errno, Errno::ENOENT | Errno::ENOTDIR) => {
                    self.make_directories(path, MAX_LINKS)?;
                    self.open(path)?
                }
                other => other?,
            };
            let gives_group = sys::fs::stat(&fd)?.st_mode & 0o2000 != 0;
            self.last = Some(Parent {
                path: path.to_os_string(),
                fd,
                gives_group,
            });
        }
        Ok(self.last.as_ref().expect("it was just set").fd.as_fd())
    }

    /// Whether new files in the directory that was opened last get its group, not that of the process.
    pub(super) fn gives_group(&self) -> bool {
        self.last.as_ref().is_some_and(|last| last.gives_group)
    }

    /// Opens the directory `path` if it is one.
    pub(super) fn open(&self, path: &OsStr) -> sys::Result<OwnedFd> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        sys::fs::open_in_root(self.root, Path::new(path), flags, 0)
    }

    /// Forgets what is known of directories: to be called after one was removed or got its mode.
    pub(super) fn forget(&mut self) {
        self.last = None;
    }

    fn make_directories(&self, path: &OsStr, links: u32) -> sys::Result<()> {
        let mut prefix = OsString::new();
        for name in path
            .as_bytes()
            .split(|byte| *byte == b'/')
            .map(OsStr::from_bytes)
        {
            let parent = self.open(&prefix)?;
            let parent_path = prefix.clone();
            if !prefix.is_empty() {
                prefix.push("/");
            }
            prefix.push(name);
            match self.open(&prefix) {
                Ok(_) => continue,
                Err(error) if matches!(error.errno, Errno::ENOENT | Errno::ENOTDIR) => {
                    self.make_directory(&parent, &parent_path, name, &error, links)?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Makes `name` in `parent` lead to a directory; it does not, and `error` says why.
    fn make_directory(
        &self,
        parent: &OwnedFd,
        parent_path: &OsStr,
        name: &OsStr,
        error: &sys::Error,
        links: u32,
    ) -> sys::Result<()> {
        let found = sys::fs::try_stat_at(parent, name)?;
        let is_link = found.is_some_and(|stat| Kind::of(&stat) == Kind::Symlink);
        if is_link && error.errno == Errno::ENOENT {
            // What a dangling link names is made, as a program that follows it expects.
            let target = sys::fs::read_link_at(parent, name)?;
            let mut path = OsString::new();
            if !target.as_bytes().starts_with(b"/") {
                path.push(parent_path);
                path.push("/");
            }
            path.push(&target);
            let path = EntryPath::clean(path.as_bytes()).filter(|_| links > 0);
            // Names of removals are none that a file of a layer can have, also not through a link.
            let path = path.filter(|path| self.form != Form::Overlay || !path.names_removal());
            let Some(path) = path else {
                return Err(sys::Error::on("openat2", name, Errno::ELOOP));
            };
            return self.make_directories(&path.joined(), links - 1);
        }
        if found.is_some() {
            if self.form != Form::Overlay {
                return Err(sys::Error::on("openat2", name, Errno::ENOTDIR));
            }
            sys::fs::unlink_at(parent, name)?;
        }
        sys::fs::make_directory_at(parent, name, 0o755)?;
        let made = sys::fs::open_directory_at(parent, name)?;
        let stat = sys::fs::stat(&made)?;
        // A directory with the set-group-id bit hands on its group and the bit.
        if (stat.st_mode & 0o2000) != 0 {
            sys::fs::chown(&made, 0, 0)?;
        }
        sys::fs::chmod(&made, 0o755)?;
        if found.is_some() {
            attributes::set_opaque(parent.as_fd(), name)?;
        }
        Ok(())
    }
}

/// What is at a name, if anything.
pub(super) fn found_at(dir: BorrowedFd<'_>, name: &OsStr) -> sys::Result<Option<(Kind, FileStat)>> {
    Ok(sys::fs::try_stat_at(dir, name)?.map(|stat| (Kind::of(&stat), stat)))
}

/// Runs `make`, which must fail where `name` exists, and once more after removing what is there.
/// The answer is the result and the kind of what was removed.
pub(super) fn replace<T>(
    dir: BorrowedFd<'_>,
    name: &OsStr,
    make: impl Fn() -> sys::Result<T>,
) -> sys::Result<(T, Option<Kind>)> {
    match make() {
        Err(error) if error.errno == Errno::EEXIST => {
            let found = found_at(dir, name)?.map(|(kind, _)| kind);
            sys::remove::remove_tree_at(dir, name)?;
            Ok((make()?, found))
        }
        made => Ok((made?, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_inside_the_root() {
        for (raw, clean) in [
            ("a/b", "a/b"),
            ("/a//b/", "a/b"),
            ("./a/./b", "a/b"),
            ("../../etc/passwd", "etc/passwd"),
            ("a/../../b", "b"),
            ("a/b/..", "a"),
            ("", ""),
            ("/", ""),
            ("..", ""),
        ] {
            assert_eq!(
                EntryPath::clean(raw.as_bytes()).unwrap().joined(),
                clean,
                "{raw}"
            );
        }
        assert_eq!(EntryPath::clean(&[b'a'; 256]), None);
        assert_eq!(EntryPath::clean(b"a\0b"), None);
        assert_eq!(EntryPath::clean(&b"a/".repeat(1025)), None);
        assert_eq!(EntryPath::clean(&b"abc/".repeat(1025)), None);
    }
}
