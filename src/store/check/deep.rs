//! The files of snapshots: an own layer that is packed again has the DiffId that it had.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use super::{Layer, Survey, Whole};
use crate::layer::{Decoder, PackOptions, pack};
use crate::oci::{ChainId, Digest, Hasher};
use crate::ownership::{Owners, Ownership};
use crate::store::Error;
use crate::store::contents::list;
use crate::store::records::{CacheRecord, LayerBlob};
use crate::store::snapshots::DIFF;
use crate::sys;

/// Digest and size of what a blob holds, decompressed.
pub(super) fn unpacked(blob: File) -> io::Result<(Digest, u64)> {
    let mut hasher = Hasher::new();
    io::copy(&mut Decoder::detect(blob)?, &mut hasher)?;
    let size = hasher.length();
    Ok((hasher.finish(), size))
}

impl Survey<'_> {
    /// Packs what steps made, and takes what has other files than it had, with all above it, out of
    /// `snapshots`. Layers that came from elsewhere are counted only: their tars may say the same in
    /// another order.
    pub(super) fn contents(
        &mut self,
        snapshots: &mut Whole,
        ownership: &Ownership,
    ) -> Result<(), Error> {
        let own = self.own_layers()?;
        let kind = ownership.directory();
        let Some(layers) = snapshots.get_mut(kind) else {
            return Ok(());
        };
        let directory = self.view.root.join("snapshots").join(kind);
        let mut wrong = BTreeMap::new();
        for (chain_id, layer) in &*layers {
            // The files of a linked layer are another snapshot's.
            if layer.content.is_some() {
                continue;
            }
            let Some(clamps) = own.get(chain_id).filter(|_| !self.is_foreign(layer)) else {
                self.counts.foreign += 1;
                continue;
            };
            self.counts.packed += 1;
            let paths = stack(layers, chain_id, &directory);
            let is_it = |packed: &Result<Digest, String>| packed.as_ref() == Ok(&layer.diff_id.0);
            let first = packed(&paths, ownership, None);
            let mut others = clamps
                .iter()
                .map(|clamp| packed(&paths, ownership, Some(*clamp)));
            if is_it(&first) || others.any(|other| is_it(&other)) {
                continue;
            }
            let problem = match first {
                Ok(actual) => format!("its files make the layer {actual}, not {}", layer.diff_id),
                Err(error) => format!("it cannot be packed: {error}"),
            };
            wrong.insert(chain_id.clone(), (0, problem));
        }
        layers.retain(|chain_id, _| !wrong.contains_key(chain_id));
        self.standing(kind, layers, wrong);
        Ok(())
    }

    /// The snapshots that steps made, with the times (seconds since 1970) that times in them may have
    /// been cut to: `rewrite-timestamp` cuts to SOURCE_DATE_EPOCH, which is also when such a step ran.
    fn own_layers(&self) -> Result<BTreeMap<ChainId, BTreeSet<i64>>, Error> {
        let mut own: BTreeMap<ChainId, BTreeSet<i64>> = BTreeMap::new();
        for directory in list(&self.view.root.join("cache"))? {
            for path in list(&directory)? {
                let bytes = std::fs::read(&path).unwrap_or_default();
                let Ok(record) = serde_json::from_slice::<CacheRecord>(&bytes) else {
                    continue;
                };
                if let (Some(chain_id), Some(_)) = (record.chain_id, record.diff_id) {
                    let time = record.created.parse::<jiff::Timestamp>();
                    let clamps = own.entry(chain_id).or_default();
                    clamps.extend(time.map(jiff::Timestamp::as_second));
                }
            }
        }
        Ok(own)
    }

    /// Whether somebody else wrote the tar of this layer.
    fn is_foreign(&self, layer: &Layer) -> bool {
        let name = format!("{}.json", layer.diff_id.0.hex());
        let bytes = std::fs::read(self.view.root.join("layers").join(name)).unwrap_or_default();
        let holders: Vec<LayerBlob> = serde_json::from_slice(&bytes).unwrap_or_default();
        holders.iter().any(|holder| holder.encoding.is_none())
    }
}

/// The directories of a stack, topmost first, each once.
fn stack(layers: &BTreeMap<ChainId, Layer>, top: &ChainId, kind: &Path) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    let mut next = Some(top);
    while let Some(chain_id) = next {
        let layer = layers.get(chain_id);
        let content = layer.and_then(|layer| layer.content.as_ref());
        for one in std::iter::once(chain_id).chain(content) {
            let path = kind.join(one.0.hex()).join(DIFF);
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
        next = layer.and_then(|layer| layer.parent.as_ref());
    }
    paths
}

fn packed(paths: &[PathBuf], ownership: &Ownership, clamp: Option<i64>) -> Result<Digest, String> {
    let open = |path: &PathBuf| sys::fs::open_directory(path).map_err(|error| error.to_string());
    let directories: Vec<_> = paths.iter().map(open).collect::<Result<_, _>>()?;
    let mut directories = directories.into_iter();
    let top = directories.next().ok_or("it has no files")?;
    let lowers: Vec<_> = directories.collect();
    let options = PackOptions {
        clamp_mtime: clamp,
        include_parents: true,
    };
    let mut hasher = Hasher::new();
    let owners = Owners::new(ownership, paths);
    pack(top.as_fd(), &lowers, &owners, &options, &mut hasher).map_err(|e| e.to_string())?;
    Ok(hasher.finish())
}
