//! The directory that a command starts in.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;

use crate::sys::{self, fs};

/// Opens the directory `cwd` below `root`, whatever other processes make of the tree meanwhile, and without
/// following the magic links of /proc, which lead out. It and its parents are made, with mode 0755 before
/// the umask, where they are missing.
pub(super) fn open(root: impl AsFd, cwd: &OsStr) -> sys::Result<OwnedFd> {
    let path = Path::new(if cwd.is_empty() { OsStr::new("/") } else { cwd });
    let open = |path| fs::open_in_root(&root, path, OFlag::O_PATH | OFlag::O_DIRECTORY, 0);
    match open(path) {
        Err(error) if error.errno == Errno::ENOENT => {}
        other => return other,
    }
    let mut parents: Vec<&Path> = path.ancestors().collect();
    parents.reverse();
    for step in parents.windows(2) {
        let [parent, path] = step else { continue };
        let Some(name) = path.file_name() else {
            continue;
        };
        if open(path).is_err() {
            fs::make_directory_at(open(parent)?, name, 0o755)?;
        }
    }
    open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::exchange::Trap;

    #[test]
    fn a_directory_in_a_changing_tree_is_found_and_made_inside() {
        let trap = Trap::new();
        let root = fs::open_directory(&trap.root()).unwrap();
        let outside = fs::open_directory(&trap.dir.path().join("outside")).unwrap();
        let outside = fs::stat_at(&outside, OsStr::new("sub")).unwrap().st_ino;
        let mut opened = 0_u32;
        for number in 0..8000 {
            for cwd in [
                format!("/dir/made-{}/x", number % 40),
                format!("/link/made-{}", number % 40),
                "/dir/sub".to_owned(),
                format!("/dir/../link/sub/made-{}/../..", number % 40),
            ] {
                if let Ok(found) = open(&root, OsStr::new(&cwd)) {
                    let inode = fs::stat(&found).unwrap().st_ino;
                    assert_ne!(inode, outside, "{cwd} in try {number}");
                    opened += 1;
                }
            }
        }
        assert!(opened > 1000, "{opened}");
        trap.check();
        trap.end();
    }
}
