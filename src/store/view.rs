//! A store that is looked at: what commands that list, show and name images need.
//!
//! Nothing here depends on owners or writes to `tmp`, so a view needs no user namespace and no space.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::{Error, KINDS, blobs, tags};
use crate::oci::{Descriptor, DiffId, Digest, Index, Reference};

/// The blobs and tags of a store. Holds the store's lock, so that nothing it reads is removed.
#[derive(Debug)]
pub(crate) struct View {
    pub(super) root: PathBuf,
    /// The ways of keeping owners whose files are listed.
    pub(super) kinds: &'static [&'static str],
    _lock: File,
}

impl super::Store {
    /// The same store for who only looks.
    pub(crate) fn as_view(&self) -> Result<View, Error> {
        View::at(self.root.clone())
    }
}

impl View {
    /// The store at `root`; `None` when there is none yet.
    pub(crate) fn open(root: &Path) -> Result<Option<Self>, Error> {
        let root = std::path::absolute(root).map_err(Error::io("make absolute", root))?;
        if !super::is_known(&root)? {
            return Ok(None);
        }
        Self::at(root).map(Some)
    }

    fn at(root: PathBuf) -> Result<Self, Error> {
        let path = root.join("lock");
        let lock = File::open(&path).map_err(Error::io("open", &path))?;
        lock.lock_shared().map_err(Error::io("lock", &path))?;
        Ok(Self::with_lock(root, lock, &KINDS))
    }

    pub(super) fn with_lock(root: PathBuf, lock: File, kinds: &'static [&'static str]) -> Self {
        Self {
            root,
            kinds,
            _lock: lock,
        }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// What the store's tags name, in the order in which they were made.
    pub(crate) fn index(&self) -> Result<Index, Error> {
        tags::read_index(&self.root)
    }

    /// Replaces the index as a whole by what `change` makes of it, flushed to disk. Nothing is written
    /// when nothing changed.
    pub(crate) fn change_index<T>(&self, change: impl FnOnce(&mut Index) -> T) -> Result<T, Error> {
        tags::change_index(&self.root, change)
    }

    /// As [`super::Store::set_tags`].
    pub(crate) fn set_tags(
        &self,
        references: &[Reference],
        manifest: &Descriptor,
    ) -> Result<(), Error> {
        tags::change_index(&self.root, |index| tags::point(index, references, manifest))
    }

    pub(super) fn blob_path(&self, digest: &Digest) -> PathBuf {
        blobs::path_of(&self.root, digest)
    }

    /// As [`super::Store::open_blob`].
    pub(crate) fn open_blob(&self, digest: &Digest) -> Result<File, Error> {
        blobs::open(&self.root, digest)
    }

    /// As [`super::Store::read_blob`].
    pub(crate) fn read_blob(&self, digest: &Digest) -> Result<Vec<u8>, Error> {
        blobs::read(&self.root, digest)
    }

    /// As [`super::Store::has_blob`].
    pub(crate) fn has_blob(&self, descriptor: &Descriptor) -> bool {
        blobs::is_there(&self.root, descriptor)
    }

    /// Bytes of the layer's tar, where the store has seen it.
    pub(crate) fn layer_size(&self, diff_id: &DiffId) -> Option<u64> {
        let text = fs::read_to_string(layer_size_path(&self.root, diff_id)).ok()?;
        text.parse().ok()
    }
}

/// Where the size of a layer's tar is kept, a decimal number.
pub(super) fn layer_size_path(root: &Path, diff_id: &DiffId) -> PathBuf {
    root.join("layers")
        .join(format!("{}.size", diff_id.0.hex()))
}
