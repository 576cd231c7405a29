//! The phases of a COPY together, on real directories.

use super::*;

mod digest;
mod place;
mod race;
mod select;
mod write;

use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::LazyLock;

use crate::context::digest::Memo;
use crate::oci::Digest;
use crate::ownership::Table;
use crate::sys;

/// A source and a root, each a directory.
struct Trees {
    dir: tempfile::TempDir,
}

impl Trees {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("source")).unwrap();
        fs::create_dir(dir.path().join("root")).unwrap();
        Self { dir }
    }

    fn source(&self, path: &str) -> PathBuf {
        self.dir.path().join("source").join(path)
    }

    fn root(&self, path: &str) -> PathBuf {
        self.dir.path().join("root").join(path)
    }

    /// Makes files in the source; a name that ends in `/` is a directory, else it is the content.
    fn files(&self, paths: &[&str]) -> &Self {
        write_files(&self.source(""), paths);
        self
    }

    fn there(&self, paths: &[&str]) -> &Self {
        write_files(&self.root(""), paths);
        self
    }

    fn open(&self) -> OwnedFd {
        sys::fs::open_directory(&self.source("")).unwrap()
    }

    fn select(&self, ignore: &str, patterns: &[&str]) -> Result<Vec<String>, Error> {
        let open = self.open();
        let ignore = Ignore::parse(".dockerignore", ignore).unwrap();
        let tree = context(&open, Some(&ignore));
        let selection = select(&tree, patterns, &Filter::default())?;
        Ok(names(&selection))
    }

    fn digest(&self, ignore: &str, patterns: &[&str]) -> Digest {
        let open = self.open();
        let ignore = Ignore::parse(".dockerignore", ignore).unwrap();
        let tree = context(&open, Some(&ignore));
        let selection = select(&tree, patterns, &Filter::default()).unwrap();
        selection.digest(&Memo::none()).unwrap()
    }

    fn copy(&self, patterns: &[&str], path: &str) -> Result<Copied, Error> {
        self.copy_as(patterns, path, None, None, &RECORDED)
    }

    fn copy_as(
        &self,
        patterns: &[&str],
        path: &str,
        owner: Option<(u32, u32)>,
        mode: Option<&ChmodSpec>,
        ownership: &Ownership,
    ) -> Result<Copied, Error> {
        let open = self.open();
        let root = sys::fs::open_directory(&self.root("")).unwrap();
        let selection = select(&context(&open, None), patterns, &Filter::default())?;
        let destination = Destination {
            owner,
            mode,
            ownership,
            ..destination(&root, path)
        };
        copy(&selection, &destination)
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.root(path)).unwrap()
    }
}

/// Nothing that is copied here needs a table.
static RECORDED: LazyLock<Ownership> = LazyLock::new(|| Ownership::Recorded(Table::default()));

fn context<'a>(root: &'a OwnedFd, ignore: Option<&'a Ignore>) -> Tree<'a> {
    Tree {
        root: root.as_fd(),
        owners: &Owners::NONE,
        origin: Origin::Context,
        ignore,
    }
}

fn destination<'a>(root: &'a OwnedFd, path: &'a str) -> Destination<'a> {
    Destination {
        root: root.as_fd(),
        path,
        is_directory: path.ends_with('/'),
        owner: None,
        mode: None,
        ownership: &RECORDED,
    }
}

fn write_files(base: &Path, paths: &[&str]) {
    for path in paths {
        let whole = base.join(path);
        if path.ends_with('/') {
            fs::create_dir_all(whole).unwrap();
        } else {
            fs::create_dir_all(whole.parent().unwrap()).unwrap();
            fs::write(&whole, path).unwrap();
        }
    }
}

/// `name` of a file and `name/entry` of what a directory holds.
fn names(selection: &Selection<'_>) -> Vec<String> {
    let mut names = Vec::new();
    for source in &selection.matches {
        match source {
            super::select::Match::Inline { name, .. } => names.push(name.clone()),
            super::select::Match::File { name, .. } => names.push(name.display().to_string()),
            super::select::Match::Directory { place, entries, .. } => {
                let mut path: Vec<String> = Vec::new();
                names.push(format!("{}/", place.path.display()));
                for entry in entries.iter() {
                    path.truncate(entry.depth - 1);
                    path.push(entry.name.display().to_string());
                    names.push(path.join("/"));
                }
            }
        }
    }
    names
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}
