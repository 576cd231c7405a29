//! Where in the image the sources of a COPY go.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Seek as _;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use std::sync::Arc;

use nix::fcntl::OFlag;
use nix::sys::stat::FileStat;

use super::digest::unreadable;
use super::error::Error;
use super::path::{Descent, Step};
use super::select::{Match, Selection, shown};
use super::sink::Target;
use super::walk::Node;
use super::write::{Rules, Writer};
use super::{Archives, Copied, Destination, Skipped, Unpack};
use crate::sys;
use crate::sys::fs::Kind;

/// The destination as it is when a source is about to be written.
enum Found {
    Directory(Target),
    /// A name in a directory, taken by a file or free.
    Name {
        parent: Target,
        name: OsString,
    },
}

pub(super) fn copy(
    selection: &Selection<'_>,
    destination: &Destination<'_>,
    archives: Option<Archives<'_>>,
) -> Result<Copied, Error> {
    let rules = Rules::Image {
        ownership: destination.ownership,
        owner: destination.owner,
    };
    let mut copier = Copier {
        destination,
        several: selection.matches.len() > 1,
        archives,
        writer: Writer::new(rules, destination.mode),
        directory: None,
    };
    for source in &selection.matches {
        copier.source(source)?;
    }
    let mut copied = copier.writer.copied;
    copied.skipped.extend_from_slice(&selection.skipped);
    Ok(copied)
}

struct Copier<'a, 'b> {
    destination: &'a Destination<'a>,
    /// Whether two files could come to the same name.
    several: bool,
    archives: Option<Archives<'b>>,
    writer: Writer<'a>,
    /// The destination, once it is known to be a directory.
    directory: Option<Target>,
}

impl Copier<'_, '_> {
    fn source(&mut self, source: &Match<'_>) -> Result<(), Error> {
        match source {
            Match::Inline { name, bytes } => {
                let (target, name) = self.name_for(OsStr::new(name))?;
                self.writer.inline(bytes, &target, &name)
            }
            Match::File {
                origin,
                name,
                parent,
                real_name,
                node,
            } => {
                let directory = parent.open()?;
                let path = parent.path.join(real_name);
                if self.extract(directory.as_fd(), real_name, node, &path)? {
                    return Ok(());
                }
                let (target, name) = self.name_for(name)?;
                self.writer
                    .file(*origin, directory.as_fd(), real_name, node, &target, &name)
                    .map_err(|error| with_source(error, &path))
            }
            Match::Directory {
                origin,
                place,
                entries,
            } => {
                let target = self.as_directory(self.implied_mode())?;
                let directory = place.open()?;
                self.writer
                    .merge(*origin, &directory, entries, &target)
                    .map_err(|error| below_source(error, &place.path))
            }
        }
    }

    /// Where a file called `name` is written.
    fn name_for(&mut self, name: &OsStr) -> Result<(Target, OsString), Error> {
        match self.find(self.destination.is_directory, self.implied_mode())? {
            Found::Directory(target) => Ok((target, name.to_owned())),
            Found::Name { .. } if self.several => Err(Error::SeveralSources {
                instruction: match self.archives {
                    Some(_) => "ADD",
                    None => "COPY",
                },
            }),
            Found::Name { parent, name } => Ok((parent, name)),
        }
    }

    /// The mode for directories that the destination implies: that of an octal `--chmod`.
    fn implied_mode(&self) -> u32 {
        let chosen = self.destination.mode;
        let mode = chosen.and_then(super::ChmodSpec::for_created_parents);
        mode.unwrap_or(0o755)
    }

    fn as_directory(&mut self, implied_mode: u32) -> Result<Target, Error> {
        match self.find(true, implied_mode)? {
            Found::Directory(target) => Ok(target),
            Found::Name { parent, name } => Err(Error::NotDirectory {
                path: parent.path.join(name),
            }),
        }
    }

    /// Follows the path of the destination, creating the directories it needs: all of it with
    /// `to_directory`, else all but the last component.
    fn find(&mut self, to_directory: bool, implied_mode: u32) -> Result<Found, Error> {
        if let Some(target) = &self.directory {
            return Ok(Found::Directory(target.clone()));
        }
        let whole = Path::new(self.destination.path);
        let failed = |source| Error::Write {
            path: whole.to_owned(),
            source,
        };
        let mut descent = Descent::new(self.destination.root, whole).map_err(failed)?;
        loop {
            match descent.step().map_err(failed)? {
                Step::Directory | Step::Link(_) => {}
                Step::Arrived => {
                    let target = target(descent);
                    self.directory = Some(target.clone());
                    return Ok(Found::Directory(target));
                }
                Step::Missing(name) if to_directory || !descent.is_at_end() => {
                    self.make_directory(&mut descent, name, implied_mode)?;
                }
                Step::Leaf(name, _) if to_directory || !descent.is_at_end() => {
                    return Err(Error::NotDirectory {
                        path: shown(&descent.path()).join(name),
                    });
                }
                Step::Missing(name) | Step::Leaf(name, _) => {
                    return Ok(Found::Name {
                        parent: target(descent),
                        name,
                    });
                }
            }
        }
    }

    /// A directory that the destination implies: root's (or that of `--chown`), as BuildKit makes them.
    fn make_directory(
        &self,
        descent: &mut Descent,
        name: OsString,
        mode: u32,
    ) -> Result<(), Error> {
        let path = shown(&descent.path()).join(&name);
        let failed = |source| Error::Write {
            path: path.clone(),
            source,
        };
        sys::fs::make_directory_at(descent.directory(), &name, 0o700).map_err(failed)?;
        descent.enter(name).map_err(failed)?;
        let made = descent.directory();
        let mut stat: FileStat = sys::fs::stat(made).map_err(failed)?;
        self.destination.ownership.made(&mut stat);
        let (uid, gid) = self.destination.owner.unwrap_or((0, 0));
        if (stat.st_uid, stat.st_gid) != (uid, gid) {
            let set = self.destination.ownership.set(made, uid, gid);
            set.map_err(|source| Error::Owner {
                path: path.clone(),
                source,
            })?;
        }
        let set = self.destination.ownership.set_mode(made, mode);
        set.map_err(failed)
    }

    /// Extracts the source if this is an ADD and the source is an archive.
    fn extract(
        &mut self,
        directory: BorrowedFd<'_>,
        name: &OsStr,
        node: &Node,
        path: &Path,
    ) -> Result<bool, Error> {
        let unpack = self
            .archives
            .as_ref()
            .map_or(Unpack::Never, |archives| archives.unpack);
        if unpack == Unpack::Never || node.kind() != Kind::Regular {
            return Ok(false);
        }
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
        let fd =
            sys::fs::open_at(directory, name, flags, 0).map_err(|error| unreadable(path, error))?;
        let mut file = File::from(fd);
        let check = |file: &File| match sys::fs::stat(file) {
            Ok(stat) if node.stamp.is_of(&stat) => Ok(()),
            Ok(_) => Err(Error::ChangedDuringBuild { path: shown(path) }),
            Err(error) => Err(unreadable(path, error)),
        };
        check(&file)?;
        let sniff = |source| Error::Sniff {
            path: shown(path),
            source,
        };
        let is_archive = match &self.archives {
            Some(archives) => (archives.sniff)(&mut file).map_err(sniff)?,
            None => false,
        };
        if !is_archive {
            if unpack == Unpack::Asked {
                let path = shown(path);
                let skipped = &mut self.writer.copied.skipped;
                skipped.push(Skipped::NotArchive { path });
            }
            return Ok(false);
        }
        file.rewind().map_err(sniff)?;
        // No `--chmod` is about what an archive holds, nor about where it goes.
        let target = self.as_directory(0o755)?;
        let again = file.try_clone().map_err(sniff)?;
        if let Some(archives) = &mut self.archives {
            (archives.extract)(file, target.directory.as_fd()).map_err(|source| {
                Error::Extract {
                    path: shown(path),
                    source,
                }
            })?;
        }
        check(&again)?;
        self.writer.copied.files += 1;
        Ok(true)
    }
}

fn target(descent: Descent) -> Target {
    let path = shown(&descent.path());
    Target {
        directory: Arc::new(descent.into_directory()),
        path,
    }
}

/// The writer knows entries below its top only; this puts the source's own path into its errors.
fn below_source(error: Error, top: &Path) -> Error {
    let whole = |path: &Path| shown(&top.join(path.strip_prefix("/").unwrap_or(path)));
    match error {
        Error::ChangedDuringBuild { path } => Error::ChangedDuringBuild { path: whole(&path) },
        Error::Source { path, source } => Error::Source {
            path: whole(&path),
            source,
        },
        error => error,
    }
}

/// [`below_source`] for a single file, which may have got another name.
fn with_source(error: Error, path: &Path) -> Error {
    match error {
        Error::ChangedDuringBuild { .. } => Error::ChangedDuringBuild { path: shown(path) },
        Error::Source { source, .. } => Error::Source {
            path: shown(path),
            source,
        },
        error => error,
    }
}
