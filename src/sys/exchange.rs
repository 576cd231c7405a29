//! An attacker for tests: a thread that makes names mean one thing and another as fast as it can.
#![expect(
    unsafe_code,
    reason = "libc has the call, nix wraps it for one libc only"
)]

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use nix::errno::Errno;

/// Exchanges the two names of each pair (`renameat2(2)` with `RENAME_EXCHANGE`) until it is dropped.
pub(crate) struct Exchange {
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

impl Exchange {
    /// The names must exist.
    pub(crate) fn start(pairs: &[(PathBuf, PathBuf)]) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ends);
        let text = |path: &Path| CString::new(path.as_os_str().as_bytes()).unwrap();
        let pairs: Vec<_> = pairs.iter().map(|(a, b)| (text(a), text(b))).collect();
        let thread = std::thread::spawn(move || {
            let mut count = 0;
            while !seen.load(Ordering::Relaxed) {
                for (one, other) in &pairs {
                    // SAFETY: both paths are NUL-terminated and outlive the call.
                    let status = unsafe {
                        libc::syscall(
                            libc::SYS_renameat2,
                            libc::AT_FDCWD,
                            one.as_ptr(),
                            libc::AT_FDCWD,
                            other.as_ptr(),
                            libc::RENAME_EXCHANGE,
                        )
                    };
                    match Errno::result(status) {
                        Ok(_) => count += 1,
                        // Who is attacked is about to replace one of them.
                        Err(Errno::ENOENT) => {}
                        Err(errno) => panic!("renameat2: {errno}"),
                    }
                }
            }
            count
        });
        Self {
            ends,
            thread: Some(thread),
        }
    }

    /// Stops; how many exchanges there were.
    pub(crate) fn stop(mut self) -> u64 {
        self.ends.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("it was started");
        thread.join().unwrap()
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// A directory `root` in which `dir` and `link` (to `outside`), and in `dir` and `still` the files `file`
/// and `flink` (to `outside/file`) change places all the time; `outside` beside it must never be reached.
pub(crate) struct Trap {
    pub(crate) dir: tempfile::TempDir,
    exchange: Option<Exchange>,
}

/// What is in the file outside, and what is in the others.
pub(crate) const OUTSIDE: &str = "outside";
pub(crate) const INSIDE: &str = "inside";

/// So many successes show that a test does what it seems to do.
const SOME: u32 = 20;

impl Trap {
    pub(crate) fn new() -> Self {
        use std::fs;
        let dir = scratch();
        let at = |path: &str| dir.path().join(path);
        for path in ["outside/sub", "root/dir/sub", "root/still"] {
            fs::create_dir_all(at(path)).unwrap();
        }
        for path in ["outside/file", "outside/sub/file"] {
            fs::write(at(path), OUTSIDE).unwrap();
        }
        for path in ["root/dir/file", "root/dir/sub/file", "root/still/file"] {
            fs::write(at(path), INSIDE).unwrap();
        }
        std::os::unix::fs::symlink(at("outside"), at("root/link")).unwrap();
        std::os::unix::fs::symlink("../../outside/file", at("root/still/flink")).unwrap();
        let pairs = [
            ("root/dir", "root/link"),
            ("root/still/file", "root/still/flink"),
        ];
        let exchange = Exchange::start(&pairs.map(|(a, b)| (at(a), at(b))));
        Self {
            exchange: Some(exchange),
            dir,
        }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    /// Runs `attempt` `tries` times, and on until some have read something, which on a busy machine takes its
    /// time; it answers with what it read, of which nothing may be from outside.
    #[track_caller]
    pub(crate) fn spring(&self, tries: u32, mut attempt: impl FnMut() -> Option<Vec<u8>>) -> u32 {
        let mut found = 0;
        for number in 0..30 * tries {
            if number >= tries && found > SOME {
                break;
            }
            if let Some(read) = attempt() {
                let outside = OUTSIDE.as_bytes();
                let has_escaped = read.windows(outside.len()).any(|bytes| bytes == outside);
                assert!(!has_escaped, "try {number} got outside");
                found += 1;
            }
        }
        self.check();
        found
    }

    /// Nothing was made or changed outside.
    #[track_caller]
    pub(crate) fn check(&self) {
        let mut names: Vec<_> = walk(&self.dir.path().join("outside"));
        names.sort();
        assert_eq!(names, ["file", "sub", "sub/file"]);
        for path in ["outside/file", "outside/sub/file"] {
            let text = std::fs::read_to_string(self.dir.path().join(path)).unwrap();
            assert_eq!(text, OUTSIDE);
        }
    }

    /// Ends the exchanges; they must have gone on all the time.
    #[track_caller]
    pub(crate) fn end(mut self) {
        let exchange = self.exchange.take().expect("it was started");
        assert!(exchange.stop() > 100, "hardly anything was exchanged");
    }
}

/// A directory in memory, where there is such a place: what is tried many times need not wait for a disk.
pub(crate) fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

fn walk(dir: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            let below = walk(&entry.path()).into_iter();
            names.extend(below.map(|below| format!("{name}/{below}")));
        }
        names.push(name);
    }
    names
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use nix::fcntl::OFlag;

    use super::*;
    use crate::sys::fs::{open_directory, open_in_root, stat, stat_at};

    /// What resolves a path and then uses it is caught by the trap: so the tests with it can fail.
    #[test]
    fn looking_first_and_opening_then_gets_outside() {
        let trap = Trap::new();
        let deadline = Instant::now() + Duration::from_secs(60);
        let path = trap.root().join("dir/file");
        let mut tries = 0_u32;
        loop {
            assert!(Instant::now() < deadline, "no escape in {tries} tries");
            tries += 1;
            let is_dir = trap.root().join("dir").symlink_metadata().unwrap().is_dir();
            if is_dir && std::fs::read(&path).is_ok_and(|read| read == OUTSIDE.as_bytes()) {
                break;
            }
        }
        drop(trap);
    }

    #[test]
    fn a_path_that_is_resolved_in_a_root_stays_there() {
        let trap = Trap::new();
        let root = open_directory(&trap.root()).unwrap();
        let outside = open_directory(&trap.dir.path().join("outside")).unwrap();
        let outside: Vec<_> = ["file", "sub"]
            .map(|name| stat_at(&outside, name.as_ref()).unwrap().st_ino)
            .into();
        let mut found = 0_u32;
        let paths = [
            "dir/file",
            "dir/sub/../file",
            "link/sub",
            "still/file",
            "still/../link/../dir/sub",
        ];
        for number in 0..40_000 {
            for path in paths {
                if let Ok(fd) = open_in_root(&root, path.as_ref(), OFlag::O_PATH, 0) {
                    let inode = stat(&fd).unwrap().st_ino;
                    assert!(
                        !outside.contains(&inode),
                        "try {number} of {path} got outside"
                    );
                    found += 1;
                }
            }
        }
        assert!(found > 1000, "{found}");
        trap.check();
        trap.end();
    }
}
