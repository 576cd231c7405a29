//! Records: each can be read, and names what is there.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::blobs::Blobs;
use super::images::Held;
use super::{Level, Remedy, Snapshots, Survey, deep, digest_of};
use crate::layer::BlockIndex;
use crate::oci::{ChainId, Descriptor, DiffId, Digest};
use crate::store::contents::{list, name_of};
use crate::store::records::{CacheRecord, Download, LayerBlob};
use crate::store::{Error, KINDS};

impl Survey<'_> {
    /// What is remembered of layers. With `deep` every blob that is said to hold one is unpacked. A layer
    /// that came from elsewhere needs its blob, which `held` knows again.
    pub(super) fn layers(
        &mut self,
        blobs: &Blobs,
        snapshots: &Snapshots,
        held: &Held,
        deep: bool,
    ) -> Result<(), Error> {
        let all = snapshots.values().flat_map(|stacks| stacks.whole.values());
        let mut needed: BTreeMap<&DiffId, &Descriptor> = all
            .filter(|layer| layer.packed.is_none() && layer.content.is_none())
            .filter_map(|layer| held.get_key_value(&layer.diff_id))
            .collect();
        for path in list(&self.view.root.join("layers"))? {
            let name = name_of(&path).unwrap_or_default();
            let (hex, extension) = name.split_once('.').unwrap_or((name, ""));
            let Some(diff_id) = digest_of(hex).map(DiffId) else {
                self.stray(&path);
                continue;
            };
            let bytes = match fs::read(&path) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    self.bad_record("layer", path, error.to_string());
                    continue;
                }
            };
            let problem = match extension {
                "size" => {
                    let text = std::str::from_utf8(&bytes).unwrap_or_default();
                    text.parse::<u64>().err().map(|_| "not a size".to_owned())
                }
                "json" => match self.holders(&bytes, &diff_id, blobs, deep) {
                    Ok(holds) => {
                        if holds {
                            needed.remove(&diff_id);
                        }
                        None
                    }
                    Err(problem) => Some(problem),
                },
                _ => {
                    self.stray(&path);
                    None
                }
            };
            if let Some(problem) = problem {
                match needed.remove(&diff_id).filter(|_| extension == "json") {
                    Some(blob) => self.without_holder(&diff_id, blob, problem),
                    None => self.bad_record("layer", path, problem),
                }
            }
        }
        for (diff_id, blob) in needed {
            self.without_holder(diff_id, blob, "it names no blob that is there".to_owned());
        }
        Ok(())
    }

    fn without_holder(&mut self, diff_id: &DiffId, blob: &Descriptor, problem: String) {
        let place = format!("layers/{}.json", diff_id.0.hex());
        let remedy = Remedy::Holder(diff_id.clone(), blob.clone());
        self.report(Level::Damage, "layer", place, problem, remedy);
    }

    /// Whether one of the blobs that are said to hold the layer is there.
    fn holders(
        &self,
        bytes: &[u8],
        diff_id: &DiffId,
        blobs: &Blobs,
        deep: bool,
    ) -> Result<bool, String> {
        let holders: Vec<LayerBlob> = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        let mut whole = holders
            .iter()
            .map(|holder| &holder.descriptor)
            .filter(|blob| blobs.objection(blob).is_none())
            .peekable();
        let any = whole.peek().is_some();
        for blob in whole.filter(|_| deep) {
            let digest = &blob.digest;
            let open = self.view.open_blob(digest).map_err(|e| e.to_string())?;
            let actual = deep::unpacked(open)
                .map_err(|error| format!("{digest} cannot be decompressed: {error}"))?;
            if actual != diff_id.0 {
                return Err(format!("{digest} holds the layer {actual}"));
            }
        }
        Ok(any)
    }

    fn bad_record(&mut self, kind: &'static str, path: PathBuf, problem: String) {
        let place = self.shown(&path);
        let remedy = Remedy::Record(path);
        self.report(Level::Damage, kind, place, problem, remedy);
    }

    /// The cache.
    pub(super) fn records(&mut self, blobs: &Blobs, snapshots: &Snapshots) -> Result<(), Error> {
        for directory in list(&self.view.root.join("cache"))? {
            for path in list(&directory)? {
                let name = name_of(&path).unwrap_or_default();
                let hex = name.strip_suffix(".json").unwrap_or_default();
                let is_placed = digest_of(hex).is_some()
                    && name_of(&directory).is_some_and(|first| hex[..2] == *first);
                if !is_placed {
                    self.stray(&path);
                    continue;
                }
                self.counts.records += 1;
                let bytes = match fs::read(&path) {
                    Ok(bytes) => bytes,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => {
                        self.bad_record("record", path, error.to_string());
                        continue;
                    }
                };
                if let Some(problem) = self.objection(&bytes, blobs, snapshots) {
                    self.bad_record("record", path, problem);
                }
            }
        }
        Ok(())
    }

    /// What is wrong with a record of the cache.
    fn objection(&self, bytes: &[u8], blobs: &Blobs, snapshots: &Snapshots) -> Option<String> {
        if let Ok(step) = serde_json::from_slice::<CacheRecord>(bytes) {
            let chain_id = step.chain_id?;
            let is_there = self.is_there(&chain_id, snapshots);
            return (!is_there)
                .then(|| format!("the snapshot {chain_id} is not there, or not whole"));
        }
        if let Ok(download) = serde_json::from_slice::<Download>(bytes) {
            return blobs.objection(&Descriptor::new("", download.digest, download.size));
        }
        let error = serde_json::from_slice::<Digest>(bytes).err()?;
        Some(format!("not a record: {error}"))
    }

    fn is_there(&self, chain_id: &ChainId, snapshots: &Snapshots) -> bool {
        KINDS.iter().any(|kind| match snapshots.get(kind) {
            Some(stacks) => stacks.has(chain_id),
            // Another number of ids is needed to look closer.
            None => {
                let kind = self.view.root.join("snapshots").join(kind);
                kind.join(chain_id.0.hex()).join("snapshot.json").exists()
            }
        })
    }

    /// Stat records of contexts.
    pub(super) fn memos(&mut self, is_memo: &dyn Fn(&Path) -> bool) -> Result<(), Error> {
        for path in list(&self.view.root.join("contexts"))? {
            let name = name_of(&path).unwrap_or_default();
            let hex = name.strip_suffix(".memo").unwrap_or_default();
            if digest_of(hex).is_none() {
                self.stray(&path);
            } else if !is_memo(&path) && path.exists() {
                self.bad_record("memo", path, "not a list of stat records".to_owned());
            }
        }
        Ok(())
    }

    /// Where in blobs their blocks are. What is no index is not used, and replaced.
    pub(super) fn block_indexes(&mut self) -> Result<(), Error> {
        for path in list(&self.view.root.join("blocks"))? {
            let name = name_of(&path).unwrap_or_default();
            let hex = name.strip_suffix(".index").unwrap_or_default();
            if digest_of(hex).is_none() {
                self.stray(&path);
            } else if !fs::read(&path).is_ok_and(|bytes| BlockIndex::decode(&bytes).is_some())
                && path.exists()
            {
                self.bad_record("index", path, "not a list of blocks".to_owned());
            }
        }
        Ok(())
    }

    /// Beginnings of blobs, which any bytes may be.
    pub(super) fn partials(&mut self) -> Result<(), Error> {
        for path in list(&self.view.root.join("partial"))? {
            let is_named = name_of(&path).and_then(digest_of).is_some();
            if !is_named {
                self.stray(&path);
            } else if fs::symlink_metadata(&path).is_ok_and(|metadata| !metadata.is_file()) {
                let place = self.shown(&path);
                let remedy = Remedy::Remove(path);
                self.report(Level::Damage, "partial", place, "not a file", remedy);
            }
        }
        Ok(())
    }
}
