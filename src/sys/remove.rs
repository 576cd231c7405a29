//! Removing trees that somebody else made.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag};
use nix::sys::stat::{FchmodatFlags, Mode, fchmod, fchmodat};

use super::fs::{
    open_at, open_directory_at, read_names, remove_directory_at, rename_at, unlink_at,
};
use super::{Error, Result};

/// Levels that are walked down at a time. A tree can be deeper than there are descriptors and stack.
const LEVELS: usize = 64;

/// Removes `name` and everything below it, however deep, never following a link. A missing name is
/// success. Directories without permission bits are opened up first, so what a RUN left behind can go.
pub(crate) fn remove_tree_at(dir: impl AsFd, name: &OsStr) -> Result<()> {
    if is_unlinked(&dir, name)? {
        return Ok(());
    }
    let mut removal = Removal {
        top: open_up(&dir, name)?,
        moved: 0,
    };
    loop {
        let top = open_directory_at(&removal.top, OsStr::new("."))?;
        let names = read_names(&top)?;
        if names.is_empty() {
            break;
        }
        for child in names {
            removal.remove(&top, &child, LEVELS)?;
        }
    }
    remove_directory_at(dir, name)
}

struct Removal {
    /// The directory that is emptied. What is too deep to be reached from here is moved here.
    top: OwnedFd,
    moved: u64,
}

impl Removal {
    fn remove(&mut self, dir: &OwnedFd, name: &OsStr, levels: usize) -> Result<()> {
        let is_gone = match is_unlinked(dir, name) {
            Err(error) if error.errno == Errno::EACCES => {
                fchmod(dir, Mode::S_IRWXU).map_err(|errno| Error::on("fchmod", name, errno))?;
                is_unlinked(dir, name)?
            }
            other => other?,
        };
        if is_gone {
            return Ok(());
        }
        let inner = open_up(dir, name)?;
        if levels == 0 {
            // A move writes the parent into the directory.
            fchmod(&inner, Mode::S_IRWXU).map_err(|errno| Error::on("fchmod", name, errno))?;
            return self.move_up(dir, name);
        }
        for child in read_names(&inner)? {
            self.remove(&inner, &child, levels - 1)?;
        }
        remove_directory_at(dir, name)
    }

    /// Moves the directory to a name of the top that no other has.
    fn move_up(&mut self, dir: &OwnedFd, name: &OsStr) -> Result<()> {
        loop {
            self.moved += 1;
            let free = OsString::from(format!("moved-{}", self.moved));
            match rename_at(dir, name, &self.top, &free) {
                Err(error)
                    if matches!(
                        error.errno,
                        Errno::EEXIST | Errno::ENOTEMPTY | Errno::ENOTDIR
                    ) => {}
                other => return other,
            }
        }
    }
}

/// Removes what is no directory; `false` for a directory, which is still there.
fn is_unlinked(dir: impl AsFd, name: &OsStr) -> Result<bool> {
    match unlink_at(dir, name) {
        Ok(()) => Ok(true),
        Err(error) => match error.errno {
            Errno::ENOENT => Ok(true),
            // unlink(2) of a directory is EISDIR on Linux, EPERM by POSIX.
            Errno::EISDIR | Errno::EPERM => Ok(false),
            _ => Err(error),
        },
    }
}

/// Opens a directory, whatever its mode.
fn open_up(dir: impl AsFd, name: &OsStr) -> Result<OwnedFd> {
    match open_directory_at(&dir, name) {
        Err(error) if error.errno == Errno::EACCES => {}
        other => return other,
    }
    // fchmod(2) wants a descriptor that is open for reading, and a name may mean something else by now.
    let found = open_at(&dir, name, OFlag::O_PATH | OFlag::O_DIRECTORY, 0)?;
    let path = format!("/proc/self/fd/{}", found.as_raw_fd());
    fchmodat(
        AT_FDCWD,
        &*path,
        Mode::S_IRWXU,
        FchmodatFlags::FollowSymlink,
    )
    .map_err(|errno| Error::on("fchmodat", name, errno))?;
    open_directory_at(dir, name)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::super::fs::{make_directory_at, open_directory};
    use super::*;

    #[test]
    fn a_tree_goes_however_deep_and_whatever_its_modes() {
        let dir = tempfile::tempdir().unwrap();
        let root = open_directory(dir.path()).unwrap();
        fs::create_dir(dir.path().join("outside")).unwrap();
        fs::write(dir.path().join("outside/file"), "kept").unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir_all(tree.join("closed/in")).unwrap();
        // Names that what is moved up could have.
        fs::create_dir_all(tree.join("moved-2/full")).unwrap();
        fs::write(tree.join("moved-1"), "").unwrap();
        symlink("../outside", tree.join("link")).unwrap();
        let mut at = open_directory(&tree).unwrap();
        for _ in 0..1100 {
            make_directory_at(&at, OsStr::new("d"), 0o700).unwrap();
            at = open_directory_at(&at, OsStr::new("d")).unwrap();
        }
        fs::set_permissions(tree.join("closed"), fs::Permissions::from_mode(0o0)).unwrap();
        remove_tree_at(&root, OsStr::new("tree")).unwrap();
        remove_tree_at(&root, OsStr::new("tree")).unwrap();
        assert!(!tree.exists());
        assert_eq!(
            fs::read_to_string(dir.path().join("outside/file")).unwrap(),
            "kept"
        );
    }
}
