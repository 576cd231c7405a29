//! `rbuild import`: a root file system tar becomes an image.

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::process::Stdio;

use crate::rig::outcome::Outcome;
use crate::rig::{Rig, base};

#[test]
fn every_compression_gives_the_same_files() {
    let tar = base::root_filesystem();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(tar).unwrap();
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bzip2.write_all(tar).unwrap();
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 0);
    xz.write_all(tar).unwrap();
    let mut diff_ids = Vec::new();
    for (name, bytes) in [
        ("plain", tar.to_vec()),
        ("gzip", gzip.finish().unwrap()),
        ("bzip2", bzip2.finish().unwrap()),
        ("xz", xz.finish().unwrap()),
        ("zstd", zstd::encode_all(tar, 1).unwrap()),
    ] {
        let rig = Rig::empty();
        let file = rig.path("root.tar");
        fs::write(&file, bytes).unwrap();
        let outcome = rig.rbuild([OsStr::new("import"), file.as_os_str(), OsStr::new("it:v1")]);
        assert!(outcome.succeeds().id().starts_with("sha256:"), "{name}");
        let image = rig.image("FROM it:v1\nRUN touch /ran");
        assert!(image.has("ran") && image.has("bin/busybox"), "{name}");
        diff_ids.push(image.config["rootfs"]["diff_ids"][0].clone());
    }
    diff_ids.dedup();
    assert_eq!(diff_ids.len(), 1, "{diff_ids:?}");
}

#[test]
fn standard_input_is_read() {
    let rig = Rig::empty();
    let mut child = rig
        .command(["import", "-", "piped"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(base::root_filesystem())
        .unwrap();
    Outcome::from(child.wait_with_output().unwrap()).succeeds();
    rig.image("FROM piped\nRUN true");
}

#[test]
fn what_is_no_archive_or_is_cut_off_changes_nothing() {
    let tar = base::root_filesystem();
    for (what, bytes) in [
        ("text", &b"this is not a tar archive at all"[..]),
        ("cut in a file", &tar[..tar.len() / 2]),
        ("empty", b""),
    ] {
        let rig = Rig::new();
        let before = rig.store_listing();
        let file = rig.path("bad.tar");
        fs::write(&file, bytes).unwrap();
        let outcome = rig.rbuild([OsStr::new("import"), file.as_os_str(), OsStr::new("bad")]);
        assert_eq!(outcome.code, Some(1), "{what}: {}", outcome.stderr);
        assert_eq!(rig.store_listing(), before, "{what}");
    }
}

#[test]
fn wrong_names_and_missing_files_are_said() {
    let rig = Rig::empty();
    rig.rbuild(["import", "/no/such/file.tar", "name"])
        .exits_with(1)
        .says(&["/no/such/file.tar"]);
    rig.rbuild(["import", "-", "Not A Name"])
        .exits_with(2)
        .says(&["Not A Name"]);
    rig.rbuild(["import"]).exits_with(2);
}

#[test]
fn owners_are_kept() {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o640);
    header.set_uid(1234);
    header.set_gid(4321);
    header.set_size(0);
    tar.append_data(&mut header, "owned", &b""[..]).unwrap();
    let rig = Rig::empty();
    let file = rig.path("root.tar");
    fs::write(&file, tar.into_inner().unwrap()).unwrap();
    let outcome = rig.rbuild([OsStr::new("import"), file.as_os_str(), OsStr::new("owned")]);
    outcome.succeeds();
    let node = rig.image("FROM owned\nLABEL a=b").file("owned");
    assert_eq!((node.uid, node.gid, node.mode), (1234, 4321, 0o640));
}
