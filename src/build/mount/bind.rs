//! `type=bind`: a stage, an image or a context, looked at in place.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use nix::fcntl::OFlag;

use super::super::copy::{Destination, Selection, copy, select_path};
use super::super::engine::Engine;
use super::super::error::StepError;
use super::super::key::KeyBuilder;
use super::super::source_tree::{OpenContext, SourceTree};
use crate::context::digest::Memo;
use crate::dockerfile::BindMount;
use crate::oci::Digest;
use crate::sandbox::{Mount, Writable};
use crate::store::{Active, Snapshot};
use crate::sys;

/// The name of a copy in its directory.
const COPY: &str = "tree";

#[derive(Debug)]
pub(super) struct Bind {
    tree: SourceTree,
    source: String,
    read_write: bool,
    content: Digest,
}

impl Bind {
    pub(super) fn new(
        engine: &Engine<'_>,
        mount: BindMount,
        tree: SourceTree,
    ) -> Result<Self, StepError> {
        let source = mount.source.unwrap_or_else(|| "/".to_owned());
        let content = content(engine, &tree, &source)?;
        Ok(Self {
            tree,
            source,
            read_write: mount.read_write,
            content,
        })
    }

    pub(super) fn add_to_key(&self, key: &mut KeyBuilder) {
        key.field("bind", self.content.as_str())
            .field("rw", [u8::from(self.read_write)]);
    }

    /// The mount, and the layer that takes what is written to it and is then thrown away.
    pub(super) fn prepare(
        &self,
        engine: &Engine<'_>,
        target: OsString,
    ) -> Result<(Mount, Option<Active>), StepError> {
        if engine.store.is_flat() {
            return Ok((self.moved_in(engine, target)?, None));
        }
        let (lowers, source, below) = match &self.tree {
            SourceTree::Rootfs { chain, .. } => {
                let snapshot = engine.store.snapshot(chain.as_ref())?;
                let mut lowers = engine.store.layer_paths(&snapshot);
                if lowers.is_empty() {
                    lowers.push(engine.store.scratch()?);
                }
                (lowers, self.source.clone().into(), snapshot)
            }
            SourceTree::Context(open) => {
                let selection = select(&self.tree, &self.source)?;
                let (lower, source) = if is_whole(open, &selection) {
                    let path = open.context.path().map_err(|error| StepError::Value {
                        message: format!("cannot find the build context again: {error}"),
                    })?;
                    (path, self.source.clone().into())
                } else {
                    self.copy_of(engine, open, &selection)?
                };
                (vec![lower], source, Snapshot::default())
            }
        };
        let upper = if self.read_write {
            Some(engine.store.prepare(&below)?)
        } else {
            None
        };
        let writable = match &upper {
            Some(upper) => Some(Writable {
                upper: upper.upper().into(),
                work: upper.work()?.into(),
            }),
            None => None,
        };
        let mount = Mount::Tree {
            lowers: lowers.into_iter().map(OsString::from).collect(),
            writable,
            source,
            target,
        };
        Ok((mount, upper))
    }

    /// A copy for this command alone: what cannot be mounted is moved into its tree.
    fn moved_in(&self, engine: &Engine<'_>, target: OsString) -> Result<Mount, StepError> {
        let selection = select(&self.tree, &self.source)?;
        if let SourceTree::Context(open) = &self.tree
            && digest(&selection, &open.memo)? != self.content
        {
            return Err(StepError::Value {
                message: format!("{:?} changed during the build", self.source),
            });
        }
        let directory = engine.store.scratch()?;
        write(engine, &self.tree, &self.source, &selection, &directory)?;
        let mut place = directory.join(COPY);
        place.extend(selection.file_name());
        Ok(Mount::Bind {
            source: place.into(),
            target,
            read_only: !self.read_write,
        })
    }

    /// A copy of what the ignore rules leave, made once in a build: a directory and the place in it.
    ///
    /// A mount can show a directory or not, but not leave out some of its files, so a context with
    /// rules (or with sockets, behind which are processes of the host) is copied as COPY would. Large
    /// files share their blocks with the originals where the file system can do it.
    fn copy_of(
        &self,
        engine: &Engine<'_>,
        open: &OpenContext,
        selection: &Selection<'_>,
    ) -> Result<(PathBuf, OsString), StepError> {
        let changed = || StepError::Value {
            message: format!("{:?} changed during the build", self.source),
        };
        if digest(selection, &open.memo)? != self.content {
            return Err(changed());
        }
        let mut copies = engine
            .mounted
            .copies
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let directory = match copies.get(&self.content) {
            Some(directory) => directory.clone(),
            None => {
                let directory = engine.store.scratch()?;
                write(engine, &self.tree, &self.source, selection, &directory)?;
                copies.insert(self.content.clone(), directory.clone());
                directory
            }
        };
        let mut place = PathBuf::from("/").join(COPY);
        place.extend(selection.file_name());
        Ok((directory, place.into_os_string()))
    }

    /// Whether what was mounted still has the content of the key: snapshots and copies always have.
    pub(super) fn is_unchanged(&self) -> bool {
        let SourceTree::Context(open) = &self.tree else {
            return true;
        };
        select(&self.tree, &self.source).is_ok_and(|selection| {
            !is_whole(open, &selection)
                || digest(&selection, &open.memo).is_ok_and(|content| content == self.content)
        })
    }
}

/// The digest of what `source` names in `tree`, as COPY has it: that of an immutable tree is
/// computed once.
pub(super) fn content(
    engine: &Engine<'_>,
    tree: &SourceTree,
    source: &str,
) -> Result<Digest, StepError> {
    match tree {
        SourceTree::Context(open) => digest(&select(tree, source)?, &open.memo),
        SourceTree::Rootfs { chain, .. } => {
            let platform = &engine.request.platform;
            let mut of_source = KeyBuilder::new("mount source", chain.as_ref(), platform);
            of_source.field("path", source);
            let memo_key = of_source.finish();
            if let Some(known) = engine.store.remembered_digest(&memo_key) {
                return Ok(known);
            }
            let content = digest(&select(tree, source)?, &Memo::none())?;
            engine.store.remember_digest(&memo_key, &content)?;
            Ok(content)
        }
    }
}

/// Copies what `source` names in `tree` into the directory `destination` of the store, which gets
/// the mode and owner of the source if that is a directory.
pub(super) fn seed(
    engine: &Engine<'_>,
    tree: &SourceTree,
    source: &str,
    destination: &Path,
) -> Result<(), StepError> {
    let selection = select(tree, source)?;
    if selection.file_name().is_some() {
        let message = format!("the source {source:?} of a cache mount is not a directory");
        return Err(StepError::Value { message });
    }
    let root = open(destination)?;
    write_to(engine, &selection, &root, "/")?;
    like_source(engine, tree, source, &root)
}

fn write(
    engine: &Engine<'_>,
    tree: &SourceTree,
    source: &str,
    selection: &Selection<'_>,
    directory: &Path,
) -> Result<(), StepError> {
    let root = open(directory)?;
    sys::fs::make_directory_at(&root, COPY.as_ref(), 0o755).map_err(failed(directory))?;
    sys::fs::chmod_at(&root, COPY.as_ref(), 0o755).map_err(failed(directory))?;
    write_to(engine, selection, &root, &format!("/{COPY}/"))?;
    if selection.file_name().is_some() {
        return Ok(());
    }
    let copied = sys::fs::open_directory_at(&root, COPY.as_ref()).map_err(failed(directory))?;
    like_source(engine, tree, source, &copied)
}

fn write_to(
    engine: &Engine<'_>,
    selection: &Selection<'_>,
    root: &OwnedFd,
    path: &str,
) -> Result<(), StepError> {
    let destination = Destination {
        root: root.as_fd(),
        path,
        is_directory: true,
        owner: None,
        mode: None,
        ownership: engine.store.ownership(),
    };
    copy(selection, &destination)
        .map(drop)
        .map_err(|source| StepError::Copy { source })
}

/// Gives the open directory the mode of `source`, and of a root file system the owner too.
fn like_source(
    engine: &Engine<'_>,
    tree: &SourceTree,
    source: &str,
    directory: &OwnedFd,
) -> Result<(), StepError> {
    let path = Path::new(source);
    let root = match tree {
        SourceTree::Context(open) => open.context.root(),
        SourceTree::Rootfs { view, .. } => view.as_fd(),
    };
    let (opened, mut stat) = sys::fs::open_in_root(root, path, OFlag::O_PATH, 0)
        .and_then(|fd| sys::fs::stat(&fd).map(|stat| (fd, stat)))
        .map_err(failed(path))?;
    if let SourceTree::Rootfs { owners, .. } = tree {
        let ownership = engine.store.ownership();
        owners
            .of(&opened, OsStr::new(""), &mut stat)
            .and_then(|()| ownership.set(directory, stat.st_uid, stat.st_gid))
            .map_err(|error| StepError::SetOwner {
                path: source.to_owned(),
                source: error,
            })?;
    }
    sys::fs::chmod(directory, sys::fs::permissions(&stat)).map_err(failed(path))
}

fn open(directory: &Path) -> Result<OwnedFd, StepError> {
    sys::fs::open_directory(directory).map_err(failed(directory))
}

fn failed(path: &Path) -> impl FnOnce(sys::Error) -> StepError {
    let path = path.display().to_string();
    |source| StepError::Directory { path, source }
}

/// Whether the selection is all that a mount of the context would show.
fn is_whole(open: &OpenContext, selection: &Selection<'_>) -> bool {
    open.context.ignore().is_empty() && !selection.skips()
}

fn select<'a>(tree: &'a SourceTree, source: &str) -> Result<Selection<'a>, StepError> {
    select_path(&tree.tree(), source).map_err(|source| StepError::Copy { source })
}

fn digest(selection: &Selection<'_>, memo: &Memo) -> Result<Digest, StepError> {
    selection
        .digest(memo)
        .map_err(|source| StepError::Copy { source })
}
