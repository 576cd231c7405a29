//! Snapshots: the directories that layers are unpacked in and steps write to.
//!
//! A [`Snapshot`] is immutable and named by its [`ChainId`]; an [`Active`] one is being written and is
//! gone when dropped. Each holds only what its layer changed, in overlayfs format (`userxattr`), and
//! the table of owners of its files; the whole file system is the stack of it and its parents.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use nix::sys::stat::FileStat;
use serde::{Deserialize, Serialize};

use super::stack::{Directory, Layer, Snapshot};
use super::trees::WorkingTree;
use super::{Durable, Error, Store, create_private, tmp, write_atomically};
use crate::layer::Lower;
use crate::oci::{ChainId, DiffId};
use crate::ownership::Ownership;
use crate::sys;

/// The directory of a snapshot that has its files.
pub(super) const DIFF: &str = "diff";

/// A layer being written on top of a snapshot: `diff` is the overlay's upper directory.
#[derive(Debug)]
pub(crate) struct Active {
    parent: Snapshot,
    directory: PathBuf,
    /// How owners are set in `upper`.
    pub(super) ownership: Ownership,
    /// Where no overlay can be mounted: what a mount would show, once somebody has asked for it.
    pub(super) tree: OnceLock<WorkingTree>,
}

/// A complete layer that is not in the store yet.
#[derive(Debug)]
pub(crate) struct StagedSnapshot {
    active: Active,
    diff_id: DiffId,
    content: Option<ChainId>,
    packed: Option<Packing>,
}

/// `snapshot.json`: how this layer stands on others.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) parent: Option<ChainId>,
    pub(super) diff_id: DiffId,
    /// [`Store::link`]: the snapshot, on nothing, whose files are this layer's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) content: Option<ChainId>,
    /// How the tar of the layer is made of its files; `None` for one that came from elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) packed: Option<Packing>,
    /// The run that made it, which may have a marker in `unsynced`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) run: Option<String>,
}

/// How an own layer was packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Packing {
    /// Seconds since 1970 that no time in the tar is later than.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) clamp_mtime: Option<i64>,
}

/// The snapshots that are looked at.
pub(super) type Views = Mutex<BTreeMap<Option<ChainId>, Arc<OwnedFd>>>;

impl Store {
    pub(super) fn snapshot_path(&self, chain_id: &ChainId) -> PathBuf {
        self.root
            .join("snapshots")
            .join(self.kind())
            .join(chain_id.0.hex())
    }

    pub(crate) fn has_snapshot(&self, chain_id: &ChainId) -> bool {
        self.snapshot_path(chain_id).join("snapshot.json").exists()
    }

    /// The snapshot with this identity, all of its layers there.
    pub(crate) fn snapshot(&self, chain_id: Option<&ChainId>) -> Result<Snapshot, Error> {
        self.snapshot_above(chain_id, &Snapshot::default())
    }

    /// [`Store::snapshot`] that most likely stands on `known`, whose layers are not read again then.
    pub(crate) fn snapshot_above(
        &self,
        chain_id: Option<&ChainId>,
        known: &Snapshot,
    ) -> Result<Snapshot, Error> {
        let mut chain = Vec::new();
        let mut next = chain_id.cloned();
        while let Some(chain_id) = next {
            if known.chain_id() == Some(&chain_id) {
                chain.extend(known.chain.iter().cloned());
                break;
            }
            let path = self.snapshot_path(&chain_id).join("snapshot.json");
            let bytes =
                fs::read(&path).map_err(|_| Error::MissingSnapshot(chain_id.to_string()))?;
            let record: Record =
                serde_json::from_slice(&bytes).map_err(|source| Error::Damaged {
                    path: path.clone(),
                    source,
                })?;
            // A name that holds has no circle in what is below it.
            if ChainId::on(record.parent.as_ref(), &record.diff_id) != chain_id {
                return Err(Error::OtherSnapshot { path });
            }
            next = record.parent;
            chain.push(Layer::new(chain_id, record.content));
        }
        Ok(Snapshot { chain })
    }

    /// The layers' directories, topmost first.
    pub(crate) fn layer_paths(&self, snapshot: &Snapshot) -> Vec<PathBuf> {
        self.directories(snapshot).map(|(path, _)| path).collect()
    }

    /// The same for who packs what is above them.
    pub(crate) fn lowers(&self, snapshot: &Snapshot) -> Vec<Lower> {
        let shared =
            |(path, it): (PathBuf, &Directory)| Lower::with_outline(path, Arc::clone(&it.outline));
        self.directories(snapshot).map(shared).collect()
    }

    fn directories<'a>(
        &self,
        snapshot: &'a Snapshot,
    ) -> impl Iterator<Item = (PathBuf, &'a Directory)> {
        let snapshots = self.root.join("snapshots").join(self.kind());
        snapshot.directories().map(move |directory| {
            let name = format!("{}/{DIFF}", directory.chain_id.0.hex());
            (snapshots.join(name), directory)
        })
    }

    /// The directory with the files of the topmost layer, if that is a linked one: its tar says the
    /// same whatever is below.
    pub(crate) fn linked_files(&self, snapshot: &Snapshot) -> Option<PathBuf> {
        let content = snapshot.chain.first()?.content.as_ref()?;
        Some(self.snapshot_path(&content.chain_id).join(DIFF))
    }

    /// Puts the only layer of `linked`, a stack of one layer with `diff_id`, on `parent`: no file is
    /// copied, the new snapshot names the one that has them.
    pub(crate) fn link(
        &self,
        linked: &Snapshot,
        diff_id: DiffId,
        parent: &Snapshot,
    ) -> Result<Snapshot, Error> {
        if parent.chain.is_empty() {
            return Ok(linked.clone());
        }
        let chain_id = ChainId::on(parent.chain_id(), &diff_id);
        if self.has_snapshot(&chain_id) {
            return self.snapshot_above(Some(&chain_id), parent);
        }
        let active = self.prepare(parent)?;
        self.publish_snapshot(StagedSnapshot {
            active,
            diff_id,
            content: linked.chain_id().cloned(),
            packed: None,
        })
    }

    /// The snapshot's whole file system, read-only, as a directory that is attached nowhere.
    pub(crate) fn view(&self, snapshot: &Snapshot) -> Result<OwnedFd, Error> {
        if let Some(trees) = &self.trees {
            return self.view_tree(trees, snapshot);
        }
        let mut lowers = self.layer_paths(snapshot);
        check_count(lowers.len())?;
        // One directory alone would be looked at without an overlay, which hides its own attributes.
        if lowers.len() < 2 {
            lowers.push(self.scratch()?);
        }
        sys::mount::overlay(&lowers, None, None).map_err(|source| Error::Mount {
            what: snapshot
                .chain_id()
                .map_or_else(|| "scratch".to_owned(), ToString::to_string),
            source,
        })
    }

    /// [`Store::view`] for one of many that look at the snapshot: it stays for as long as the store is open.
    pub(crate) fn shared_view(&self, snapshot: &Snapshot) -> Result<Arc<OwnedFd>, Error> {
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        let chain_id = snapshot.chain_id().cloned();
        if let Some(view) = views.get(&chain_id) {
            return Ok(Arc::clone(view));
        }
        let view = Arc::new(self.view(snapshot)?);
        views.insert(chain_id, Arc::clone(&view));
        Ok(view)
    }

    /// Starts a layer on `parent`. Its root directory looks like the parent's.
    pub(crate) fn prepare(&self, parent: &Snapshot) -> Result<Active, Error> {
        if self.trees.is_none() {
            check_count(parent.directories().count())?;
        }
        let directory = self.scratch()?;
        let diff = directory.join(DIFF);
        let active = Active {
            parent: parent.clone(),
            directory,
            ownership: self.ownership.of_layer(&diff),
            tree: OnceLock::new(),
        };
        fs::DirBuilder::new()
            .mode(0o755)
            .create(&diff)
            .map_err(Error::io("create", &diff))?;
        fs::set_permissions(&diff, fs::Permissions::from_mode(0o755))
            .map_err(Error::io("chmod", &diff))?;
        self.copy_root(&active)?;
        Ok(active)
    }

    /// Gives the layer's root directory the owner and mode of its parent's.
    fn copy_root(&self, active: &Active) -> Result<(), Error> {
        let Some(below) = active.parent.chain_id() else {
            return Ok(());
        };
        let like = self.root_of(&self.snapshot_path(below).join(DIFF))?;
        let (uid, gid) = (like.st_uid, like.st_gid);
        let open =
            sys::fs::open_directory(&active.upper()).map_err(|source| Error::Prepare { source })?;
        if (uid, gid) != (0, 0) {
            let set = active.ownership.set(&open, uid, gid);
            set.map_err(|source| Error::PrepareOwner { source })?;
        }
        let mode = sys::fs::permissions(&like);
        if mode != 0o755 {
            active
                .ownership
                .set_mode(&open, mode)
                .map_err(|source| Error::Prepare { source })?;
        }
        Ok(())
    }

    /// Owner and mode of the directory `diff` of a layer.
    fn root_of(&self, diff: &Path) -> Result<FileStat, Error> {
        let look = || {
            let open = sys::fs::open_directory(diff)?;
            Ok((sys::fs::stat(&open)?, open))
        };
        let (mut stat, open) = look().map_err(|source| Error::Prepare { source })?;
        let owners = self.owners_of(&[diff.to_owned()]);
        owners
            .of(&open, OsStr::new("."), &mut stat)
            .map_err(|source| Error::PrepareOwner { source })?;
        Ok(stat)
    }

    /// Puts a layer that was prepared on the empty stack on `parent` instead. A root directory that
    /// the layer says nothing about looks like the parent's.
    pub(crate) fn rebase(&self, mut active: Active, parent: &Snapshot) -> Result<Active, Error> {
        active.parent = parent.clone();
        let own = self.root_of(&active.upper())?;
        if (own.st_uid, own.st_gid, sys::fs::permissions(&own)) == (0, 0, 0o755) {
            self.copy_root(&active)?;
        }
        Ok(active)
    }

    /// The active layer over its parents, writable, as a directory that is attached nowhere. It must
    /// be closed before the next one of the same layer is mounted.
    pub(crate) fn mount(&self, active: &Active) -> Result<OwnedFd, Error> {
        if let Some(tree) = self.tree(active)? {
            return sys::fs::open_directory(&tree).map_err(|source| Error::Prepare { source });
        }
        let mut lowers = self.layer_paths(&active.parent);
        if lowers.is_empty() {
            lowers.push(self.scratch()?);
        }
        let work = active.work()?;
        sys::mount::overlay(&lowers, Some(&active.upper()), Some(&work)).map_err(|source| {
            Error::Mount {
                what: "a new layer".to_owned(),
                source,
            }
        })
    }

    /// Ends the layer: what is in it now is what `diff_id` was computed from, by packing it or, without
    /// `packed`, by unpacking.
    pub(crate) fn stage(
        &self,
        active: Active,
        diff_id: DiffId,
        packed: Option<Packing>,
    ) -> StagedSnapshot {
        StagedSnapshot {
            active,
            diff_id,
            content: None,
            packed,
        }
    }

    /// Puts a layer in its place and returns the stack with it on top. When another build made the
    /// same layer meanwhile, theirs stays.
    pub(crate) fn publish_snapshot(&self, staged: StagedSnapshot) -> Result<Snapshot, Error> {
        let StagedSnapshot {
            mut active,
            diff_id,
            content,
            packed,
        } = staged;
        let parent = active.parent.chain_id().cloned();
        let chain_id = ChainId::on(parent.as_ref(), &diff_id);
        if let Some(tree) = active.tree.take() {
            self.rest(Some(&chain_id), tree);
        }
        if self.has_snapshot(&chain_id) {
            return self.snapshot_above(Some(&chain_id), &active.parent);
        }
        let top = Layer::new(chain_id.clone(), content.clone());
        let snapshot = Snapshot {
            chain: std::iter::once(top)
                .chain(active.parent.chain.clone())
                .collect(),
        };
        let work = active.directory.join("work");
        tmp::remove_tree(&work)?;
        let record = crate::oci::to_json(&Record {
            parent,
            diff_id,
            content,
            packed,
            run: Some(self.mark_run()?),
        });
        write_atomically(
            &active.directory.join("snapshot.json"),
            &record,
            Durable::No,
        )?;
        let place = self.snapshot_path(&chain_id);
        match fs::rename(&active.directory, &place) {
            Ok(()) => Ok(snapshot),
            // rename(2) answers so when the name is a directory with something in it.
            Err(_) if self.has_snapshot(&chain_id) => {
                self.snapshot_above(Some(&chain_id), &active.parent)
            }
            Err(source) => Err(Error::io("publish", &place)(source)),
        }
    }
}

impl Active {
    /// The overlay's upper directory: what the layer holds.
    pub(crate) fn upper(&self) -> PathBuf {
        self.directory.join(DIFF)
    }

    /// How the owners of the layer's files are set, where they are written: in the tree once
    /// [`Store::mount`] was asked for one, else in the upper directory.
    pub(crate) fn ownership(&self) -> &Ownership {
        match self.tree.get() {
            Some(tree) => tree.ownership(),
            None => &self.ownership,
        }
    }

    pub(crate) fn parent(&self) -> &Snapshot {
        &self.parent
    }

    /// A fresh work directory: one that a volatile overlay used must not be used again
    /// (Documentation/filesystems/overlayfs.rst, "Volatile mount").
    pub(crate) fn work(&self) -> Result<PathBuf, Error> {
        let work = self.directory.join("work");
        tmp::remove_tree(&work)?;
        create_private(&work)?;
        Ok(work)
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        // After publication the directory is elsewhere; otherwise what stays, the next run removes.
        drop(tmp::remove_tree(&self.directory));
    }
}

/// The most directories that an overlay can have below its upper one (`OVL_MAX_STACK`).
pub(crate) const MAX_LAYERS: usize = 500;

fn check_count(count: usize) -> Result<(), Error> {
    if count <= MAX_LAYERS {
        return Ok(());
    }
    Err(Error::Layers {
        count,
        limit: MAX_LAYERS,
    })
}
