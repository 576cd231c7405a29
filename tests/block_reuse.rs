//! A layer that has much in common with the one before it: its blob is what it would be anyway, whatever
//! became of the one before.

use std::fs;
use std::path::{Path, PathBuf};

use crate::rig::Rig;
use crate::rig::image::sha256;

const DOCKERFILE: &str = "FROM base\nCOPY files /files\n";

/// Enough files for several blocks of each format.
fn write_files(rig: &Rig) {
    for number in 0..6000 {
        let lines: String = (0..150)
            .map(|line| format!("{number} {}\n", line * number))
            .collect();
        rig.write(&format!("files/{}/{number}", number / 300), lines);
    }
}

/// The blob of the layer with the files.
fn blob(rig: &Rig, compression: &str) -> Vec<u8> {
    let archive = rig.path("layout");
    if archive.exists() {
        fs::remove_dir_all(&archive).unwrap();
    }
    let output = format!(
        "type=oci,tar=false,dest={},compression={compression}",
        archive.display()
    );
    rig.dockerfile(DOCKERFILE);
    rig.build(&["-o", &output]).succeeds();
    let blobs = fs::read_dir(archive.join("blobs/sha256")).unwrap();
    let blobs = blobs.map(|blob| fs::read(blob.unwrap().path()).unwrap());
    blobs.max_by_key(Vec::len).unwrap()
}

/// The same, made in a store where nothing is.
fn fresh_blob(rig: &Rig, compression: &str) -> Vec<u8> {
    let other = Rig::new();
    fs::remove_dir(other.context()).unwrap();
    std::os::unix::fs::symlink(rig.context(), other.context()).unwrap();
    blob(&other, compression)
}

fn indexes(rig: &Rig) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(rig.store().join("blocks")) else {
        return Vec::new();
    };
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// Where the store has the blob.
fn place(rig: &Rig, blob: &[u8]) -> PathBuf {
    let digest = sha256(blob);
    let hex = digest.trim_start_matches("sha256:");
    rig.store().join("oci/blobs/sha256").join(hex)
}

fn overwrite(path: &Path, bytes: &[u8]) {
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_layer_like_the_one_before_has_the_bytes_of_one_made_from_nothing() {
    for compression in ["gzip", "zstd"] {
        let rig = Rig::new();
        write_files(&rig);
        let first = blob(&rig, compression);
        assert_eq!(first, fresh_blob(&rig, compression), "{compression}");
        assert_eq!(indexes(&rig).len(), 1);
        let tells_of = |blob: &[u8]| {
            let index = fs::read(&indexes(&rig)[0]).unwrap();
            let hex = sha256(blob).trim_start_matches("sha256:").to_owned();
            index[8..72] == *hex.as_bytes()
        };
        assert!(tells_of(&first));
        rig.write("files/3/1000", "another content, of another length");
        let second = blob(&rig, compression);
        assert_ne!(first, second);
        assert!(second == fresh_blob(&rig, compression), "{compression}");
        assert!(tells_of(&second) && indexes(&rig).len() == 1);
    }
}

#[test]
fn a_blob_that_is_damaged_or_gone_is_not_taken_from() {
    let rig = Rig::new();
    write_files(&rig);
    let mut last = blob(&rig, "gzip");
    for (number, damage) in ["a byte", "its end", "all of it", "the index", "no index"]
        .into_iter()
        .enumerate()
    {
        let path = place(&rig, &last);
        match damage {
            "a byte" => {
                let mut damaged = last.clone();
                for at in (1000..damaged.len()).step_by(50_000) {
                    damaged[at] ^= 1;
                }
                overwrite(&path, &damaged);
            }
            "its end" => overwrite(&path, &last[..last.len() / 3]),
            "all of it" => fs::remove_file(&path).unwrap(),
            "the index" => {
                let mut index = fs::read(&indexes(&rig)[0]).unwrap();
                index[200] ^= 1;
                fs::write(&indexes(&rig)[0], index).unwrap();
            }
            _ => fs::remove_file(&indexes(&rig)[0]).unwrap(),
        }
        rig.write("files/9/2710", format!("content {number}"));
        let next = blob(&rig, "gzip");
        assert!(next == fresh_blob(&rig, "gzip"), "{damage}");
        last = next;
    }
}

#[test]
fn a_small_layer_leaves_nothing_to_find_again_and_clean_up_takes_what_there_is() {
    let rig = Rig::new();
    rig.write("files/one", "x".repeat(200_000));
    blob(&rig, "gzip");
    assert_eq!(indexes(&rig).len(), 0);
    write_files(&rig);
    blob(&rig, "gzip");
    assert_eq!(indexes(&rig).len(), 1);
    rig.rbuild(["builder", "prune", "--all", "--force"])
        .succeeds();
    assert_eq!(indexes(&rig).len(), 0);
    rig.rbuild(["store", "check"]).succeeds();
}
