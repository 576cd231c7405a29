//! Directories for what is being made, removed when their maker is gone.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Error, create_private};
use crate::sys;

/// How the names of runs begin.
pub(super) const RUN_PREFIX: &str = "b-";

/// This process's directory under `tmp`. `NAME.lock` is made and locked before `NAME`, and removed
/// after it: a `NAME` whose lock can be taken, or has none, belongs to a dead process.
#[derive(Debug)]
pub(super) struct Scratch {
    directory: PathBuf,
    lock_path: PathBuf,
    next: AtomicU32,
    _lock: File,
}

impl Scratch {
    pub(super) fn create(tmp: &Path) -> Result<Self, Error> {
        sweep(tmp)?;
        loop {
            let lock = tempfile::Builder::new()
                .prefix(RUN_PREFIX)
                .suffix(".lock")
                .tempfile_in(tmp)
                .map_err(Error::io("write to", tmp))?;
            let (lock, lock_path) = lock
                .keep()
                .map_err(|error| Error::io("keep", tmp)(error.error))?;
            lock.lock().map_err(Error::io("lock", &lock_path))?;
            // Between the creation and the lock another process may have swept the file away.
            let ours = lock
                .metadata()
                .map_err(Error::io("stat", &lock_path))?
                .ino();
            if fs::metadata(&lock_path).is_ok_and(|there| there.ino() == ours) {
                let directory = lock_path.with_extension("");
                create_private(&directory)?;
                return Ok(Self {
                    directory,
                    lock_path,
                    next: AtomicU32::new(0),
                    _lock: lock,
                });
            }
        }
    }

    /// The name of the directory, which no other living process has.
    pub(super) fn name(&self) -> &str {
        let name = self.directory.file_name().and_then(|name| name.to_str());
        name.expect("it was made of letters and digits")
    }

    pub(super) fn path(&self) -> &Path {
        &self.directory
    }

    /// A new empty directory.
    pub(super) fn directory(&self) -> Result<PathBuf, Error> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.directory.join(number.to_string());
        create_private(&path)?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays behind, the next run removes.
        drop(remove_tree(&self.directory));
        drop(fs::remove_file(&self.lock_path));
    }
}

/// Removes the directories of dead processes.
pub(super) fn sweep(tmp: &Path) -> Result<(), Error> {
    let entries = fs::read_dir(tmp).map_err(Error::io("list", tmp))?;
    let mut names: Vec<PathBuf> = entries.filter_map(Result::ok).map(|e| e.path()).collect();
    names.sort();
    for path in &names {
        if path
            .extension()
            .is_some_and(|extension| extension == "lock")
        {
            let Ok(lock) = File::open(path) else { continue };
            if lock.try_lock().is_ok() {
                remove_tree(&path.with_extension(""))?;
                drop(fs::remove_file(path));
            }
        } else if !path.with_extension("lock").exists() {
            remove_tree(path)?;
        }
    }
    Ok(())
}

/// Removes `path` and all below it; a missing one is success.
pub(super) fn remove_tree(path: &Path) -> Result<(), Error> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(());
    };
    let remove = || match sys::fs::open_directory(parent) {
        Err(error) if error.errno == nix::errno::Errno::ENOENT => Ok(()),
        Err(error) => Err(error),
        Ok(parent) => sys::remove::remove_tree_at(parent, name),
    };
    remove().map_err(|error| Error::io("remove", path)(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dead_process_left_is_swept_and_the_living_keep_theirs() {
        let tmp = tempfile::tempdir().unwrap();
        let alive = Scratch::create(tmp.path()).unwrap();
        let kept = alive.directory().unwrap();
        fs::write(tmp.path().join("b-dead.lock"), "").unwrap();
        fs::create_dir_all(tmp.path().join("b-dead/0/sub")).unwrap();
        fs::create_dir_all(tmp.path().join("b-orphan/0")).unwrap();
        let second = Scratch::create(tmp.path()).unwrap();
        assert!(kept.exists());
        assert!(!tmp.path().join("b-dead").exists());
        assert!(!tmp.path().join("b-dead.lock").exists());
        assert!(!tmp.path().join("b-orphan").exists());
        drop((alive, second));
        assert_eq!(fs::read_dir(tmp.path()).unwrap().count(), 0);
    }
}
