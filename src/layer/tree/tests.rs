use std::ffi::OsStr;
use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use super::*;
use crate::ownership::{Ownership, Table};

struct Trees {
    directory: tempfile::TempDir,
}

fn open(path: &Path) -> std::os::fd::OwnedFd {
    sys::fs::open_directory(path).unwrap()
}

impl Trees {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in ["tree", "upper", "lower", "top"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        Self { directory }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn list(&self) -> Listing {
        let listing = list(open(&self.at("tree")).as_fd()).unwrap();
        let directory = open(self.directory.path());
        sys::clock::wait_until_past(directory, OsStr::new("clock"), listing.newest()).unwrap();
        listing
    }

    /// What [`changes`] leaves in the upper directory, and how many files it counts.
    fn changed(&self, before: &Listing) -> (Vec<String>, u64) {
        let (tree, upper) = (open(&self.at("tree")), open(&self.at("upper")));
        let changed = changes(
            Owned {
                root: tree.as_fd(),
                owners: &Owners::NONE,
            },
            before,
            Layers {
                roots: &[Lower::new(self.at("lower"))],
                owners: &Owners::NONE,
            },
            (upper.as_fd(), &Ownership::Discarded),
        )
        .unwrap();
        let mut names = Vec::new();
        walk(&self.at("upper"), "", &mut names);
        names.sort();
        (names, changed.files)
    }
}

fn walk(directory: &Path, prefix: &str, names: &mut Vec<String>) {
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let name = format!("{prefix}{}", entry.file_name().display());
        let metadata = entry.metadata().unwrap();
        if metadata.is_dir() {
            names.push(format!("{name}/"));
            walk(&entry.path(), &format!("{name}/"), names);
        } else if metadata.mode() & 0o170_000 == 0o020_000 {
            names.push(format!("-{name}"));
        } else {
            names.push(name);
        }
    }
}

#[test]
fn each_way_to_change_a_file_is_seen_and_nothing_else() {
    type Change = fn(&Trees);
    let cases: [(&str, Change, &[&str]); 12] = [
        ("nothing", |_| {}, &[]),
        ("read", |t| drop(fs::read(t.at("tree/d/a")).unwrap()), &[]),
        ("written", |t| t.write("tree/d/a", "2"), &["d/", "d/a"]),
        (
            "written, with its old time and size",
            |t| {
                let time = fs::metadata(t.at("tree/d/a")).unwrap().modified().unwrap();
                t.write("tree/d/a", "2");
                let file = fs::File::options()
                    .write(true)
                    .open(t.at("tree/d/a"))
                    .unwrap();
                file.set_modified(time).unwrap();
            },
            &["d/", "d/a"],
        ),
        (
            "mode",
            |t| fs::set_permissions(t.at("tree/d/a"), fs::Permissions::from_mode(0o600)).unwrap(),
            &["d/", "d/a"],
        ),
        (
            "removed",
            |t| fs::remove_file(t.at("tree/d/a")).unwrap(),
            &["-d/a", "d/"],
        ),
        (
            "directory removed",
            |t| fs::remove_dir_all(t.at("tree/d")).unwrap(),
            &["-d"],
        ),
        (
            "moved",
            |t| fs::rename(t.at("tree/d"), t.at("tree/e")).unwrap(),
            &["-d", "e/", "e/a", "e/b"],
        ),
        (
            "a file became a directory",
            |t| {
                fs::remove_file(t.at("tree/d/a")).unwrap();
                fs::create_dir(t.at("tree/d/a")).unwrap();
            },
            &["d/", "d/a/"],
        ),
        (
            "a directory became a file",
            |t| {
                fs::remove_dir_all(t.at("tree/d")).unwrap();
                t.write("tree/d", "");
            },
            &["d"],
        ),
        (
            "link",
            |t| {
                fs::remove_file(t.at("tree/l")).unwrap();
                symlink("y", t.at("tree/l")).unwrap();
            },
            &["l"],
        ),
        (
            "another name",
            |t| fs::hard_link(t.at("tree/d/b"), t.at("tree/c")).unwrap(),
            &["c", "d/", "d/b"],
        ),
    ];
    for (what, change, expected) in cases {
        let trees = Trees::new();
        trees.write("tree/d/a", "1");
        trees.write("tree/d/b", "1");
        symlink("x", trees.at("tree/l")).unwrap();
        let before = trees.list();
        change(&trees);
        let (names, _) = trees.changed(&before);
        assert_eq!(names, expected, "{what}");
    }
}

#[test]
fn a_file_that_lost_another_name_is_unchanged_where_it_is_as_below() {
    let trees = Trees::new();
    trees.write("lower/a", "same");
    let time = fs::metadata(trees.at("lower/a")).unwrap();
    trees.write("tree/a", "same");
    let file = fs::File::options()
        .write(true)
        .open(trees.at("tree/a"))
        .unwrap();
    file.set_modified(time.modified().unwrap()).unwrap();
    fs::hard_link(trees.at("tree/a"), trees.at("tree/b")).unwrap();
    let before = trees.list();
    fs::remove_file(trees.at("tree/b")).unwrap();
    assert_eq!(trees.changed(&before), (vec!["-b".to_owned()], 1));
}

#[test]
fn a_replaced_directory_hides_what_was_in_it() {
    let trees = Trees::new();
    trees.write("tree/d/a", "1");
    let before = trees.list();
    fs::remove_dir_all(trees.at("tree/d")).unwrap();
    trees.write("tree/d/b", "2");
    trees.write("tree/new/c", "3");
    let (names, _) = trees.changed(&before);
    assert_eq!(names, ["d/", "d/b", "new/", "new/c"]);
    let opaque = |name: &str| {
        let upper = open(&trees.at("upper"));
        super::super::attributes::is_opaque(upper.as_fd(), OsStr::new(name)).unwrap()
    };
    assert!(opaque("d"));
    assert!(!opaque("new"));
}

#[test]
fn layers_are_merged_as_an_overlay_shows_them() {
    let trees = Trees::new();
    for path in ["lower/keep", "lower/gone", "lower/d/old", "lower/o/hidden"] {
        trees.write(path, "below");
    }
    for path in ["top/keep2", "top/d/new", "top/o/shown"] {
        trees.write(path, "above");
    }
    fs::hard_link(trees.at("lower/keep"), trees.at("lower/keep-too")).unwrap();
    let top = open(&trees.at("top"));
    super::super::attributes::set_whiteout(top.as_fd(), OsStr::new("gone")).unwrap();
    super::super::attributes::set_opaque(top.as_fd(), OsStr::new("o")).unwrap();
    let tree = open(&trees.at("tree"));
    let ownership = Ownership::Recorded(Table::default());
    let layers = [top, open(&trees.at("lower"))];
    merge(&layers, &Owners::NONE, tree.as_fd(), &ownership).unwrap();
    let mut names = Vec::new();
    walk(&trees.at("tree"), "", &mut names);
    names.sort();
    assert_eq!(
        names,
        [
            "d/", "d/new", "d/old", "keep", "keep-too", "keep2", "o/", "o/shown"
        ]
    );
    let inode = |path| fs::metadata(trees.at(path)).unwrap().ino();
    assert_eq!(inode("tree/keep"), inode("tree/keep-too"));
    assert_ne!(inode("tree/keep"), inode("lower/keep"));
}

#[test]
fn holes_stay_holes() {
    let trees = Trees::new();
    let file = fs::File::create(trees.at("lower/sparse")).unwrap();
    file.set_len(64 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"end", (64 << 20) - 3).unwrap();
    let tree = open(&trees.at("tree"));
    let ownership = Ownership::Discarded;
    merge(
        &[open(&trees.at("lower"))],
        &Owners::NONE,
        tree.as_fd(),
        &ownership,
    )
    .unwrap();
    let copy = fs::metadata(trees.at("tree/sparse")).unwrap();
    assert_eq!(copy.len(), 64 << 20);
    assert!(copy.blocks() * 512 < 8 << 20, "{}", copy.blocks());
    assert!(fs::read(trees.at("tree/sparse")).unwrap().ends_with(b"end"));
}
