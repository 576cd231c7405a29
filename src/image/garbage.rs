//! What of a store is still named, and the removal of the rest.
//!
//! Roots are the tags and the cache records. A tag keeps its documents, its layers' blobs and their
//! snapshots; a record keeps the snapshot that it names, all below it and the one that has its files,
//! or the blob that it downloaded. A layer's blob that no image names is a copy of what its snapshot
//! has: it stays as long as that one, unless its image was just removed.

use std::collections::{HashMap, HashSet};

use super::Error;
use super::list::is_index;
use crate::oci::{ChainId, Descriptor, Digest, ImageConfig, Index, Manifest};
use crate::store::{Exclusive, Remembered, StoredRecord, StoredSnapshot, View};

/// What is named.
#[derive(Debug, Default)]
pub(super) struct Live {
    pub(super) blobs: HashSet<Digest>,
    pub(super) chains: HashSet<ChainId>,
}

impl Live {
    /// What the tags name.
    pub(super) fn of_tags(view: &View) -> Result<Self, Error> {
        let mut live = Self::default();
        for entry in view.index()?.manifests {
            live.add(view, &entry);
        }
        Ok(live)
    }

    /// What an entry of the index, or of an index in it, names.
    pub(super) fn add(&mut self, view: &View, descriptor: &Descriptor) {
        if !self.blobs.insert(descriptor.digest.clone()) {
            return;
        }
        let Ok(bytes) = view.read_blob(&descriptor.digest) else {
            return;
        };
        if is_index(descriptor) {
            if let Ok(index) = serde_json::from_slice::<Index>(&bytes) {
                for inner in &index.manifests {
                    self.add(view, inner);
                }
            }
            return;
        }
        let Ok(manifest) = serde_json::from_slice::<Manifest>(&bytes) else {
            return;
        };
        let parts = manifest.layers.iter().chain([&manifest.config]);
        self.blobs.extend(parts.map(|part| part.digest.clone()));
        if let Ok(bytes) = view.read_blob(&manifest.config.digest)
            && let Ok(config) = serde_json::from_slice::<ImageConfig>(&bytes)
        {
            self.chains.extend(chain_ids(&config));
        }
    }

    /// What the records name.
    pub(super) fn add_records(&mut self, records: &[StoredRecord]) {
        for record in records {
            match &record.remembered {
                Remembered::Step(Some(chain_id)) => drop(self.chains.insert(chain_id.clone())),
                Remembered::Download(digest) => drop(self.blobs.insert(digest.clone())),
                Remembered::Step(None) | Remembered::Other => {}
            }
        }
    }

    /// Adds everything that the named snapshots stand on or name.
    pub(super) fn close(&mut self, snapshots: &[StoredSnapshot]) {
        let by_chain = by_chain(snapshots);
        let mut waiting: Vec<ChainId> = self.chains.iter().cloned().collect();
        while let Some(chain_id) = waiting.pop() {
            for snapshot in by_chain.get(&chain_id).into_iter().flatten() {
                for below in snapshot.parent.iter().chain(&snapshot.content) {
                    if self.chains.insert(below.clone()) {
                        waiting.push(below.clone());
                    }
                }
            }
        }
    }
}

/// The snapshots of each identity, one for each kind of ownership.
pub(super) fn by_chain(snapshots: &[StoredSnapshot]) -> HashMap<&ChainId, Vec<&StoredSnapshot>> {
    let mut by_chain: HashMap<_, Vec<_>> = HashMap::new();
    for snapshot in snapshots {
        by_chain
            .entry(&snapshot.chain_id)
            .or_default()
            .push(snapshot);
    }
    by_chain
}

/// The stacks of an image, the lowest layer first.
pub(super) fn chain_ids(config: &ImageConfig) -> Vec<ChainId> {
    let mut chain_ids: Vec<ChainId> = Vec::new();
    for diff_id in &config.rootfs.diff_ids {
        chain_ids.push(ChainId::on(chain_ids.last(), diff_id));
    }
    chain_ids
}

/// How many snapshots are below each, by kind and chain: what stands on another, or names it, is
/// deeper than that one.
pub(super) fn depths(snapshots: &[StoredSnapshot]) -> HashMap<(&'static str, ChainId), usize> {
    let by_key: HashMap<_, _> = snapshots
        .iter()
        .map(|snapshot| ((snapshot.kind, &snapshot.chain_id), snapshot))
        .collect();
    snapshots
        .iter()
        .map(|snapshot| {
            let mut depth = 0;
            let mut next = Some(
                *by_key
                    .get(&(snapshot.kind, &snapshot.chain_id))
                    .unwrap_or(&snapshot),
            );
            // A parent is another snapshot than its children, in a store that is not damaged.
            while let Some(there) = next.filter(|_| depth <= snapshots.len()) {
                depth += 1;
                let parent = there.parent.as_ref();
                next = parent.and_then(|id| by_key.get(&(snapshot.kind, id)).copied());
            }
            ((snapshot.kind, snapshot.chain_id.clone()), depth)
        })
        .collect()
}

/// Removes snapshots in an order that leaves none without what it stands on.
pub(super) fn remove_snapshots(
    store: &Exclusive,
    all: &[StoredSnapshot],
    mut victims: Vec<StoredSnapshot>,
) -> Result<u64, Error> {
    let depths = depths(all);
    victims.sort_by_key(|victim| {
        std::cmp::Reverse(depths.get(&(victim.kind, victim.chain_id.clone())).copied())
    });
    let mut freed = 0;
    for victim in &victims {
        let size = store.view().snapshot_size(victim);
        store.remove_snapshot(victim)?;
        freed += size;
    }
    Ok(freed)
}

/// Removes what nothing names; of `candidates` also the layers whose snapshots stay. Returns the
/// bytes that this freed.
pub(super) fn collect(store: &Exclusive, candidates: &HashSet<Digest>) -> Result<u64, Error> {
    let view = store.view();
    let mut live = Live::of_tags(view)?;
    live.add_records(&view.records()?);
    let snapshots = view.snapshots()?;
    live.close(&snapshots);
    let (kept, victims): (Vec<_>, Vec<_>) = snapshots
        .iter()
        .cloned()
        .partition(|snapshot| live.chains.contains(&snapshot.chain_id));
    let mut freed = remove_snapshots(store, &snapshots, victims)?;

    let diff_ids: HashSet<_> = kept.iter().map(|snapshot| &snapshot.diff_id).collect();
    let layers = view.layers()?;
    let copies: HashSet<&Digest> = layers
        .iter()
        .filter(|layer| diff_ids.contains(&layer.diff_id))
        .flat_map(|layer| &layer.blobs)
        .filter(|digest| !candidates.contains(digest))
        .collect();
    for blob in view.blobs()? {
        if !live.blobs.contains(&blob.digest) && !copies.contains(&blob.digest) {
            store.remove_blob(&blob.digest)?;
            freed += blob.size;
        }
    }
    for layer in &layers {
        let is_named = |digest| live.blobs.contains(digest) || copies.contains(digest);
        if !diff_ids.contains(&layer.diff_id) && !layer.blobs.iter().any(is_named) {
            store.remove_layer(&layer.diff_id)?;
        }
    }
    Ok(freed)
}
