//! Whole trees in `tmp`, where no overlay can be mounted.
//!
//! Snapshots are kept layer by layer here too; a tree is what an overlay would show of them, as files
//! of its own. A step works in one, and what it changed becomes the layer. The tree then is that of the
//! new snapshot and rests until the next step of the stage takes it, so a stage costs one copy of its
//! base, and each step a look at every file and a copy of what it changed. Only a stage that starts
//! from a snapshot which others work on, and a step after a failed one, have a tree made anew.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Active, Error, Snapshot, Store, create_private, tmp};
use crate::layer::tree::{self, Layers, Listing, Owned};
use crate::oci::ChainId;
use crate::ownership::Ownership;
use crate::sys;

/// The trees of one open store.
#[derive(Debug, Default)]
pub(super) struct Trees {
    /// Trees that nobody works in, each with the snapshot that it shows.
    resting: Mutex<Vec<(Option<ChainId>, WorkingTree)>>,
    /// Trees that are only read, until the store is closed.
    viewed: Mutex<BTreeMap<String, WorkingTree>>,
}

/// A tree that one step at a time works in; it is removed with this value.
#[derive(Debug)]
pub(crate) struct WorkingTree {
    path: PathBuf,
    ownership: Ownership,
    /// How its files were when the last step was over.
    listing: Mutex<Listing>,
    /// Something of the last step is in the tree that is in no layer.
    is_changed: Mutex<bool>,
}

impl Drop for WorkingTree {
    fn drop(&mut self) {
        // What stays behind, the next run removes.
        if let Some(directory) = self.path.parent() {
            drop(tmp::remove_tree(directory));
        }
    }
}

impl WorkingTree {
    pub(super) fn ownership(&self) -> &Ownership {
        &self.ownership
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn open(path: &Path) -> Result<OwnedFd, Error> {
    sys::fs::open_directory(path).map_err(|source| Error::Prepare { source })
}

impl Store {
    /// Whether layers are written in whole trees, because no overlay can be mounted.
    pub(crate) fn is_flat(&self) -> bool {
        self.trees.is_some()
    }

    /// The tree that `active` shows, in a flat store: what is written to it becomes the layer when
    /// [`Store::settle`] is called. `None` in any other.
    pub(crate) fn tree(&self, active: &Active) -> Result<Option<PathBuf>, Error> {
        let Some(trees) = &self.trees else {
            return Ok(None);
        };
        if active.tree.get().is_none() {
            let tree = match take(trees, active.parent().chain_id()) {
                Some(tree) => tree,
                None => self.merged(active.parent())?,
            };
            let newest = lock(&tree.listing).newest();
            let scratch = open(self.tmp()?.path())?;
            let name = format!(
                "clock-{}",
                tree.path
                    .parent()
                    .and_then(Path::file_name)
                    .unwrap_or_default()
                    .display()
            );
            sys::clock::wait_until_past(scratch, OsStr::new(&name), newest)
                .map_err(|source| Error::Prepare { source })?;
            drop(active.tree.set(tree));
        }
        Ok(active.tree.get().map(|tree| tree.path.clone()))
    }

    /// Brings what was changed in the tree of `active` to its upper directory. Nothing may be writing
    /// to the tree any more. Without a tree there is nothing to bring.
    pub(crate) fn settle(&self, active: &Active) -> Result<(), Error> {
        let Some(tree) = active.tree.get() else {
            return Ok(());
        };
        let lowers = self.lowers(active.parent());
        let mut listing = lock(&tree.listing);
        let root = open(&tree.path)?;
        let upper = open(&active.upper())?;
        let changed = tree::changes(
            Owned {
                root: root.as_fd(),
                owners: &self.owners_of(std::slice::from_ref(&tree.path)),
            },
            &listing,
            Layers {
                roots: &lowers,
                owners: &self.owners_on(None, active.parent()),
            },
            (upper.as_fd(), &active.ownership),
        )
        .map_err(tree_failed)?;
        *listing = changed.listing;
        *lock(&tree.is_changed) = changed.files > 0;
        Ok(())
    }

    /// Tells that `paths` of the tree of `active` were moved away and back untouched.
    pub(crate) fn renew(&self, active: &Active, paths: &[PathBuf]) -> Result<(), Error> {
        let Some(tree) = active.tree.get() else {
            return Ok(());
        };
        let root = open(&tree.path)?;
        for path in paths {
            let parent = path.parent().unwrap_or(Path::new(""));
            let flags = nix::fcntl::OFlag::O_PATH | nix::fcntl::OFlag::O_DIRECTORY;
            let Ok(parent) = sys::fs::open_in_root(&root, parent, flags, 0) else {
                continue;
            };
            let Some(name) = path.file_name() else {
                continue;
            };
            let stat =
                sys::fs::try_stat_at(parent, name).map_err(|source| Error::Prepare { source })?;
            if let Some(stat) = stat {
                lock(&tree.listing).renew(path, &stat);
            }
        }
        Ok(())
    }

    /// Ends a layer that turned out to be empty: its tree still is that of the parent.
    pub(crate) fn abandon(&self, mut active: Active) {
        if let Some(tree) = active.tree.take()
            && !*lock(&tree.is_changed)
        {
            self.rest(active.parent().chain_id(), tree);
        }
    }

    pub(super) fn rest(&self, shows: Option<&ChainId>, tree: WorkingTree) {
        if let Some(trees) = &self.trees {
            lock(&trees.resting).push((shows.cloned(), tree));
        }
    }

    /// The tree that [`Store::view`] shows of the snapshot, once it has.
    pub(super) fn viewed(&self, snapshot: &Snapshot) -> Option<PathBuf> {
        let viewed = lock(&self.trees.as_ref()?.viewed);
        Some(viewed.get(&shown(snapshot))?.path.clone())
    }

    /// The whole file system of `snapshot`, to be read only.
    pub(super) fn view_tree(&self, trees: &Trees, snapshot: &Snapshot) -> Result<OwnedFd, Error> {
        let shown = shown(snapshot);
        let mut viewed = lock(&trees.viewed);
        if !viewed.contains_key(&shown) {
            let tree = match take(trees, snapshot.chain_id()) {
                Some(tree) => tree,
                None => self.merged(snapshot)?,
            };
            viewed.insert(shown.clone(), tree);
        }
        open(&viewed[&shown].path)
    }

    /// A new tree of the layers of `snapshot`.
    fn merged(&self, snapshot: &Snapshot) -> Result<WorkingTree, Error> {
        // With a directory around it, for the table of owners beside it.
        let path = self.scratch()?.join("tree");
        create_private(&path)?;
        let mut tree = WorkingTree {
            ownership: self.ownership.of_layer(&path),
            path,
            listing: Mutex::default(),
            is_changed: Mutex::new(false),
        };
        fs::set_permissions(&tree.path, fs::Permissions::from_mode(0o755))
            .map_err(Error::io("chmod", &tree.path))?;
        let root = open(&tree.path)?;
        let paths = self.layer_paths(snapshot);
        let layers: Vec<_> = paths
            .iter()
            .map(|path| open(path))
            .collect::<Result<_, _>>()?;
        let owners = self.owners_on(None, snapshot);
        tree::merge(&layers, &owners, root.as_fd(), &tree.ownership).map_err(tree_failed)?;
        tree.listing = Mutex::new(tree::list(root.as_fd()).map_err(tree_failed)?);
        Ok(tree)
    }
}

fn shown(snapshot: &Snapshot) -> String {
    snapshot
        .chain_id()
        .map_or_else(String::new, ToString::to_string)
}

fn tree_failed(source: tree::Error) -> Error {
    Error::Tree {
        source: Box::new(source),
    }
}

/// A resting tree that shows this snapshot.
fn take(trees: &Trees, shows: Option<&ChainId>) -> Option<WorkingTree> {
    let mut resting = lock(&trees.resting);
    let index = resting
        .iter()
        .position(|(shown, _)| shown.as_ref() == shows)?;
    Some(resting.swap_remove(index).1)
}
