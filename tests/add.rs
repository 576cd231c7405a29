//! ADD of local sources: archives are taken apart, everything else is COPY.

use std::io::Write as _;

use tar::{Builder, EntryType};

use crate::rig::Rig;
use crate::rig::base::append;

fn archive() -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    append(&mut tar, EntryType::Directory, "d/", 0o750, b"");
    append(&mut tar, EntryType::Regular, "d/file", 0o640, b"packed");
    tar.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn an_archive_is_unpacked_whatever_its_name_and_compression() {
    let tar = archive();
    for (name, bytes) in [
        ("plain.tar", tar.clone()),
        ("gzip.tar.gz", gzip(&tar)),
        ("no-suffix", bzip2(&tar)),
        ("wrong.zip", xz(&tar)),
        ("zstd.tzst", zstd::encode_all(&tar[..], 1).unwrap()),
    ] {
        let rig = Rig::new();
        rig.write(name, bytes);
        let image = rig.image(&format!("FROM base\nADD {name} /to/"));
        let file = image.file("to/d/file");
        assert_eq!(
            (&*file.content, file.mode),
            (&b"packed"[..], 0o640),
            "{name}"
        );
        assert_eq!(image.file("to/d").mode, 0o750, "{name}");
        assert_eq!(image.file("to").mode, 0o755, "{name}");
        assert!(!image.has(&format!("to/{name}")), "{name}");
    }
}

#[test]
fn the_same_archive_is_a_file_to_copy() {
    let rig = Rig::new();
    rig.write("plain.tar", archive());
    assert!(
        rig.image("FROM base\nCOPY plain.tar /to/")
            .has("to/plain.tar")
    );
}

#[test]
fn a_compressed_file_that_is_no_archive_is_copied_as_it_is() {
    let rig = Rig::new();
    let bytes = gzip(b"just text");
    rig.write("text.gz", &bytes);
    assert_eq!(
        rig.image("FROM base\nADD text.gz /")
            .file("text.gz")
            .content,
        bytes
    );
}

#[test]
fn plain_files_and_directories_are_copied() {
    let rig = Rig::new();
    rig.write("dir/file", "text");
    let image = rig.image("FROM base\nADD dir /new\nADD dir/file /name");
    assert_eq!(image.text("new/file"), "text");
    assert_eq!(image.text("name"), "text");
}

#[test]
fn an_archive_that_is_cut_off_fails_the_step() {
    let rig = Rig::new();
    let bytes = gzip(&archive());
    rig.write("cut.tar.gz", &bytes[..bytes.len() / 2]);
    rig.write("cut.tar", &archive()[..1100]);
    rig.dockerfile("FROM base\nADD cut.tar /to/");
    rig.build(&[]).exits_with(1).says(&["cut.tar"]);
}

#[test]
fn unpack_says_what_becomes_of_an_archive() {
    let rig = Rig::new();
    rig.write("a.tar.gz", gzip(&archive()))
        .write("text", "text");
    for (add, there) in [
        ("ADD a.tar.gz /to/", "to/d/file"),
        ("ADD --unpack a.tar.gz /to/", "to/d/file"),
        ("ADD --unpack=true a.tar.gz /to", "to/d/file"),
        ("ADD --unpack=false a.tar.gz /to/", "to/a.tar.gz"),
        ("ADD --unpack=false a.tar.gz /to", "to"),
        ("ADD *.gz te* /to/", "to/text"),
        ("ADD *.gz te* /to/", "to/d/file"),
        ("ADD --link a.tar.gz /to/", "to/d/file"),
    ] {
        let image = rig.image(&format!("FROM base\n{add}"));
        assert!(image.has(there), "{add}");
        let kept = image.file(there).kind == crate::rig::image::Kind::File;
        assert!(kept, "{add}");
    }
    rig.dockerfile("FROM base\nADD --unpack=true text /to");
    // BuildKit copies it too, without a word.
    rig.build(&[])
        .succeeds()
        .says(&["/text is no archive and was copied as it is"]);
}

#[test]
fn members_belong_to_chown_or_to_whom_the_archive_says() {
    let mut tar = Builder::new(Vec::new());
    for (kind, path, target) in [
        (EntryType::Directory, "d/", ""),
        (EntryType::Regular, "d/file", ""),
        (EntryType::Link, "d/hard", "d/file"),
        (EntryType::Symlink, "d/link", "file"),
        (EntryType::Fifo, "d/fifo", ""),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        header.set_mode(0o755);
        header.set_uid(7);
        header.set_gid(8);
        if target.is_empty() {
            tar.append_data(&mut header, path, &b""[..]).unwrap();
        } else {
            tar.append_link(&mut header, path, target).unwrap();
        }
    }
    let rig = Rig::new();
    rig.write("a.tar", tar.into_inner().unwrap());
    for (flags, made, members) in [
        ("", (0, 0), (7, 8)),
        ("--chown=app", (1000, 1000), (1000, 1000)),
        ("--link --chown=3:4", (3, 4), (3, 4)),
        ("--link", (0, 0), (7, 8)),
    ] {
        let image = rig.image(&format!("FROM base\nADD {flags} a.tar /n/m/"));
        for (path, expected) in [
            ("n", made),
            ("n/m", made),
            ("n/m/d", members),
            ("n/m/d/file", members),
            ("n/m/d/link", members),
            ("n/m/d/fifo", members),
        ] {
            let node = image.file(path);
            assert_eq!((node.uid, node.gid), expected, "{flags} {path}");
        }
    }
}

#[test]
fn an_archive_goes_where_its_destination_leads_and_merges() {
    let rig = Rig::new();
    rig.write("a.tar", archive());
    let image = rig.image(
        "FROM base\nRUN mkdir -p /real/d && ln -s /real /to && echo kept > /real/d/kept && \
         echo old > /real/d/file && mkdir /d2 && ln -s /etc /d2/d\nADD a.tar /to/\nADD a.tar /d2\n",
    );
    assert_eq!(image.text("real/d/file"), "packed");
    assert_eq!(image.text("real/d/kept"), "kept\n");
    assert_eq!(image.file("real/d").mode, 0o750);
    // The archive's directory replaces a link at its name; nothing comes to /etc.
    assert_eq!(image.text("d2/d/file"), "packed");
    assert!(!image.has("etc/file"));
    rig.dockerfile("FROM base\nADD a.tar /etc/passwd");
    rig.build(&[])
        .exits_with(1)
        .says(&["cannot copy to non-directory: /etc/passwd"]);
}

#[test]
fn chmod_is_not_about_what_an_archive_holds() {
    let rig = Rig::new();
    rig.write("a.tar", archive());
    let image = rig.image("FROM base\nADD --chmod=600 a.tar /n/m/");
    for (path, mode) in [
        ("n", 0o755),
        ("n/m", 0o755),
        ("n/m/d", 0o750),
        ("n/m/d/file", 0o640),
    ] {
        assert_eq!(image.file(path).mode, mode, "{path}");
    }
}
