//! Snapshots and trees to tars.
//!
//! Members come in one order (a directory before what is in it, names by their bytes) and headers by
//! one rule, so equal trees give equal bytes. What is packed may have been written by anybody: it is
//! walked by descriptors, and nothing is opened through a link.

mod members;

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use nix::errno::Errno;
use nix::sys::stat::FileStat;
use tar::EntryType;

use super::attributes::{self, Attributes, View};
use super::diff::Below;
use super::header::{BLOCK, Member};
use super::lower::Lower;
use super::{MAX_DEPTH, MAX_PATH, OPAQUE_NAME, WHITEOUT_PREFIX};
use crate::ownership::{self, Owners};
use crate::sys;
use crate::sys::fs::Kind;

/// What the caller chooses about the tar.
#[derive(Debug, Clone, Default)]
pub(crate) struct PackOptions {
    /// Modification times later than this (seconds since 1970, `SOURCE_DATE_EPOCH`) are written as it.
    pub(crate) clamp_mtime: Option<i64>,
    /// Whether an unchanged directory appears when something below it does, as containerd writes
    /// layers. Without it the directories of a layer are exactly the changed ones.
    pub(crate) include_parents: bool,
    pub(crate) devices: Devices,
}

/// Which records that a file stands for a device are believed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Devices {
    /// All of them.
    #[default]
    Recorded,
    /// Those of files that stand for the same device in the layers below: a command wrote the snapshot,
    /// and where owners are mapped nothing keeps it from writing records.
    FromBelow,
}

/// What was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Packed {
    /// Members of the tar; zero means that nothing changed.
    pub(crate) entries: u64,
    /// The paths of files whose records were not believed. They are packed as the empty files that they
    /// are; who keeps the snapshot has to take the records away.
    pub(crate) forged: Vec<OsString>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{path:?} cannot be looked at")]
    Inspect {
        path: String,
        #[source]
        source: sys::Error,
    },
    #[error("the owner of {path:?} cannot be looked at")]
    Owner {
        path: String,
        #[source]
        source: ownership::Error,
    },
    #[error("{path:?} cannot be read")]
    Read {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("{path:?} changed while it was packed")]
    Changed { path: String },
    #[error("{path:?} has a name that means a removal in a layer")]
    Reserved { path: String },
    #[error("the path {path:?} is too long or too deep for a layer")]
    TooDeep { path: String },
    #[error("the extended attribute {name:?} of {path:?} has a name that a tar cannot hold")]
    Attribute { path: String, name: String },
    #[error("the tar cannot be written")]
    Write(#[source] io::Error),
}

/// Writes what the snapshot `upper` changes on top of `lowers` (snapshots, topmost first) as a layer;
/// `owners` knows the files of all of them.
///
/// A directory that is below already with the same mode, owner, time and attributes is left out, and
/// so is the root (`./`) unless its mode, owner or attributes differ; sockets have no place in a tar
/// and are left out too. A name that starts with `.wh.` is an error, as it would be taken for a
/// removal. Without any entry `out` holds an empty tar.
pub(crate) fn pack(
    upper: BorrowedFd<'_>,
    lowers: &[Lower],
    owners: &Owners,
    options: &PackOptions,
    out: &mut dyn Write,
) -> Result<Packed, Error> {
    let mut packer = Packer::new(View::Snapshot, owners, options, out);
    let at_root = |source| inspect(b"/", source);
    let owned = |source| owner(b"/", source);
    let below = Below::root(lowers, owners);
    let here = OsStr::new(".");
    let stat = sys::fs::stat_at(upper, here).map_err(at_root)?;
    let (stat, attributes) = packer.look(upper, here, stat, b"/")?;
    let opaque = attributes::is_opaque(upper, here).map_err(at_root)?;
    if !below.shows_root(&stat, &attributes).map_err(owned)? {
        packer.emit(packer.member(b"./".to_vec(), EntryType::Directory, &stat, attributes)?)?;
    }
    if opaque {
        packer.emit_removal(OPAQUE_NAME.to_vec())?;
    }
    let below = if opaque { below.hidden() } else { below };
    packer.pack_directory(upper, &mut Vec::new(), below)?;
    packer.finish()
}

/// Writes everything below `root`, a tree as programs see it, as a tar without removals. Devices 0:0,
/// which only overlayfs makes, and sockets are left out; the root itself is `./`.
pub(crate) fn pack_tree(
    root: BorrowedFd<'_>,
    owners: &Owners,
    options: &PackOptions,
    out: &mut dyn Write,
) -> Result<Packed, Error> {
    let mut packer = Packer::new(View::Merged, owners, options, out);
    packer.pack_root(root, b"./", Vec::new())?;
    packer.finish()
}

/// A tree and the directory of an archive that it goes to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NamedTree<'a> {
    pub(crate) name: &'a str,
    pub(crate) root: BorrowedFd<'a>,
    pub(crate) owners: &'a Owners,
}

/// Writes each tree as [`pack_tree`] does, below its directory; without any tree nothing at all.
pub(crate) fn pack_trees(
    trees: &[NamedTree<'_>],
    options: &PackOptions,
    out: &mut dyn Write,
) -> Result<Packed, Error> {
    let Some(first) = trees.first() else {
        return Ok(Packed::default());
    };
    let mut packer = Packer::new(View::Merged, first.owners, options, out);
    for tree in trees {
        let path = format!("{}/", tree.name).into_bytes();
        packer.owners = tree.owners;
        packer.pack_root(tree.root, &path, path.clone())?;
        // Links never lead from one tree into another.
        packer.linked.clear();
    }
    packer.finish()
}

/// A directory on the way down to where the walk is.
struct Level<'a> {
    dir: OwnedFd,
    /// Those still to come.
    names: std::vec::IntoIter<OsString>,
    path_length: usize,
    below: Below<'a>,
    /// How many directories waited to be written before this one.
    waiting: usize,
}

struct Packer<'a> {
    view: View,
    owners: &'a Owners,
    options: &'a PackOptions,
    out: io::BufWriter<&'a mut dyn Write>,
    entries: u64,
    /// The first path of every file that has several.
    linked: HashMap<(u64, u64), Vec<u8>>,
    /// Unchanged directories on the way to where the walk is, written once something in them is.
    unwritten: Vec<Member>,
    forged: Vec<OsString>,
    header: Vec<u8>,
    buffer: Vec<u8>,
}

impl<'a> Packer<'a> {
    fn new(
        view: View,
        owners: &'a Owners,
        options: &'a PackOptions,
        out: &'a mut dyn Write,
    ) -> Self {
        Self {
            view,
            owners,
            options,
            out: io::BufWriter::with_capacity(256 << 10, out),
            entries: 0,
            linked: HashMap::new(),
            unwritten: Vec::new(),
            forged: Vec::new(),
            header: Vec::new(),
            buffer: vec![0; 256 << 10],
        }
    }

    fn finish(mut self) -> Result<Packed, Error> {
        self.out.write_all(&[0; 2 * BLOCK]).map_err(Error::Write)?;
        self.out.flush().map_err(Error::Write)?;
        Ok(Packed {
            entries: self.entries,
            forged: self.forged,
        })
    }

    /// Packs a whole tree: its root as `shown`, what is in it below `path`.
    fn pack_root(
        &mut self,
        root: BorrowedFd<'_>,
        shown: &[u8],
        mut path: Vec<u8>,
    ) -> Result<(), Error> {
        let at_root = |source| inspect(b"/", source);
        let here = OsStr::new(".");
        let stat = sys::fs::stat_at(root, here).map_err(at_root)?;
        let (stat, attributes) = self.look(root, here, stat, b"/")?;
        self.emit(self.member(shown.to_vec(), EntryType::Directory, &stat, attributes)?)?;
        let below = Below::root(&[], self.owners);
        self.pack_directory(root, &mut path, below)
    }

    /// What an archive says of `name` in `dir`: of its `stat` with what is recorded, and attributes.
    fn look(
        &self,
        dir: BorrowedFd<'_>,
        name: &OsStr,
        mut stat: FileStat,
        path: &[u8],
    ) -> Result<(FileStat, Attributes), Error> {
        let (attributes, record) =
            attributes::read(dir, name, self.view).map_err(|source| inspect(path, source))?;
        self.owners
            .apply(record, dir, name, &mut stat)
            .map_err(|source| owner(path, source))?;
        Ok((stat, attributes))
    }

    /// Packs what is in `root`. `path` is its path, empty or ending in a slash. The levels are in memory
    /// and not on the stack: whoever made the tree chose how deep it is.
    fn pack_directory(
        &mut self,
        root: BorrowedFd<'_>,
        path: &mut Vec<u8>,
        below: Below<'a>,
    ) -> Result<(), Error> {
        let root = sys::fs::open_directory_at(root, OsStr::new("."))
            .map_err(|source| inspect(path, source))?;
        let mut levels = vec![self.level(root, path, below, self.unwritten.len())?];
        while let Some(level) = levels.last_mut() {
            path.truncate(level.path_length);
            let Some(name) = level.names.next() else {
                self.unwritten.truncate(level.waiting);
                levels.pop();
                continue;
            };
            path.extend_from_slice(name.as_bytes());
            if path.len() > MAX_PATH || levels.len() > MAX_DEPTH {
                return Err(Error::TooDeep { path: shown(path) });
            }
            let level = levels.last().expect("the one that the name is from");
            if let Some(seen) = self.pack_name(level, &name, path)? {
                let inner = self.enter(level, &name, &seen, path)?;
                levels.push(inner);
            }
        }
        Ok(())
    }

    fn level(
        &self,
        dir: OwnedFd,
        path: &[u8],
        below: Below<'a>,
        waiting: usize,
    ) -> Result<Level<'a>, Error> {
        let names = sys::fs::read_names(&dir).map_err(|source| inspect(path, source))?;
        Ok(Level {
            dir,
            names: names.into_iter(),
            path_length: path.len(),
            below,
            waiting,
        })
    }

    /// Packs `name` of `level`, whose path is `path`, unless it is a directory; then the answer is what it
    /// looks like.
    fn pack_name(
        &mut self,
        level: &Level<'_>,
        name: &OsStr,
        path: &mut Vec<u8>,
    ) -> Result<Option<FileStat>, Error> {
        let dir = level.dir.as_fd();
        if self.view == View::Snapshot && name.as_bytes().starts_with(WHITEOUT_PREFIX) {
            return Err(Error::Reserved { path: shown(path) });
        }
        let seen = sys::fs::stat_at(dir, name).map_err(|source| inspect(path, source))?;
        if self.view == View::Snapshot
            && attributes::is_whiteout(dir, name, &seen).map_err(|source| inspect(path, source))?
        {
            let at = path.len() - name.len();
            path.splice(at..at, WHITEOUT_PREFIX.iter().copied());
            return self.emit_removal(path.clone()).map(|()| None);
        }
        match Kind::of(&seen) {
            Kind::Directory => return Ok(Some(seen)),
            Kind::Socket => return Ok(None),
            Kind::CharDevice if seen.st_rdev == 0 => return Ok(None),
            _ => {}
        }
        let (mut stat, attributes) = self.look(dir, name, seen, path)?;
        if Kind::of(&stat) != Kind::of(&seen) && self.options.devices == Devices::FromBelow {
            let from_root = OsStr::from_bytes(path);
            let is_from_below = level.below.has_device(from_root, &stat);
            if !is_from_below.map_err(|source| owner(path, source))? {
                self.forged.push(from_root.to_owned());
                stat = seen;
            }
        }
        let kind = match Kind::of(&stat) {
            Kind::Symlink => EntryType::Symlink,
            Kind::CharDevice => EntryType::Char,
            Kind::BlockDevice => EntryType::Block,
            Kind::Fifo => EntryType::Fifo,
            Kind::Regular | Kind::Directory | Kind::Socket => EntryType::Regular,
        };
        let mut member = self.member(path.clone(), kind, &stat, attributes)?;
        if stat.st_nlink > 1 {
            let file = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.linked.get(&file) {
                member.kind = EntryType::Link;
                member.attributes = Attributes::new();
                member.link.clone_from(first);
                return self.emit(member).map(|()| None);
            }
            self.linked.insert(file, path.clone());
        }
        match kind {
            EntryType::Regular => {
                return self.pack_file(dir, name, &seen, member).map(|()| None);
            }
            EntryType::Symlink => {
                let target =
                    sys::fs::read_link_at(dir, name).map_err(|source| inspect(path, source))?;
                member.link = target.as_bytes().to_vec();
            }
            EntryType::Char | EntryType::Block => member.device = device_numbers(stat.st_rdev),
            _ => {}
        }
        self.emit(member).map(|()| None)
    }

    /// Packs the directory `name` of `level` itself, and leaves what is in it for the next level.
    fn enter(
        &mut self,
        level: &Level<'a>,
        name: &OsStr,
        stat: &FileStat,
        path: &mut Vec<u8>,
    ) -> Result<Level<'a>, Error> {
        let inner =
            sys::fs::open_directory_at(&level.dir, name).map_err(|source| opened(path, source))?;
        let look = |source| inspect(path, source);
        let here = OsStr::new(".");
        let (stat, attributes) = self.look(inner.as_fd(), here, *stat, path)?;
        let opaque = self.view == View::Snapshot
            && attributes::is_opaque(inner.as_fd(), here).map_err(look)?;
        let from_root = OsString::from(OsStr::from_bytes(path));
        let below = level.below.descend(&from_root);
        let unchanged = below
            .shows(&from_root, &stat, &attributes)
            .map_err(|source| owner(path, source))?;
        path.push(b'/');
        let member = self.member(path.clone(), EntryType::Directory, &stat, attributes)?;
        let waiting = self.unwritten.len();
        // An opaque directory that is otherwise the same has changed: what was in it is gone.
        if !unchanged || opaque {
            self.emit(member)?;
        } else if self.options.include_parents {
            self.unwritten.push(member);
        }
        if opaque {
            self.emit_removal([path, OPAQUE_NAME].concat())?;
        }
        let below = if opaque { below.hidden() } else { below };
        self.level(inner, path, below, waiting)
    }
}

fn device_numbers(device: u64) -> (u32, u32) {
    let part = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    (
        part(nix::sys::stat::major(device)),
        part(nix::sys::stat::minor(device)),
    )
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

fn inspect(path: &[u8], source: sys::Error) -> Error {
    Error::Inspect {
        path: shown(path),
        source,
    }
}

fn owner(path: &[u8], source: ownership::Error) -> Error {
    Error::Owner {
        path: shown(path),
        source,
    }
}

/// The error of opening what a stat just showed: a link, another kind or nothing there is a change.
fn opened(path: &[u8], source: sys::Error) -> Error {
    match source.errno {
        Errno::ELOOP | Errno::ENOTDIR | Errno::ENOENT | Errno::ENXIO => {
            Error::Changed { path: shown(path) }
        }
        _ => inspect(path, source),
    }
}

#[cfg(test)]
mod tests;
