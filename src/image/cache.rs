//! The cache: what it takes, and how it is made smaller.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::time::SystemTime;

use super::Error;
use super::garbage::{Live, by_chain, collect, depths, remove_snapshots};
use super::list::list;
use crate::oci::ChainId;
use crate::store::{Exclusive, Remembered, StoredSnapshot, View};

/// What a clean-up of the cache may take.
#[derive(Debug, Clone, Default)]
pub(crate) struct CacheLimits {
    /// Also what images use: it is made again when it is needed.
    pub(crate) all: bool,
    /// Bytes that may stay.
    pub(crate) keep: Option<u64>,
    /// Only what was not used since.
    pub(crate) unused_since: Option<SystemTime>,
}

/// What a clean-up took.
#[derive(Debug, Clone, Default)]
pub(crate) struct Freed {
    /// What each thing was, least recently used first.
    pub(crate) names: Vec<String>,
    pub(crate) bytes: u64,
}

/// One kind of thing in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) kind: &'static str,
    pub(crate) count: usize,
    /// How many of them images use.
    pub(crate) active: usize,
    pub(crate) bytes: u64,
    pub(crate) reclaimable: u64,
}

impl Usage {
    fn new(kind: &'static str) -> Self {
        Self {
            kind,
            count: 0,
            active: 0,
            bytes: 0,
            reclaimable: 0,
        }
    }

    fn add(&mut self, size: u64, active: bool) {
        self.count += 1;
        self.bytes += size;
        if active {
            self.active += 1;
        } else {
            self.reclaimable += size;
        }
    }
}

/// What the store's space is used for: images by their blobs, layers by their directories, and the
/// cache. To count every directory it needs the user namespace.
pub(crate) fn usage(view: &View) -> Result<Vec<Usage>, Error> {
    let mut images = Usage::new("Images");
    let all = list(view)?;
    images.count = all.len();
    images.active = all.iter().filter(|image| !image.names.is_empty()).count();
    let tagged = Live::of_tags(view)?;
    let mut named = Live::default();
    for image in all.iter().flat_map(|image| &image.names) {
        named.add(view, &image.manifest);
    }
    for blob in view.blobs()? {
        images.bytes += blob.size;
        if !named.blobs.contains(&blob.digest) {
            images.reclaimable += blob.size;
        }
    }
    let mut layers = Usage::new("Layers");
    let snapshots = view.snapshots()?;
    let mut used = tagged;
    used.close(&snapshots);
    for snapshot in &snapshots {
        let active = used.chains.contains(&snapshot.chain_id);
        layers.add(view.snapshot_size(snapshot), active);
    }
    let mut records = Usage::new("Cache records");
    for record in view.records()? {
        let active = is_used(&record.remembered, &used.chains);
        records.add(record.size, active);
    }
    for item in view.context_memos()?.iter().chain(&view.block_indexes()?) {
        records.add(item.size, false);
    }
    let mut mounts = Usage::new("Cache mounts");
    for mount in view.cache_mounts()? {
        mounts.add(mount.size, false);
    }
    let mut partials = Usage::new("Partial blobs");
    for partial in view.partials()? {
        partials.add(partial.size, false);
    }
    Ok(vec![images, layers, records, mounts, partials])
}

fn is_used(remembered: &Remembered, chains: &HashSet<ChainId>) -> bool {
    matches!(remembered, Remembered::Step(Some(chain)) if chains.contains(chain))
}

/// Something that can go.
struct Item {
    what: What,
    size: u64,
    used: SystemTime,
    depth: usize,
    name: String,
    protected: bool,
}

enum What {
    Snapshot(StoredSnapshot),
    Path(PathBuf),
}

/// Removes from the cache, the least recently used first, until what stays is small enough; without
/// [`CacheLimits::keep`] everything that the other limits allow.
pub(crate) fn prune_cache(store: &Exclusive, limits: &CacheLimits) -> Result<Freed, Error> {
    let view = store.view();
    let snapshots = view.snapshots()?;
    let mut items = items(view, &snapshots, limits.all)?;
    items.sort_by_key(|item| (item.used, std::cmp::Reverse(item.depth)));
    let mut total: u64 = items.iter().map(|item| item.size).sum();
    let mut freed = Freed::default();
    let mut gone = Vec::new();
    for item in items {
        let is_recent = limits.unused_since.is_some_and(|since| item.used >= since);
        let fits = limits.keep.is_some_and(|keep| total <= keep);
        if item.protected || is_recent || fits {
            continue;
        }
        total -= item.size;
        freed.names.push(item.name);
        gone.push((item.what, item.size));
    }
    // Records before what they name.
    let mut victims = Vec::new();
    for (what, size) in gone {
        match what {
            What::Path(path) => {
                store.remove(&path)?;
                freed.bytes += size;
            }
            What::Snapshot(snapshot) => victims.push(snapshot),
        }
    }
    let going: HashSet<&ChainId> = victims.iter().map(|victim| &victim.chain_id).collect();
    for record in view.records()? {
        if is_step_of(&record.remembered, &going) {
            store.remove(&record.path)?;
        }
    }
    freed.bytes += remove_snapshots(store, &snapshots, victims)?;
    freed.bytes += collect(store, &HashSet::new())?;
    Ok(freed)
}

fn is_step_of(remembered: &Remembered, chains: &HashSet<&ChainId>) -> bool {
    matches!(remembered, Remembered::Step(Some(chain)) if chains.contains(chain))
}

/// Everything in the cache. A snapshot was used when the last record that needs it was.
fn items(view: &View, snapshots: &[StoredSnapshot], all: bool) -> Result<Vec<Item>, Error> {
    let mut tagged = Live::of_tags(view)?;
    tagged.close(snapshots);
    let records = view.records()?;
    let used = last_uses(snapshots, &records);
    let depths = depths(snapshots);
    let mut items: Vec<Item> = snapshots
        .iter()
        .map(|snapshot| Item {
            size: view.snapshot_size(snapshot),
            used: used
                .get(&snapshot.chain_id)
                .copied()
                .unwrap_or(snapshot.made),
            depth: depths
                .get(&(snapshot.kind, snapshot.chain_id.clone()))
                .copied()
                .unwrap_or_default(),
            name: snapshot.chain_id.to_string(),
            protected: !all && tagged.chains.contains(&snapshot.chain_id),
            what: What::Snapshot(snapshot.clone()),
        })
        .collect();
    let mut add = |path: PathBuf, size, used, protected| {
        let name = path.strip_prefix(view.root()).unwrap_or(&path);
        items.push(Item {
            size,
            used,
            depth: usize::MAX,
            name: name.display().to_string(),
            protected,
            what: What::Path(path),
        });
    };
    for record in records {
        let protected = !all && is_used(&record.remembered, &tagged.chains);
        add(record.path, record.size, record.used, protected);
    }
    for item in view
        .cache_mounts()?
        .into_iter()
        .chain(view.context_memos()?)
        .chain(view.block_indexes()?)
        .chain(view.partials()?)
    {
        add(item.path, item.size, item.used, false);
    }
    Ok(items)
}

fn last_uses(
    snapshots: &[StoredSnapshot],
    records: &[crate::store::StoredRecord],
) -> HashMap<ChainId, SystemTime> {
    let by_chain = by_chain(snapshots);
    let mut used: HashMap<ChainId, SystemTime> = HashMap::new();
    let own = snapshots.iter().map(|one| (one.chain_id.clone(), one.made));
    let recorded = records
        .iter()
        .filter_map(|record| match &record.remembered {
            Remembered::Step(Some(chain_id)) => Some((chain_id.clone(), record.used)),
            _ => None,
        });
    let mut waiting: Vec<(ChainId, SystemTime)> = own.chain(recorded).collect();
    while let Some((chain_id, time)) = waiting.pop() {
        if used.get(&chain_id).is_some_and(|there| *there >= time) {
            continue;
        }
        for snapshot in by_chain.get(&chain_id).into_iter().flatten() {
            let below = snapshot.parent.iter().chain(&snapshot.content);
            waiting.extend(below.map(|below| (below.clone(), time)));
        }
        used.insert(chain_id, time);
    }
    used
}
