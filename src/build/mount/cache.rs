//! `type=cache`: directories that outlive the build.

use std::collections::BTreeMap;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use super::super::add;
use super::super::engine::Engine;
use super::super::error::StepError;
use super::super::key::KeyBuilder;
use super::super::source_tree::SourceTree;
use super::bind;
use crate::dockerfile::{CacheMount, CacheSharing};
use crate::layer::tree::{Owned, copy_tree};
use crate::oci::Digest;
use crate::store::{CacheDirectory, CacheFailure, Sharing};
use crate::sys;

#[derive(Debug)]
pub(super) struct Cache {
    /// Namespace and id, as BuildKit joins them.
    id: String,
    /// What one directory is kept for: the id and what the directory began with.
    pub(super) key: Digest,
    sharing: Sharing,
    seed: Option<(SourceTree, String)>,
    /// Mode, uid and gid of a directory that is made for the mount.
    attributes: Option<(u32, u32, u32)>,
    pub(super) read_only: bool,
}

impl Cache {
    pub(super) fn new(
        engine: &Engine<'_>,
        mount: CacheMount,
        from: Option<SourceTree>,
    ) -> Result<Self, StepError> {
        let namespace = engine.plan.globals.build_arg("BUILDKIT_CACHE_MOUNT_NS");
        // The target as it is written, not where it leads: BuildKit's rule.
        let id = mount.id.unwrap_or_else(|| clean(&mount.target));
        let id = format!("{}/{id}", namespace.unwrap_or(""));
        let source = add::join("/", mount.source.as_deref().unwrap_or(""));
        let is_owned = mount.mode.is_some() || mount.uid.is_some() || mount.gid.is_some();
        // With any of mode, uid and gid the cache is a new directory beside what is in the source;
        // with a source below the root they mean nothing (BuildKit again).
        let attributes = (is_owned && source == "/").then(|| {
            let (uid, gid) = (mount.uid.unwrap_or(0), mount.gid.unwrap_or(0));
            (mount.mode.unwrap_or(0o755), uid, gid)
        });
        let seeded = match from {
            Some(tree) => Some(tree),
            None if source == "/" => None,
            None => {
                let message = format!("{source:?}: not found (the cache mount has no from)");
                return Err(StepError::Value { message });
            }
        };
        let origin = match &seeded {
            None => None,
            Some(SourceTree::Rootfs { chain, .. }) => chain.as_ref().map(|c| c.0.to_string()),
            Some(tree) => Some(bind::content(engine, tree, &source)?.to_string()),
        };
        let identity = serde_json::to_vec(&(&id, origin, &source, attributes))
            .expect("texts and numbers are JSON");
        Ok(Self {
            id,
            key: Digest::of(&identity),
            sharing: match mount.sharing {
                CacheSharing::Shared => Sharing::Shared,
                CacheSharing::Private => Sharing::Private,
                CacheSharing::Locked => Sharing::Locked,
            },
            seed: seeded.map(|tree| (tree, source)),
            attributes,
            read_only: mount.read_only,
        })
    }

    /// The options count, and what the cache begins with; not what is in it.
    pub(super) fn add_to_key(&self, key: &mut KeyBuilder) {
        key.field("cache", &self.id)
            .field("origin", self.key.as_str())
            .field("sharing", format!("{:?}", self.sharing))
            .field("ro", [u8::from(self.read_only)]);
    }

    fn fill(&self, engine: &Engine<'_>, directory: &Path) -> Result<(), StepError> {
        let Some((mode, uid, gid)) = self.attributes else {
            return match &self.seed {
                Some((tree, source)) => bind::seed(engine, tree, source, directory),
                None => Ok(()),
            };
        };
        let path = || directory.display().to_string();
        let failed = |source| StepError::Directory {
            path: path(),
            source,
        };
        let open = sys::fs::open_directory(directory).map_err(failed)?;
        let ownership = engine.store.ownership();
        ownership
            .set(&open, uid, gid)
            .map_err(|source| StepError::SetOwner {
                path: path(),
                source,
            })?;
        sys::fs::chmod(&open, mode).map_err(failed)
    }
}

/// Takes the directories of one RUN, each once, in an order that is the same for every RUN: so two
/// of them never wait for each other.
pub(super) fn take<'a>(
    engine: &Engine<'_>,
    caches: impl Iterator<Item = &'a Cache>,
) -> Result<BTreeMap<Digest, CacheDirectory>, StepError> {
    let mut wanted: BTreeMap<&Digest, &Cache> = BTreeMap::new();
    for cache in caches {
        wanted.entry(&cache.key).or_insert(cache);
    }
    let mut taken = BTreeMap::new();
    for (key, cache) in wanted {
        // BuildKit makes the directory for mode, uid and gid in a step, which --no-cache repeats.
        if engine.request.no_cache && cache.attributes.is_some() {
            let renewed = &engine.mounted.renewed;
            let mut renewed = renewed.lock().unwrap_or_else(PoisonError::into_inner);
            if renewed.insert(key.clone()) {
                engine.store.renew_cache_directory(key)?;
            }
        }
        let directory = engine
            .store
            .cache_directory(
                key,
                // A directory can be in one tree at a time.
                if engine.store.is_flat() {
                    Sharing::Locked
                } else {
                    cache.sharing
                },
                &mut |directory| cache.fill(engine, directory),
                &|| !engine.cancel.is_canceled(),
            )
            .map_err(|failure| match failure {
                CacheFailure::Store(source) => StepError::Store { source },
                CacheFailure::Fill(error) => error,
                CacheFailure::Abandoned => StepError::Canceled,
            })?;
        taken.insert(key.clone(), directory);
    }
    Ok(taken)
}

/// A copy of the directory, in a store where nothing can be mounted: what is moved into a tree cannot
/// be protected there.
pub(super) fn copy_of(engine: &Engine<'_>, directory: &Path) -> Result<PathBuf, StepError> {
    let copy = engine.store.scratch()?;
    let open = |path: &Path| {
        sys::fs::open_directory(path).map_err(|source| StepError::Directory {
            path: path.display().to_string(),
            source,
        })
    };
    let (from, into) = (open(directory)?, open(&copy)?);
    let from = Owned {
        root: from.as_fd(),
        owners: &engine.store.owners_of(&[directory.to_owned()]),
    };
    copy_tree(from, into.as_fd(), engine.store.ownership())
        .map_err(|source| StepError::Tree { source })?;
    Ok(copy)
}

/// Go's `path.Clean`.
fn clean(path: &str) -> String {
    match crate::context::ignore::clean(path) {
        cleaned if cleaned.is_empty() => ".".to_owned(),
        cleaned => cleaned,
    }
}
