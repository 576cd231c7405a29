//! What a small snapshot has at which path, remembered for as long as a build goes on.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::attributes;
use crate::sys;
use crate::sys::fs::Kind;

/// The entries that a snapshot may have to be remembered. Those of long stacks are mostly small, and of
/// one that is not, a path is asked of the file system.
const MOST: usize = 64;

/// The outline of a snapshot that nothing changes any more, made when it is first asked for.
#[derive(Debug, Default)]
pub(crate) struct Outline(OnceLock<Option<Paths>>);

/// From the root, which is `.`.
type Paths = HashMap<OsString, Shape>;

/// What of a file says what it hides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Directory {
        is_opaque: bool,
    },
    /// A removal too.
    Other,
}

impl Outline {
    /// What is at `path` in the snapshot, whose directory is `root`: `Some(None)` for nothing, `None`
    /// where that is not remembered.
    pub(super) fn at(&self, root: &Path, path: &OsStr) -> Option<Option<Shape>> {
        // Who asks the file system sees the error again.
        let paths = self.0.get_or_init(|| paths(root).ok().flatten());
        Some(paths.as_ref()?.get(path).copied())
    }
}

/// All paths below `root`, if they are few.
fn paths(root: &Path) -> sys::Result<Option<Paths>> {
    let here = OsStr::new(".");
    let mut paths = Paths::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(directory) = waiting.pop() {
        let open = sys::fs::open_directory(&root.join(&directory))?;
        let is_opaque = attributes::is_opaque(open.as_fd(), here)?;
        let path = match directory.as_os_str() {
            path if path.is_empty() => here,
            path => path,
        };
        paths.insert(path.to_owned(), Shape::Directory { is_opaque });
        let left = MOST.saturating_sub(paths.len() + waiting.len());
        let Some(names) = sys::fs::read_few_names(&open, left)? else {
            return Ok(None);
        };
        for name in names {
            let path = directory.join(&name);
            match Kind::of(&sys::fs::stat_at(&open, &name)?) {
                Kind::Directory => waiting.push(path),
                _ => drop(paths.insert(path.into_os_string(), Shape::Other)),
            }
        }
    }
    Ok(Some(paths))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_small_snapshot_is_remembered_and_not_looked_at_again() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("a/b")).unwrap();
        fs::create_dir(root.path().join("o")).unwrap();
        fs::write(root.path().join("a/file"), "").unwrap();
        std::os::unix::fs::symlink("a", root.path().join("link")).unwrap();
        let open = sys::fs::open_directory(root.path()).unwrap();
        attributes::set_opaque(open.as_fd(), OsStr::new("o")).unwrap();
        let outline = Outline::default();
        let directory = |is_opaque| Some(Some(Shape::Directory { is_opaque }));
        let other = Some(Some(Shape::Other));
        for _ in 0..2 {
            for (path, shape) in [
                (".", directory(false)),
                ("a", directory(false)),
                ("a/b", directory(false)),
                ("o", directory(true)),
                ("a/file", other),
                ("link", other),
                ("c", Some(None)),
                ("a/c", Some(None)),
            ] {
                assert_eq!(outline.at(root.path(), OsStr::new(path)), shape, "{path}");
            }
            drop(fs::remove_dir_all(root.path()));
        }
    }

    #[test]
    fn a_snapshot_that_is_not_small_or_cannot_be_read_is_not_remembered() {
        let root = tempfile::tempdir().unwrap();
        let asked = |path: &Path| Outline::default().at(path, OsStr::new("."));
        fs::create_dir(root.path().join("inner")).unwrap();
        // The root and `inner` count too.
        for number in 0..MOST - 2 {
            fs::write(root.path().join(format!("inner/{number}")), "").unwrap();
        }
        assert!(asked(root.path()).is_some());
        fs::write(root.path().join("inner/more"), "").unwrap();
        assert_eq!(asked(root.path()), None);
        assert_eq!(asked(&root.path().join("missing")), None);
    }
}
