//! What a step changed in a tree, as overlayfs would have left it in an upper directory.

use std::cell::OnceCell;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::stat::FileStat;

use super::copy::{Copier, Named};
use super::listing::{Entry, Listing, Stamp};
use super::merge::make_directory;
use super::{Error, Layers, Owned, check_depth};
use crate::layer::attributes::{self, View};
use crate::layer::unpack::Form;
use crate::ownership::{Owners, Ownership};
use crate::sys;
use crate::sys::fs::Kind;

/// A tree after a step.
#[derive(Debug)]
pub(crate) struct Changed {
    /// How the tree is now.
    pub(crate) listing: Listing,
    /// Files written to the upper directory and removals noted there; changed directories do not
    /// count.
    pub(crate) files: u64,
}

/// Writes to `upper`, a directory where nothing is yet, what is different in `tree` from `before`: new
/// and changed files whole, whiteouts for what is gone, opaque directories where a directory was
/// replaced. `lowers` are the layers that `tree` was made of.
///
/// Three things are not as in an overlay: a file that was only opened for writing is no change, a change
/// of a file with several names is one of all its names, and a directory that was both made and renamed
/// is not opaque (nothing was below it).
pub(crate) fn changes(
    tree: Owned<'_>,
    before: &Listing,
    lowers: Layers<'_>,
    (upper, ownership): (BorrowedFd<'_>, &Ownership),
) -> Result<Changed, Error> {
    let mut walk = Walk {
        copier: Copier::new(tree.owners, (View::Merged, Form::Overlay), upper, ownership),
        lowers,
        path: PathBuf::new(),
        files: 0,
    };
    let top = Level {
        above: None,
        name: OsString::new(),
        directory: tree.root,
        made: OnceCell::new(),
    };
    let opened =
        sys::fs::open_directory_at(upper, OsStr::new(".")).map_err(Error::copy(&walk.path))?;
    drop(top.made.set(opened));
    let listing = walk.directory(&top, Some(before), 0)?;
    walk.finish(&top)?;
    Ok(Changed {
        listing,
        files: walk.files,
    })
}

/// A directory of the tree, and its copy in the upper once something needs it.
struct Level<'a> {
    above: Option<&'a Self>,
    name: OsString,
    directory: BorrowedFd<'a>,
    made: OnceCell<OwnedFd>,
}

impl Level<'_> {
    fn upper(&self, path: &Path) -> Result<BorrowedFd<'_>, Error> {
        if self.made.get().is_none() {
            let above = self.above.expect("the root's copy is there from the start");
            let parent = path.parent().unwrap_or(path);
            let made = make_directory(above.upper(parent)?, &self.name, path)?;
            drop(self.made.set(made));
        }
        Ok(self.made.get().expect("it was just made").as_fd())
    }
}

struct Walk<'a> {
    copier: Copier<'a>,
    lowers: Layers<'a>,
    path: PathBuf,
    files: u64,
}

impl Walk<'_> {
    /// Compares what is in `level` with `before`; `None` for a directory that is new.
    fn directory(
        &mut self,
        level: &Level<'_>,
        before: Option<&Listing>,
        depth: usize,
    ) -> Result<Listing, Error> {
        check_depth(&self.path, depth)?;
        let mut now = Listing::default();
        let names = sys::fs::read_names(level.directory).map_err(Error::compare(&self.path))?;
        for name in names {
            let was = before.and_then(|before| before.entries.get(&name));
            self.path.push(&name);
            let entry = self.name(level, &name, was, depth)?;
            self.path.pop();
            now.entries.insert(name, entry);
        }
        let gone = before.iter().flat_map(|before| before.entries.keys());
        for name in gone.filter(|name| !now.entries.contains_key(*name)) {
            let upper = level.upper(&self.path)?;
            attributes::set_whiteout(upper, name).map_err(Error::copy(&self.path.join(name)))?;
            self.files += 1;
        }
        Ok(now)
    }

    fn name(
        &mut self,
        level: &Level<'_>,
        name: &OsStr,
        was: Option<&Entry>,
        depth: usize,
    ) -> Result<Entry, Error> {
        let stat = sys::fs::stat_at(level.directory, name).map_err(Error::compare(&self.path))?;
        if Kind::of(&stat) == Kind::Directory {
            return self.subdirectory(level, name, &stat, was, depth);
        }
        let stamp = Stamp::of(&stat);
        // A socket is in no layer.
        if Kind::of(&stat) != Kind::Socket && self.is_changed(level, name, &stamp, was)? {
            let parent = self.path.parent().unwrap_or(&self.path);
            let upper = level.upper(parent)?;
            let named = Named {
                directory: level.directory,
                name,
                path: &self.path,
            };
            self.copier.file(named, &stat, upper)?;
            self.files += 1;
        }
        Ok(Entry {
            stamp,
            inside: None,
        })
    }

    fn subdirectory(
        &mut self,
        above: &Level<'_>,
        name: &OsStr,
        stat: &FileStat,
        was: Option<&Entry>,
        depth: usize,
    ) -> Result<Entry, Error> {
        let inner = sys::fs::open_directory_at(above.directory, name)
            .map_err(Error::compare(&self.path))?;
        let stamp = Stamp::of_directory(inner.as_fd(), stat);
        let level = Level {
            above: Some(above),
            name: name.to_owned(),
            directory: inner.as_fd(),
            made: OnceCell::new(),
        };
        let same = was.filter(|was| was.inside.is_some() && was.stamp.is_same_file(&stamp));
        let before = same.and_then(|was| was.inside.as_ref());
        if same.is_none_or(|was| was.stamp != stamp) {
            level.upper(&self.path)?;
        }
        let inside = self.directory(&level, before, depth + 1)?;
        if level.made.get().is_some() {
            // What was there hides nothing any more; where nothing was, there is nothing to hide.
            if before.is_none() && was.is_some() {
                let parent = self.path.parent().unwrap_or(&self.path);
                attributes::set_opaque(above.upper(parent)?, name)
                    .map_err(Error::copy(&self.path))?;
            }
            self.finish(&level)?;
        }
        Ok(Entry {
            stamp,
            inside: Some(inside),
        })
    }

    /// Makes the copy of a directory look like it, now that nothing more is written to it.
    fn finish(&self, level: &Level<'_>) -> Result<(), Error> {
        let named = Named {
            directory: level.directory,
            name: OsStr::new("."),
            path: &self.path,
        };
        let stat = sys::fs::stat(level.directory).map_err(Error::compare(&self.path))?;
        let upper = level.upper(&self.path)?;
        self.copier.metadata(named, &stat, upper)
    }

    fn is_changed(
        &self,
        level: &Level<'_>,
        name: &OsStr,
        stamp: &Stamp,
        was: Option<&Entry>,
    ) -> Result<bool, Error> {
        let Some(was) = was.filter(|was| was.inside.is_none()) else {
            return Ok(true);
        };
        if was.stamp == *stamp {
            return Ok(false);
        }
        // Another name of the file is gone, which changes the ctime of this one too.
        if stamp.looks_like(&was.stamp) && stamp.names < was.stamp.names {
            return Ok(!self.is_as_below(level, name, stamp)?);
        }
        Ok(true)
    }

    fn owner(&self, level: &Level<'_>, name: &OsStr) -> Result<(u32, u32), Error> {
        let stat = sys::fs::stat_at(level.directory, name).map_err(Error::compare(&self.path))?;
        let owners = self.copier.owners;
        self.owner_of(owners, level.directory, name, stat)
    }

    fn owner_below(
        &self,
        directory: BorrowedFd<'_>,
        name: &OsStr,
        stat: FileStat,
    ) -> Result<(u32, u32), Error> {
        self.owner_of(self.lowers.owners, directory, name, stat)
    }

    fn owner_of(
        &self,
        owners: &Owners,
        directory: BorrowedFd<'_>,
        name: &OsStr,
        mut stat: FileStat,
    ) -> Result<(u32, u32), Error> {
        let looked = owners.of(directory, name, &mut stat);
        looked.map_err(|source| Error::Owner {
            path: self.path.clone(),
            source,
        })?;
        Ok((stat.st_uid, stat.st_gid))
    }

    /// Whether the file that `stamp` describes is, byte by byte, what the layers have at its path.
    fn is_as_below(&self, level: &Level<'_>, name: &OsStr, stamp: &Stamp) -> Result<bool, Error> {
        let failed = || Error::compare(&self.path);
        let parent = self.path.parent().unwrap_or(Path::new(""));
        for lower in self.lowers.roots {
            let lower = lower.open().map_err(failed())?;
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
            let Ok(directory) = sys::fs::open_in_root(lower, parent, flags, 0) else {
                continue;
            };
            let Some(below) = sys::fs::try_stat_at(&directory, name).map_err(failed())? else {
                continue;
            };
            if Kind::of(&below) != Kind::of_mode(stamp.mode)
                || (sys::fs::permissions(&below), below.st_size)
                    != (stamp.mode & 0o7777, stamp.size)
                || (below.st_mtime, below.st_mtime_nsec) != stamp.mtime
            {
                return Ok(false);
            }
            let was = attributes::read(directory.as_fd(), name, View::Snapshot);
            let now = attributes::read(level.directory, name, View::Merged);
            let same = was.map_err(failed())? == now.map_err(failed())?
                && self.owner_below(directory.as_fd(), name, below)? == self.owner(level, name)?;
            return match Kind::of(&below) {
                Kind::Regular if same => same_content(
                    sys::fs::open_at(&directory, name, OFlag::O_RDONLY, 0).map_err(failed())?,
                    sys::fs::open_at(level.directory, name, OFlag::O_RDONLY, 0).map_err(failed())?,
                )
                .map_err(|source| Error::Data {
                    path: self.path.clone(),
                    source,
                }),
                Kind::Symlink => Ok(same
                    && sys::fs::read_link_at(&directory, name).map_err(failed())?
                        == sys::fs::read_link_at(level.directory, name).map_err(failed())?),
                _ => Ok(same),
            };
        }
        Ok(false)
    }
}

fn same_content(one: OwnedFd, other: OwnedFd) -> std::io::Result<bool> {
    const PIECE: usize = 64 << 10;
    let mut files = [File::from(one), File::from(other)];
    loop {
        let mut pieces = [Vec::new(), Vec::new()];
        for (file, piece) in files.iter_mut().zip(&mut pieces) {
            file.take(PIECE as u64).read_to_end(piece)?;
        }
        if pieces[0] != pieces[1] {
            return Ok(false);
        }
        if pieces[0].is_empty() {
            return Ok(true);
        }
    }
}
