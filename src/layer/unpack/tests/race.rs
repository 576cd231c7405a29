//! Unpacking into a tree in which somebody exchanges directories for links to outside.

use super::*;
use crate::sys::exchange::Trap;

#[test]
fn what_is_unpacked_into_a_changing_tree_stays_there() {
    let trap = Trap::new();
    let root = sys::fs::open_directory(&trap.root()).unwrap();
    let tar = archive(&[
        file("dir/new", "x"),
        file("dir/sub/file", "x"),
        directory("link/made"),
        symlink("dir/made", "../../outside"),
        hard_link("dir/again", "dir/file"),
        file("link/../dir/sub/../deep/er/file", "x"),
    ]);
    let ownership = Ownership::Recorded(Table::default());
    let mut done = 0;
    for _ in 0..3000 {
        let unpacked = unpack(
            &mut &tar[..],
            root.as_fd(),
            &ownership,
            Form::Plain,
            &Limits::default(),
        );
        done += u32::from(unpacked.is_ok());
    }
    assert!(done > 10, "{done}");
    trap.check();
    trap.end();
}
