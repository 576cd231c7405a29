//! The store: everything rbuild keeps on disk, as files.
//!
//! ```text
//! ROOT/version              format of the store, "1"
//! ROOT/lock                 flock: shared by every user of the store, exclusive for who removes
//! ROOT/oci/                 an OCI image layout: blobs by digest, tags in index.json
//! ROOT/layers/HEX.json      DiffId -> the blobs that hold this layer
//! ROOT/layers/HEX.size      DiffId -> bytes of its tar
//! ROOT/snapshots/KIND/HEX/  ChainId -> `diff/` in overlayfs format, `owners` with what its files
//!                           cannot say of theirs, and `snapshot.json`, which may name another
//!                           snapshot that has the files of this layer; KIND is the way owners are
//!                           kept, with `flat-` before it where nothing can be mounted
//! ROOT/unsynced/RUN         a run whose snapshots may not have reached the disk yet, with the boot's id
//! ROOT/cache/XX/HEX.json    CacheKey -> what the step made
//! ROOT/cache-mounts/KIND/HEX/  directories of `RUN --mount=type=cache`
//! ROOT/contexts/HEX.memo    stat records of build contexts
//! ROOT/blocks/HEX.index     instruction -> the blocks of the blob that it made last
//! ROOT/partial/HEX          the beginning of a blob whose download broke off
//! ROOT/reserve              space that a removal on a full disk has for a new list of tags
//! ROOT/stub/                the lowest layer below every RUN: its mount points
//! ROOT/tmp/NAME[.lock]      what is being made; NAME belongs to who holds the lock
//! ```
//!
//! Crash rules: a file appears by `rename(2)` of a complete one, so readers need no lock. What an image
//! consists of and the list of tags are flushed to disk, with the directories they are in, before a tag
//! names them; so is what an empty store has. Snapshots are not, since a build writes far more of them
//! than it needs to survive: a run flushes one marker before its first snapshot, the marker goes when a
//! later run has seen everything flushed, and after a power cut the next run drops the snapshots of the
//! runs that have one (`unsynced.rs`). Cache records, lists of a layer's blobs and blobs without a tag are
//! not flushed either: what is left of them is shorter or gone, and then made anew. Whatever is in `tmp`
//! without a live owner is removed by the next run; the beginning of a small file (`.new-*`) stays beside
//! its place until somebody has the store alone. `check.rs` says what is damage and what such a leftover.
//! What is in `partial` is no content: only a download of the same blob goes on with it, and what is old
//! or too much is removed (`partials.rs`).

#[cfg(any(test, fuzzing))]
pub(crate) mod assertions;
mod blobs;
mod block_indexes;
mod cache_mounts;
mod check;
mod complete;
mod contents;
mod error;
mod exclusive;
mod owners;
mod partials;
pub(crate) mod place;
mod records;
mod snapshots;
mod stack;
mod tags;
mod tmp;
mod trees;
mod unsynced;
mod view;
mod writeback;

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

pub(crate) use blobs::{BlobWriter, StagedBlob};
pub(crate) use cache_mounts::{CacheDirectory, CacheFailure, Sharing};
pub(crate) use check::{Checkup, Counts, Depth, Finding, Level};
pub(crate) use contents::{Remembered, StoredRecord, StoredSnapshot};
pub(crate) use error::Error;
pub(crate) use exclusive::Exclusive;
pub(crate) use records::{CacheRecord, Download, LayerBlob};
pub(crate) use snapshots::{Active, MAX_LAYERS, Packing, StagedSnapshot};
pub(crate) use stack::Snapshot;
pub(crate) use tags::REF_NAME;
pub(crate) use view::View;

use crate::ownership::Ownership;

/// The only format this program reads and writes.
const VERSION: &str = "1\n";

/// What is there from the beginning.
const DIRECTORIES: [&str; 7] = [
    "layers",
    "snapshots",
    "unsynced",
    "cache",
    "contexts",
    "tmp",
    "oci/blobs/sha256",
];

/// A file of no content that matters, and its size in bytes.
const RESERVE: &str = "reserve";
const RESERVED: usize = 64 << 10;

/// The directories of `snapshots` and `cache-mounts`: the ways owners are kept.
const KINDS: [&str; 4] = ["mapped", "recorded", "flat-mapped", "flat-recorded"];

/// An open store. Shared between threads by reference; several processes may have one open.
#[derive(Debug)]
pub(crate) struct Store {
    root: PathBuf,
    ownership: Ownership,
    /// Whole trees, where no overlay can be mounted.
    trees: Option<trees::Trees>,
    /// `None` where everything is there already, see [`Store::open_complete`].
    tmp: Option<tmp::Scratch>,
    marker: unsynced::Marker,
    views: snapshots::Views,
    /// Held for as long as the store is open, so that nobody removes what this build uses.
    _lock: File,
}

impl Store {
    /// Opens the store at `root`, making it (mode 0700) when it is not there, and removes what dead
    /// builds left behind. Must be called inside the build's user namespace: leftovers may belong to
    /// subordinate ids.
    pub(crate) fn open(root: &Path, ownership: Ownership) -> Result<Self, Error> {
        Self::open_as(root, ownership, None)
    }

    /// [`Store::open`] where no overlay can be mounted: [`Store::view`] and [`Store::mount`] answer
    /// with whole trees in `tmp`.
    pub(crate) fn open_flat(root: &Path, ownership: Ownership) -> Result<Self, Error> {
        Self::open_as(root, ownership, Some(trees::Trees::default()))
    }

    fn open_as(
        root: &Path,
        ownership: Ownership,
        trees: Option<trees::Trees>,
    ) -> Result<Self, Error> {
        let root = std::path::absolute(root).map_err(Error::io("make absolute", root))?;
        let fresh = !root.join("version").exists();
        if fresh {
            create_private(&root)?;
        }
        let metadata = fs::metadata(&root).map_err(Error::io("open", &root))?;
        // Layers hold set-user-ID programs that belong to the invoking user or its subordinate ids;
        // whoever can reach them becomes that user.
        if metadata.mode() & 0o077 != 0 {
            fs::set_permissions(&root, fs::Permissions::from_mode(0o700))
                .map_err(Error::io("make private", &root))?;
        }
        let lock_path = root.join("lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(Error::io("open for writing", &lock_path))?;
        lock.lock_shared().map_err(Error::io("lock", &lock_path))?;
        if fresh {
            create(&root)?;
        } else {
            is_known(&root)?;
        }
        create_reserve(&root.join(RESERVE));
        create_private(
            &root
                .join("snapshots")
                .join(kind_of(&ownership, trees.is_some())),
        )?;
        partials::sweep(&root.join("partial"));
        let tmp = tmp::Scratch::create(&root.join("tmp"))?;
        let store = Self {
            root,
            ownership,
            trees,
            tmp: Some(tmp),
            marker: unsynced::Marker::default(),
            views: snapshots::Views::default(),
            _lock: lock,
        };
        store.settle_snapshots()?;
        Ok(store)
    }

    /// The way owners are kept; that of a layer being made is [`Active::ownership`].
    pub(crate) fn ownership(&self) -> &Ownership {
        &self.ownership
    }

    /// The directory of `snapshots` and `cache-mounts` with what this kind of build makes.
    fn kind(&self) -> &'static str {
        kind_of(&self.ownership, self.trees.is_some())
    }

    /// A new empty directory on the store's file system, removed with the store's handle at the
    /// latest (or by the next run after a crash).
    pub(crate) fn scratch(&self) -> Result<PathBuf, Error> {
        self.tmp()?.directory()
    }

    /// The layer that holds the mount points a RUN needs and nothing else.
    pub(crate) fn stub(&self) -> PathBuf {
        self.root.join("stub")
    }

    /// Where the stat records of the context at `path` (any stable text) are kept.
    pub(crate) fn context_memo(&self, path: &Path) -> PathBuf {
        use std::os::unix::ffi::OsStrExt as _;
        let name = crate::oci::Digest::of(path.as_os_str().as_bytes());
        self.root
            .join("contexts")
            .join(format!("{}.memo", name.hex()))
    }
}

/// Makes what an empty store has, the version last: a store without one is made again.
fn create(root: &Path) -> Result<(), Error> {
    // Who comes second must not put an empty list of tags over the first one's.
    let _lock = tags::lock_index(root)?;
    if is_known(root)? {
        return Ok(());
    }
    for directory in DIRECTORIES {
        create_private(&root.join(directory))?;
    }
    tags::create_layout(&root.join("oci"))?;
    create_stub(&root.join("stub"))?;
    sync_directory(&root.join("oci/blobs"))?;
    sync_directory(root)?;
    write_atomically(&root.join("version"), VERSION.as_bytes(), Durable::Yes)
}

/// Flushes the names in a directory to disk.
fn sync_directory(path: &Path) -> Result<(), Error> {
    let open = File::open(path).and_then(|directory| directory.sync_all());
    open.map_err(Error::io("sync", path))
}

fn kind_of(ownership: &Ownership, is_flat: bool) -> &'static str {
    match (ownership.directory(), is_flat) {
        (kind, false) => kind,
        ("mapped", true) => "flat-mapped",
        (_, true) => "flat-recorded",
    }
}

/// Whether there is a store at `root`. One of another format is an error.
fn is_known(root: &Path) -> Result<bool, Error> {
    let path = root.join("version");
    match fs::read_to_string(&path) {
        Ok(found) if found == VERSION => Ok(true),
        Ok(found) => Err(Error::Version {
            root: root.to_owned(),
            found: found.trim().to_owned(),
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io("read", &path)(error)),
    }
}

/// Whether a file has to survive a power cut once its name is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Durable {
    Yes,
    No,
}

/// Replaces `path` by a file with `content`: readers see the old or the new one, whole.
fn write_atomically(path: &Path, content: &[u8], durable: Durable) -> Result<(), Error> {
    let directory = path
        .parent()
        .expect("files of the store are in directories");
    let write = || -> std::io::Result<()> {
        let mut file = tempfile::Builder::new()
            .prefix(".new-")
            .tempfile_in(directory)?;
        file.write_all(content)?;
        if durable == Durable::Yes {
            file.as_file().sync_all()?;
        }
        file.persist(path).map_err(|error| error.error)?;
        if durable == Durable::Yes {
            File::open(directory)?.sync_all()?;
        }
        Ok(())
    };
    write().map_err(Error::io("write", path))
}

/// Takes the reserve where there is none, or one that a killed process began. A disk that has no space
/// for it now may have later.
fn create_reserve(path: &Path) {
    let is_whole = fs::metadata(path).is_ok_and(|file| file.len() == RESERVED as u64);
    if !is_whole && fs::write(path, [0; RESERVED]).is_err() {
        drop(fs::remove_file(path));
    }
}

/// Creates `path` and its parents, mode 0700; what exists is left alone.
fn create_private(path: &Path) -> Result<(), Error> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(Error::io("create", path))
}

/// What the stub has: paths in it, and whether each is a file (0644) or a directory (0755).
const STUB: [(&str, bool); 7] = [
    ("", false),
    ("dev", false),
    ("proc", false),
    ("sys", false),
    ("etc", false),
    ("etc/hosts", true),
    ("etc/resolv.conf", true),
];

fn create_stub(path: &Path) -> Result<(), Error> {
    for (name, is_file) in STUB {
        let place = path.join(name);
        if is_file {
            File::create(&place).map_err(Error::io("create", &place))?;
        } else {
            fs::create_dir_all(&place).map_err(Error::io("create", &place))?;
        }
        let mode = if is_file { 0o644 } else { 0o755 };
        fs::set_permissions(&place, fs::Permissions::from_mode(mode))
            .map_err(Error::io("chmod", &place))?;
    }
    Ok(())
}
