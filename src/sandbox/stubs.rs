//! Removal of the mount targets that init had to make.

use std::ffi::OsStr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

use nix::errno::Errno;
use nix::sys::stat::FileStat;

use super::spec::{Created, Touched};
use crate::ownership::record;
use crate::sys::{self, fs, xattr};

/// Takes out of `upper` what init made for mounting: only what is still the same file and empty, with the
/// modification times of the directories as they would be without it.
pub(crate) fn remove(
    upper: BorrowedFd<'_>,
    created: &[Created],
    touched: &[Touched],
) -> Result<(), sys::Error> {
    for target in created.iter().rev() {
        remove_created(upper, target)?;
    }
    for directory in touched.iter().rev() {
        restore(upper, directory)?;
    }
    Ok(())
}

fn remove_created(upper: BorrowedFd<'_>, target: &Created) -> Result<(), sys::Error> {
    let Some((parent, name)) = open_parent(upper, Path::new(&target.path))? else {
        return Ok(());
    };
    let Some(stat) = fs::try_stat_at(&parent, name)? else {
        return Ok(());
    };
    let directory = fs::Kind::of(&stat) == fs::Kind::Directory;
    if stat.st_ino != target.inode || directory != target.directory {
        return Ok(());
    }
    // Whatever the command wrote went to the mount on top; contents here are not ours to delete.
    if !directory && stat.st_size != 0 {
        return Ok(());
    }
    remove_quietly(&parent, name, directory)
}

/// Puts the times of a directory back, and takes it away if it is only there because init needed it.
fn restore(upper: BorrowedFd<'_>, directory: &Touched) -> Result<(), sys::Error> {
    let path = Path::new(&directory.path);
    let Some(fd) = open_below(upper, path)? else {
        return Ok(());
    };
    let stat = fs::stat(&fd)?;
    // A later time is the command's own change of the directory.
    if mtime(&stat) != directory.after {
        return Ok(());
    }
    fs::set_mtime(&fd, directory.before.0, directory.before.1)?;
    let owner_and_mode = (stat.st_uid, stat.st_gid, fs::permissions(&stat));
    let record = xattr::get_at(&fd, OsStr::new("."), OsStr::new(record::ATTRIBUTE))?;
    if !directory.copied_up
        || owner_and_mode != (directory.uid, directory.gid, directory.mode)
        || record != directory.record
    {
        return Ok(());
    }
    match open_parent(upper, path)? {
        Some((parent, name)) => remove_quietly(&parent, name, true),
        None => Ok(()),
    }
}

/// Removes a file or an empty directory without a trace in the times of `parent`. A directory with
/// entries stays.
fn remove_quietly(parent: &OwnedFd, name: &OsStr, directory: bool) -> Result<(), sys::Error> {
    let before = mtime(&fs::stat(parent)?);
    let removed = if directory {
        fs::remove_directory_at(parent, name)
    } else {
        fs::unlink_at(parent, name)
    };
    match removed {
        Err(error) if error.errno == Errno::ENOTEMPTY => return Ok(()),
        other => other?,
    }
    fs::set_mtime(parent, before.0, before.1)
}

fn mtime(stat: &FileStat) -> (i64, i64) {
    (stat.st_mtime, stat.st_mtime_nsec)
}

fn open_parent<'p>(
    upper: BorrowedFd<'_>,
    path: &'p Path,
) -> Result<Option<(OwnedFd, &'p OsStr)>, sys::Error> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(None);
    };
    Ok(open_below(upper, parent)?.map(|parent| (parent, name)))
}

/// Opens a directory below `upper` without following links, which the command may have put there;
/// `None` when it is gone.
fn open_below(upper: BorrowedFd<'_>, path: &Path) -> Result<Option<OwnedFd>, sys::Error> {
    let mut current = fs::open_directory_at(upper, OsStr::new("."))?;
    for component in path.components() {
        let Component::Normal(name) = component else {
            return Ok(None);
        };
        match fs::open_directory_at(current.as_fd(), name) {
            Ok(next) => current = next,
            Err(error) if matches!(error.errno, Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Some(current))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsFd as _;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    use std::path::Path;

    use super::{Created, Touched, remove};
    use crate::ownership::record::{ATTRIBUTE, Record};
    use crate::sys::fs::open_directory;
    use crate::sys::xattr;

    fn created(root: &Path, path: &str) -> Created {
        let metadata = fs::symlink_metadata(root.join(path)).unwrap();
        Created {
            path: path.into(),
            directory: metadata.is_dir(),
            inode: metadata.ino(),
        }
    }

    fn touched(root: &Path, path: &str, copied_up: bool) -> Touched {
        let metadata = fs::metadata(root.join(path)).unwrap();
        Touched {
            path: path.into(),
            copied_up,
            mode: metadata.mode() & 0o7777,
            uid: metadata.uid(),
            gid: metadata.gid(),
            record: None,
            before: (1_000, 7),
            after: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }

    #[test]
    fn targets_go_and_the_directory_gets_its_time_back() {
        let upper = tempfile::tempdir().unwrap();
        let root = upper.path();
        fs::create_dir_all(root.join("run/a/b")).unwrap();
        fs::write(root.join("run/a/b/file"), "").unwrap();
        let made = ["run/a", "run/a/b", "run/a/b/file"].map(|path| created(root, path));
        let parent = [touched(root, "run", false)];
        let fd = open_directory(root).unwrap();
        remove(fd.as_fd(), &made, &parent).unwrap();
        assert!(!root.join("run/a").exists());
        assert_eq!(fs::metadata(root.join("run")).unwrap().mtime(), 1_000);
    }

    #[test]
    fn a_directory_that_was_copied_up_for_a_target_goes_too() {
        let upper = tempfile::tempdir().unwrap();
        let root = upper.path();
        fs::create_dir(root.join("etc")).unwrap();
        fs::write(root.join("etc/hosts"), "").unwrap();
        let made = [created(root, "etc/hosts")];
        let parents = [touched(root, "", false), touched(root, "etc", true)];
        let fd = open_directory(root).unwrap();
        remove(fd.as_fd(), &made, &parents).unwrap();
        assert!(!root.join("etc").exists());
        assert_eq!(fs::metadata(root).unwrap().mtime(), 1_000);
    }

    #[test]
    fn what_the_command_replaced_filled_or_changed_stays() {
        let upper = tempfile::tempdir().unwrap();
        let root = upper.path();
        fs::create_dir_all(root.join("etc/d")).unwrap();
        fs::write(root.join("etc/hosts"), "").unwrap();
        let mut made = ["etc/d", "etc/hosts"].map(|path| created(root, path));
        made[1].inode += 1;
        let parents = [touched(root, "etc", true)];
        fs::write(root.join("etc/d/kept"), "").unwrap();
        fs::set_permissions(root.join("etc"), fs::Permissions::from_mode(0o700)).unwrap();
        let fd = open_directory(root).unwrap();
        remove(fd.as_fd(), &made, &parents).unwrap();
        assert!(root.join("etc/hosts").exists());
        assert!(root.join("etc/d/kept").exists());
    }

    #[test]
    fn a_directory_that_got_another_record_of_its_owner_stays() {
        let upper = tempfile::tempdir().unwrap();
        let root = upper.path();
        let fd = open_directory(root).unwrap();
        let set = |name: &str, uid| {
            let value = Record::owned_by(uid, 0).encode();
            xattr::set_at(&fd, name.as_ref(), ATTRIBUTE.as_ref(), &value).unwrap();
            Some(value)
        };
        let mut parents = Vec::new();
        for (name, seen, later) in [("same", 1, 1), ("other", 1, 2), ("own", 0, 2)] {
            fs::create_dir(root.join(name)).unwrap();
            let mut parent = touched(root, name, true);
            parent.record = if seen == 0 { None } else { set(name, seen) };
            set(name, later);
            parents.push(parent);
        }
        remove(fd.as_fd(), &[], &parents).unwrap();
        assert!(!root.join("same").exists());
        assert!(root.join("other").exists() && root.join("own").exists());
    }

    #[test]
    fn a_link_in_place_of_a_parent_is_not_followed() {
        let upper = tempfile::tempdir().unwrap();
        let root = upper.path();
        fs::create_dir_all(root.join("real/inner")).unwrap();
        let mut made = created(root, "real/inner");
        made.path = "run/inner".into();
        std::os::unix::fs::symlink("real", root.join("run")).unwrap();
        let fd = open_directory(root).unwrap();
        remove(fd.as_fd(), &[made], &[]).unwrap();
        assert!(root.join("real/inner").exists());
    }
}
