mod attacks;
mod bounds;
mod race;
mod sparse;

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::*;
use crate::layer::attributes;
use crate::layer::header::BLOCK;
use crate::layer::pax;
use crate::ownership::Table;

/// A directory with a root in it and a file beside it that no archive may touch.
struct Scratch {
    dir: TempDir,
    root: OwnedFd,
    /// What the file beside the root, and the directory that both are in, were before.
    before: [Vec<i64>; 2],
}

/// Mode, owners, links and times: a change of any kind is seen in them.
fn state(path: &Path) -> Vec<i64> {
    let found = fs::symlink_metadata(path).unwrap();
    let (mode, uid, gid) = (found.mode(), found.uid(), found.gid());
    let links = i64::try_from(found.nlink()).unwrap();
    let mtime = [found.mtime(), found.mtime_nsec()];
    let ctime = [found.ctime(), found.ctime_nsec()];
    let whose = [mode, uid, gid].map(i64::from);
    [&whose[..], &[links], &mtime, &ctime].concat()
}

impl Scratch {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("root")).unwrap();
        fs::write(dir.path().join("outside"), "untouched").unwrap();
        let root = sys::fs::open_directory(&dir.path().join("root")).unwrap();
        let before = [state(&dir.path().join("outside")), state(dir.path())];
        Self { dir, root, before }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join("root").join(path)
    }

    fn unpack_as(&self, form: Form, tar: &[u8]) -> Result<Unpacked, Error> {
        let mut input = tar;
        let limits = Limits {
            entries: 100,
            file_bytes: 1 << 20,
            total_bytes: 8 << 20,
            ..Limits::default()
        };
        let result = unpack(
            &mut input,
            self.root.as_fd(),
            &Ownership::Recorded(Table::default()),
            form,
            &limits,
        );
        assert_eq!(
            fs::read_to_string(self.dir.path().join("outside")).unwrap(),
            "untouched"
        );
        assert_eq!(
            fs::read_dir(self.dir.path()).unwrap().count(),
            2,
            "something is outside the root"
        );
        let after = [
            state(&self.dir.path().join("outside")),
            state(self.dir.path()),
        ];
        assert_eq!(after, self.before, "something outside was changed");
        result
    }

    fn unpack(&self, members: &[Vec<u8>]) -> Result<Unpacked, Error> {
        self.unpack_as(Form::Overlay, &archive(members))
    }

    fn is_opaque(&self, path: &str) -> bool {
        attributes::is_opaque(self.root.as_fd(), OsStr::new(path)).unwrap()
    }

    fn is_whiteout(&self, path: &str) -> bool {
        let found = fs::symlink_metadata(self.at(path)).unwrap();
        found.file_type().is_char_device() && found.rdev() == 0
    }
}

fn blank(path: &str, kind: EntryType) -> Member {
    Member {
        path: path.into(),
        link: Vec::new(),
        kind,
        mode: 0o755,
        uid: 0,
        gid: 0,
        size: 0,
        mtime: (1000, 0),
        device: (0, 0),
        attributes: Vec::new(),
    }
}

fn encoded(member: &Member, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    member.encode(&mut out);
    out.extend_from_slice(data);
    out.resize(out.len().next_multiple_of(BLOCK), 0);
    out
}

fn file(path: &str, data: &str) -> Vec<u8> {
    let member = Member {
        size: data.len() as u64,
        ..blank(path, EntryType::Regular)
    };
    encoded(&member, data.as_bytes())
}

fn directory(path: &str) -> Vec<u8> {
    encoded(&blank(path, EntryType::Directory), b"")
}

fn link(kind: EntryType, path: &str, target: &str) -> Vec<u8> {
    encoded(
        &Member {
            link: target.into(),
            ..blank(path, kind)
        },
        b"",
    )
}

fn symlink(path: &str, target: &str) -> Vec<u8> {
    link(EntryType::Symlink, path, target)
}

fn hard_link(path: &str, target: &str) -> Vec<u8> {
    link(EntryType::Link, path, target)
}

/// An extended header of `kind` with `body` and, for `x`, the member that it is about still to come.
fn extension(kind: u8, body: &[u8]) -> Vec<u8> {
    let member = Member {
        size: body.len() as u64,
        ..blank("extension", EntryType::new(kind))
    };
    encoded(&member, body)
}

fn pax_header(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (key, value) in records {
        pax::append(&mut body, key.as_bytes(), value);
    }
    extension(b'x', &body)
}

fn archive(members: &[Vec<u8>]) -> Vec<u8> {
    [members.concat(), vec![0; 2 * BLOCK]].concat()
}

#[test]
fn an_archive_may_end_early_at_a_member_or_have_none() {
    let member = file("a", "data");
    for (tar, entries) in [
        (Vec::new(), 0),
        (vec![0; BLOCK], 0),
        (vec![0; 2 * BLOCK], 0),
        (member.clone(), 1),
        ([member.clone(), vec![0; BLOCK]].concat(), 1),
        (
            [archive(std::slice::from_ref(&member)), b"trailing".to_vec()].concat(),
            1,
        ),
    ] {
        assert_eq!(
            Scratch::new()
                .unpack_as(Form::Overlay, &tar)
                .unwrap()
                .entries,
            entries
        );
    }
}

#[test]
fn a_layer_s_removals_become_marks_of_overlayfs() {
    let scratch = Scratch::new();
    let members = [
        file("a/.wh.gone", ""),
        directory("b"),
        file("b/.wh..wh..opq", ""),
        file(".wh..wh.plnk", ""),
        // A removal concerns the layers below, whatever else this layer has at the name.
        file("kept", "x"),
        file(".wh.kept", ""),
        file(".wh.first", ""),
        directory("first"),
        directory("second"),
        file(".wh.second", ""),
        file(".wh.implied", ""),
        file("implied/file", "x"),
        file(".wh.again", ""),
        file("again", "x"),
    ];
    scratch.unpack(&members).unwrap();
    assert!(scratch.is_whiteout("a/gone"));
    assert!(scratch.is_opaque("b") && !scratch.is_opaque("a"));
    assert_eq!(fs::read_to_string(scratch.at("kept")).unwrap(), "x");
    assert_eq!(fs::read_to_string(scratch.at("again")).unwrap(), "x");
    assert_eq!(fs::read_to_string(scratch.at("implied/file")).unwrap(), "x");
    for replaced in ["first", "second", "implied"] {
        assert!(scratch.is_opaque(replaced), "{replaced}");
    }
    assert_eq!(fs::read_dir(scratch.at("")).unwrap().count(), 7);
}

#[test]
fn in_another_archive_whiteout_names_are_names() {
    let scratch = Scratch::new();
    let tar = archive(&[file(".wh.a", "x"), file(".wh..wh..opq", "y")]);
    scratch.unpack_as(Form::Plain, &tar).unwrap();
    assert_eq!(fs::read_to_string(scratch.at(".wh.a")).unwrap(), "x");
    assert!(!scratch.is_opaque("."));
}

#[test]
fn the_last_of_several_members_wins() {
    let scratch = Scratch::new();
    let members = [
        file("a", "first"),
        file("a", "second"),
        directory("d"),
        file("d/inner", "x"),
        symlink("d", "a"),
        symlink("e", "a"),
        directory("e"),
        file("parent", "x"),
        file("parent/child", "x"),
    ];
    scratch.unpack(&members).unwrap();
    assert_eq!(fs::read_to_string(scratch.at("a")).unwrap(), "second");
    assert!(fs::symlink_metadata(scratch.at("d")).unwrap().is_symlink());
    assert!(fs::symlink_metadata(scratch.at("e")).unwrap().is_dir() && scratch.is_opaque("e"));
    assert_eq!(fs::read_to_string(scratch.at("parent/child")).unwrap(), "x");
    assert!(scratch.is_opaque("parent"));
    // Where the tree is not a layer, what is there is not thrown away for a parent.
    let tar = archive(&[file("a/child", "x")]);
    assert!(matches!(
        scratch.unpack_as(Form::Plain, &tar),
        Err(Error::Unpack { .. })
    ));
}

#[test]
fn links_are_followed_on_the_way_and_made_to_lead_somewhere() {
    let scratch = Scratch::new();
    let members = [
        symlink("var/run", "/run"),
        file("var/run/pid", "1"),
        symlink("lib", "usr/lib"),
        file("lib/a.so", "2"),
        hard_link("lib/b.so", "/lib/a.so"),
        symlink("loop", "loop"),
    ];
    scratch.unpack(&members).unwrap();
    assert_eq!(fs::read_to_string(scratch.at("run/pid")).unwrap(), "1");
    assert_eq!(fs::read_to_string(scratch.at("usr/lib/b.so")).unwrap(), "2");
    assert!(
        fs::symlink_metadata(scratch.at("var/run"))
            .unwrap()
            .is_symlink()
    );
    assert!(scratch.unpack(&[file("loop/x", "")]).is_err());
}

#[test]
fn a_hard_link_to_itself_or_twice_keeps_the_file() {
    let scratch = Scratch::new();
    let members = [
        file("a", "x"),
        hard_link("a", "a"),
        hard_link("b", "a"),
        hard_link("b", "./a"),
    ];
    scratch.unpack(&members).unwrap();
    assert_eq!(fs::metadata(scratch.at("a")).unwrap().nlink(), 2);
    let tar = archive(&[symlink("s", "../outside"), hard_link("t", "s")]);
    scratch.unpack_as(Form::Overlay, &tar).unwrap();
    assert!(fs::symlink_metadata(scratch.at("t")).unwrap().is_symlink());
}

#[test]
fn extended_headers_win_over_the_header() {
    let scratch = Scratch::new();
    let mut wrong_size = blank("wrong", EntryType::Regular);
    wrong_size.size = 0;
    let global = extension(b'g', b"19 comment=1234567\n");
    let long_name = "long/".repeat(50) + "name";
    let records: [(&str, &[u8]); 4] = [
        ("path", b"right"),
        ("size", b"600"),
        ("mtime", b"5.25"),
        ("uname", b"somebody"),
    ];
    let data = [vec![b'z'; 600], vec![0; 424]].concat();
    let tar = archive(&[
        global,
        pax_header(&records),
        encoded(&wrong_size, &data),
        extension(b'L', format!("{long_name}\0").as_bytes()),
        file("short", "x"),
        extension(b'K', b"a target\0"),
        symlink("link", "other"),
    ]);
    scratch.unpack_as(Form::Overlay, &tar).unwrap();
    let found = fs::metadata(scratch.at("right")).unwrap();
    assert_eq!(
        (found.len(), found.mtime(), found.mtime_nsec()),
        (600, 5, 250_000_000)
    );
    assert_eq!(fs::read_to_string(scratch.at(&long_name)).unwrap(), "x");
    assert_eq!(
        fs::read_link(scratch.at("link")).unwrap(),
        Path::new("a target")
    );
}

#[test]
fn modes_and_times_are_those_of_the_archive() {
    let scratch = Scratch::new();
    let mut setuid = blank("d/setuid", EntryType::Regular);
    (setuid.mode, setuid.size) = (0o4711, 1);
    let mut pipe = blank("d/pipe", EntryType::Fifo);
    pipe.mode = 0o622;
    let mut root = blank("./", EntryType::Directory);
    root.mode = 0o751;
    let mut device = blank("dev/null", EntryType::Char);
    device.device = (1, 3);
    let members = [root, blank("d", EntryType::Directory), setuid, pipe, device].map(|member| {
        let data: &[u8] = if member.size == 1 { b"x" } else { b"" };
        encoded(&member, data)
    });
    let unpacked = scratch.unpack(&members).unwrap();
    assert_eq!(unpacked.entries, 5);
    for (path, mode) in [
        ("", 0o751),
        ("d", 0o755),
        ("d/setuid", 0o4711),
        ("d/pipe", 0o622),
        ("dev/null", 0o755),
    ] {
        let found = fs::symlink_metadata(scratch.at(path)).unwrap();
        assert_eq!(found.permissions().mode() & 0o7777, mode, "{path}");
        assert_eq!((found.mtime(), found.mtime_nsec()), (1000, 0), "{path}");
    }
}

#[test]
fn a_tar_is_told_by_its_first_header() {
    use crate::layer::is_tar;
    let tar = archive(&[file("a", "x")]);
    assert!(is_tar(&tar) && is_tar(&tar[..512]));
    assert!(!is_tar(&tar[..511]) && !is_tar(&[0; 1024]) && !is_tar(&[b'a'; 1024]) && !is_tar(b""));
}

#[test]
fn what_system_tar_writes_is_read() {
    let source = tempfile::tempdir().unwrap();
    fs::create_dir(source.path().join("d")).unwrap();
    let long = "n".repeat(180);
    fs::File::create(source.path().join("d").join(&long))
        .unwrap()
        .write_all(b"text")
        .unwrap();
    for format in ["gnu", "pax", "ustar", "v7"] {
        let mut command = std::process::Command::new("tar");
        command
            .args(["--format", format, "--owner=0", "--group=0", "-C"])
            .arg(source.path());
        // The old formats have no room for the long name.
        let path = if matches!(format, "gnu" | "pax") {
            "."
        } else {
            "--exclude=n*"
        };
        let output = command.args(["-cf", "-", path, "d"]).output().unwrap();
        let scratch = Scratch::new();
        scratch.unpack_as(Form::Overlay, &output.stdout).unwrap();
        assert!(scratch.at("d").is_dir(), "{format}");
        if path == "." {
            assert_eq!(
                fs::read_to_string(scratch.at("d").join(&long)).unwrap(),
                "text",
                "{format}"
            );
        }
    }
}
