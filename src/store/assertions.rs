//! What holds whatever is in the small files of a store; the fuzz target asks it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::contents::Remembered;
use super::{Checkup, Depth, Store};
use crate::oci::{ChainId, DiffId, Digest, media_type};
use crate::ownership::{Ownership, Table};

/// The files that are replaced, by the byte that chooses one.
fn place(choice: u8, digest: &Digest) -> PathBuf {
    let hex = digest.hex();
    match choice {
        b'c' => PathBuf::from(format!("cache/{}/{hex}.json", &hex[..2])),
        b'l' => PathBuf::from(format!("layers/{hex}.json")),
        b'z' => PathBuf::from(format!("layers/{hex}.size")),
        b's' => PathBuf::from(format!("snapshots/recorded/{hex}/snapshot.json")),
        b'i' => PathBuf::from("oci/index.json"),
        b'o' => PathBuf::from("oci/oci-layout"),
        b'u' => PathBuf::from(format!("unsynced/{hex}")),
        b'p' => PathBuf::from(format!("partial/{hex}")),
        b'b' => PathBuf::from(format!("oci/blobs/sha256/{hex}")),
        _ => PathBuf::from("version"),
    }
}

/// With any content of one of its files a store is opened or refused, listed and checked; what a
/// repair mends stays mended, and after it only what repairs do not touch is wrong.
pub(crate) fn file_holds(choice: u8, content: &[u8]) {
    let directory = match tempfile::tempdir_in("/dev/shm") {
        Ok(directory) => directory,
        Err(_) => tempfile::tempdir().expect("a directory can be made"),
    };
    let root = directory.path().join("store");
    let digest = Digest::of(b"fuzz");
    prepare(&root, &digest);
    let path = root.join(place(choice, &digest));
    let parent = path.parent().expect("it is in the store");
    let written = fs::create_dir_all(parent).and_then(|()| fs::write(&path, content));
    written.expect("the file can be written");
    look(&root, false);
    if let Ok(store) = Store::open(&root, ownership()) {
        use_all(&store, &digest);
    }
    look(&root, true);
    let left = look(&root, true);
    assert!(left.is_empty(), "after a repair: {left:?}");
}

fn ownership() -> Ownership {
    Ownership::Recorded(Table::default())
}

/// A store with a blob and a snapshot that is called `digest`.
fn prepare(root: &Path, digest: &Digest) {
    let store = Store::open(root, ownership()).expect("a store can be made");
    store
        .put_blob(media_type::CONFIG, b"fuzz")
        .expect("a blob can be written");
    let diff = root
        .join("snapshots/recorded")
        .join(digest.hex())
        .join("diff");
    fs::create_dir_all(diff).expect("a directory can be made");
}

/// Everything that reads records.
fn use_all(store: &Store, digest: &Digest) {
    drop(store.cached(digest));
    drop(store.remembered_digest(digest));
    drop(store.download(digest));
    drop(store.layer_blobs(&DiffId(digest.clone())));
    drop(store.snapshot(Some(&ChainId(digest.clone()))));
    drop(store.named_manifests());
    let Ok(view) = store.as_view() else { return };
    let _ = view.layer_size(&DiffId(digest.clone()));
    for snapshot in view.snapshots().unwrap_or_default() {
        let _ = view.snapshot_size(&snapshot);
    }
    for record in view.records().unwrap_or_default() {
        if let Remembered::Step(Some(chain_id)) = record.remembered {
            drop(store.snapshot(Some(&chain_id)));
        }
    }
    drop(view.layers());
    drop(view.partials());
    drop(view.blobs());
}

/// Checks the store, and mends it with `repair`: what was found that a repair can mend.
fn look(root: &Path, repair: bool) -> Vec<String> {
    let checkup = Checkup::open(root, ownership(), repair, Duration::ZERO);
    let Ok(Some(checkup)) = checkup else {
        return Vec::new();
    };
    let depth = Depth {
        deep: true,
        is_memo: &|_| true,
    };
    let mut findings = Vec::new();
    let looked = checkup.look(&depth, &mut |finding| findings.push(finding));
    looked.expect("a store can be looked at");
    checkup.repair(&findings).expect("a store can be mended");
    let mendable = findings.iter().filter(|finding| finding.is_mendable());
    mendable
        .map(|finding| format!("{} {}: {}", finding.kind, finding.place, finding.problem))
        .collect()
}
