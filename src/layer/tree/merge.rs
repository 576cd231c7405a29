//! The layers of a snapshot as one tree.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::sys::stat::FileStat;

use super::copy::{Copier, Named};
use super::{Error, Owned, check_depth};
use crate::layer::attributes::{self, View};
use crate::layer::unpack::Form;
use crate::ownership::{Owners, Ownership};
use crate::sys;
use crate::sys::fs::Kind;

/// Writes what `layers` (snapshots, topmost first) show together into the empty directory `into`. After
/// an error a part of it is there.
pub(crate) fn merge(
    layers: &[OwnedFd],
    owners: &Owners,
    into: BorrowedFd<'_>,
    ownership: &Ownership,
) -> Result<(), Error> {
    let forms = (View::Snapshot, Form::Plain);
    let copier = Copier::new(owners, forms, into, ownership);
    let layers: Vec<BorrowedFd<'_>> = layers.iter().map(|layer| layer.as_fd()).collect();
    Merger {
        copier,
        path: PathBuf::new(),
    }
    .directory(&layers, into, 0)
}

/// Copies all that is in `from`, a tree as programs see it, into the empty directory `into`, which then
/// looks like `from`.
pub(crate) fn copy_tree(
    from: Owned<'_>,
    into: BorrowedFd<'_>,
    ownership: &Ownership,
) -> Result<(), Error> {
    let forms = (View::Merged, Form::Plain);
    let copier = Copier::new(from.owners, forms, into, ownership);
    Merger {
        copier,
        path: PathBuf::new(),
    }
    .directory(&[from.root], into, 0)
}

struct Merger<'a> {
    copier: Copier<'a>,
    /// Where the walk is, from the root of the destination.
    path: PathBuf,
}

/// What the layers have at a name.
enum Found {
    /// A file of the layer with this index.
    File(usize, FileStat),
    /// Directories of these layers, topmost first, of which the last may hide what is below it.
    Directory {
        parts: Vec<usize>,
        ends: bool,
    },
    Nothing,
}

impl Merger<'_> {
    /// Writes what is in `sources`, which are one directory, into `to`, and makes `to` look like the
    /// topmost of them.
    fn directory(
        &mut self,
        sources: &[BorrowedFd<'_>],
        to: BorrowedFd<'_>,
        depth: usize,
    ) -> Result<(), Error> {
        check_depth(&self.path, depth)?;
        for (name, found) in self.look(sources)? {
            self.path.push(&name);
            match found {
                Found::Nothing => {}
                Found::File(index, stat) => {
                    let named = Named {
                        directory: sources[index],
                        name: &name,
                        path: &self.path,
                    };
                    self.copier.file(named, &stat, to)?;
                }
                Found::Directory { parts, .. } => {
                    let mut opened = Vec::with_capacity(parts.len());
                    for index in parts {
                        opened.push(
                            sys::fs::open_directory_at(sources[index], &name)
                                .map_err(Error::copy(&self.path))?,
                        );
                    }
                    let inner = make_directory(to, &name, &self.path)?;
                    let parts: Vec<_> = opened.iter().map(|part| part.as_fd()).collect();
                    self.directory(&parts, inner.as_fd(), depth + 1)?;
                }
            }
            self.path.pop();
        }
        let Some(top) = sources.first() else {
            return Ok(());
        };
        let here = Named {
            directory: *top,
            name: OsStr::new("."),
            path: &self.path,
        };
        let stat = sys::fs::stat(top).map_err(Error::copy(&self.path))?;
        self.copier.metadata(here, &stat, to)
    }

    fn look(&self, sources: &[BorrowedFd<'_>]) -> Result<BTreeMap<OsString, Found>, Error> {
        let mut names: BTreeMap<OsString, Found> = BTreeMap::new();
        let is_layer = self.copier.from == View::Snapshot;
        for (index, source) in sources.iter().enumerate() {
            for name in sys::fs::read_names(source).map_err(Error::copy(&self.path))? {
                let failed = || Error::copy(&self.path.join(&name));
                if !matches!(
                    names.get(&name),
                    None | Some(Found::Directory { ends: false, .. })
                ) {
                    continue;
                }
                let stat = sys::fs::stat_at(source, &name).map_err(failed())?;
                let is_directory = Kind::of(&stat) == Kind::Directory;
                let opaque = is_layer
                    && is_directory
                    && attributes::is_opaque(*source, &name).map_err(failed())?;
                match names.get_mut(&name) {
                    Some(Found::Directory { parts, ends }) => {
                        if is_directory {
                            parts.push(index);
                        }
                        *ends = opaque || !is_directory;
                    }
                    _ => {
                        let hides = is_layer
                            && attributes::is_whiteout(*source, &name, &stat).map_err(failed())?;
                        let found = if is_directory {
                            Found::Directory {
                                parts: vec![index],
                                ends: opaque,
                            }
                        } else if hides || Kind::of(&stat) == Kind::Socket {
                            Found::Nothing
                        } else {
                            Found::File(index, stat)
                        };
                        names.insert(name, found);
                    }
                }
            }
        }
        Ok(names)
    }
}

pub(super) fn make_directory(
    to: BorrowedFd<'_>,
    name: &OsStr,
    path: &Path,
) -> Result<OwnedFd, Error> {
    sys::fs::make_directory_at(to, name, 0o700)
        .and_then(|()| sys::fs::open_directory_at(to, name))
        .map_err(Error::copy(path))
}
