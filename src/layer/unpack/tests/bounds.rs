//! Archives that want too much, or say what cannot be.

use super::*;
use crate::ownership::Owners;

/// A header whose fields are written as they are.
fn raw(kind: u8, path: &[u8], change: impl FnOnce(&mut [u8; BLOCK])) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.as_mut_bytes()[..path.len()].copy_from_slice(path);
    header.set_entry_type(EntryType::new(kind));
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1000);
    header.set_size(0);
    change(header.as_mut_bytes());
    header.set_cksum();
    header.as_bytes().to_vec()
}

fn base256(field: &mut [u8], number: i64) {
    let sign = if number < 0 { 0xff } else { 0 };
    field.fill(sign);
    let at = field.len() - 8;
    field[at..].copy_from_slice(&number.to_be_bytes());
    field[0] |= 0x80;
}

#[test]
fn headers_that_lie_are_refused() {
    let owner = |number| move |header: &mut [u8; BLOCK]| base256(&mut header[108..116], number);
    let size = |number| move |header: &mut [u8; BLOCK]| base256(&mut header[124..136], number);
    let cases: Vec<(&str, Vec<Vec<u8>>)> = vec![
        ("the owner -1", vec![raw(b'0', b"f", owner(-1))]),
        (
            "the owner 2^32 - 1",
            vec![raw(b'0', b"f", owner(0xffff_ffff))],
        ),
        ("the owner 2^32", vec![raw(b'0', b"f", owner(1 << 32))]),
        ("the owner -2^60", vec![raw(b'0', b"f", owner(-(1 << 60)))]),
        (
            "the owner 2^32 - 1 in a record",
            vec![pax_header(&[("gid", b"4294967295")]), file("f", "")],
        ),
        ("a negative size", vec![raw(b'0', b"f", size(-1))]),
        ("a size of 2^62", vec![raw(b'0', b"f", size(1 << 62))]),
        (
            "a long name of 600 MiB",
            vec![raw(b'L', b"n", size(600 << 20))],
        ),
        (
            "a long link of 600 MiB",
            vec![raw(b'K', b"n", size(600 << 20))],
        ),
        ("records of 600 MiB", vec![raw(b'x', b"n", size(600 << 20))]),
        (
            "global records of 600 MiB",
            vec![raw(b'g', b"n", size(600 << 20))],
        ),
        (
            "a long name of nothing",
            vec![extension(b'L', b"\0"), hard_link("", "")],
        ),
        ("a contiguous file", vec![raw(b'7', b"f", |_| {})]),
        ("a volume", vec![raw(b'V', b"f", |_| {})]),
        ("a part of a file", vec![raw(b'M', b"f", |_| {})]),
        ("a directory with its names", vec![raw(b'D', b"f", |_| {})]),
        ("a long name of old", vec![raw(b'N', b"f", |_| {})]),
        (
            "sizes that add up to more than there may be",
            // Each of 1 MiB, all of it a hole.
            vec![
                [
                    pax_header(&[("GNU.sparse.map", b"0,0"), ("GNU.sparse.size", b"1048576")]),
                    file("f", ""),
                ]
                .concat();
                9
            ],
        ),
        (
            "a hole of 2^60 bytes",
            vec![
                pax_header(&[
                    ("GNU.sparse.map", b"0,0"),
                    ("GNU.sparse.size", b"1152921504606846976"),
                ]),
                file("f", ""),
            ],
        ),
        (
            "as many attributes as fit",
            vec![
                extension(b'x', &{
                    let mut body = Vec::new();
                    for number in 0..20_000 {
                        let key = format!("SCHILY.xattr.user.{number}");
                        pax::append(&mut body, key.as_bytes(), b"x");
                    }
                    body
                }),
                file("f", ""),
            ],
        ),
        (
            "10,000 directories in each other",
            vec![
                extension(b'L', "d/".repeat(10_000).as_bytes()),
                directory("d"),
            ],
        ),
    ];
    for (name, members) in cases {
        for form in [Form::Overlay, Form::Plain] {
            let result = Scratch::new().unpack_as(form, &archive(&members));
            assert!(result.is_err(), "{name}");
        }
    }
}

#[test]
fn strange_but_honest_members_are_unpacked() {
    let time = |number| move |header: &mut [u8; BLOCK]| base256(&mut header[136..148], number);
    let id = |header: &mut [u8; BLOCK]| base256(&mut header[108..116], 1 << 31);
    let members = vec![
        raw(b'0', b"ancient", time(-(1 << 60))),
        raw(b'0', b"before", time(-1)),
        raw(b'0', b"late", time(1 << 60)),
        raw(b'5', b"last", time(i64::MAX)),
        raw(b'0', b"large-id", id),
        raw(b'0', b"new\nline", |_| {}),
        raw(b'0', b"es\x1b[2Jcape", |_| {}),
        raw(b'0', b"\xff\xfe", |_| {}),
        raw(0, b"old/", |_| {}),
        raw(b'0', b".wh", |_| {}),
        raw(b'0', b"..", |_| {})[..0].to_vec(),
        file("..a", ""),
        file("a..", ""),
        file("...", ""),
    ];
    let scratch = Scratch::new();
    scratch.unpack(&members).unwrap();
    assert_eq!(fs::metadata(scratch.at("before")).unwrap().mtime(), -1);
    for name in [
        "ancient",
        "late",
        "new\nline",
        "es\x1b[2Jcape",
        ".wh",
        "..a",
        "a..",
        "...",
    ] {
        assert!(scratch.at(name).is_file(), "{name:?}");
    }
    assert!(scratch.at("old").is_dir() && scratch.at("last").is_dir());
    assert_eq!(fs::read_dir(scratch.at("")).unwrap().count(), 13);
}

#[test]
fn the_same_name_can_be_everything_in_turn() {
    let scratch = Scratch::new();
    let round = [
        file("n", "x"),
        directory("n"),
        file("n/in", "x"),
        symlink("n", "../outside"),
        file("n", "y"),
        encoded(&blank("n", EntryType::Fifo), b""),
        hard_link("n", "kept"),
        file(".wh.n", ""),
        directory("n"),
        symlink("n/up", "../.."),
        file("n/up/outside", "x"),
        file("n", "z"),
    ];
    let kept = file("kept", "k");
    let members: Vec<_> = std::iter::once(kept)
        .chain([&round[..], &round[..]].concat())
        .collect();
    scratch.unpack(&members).unwrap();
    assert_eq!(fs::read_to_string(scratch.at("n")).unwrap(), "z");
    assert_eq!(fs::read_to_string(scratch.at("kept")).unwrap(), "k");
}

#[test]
fn removals_in_odd_places_only_hide_what_they_name() {
    type Case<'a> = (&'a str, Vec<Vec<u8>>, &'a [&'a str]);
    let cases: Vec<Case<'_>> = vec![
        ("an opaque root", vec![file(".wh..wh..opq", "")], &[]),
        (
            "an opaque file",
            vec![file("f", ""), file("f/.wh..wh..opq", "")],
            &["f"],
        ),
        (
            "opaque through a link",
            vec![
                directory("d"),
                symlink("l", "/d"),
                file("l/.wh..wh..opq", ""),
            ],
            &["d", "l"],
        ),
        (
            "records of aufs",
            vec![
                directory(".wh..wh.plnk"),
                file(".wh..wh.plnk/1.2", "x"),
                file(".wh..wh.aufs", ""),
                directory(".wh..wh.orph"),
            ],
            &[],
        ),
        (
            "a removal that is a directory, a link, a pipe",
            vec![
                directory(".wh.a"),
                symlink(".wh.b", "/etc"),
                encoded(&blank(".wh.c", EntryType::Fifo), b""),
            ],
            &["a", "b", "c"],
        ),
    ];
    for (name, members, left) in cases {
        let scratch = Scratch::new();
        scratch
            .unpack(&members)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut found: Vec<_> = fs::read_dir(scratch.at(""))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        found.sort();
        assert_eq!(found, left, "{name}");
    }
    for path in [
        ".wh....",
        ".wh.a/.wh..wh..opq",
        ".wh..wh..opq/x",
        ".wh..wh..opq/.wh.x",
    ] {
        let result = Scratch::new().unpack(&[file(path, "")]);
        assert!(
            matches!(&result, Err(Error::Whiteout { .. })) || path == ".wh....",
            "{path}"
        );
    }
}

#[test]
fn records_of_owners_and_marks_of_overlayfs_come_from_no_archive() {
    let scratch = Scratch::new();
    let mut member = blank("f", EntryType::Regular);
    let mut device = vec![0; 8];
    device.extend_from_slice(b"b\x08\0\0\0\0\0\0\0");
    member.attributes = [
        "user.rbuild.owner",
        "user.rbuild.mode",
        "user.rbuild.",
        "user.overlay.whiteout",
        "user.overlay.redirect",
        "user.overlay.metacopy",
        "trusted.overlay.whiteout",
        "security.ima",
        "system.nfs4_acl",
    ]
    .map(|name| (name.as_bytes().to_vec(), device.clone()))
    .into();
    let tar = archive(&[encoded(&member, b"")]);
    for form in [Form::Overlay, Form::PlainUpper, Form::Plain] {
        scratch.unpack_as(form, &tar).unwrap();
        let names = sys::xattr::list_at(&scratch.root, OsStr::new("f")).unwrap();
        let raw = names.iter().filter(|name| {
            let name = name.to_str().unwrap();
            !(name.starts_with("user.overlay.overlay.")
                || form == Form::Plain && name.starts_with("user.overlay."))
        });
        assert_eq!(raw.count(), 0, "{form:?}: {names:?}");
    }
}

#[test]
fn a_link_in_the_place_of_another_users_belongs_to_root() {
    let dir = tempfile::tempdir().unwrap();
    let diff = dir.path().join("diff");
    fs::create_dir(&diff).unwrap();
    let root = sys::fs::open_directory(&diff).unwrap();
    let ownership = Ownership::Recorded(Table::of(&diff));
    let owned = |kind, path: &str, uid| {
        let member = Member {
            link: if kind == EntryType::Symlink {
                "x".into()
            } else {
                Vec::new()
            },
            uid,
            ..blank(path, kind)
        };
        encoded(&member, b"")
    };
    let mut members = Vec::new();
    for number in 0..50 {
        for kind in [EntryType::Symlink, EntryType::Fifo] {
            let (name, other) = (
                format!("{kind:?}{number}"),
                format!("{kind:?}other{number}"),
            );
            members.push(owned(kind, &name, 1000));
            members.push(owned(kind, &name, 0));
            // Its inode may go to another name as well.
            members.push(owned(kind, &other, 1000));
            members.push(directory(&other));
            members.push(owned(kind, &format!("{other}/in"), 0));
        }
    }
    unpack(
        &mut &archive(&members)[..],
        root.as_fd(),
        &ownership,
        Form::Overlay,
        &Limits::default(),
    )
    .unwrap();
    let owners = Owners::new(&ownership, std::slice::from_ref(&diff));
    for number in 0..50 {
        for kind in ["Symlink", "Fifo"] {
            for path in [format!("{kind}{number}"), format!("{kind}other{number}/in")] {
                let mut stat = sys::fs::stat_at(&root, path.as_ref()).unwrap();
                owners.of(&root, path.as_ref(), &mut stat).unwrap();
                assert_eq!((stat.st_uid, stat.st_gid), (0, 0), "{path}");
            }
        }
    }
}

#[test]
fn directories_beyond_those_that_are_remembered_keep_their_times() {
    let limits = Limits {
        directory_times: 50,
        ..Limits::default()
    };
    let count = 180;
    let scratch = Scratch::new();
    let mut members: Vec<_> = (0..count)
        .map(|number| directory(&format!("d{number}")))
        .collect();
    // Back to the first ones, whose times were set long ago.
    for number in [0, 1, 2, count - 1] {
        members.push(file(&format!("d{number}/late"), "x"));
        members.push(directory(&format!("d{number}/sub")));
    }
    let unpacked = unpack(
        &mut &archive(&members)[..],
        scratch.root.as_fd(),
        &Ownership::Recorded(Table::default()),
        Form::Overlay,
        &limits,
    );
    unpacked.unwrap();
    for path in [
        "d0",
        "d0/sub",
        "d1",
        "d2",
        "d3",
        "d99",
        &format!("d{}", count - 1),
    ] {
        assert_eq!(
            fs::metadata(scratch.at(path)).unwrap().mtime(),
            1000,
            "{path}"
        );
    }
}
