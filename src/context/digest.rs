//! What files hold, remembered by their stat so that an unchanged file is not read again.
//!
//! A file that is written to gets new modification and change times, but clocks of file systems tick
//! coarsely: a write in the same tick as the reading leaves both as they were. What was hashed within
//! [`GRAIN`] of its times is therefore not remembered (git calls such a file racily clean).

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::fcntl::OFlag;
use nix::sys::stat::FileStat;

use super::records::{KEY, RECORD, Record, Records};
use crate::sys;

/// BLAKE3 of a file's bytes: nobody outside sees it, and it takes a quarter of the time of SHA-256.
pub(crate) type ContentHash = [u8; 32];

/// Seconds; no file system in use ticks more coarsely (FAT: 2 s).
const GRAIN: i64 = 2;

/// The bytes of a stamp in a record.
const STAMP: usize = RECORD - 32;

/// The fields of a stat that a change of the content changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    /// Bytes; the kernel's signed type.
    pub(crate) size: i64,
    /// Seconds and nanoseconds.
    pub(crate) modified: (i64, i64),
    pub(crate) changed: (i64, i64),
    /// Type and permission bits.
    pub(crate) mode: u32,
}

/// Content hashes by stamp, kept in one file per context root. Usable from several threads.
///
/// The file is sorted fixed-size records in big-endian order behind a magic and a CRC-32. It is
/// replaced by rename, so a crash leaves the old or the new one; two builds at once lose at most what
/// one of them learned.
#[derive(Debug)]
pub(crate) struct Memo {
    path: Option<PathBuf>,
    /// What it does not know is read.
    reads: bool,
    state: Mutex<State>,
    files_read: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    known: Records,
    learned: bool,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot read {name}")]
    Read {
        name: String,
        #[source]
        source: io::Error,
    },
    #[error("what is in {name} is not known")]
    Unknown { name: String },
    #[error("{name} changed while it was read")]
    Changed { name: String },
    #[error("cannot write the memo {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl Stamp {
    pub(crate) fn of(stat: &FileStat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: stat.st_size,
            modified: (stat.st_mtime, stat.st_mtime_nsec),
            changed: (stat.st_ctime, stat.st_ctime_nsec),
            mode: stat.st_mode,
        }
    }

    /// Whether the open file that looks like `stat` is the one of this stamp, unchanged. Permission
    /// bits may be recorded elsewhere than in the file system; a change of them shows in the change time.
    pub(crate) fn is_of(&self, stat: &FileStat) -> bool {
        let seen = Self::of(stat);
        let mode = (seen.mode & !0o7777) | (self.mode & 0o7777);
        *self == Self { mode, ..seen }
    }

    /// Whether a write after `now` (seconds) is sure to give other times. A change time ahead of the
    /// clock proves nothing; a modification time ahead was set by hand.
    fn is_settled(&self, now: i64) -> bool {
        self.changed.0 < now - GRAIN && (self.modified.0 - now).abs() > GRAIN
    }

    /// The start of its record: device and inode, which name the file, then the rest.
    fn encode(&self) -> [u8; STAMP] {
        let mut bytes = [0; STAMP];
        let mut rest = &mut bytes[..];
        let mut put = |field: &[u8]| {
            let (head, tail) = std::mem::take(&mut rest).split_at_mut(field.len());
            head.copy_from_slice(field);
            rest = tail;
        };
        put(&self.device.to_be_bytes());
        put(&self.inode.to_be_bytes());
        put(&self.size.to_be_bytes());
        for (seconds, nanoseconds) in [self.modified, self.changed] {
            put(&seconds.to_be_bytes());
            let nanoseconds = u32::try_from(nanoseconds).unwrap_or(u32::MAX);
            put(&nanoseconds.to_be_bytes());
        }
        put(&self.mode.to_be_bytes());
        bytes
    }

    fn key(&self) -> [u8; KEY] {
        let mut key = [0; KEY];
        key.copy_from_slice(&self.encode()[..KEY]);
        key
    }
}

impl Memo {
    /// The memo in the file `path`; a missing or damaged file is an empty memo. Unless it `reads`, a file
    /// that it does not know is an error.
    pub(crate) fn open(path: &Path, reads: bool) -> Self {
        let known = Records::load(path).unwrap_or_default();
        Self {
            path: Some(path.to_owned()),
            reads,
            state: Mutex::new(State {
                known,
                learned: false,
            }),
            files_read: AtomicU64::new(0),
        }
    }

    /// A memo that is never written.
    pub(crate) fn none() -> Self {
        Self {
            path: None,
            reads: true,
            state: Mutex::default(),
            files_read: AtomicU64::new(0),
        }
    }

    /// How many files were opened and read so far.
    #[cfg(test)]
    pub(crate) fn files_read(&self) -> u64 {
        self.files_read.load(Ordering::Relaxed)
    }

    /// The hash of the regular file `name` in `dir`, which was found to be as `stamp` says. `buffer` is
    /// where it is read to when it has to be.
    #[cfg(test)]
    pub(crate) fn hash(
        &self,
        dir: BorrowedFd<'_>,
        name: &OsStr,
        stamp: &Stamp,
        buffer: &mut [u8],
    ) -> Result<ContentHash, Error> {
        if let Some(hash) = self.recall(stamp) {
            return Ok(hash);
        }
        self.may_read(name)?;
        let fresh = Fresh::read(dir, name, stamp, buffer)?;
        self.learn(stamp, &fresh);
        Ok(fresh.hash)
    }

    /// Whether the file `name`, which is not known, may be read.
    pub(super) fn may_read(&self, name: &OsStr) -> Result<(), Error> {
        match self.reads {
            true => Ok(()),
            false => Err(Error::Unknown {
                name: name.to_string_lossy().into_owned(),
            }),
        }
    }

    /// Remembers what was read of a file, if a later change of it would show.
    pub(super) fn learn(&self, stamp: &Stamp, fresh: &Fresh) {
        self.files_read.fetch_add(1, Ordering::Relaxed);
        if stamp.is_settled(fresh.began) {
            self.remember(stamp, fresh.hash);
        }
    }

    pub(super) fn recall(&self, stamp: &Stamp) -> Option<ContentHash> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let known = state.known.find(&stamp.key())?;
        let hash = known.bytes.strip_prefix(&stamp.encode())?.try_into().ok()?;
        known.used = true;
        Some(hash)
    }

    fn remember(&self, stamp: &Stamp, hash: ContentHash) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.learned = true;
        let mut bytes = [0; RECORD];
        bytes[..STAMP].copy_from_slice(&stamp.encode());
        bytes[STAMP..].copy_from_slice(&hash);
        state.known.insert(Record { bytes, used: true });
    }

    /// Writes what was learned, replacing the file by rename; without anything new nothing is written.
    pub(crate) fn save(&self) -> Result<(), Error> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.learned {
            return Ok(());
        }
        state.known.write(path).map_err(|source| Error::Write {
            path: path.clone(),
            source,
        })?;
        state.learned = false;
        Ok(())
    }
}

/// The hash of a file that was read, and when (seconds since 1970) that began.
#[derive(Debug)]
pub(super) struct Fresh {
    pub(super) hash: ContentHash,
    began: i64,
}

impl Fresh {
    /// Hashes a file that must be as `stamp` says before and after.
    pub(super) fn read(
        dir: BorrowedFd<'_>,
        name: &OsStr,
        stamp: &Stamp,
        buffer: &mut [u8],
    ) -> Result<Self, Error> {
        let began = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .ok()
            .and_then(|now| i64::try_from(now.as_secs()).ok())
            .unwrap_or(0);
        let hash = read(dir, name, stamp, buffer)?;
        Ok(Self { hash, began })
    }
}

fn read(
    dir: BorrowedFd<'_>,
    name: &OsStr,
    stamp: &Stamp,
    buffer: &mut [u8],
) -> Result<ContentHash, Error> {
    let failed = |source| Error::Read {
        name: name.to_string_lossy().into_owned(),
        source,
    };
    let check = |file: &File| match sys::fs::stat(file) {
        Ok(stat) if stamp.is_of(&stat) => Ok(()),
        Ok(_) => Err(Error::Changed {
            name: name.to_string_lossy().into_owned(),
        }),
        Err(error) => Err(failed(error.into())),
    };
    // A name may have become something that blocks or never ends; the check comes before the reading.
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
    let fd = sys::fs::open_at(dir, name, flags, 0).map_err(|error| failed(error.into()))?;
    let mut file = File::from(fd);
    check(&file)?;
    let mut hasher = blake3::Hasher::new();
    loop {
        match file.read(buffer) {
            Ok(0) => break,
            Ok(length) => hasher.update(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed(error)),
        };
    }
    check(&file)?;
    Ok(hasher.finalize().into())
}

/// Whether the file at `path` is a memo, undamaged.
pub(crate) fn is_memo(path: &Path) -> bool {
    Records::load(path).is_some()
}

/// How many records a memo with the content `bytes` has; `None` where it is none.
#[cfg(any(test, fuzzing))]
pub(super) fn records_of(bytes: &[u8]) -> Option<usize> {
    Records::read(bytes, 0).map(|known| known.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::fd::{AsFd as _, OwnedFd};

    /// Hashes a file; `settled` ones are remembered as if they had been written long ago (change times
    /// cannot be set).
    fn hash(memo: &Memo, dir: &Path, name: &str, settled: bool) -> Result<ContentHash, Error> {
        let dir = sys::fs::open_directory(dir).unwrap();
        let stamp = stamp_of(&dir, name);
        let hash = memo.hash(dir.as_fd(), OsStr::new(name), &stamp, &mut [0; 64])?;
        if settled {
            memo.remember(&stamp, hash);
        }
        Ok(hash)
    }

    fn stamp_of(dir: &OwnedFd, name: &str) -> Stamp {
        Stamp::of(&sys::fs::stat_at(dir, OsStr::new(name)).unwrap())
    }

    #[test]
    fn a_settled_file_is_read_once_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "text").unwrap();
        let path = dir.path().join("memos/one.memo");
        let memo = Memo::open(&path, true);
        let first = hash(&memo, dir.path(), "a", true).unwrap();
        memo.save().unwrap();
        let memo = Memo::open(&path, true);
        assert_eq!(hash(&memo, dir.path(), "a", true).unwrap(), first);
        assert_eq!(memo.files_read(), 0);
    }

    #[test]
    fn a_file_just_written_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "text").unwrap();
        let memo = Memo::none();
        hash(&memo, dir.path(), "a", false).unwrap();
        hash(&memo, dir.path(), "a", false).unwrap();
        assert_eq!(memo.files_read(), 2);
    }

    #[test]
    fn times_near_the_clock_are_not_trusted() {
        let stamp = |modified, changed| Stamp {
            device: 1,
            inode: 1,
            size: 0,
            modified: (modified, 0),
            changed: (changed, 0),
            mode: 0,
        };
        for (modified, changed, settled) in [
            (900, 900, true),
            (999, 900, false),
            (900, 999, false),
            (900, 1500, false),
            (1500, 900, true),
            (1001, 900, false),
        ] {
            assert_eq!(
                stamp(modified, changed).is_settled(1000),
                settled,
                "{modified} {changed}"
            );
        }
    }

    #[test]
    fn a_damaged_memo_is_an_empty_one() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "text").unwrap();
        let path = dir.path().join("memo");
        let memo = Memo::open(&path, true);
        hash(&memo, dir.path(), "a", true).unwrap();
        memo.save().unwrap();
        let good = fs::read(&path).unwrap();
        assert!(is_memo(&path));
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&path, &bad).unwrap();
            assert!(!is_memo(&path), "byte {at}");
        }
        for length in [0, 3, 9, 12, good.len() - 1] {
            fs::write(&path, &good[..length]).unwrap();
            assert!(!is_memo(&path));
        }
    }

    #[test]
    fn a_file_that_is_not_as_it_was_found_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "text").unwrap();
        let open = sys::fs::open_directory(dir.path()).unwrap();
        let stamp = stamp_of(&open, "a");
        fs::write(dir.path().join("a"), "longer text").unwrap();
        let memo = Memo::none();
        let result = memo.hash(open.as_fd(), OsStr::new("a"), &stamp, &mut [0; 64]);
        assert!(matches!(result, Err(Error::Changed { .. })));
    }
}
