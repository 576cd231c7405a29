//! Several blobs at once from a source into the store's scratch space.

use std::io::{self, Read as _};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::engine::lock;
use super::error::StepError;
use super::event::{Event, EventSender, VertexId};
use crate::oci::Descriptor;
use crate::sandbox::Cancel;
use crate::store::{BlobWriter, StagedBlob, Store};
use crate::transport::{Options, Source, Stop};

/// How many blobs are under way at once.
const AT_ONCE: usize = 4;
const BUFFER: usize = 256 * 1024;
/// What the progress of all blobs together is called.
pub(super) const TOTAL: &str = "total";

/// Where blobs come from and go to, and who watches.
pub(super) struct Downloads<'a> {
    pub(super) store: &'a Store,
    pub(super) source: &'a dyn Source,
    /// How messages call the image.
    pub(super) name: &'a str,
    pub(super) events: &'a EventSender,
    pub(super) id: VertexId,
    /// Ends the transfers.
    pub(super) cancel: &'a Cancel,
}

/// How registries are spoken to by work that `cancel` ends.
pub(super) fn options(cancel: &Cancel) -> Options {
    let cancel = cancel.clone();
    Options {
        stop: Stop::when(move || cancel.is_canceled()),
        ..Options::default()
    }
}

/// `result`, of which an error after the end was wanted is no more than that.
pub(super) fn or_canceled<T>(
    cancel: &Cancel,
    result: Result<T, StepError>,
) -> Result<T, StepError> {
    result.map_err(|error| match error {
        _ if cancel.is_canceled() => StepError::Canceled,
        error => error,
    })
}

/// Does `work` for each of `blobs`, several at once, until it has `failed` for one or all are done. The
/// results of those that were begun are in the order of the blobs, each with its place among them.
pub(super) fn at_once<T: Send, E: Send>(
    blobs: &[Descriptor],
    failed: &AtomicBool,
    work: impl Fn(&Descriptor) -> Result<T, E> + Sync,
) -> Vec<(usize, Result<T, E>)> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    let run = || {
        while !failed.load(Ordering::Relaxed) {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(blob) = blobs.get(index) else {
                return;
            };
            let result = work(blob);
            if result.is_err() {
                failed.store(true, Ordering::Relaxed);
            }
            lock(&results).push((index, result));
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..AT_ONCE.min(blobs.len()) {
            scope.spawn(run);
        }
        run();
    });
    let mut results = results
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    results.sort_by_key(|(index, _)| *index);
    results
}

impl Downloads<'_> {
    /// Downloads and verifies `wanted`, in any order; the result is in theirs. The first error ends
    /// the other transfers, and of what came over a network the beginnings stay for the next time.
    pub(super) fn stage(&self, wanted: &[Descriptor]) -> Result<Vec<StagedBlob>, StepError> {
        let total = wanted.iter().map(|blob| blob.size).sum();
        let meter = Meter::new(self.events, self.id, total);
        let failed = AtomicBool::new(false);
        let mut results = at_once(wanted, &failed, |descriptor| {
            self.stage_one(descriptor, &meter, &failed)
        });
        // Others than the first to fail were only told to end.
        let is_cause = |result: &Result<StagedBlob, StepError>| {
            result
                .as_ref()
                .is_err_and(|error| !matches!(error, StepError::Canceled))
        };
        if let Some(cause) = results.iter().position(|(_, result)| is_cause(result)) {
            results.swap(0, cause);
        }
        results.into_iter().map(|(_, result)| result).collect()
    }

    fn stage_one(
        &self,
        descriptor: &Descriptor,
        meter: &Meter<'_>,
        failed: &AtomicBool,
    ) -> Result<StagedBlob, StepError> {
        let mut writer = self.writer(descriptor)?;
        let began = Instant::now();
        let resumed = self.transfer(descriptor, &mut writer, meter, failed)?;
        let mut staged = writer.finish();
        // What an earlier transfer left may be wrong, and is gone now.
        if staged.is_err() && resumed {
            meter.advance(descriptor, descriptor.size, 0);
            let mut writer = self.writer(descriptor)?;
            self.transfer(descriptor, &mut writer, meter, failed)?;
            staged = writer.finish();
        }
        let staged = staged.map_err(|source| StepError::Verify {
            name: self.name.to_owned(),
            source,
        })?;
        meter.finish(descriptor, began.elapsed());
        Ok(staged)
    }

    fn writer(&self, descriptor: &Descriptor) -> Result<BlobWriter, StepError> {
        Ok(if self.source.is_remote() {
            self.store.resumable_writer(descriptor)?
        } else {
            self.store.blob_writer(Some(descriptor))?
        })
    }

    /// Fills `writer` up; says whether it went on with bytes that were there.
    fn transfer(
        &self,
        descriptor: &Descriptor,
        writer: &mut BlobWriter,
        meter: &Meter<'_>,
        failed: &AtomicBool,
    ) -> Result<bool, StepError> {
        let read = |source| StepError::Blob {
            name: self.name.to_owned(),
            origin: self.source.name(),
            source,
        };
        let there = writer.length();
        if there > 0 && there == descriptor.size {
            meter.advance(descriptor, 0, there);
            return Ok(true);
        }
        let opened = self.source.open_blob_from(descriptor, there);
        let (mut done, mut reader) = opened.map_err(|source| StepError::Pull {
            name: self.name.to_owned(),
            source: Box::new(source),
        })?;
        if done < there {
            writer.restart()?;
        }
        let resumed = done > 0;
        meter.advance(descriptor, 0, done);
        let mut buffer = vec![0; BUFFER];
        loop {
            if failed.load(Ordering::Relaxed) || self.cancel.is_canceled() {
                return Err(StepError::Canceled);
            }
            let count = match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(read(error)),
            };
            io::Write::write_all(writer, &buffer[..count]).map_err(read)?;
            done += count as u64;
            meter.advance(descriptor, done - count as u64, done);
        }
        Ok(resumed)
    }
}

/// Tells how far each blob is, and all of them.
pub(super) struct Meter<'a> {
    events: &'a EventSender,
    id: VertexId,
    done: AtomicU64,
    total: u64,
}

impl<'a> Meter<'a> {
    pub(super) fn new(events: &'a EventSender, id: VertexId, total: u64) -> Self {
        let meter = Self {
            events,
            id,
            done: AtomicU64::new(0),
            total,
        };
        if total > 0 {
            meter.send(TOTAL.to_owned(), 0, total);
        }
        meter
    }

    fn send(&self, label: String, done: u64, total: u64) {
        self.events.send(Event::Progress {
            id: self.id,
            label,
            done,
            total: Some(total),
        });
    }

    /// `descriptor` is complete.
    pub(super) fn finish(&self, descriptor: &Descriptor, took: Duration) {
        self.events.send(Event::Finished {
            id: self.id,
            label: descriptor.digest.to_string(),
            took,
        });
    }

    /// `descriptor` has `done` bytes, and had `before`.
    pub(super) fn advance(&self, descriptor: &Descriptor, before: u64, done: u64) {
        let gained = done.wrapping_sub(before);
        let all = self
            .done
            .fetch_add(gained, Ordering::Relaxed)
            .wrapping_add(gained);
        self.send(descriptor.digest.to_string(), done, descriptor.size);
        self.send(TOTAL.to_owned(), all, self.total);
    }
}
