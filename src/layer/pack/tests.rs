mod devices;
mod race;
mod recorded;
mod round_trip;

use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use nix::sys::stat::{Mode, SFlag, mknod};
use tempfile::TempDir;

use super::*;
use crate::ownership::Ownership;

fn directory() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

fn open(path: &Path) -> OwnedFd {
    sys::fs::open_directory(path).unwrap()
}

fn set_time(path: &Path, seconds: i64, nanoseconds: i64) {
    let dir = open(path.parent().unwrap());
    sys::fs::set_mtime_at(dir, path.file_name().unwrap(), seconds, nanoseconds).unwrap();
}

fn make_directory(path: &Path) {
    fs::create_dir_all(path).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    set_time(path, 1000, 5);
}

fn make_whiteout(path: &Path) {
    mknod(path, SFlag::S_IFCHR, Mode::empty(), 0).unwrap();
}

fn make_opaque(path: &Path) {
    attributes::set_opaque(open(path).as_fd(), OsStr::new(".")).unwrap();
}

/// The layer, the same whether what is below is remembered or not.
fn packed(upper: &Path, lowers: &[&Path], options: &PackOptions) -> Result<Vec<u8>, Error> {
    let outlined = |path: &&Path| Lower::with_outline(path.to_path_buf(), Arc::default());
    let outlined: Vec<Lower> = lowers.iter().map(outlined).collect();
    let lowers: Vec<Lower> = lowers
        .iter()
        .map(|path| Lower::new(path.to_path_buf()))
        .collect();
    let [plain, first, again] = [&lowers, &outlined, &outlined].map(|lowers| {
        let mut out = Vec::new();
        let owners = Owners::new(&Ownership::Mapped, &[]);
        pack(open(upper).as_fd(), lowers, &owners, options, &mut out).map(|_| out)
    });
    let bytes = |result: &Result<Vec<u8>, Error>| result.as_ref().ok().cloned();
    assert!(bytes(&plain) == bytes(&first) && bytes(&plain) == bytes(&again));
    plain
}

/// Path, type and link of each member, as the `tar` crate reads them.
fn listed(tar: &[u8]) -> Vec<String> {
    tar::Archive::new(tar)
        .entries()
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            match entry.link_name_bytes() {
                Some(link) => format!("{path} -> {}", String::from_utf8_lossy(&link)),
                None => path,
            }
        })
        .collect()
}

fn names(upper: &Path, lowers: &[&Path]) -> Vec<String> {
    listed(&packed(upper, lowers, &PackOptions::default()).unwrap())
}

#[test]
fn only_what_changed_appears() {
    let (lower, upper) = (directory(), directory());
    for root in [&lower, &upper] {
        for name in ["mode", "same", "time"] {
            make_directory(&root.path().join(name));
        }
    }
    fs::write(lower.path().join("same/old"), "old").unwrap();
    set_time(&lower.path().join("same"), 1000, 5);
    fs::write(upper.path().join("same/new"), "new").unwrap();
    set_time(&upper.path().join("same"), 1000, 5);
    set_time(&upper.path().join("time"), 1000, 6);
    fs::set_permissions(upper.path().join("mode"), fs::Permissions::from_mode(0o700)).unwrap();

    let lowers = [lower.path()];
    assert_eq!(names(upper.path(), &lowers), ["mode/", "same/new", "time/"]);
    let options = PackOptions {
        include_parents: true,
        ..PackOptions::default()
    };
    let with_parents = listed(&packed(upper.path(), &lowers, &options).unwrap());
    assert_eq!(with_parents, ["mode/", "same/", "same/new", "time/"]);
}

#[test]
fn nothing_changed_is_no_entry_but_a_valid_tar() {
    let (lower, upper) = (directory(), directory());
    for root in [&lower, &upper] {
        make_directory(&root.path().join("a/b"));
        make_directory(&root.path().join("a"));
    }
    let out = packed(upper.path(), &[lower.path()], &PackOptions::default()).unwrap();
    assert_eq!(out, [0; 1024]);
}

#[test]
fn the_root_appears_when_more_than_its_time_changed() {
    let (lower, upper) = (directory(), directory());
    set_time(upper.path(), 77, 0);
    assert_eq!(names(upper.path(), &[lower.path()]), [""; 0]);
    fs::set_permissions(upper.path(), fs::Permissions::from_mode(0o711)).unwrap();
    assert_eq!(names(upper.path(), &[lower.path()]), ["./"]);
    assert_eq!(names(upper.path(), &[]), ["./"]);
}

#[test]
fn removals_are_files_of_the_names_that_the_specification_gives() {
    let upper = directory();
    make_directory(&upper.path().join("d"));
    make_opaque(&upper.path().join("d"));
    fs::write(upper.path().join("d/file"), "").unwrap();
    make_whiteout(&upper.path().join("d/gone"));
    make_whiteout(&upper.path().join("gone"));
    assert_eq!(
        names(upper.path(), &[upper.path()]),
        ["d/", "d/.wh..wh..opq", "d/file", "d/.wh.gone", ".wh.gone"]
    );
    make_opaque(upper.path());
    assert_eq!(names(upper.path(), &[upper.path()])[0], ".wh..wh..opq");
}

#[test]
fn a_directory_that_was_hidden_below_is_new() {
    let upper = directory();
    make_directory(&upper.path().join("a/b"));
    make_directory(&upper.path().join("a"));
    let hides = [
        "nothing",
        "whiteout",
        "file",
        "opaque parent",
        "opaque root",
    ];
    for (hide, more) in hides.iter().flat_map(|hide| [(*hide, 0), (*hide, 100)]) {
        let (top, bottom) = (directory(), directory());
        for number in 0..more {
            fs::write(top.path().join(number.to_string()), "").unwrap();
        }
        make_directory(&bottom.path().join("a/b"));
        make_directory(&bottom.path().join("a"));
        if hide != "opaque root" {
            make_directory(&top.path().join("a"));
        }
        match hide {
            "whiteout" => make_whiteout(&top.path().join("a/b")),
            "file" => fs::write(top.path().join("a/b"), "").unwrap(),
            "opaque parent" => make_opaque(&top.path().join("a")),
            "opaque root" => make_opaque(top.path()),
            _ => {}
        }
        if hide != "opaque root" {
            set_time(&top.path().join("a"), 1000, 5);
        }
        let expected: &[&str] = match hide {
            "nothing" => &[],
            "opaque root" => &["a/", "a/b/"],
            _ => &["a/b/"],
        };
        assert_eq!(
            names(upper.path(), &[top.path(), bottom.path()]),
            expected,
            "{hide}, and {more} files"
        );
    }
}

#[test]
fn what_is_below_is_looked_at_as_far_as_nothing_above_it_answers() {
    let (upper, lower) = (directory(), directory());
    for root in [&upper, &lower] {
        make_directory(&root.path().join("known/inner"));
        make_directory(&root.path().join("known"));
    }
    fs::write(upper.path().join("known/inner/file"), "").unwrap();
    set_time(&upper.path().join("known/inner"), 1000, 5);
    fs::write(upper.path().join("file"), "").unwrap();
    // Nothing can be looked up in it.
    let damaged = lower.path().join("damaged");
    fs::write(&damaged, "").unwrap();
    let lowers = [lower.path(), &damaged];
    assert_eq!(names(upper.path(), &lowers), ["file", "known/inner/file"]);
    make_directory(&upper.path().join("new"));
    let asked = packed(upper.path(), &lowers, &PackOptions::default());
    assert!(matches!(asked, Err(Error::Owner { .. })));
}

#[test]
fn names_that_would_be_removals_are_refused_in_a_layer_only() {
    let root = directory();
    fs::write(root.path().join(".wh.file"), "").unwrap();
    let refused = packed(root.path(), &[], &PackOptions::default());
    assert!(matches!(refused, Err(Error::Reserved { path }) if path == ".wh.file"));
    let mut out = Vec::new();
    make_whiteout(&root.path().join("hidden"));
    let tree = open(root.path());
    let packed = pack_tree(
        tree.as_fd(),
        &Owners::NONE,
        &PackOptions::default(),
        &mut out,
    )
    .unwrap();
    assert_eq!(listed(&out), ["./", ".wh.file"]);
    assert_eq!(packed.entries, 2);
}

#[test]
fn every_kind_of_file_has_its_place() {
    let root = directory();
    let at = |name: &str| root.path().join(name);
    fs::write(at("b"), "data").unwrap();
    fs::hard_link(at("b"), at("c")).unwrap();
    symlink("/etc/target", at("link")).unwrap();
    mknod(&at("pipe"), SFlag::S_IFIFO, Mode::S_IRUSR, 0).unwrap();
    drop(std::os::unix::net::UnixListener::bind(at("socket")).unwrap());
    assert_eq!(
        names(root.path(), &[root.path()]),
        ["b", "c -> b", "link -> /etc/target", "pipe"]
    );
}

#[test]
fn attributes_of_programs_are_kept_and_marks_of_overlayfs_are_not() {
    let root = directory();
    let file = root.path().join("file");
    fs::write(&file, "").unwrap();
    let dir = open(root.path());
    for (name, value) in [
        ("user.mime", &b"a\nb"[..]),
        ("user.overlay.origin", b"x"),
        ("user.overlay.overlay.opaque", b"y"),
    ] {
        sys::xattr::set_at(&dir, OsStr::new("file"), OsStr::new(name), value).unwrap();
    }
    let (found, record) =
        attributes::read(dir.as_fd(), OsStr::new("file"), View::Snapshot).unwrap();
    let expected = [
        (&b"user.mime"[..], &b"a\nb"[..]),
        (b"user.overlay.opaque", b"y"),
    ];
    let expected = expected.map(|(name, value)| (name.to_vec(), value.to_vec()));
    assert_eq!((found, record), (expected.to_vec(), None));
}

#[test]
fn times_after_the_clamp_are_the_clamp() {
    let root = directory();
    for (name, seconds) in [("early", 10), ("late", 1000)] {
        fs::write(root.path().join(name), "").unwrap();
        set_time(&root.path().join(name), seconds, 0);
    }
    let options = PackOptions {
        clamp_mtime: Some(500),
        ..PackOptions::default()
    };
    let out = packed(root.path(), &[root.path()], &options).unwrap();
    let times: Vec<_> = tar::Archive::new(&out[..])
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().header().mtime().unwrap())
        .collect();
    assert_eq!(times, [10, 500]);
}

/// A tree with whatever needs more than a plain header.
fn make_awkward_tree(root: &Path) {
    make_directory(&root.join("directory with spaces"));
    let long = root.join("l".repeat(200));
    fs::write(&long, "long").unwrap();
    symlink("t".repeat(300), root.join("to a long name")).unwrap();
    fs::write(root.join("ünïcode"), "text").unwrap();
    let not_text = root.join(OsStr::from_bytes(b"not \xff text"));
    fs::write(not_text, vec![7; 300_000]).unwrap();
    fs::hard_link(&long, root.join("m".repeat(150))).unwrap();
    fs::write(root.join("setuid"), "s").unwrap();
    fs::set_permissions(root.join("setuid"), fs::Permissions::from_mode(0o4711)).unwrap();
    set_time(&root.join("setuid"), 1_234_567_890, 123_456_789);
    fs::write(root.join("before 1970"), "b").unwrap();
    set_time(&root.join("before 1970"), -5, 250_000_000);
    let dir = open(root);
    let name = OsStr::new("setuid");
    sys::xattr::set_at(dir, name, OsStr::new("user.binary"), &[0, 10, 61, 255]).unwrap();
}

#[test]
fn other_programs_read_what_is_packed() {
    let root = directory();
    make_awkward_tree(root.path());
    let out = tempfile::NamedTempFile::new().unwrap();
    let tree = open(root.path());
    pack_tree(
        tree.as_fd(),
        &Owners::NONE,
        &PackOptions::default(),
        &mut out.as_file(),
    )
    .unwrap();

    let listing = Command::new("tar")
        .arg("tvf")
        .arg(out.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&listing.stdout).into_owned();
    assert!(
        listing.status.success(),
        "{}",
        String::from_utf8_lossy(&listing.stderr)
    );
    assert!(
        listing.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&listing.stderr)
    );
    assert_eq!(text.lines().count(), 9, "{text}");
    assert!(
        text.contains(&"l".repeat(200)) && text.contains("-rws--x--x"),
        "{text}"
    );
    let compared = Command::new("tar")
        .args(["--compare", "--file"])
        .arg(out.path())
        .arg("--directory")
        .arg(root.path())
        .output()
        .unwrap();
    assert!(
        compared.status.success(),
        "{}",
        String::from_utf8_lossy(&compared.stdout)
    );

    let program = "import sys, tarfile\nfor m in tarfile.open(sys.argv[1]): print(m.name.encode('utf-8', 'surrogateescape'), m.mtime, m.size)";
    // A host without Python has said enough with tar.
    if let Ok(listing) = Command::new("python3")
        .args(["-c", program])
        .arg(out.path())
        .output()
    {
        let text = String::from_utf8_lossy(&listing.stdout).into_owned();
        assert!(
            listing.status.success(),
            "{}",
            String::from_utf8_lossy(&listing.stderr)
        );
        assert_eq!(text.lines().count(), 9, "{text}");
        assert!(
            text.contains("b'not \\xff text'") && text.contains("-4.75"),
            "{text}"
        );
    }
}
