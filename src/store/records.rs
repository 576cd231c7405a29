//! Small JSON records: what a step made (by [`CacheKey`](Digest)), and where a layer's bytes are (by
//! [`DiffId`]). Each is one file, replaced as a whole; a damaged or missing one is a miss.

use std::fs;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Durable, Error, Store, create_private, write_atomically};
use crate::oci::{ChainId, Descriptor, DiffId, Digest};

/// What a step made of its inputs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CacheRecord {
    /// The stack after the step; `None` is the empty one.
    pub(crate) chain_id: Option<ChainId>,
    /// The layer that the step added; `None` when it changed nothing.
    pub(crate) diff_id: Option<DiffId>,
    /// When the step ran, RFC 3339.
    pub(crate) created: String,
}

/// A blob that holds a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LayerBlob {
    pub(crate) descriptor: Descriptor,
    /// How rbuild wrote it (`gzip:4:1024K-1280K`); `None` for a blob that was pulled or imported as it is.
    pub(crate) encoding: Option<String>,
}

/// What an address gave the last time it was fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Download {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    /// What the server called this state of the file.
    pub(crate) etag: Option<String>,
    pub(crate) last_modified: Option<String>,
}

impl Store {
    fn cache_path(&self, key: &Digest) -> PathBuf {
        let hex = key.hex();
        self.root
            .join("cache")
            .join(&hex[..2])
            .join(format!("{hex}.json"))
    }

    fn layer_path(&self, diff_id: &DiffId) -> PathBuf {
        self.root
            .join("layers")
            .join(format!("{}.json", diff_id.0.hex()))
    }

    /// What a step with this key made, if its snapshot is still there.
    pub(crate) fn cached(&self, key: &Digest) -> Option<CacheRecord> {
        let record: CacheRecord = read(&self.cache_path(key))?;
        let there = record
            .chain_id
            .as_ref()
            .is_none_or(|chain| self.has_snapshot(chain));
        if there {
            touch(&self.cache_path(key));
        }
        there.then_some(record)
    }

    /// Remembers what the step made. The last of several writers wins.
    pub(crate) fn remember(&self, key: &Digest, record: &CacheRecord) -> Result<(), Error> {
        self.write_record(&self.cache_path(key), record)
    }

    /// A digest remembered under `key`: the content of a selection in an immutable snapshot.
    pub(crate) fn remembered_digest(&self, key: &Digest) -> Option<Digest> {
        let digest = read(&self.cache_path(key))?;
        touch(&self.cache_path(key));
        Some(digest)
    }

    pub(crate) fn remember_digest(&self, key: &Digest, digest: &Digest) -> Result<(), Error> {
        self.write_record(&self.cache_path(key), digest)
    }

    /// What the address with this key gave, if the bytes are still there.
    pub(crate) fn download(&self, key: &Digest) -> Option<Download> {
        let download: Download = read(&self.cache_path(key))?;
        let bytes = Descriptor::new("", download.digest.clone(), download.size);
        let there = self.has_blob(&bytes);
        if there {
            touch(&self.cache_path(key));
        }
        there.then_some(download)
    }

    pub(crate) fn remember_download(&self, key: &Digest, download: &Download) -> Result<(), Error> {
        self.write_record(&self.cache_path(key), download)
    }

    fn write_record<T: Serialize>(&self, path: &std::path::Path, record: &T) -> Result<(), Error> {
        create_private(path.parent().expect("records are in directories"))?;
        write_atomically(path, &crate::oci::to_json(record), Durable::No)
    }

    /// Remembers how many bytes the layer's tar has, for who lists images.
    pub(crate) fn remember_layer_size(&self, diff_id: &DiffId, size: u64) -> Result<(), Error> {
        let path = super::view::layer_size_path(&self.root, diff_id);
        if path.exists() {
            return Ok(());
        }
        write_atomically(&path, size.to_string().as_bytes(), Durable::No)
    }

    /// The blobs known to hold this layer that are still there.
    pub(crate) fn layer_blobs(&self, diff_id: &DiffId) -> Vec<LayerBlob> {
        let blobs: Vec<LayerBlob> = read(&self.layer_path(diff_id)).unwrap_or_default();
        blobs
            .into_iter()
            .filter(|blob| self.has_blob(&blob.descriptor))
            .collect()
    }

    /// Adds a blob to those that hold this layer.
    pub(crate) fn add_layer_blob(&self, diff_id: &DiffId, blob: LayerBlob) -> Result<(), Error> {
        let mut blobs = self.layer_blobs(diff_id);
        if blobs.contains(&blob) {
            return Ok(());
        }
        blobs.push(blob);
        write_atomically(
            &self.layer_path(diff_id),
            &crate::oci::to_json(&blobs),
            Durable::No,
        )
    }
}

/// Notes that a record was used: the least recently used ones are the first that are removed. A record
/// that cannot be noted is only removed earlier.
pub(super) fn touch(path: &std::path::Path) {
    if let Ok(file) = fs::File::options().write(true).open(path) {
        drop(file.set_modified(std::time::SystemTime::now()));
    }
}

fn read<T: DeserializeOwned>(path: &std::path::Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}
