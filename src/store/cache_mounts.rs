//! Directories of `RUN --mount=type=cache`: what outlives builds and is in no layer.
//!
//! ```text
//! cache-mounts/KIND/HEX/lock      flock: held while an instance is chosen, made or removed
//! cache-mounts/KIND/HEX/N/        an instance: the files
//! cache-mounts/KIND/HEX/N.lock    flock of who uses it: shared, or exclusive
//! cache-mounts/KIND/HEX/N.new/    an instance being made by the holder of `lock`
//! cache-mounts/KIND/HEX/N.old     instance N is to be used no more
//! ```
//!
//! An instance appears by `rename(2)` of a whole one. Its files are what commands left there: after a
//! killed command they are in whatever state it left them.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Error, Store, create_private, tmp};
use crate::oci::Digest;

/// How long somebody waits before asking for a locked directory again.
const PATIENCE: Duration = Duration::from_millis(50);

/// Who may use a directory at the same time (Dockerfile reference, "RUN --mount=type=cache").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// Everybody who asks for a shared one.
    Shared,
    /// Nobody else: when it is taken there is another one.
    Private,
    /// Nobody else: when it is taken one waits.
    Locked,
}

/// A cache directory in use, until it is dropped or the process dies.
#[derive(Debug)]
pub(crate) struct CacheDirectory {
    path: PathBuf,
    _lock: File,
}

impl CacheDirectory {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Why there is no cache directory.
#[derive(Debug)]
pub(crate) enum CacheFailure<E> {
    Store(Error),
    /// What filled the new directory failed.
    Fill(E),
    /// The caller did not want to wait any longer.
    Abandoned,
}

impl<E> From<Error> for CacheFailure<E> {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

impl Store {
    /// The cache directory for `key`. A new one is a directory 0755 of 0:0 that `fill` was called with.
    /// While a locked one is taken, waits for as long as `keep_waiting` says so.
    pub(crate) fn cache_directory<E>(
        &self,
        key: &Digest,
        sharing: Sharing,
        fill: &mut dyn FnMut(&Path) -> Result<(), E>,
        keep_waiting: &dyn Fn() -> bool,
    ) -> Result<CacheDirectory, CacheFailure<E>> {
        let place = self.cache_place(key);
        create_private(&place)?;
        loop {
            // Released at the end of each round, so that who is done can hand over.
            let choosing = lock_file(&place.join("lock"))?;
            let instances = instances(&place)?;
            let mut is_taken = false;
            for number in &instances {
                match try_lock(&place, *number, sharing == Sharing::Shared)? {
                    Some(lock) => {
                        return Ok(CacheDirectory {
                            path: place.join(number.to_string()),
                            _lock: lock,
                        });
                    }
                    None => is_taken = true,
                }
            }
            if !(is_taken && sharing == Sharing::Locked) {
                let number = unused(&place)?;
                make(&place, number, fill)?;
                let lock = try_lock(&place, number, sharing == Sharing::Shared)?;
                if let Some(lock) = lock {
                    return Ok(CacheDirectory {
                        path: place.join(number.to_string()),
                        _lock: lock,
                    });
                }
            }
            drop(choosing);
            if !keep_waiting() {
                return Err(CacheFailure::Abandoned);
            }
            std::thread::sleep(PATIENCE);
        }
    }

    /// Makes the next user of `key` start with a new directory. Who uses one now keeps it.
    pub(crate) fn renew_cache_directory(&self, key: &Digest) -> Result<(), Error> {
        let place = self.cache_place(key);
        create_private(&place)?;
        let _choosing = lock_file(&place.join("lock"))?;
        for number in instances(&place)? {
            let mark = place.join(format!("{number}.old"));
            fs::write(&mark, "").map_err(Error::io("write", &mark))?;
        }
        instances(&place).map(drop)
    }

    fn cache_place(&self, key: &Digest) -> PathBuf {
        self.root
            .join("cache-mounts")
            .join(self.kind())
            .join(key.hex())
    }
}

/// The instances that may be used, in their order. Removes those that are not and that nobody uses.
fn instances(place: &Path) -> Result<Vec<u64>, Error> {
    let mut usable = Vec::new();
    for number in numbers(place)? {
        if !place.join(format!("{number}.old")).exists() {
            usable.push(number);
        } else if try_lock(place, number, false)?.is_some() {
            tmp::remove_tree(&place.join(number.to_string()))?;
            // The mark goes last: without it a half removed instance would be used again.
            for name in [format!("{number}.lock"), format!("{number}.old")] {
                let path = place.join(name);
                fs::remove_file(&path).map_err(Error::io("remove", &path))?;
            }
        }
    }
    usable.sort_unstable();
    Ok(usable)
}

fn numbers(place: &Path) -> Result<Vec<u64>, Error> {
    let entries = fs::read_dir(place).map_err(Error::io("list", place))?;
    Ok(entries
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect())
}

/// A number that no instance and no mark of one has.
fn unused(place: &Path) -> Result<u64, Error> {
    let entries = fs::read_dir(place).map_err(Error::io("list", place))?;
    let highest = entries
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let name = entry.file_name();
            let (number, kind) = match name.to_str()?.split_once('.') {
                Some((number, kind)) => (number, kind),
                None => (name.to_str()?, ""),
            };
            number.parse::<u64>().ok().filter(|_| kind != "new")
        })
        .max();
    Ok(highest.map_or(0, |number| number + 1))
}

fn make<E>(
    place: &Path,
    number: u64,
    fill: &mut dyn FnMut(&Path) -> Result<(), E>,
) -> Result<(), CacheFailure<E>> {
    use std::os::unix::fs::PermissionsExt as _;
    let new = place.join(format!("{number}.new"));
    tmp::remove_tree(&new)?;
    create_private(&new)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755))
        .map_err(Error::io("chmod", &new))?;
    fill(&new).map_err(CacheFailure::Fill)?;
    let path = place.join(number.to_string());
    Ok(fs::rename(&new, &path).map_err(Error::io("rename", &path))?)
}

/// The lock on one instance; `None` while somebody else has it.
fn try_lock(place: &Path, number: u64, shared: bool) -> Result<Option<File>, Error> {
    let path = place.join(format!("{number}.lock"));
    let file = open_lock(&path)?;
    let locked = if shared {
        file.try_lock_shared()
    } else {
        file.try_lock()
    };
    match locked {
        Ok(()) => {
            // Clean-up removes the least recently used first.
            drop(file.set_modified(std::time::SystemTime::now()));
            Ok(Some(file))
        }
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(source)) => Err(Error::io("lock", &path)(source)),
    }
}

fn lock_file(path: &Path) -> Result<File, Error> {
    let file = open_lock(path)?;
    file.lock().map_err(Error::io("lock", path))?;
    Ok(file)
}

fn open_lock(path: &Path) -> Result<File, Error> {
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(Error::io("open for writing", path))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::ownership::{Ownership, Table};

    fn store(root: &Path) -> Store {
        Store::open(&root.join("store"), Ownership::Recorded(Table::default())).unwrap()
    }

    fn take(store: &Store, key: &str, sharing: Sharing) -> Option<CacheDirectory> {
        let key = Digest::of(key.as_bytes());
        let fill = &mut |_: &Path| Ok::<(), ()>(());
        match store.cache_directory(&key, sharing, fill, &|| false) {
            Ok(directory) => Some(directory),
            Err(CacheFailure::Abandoned) => None,
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn who_may_share_a_directory_with_whom() {
        use Sharing::{Locked, Private, Shared};
        for (first, second, expected) in [
            (Shared, Shared, Some(true)),
            (Shared, Private, Some(false)),
            (Shared, Locked, None),
            (Private, Shared, Some(false)),
            (Private, Private, Some(false)),
            (Private, Locked, None),
            (Locked, Shared, Some(false)),
            (Locked, Locked, None),
        ] {
            let root = tempfile::tempdir().unwrap();
            let store = store(root.path());
            let held = take(&store, "a", first).unwrap();
            let same = take(&store, "a", second).map(|other| other.path() == held.path());
            assert_eq!(same, expected, "{first:?} then {second:?}");
            assert!(take(&store, "b", second).is_some(), "another key is free");
        }
    }

    #[test]
    fn a_directory_that_is_free_again_is_the_same_one() {
        let root = tempfile::tempdir().unwrap();
        let store = store(root.path());
        let path = take(&store, "a", Sharing::Locked)
            .unwrap()
            .path()
            .to_owned();
        fs::write(path.join("kept"), "").unwrap();
        for sharing in [Sharing::Shared, Sharing::Private, Sharing::Locked] {
            let again = take(&store, "a", sharing).unwrap();
            assert!(again.path().join("kept").exists(), "{sharing:?}");
        }
    }

    #[test]
    fn a_locked_directory_is_waited_for() {
        let root = tempfile::tempdir().unwrap();
        let store = store(root.path());
        let held = Cell::new(take(&store, "a", Sharing::Locked));
        let fill = &mut |_: &Path| Ok::<(), ()>(());
        let rounds = Cell::new(0);
        let waited = store.cache_directory(&Digest::of(b"a"), Sharing::Locked, fill, &|| {
            rounds.set(rounds.get() + 1);
            if rounds.get() == 2 {
                held.take();
            }
            true
        });
        assert!(waited.is_ok());
        assert_eq!(rounds.get(), 2);
    }

    #[test]
    fn renewing_starts_empty_and_takes_nothing_from_who_is_using_it() {
        let root = tempfile::tempdir().unwrap();
        let store = store(root.path());
        let key = Digest::of(b"a");
        let held = take(&store, "a", Sharing::Shared).unwrap();
        fs::write(held.path().join("old"), "").unwrap();
        store.renew_cache_directory(&key).unwrap();
        let new = take(&store, "a", Sharing::Shared).unwrap();
        assert_ne!(new.path(), held.path());
        assert!(held.path().join("old").exists());
        let old = held.path().to_owned();
        drop((held, new));
        let again = take(&store, "a", Sharing::Shared).unwrap();
        assert!(!again.path().join("old").exists());
        assert!(!old.exists(), "what nobody uses any more is removed");
    }

    #[test]
    fn a_directory_that_could_not_be_filled_is_not_used() {
        let root = tempfile::tempdir().unwrap();
        let store = store(root.path());
        let key = Digest::of(b"a");
        let half = &mut |path: &Path| {
            fs::write(path.join("half"), "").unwrap();
            Err(())
        };
        assert!(
            store
                .cache_directory(&key, Sharing::Shared, half, &|| false)
                .is_err()
        );
        let whole = take(&store, "a", Sharing::Shared).unwrap();
        assert_eq!(fs::read_dir(whole.path()).unwrap().count(), 0);
    }
}
