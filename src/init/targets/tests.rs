//! Targets below a cache in which another step exchanges directories for links.

use super::*;
use crate::sys::exchange::Trap;

#[test]
fn targets_in_a_changing_tree_are_found_and_made_inside() {
    let trap = Trap::new();
    let root = fs::open_directory(&trap.root()).unwrap();
    let outside = fs::open_directory(&trap.dir.path().join("outside")).unwrap();
    let outside: Vec<u64> = ["file", "sub"]
        .map(|name| fs::stat_at(&outside, name.as_ref()).unwrap().st_ino)
        .into();
    let mut opened = 0_u32;
    for number in 0..8000 {
        // What is made is not of the layer, as in a cache: the upper is another directory.
        let mut targets = Targets::new(&root, fs::open_directory(&trap.root()).unwrap()).unwrap();
        for (target, shape) in [
            (format!("/dir/made-{}/x", number % 40), Shape::Directory),
            (format!("link/made-{}", number % 40), Shape::File),
            ("/dir/sub".to_owned(), Shape::Directory),
            ("/still/file".to_owned(), Shape::File),
            ("/dir/../link/file".to_owned(), Shape::File),
        ] {
            if let Ok(found) = targets.open(Path::new(&target), shape) {
                let inode = fs::stat(&found).unwrap().st_ino;
                assert!(!outside.contains(&inode), "{target} in try {number}");
                opened += 1;
            }
        }
    }
    assert!(opened > 1000, "{opened}");
    trap.check();
    trap.end();
}
