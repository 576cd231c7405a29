//! Beginnings of blobs: what was downloaded when a transfer broke off or its process died.
//!
//! `ROOT/partial/HEX` has the first bytes of the blob with that digest, and belongs to who holds its
//! flock. Nothing reads one but the next download of the same blob, which takes its digest anew.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::{Error, Store, create_private};
use crate::oci::{Descriptor, Digest, Hasher};

/// What was not taken up for so long is removed.
const MOST_AGE: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// So many bytes of beginnings stay, the newest.
const MOST_BYTES: u64 = 16 << 30;
const BUFFER: usize = 256 * 1024;

/// The beginning of a blob, locked. Dropped, it stays for the next download unless it was
/// [discarded](Self::discard) or has nothing.
#[derive(Debug)]
pub(super) struct Partial {
    file: File,
    path: PathBuf,
    discarded: bool,
}

impl Store {
    fn partial_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("partial").join(digest.hex())
    }

    /// Whether an earlier download left the beginning of this blob.
    pub(crate) fn has_partial(&self, descriptor: &Descriptor) -> bool {
        self.partial_path(&descriptor.digest).exists()
    }

    /// The beginning of the blob, made where there is none; `None` when somebody else is at it.
    pub(super) fn partial(&self, descriptor: &Descriptor) -> Result<Option<Partial>, Error> {
        let directory = self.root.join("partial");
        create_private(&directory)?;
        let path = self.partial_path(&descriptor.digest);
        loop {
            let file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&path)
                .map_err(Error::io("write to", &directory))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(fs::TryLockError::WouldBlock) => return Ok(None),
                Err(fs::TryLockError::Error(source)) => {
                    return Err(Error::io("lock", &path)(source));
                }
            }
            // Whoever had the lock before may have moved the file to its place, or removed it.
            let ours = file.metadata().map_err(Error::io("stat", &path))?.ino();
            if fs::metadata(&path).is_ok_and(|there| there.ino() == ours) {
                return Ok(Some(Partial {
                    file,
                    path,
                    discarded: false,
                }));
            }
        }
    }
}

impl Partial {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Hashes what is there and goes to its end. More than `size` bytes are not the blob's beginning.
    pub(super) fn hash(&mut self, size: u64) -> Result<Hasher, Error> {
        let mut hasher = Hasher::new();
        let mut hash = || -> io::Result<()> {
            if self.file.metadata()?.len() > size {
                self.file.set_len(0)?;
            }
            let mut buffer = vec![0; BUFFER];
            loop {
                match self.file.read(&mut buffer)? {
                    0 => return Ok(()),
                    count => hasher.update(&buffer[..count]),
                }
            }
        };
        hash().map_err(Error::io("read", &self.path))?;
        Ok(hasher)
    }

    /// Forgets every byte.
    pub(super) fn restart(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0)).map(drop)
    }

    /// Leaves nothing for another download.
    pub(super) fn discard(&mut self) {
        self.discarded = true;
    }

    /// Moves the complete file to `path`.
    pub(super) fn persist(mut self, path: &Path) -> Result<(), Error> {
        fs::rename(&self.path, path).map_err(Error::io("write", path))?;
        // The path is somebody else's now.
        self.path = PathBuf::new();
        Ok(())
    }
}

impl Write for Partial {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        let is_empty = || self.file.metadata().is_ok_and(|file| file.len() == 0);
        if self.path != Path::new("") && (self.discarded || is_empty()) {
            drop(fs::remove_file(&self.path));
        }
    }
}

/// Removes beginnings that are too old or too many, the oldest first, except those that somebody is at.
pub(super) fn sweep(directory: &Path) {
    sweep_to(directory, MOST_AGE, MOST_BYTES);
}

fn sweep_to(directory: &Path, most_age: Duration, most_bytes: u64) {
    // Without the directory, or the right to read it, there is nothing to do.
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut found: Vec<(SystemTime, u64, PathBuf)> = entries
        .filter_map(|entry| {
            let metadata = entry.metadata().ok()?;
            Some((metadata.modified().ok()?, metadata.len(), entry.path()))
        })
        .collect();
    found.sort();
    let mut kept = 0;
    for (modified, size, path) in found.into_iter().rev() {
        kept += size;
        let is_old = modified.elapsed().is_ok_and(|age| age > most_age);
        if (is_old || kept > most_bytes)
            && let Ok(file) = File::open(&path)
            && file.try_lock().is_ok()
        {
            drop(fs::remove_file(&path));
            kept -= size;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_and_too_many_beginnings_are_swept_and_locked_ones_stay() {
        let directory = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let put = |name: &str, hours: u64| {
            let path = directory.path().join(name);
            fs::write(&path, [0; 10]).unwrap();
            let file = File::options().write(true).open(&path).unwrap();
            file.set_modified(now - Duration::from_secs(hours * 3600))
                .unwrap();
            file
        };
        for (name, hours) in [("new", 1), ("middle", 2), ("oldest", 3), ("ancient", 100)] {
            drop(put(name, hours));
        }
        let busy = put("busy", 200);
        busy.lock().unwrap();
        sweep_to(directory.path(), Duration::from_secs(24 * 3600), 25);
        let mut names: Vec<_> = fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["busy", "middle", "new"]);
        sweep(Path::new("/nonexistent"));
    }
}
