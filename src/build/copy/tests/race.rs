//! COPY from a tree in which somebody exchanges directories and files for links to outside.

use super::*;
use crate::sys::exchange::{INSIDE, Trap, scratch};

/// The texts of the files below `path`, links not followed.
fn texts(path: &Path, into: &mut Vec<u8>) {
    for entry in fs::read_dir(path).unwrap().map(Result::unwrap) {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            texts(&entry.path(), into);
        } else if kind.is_file() {
            into.extend(fs::read(entry.path()).unwrap());
        }
    }
}

#[test]
fn what_is_copied_from_a_changing_tree_is_never_from_outside() {
    let trap = Trap::new();
    let root = sys::fs::open_directory(&trap.root()).unwrap();
    let patterns: [&[&str]; 6] = [
        &["dir"],
        &["dir/file"],
        &["link/sub"],
        &["*/file"],
        &["still/file"],
        &["."],
    ];
    let mut copied = Vec::new();
    for patterns in patterns {
        let found = trap.spring(700, || {
            let there = scratch();
            let into = sys::fs::open_directory(there.path()).unwrap();
            let selection = select(&context(&root, None), patterns, &Filter::default()).ok()?;
            // Each phase resolves for itself.
            drop(selection.digest(&Memo::none()));
            drop(copy(&selection, &destination(&into, "/")));
            let mut read = Vec::new();
            texts(there.path(), &mut read);
            Some(read)
        });
        copied.push(found);
    }
    assert!(copied.iter().all(|found| *found > 10), "{copied:?}");
    trap.end();
}

#[test]
fn a_walk_and_a_digest_of_a_changing_tree_stay_inside() {
    let trap = Trap::new();
    let root = sys::fs::open_directory(&trap.root()).unwrap();
    // Of what is inside, in the two places, there are these digests and no others.
    let inside: Vec<Digest> = {
        let trees = Trees::new();
        fs::write(trees.source("file"), INSIDE).unwrap();
        vec![trees.digest("", &["file"])]
    };
    let mut known = 0;
    for number in 0..120_000 {
        if number >= 4000 && known > 10 {
            break;
        }
        let Ok(selection) = select(&context(&root, None), &["dir/file"], &Filter::default()) else {
            continue;
        };
        if let Ok(found) = selection.digest(&Memo::none()) {
            assert!(inside.contains(&found), "a digest of something else");
            known += 1;
        }
    }
    assert!(known > 10, "{known}");
    trap.check();
    trap.end();
}

#[test]
fn what_is_copied_into_a_changing_tree_stays_there() {
    let trap = Trap::new();
    let into = sys::fs::open_directory(&trap.root()).unwrap();
    let trees = Trees::new();
    trees.files(&["file", "sub/file", "new/a/b"]);
    let source = trees.open();
    let selection = select(&context(&source, None), &["."], &Filter::default()).unwrap();
    let mut done = 0;
    for _ in 0..1500 {
        for path in ["/dir/", "/link/", "/still/"] {
            done += u32::from(copy(&selection, &destination(&into, path)).is_ok());
        }
    }
    assert!(done > 10, "{done}");
    trap.check();
    trap.end();
}
