//! Everything a store holds, listed with its size and its last use: what clean-up decides about.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::Error;
use super::records::{CacheRecord, Download, LayerBlob};
use super::snapshots::Record;
use super::view::View;
use crate::oci::{ChainId, DiffId, Digest};

/// A layer's directory.
#[derive(Debug, Clone)]
pub(crate) struct StoredSnapshot {
    /// The directory of `snapshots` that it is in.
    pub(crate) kind: &'static str,
    pub(crate) chain_id: ChainId,
    pub(crate) parent: Option<ChainId>,
    /// The snapshot that has the files, where this one only names it.
    pub(crate) content: Option<ChainId>,
    pub(crate) diff_id: DiffId,
    pub(crate) made: SystemTime,
}

/// What a cache record remembers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Remembered {
    /// A step's result; `None` is the empty stack.
    Step(Option<ChainId>),
    /// The blob that an address gave.
    Download(Digest),
    /// What was selected in an immutable snapshot, or something that cannot be read any more.
    Other,
}

/// A file of the cache.
#[derive(Debug, Clone)]
pub(crate) struct StoredRecord {
    pub(crate) path: PathBuf,
    pub(crate) remembered: Remembered,
    pub(crate) size: u64,
    pub(crate) used: SystemTime,
}

/// A directory or file of the cache that nothing else depends on.
#[derive(Debug, Clone)]
pub(crate) struct StoredItem {
    pub(crate) path: PathBuf,
    pub(crate) size: u64,
    pub(crate) used: SystemTime,
}

#[derive(Debug, Clone)]
pub(crate) struct StoredBlob {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

/// Which blobs are known to hold a layer.
#[derive(Debug, Clone)]
pub(crate) struct StoredLayer {
    pub(crate) diff_id: DiffId,
    pub(crate) blobs: Vec<Digest>,
}

impl View {
    /// Every snapshot of the view's kinds. One that cannot be read is not listed.
    pub(crate) fn snapshots(&self) -> Result<Vec<StoredSnapshot>, Error> {
        let mut found = Vec::new();
        for &kind in self.kinds {
            for path in list(&self.root.join("snapshots").join(kind))? {
                let file = path.join("snapshot.json");
                let (Some(hex), Ok(bytes)) = (name_of(&path), fs::read(&file)) else {
                    continue;
                };
                let parsed = serde_json::from_slice::<Record>(&bytes);
                let (Ok(record), Ok(digest)) = (parsed, format!("sha256:{hex}").parse()) else {
                    continue;
                };
                found.push(StoredSnapshot {
                    kind,
                    chain_id: ChainId(digest),
                    parent: record.parent,
                    content: record.content,
                    diff_id: record.diff_id,
                    made: modified(&file),
                });
            }
        }
        Ok(found)
    }

    /// Bytes on disk of a snapshot. What the caller may not enter is not counted: that needs the
    /// user namespace.
    pub(crate) fn snapshot_size(&self, snapshot: &StoredSnapshot) -> u64 {
        disk_usage(&self.snapshot_place(snapshot))
    }

    pub(super) fn snapshot_place(&self, snapshot: &StoredSnapshot) -> PathBuf {
        let kind = self.root.join("snapshots").join(snapshot.kind);
        kind.join(snapshot.chain_id.0.hex())
    }

    pub(crate) fn records(&self) -> Result<Vec<StoredRecord>, Error> {
        let mut found = Vec::new();
        for directory in list(&self.root.join("cache"))? {
            for path in list(&directory)? {
                let Ok(bytes) = fs::read(&path) else { continue };
                let remembered = if let Ok(step) = serde_json::from_slice::<CacheRecord>(&bytes) {
                    Remembered::Step(step.chain_id)
                } else if let Ok(download) = serde_json::from_slice::<Download>(&bytes) {
                    Remembered::Download(download.digest)
                } else {
                    Remembered::Other
                };
                found.push(StoredRecord {
                    size: disk_usage(&path),
                    used: modified(&path),
                    remembered,
                    path,
                });
            }
        }
        Ok(found)
    }

    pub(crate) fn blobs(&self) -> Result<Vec<StoredBlob>, Error> {
        let paths = list(&self.root.join("oci/blobs/sha256"))?;
        Ok(paths
            .iter()
            .filter_map(|path| {
                let digest = format!("sha256:{}", name_of(path)?).parse().ok()?;
                Some(StoredBlob {
                    digest,
                    size: path.metadata().ok()?.len(),
                })
            })
            .collect())
    }

    pub(crate) fn layers(&self) -> Result<Vec<StoredLayer>, Error> {
        let paths = list(&self.root.join("layers"))?;
        Ok(paths
            .iter()
            .filter_map(|path| {
                let hex = name_of(path)?.strip_suffix(".json")?.to_owned();
                let blobs: Vec<LayerBlob> = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
                let blobs = blobs.into_iter().map(|blob| blob.descriptor.digest);
                Some(StoredLayer {
                    diff_id: DiffId(format!("sha256:{hex}").parse().ok()?),
                    blobs: blobs.collect(),
                })
            })
            .collect())
    }

    /// The directories of `RUN --mount=type=cache`, each with all of its instances.
    pub(crate) fn cache_mounts(&self) -> Result<Vec<StoredItem>, Error> {
        let mut found = Vec::new();
        for &kind in self.kinds {
            for path in list(&self.root.join("cache-mounts").join(kind))? {
                let used = list(&path)?.iter().map(|inner| modified(inner)).max();
                found.push(StoredItem {
                    size: disk_usage(&path),
                    used: used.unwrap_or(SystemTime::UNIX_EPOCH),
                    path,
                });
            }
        }
        Ok(found)
    }

    /// The beginnings of blobs whose downloads broke off.
    pub(crate) fn partials(&self) -> Result<Vec<StoredItem>, Error> {
        self.files("partial")
    }

    /// The stat records of build contexts.
    pub(crate) fn context_memos(&self) -> Result<Vec<StoredItem>, Error> {
        self.files("contexts")
    }

    /// Where in blobs their blocks are.
    pub(crate) fn block_indexes(&self) -> Result<Vec<StoredItem>, Error> {
        self.files("blocks")
    }

    fn files(&self, directory: &str) -> Result<Vec<StoredItem>, Error> {
        let paths = list(&self.root.join(directory))?;
        Ok(paths
            .into_iter()
            .map(|path| StoredItem {
                size: disk_usage(&path),
                used: modified(&path),
                path,
            })
            .collect())
    }
}

pub(super) fn name_of(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

fn modified(path: &Path) -> SystemTime {
    fs::symlink_metadata(path)
        .and_then(|metadata| metadata.modified())
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

/// The entries of a directory, sorted; none of one that is not there.
pub(super) fn list(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    match fs::read_dir(directory) {
        Ok(entries) => {
            let mut paths: Vec<PathBuf> =
                entries.filter_map(Result::ok).map(|e| e.path()).collect();
            paths.sort();
            Ok(paths)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Error::io("list", directory)(error)),
    }
}

/// Bytes on disk of `path` and all below it, each file once, whatever its number of names.
fn disk_usage(path: &Path) -> u64 {
    let mut seen = BTreeSet::new();
    let mut waiting = vec![path.to_owned()];
    let mut total = 0;
    while let Some(path) = waiting.pop() {
        let Ok(metadata) = fs::symlink_metadata(&path) else {
            continue;
        };
        if metadata.nlink() > 1 && !metadata.is_dir() && !seen.insert(metadata.ino()) {
            continue;
        }
        total += metadata.blocks() * 512;
        if metadata.is_dir()
            && let Ok(entries) = fs::read_dir(&path)
        {
            waiting.extend(entries.filter_map(Result::ok).map(|entry| entry.path()));
        }
    }
    total
}
