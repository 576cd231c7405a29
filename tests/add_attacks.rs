//! Archives and names of ADD that want to write where they must not: whatever becomes of the build,
//! nothing outside the destination changes, in the image or on the host.

use std::fs;

use tar::{Builder, EntryType, Header};

use crate::rig::Rig;
use crate::rig::image::Kind;
use crate::rig::registry::{Answer, Registry};

/// One member, with a name or target that an honest writer refuses.
fn member(tar: &mut Builder<Vec<u8>>, kind: EntryType, path: &str, target: &str, content: &[u8]) {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    if matches!(kind, EntryType::Char | EntryType::Block) {
        header.set_device_major(1).unwrap();
        header.set_device_minor(3).unwrap();
    }
    let gnu = header.as_gnu_mut().unwrap();
    gnu.name[..path.len()].copy_from_slice(path.as_bytes());
    gnu.linkname[..target.len()].copy_from_slice(target.as_bytes());
    header.set_cksum();
    tar.append(&header, content).unwrap();
}

/// What an attack does, as members.
type Members<'a> = &'a [(EntryType, &'a str, &'a str)];

const FILE: EntryType = EntryType::Regular;
const LINK: EntryType = EntryType::Symlink;
const HARD: EntryType = EntryType::Link;

fn archive(members: Members<'_>) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    for (kind, path, target) in members {
        let content: &[u8] = if *kind == FILE { b"evil" } else { b"" };
        member(&mut tar, *kind, path, target, content);
    }
    tar.into_inner().unwrap()
}

#[test]
fn nothing_outside_the_destination_changes() {
    let rig = Rig::new();
    let outside = rig.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "host").unwrap();
    let host = outside.to_str().unwrap();
    let host_file = format!("{host}/file");
    let below_host = format!("out/{}", "evil");
    let attacks: Vec<(&str, Vec<u8>)> = vec![
        ("parents", archive(&[(FILE, "../../etc/passwd", "")])),
        (
            "parents in the middle",
            archive(&[(FILE, "a/../../../etc/passwd", "")]),
        ),
        ("an absolute path", archive(&[(FILE, "/etc/passwd", "")])),
        (
            "an absolute path of the host",
            archive(&[(FILE, &host_file, "")]),
        ),
        (
            "a link, then a file through it",
            archive(&[(LINK, "out", "/etc"), (FILE, "out/passwd", "")]),
        ),
        (
            "a relative link",
            archive(&[(LINK, "out", "../../../etc"), (FILE, "out/passwd", "")]),
        ),
        (
            "a link to the host",
            archive(&[
                (LINK, "out", host),
                (FILE, &below_host, ""),
                (FILE, "out/file", ""),
            ]),
        ),
        (
            "links that add up",
            archive(&[
                (LINK, "a", ".."),
                (LINK, "b", "a/.."),
                (FILE, "b/etc/passwd", ""),
            ]),
        ),
        (
            "a file over a link",
            archive(&[(LINK, "out", "/etc/passwd"), (FILE, "out", "")]),
        ),
        (
            "a directory over a link",
            archive(&[
                (LINK, "out", "/etc"),
                (EntryType::Directory, "out/", ""),
                (FILE, "out/passwd", ""),
            ]),
        ),
        (
            "a hard link out",
            archive(&[(HARD, "out", "../etc/passwd"), (FILE, "out", "")]),
        ),
        (
            "an absolute hard link",
            archive(&[(HARD, "out", "/etc/passwd"), (FILE, "out", "")]),
        ),
        (
            "a hard link to the host",
            archive(&[(HARD, "out", &host_file), (FILE, "out", "")]),
        ),
        (
            "a hard link through a link",
            archive(&[
                (LINK, "l", "/etc"),
                (HARD, "out", "l/passwd"),
                (FILE, "out", ""),
            ]),
        ),
        (
            "a hard link to a link",
            archive(&[
                (LINK, "l", "/etc/passwd"),
                (HARD, "out", "l"),
                (FILE, "out", ""),
            ]),
        ),
        (
            "procfs",
            archive(&[(LINK, "out", "/proc/self/cwd"), (FILE, "out/evil", "")]),
        ),
    ];
    for (name, bytes) in attacks {
        rig.write("evil.tar", bytes);
        for add in [
            "ADD evil.tar /to/",
            "ADD --link evil.tar /to/",
            "WORKDIR /to/x/y\nADD evil.tar .",
        ] {
            let archive = rig.path("image.tar");
            drop(fs::remove_file(&archive));
            rig.dockerfile(&format!("FROM base\n{add}"));
            let outcome = rig.build(&["-o", &format!("type=oci,dest={}", archive.display())]);
            assert!(
                matches!(outcome.code, Some(0 | 1)),
                "{name} {add}: {}",
                outcome.stderr
            );
            assert!(
                !outcome.stderr.contains("panicked"),
                "{name}: {}",
                outcome.stderr
            );
            assert_eq!(
                fs::read_to_string(outside.join("file")).unwrap(),
                "host",
                "{name}"
            );
            assert_eq!(fs::read_dir(&outside).unwrap().count(), 1, "{name}");
            if outcome.code == Some(0) {
                let image = crate::rig::image::Image::open(&archive);
                assert_eq!(
                    image.text("etc/passwd"),
                    crate::rig::base::PASSWD,
                    "{name} {add}"
                );
                let strays: Vec<_> = image
                    .layers
                    .last()
                    .unwrap()
                    .entries
                    .iter()
                    .filter(|(path, _)| path != "to" && !path.starts_with("to/"))
                    .collect();
                assert!(strays.is_empty(), "{name} {add}: {strays:?}");
            }
        }
    }
}

#[test]
fn devices_and_members_of_one_name_do_no_harm() {
    let rig = Rig::new();
    let mut tar = Builder::new(Vec::new());
    member(&mut tar, EntryType::Char, "null", "", b"");
    member(&mut tar, EntryType::Block, "disk", "", b"");
    member(&mut tar, FILE, "twice", "", b"first");
    member(&mut tar, FILE, "twice", "", b"second");
    member(&mut tar, EntryType::Directory, "was/", "", b"");
    member(&mut tar, FILE, "was/in", "", b"");
    member(&mut tar, FILE, "name", "", b"");
    member(&mut tar, EntryType::Directory, "name/", "", b"");
    rig.write("a.tar", tar.into_inner().unwrap());
    for link in ["", "--link "] {
        let image = rig.image(&format!("FROM base\nADD {link}a.tar /to/"));
        assert_eq!(
            image.file("to/null").kind,
            Kind::Character { major: 1, minor: 3 }
        );
        assert_eq!(
            image.file("to/disk").kind,
            Kind::Block { major: 1, minor: 3 }
        );
        assert_eq!(image.text("to/twice"), "second");
        assert_eq!(image.file("to/name").kind, Kind::Directory);
    }
}

#[test]
fn marks_of_removals_and_of_overlayfs_hide_nothing_below() {
    let rig = Rig::new();
    for (name, build) in [
        ("opaque", {
            let mut tar = Builder::new(Vec::new());
            tar.append_pax_extensions([
                ("SCHILY.xattr.user.overlay.opaque", &b"y"[..]),
                ("SCHILY.xattr.trusted.overlay.opaque", &b"y"[..]),
            ])
            .unwrap();
            member(&mut tar, EntryType::Directory, "etc/", "", b"");
            tar
        }),
        ("redirect", {
            let mut tar = Builder::new(Vec::new());
            tar.append_pax_extensions([("SCHILY.xattr.user.overlay.redirect", &b"/root"[..])])
                .unwrap();
            member(&mut tar, EntryType::Directory, "etc/", "", b"");
            tar
        }),
        ("whiteout", archive_of(&[".wh.etc", "etc/.wh.passwd"])),
        ("opaque name", archive_of(&["etc/.wh..wh..opq"])),
    ] {
        rig.write("a.tar", build.into_inner().unwrap());
        for link in ["", "--link "] {
            rig.dockerfile(&format!(
                "FROM base\nADD {link}a.tar /\nRUN cat /etc/passwd"
            ));
            let archive = rig.path("image.tar");
            let outcome = rig.build(&["-o", &format!("type=oci,dest={}", archive.display())]);
            // A name that a layer cannot hold is an error; what is built has all that was there.
            assert!(
                matches!(outcome.code, Some(0 | 1)),
                "{name}: {}",
                outcome.stderr
            );
            if outcome.code == Some(0) {
                let image = crate::rig::image::Image::open(&archive);
                assert_eq!(
                    image.text("etc/passwd"),
                    crate::rig::base::PASSWD,
                    "{name} {link}"
                );
            }
        }
    }
}

fn archive_of(paths: &[&str]) -> Builder<Vec<u8>> {
    let mut tar = Builder::new(Vec::new());
    for path in paths {
        member(&mut tar, FILE, path, "", b"");
    }
    tar
}

#[test]
fn a_header_that_promises_more_than_there_is_fails() {
    let rig = Rig::new();
    let mut header = Header::new_gnu();
    header.set_entry_type(FILE);
    header.set_path("huge").unwrap();
    header.set_mode(0o644);
    header.set_size(1 << 40);
    header.set_cksum();
    rig.write("huge.tar", header.as_bytes());
    rig.dockerfile("FROM base\nADD huge.tar /to/");
    rig.build(&[]).exits_with(1).says(&["huge"]);
}

#[test]
fn the_name_of_a_download_cannot_lead_out_or_be_a_pattern() {
    let (rig, server) = (Rig::new(), Registry::start());
    for path in ["/a%2F..%2F..%2Fescaped", "/%2e%2e", "/[ab]*"] {
        server.set(path, Answer::ok(path.as_bytes()));
    }
    // The client resolves dots itself.
    server.set("/", Answer::ok(b"index"));
    let image = rig.image(&format!(
        "FROM base\nADD {} {} /to/",
        server.url("/a%2F..%2F..%2Fescaped"),
        server.url("/%2e%2e"),
    ));
    let mut names: Vec<String> = image
        .files()
        .into_keys()
        .filter(|path| path.starts_with("to/"))
        .collect();
    names.sort();
    assert_eq!(names, ["to/__unnamed__", "to/escaped"]);
    let image = rig.image(&format!(
        "FROM base\nADD [\"{}\", \"/to/\"]",
        server.url("/[ab]*")
    ));
    assert_eq!(image.text("to/[ab]*"), "/[ab]*");
}
