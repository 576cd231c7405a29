//! A store of which things are removed.
//!
//! Whoever removes holds the store's lock alone, so no build is using anything. What a removal leaves
//! is a valid store wherever it is stopped, because each thing goes before what it depends on, and a
//! thing that consists of several files leaves its place in one `rename(2)`, for `tmp`, which the next
//! run sweeps: first tags, then cache records, then snapshots from the top of a stack down, then
//! blobs, then what is remembered of layers. Except for the shorter list of tags nothing is written,
//! and on a full disk [`Exclusive::release_reserve`] has the space for that one.

use std::fs::{self, File, TryLockError};
use std::path::Path;
use std::time::{Duration, Instant};

use super::contents::{StoredSnapshot, list};
use super::view::{View, layer_size_path};
use super::{Error, KINDS, tmp};
use crate::oci::{DiffId, Digest};
use crate::ownership::Ownership;

/// How long somebody waits before asking for the store again.
const PATIENCE: Duration = Duration::from_millis(20);

/// A store that nobody else has open.
#[derive(Debug)]
pub(crate) struct Exclusive {
    view: View,
}

impl Exclusive {
    /// The store at `root`, and removes what dead builds left there; `None` when there is no store.
    /// Fails with [`Error::Busy`] when somebody else has it for longer than `patience`. Must be called
    /// inside the build's user namespace. With one id, `ownership`, the snapshots of several are not
    /// seen: nobody could remove their files.
    pub(crate) fn open(
        root: &Path,
        ownership: &Ownership,
        patience: Duration,
    ) -> Result<Option<Self>, Error> {
        let root = std::path::absolute(root).map_err(Error::io("make absolute", root))?;
        if !super::is_known(&root)? {
            return Ok(None);
        }
        let path = root.join("lock");
        let lock = File::open(&path).map_err(Error::io("open", &path))?;
        lock_alone(&lock, &root, patience)?;
        tmp::sweep(&root.join("tmp"))?;
        sweep_beginnings(&root)?;
        let view = View::with_lock(root, lock, kinds_of(ownership));
        Ok(Some(Self { view }))
    }

    /// Of a view whose lock nobody else has. Nothing is removed yet.
    pub(super) fn of(view: View) -> Self {
        Self { view }
    }

    pub(crate) fn view(&self) -> &View {
        &self.view
    }

    /// Makes room for a list of tags. The end of the removal takes the space again.
    pub(crate) fn release_reserve(&self) -> Result<(), Error> {
        remove_file(&self.view.root.join(super::RESERVE))
    }

    /// Removes a snapshot. Nothing that stands on it or names it may be there any more.
    pub(crate) fn remove_snapshot(&self, snapshot: &StoredSnapshot) -> Result<(), Error> {
        self.remove(&self.view.snapshot_place(snapshot))?;
        let hex = snapshot.chain_id.0.hex();
        remove_file(&self.view.root.join("unsynced").join(hex))
    }

    /// Removes a file or directory of the cache.
    pub(crate) fn remove(&self, path: &Path) -> Result<(), Error> {
        let Ok(metadata) = fs::symlink_metadata(path) else {
            return Ok(());
        };
        if !metadata.is_dir() {
            return remove_file(path);
        }
        let name = path.file_name().unwrap_or_default();
        let gone = self.view.root.join("tmp").join(name);
        fs::rename(path, &gone).map_err(Error::io("remove", path))?;
        tmp::remove_tree(&gone)
    }

    pub(crate) fn remove_blob(&self, digest: &Digest) -> Result<(), Error> {
        remove_file(&self.view.blob_path(digest))
    }

    /// Forgets which blobs held a layer.
    pub(crate) fn remove_layer(&self, diff_id: &DiffId) -> Result<(), Error> {
        let json = format!("{}.json", diff_id.0.hex());
        remove_file(&self.view.root.join("layers").join(json))?;
        remove_file(&layer_size_path(&self.view.root, diff_id))
    }
}

impl Drop for Exclusive {
    fn drop(&mut self) {
        super::create_reserve(&self.view.root.join(super::RESERVE));
    }
}

/// The kinds of snapshots whose files the caller may remove.
pub(super) fn kinds_of(ownership: &Ownership) -> &'static [&'static str] {
    match ownership {
        Ownership::Mapped => &KINDS,
        Ownership::Recorded(_) | Ownership::Discarded => &["recorded", "flat-recorded"],
    }
}

/// Takes the store's lock alone, or fails with [`Error::Busy`].
pub(super) fn lock_alone(lock: &File, root: &Path, patience: Duration) -> Result<(), Error> {
    let start = Instant::now();
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if start.elapsed() < patience => {
                std::thread::sleep(PATIENCE);
            }
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Busy {
                    root: root.to_owned(),
                });
            }
            Err(TryLockError::Error(source)) => {
                return Err(Error::io("lock", &root.join("lock"))(source));
            }
        }
    }
}

/// Removes the beginnings of small files whose writers were killed. Nobody is writing now.
fn sweep_beginnings(root: &Path) -> Result<(), Error> {
    let mut directories = list(&root.join("cache"))?;
    directories.extend(["", "oci", "layers", "contexts", "blocks"].map(|name| root.join(name)));
    for directory in directories {
        for path in list(&directory)? {
            let name = path.file_name().unwrap_or_default().as_encoded_bytes();
            if name.starts_with(b".new-") || name.starts_with(b".tmp") {
                remove_file(&path)?;
            }
        }
    }
    Ok(())
}

fn remove_file(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}
