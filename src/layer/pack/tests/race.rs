//! Packing a tree in which somebody still exchanges files and directories for links to outside.

use super::*;
use crate::sys::exchange::{OUTSIDE, Trap};

#[test]
fn a_changing_tree_is_packed_without_anything_from_outside() {
    let trap = Trap::new();
    let root = sys::fs::open_directory(&trap.root()).unwrap();
    let found = trap.spring(3000, || {
        let mut out = Vec::new();
        let options = PackOptions::default();
        let packed = pack(root.as_fd(), &[], &Owners::NONE, &options, &mut out);
        let contents = tar_contents(&out);
        // What changed on the way is an error, and until then not a byte is from elsewhere.
        let outside = OUTSIDE.as_bytes();
        assert!(
            packed.is_ok()
                || !contents
                    .windows(outside.len())
                    .any(|bytes| bytes == outside)
        );
        packed.is_ok().then_some(contents)
    });
    assert!(found > 10, "{found}");
    let found = trap.spring(3000, || {
        let mut out = Vec::new();
        let options = PackOptions::default();
        pack_tree(root.as_fd(), &Owners::NONE, &options, &mut out)
            .ok()
            .map(|_| tar_contents(&out))
    });
    assert!(found > 10, "{found}");
    trap.end();
}

/// What the regular files of a tar hold, as far as it goes.
fn tar_contents(tar: &[u8]) -> Vec<u8> {
    use std::io::Read as _;
    let mut contents = Vec::new();
    let mut archive = tar::Archive::new(tar);
    for entry in archive.entries().unwrap() {
        let Ok(mut entry) = entry else { break };
        drop(entry.read_to_end(&mut contents));
    }
    contents
}
