//! One hash of bytes and of what files hold, in order, the files read by several threads when they are many
//! or large.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use super::digest::{Error, Fresh, Memo, Stamp};
use crate::oci::{Digest, Hasher};

/// Files, or bytes of them, from which threads pay for themselves.
const MANY: usize = 64;
const MUCH: u64 = 2 << 20;
/// Files that may wait to be read.
const MOST: usize = 256;
/// Files, or bytes of them, that a thread takes at once.
const BATCH: usize = 32;
const BATCH_BYTES: u64 = 256 << 10;
const MAX_THREADS: usize = 8;
const BUFFER: usize = 256 << 10;

/// A regular file to hash.
#[derive(Debug)]
pub(crate) struct Content<'a> {
    pub(crate) directory: &'a Arc<OwnedFd>,
    pub(crate) name: &'a OsStr,
    /// What it was found to be, and has to be before and after it is read.
    pub(crate) stamp: &'a Stamp,
    /// For messages.
    pub(crate) path: PathBuf,
    /// Whether the memo may know it, and is to learn it.
    pub(crate) is_remembered: bool,
}

/// A file whose content could not be hashed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) path: PathBuf,
    pub(crate) source: Error,
}

/// Hashes what it is given, in the order in which it is given. An error may come later than its file, but
/// it is that of the first file that has one.
#[derive(Debug)]
pub(crate) struct Sequence<'m> {
    memo: &'m Memo,
    hasher: Hasher,
    /// The files that are not in the hash yet, and the number of the first.
    pending: VecDeque<Pending>,
    first: u64,
    /// Those that nobody reads yet.
    batch: Vec<Job>,
    batch_bytes: u64,
    /// Bytes of all files that are read.
    total: u64,
    threads: Threads,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Pending {
    stamp: Stamp,
    path: PathBuf,
    is_remembered: bool,
    result: Option<Result<Fresh, Error>>,
    /// What comes between this file and the next.
    after: Vec<u8>,
}

#[derive(Debug)]
struct Job {
    number: u64,
    directory: Arc<OwnedFd>,
    name: OsString,
    stamp: Stamp,
}

type Outcome = (u64, Result<Fresh, Error>);

#[derive(Debug)]
enum Threads {
    /// There is not enough to do yet.
    NotYet,
    /// There is one processor, or no thread to be had.
    Never,
    Running {
        jobs: Sender<Vec<Job>>,
        results: Receiver<Vec<Outcome>>,
    },
}

impl<'m> Sequence<'m> {
    pub(crate) fn new(memo: &'m Memo) -> Self {
        Self {
            memo,
            hasher: Hasher::new(),
            pending: VecDeque::new(),
            first: 0,
            batch: Vec::new(),
            batch_bytes: 0,
            total: 0,
            threads: Threads::NotYet,
            buffer: Vec::new(),
        }
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        match self.pending.back_mut() {
            None => self.hasher.update(bytes),
            Some(last) => last.after.extend_from_slice(bytes),
        }
    }

    /// Adds the hash of a file, 32 bytes.
    pub(crate) fn content(&mut self, content: Content<'_>) -> Result<(), Failure> {
        let stamp = *content.stamp;
        if content.is_remembered
            && let Some(hash) = self.memo.recall(&stamp)
        {
            self.bytes(&hash);
            return Ok(());
        }
        if let Err(source) = self.memo.may_read(content.name) {
            let path = content.path;
            return Err(Failure { path, source });
        }
        self.batch.push(Job {
            number: self.first + self.pending.len() as u64,
            directory: Arc::clone(content.directory),
            name: content.name.to_owned(),
            stamp,
        });
        self.pending.push_back(Pending {
            stamp,
            path: content.path,
            is_remembered: content.is_remembered,
            result: None,
            after: Vec::new(),
        });
        let size = u64::try_from(stamp.size).unwrap_or(0);
        self.batch_bytes += size;
        self.total += size;
        if let Threads::NotYet = self.threads {
            if self.pending.len() < MANY && self.total < MUCH {
                return Ok(());
            }
            self.threads = Threads::start();
        }
        if self.batch.len() >= BATCH || self.batch_bytes >= BATCH_BYTES {
            self.read_batch();
        }
        self.settle(MOST)
    }

    pub(crate) fn finish(mut self) -> Result<Digest, Failure> {
        self.read_batch();
        self.settle(0)?;
        Ok(self.hasher.finish())
    }

    /// Has the files of the batch read: by a thread, or here and now.
    fn read_batch(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        let left = match &self.threads {
            Threads::Running { jobs, .. } => jobs.send(batch).map_err(|unsent| unsent.0),
            Threads::NotYet | Threads::Never => Err(batch),
        };
        if let Err(batch) = left {
            self.buffer.resize(BUFFER, 0);
            let outcomes = read_all(batch, &mut self.buffer);
            self.take(outcomes);
        }
    }

    fn take(&mut self, outcomes: Vec<Outcome>) {
        for (number, result) in outcomes {
            let index = usize::try_from(number - self.first).expect("no more than wait");
            self.pending[index].result = Some(result);
        }
    }

    /// Adds to the hash what can be added, and waits until no more than `most` files wait.
    fn settle(&mut self, most: usize) -> Result<(), Failure> {
        loop {
            while let Some(next) = self.pending.pop_front_if(|next| next.result.is_some()) {
                self.first += 1;
                let fresh = match next.result.expect("it was looked at") {
                    Ok(fresh) => fresh,
                    Err(source) => {
                        let path = next.path;
                        return Err(Failure { path, source });
                    }
                };
                if next.is_remembered {
                    self.memo.learn(&next.stamp, &fresh);
                }
                self.hasher.update(&fresh.hash);
                self.hasher.update(&next.after);
            }
            let outcomes = match &self.threads {
                // Whoever waits for more than none has given the threads all but one batch.
                Threads::Running { results, .. } if self.pending.len() > most => {
                    results.recv().expect("a thread answers every batch")
                }
                _ => return Ok(()),
            };
            self.take(outcomes);
        }
    }
}

impl Threads {
    fn start() -> Self {
        let count = crate::sys::process::processors();
        let (jobs, incoming) = channel::<Vec<Job>>();
        let (outgoing, results) = channel();
        let incoming = Arc::new(Mutex::new(incoming));
        let start = |_| {
            let (incoming, outgoing) = (Arc::clone(&incoming), outgoing.clone());
            let run = move || {
                let mut buffer = vec![0; BUFFER];
                loop {
                    let batch = incoming
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .recv();
                    // A closed channel means that nobody waits for more.
                    let Ok(batch) = batch else { break };
                    if outgoing.send(read_all(batch, &mut buffer)).is_err() {
                        break;
                    }
                }
            };
            std::thread::Builder::new()
                .name("contents".into())
                .spawn(run)
        };
        match count {
            1 => Self::Never,
            _ if (0..count.min(MAX_THREADS))
                .map(start)
                .filter(Result::is_ok)
                .count()
                == 0 =>
            {
                Self::Never
            }
            _ => Self::Running { jobs, results },
        }
    }
}

fn read_all(batch: Vec<Job>, buffer: &mut [u8]) -> Vec<Outcome> {
    let read = |job: Job| {
        let result = Fresh::read(job.directory.as_fd(), &job.name, &job.stamp, buffer);
        (job.number, result)
    };
    batch.into_iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::sys;

    struct Files {
        directory: tempfile::TempDir,
        open: Arc<OwnedFd>,
        names: Vec<String>,
    }

    fn files(count: usize, size: usize) -> Files {
        let directory = tempfile::tempdir().unwrap();
        let names: Vec<String> = (0..count).map(|index| format!("file{index}")).collect();
        for name in &names {
            fs::write(directory.path().join(name), name.repeat(size)).unwrap();
        }
        let open = Arc::new(sys::fs::open_directory(directory.path()).unwrap());
        Files {
            directory,
            open,
            names,
        }
    }

    impl Files {
        fn stamps(&self) -> Vec<Stamp> {
            let stat = |name: &String| sys::fs::stat_at(&self.open, name.as_ref()).unwrap();
            self.names
                .iter()
                .map(|name| Stamp::of(&stat(name)))
                .collect()
        }

        fn hash(&self, memo: &Memo, stamps: &[Stamp]) -> Result<Digest, Failure> {
            let mut sequence = Sequence::new(memo);
            sequence.bytes(b"begin");
            for (name, stamp) in self.names.iter().zip(stamps) {
                sequence.bytes(name.as_bytes());
                sequence.content(Content {
                    directory: &self.open,
                    name: name.as_ref(),
                    stamp,
                    path: name.into(),
                    is_remembered: true,
                })?;
                sequence.bytes(b"one");
                sequence.bytes(b"two");
            }
            sequence.finish()
        }

        fn expected(&self) -> Digest {
            let mut hasher = Hasher::new();
            hasher.update(b"begin");
            for name in &self.names {
                let content = fs::read(self.directory.path().join(name)).unwrap();
                hasher.update(name.as_bytes());
                hasher.update(blake3::hash(&content).as_bytes());
                hasher.update(b"onetwo");
            }
            hasher.finish()
        }
    }

    #[test]
    fn the_hash_does_not_depend_on_how_many_files_there_are_or_how_large() {
        for (count, size) in [(0, 0), (1, 1), (63, 0), (64, 1), (2000, 3), (5, 200_000)] {
            let files = files(count, size);
            let memo = Memo::none();
            let hash = files.hash(&memo, &files.stamps()).unwrap();
            assert_eq!(hash, files.expected(), "{count} of {size}");
            assert_eq!(memo.files_read(), count as u64);
        }
    }

    #[test]
    fn the_first_file_that_changed_is_the_one_in_the_message() {
        let files = files(300, 1);
        let stamps = files.stamps();
        for index in [70, 71, 250] {
            fs::write(files.directory.path().join(&files.names[index]), "changed").unwrap();
        }
        let failure = files.hash(&Memo::none(), &stamps).unwrap_err();
        assert_eq!(failure.path, Path::new("file70"));
        assert!(matches!(failure.source, Error::Changed { .. }));
    }
}
