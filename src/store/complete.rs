//! A store for a build that is to find everything in it.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::{Error, Store, is_known, kind_of, snapshots, tmp, unsynced};
use crate::ownership::Ownership;

impl Store {
    /// Opens the store at `root` for a build of which every step may be in the cache. Needs no user
    /// namespace: nothing is made in it but small files of the caller's own, and whatever takes a place in
    /// `tmp` (a layer, a blob, a fetched file) fails.
    ///
    /// `None` where [`Store::open`] has something to do first: there is no store, it has no snapshot of this
    /// kind, `tmp` is not empty, or the machine stopped before snapshots were on the disk.
    pub(crate) fn open_complete(root: &Path, ownership: Ownership) -> Option<Self> {
        let root = std::path::absolute(root).ok()?;
        if fs::metadata(&root).ok()?.mode() & 0o077 != 0 {
            return None;
        }
        let lock = File::options().write(true).open(root.join("lock")).ok()?;
        lock.lock_shared().ok()?;
        if !is_known(&root).ok()? {
            return None;
        }
        let kind = root.join("snapshots").join(kind_of(&ownership, false));
        let is_swept = fs::read_dir(root.join("tmp")).ok()?.next().is_none();
        if !is_swept || !kind.is_dir() {
            return None;
        }
        let store = Self {
            root,
            ownership,
            trees: None,
            tmp: None,
            marker: unsynced::Marker::default(),
            views: snapshots::Views::default(),
            _lock: lock,
        };
        store.settle_snapshots().ok()?;
        Some(store)
    }

    /// Whether layers and blobs can be added: not after [`Store::open_complete`].
    pub(crate) fn grows(&self) -> bool {
        self.tmp.is_some()
    }

    /// Fails where nothing can be added, for who would fetch something to add.
    pub(crate) fn require_growth(&self) -> Result<(), Error> {
        self.tmp().map(drop)
    }

    pub(super) fn tmp(&self) -> Result<&tmp::Scratch, Error> {
        self.tmp.as_ref().ok_or(Error::OnlyRead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ownership::Table;

    fn recorded() -> Ownership {
        Ownership::Recorded(Table::default())
    }

    #[test]
    fn a_store_is_complete_when_nothing_has_to_be_done_first() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("store");
        assert!(Store::open_complete(&root, recorded()).is_none(), "none");
        let open = Store::open(&root, recorded()).unwrap();
        assert!(Store::open_complete(&root, recorded()).is_none(), "in use");
        drop(open);
        let complete = Store::open_complete(&root, recorded()).unwrap();
        assert!(Store::open_complete(&root, Ownership::Mapped).is_none());
        assert!(!complete.grows() && complete.require_growth().is_err());
        assert!(complete.scratch().is_err() && complete.loose_file().is_err());
        assert!(complete.put_blob("text/plain", b"new").is_err());
        drop(complete);
        let marker = root.join("unsynced/b-old");
        fs::write(&marker, "another boot").unwrap();
        assert!(Store::open_complete(&root, recorded()).is_none(), "a boot");
        assert!(marker.exists());
        drop(Store::open(&root, recorded()).unwrap());
        assert!(Store::open_complete(&root, recorded()).is_some());
    }
}
