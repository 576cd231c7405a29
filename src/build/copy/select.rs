//! Which files the sources of a COPY name.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use nix::sys::stat::FileStat;

use super::entries::Entries;
use super::error::{Error, HiddenBy};
use super::filter::Filter;
use super::nearest::nearest;
use super::path::{Descent, Step};
use super::walk::{Node, Standing, Walk};
use super::{Origin, Skipped, Tree};
use crate::context::glob::{DoubleStar, Glob, has_wildcard};
use crate::context::ignore::{Matched, clean};
use crate::sys;
use crate::sys::fs::Kind;

/// What the sources of one COPY are, in the order in which they are copied.
#[derive(Debug, Default)]
pub(crate) struct Selection<'a> {
    pub(super) matches: Vec<Match<'a>>,
    pub(super) skipped: Vec<Skipped>,
}

/// One source.
#[derive(Debug)]
pub(super) enum Match<'a> {
    /// A heredoc.
    Inline { name: String, bytes: Vec<u8> },
    /// Anything but a directory. Links are followed, so this is none.
    File {
        origin: Origin,
        /// The last component of the path as the Dockerfile has it, which names the copy.
        name: OsString,
        parent: Place<'a>,
        /// The name in `parent`: another one when the source is a link.
        real_name: OsString,
        node: Node,
    },
    /// The contents of a directory: everything below it, parents first, names in byte order.
    Directory {
        origin: Origin,
        place: Place<'a>,
        entries: Entries,
    },
}

/// A directory of a source tree, by its path without links.
#[derive(Debug)]
pub(super) struct Place<'a> {
    root: BorrowedFd<'a>,
    pub(super) path: PathBuf,
}

impl Place<'_> {
    /// Opens the directory again; that it is the same one shows when its files are compared.
    pub(super) fn open(&self) -> Result<OwnedFd, Error> {
        let gone = |source: sys::Error| Error::Source {
            path: shown(&self.path),
            source,
        };
        let mut descent = Descent::new(self.root, &self.path).map_err(gone)?;
        loop {
            match descent.step().map_err(gone)? {
                Step::Directory => {}
                Step::Arrived => return Ok(descent.into_directory()),
                Step::Link(_) | Step::Leaf(..) | Step::Missing(_) => {
                    return Err(Error::ChangedDuringBuild {
                        path: shown(&self.path),
                    });
                }
            }
        }
    }
}

impl<'a> Selection<'a> {
    /// One file with the text of a heredoc: 0644, root's.
    pub(crate) fn inline(name: &str, bytes: Vec<u8>) -> Self {
        Self {
            matches: vec![Match::Inline {
                name: name.to_owned(),
                bytes,
            }],
            skipped: Vec::new(),
        }
    }

    /// The name that the copy of a single file has; `None` for the contents of a directory.
    pub(crate) fn file_name(&self) -> Option<&OsStr> {
        match &self.matches[..] {
            [Match::File { name, .. }] => Some(name),
            _ => None,
        }
    }

    /// Whether something that cannot be in an image was left out of it.
    pub(crate) fn skips(&self) -> bool {
        !self.skipped.is_empty()
    }

    /// Adds the sources of `other` after those of `self`.
    pub(crate) fn append(&mut self, mut other: Self) {
        self.matches.append(&mut other.matches);
        self.skipped.append(&mut other.skipped);
    }
}

/// Finds the sources that `patterns` name in `tree`, in their order.
///
/// Paths are cleaned below the root of the tree. A path without wildcards must exist. Of the others,
/// the part before the first wildcard is a directory, the rest is matched with Go's `filepath.Match` in
/// byte order, through no links, and may match nothing. What is found and is a link is followed.
///
/// Of a directory, what `filter` chooses is taken. A file that is named, or matched by a wildcard, is
/// its own source, to which `--exclude` does not apply: BuildKit's documentation says otherwise.
pub(crate) fn select<'a>(
    tree: &Tree<'a>,
    patterns: &[&str],
    filter: &Filter,
) -> Result<Selection<'a>, Error> {
    let mut selector = Selector::new(tree, filter);
    for pattern in patterns {
        let cleaned = clean(&format!("/{pattern}"));
        let components: Vec<&str> = cleaned.split('/').filter(|part| !part.is_empty()).collect();
        match components.iter().position(|part| has_wildcard(part)) {
            None => selector.add_path(&components.iter().collect::<PathBuf>())?,
            Some(first) => selector.add_matches(&components, first)?,
        }
    }
    Ok(selector.selection)
}

/// Finds what `path` names in `tree`, as [`select`] does without wildcards.
pub(crate) fn select_path<'a>(tree: &Tree<'a>, path: &str) -> Result<Selection<'a>, Error> {
    let filter = Filter::default();
    let mut selector = Selector::new(tree, &filter);
    let cleaned = clean(&format!("/{path}"));
    let components = cleaned.split('/').filter(|part| !part.is_empty());
    selector.add_path(&components.collect::<PathBuf>())?;
    Ok(selector.selection)
}

/// [`select`] for `COPY --parents`: each source is a directory with what the rest of the pattern
/// chooses of it, and the directories on the way to that.
pub(crate) fn select_with_parents<'a>(
    tree: &Tree<'a>,
    patterns: &[&str],
    filter: &Filter,
) -> Result<Selection<'a>, Error> {
    let mut selector = Selector::new(tree, filter);
    for pattern in patterns {
        selector.add_with_parents(pattern)?;
    }
    Ok(selector.selection)
}

pub(super) struct Selector<'a, 'f> {
    tree: Tree<'a>,
    pub(super) filter: &'f Filter,
    selection: Selection<'a>,
}

/// What a path of the tree leads to.
pub(super) enum Found {
    Directory(Descent),
    /// In the directory that the walk stands in.
    File(Descent, OsString, FileStat),
    Hidden(HiddenBy),
    /// The component that is missing in the directory of the walk.
    Missing(Descent, OsString),
}

impl<'a, 'f> Selector<'a, 'f> {
    fn new(tree: &Tree<'a>, filter: &'f Filter) -> Self {
        Self {
            tree: *tree,
            filter,
            selection: Selection::default(),
        }
    }

    fn add_path(&mut self, path: &Path) -> Result<(), Error> {
        let found = self.require(path)?;
        match self.add_found(path, found)? {
            None => Ok(()),
            Some(rule) => Err(hidden(path, rule)),
        }
    }

    /// What is at `path`, which must be there to be seen.
    pub(super) fn require(&self, path: &Path) -> Result<Found, Error> {
        match self.resolve(path)? {
            Found::Hidden(rule) => Err(hidden(path, rule)),
            Found::Missing(descent, name) => Err(Error::NotFound {
                path: shown(path),
                hidden_by: None,
                suggestion: self.suggest(&descent, &name),
            }),
            found => Ok(found),
        }
    }

    /// Adds what was found, unless all of it is hidden by the rule that is returned.
    fn add_found(&mut self, path: &Path, found: Found) -> Result<Option<HiddenBy>, Error> {
        match found {
            Found::Hidden(rule) => return Ok(Some(rule)),
            Found::Missing(..) => {
                return Err(Error::NotFound {
                    path: shown(path),
                    hidden_by: None,
                    suggestion: None,
                });
            }
            Found::File(descent, real_name, stat) => {
                if Kind::of(&stat) == Kind::Socket {
                    return Err(Error::Socket { path: shown(path) });
                }
                let name = path.file_name().unwrap_or(&real_name).to_owned();
                if self.filter.excludes(&name) {
                    let path = shown(path);
                    self.selection.skipped.push(Skipped::Exclude { path });
                }
                self.selection.matches.push(Match::File {
                    origin: self.tree.origin,
                    name,
                    parent: self.place(descent.path()),
                    real_name,
                    node: Node::of(&stat),
                });
            }
            Found::Directory(descent) => {
                let hidden_by = self.hidden_by(&self.matched(&descent.path()));
                let count = self.selection.matches.len();
                if !self.add_directory(&descent, self.filter)? && hidden_by.is_some() {
                    self.selection.matches.truncate(count);
                    return Ok(hidden_by);
                }
            }
        }
        Ok(None)
    }

    /// Adds the directory that `descent` came to, and tells whether there is anything in it.
    pub(super) fn add_directory(
        &mut self,
        descent: &Descent,
        filter: &Filter,
    ) -> Result<bool, Error> {
        let place = self.place(descent.path());
        let mut walk = Walk::new(self.tree, filter, &place.path);
        let standing = Standing::of_source(self.matched(&place.path));
        walk.directory(descent.directory(), &standing, 1)?;
        let found = !walk.entries.is_empty();
        self.selection.skipped.append(&mut walk.skipped);
        self.selection.matches.push(Match::Directory {
            origin: self.tree.origin,
            place,
            entries: walk.entries,
        });
        Ok(found)
    }

    fn place(&self, path: PathBuf) -> Place<'a> {
        Place {
            root: self.tree.root,
            path,
        }
    }

    /// Follows `path` to its end, unless something on the way is hidden.
    pub(super) fn resolve(&self, path: &Path) -> Result<Found, Error> {
        let failed = |source| Error::Source {
            path: shown(path),
            source,
        };
        let mut descent = Descent::new(self.tree.root, path).map_err(failed)?;
        loop {
            match descent.step().map_err(failed)? {
                Step::Directory => {}
                Step::Link(link) => {
                    if let Some(rule) = self.hidden_by(&self.matched(&link)) {
                        return Ok(Found::Hidden(rule));
                    }
                }
                Step::Leaf(name, mut stat) => {
                    let real = descent.path().join(&name);
                    if let Some(rule) = self.hidden_by(&self.matched(&real)) {
                        return Ok(Found::Hidden(rule));
                    }
                    return Ok(if descent.is_at_end() {
                        let owned = self.tree.owners.of(descent.directory(), &name, &mut stat);
                        owned.map_err(|source| Error::Owned {
                            path: shown(path),
                            source,
                        })?;
                        Found::File(descent, name, stat)
                    } else {
                        Found::Missing(descent, name)
                    });
                }
                Step::Missing(name) => return Ok(Found::Missing(descent, name)),
                Step::Arrived => {
                    let matched = self.matched(&descent.path());
                    return Ok(match self.hidden_by(&matched) {
                        Some(rule) if !self.may_show_below(&matched, &descent.path()) => {
                            Found::Hidden(rule)
                        }
                        _ => Found::Directory(descent),
                    });
                }
            }
        }
    }

    fn matched(&self, path: &Path) -> Matched {
        self.tree
            .ignore
            .map_or_else(Matched::default, |ignore| ignore.matched(path))
    }

    fn hidden_by(&self, matched: &Matched) -> Option<HiddenBy> {
        hidden_by(&self.tree, matched)
    }

    fn may_show_below(&self, matched: &Matched, path: &Path) -> bool {
        self.tree
            .ignore
            .is_none_or(|ignore| ignore.may_show_below(matched, path.as_os_str()))
    }

    /// The path of what has nearly the name that is missing.
    fn suggest(&self, descent: &Descent, name: &OsStr) -> Option<String> {
        let visible = |candidate: &OsString| {
            let path = descent.path().join(candidate);
            self.hidden_by(&self.matched(&path)).is_none()
        };
        let names = sys::fs::read_names(descent.directory()).ok()?;
        let candidates = names
            .into_iter()
            .filter(visible)
            .filter_map(|name| name.into_string().ok());
        let meant = nearest(name.to_str()?, candidates)?;
        let path = shown(&descent.path().join(meant));
        Some(path.to_str()?.to_owned())
    }

    /// The paths that match `components`, the first wildcard of which is at `first`, but for those of
    /// which nothing can be seen.
    pub(super) fn wildcard_matches(
        &self,
        components: &[&str],
        first: usize,
    ) -> Result<Vec<PathBuf>, Error> {
        let globs = components[first..]
            .iter()
            .map(|part| Glob::parse(part, DoubleStar::Star))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|source| Error::Pattern { source })?;
        let start: PathBuf = components[..first].iter().collect();
        let mut paths = Vec::new();
        if let Found::Directory(descent) = self.resolve(&start)? {
            self.expand(descent.directory(), &descent.path(), &globs, &mut paths)?;
        }
        paths.retain(|path| {
            let matched = self.matched(path);
            self.hidden_by(&matched).is_none() || self.may_show_below(&matched, path)
        });
        Ok(paths)
    }

    /// Adds the matches of `components`, the first wildcard of which is at `first`.
    fn add_matches(&mut self, components: &[&str], first: usize) -> Result<(), Error> {
        for path in self.wildcard_matches(components, first)? {
            match self.resolve(&path)? {
                // The match is a link that can be seen, to something that cannot.
                Found::Hidden(rule) => return Err(hidden(&path, rule)),
                found => drop(self.add_found(&path, found)?),
            }
        }
        Ok(())
    }

    fn expand(
        &self,
        directory: BorrowedFd<'_>,
        path: &Path,
        globs: &[Glob],
        paths: &mut Vec<PathBuf>,
    ) -> Result<(), Error> {
        let Some((glob, deeper)) = globs.split_first() else {
            return Ok(());
        };
        let failed = |path: &Path| {
            let path = shown(path);
            |source| Error::Source { path, source }
        };
        for name in sys::fs::read_names(directory).map_err(failed(path))? {
            if !glob.matches(name.as_bytes()) {
                continue;
            }
            let child = path.join(&name);
            if deeper.is_empty() {
                paths.push(child);
                continue;
            }
            let stat = sys::fs::try_stat_at(directory, &name).map_err(failed(&child))?;
            if stat.is_some_and(|stat| Kind::of(&stat) == Kind::Directory) {
                let inner = sys::fs::open_directory_at(directory, &name).map_err(failed(&child))?;
                self.expand(inner.as_fd(), &child, deeper, paths)?;
            }
        }
        Ok(())
    }
}

fn hidden(path: &Path, rule: HiddenBy) -> Error {
    Error::NotFound {
        path: shown(path),
        hidden_by: Some(rule),
        suggestion: None,
    }
}

fn hidden_by(tree: &Tree<'_>, matched: &Matched) -> Option<HiddenBy> {
    let ignore = tree.ignore?;
    let verdict = ignore.verdict_of(matched);
    let rule = verdict.rule.filter(|_| verdict.ignored)?;
    Some(HiddenBy {
        file: ignore.file().to_owned(),
        line: rule.line,
        text: rule.text.clone(),
    })
}

/// A path of a tree as messages show it.
pub(super) fn shown(path: &Path) -> PathBuf {
    Path::new("/").join(path)
}
