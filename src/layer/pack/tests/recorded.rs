//! Layers whose owners are records.

use tar::{Builder, Header};

use super::*;
use crate::layer::{Form, Limits, unpack};
use crate::ownership::Table;

/// A snapshot of the kind with records.
struct Snapshot(TempDir);

impl Snapshot {
    fn unpacked(tar: &[u8]) -> Self {
        let snapshot = Self(directory());
        fs::create_dir(snapshot.diff()).unwrap();
        fs::set_permissions(snapshot.diff(), fs::Permissions::from_mode(0o755)).unwrap();
        let root = open(&snapshot.diff());
        let ownership = recorded().of_layer(&snapshot.diff());
        let mut input = tar;
        let limits = Limits::default();
        unpack(&mut input, root.as_fd(), &ownership, Form::Overlay, &limits).unwrap();
        snapshot
    }

    fn diff(&self) -> std::path::PathBuf {
        self.0.path().join("diff")
    }

    fn packed(&self, lowers: &[&Self]) -> Vec<u8> {
        let diffs: Vec<_> = std::iter::once(self)
            .chain(lowers.iter().copied())
            .map(Self::diff)
            .collect();
        let owners = Owners::new(&recorded(), &diffs);
        let below: Vec<_> = diffs[1..].iter().cloned().map(Lower::new).collect();
        let (options, mut out) = (PackOptions::default(), Vec::new());
        let upper = open(&diffs[0]);
        pack(upper.as_fd(), &below, &owners, &options, &mut out).unwrap();
        out
    }
}

fn recorded() -> Ownership {
    Ownership::Recorded(Table::default())
}

fn add(tar: &mut Builder<Vec<u8>>, kind: EntryType, path: &str, link: &str, owner: (u64, u64)) {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_size(0);
    header.set_mode(if kind == EntryType::Symlink {
        0o777
    } else {
        0o750
    });
    header.set_uid(owner.0);
    header.set_gid(owner.1);
    header.set_mtime(1_000_000);
    header.set_device_major(0).unwrap();
    header.set_device_minor(0).unwrap();
    if matches!(kind, EntryType::Char | EntryType::Block) {
        header.set_device_major(4).unwrap();
        header.set_device_minor(5).unwrap();
    }
    if link.is_empty() {
        tar.append_data(&mut header, path, &b""[..]).unwrap();
    } else {
        tar.append_link(&mut header, path, link).unwrap();
    }
}

fn everything(root: (u64, u64)) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    add(&mut tar, EntryType::Directory, "./", "", root);
    add(&mut tar, EntryType::Directory, "d/", "", (1, 2));
    add(&mut tar, EntryType::Block, "d/block", "", (3, 4));
    add(&mut tar, EntryType::Char, "d/char", "", (0, 0));
    add(&mut tar, EntryType::Link, "d/char2", "d/char", (0, 0));
    add(&mut tar, EntryType::Regular, "d/file", "", (5, 6));
    add(&mut tar, EntryType::Link, "d/hard", "d/file", (5, 6));
    add(&mut tar, EntryType::Symlink, "d/link", "nowhere", (7, 8));
    add(&mut tar, EntryType::Fifo, "d/pipe", "", (9, 10));
    add(&mut tar, EntryType::Fifo, "d/root", "", (0, 0));
    tar.into_inner().unwrap()
}

/// What `tar -tv` would show of owners and devices.
fn shown(tar: &[u8]) -> Vec<String> {
    tar::Archive::new(tar)
        .entries()
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let header = entry.header();
            let numbers = (
                header.device_major().unwrap(),
                header.device_minor().unwrap(),
            );
            format!(
                "{:?} {} {}:{} {numbers:?}",
                header.entry_type(),
                String::from_utf8_lossy(&entry.path_bytes()),
                header.uid().unwrap(),
                header.gid().unwrap()
            )
        })
        .collect()
}

#[test]
fn owners_and_devices_survive_unpacking_and_packing() {
    let tar = everything((11, 12));
    let snapshot = Snapshot::unpacked(&tar);
    let packed = snapshot.packed(&[]);
    assert_eq!(shown(&packed), shown(&tar));
    assert!(packed == Snapshot::unpacked(&packed).packed(&[]));
}

#[test]
fn a_merged_view_shows_them_too() {
    let tar = everything((11, 12));
    let snapshot = Snapshot::unpacked(&tar);
    let owners = Owners::new(&recorded(), &[snapshot.diff()]);
    let mut out = Vec::new();
    let root = open(&snapshot.diff());
    pack_tree(root.as_fd(), &owners, &PackOptions::default(), &mut out).unwrap();
    assert_eq!(shown(&out), shown(&tar));
}

#[test]
fn a_directory_is_in_the_layer_when_only_its_record_differs() {
    let below = Snapshot::unpacked(&everything((0, 0)));
    let same = Snapshot::unpacked(&everything((0, 0)));
    let is_directory = |line: &String| line.starts_with("Directory");
    let directories = |tar: &[u8]| {
        shown(tar)
            .into_iter()
            .filter(is_directory)
            .collect::<Vec<_>>()
    };
    assert_eq!(directories(&same.packed(&[&below])), [] as [&str; 0]);
    let ownership = recorded().of_layer(&same.diff());
    ownership.set(open(&same.diff().join("d")), 1, 99).unwrap();
    ownership.set(open(&same.diff()), 1, 99).unwrap();
    assert_eq!(
        directories(&same.packed(&[&below])),
        [
            "Directory ./ 1:99 (Some(0), Some(0))",
            "Directory d/ 1:99 (Some(0), Some(0))"
        ]
    );
}

#[test]
fn an_archive_cannot_bring_records() {
    let record = [1, 0, 0, 0, 1, 0, 0, 0, b'c', 1, 0, 0, 0, 3, 0, 0, 0];
    let mut tar = Builder::new(Vec::new());
    for kind in [EntryType::Regular, EntryType::Directory] {
        let records = [
            ("SCHILY.xattr.user.rbuild.owner", &record[..]),
            ("SCHILY.xattr.user.rbuild.other", b"x"),
            ("LIBARCHIVE.xattr.user.rbuild.owner", b"AQAAAAEAAAA="),
            ("SCHILY.xattr.user.kept", b"x"),
        ];
        tar.append_pax_extensions(records).unwrap();
        add(&mut tar, kind, &format!("{kind:?}"), "", (0, 0));
    }
    let snapshot = Snapshot::unpacked(&tar.into_inner().unwrap());
    let root = open(&snapshot.diff());
    for name in ["Regular", "Directory"] {
        let names = sys::xattr::list_at(&root, name.as_ref()).unwrap();
        assert_eq!(names, ["user.kept"], "{name}");
    }
    assert_eq!(
        shown(&snapshot.packed(&[])),
        [
            "Directory Directory/ 0:0 (Some(0), Some(0))",
            "Regular Regular 0:0 (Some(0), Some(0))"
        ]
    );
}
