//! Owners and devices, which an image has whoever builds it: the expectations are the same for a user
//! with subordinate ids and one without.

use tar::{Builder, EntryType, Header};

use crate::rig::image::{Image, Kind, Node, entries_of, sha256};
use crate::rig::{Rig, host};

fn add(tar: &mut Builder<Vec<u8>>, kind: EntryType, path: &str, link: &str, owner: (u64, u64)) {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(0);
    header.set_mode(0o750);
    header.set_uid(owner.0);
    header.set_gid(owner.1);
    header.set_mtime(1_000_000);
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

/// A file of each kind, each with another owner.
fn everything() -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    add(&mut tar, EntryType::Directory, "d/", "", (1, 2));
    add(&mut tar, EntryType::Block, "d/block", "", (3, 4));
    add(&mut tar, EntryType::Char, "d/char", "", (0, 0));
    add(&mut tar, EntryType::Regular, "d/file", "", (5, 6));
    add(&mut tar, EntryType::Link, "d/hard", "d/file", (5, 6));
    add(&mut tar, EntryType::Symlink, "d/link", "nowhere", (7, 8));
    add(&mut tar, EntryType::Fifo, "d/pipe", "", (9, 10));
    tar.into_inner().unwrap()
}

fn rig() -> Rig {
    let rig = Rig::new();
    rig.write("a.tar", everything());
    rig
}

/// Kind, owner and path of what is in `d`.
fn shown(node: &Node, path: &str) -> String {
    let kind = match node.kind {
        Kind::File => "f".to_owned(),
        Kind::HardLink => "h".to_owned(),
        Kind::Directory => "d".to_owned(),
        Kind::Symlink => "l".to_owned(),
        Kind::Fifo => "p".to_owned(),
        Kind::Character { major, minor } => format!("c{major}.{minor}"),
        Kind::Block { major, minor } => format!("b{major}.{minor}"),
    };
    assert_eq!(
        node.xattrs.keys().find(|name| name.contains("rbuild")),
        None,
        "{path}"
    );
    format!("{kind} {}:{} {path}", node.uid, node.gid)
}

const EXPECTED: [&str; 7] = [
    "d 1:2 d",
    "b4.5 3:4 d/block",
    "c4.5 0:0 d/char",
    "f 5:6 d/file",
    "h 5:6 d/hard",
    "l 7:8 d/link",
    "p 9:10 d/pipe",
];

fn below_d(entries: &[(String, Node)]) -> Vec<String> {
    entries
        .iter()
        .filter(|(path, _)| path == "d" || path.starts_with("d/"))
        .map(|(path, node)| shown(node, path))
        .collect()
}

fn last_layer(image: &Image) -> Vec<String> {
    below_d(&image.layers.last().unwrap().entries)
}

#[test]
fn an_archive_that_is_added_keeps_owners_and_devices() {
    for flag in ["", "--link "] {
        let image = rig().image(&format!("FROM base\nADD {flag}a.tar /"));
        assert_eq!(last_layer(&image), EXPECTED, "{flag}");
    }
}

#[test]
fn a_base_with_several_owners_keeps_them_in_later_layers() {
    let rig = rig();
    rig.dockerfile("FROM scratch\nADD a.tar /");
    let archive = rig.path("base.tar");
    rig.build(&[
        "-t",
        "owned",
        "-o",
        &format!("type=oci,dest={}", archive.display()),
    ])
    .succeeds();
    // In a store that has only the layer's blob.
    let other = Rig::new();
    other.write("x", "x");
    let context = format!("owned=oci-archive:{}", archive.display());
    let options = ["--build-context", &context];
    let image = other.image_with(
        "FROM owned AS under\nCOPY x /d/x\n\
         FROM scratch\nCOPY --from=under / /",
        &options,
    );
    let mut expected = EXPECTED.to_vec();
    expected.push("f 0:0 d/x");
    assert_eq!(last_layer(&image), expected);
    let image = other.image_with("FROM owned\nCOPY x /d/x", &options);
    assert_eq!(
        last_layer(&image),
        ["d 1:2 d", "f 0:0 d/x"],
        "the directory keeps its owner"
    );
    let image = other.image_with("FROM owned\nCOPY --chown=5:6 x /d/new/x", &options);
    assert_eq!(
        last_layer(&image),
        ["d 1:2 d", "d 5:6 d/new", "f 5:6 d/new/x"]
    );
}

#[test]
fn a_directory_that_is_merged_gets_the_owner_of_the_source() {
    let rig = rig();
    rig.write("context/d/y", "y");
    let image = rig.image("FROM base\nADD a.tar /\nCOPY context /");
    assert_eq!(last_layer(&image), ["d 0:0 d", "f 0:0 d/y"]);
    let image = rig.image("FROM base\nADD a.tar /\nCOPY --chown=8:9 context /");
    assert_eq!(last_layer(&image), ["d 8:9 d", "f 8:9 d/y"]);
}

#[test]
fn exports_have_owners_and_devices_where_they_can() {
    let rig = rig();
    rig.dockerfile("FROM base\nADD a.tar /");
    let (tar, directory) = (rig.path("out.tar"), rig.path("out"));
    rig.build(&[
        "-t",
        "owned",
        "-o",
        &format!("type=tar,dest={}", tar.display()),
    ])
    .succeeds();
    assert_eq!(below_d(&entries_of(&std::fs::read(tar).unwrap())), EXPECTED);
    rig.build(&["-o", &format!("type=local,dest={}", directory.display())])
        .succeeds();
    let has = |name: &str| std::fs::symlink_metadata(directory.join("d").join(name)).is_ok();
    assert!(has("file") && has("link") && has("pipe"));
    assert!(!has("block") && !has("char"));
}

#[test]
fn the_owner_of_a_source_is_in_the_key_of_a_copy() {
    let rig = rig();
    let dockerfile = |owner: &str| {
        format!("FROM base AS a\nCOPY --chown={owner} a.tar /f\nFROM base\nCOPY --from=a /f /g")
    };
    rig.dockerfile(&dockerfile("1:2"));
    rig.build(&[]).succeeds();
    assert!(rig.build(&[]).succeeds().is_cached("COPY --from=a /f /g"));
    rig.dockerfile(&dockerfile("1:3"));
    assert!(!rig.build(&[]).succeeds().is_cached("COPY --from=a /f /g"));
    let node = rig.image(&dockerfile("1:3")).file("g");
    assert_eq!((node.uid, node.gid), (1, 3));
}

#[test]
fn the_root_directory_keeps_its_owner() {
    let rig = Rig::new();
    let mut tar = Builder::new(Vec::new());
    add(&mut tar, EntryType::Directory, "./", "", (6, 7));
    add(&mut tar, EntryType::Regular, "f", "", (0, 0));
    std::fs::write(rig.path("root.tar"), tar.into_inner().unwrap()).unwrap();
    let path = rig.path("root.tar");
    rig.rbuild(["import".as_ref(), path.as_os_str(), "rooted".as_ref()])
        .succeeds();
    let image = rig.image("FROM rooted\nCOPY <<EOF /x\nEOF");
    assert_eq!(image.last_layer(), ["x"], "the root did not change");
}

#[test]
fn layers_have_the_same_bytes_for_every_user() {
    let rig = rig();
    rig.write("f", "f").chmod("f", 0o644);
    rig.dockerfile(
        "FROM scratch\nADD a.tar /\nCOPY --chown=7000:8000 f /n/f\nUSER 12:13\nWORKDIR /w",
    );
    let archive = rig.path("image.tar");
    let output = format!("type=oci,rewrite-timestamp=true,dest={}", archive.display());
    rig.build(&["--build-arg", "SOURCE_DATE_EPOCH=1000000", "-o", &output])
        .succeeds();
    let digests: Vec<_> = Image::open(&archive)
        .layers
        .iter()
        .map(|layer| sha256(&layer.tar))
        .collect();
    assert_eq!(
        digests,
        [
            "sha256:1fd6d7fba575ef335d8602a3644619e4bcadb1cead5d320f3736b8fa37810abd",
            "sha256:2dbdbd140af0dd47560df0959535956f3913b6a6ff43a76e6ad4b2c18c32b3b7",
            "sha256:971f72d43fe3be046cc1bf52eda5d77332ab05893c62420a7b87d6646b398e90"
        ]
    );
}

#[test]
fn workdir_belongs_to_the_user_of_the_image() {
    let rig = Rig::new();
    let image = rig.image("FROM base\nUSER app:staff\nWORKDIR /made/here");
    for path in ["made", "made/here"] {
        let node = image.file(path);
        assert_eq!((node.uid, node.gid), (1000, 50), "{path}");
    }
}

#[test]
fn a_debian_base_is_unpacked_with_its_owners() {
    let Some(base) = host::debian_base() else {
        return;
    };
    let rig = Rig::empty();
    rig.rbuild(["import".as_ref(), base.as_os_str(), "debian".as_ref()])
        .succeeds();
    let image = rig
        .image("FROM scratch\nCOPY --from=debian /etc/shadow /s\nCOPY --from=debian /var/mail /m");
    assert_eq!(image.file("s").gid, 42);
}
