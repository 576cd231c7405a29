//! Merging a directory into one of the image.
//!
//! The kernel makes files in several directories at the same time, so the regular files of directories
//! that are new are written by several threads. Everything else, and what depends on an order, stays with
//! the thread that walks: directories, names of one file, what could replace something.

use std::collections::VecDeque;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Scope;

use super::entries::{Entries, Entry};
use super::error::Error;
use super::sink::{Level, Sink, Source, Target, make_directory, open_source};
use super::write::{Like, Writer};
use super::{Copied, Origin, Skipped};
use crate::sys;
use crate::sys::fs::Kind;

/// Files, or bytes of them, that a thread takes at once; fewer are not worth a thread.
const BATCH: usize = 32;
const BATCH_BYTES: u64 = 1 << 20;
/// Batches that may wait for a thread.
const WAITING: usize = 4;
/// Directories, each of two open files, that may wait for their last batch.
const LEAVING: usize = 32;
/// More would wait for each other in the file system.
const MAX_THREADS: usize = 4;

/// Files of one directory.
struct Batch<'e> {
    number: u64,
    level: Arc<Level<'e>>,
    files: Vec<Entry<'e>>,
}

/// What became of the batch of a number.
type Outcome = (u64, Result<Copied, Error>);

struct Threads<'e> {
    /// Dropped when there is nothing more to write.
    batches: Option<SyncSender<Batch<'e>>>,
    outcomes: Receiver<Outcome>,
}

/// The two directories of a merge.
#[derive(Clone, Copy)]
struct Ends<'m> {
    origin: Origin,
    source: &'m OwnedFd,
    target: &'m Target,
}

struct Merge<'m, 'e, 'a> {
    writer: &'m mut Writer<'a>,
    ends: Ends<'m>,
    /// Where the walk is, outermost first.
    levels: Vec<Arc<Level<'e>>>,
    /// Those it has left, in that order, until their files are written.
    leaving: VecDeque<Arc<Level<'e>>>,
    /// Files of the innermost level that nobody was given yet.
    files: Vec<Entry<'e>>,
    bytes: u64,
    threads: Option<Threads<'e>>,
    /// No thread can be had.
    is_alone: bool,
    given: u64,
    answered: u64,
    /// The first batch that failed.
    failure: Option<(u64, Error)>,
    skipped: Vec<(u64, Vec<Skipped>)>,
}

impl<'a> Writer<'a> {
    /// Merges the entries of the directory `source` into `target`, whose own owner and mode stay. Its
    /// time becomes that of `source`, as with BuildKit, so that it does not tell when the build ran.
    pub(super) fn merge(
        &mut self,
        origin: Origin,
        source: &OwnedFd,
        entries: &Entries,
        target: &Target,
    ) -> Result<(), Error> {
        self.forget_links();
        let ends = Ends {
            origin,
            source,
            target,
        };
        std::thread::scope(|scope| Merge::new(self, ends).run(entries, scope))?;
        let failed = |source| Error::Write {
            path: target.path.clone(),
            source,
        };
        let stat = sys::fs::stat(source).map_err(failed)?;
        sys::fs::set_mtime(&target.directory, stat.st_mtime, stat.st_mtime_nsec).map_err(failed)
    }
}

impl<'m, 'e, 'a> Merge<'m, 'e, 'a> {
    fn new(writer: &'m mut Writer<'a>, ends: Ends<'m>) -> Self {
        Self {
            writer,
            ends,
            levels: Vec::new(),
            leaving: VecDeque::new(),
            files: Vec::new(),
            bytes: 0,
            threads: None,
            is_alone: false,
            given: 0,
            answered: 0,
            failure: None,
            skipped: Vec::new(),
        }
    }

    fn run<'s>(mut self, entries: &'e Entries, scope: &'s Scope<'s, '_>) -> Result<(), Error>
    where
        'm: 's,
        'e: 's,
        'a: 's,
    {
        let walked = self.walk(entries, scope);
        if let Some(threads) = &mut self.threads {
            threads.batches = None;
        }
        while self.answered < self.given {
            self.wait();
        }
        // The walk is always further than the threads.
        if let Some((_, failure)) = self.failure {
            return Err(failure);
        }
        self.skipped.sort_by_key(|(number, _)| *number);
        let skipped = self.skipped.into_iter().flat_map(|(_, skipped)| skipped);
        self.writer.copied.skipped.extend(skipped);
        walked
    }

    fn walk<'s>(&mut self, entries: &'e Entries, scope: &'s Scope<'s, '_>) -> Result<(), Error>
    where
        'm: 's,
        'e: 's,
        'a: 's,
    {
        for entry in entries.iter() {
            if self.failure.is_some() {
                return Ok(());
            }
            while self.levels.len() >= entry.depth {
                self.leave(scope)?;
            }
            let kind = entry.node.kind();
            let in_new = self.levels.last().is_some_and(|level| level.is_new);
            if kind == Kind::Regular && in_new && !entry.node.is_linked {
                self.bytes += u64::try_from(entry.node.stamp.size).unwrap_or(0);
                self.files.push(entry);
                if self.files.len() >= BATCH || self.bytes >= BATCH_BYTES {
                    self.give(true, scope)?;
                }
            } else if kind == Kind::Directory {
                self.give(false, scope)?;
                self.enter(entry)?;
            } else {
                let level = self.levels.last();
                write(self.writer, self.ends, level.map(Arc::as_ref), &entry)?;
            }
        }
        while !self.levels.is_empty() {
            self.leave(scope)?;
        }
        self.finish_left(0)
    }

    fn enter(&mut self, entry: Entry<'e>) -> Result<(), Error> {
        let above = self.levels.last();
        let (source, sink) = self.ends.of(above.map(Arc::as_ref), &entry);
        let opened = open_source(&source, &sink)?;
        let (made, is_new) = make_directory(&sink)?;
        let level = Level {
            source: opened,
            sink: made,
            entry,
            is_new,
            above: above.cloned(),
            batches: AtomicUsize::new(0),
        };
        self.writer.copied.files += 1;
        self.levels.push(Arc::new(level));
        Ok(())
    }

    /// Leaves the innermost directory. It is finished once all files before it in the walk and its own
    /// are written.
    fn leave<'s>(&mut self, scope: &'s Scope<'s, '_>) -> Result<(), Error>
    where
        'a: 's,
        'e: 's,
        'm: 's,
    {
        self.give(false, scope)?;
        self.leaving.extend(self.levels.pop());
        self.finish_left(LEAVING)
    }

    /// Finishes the directories that were left and are filled, and waits until no more than `most` are
    /// not.
    fn finish_left(&mut self, most: usize) -> Result<(), Error> {
        loop {
            let is_filled = |level: &mut Arc<Level<'_>>| level.batches.load(Ordering::Acquire) == 0;
            while let Some(level) = self.leaving.pop_front_if(is_filled) {
                let (source, sink) = self.ends.of(level.above.as_deref(), &level.entry);
                let made = (level.sink.as_fd(), level.is_new);
                self.writer
                    .leave(&source, &sink, made, level.entry.is_implied)?;
            }
            if self.leaving.len() <= most || self.failure.is_some() {
                return Ok(());
            }
            self.wait();
        }
    }

    /// Gives the files that were collected to a thread, or writes them here: `is_batch` tells whether
    /// they are worth starting threads for.
    fn give<'s>(&mut self, is_batch: bool, scope: &'s Scope<'s, '_>) -> Result<(), Error>
    where
        'a: 's,
        'e: 's,
        'm: 's,
    {
        self.bytes = 0;
        let Some(level) = self.levels.last().filter(|_| !self.files.is_empty()) else {
            return Ok(());
        };
        let files = std::mem::take(&mut self.files);
        if self.threads.is_none() && is_batch && !self.is_alone {
            self.threads = Threads::start(scope, self.ends, self.writer.like());
            self.is_alone = self.threads.is_none();
        }
        let Some(Threads {
            batches: Some(batches),
            ..
        }) = &self.threads
        else {
            for entry in &files {
                write(self.writer, self.ends, Some(level), entry)?;
            }
            return Ok(());
        };
        level.batches.fetch_add(1, Ordering::Relaxed);
        let batch = Batch {
            number: self.given,
            level: Arc::clone(level),
            files,
        };
        self.given += 1;
        let sent = batches.send(batch);
        assert!(
            sent.is_ok(),
            "a thread takes batches until there are no more"
        );
        Ok(())
    }

    /// Waits for one more batch.
    fn wait(&mut self) {
        let threads = self.threads.as_ref().expect("they have a batch");
        let answer = threads.outcomes.recv();
        let (number, outcome) = answer.expect("a thread answers every batch");
        self.answered += 1;
        match outcome {
            Ok(copied) => {
                self.writer.copied.files += copied.files;
                self.writer.copied.bytes += copied.bytes;
                if !copied.skipped.is_empty() {
                    self.skipped.push((number, copied.skipped));
                }
            }
            Err(error) => {
                if self
                    .failure
                    .as_ref()
                    .is_none_or(|(first, _)| number < *first)
                {
                    self.failure = Some((number, error));
                }
            }
        }
    }
}

impl<'m> Ends<'m> {
    /// The ends of `entry`, which is in `level`, or in the directories themselves.
    fn of<'l>(self, level: Option<&'l Level<'l>>, entry: &'l Entry<'l>) -> (Source<'l>, Sink<'l>)
    where
        'm: 'l,
    {
        let (from, to) = match level {
            Some(level) => (level.source.as_fd(), level.sink.as_fd()),
            None => (self.source.as_fd(), self.target.directory.as_fd()),
        };
        let source = Source {
            origin: self.origin,
            directory: from,
            name: entry.name,
            node: &entry.node,
            link: entry.target,
        };
        let sink = Sink {
            directory: to,
            name: entry.name,
            top: self.target,
            between: level,
        };
        (source, sink)
    }
}

fn write(
    writer: &mut Writer<'_>,
    ends: Ends<'_>,
    level: Option<&Level<'_>>,
    entry: &Entry<'_>,
) -> Result<(), Error> {
    let (source, sink) = ends.of(level, entry);
    writer.entry(&source, &sink)
}

impl<'e> Threads<'e> {
    /// `None` where there is one processor, or no thread to be had. Each thread has a writer like
    /// `like`.
    fn start<'s, 'm, 'a>(scope: &'s Scope<'s, '_>, ends: Ends<'m>, like: Like<'a>) -> Option<Self>
    where
        'a: 's,
        'e: 's,
        'm: 's,
    {
        let count = sys::process::processors();
        if count == 1 {
            return None;
        }
        let (batches, given) = sync_channel(WAITING);
        let (answers, outcomes) = channel();
        let given = Arc::new(Mutex::new(given));
        let mut is_any = false;
        for _ in 0..count.min(MAX_THREADS) {
            let (given, answers) = (Arc::clone(&given), answers.clone());
            let thread = std::thread::Builder::new().name("copy".into());
            let started = thread.spawn_scoped(scope, move || work(&given, &answers, ends, like));
            is_any |= started.is_ok();
        }
        is_any.then_some(Self {
            batches: Some(batches),
            outcomes,
        })
    }
}

/// Writes batches until there are no more.
fn work(
    given: &Mutex<Receiver<Batch<'_>>>,
    answers: &Sender<Outcome>,
    ends: Ends<'_>,
    like: Like<'_>,
) {
    let mut writer = like.writer();
    loop {
        let batch = given.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(batch) = batch else { break };
        let level = batch.level;
        let mut files = batch.files.iter();
        let written = files.try_for_each(|entry| write(&mut writer, ends, Some(&level), entry));
        let copied = std::mem::take(&mut writer.copied);
        level.batches.fetch_sub(1, Ordering::Release);
        // Who does not listen any more has failed.
        drop(answers.send((batch.number, written.map(|()| copied))));
    }
}
