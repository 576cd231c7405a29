//! Several blobs at once from a source into the store's scratch space.

use std::io::{self, Read as _};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use super::engine::lock;
use super::error::StepError;
use super::event::{Event, EventSender, VertexId};
use crate::oci::Descriptor;
use crate::store::{StagedBlob, Store};
use crate::transport::Source;

/// How many blobs are under way at once.
pub(super) const AT_ONCE: usize = 4;
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
    /// Asked every now and then; `true` ends the transfers.
    pub(super) stop: &'a (dyn Fn() -> bool + Sync),
}

impl Downloads<'_> {
    /// Downloads and verifies `wanted`, in any order; the result is in theirs. The first error ends
    /// the other transfers, and nothing stays.
    pub(super) fn stage(&self, wanted: &[Descriptor]) -> Result<Vec<StagedBlob>, StepError> {
        let total = wanted.iter().map(|blob| blob.size).sum();
        let meter = Meter::new(self.events, self.id, total);
        let failed = AtomicBool::new(false);
        let next = AtomicUsize::new(0);
        let results = Mutex::new(Vec::new());
        let work = || {
            while !failed.load(Ordering::Relaxed) {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(descriptor) = wanted.get(index) else {
                    return;
                };
                let staged = self.stage_one(descriptor, &meter, &failed);
                if staged.is_err() {
                    failed.store(true, Ordering::Relaxed);
                }
                lock(&results).push((index, staged));
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..AT_ONCE.min(wanted.len()) {
                scope.spawn(work);
            }
            work();
        });
        let mut results = results
            .into_inner()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        results.sort_by_key(|(index, _)| *index);
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
        let read = |source| StepError::Blob {
            name: self.name.to_owned(),
            origin: self.source.name(),
            source,
        };
        let opened = self.source.open_blob(descriptor);
        let mut reader = opened.map_err(|source| StepError::Pull {
            name: self.name.to_owned(),
            source: Box::new(source),
        })?;
        let mut writer = self.store.blob_writer(Some(descriptor))?;
        let mut buffer = vec![0; BUFFER];
        let mut done = 0;
        loop {
            if failed.load(Ordering::Relaxed) || (self.stop)() {
                return Err(StepError::Canceled);
            }
            let count = match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(read(error)),
            };
            io::Write::write_all(&mut writer, &buffer[..count]).map_err(read)?;
            done += count as u64;
            meter.advance(descriptor, done - count as u64, done);
        }
        writer.finish().map_err(|source| StepError::Verify {
            name: self.name.to_owned(),
            source,
        })
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
        Self {
            events,
            id,
            done: AtomicU64::new(0),
            total,
        }
    }

    /// `descriptor` has `done` bytes, and had `before`.
    pub(super) fn advance(&self, descriptor: &Descriptor, before: u64, done: u64) {
        let gained = done.wrapping_sub(before);
        let all = self
            .done
            .fetch_add(gained, Ordering::Relaxed)
            .wrapping_add(gained);
        let send = |label: String, done, total| {
            self.events.send(Event::Progress {
                id: self.id,
                label,
                done,
                total: Some(total),
            });
        };
        send(descriptor.digest.to_string(), done, descriptor.size);
        send(TOTAL.to_owned(), all, self.total);
    }
}
