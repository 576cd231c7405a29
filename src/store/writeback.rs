//! Writing large files back while they are still being written.
//!
//! An image gets its name when its blobs are on disk. The kernel leaves what is written in memory for
//! half a minute, so the last step of a build would wait for all of it.

use std::fs::File;
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};

use crate::sys;

/// Bytes from one start to the next. Smaller files are flushed soon enough when they are named.
const PART: u64 = 8 << 20;

/// Starts the writing of one file, part by part. Nothing depends on it: what fails is left to who waits
/// for the disk.
#[derive(Debug, Default)]
pub(super) struct Writeback {
    /// Bytes of the file that are written, and those that were told to the thread.
    written: u64,
    told: u64,
    /// The kernel makes who starts a write wait where the disk has enough to do: not the build.
    thread: Option<SyncSender<u64>>,
}

impl Writeback {
    /// For a file that has `length` bytes already.
    pub(super) fn after(length: u64) -> Self {
        Self {
            written: length,
            told: length,
            thread: None,
        }
    }

    /// `count` bytes more were written to the end of the file at `path`.
    pub(super) fn wrote(&mut self, path: &Path, count: usize) {
        self.written += count as u64;
        if self.written - self.told < PART {
            return;
        }
        if self.thread.is_none() {
            self.thread = start(path, self.told);
        }
        // While the thread is busy it will hear of these bytes with later ones.
        if let Some(thread) = &self.thread
            && thread.try_send(self.written).is_err()
        {
            return;
        }
        self.told = self.written;
    }
}

/// A thread that is told up to where the file is written; `from` is where it begins.
fn start(path: &Path, from: u64) -> Option<SyncSender<u64>> {
    // Not the writer's descriptor, whose lock would last as long as this one.
    let file = File::open(path).ok()?;
    let (told, ends) = sync_channel(1);
    let run = move || {
        let mut from = from;
        for end in ends {
            if sys::writeback::start(&file, from, end - from).is_err() {
                break;
            }
            from = end;
        }
    };
    let thread = std::thread::Builder::new()
        .name("writeback".into())
        .spawn(run);
    thread.ok().map(|_| told)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn what_is_written_is_told_part_by_part() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_owned();
        let mut writeback = Writeback::after(0);
        let part = vec![7; 3 << 20];
        for _ in 0..9 {
            file.write_all(&part).unwrap();
            writeback.wrote(&path, part.len());
        }
        assert!((PART..=writeback.written).contains(&writeback.told));
        assert_eq!(writeback.written, 27 << 20);
    }

    #[test]
    fn a_small_file_starts_no_thread() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut writeback = Writeback::after(100 << 20);
        writeback.wrote(file.path(), 1 << 20);
        assert!(writeback.thread.is_none());
    }

    #[test]
    fn what_cannot_be_written_back_is_left_alone() {
        for path in ["/nonexistent", "/proc/self/stat"] {
            let mut writeback = Writeback::default();
            for _ in 0..100 {
                writeback.wrote(Path::new(path), 1 << 20);
            }
        }
    }
}
