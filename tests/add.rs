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
fn an_archive_cannot_write_outside_its_destination() {
    for (path, link) in [
        ("../../escaped", None),
        ("link/escaped", Some("/../../../../tmp")),
    ] {
        let mut tar = Builder::new(Vec::new());
        if let Some(target) = link {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(EntryType::Symlink);
            header.set_size(0);
            header.set_mode(0o777);
            tar.append_link(&mut header, "link", target).unwrap();
        }
        // The crate refuses to write such a path, as it should: the name is put in by hand.
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_size(1);
        header.set_mode(0o644);
        header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        tar.append(&header, &b"x"[..]).unwrap();
        let rig = Rig::new();
        rig.write("evil.tar", tar.into_inner().unwrap());
        rig.dockerfile("FROM base\nADD evil.tar /to/");
        let archive = rig.path("image.tar");
        let outcome = rig.build(&["-o", &format!("type=oci,dest={}", archive.display())]);
        for outside in ["escaped", "store/escaped", "context/escaped"] {
            assert!(
                !rig.path(outside).exists(),
                "{path} escaped: {}",
                outcome.stderr
            );
        }
        assert!(!std::path::Path::new("/tmp/escaped").exists(), "{path}");
        assert!(matches!(outcome.code, Some(0 | 1)), "{}", outcome.stderr);
    }
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
