//! What a sandbox has written: its directories are walked, by a thread beside the sandbox.
//!
//! The use of the whole file system would be one call, but others write there too. It only says when a
//! walk is worth its time: a directory cannot have grown by more than its file system has.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::statvfs::statvfs;

use super::{Bounds, Exceeded, INTERVAL, processes, size};
use crate::sys::fs;

/// Directories within directories that are counted; each is an open descriptor of the walk.
const DEEPEST: usize = 128;
/// Without a reason to walk, this often.
const SELDOM: Duration = Duration::from_secs(2);

/// The thread that walks, and what it has found.
pub(super) struct Meter {
    stop: Sender<()>,
    thread: JoinHandle<Option<Exceeded>>,
    found: Arc<Mutex<Option<Exceeded>>>,
}

impl Meter {
    /// Measures what is in `directories` now, then what is added to it. `first` is pid 1 of the sandbox,
    /// once it is known.
    pub(super) fn start(
        bounds: &Bounds,
        directories: Vec<PathBuf>,
        first: Arc<OnceLock<i32>>,
    ) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let found = Arc::new(Mutex::new(None));
        let published = Arc::clone(&found);
        let mut gauge = Gauge {
            bytes: bounds.written_bytes,
            files: bounds.written_files,
            before: Usage::default(),
            directories,
            first,
        };
        gauge.before = gauge.walk();
        let thread = std::thread::Builder::new()
            .name("written".to_owned())
            .spawn(move || gauge.watch(&stopped, &published))?;
        Ok(Self {
            stop,
            thread,
            found,
        })
    }

    pub(super) fn exceeded(&self) -> Option<Exceeded> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.clone()
    }

    /// A last measure, of directories that nobody writes to any more.
    pub(super) fn finish(self) -> Option<Exceeded> {
        drop(self.stop);
        // A thread that panicked has measured nothing; the panic was reported.
        self.thread.join().ok().flatten()
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Usage {
    bytes: u64,
    files: u64,
    /// Something is deeper than [`DEEPEST`].
    too_deep: bool,
}

struct Gauge {
    bytes: Option<u64>,
    files: Option<u64>,
    before: Usage,
    directories: Vec<PathBuf>,
    first: Arc<OnceLock<i32>>,
}

impl Gauge {
    fn watch(
        &self,
        stopped: &mpsc::Receiver<()>,
        published: &Mutex<Option<Exceeded>>,
    ) -> Option<Exceeded> {
        let begun = self.taken();
        let (mut walked, mut cost, mut at) = (Usage::default(), Duration::ZERO, Instant::now());
        let mut taken = begun;
        loop {
            match stopped.recv_timeout(INTERVAL) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return self.judge(self.added()),
            }
            let now = self.taken();
            let may_be_over = |most: Option<u64>, walked: u64, before: u64, now: u64| {
                most.is_some_and(|most| walked + now.saturating_sub(before) > most)
            };
            let is_due = may_be_over(self.bytes, walked.bytes, taken.bytes, now.bytes)
                || may_be_over(self.files, walked.files, taken.files, now.files);
            // Others may be what fills the file system.
            let pause = if is_due {
                cost * 4
            } else {
                SELDOM.max(cost * 20)
            };
            if at.elapsed() < pause {
                continue;
            }
            let began = Instant::now();
            walked = self.added();
            if self.judge(walked).is_some() {
                // What is moved during a walk may be met twice.
                walked = self.added();
            } else if is_due
                && let (Some(most), Some(first)) = (self.bytes, self.first.get())
                && now.bytes.saturating_sub(begun.bytes) > most
            {
                walked.bytes += processes::held_bytes(*first);
            }
            (taken, cost, at) = (now, began.elapsed(), Instant::now());
            if let Some(exceeded) = self.judge(walked) {
                let mut published = published.lock().unwrap_or_else(PoisonError::into_inner);
                *published = Some(exceeded.clone());
                return Some(exceeded);
            }
        }
    }

    fn judge(&self, added: Usage) -> Option<Exceeded> {
        if let Some(most) = self.files.filter(|most| added.files > *most) {
            return Some(Exceeded {
                name: "written-files",
                value: most.to_string(),
                what: "the step wrote more files".to_owned(),
            });
        }
        if let Some(most) = self.bytes.filter(|most| added.bytes > *most) {
            return Some(Exceeded {
                name: "written-bytes",
                value: size(most),
                what: "the step wrote more".to_owned(),
            });
        }
        let limit = match (self.files, self.bytes) {
            (Some(files), _) => ("written-files", files.to_string()),
            (None, Some(bytes)) => ("written-bytes", size(bytes)),
            (None, None) => return None,
        };
        added.too_deep.then(|| Exceeded {
            name: limit.0,
            value: limit.1,
            what: format!("the step made directories more than {DEEPEST} deep, which is deeper"),
        })
    }

    fn added(&self) -> Usage {
        let now = self.walk();
        Usage {
            bytes: now.bytes.saturating_sub(self.before.bytes),
            files: now.files.saturating_sub(self.before.files),
            too_deep: now.too_deep && !self.before.too_deep,
        }
    }

    fn walk(&self) -> Usage {
        let mut usage = Usage::default();
        let mut linked = HashSet::new();
        for path in &self.directories {
            if let Ok(directory) = fs::open_directory(path) {
                walk(directory, &mut usage, &mut linked);
            }
        }
        usage
    }

    /// Bytes and files in use on the file systems of the directories, whoever uses them.
    fn taken(&self) -> Usage {
        let mut usage = Usage::default();
        for stat in self.directories.iter().flat_map(statvfs) {
            let blocks = stat.blocks().saturating_sub(stat.blocks_free());
            usage.bytes += blocks.saturating_mul(stat.fragment_size());
            usage.files += stat.files().saturating_sub(stat.files_free());
        }
        usage
    }
}

/// Adds what is below `top`. Entries that come and go meanwhile are met or not.
fn walk(top: OwnedFd, usage: &mut Usage, linked: &mut HashSet<(u64, u64)>) {
    let mut open = vec![(names(&top), top)];
    while let Some((names, directory)) = open.last_mut() {
        let Some(name) = names.next() else {
            open.pop();
            continue;
        };
        let Ok(stat) = fs::stat_at(directory.as_fd(), &name) else {
            continue;
        };
        let is_directory = fs::Kind::of(&stat) == fs::Kind::Directory;
        if !is_directory && stat.st_nlink > 1 && !linked.insert((stat.st_dev, stat.st_ino)) {
            continue;
        }
        usage.files += 1;
        usage.bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
        if !is_directory {
            continue;
        }
        let Ok(inner) = fs::open_directory_at(directory.as_fd(), &name) else {
            continue;
        };
        let inner_names = self::names(&inner);
        if open.len() < DEEPEST {
            open.push((inner_names, inner));
        } else if inner_names.len() > 0 {
            usage.too_deep = true;
        }
    }
}

fn names(directory: &OwnedFd) -> std::vec::IntoIter<std::ffi::OsString> {
    fs::read_names(directory.as_fd())
        .unwrap_or_default()
        .into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gauge(bytes: Option<u64>, files: Option<u64>, directory: &std::path::Path) -> Gauge {
        let mut gauge = Gauge {
            bytes,
            files,
            before: Usage::default(),
            directories: vec![directory.to_owned()],
            first: Arc::default(),
        };
        gauge.before = gauge.walk();
        gauge
    }

    #[test]
    fn what_was_there_before_does_not_count() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("old"), [1; 100_000]).unwrap();
        let gauge = gauge(Some(65_536), Some(2), directory.path());
        assert_eq!(gauge.judge(gauge.added()), None);
        std::fs::write(directory.path().join("new"), [1; 1]).unwrap();
        assert_eq!(gauge.judge(gauge.added()), None);
        std::fs::write(directory.path().join("large"), [1; 100_000]).unwrap();
        let exceeded = gauge.judge(gauge.added()).unwrap();
        assert_eq!(
            (exceeded.name, exceeded.value.as_str()),
            ("written-bytes", "64k")
        );
        std::fs::write(directory.path().join("third"), "").unwrap();
        assert_eq!(gauge.judge(gauge.added()).unwrap().name, "written-files");
    }

    #[test]
    fn links_of_one_file_count_once_and_holes_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let gauge = gauge(Some(65_536), Some(1), directory.path());
        let path = directory.path().join("file");
        let file = std::fs::File::create(&path).unwrap();
        file.set_len(1 << 40).unwrap();
        for number in 0..3 {
            std::fs::hard_link(&path, directory.path().join(number.to_string())).unwrap();
        }
        assert_eq!(gauge.judge(gauge.added()), None);
    }

    #[test]
    fn a_tree_that_is_too_deep_to_count_is_too_large() {
        let directory = tempfile::tempdir().unwrap();
        let gauge = gauge(Some(1 << 30), None, directory.path());
        let mut deep = directory.path().to_owned();
        for _ in 0..DEEPEST + 1 {
            deep.push("d");
        }
        std::fs::create_dir_all(&deep).unwrap();
        assert_eq!(gauge.judge(gauge.added()).unwrap().name, "written-bytes");
    }
}
