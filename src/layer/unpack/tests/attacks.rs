//! Archives that try to do harm.

use super::*;

#[test]
fn attacks_stay_inside_the_root() {
    let cases: [(&str, Vec<Vec<u8>>, &str); 9] = [
        ("parents above", vec![file("../../outside", "x")], "outside"),
        (
            "parents in the middle",
            vec![file("a/../../../outside", "x")],
            "outside",
        ),
        ("an absolute name", vec![file("/outside", "x")], "outside"),
        (
            "a link up",
            vec![symlink("up", ".."), file("up/outside", "x")],
            "outside",
        ),
        (
            "a link far up",
            vec![symlink("up", "../../../.."), file("up/outside", "x")],
            "outside",
        ),
        (
            "an absolute link",
            vec![symlink("abs", "/"), file("abs/outside", "x")],
            "outside",
        ),
        (
            "a link at the name",
            vec![symlink("out", "../outside"), file("out", "x")],
            "out",
        ),
        (
            "a link that becomes a directory",
            vec![symlink("d", ".."), directory("d"), file("d/outside", "x")],
            "d/outside",
        ),
        (
            "a link through a link",
            vec![
                symlink("a", "b/.."),
                symlink("b", "../.."),
                directory("c"),
                file("c/outside", "x"),
            ],
            "c/outside",
        ),
    ];
    for (name, members, made) in cases {
        for form in [Form::Overlay, Form::Plain] {
            let scratch = Scratch::new();
            scratch
                .unpack_as(form, &archive(&members))
                .unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(fs::read_to_string(scratch.at(made)).unwrap(), "x", "{name}");
            assert!(
                fs::symlink_metadata(scratch.at(made)).unwrap().is_file(),
                "{name}"
            );
        }
    }
}

#[test]
fn archives_that_no_honest_program_writes_are_refused() {
    let with = |kind, change: fn(&mut Member)| {
        let mut member = blank("f", kind);
        change(&mut member);
        encoded(&member, b"")
    };
    let many = (0..300)
        .map(|n| (format!("user.{n}").into_bytes(), vec![1]))
        .collect();
    let cases: Vec<(&str, Vec<Vec<u8>>)> = vec![
        ("the root as a link", vec![symlink("./", "/etc")]),
        ("the root as a file", vec![file("..", "x")]),
        ("a hard link to outside", vec![hard_link("l", "../outside")]),
        (
            "an absolute hard link to outside",
            vec![hard_link("l", "/etc/passwd")],
        ),
        (
            "a hard link through a link",
            vec![symlink("s", "/etc"), hard_link("l", "s/passwd")],
        ),
        (
            "a hard link to a directory",
            vec![directory("d"), hard_link("l", "d")],
        ),
        (
            "a hard link to a whiteout",
            vec![file(".wh.f", ""), hard_link("l", "f")],
        ),
        ("a hard link to nothing", vec![hard_link("l", "")]),
        ("a symbolic link to nothing", vec![symlink("l", "")]),
        ("a whiteout device", vec![with(EntryType::Char, |_| {})]),
        ("a whiteout of nothing", vec![file(".wh.", "")]),
        ("a whiteout of itself", vec![file(".wh..", "")]),
        ("a whiteout of the parent", vec![file("a/.wh...", "")]),
        (
            "something in a link to a whiteout",
            vec![symlink("a", ".wh..wh..opq"), file("a/f", "")],
        ),
        ("something in a whiteout", vec![file(".wh.a/b", "")]),
        ("a whiteout in a whiteout", vec![file(".wh.a/.wh.b", "")]),
        ("a name of 256 bytes", vec![file(&"n".repeat(256), "")]),
        ("a path of 5000 bytes", vec![file(&"n/".repeat(2500), "")]),
        (
            "a zero byte in a path",
            vec![pax_header(&[("path", b"a\0b")]), file("f", "")],
        ),
        (
            "a device that Linux cannot have",
            vec![with(EntryType::Block, |member| member.device = (4096, 0))],
        ),
        (
            "an owner beyond 32 bits",
            vec![pax_header(&[("uid", b"4294967296")]), file("f", "")],
        ),
        (
            "a negative owner",
            vec![pax_header(&[("uid", b"-1")]), file("f", "")],
        ),
        (
            "a file beyond the limit",
            vec![with(EntryType::Regular, |member| member.size = 2 << 20)],
        ),
        ("more entries than the limit", vec![directory("d"); 101]),
        (
            "more bytes than the limit",
            vec![file("f", &"x".repeat(1 << 20)); 9],
        ),
        (
            "an attribute of 65 KiB",
            vec![
                pax_header(&[("SCHILY.xattr.user.a", &[1; 65_537])]),
                file("f", ""),
            ],
        ),
        (
            "300 attributes",
            vec![encoded(
                &Member {
                    attributes: many,
                    ..blank("f", EntryType::Regular)
                },
                b"",
            )],
        ),
        (
            "an extended header of 2 MiB",
            vec![extension(b'x', &vec![0; 2 << 20]), file("f", "")],
        ),
        (
            "a long name of 2 MiB",
            vec![extension(b'L', &vec![b'a'; 2 << 20]), file("f", "")],
        ),
        (
            "two extended headers",
            vec![
                pax_header(&[("path", b"a")]),
                pax_header(&[("path", b"b")]),
                file("f", ""),
            ],
        ),
        (
            "two long names",
            vec![extension(b'L', b"a"), extension(b'L', b"b"), file("f", "")],
        ),
        (
            "an extended header for nothing",
            vec![pax_header(&[("path", b"a")])],
        ),
        (
            "a malformed record",
            vec![extension(b'x', b"99 path=a\n"), file("f", "")],
        ),
        (
            "a size that is no number",
            vec![pax_header(&[("size", b"+1")]), file("f", "")],
        ),
        (
            "a sparse file without a map for its data",
            vec![
                with(EntryType::GNUSparse, |header| header.size = 1),
                vec![0; BLOCK],
            ],
        ),
        (
            "a sparse file without a size",
            vec![pax_header(&[("GNU.sparse.major", b"1")]), file("f", "")],
        ),
        (
            "a global header that renames",
            vec![extension(b'g', b"10 path=a\n"), file("f", "")],
        ),
        ("an unknown type", vec![with(EntryType::new(b'Z'), |_| {})]),
        (
            "a block of zeros between members",
            vec![vec![0; BLOCK], file("f", "")],
        ),
    ];
    for (name, members) in cases {
        let scratch = Scratch::new();
        assert!(scratch.unpack(&members).is_err(), "{name}");
    }
}

#[test]
fn damaged_and_cut_off_archives_are_refused() {
    let whole = archive(&[file("a", "some data"), file("b", "more data")]);
    for length in [1, 511, 513, 1023, 1024 + 100, 2047, 2048 + 100] {
        let result = Scratch::new().unpack_as(Form::Overlay, &whole[..length]);
        assert!(
            matches!(result, Err(Error::Archive(_))),
            "{length}: {result:?}"
        );
    }
    let mut damaged = whole.clone();
    damaged[3] ^= 1;
    assert!(Scratch::new().unpack_as(Form::Overlay, &damaged).is_err());
}

#[test]
fn marks_of_overlayfs_cannot_be_given_by_an_archive() {
    let scratch = Scratch::new();
    let mut member = blank("d", EntryType::Directory);
    member.attributes = vec![
        (b"security.selinux".to_vec(), b"label".to_vec()),
        (b"trusted.overlay.opaque".to_vec(), b"y".to_vec()),
        (b"user.overlay.opaque".to_vec(), b"y".to_vec()),
        (b"user.plain".to_vec(), b"\0\n=".to_vec()),
    ];
    scratch.unpack(&[encoded(&member, b"")]).unwrap();
    assert!(!scratch.is_opaque("d"));
    let names = sys::xattr::list_at(&scratch.root, OsStr::new("d")).unwrap();
    assert_eq!(names, ["user.overlay.overlay.opaque", "user.plain"]);
    let value =
        sys::xattr::get_at(&scratch.root, OsStr::new("d"), OsStr::new("user.plain")).unwrap();
    assert_eq!(value.unwrap(), b"\0\n=");
}
