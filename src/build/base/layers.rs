//! The layers of a base: downloaded, verified, unpacked.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::time::{Duration, Instant};

use super::super::downloads::Downloads;
use super::super::error::StepError;
use super::super::event::{Event, EventSender, Phase, Spent, VertexId};
use super::super::unpacked::{Unpacked, unpack_layer};
use super::Base;
use crate::oci::{ChainId, Descriptor, DiffId, Digest};
use crate::sandbox::Cancel;
use crate::store::{BlobWriter, Snapshot, StagedBlob, Store};

/// The layers of one image on their way.
pub(super) struct Fetch<'a> {
    pub(super) base: &'a Base,
    pub(super) store: &'a Store,
    pub(super) events: &'a EventSender,
    pub(super) id: VertexId,
    pub(super) cancel: &'a Cancel,
    /// Read and unpacked; the blobs are not published.
    pub(super) staged: Vec<(DiffId, Descriptor, Option<StagedBlob>)>,
    /// Complete and verified, not unpacked yet.
    pub(super) downloaded: BTreeMap<Digest, StagedBlob>,
}

impl Fetch<'_> {
    /// Downloads the layers that the store lacks, several at once. One alone is unpacked as it comes,
    /// unless its beginning is here.
    pub(super) fn download(&mut self) -> Result<(), StepError> {
        let Some(remote) = &self.base.remote else {
            return Ok(());
        };
        let mut missing: Vec<Descriptor> = Vec::new();
        for layer in &self.base.manifest.layers {
            let listed = missing.iter().any(|other| other.digest == layer.digest);
            if !listed && !self.store.has_blob(layer) {
                missing.push(layer.clone());
            }
        }
        if let [] | [_] = missing[..]
            && !missing.iter().any(|layer| self.store.has_partial(layer))
        {
            return Ok(());
        }
        let downloads = Downloads {
            store: self.store,
            source: remote.source.as_ref(),
            name: &self.base.name,
            events: self.events,
            id: self.id,
            cancel: self.cancel,
        };
        let began = Instant::now();
        let staged = downloads.stage(&missing)?;
        self.spent(Spent {
            bytes: Some(missing.iter().map(|layer| layer.size).sum()),
            ..Spent::new(Phase::Pull, began.elapsed())
        });
        self.downloaded = staged
            .into_iter()
            .map(|blob| (blob.digest.clone(), blob))
            .collect();
        Ok(())
    }

    /// Unpacks the layers that the store lacks: what is there, and what is to be published on it, bottom
    /// first. A layer can only be put on a published one, so all blobs are read before the first is
    /// published.
    pub(super) fn layers(
        &mut self,
        diff_ids: &[DiffId],
    ) -> Result<(Snapshot, Vec<(DiffId, Unpacked)>), StepError> {
        let mut snapshot = Snapshot::default();
        let mut waiting: Vec<(DiffId, Unpacked)> = Vec::new();
        for (diff_id, descriptor) in diff_ids.iter().zip(&self.base.manifest.layers) {
            let known = waiting.is_empty().then(|| {
                let chain = ChainId::on(snapshot.chain_id(), diff_id);
                self.store
                    .has_snapshot(&chain)
                    .then(|| self.store.snapshot_above(Some(&chain), &snapshot))
            });
            if let Some(Some(found)) = known
                && self.store.has_blob(descriptor)
            {
                snapshot = found?;
                self.staged
                    .push((diff_id.clone(), descriptor.clone(), None));
                continue;
            }
            waiting.push((diff_id.clone(), self.layer(diff_id, descriptor)?));
        }
        Ok((snapshot, waiting))
    }

    fn layer(&mut self, diff_id: &DiffId, descriptor: &Descriptor) -> Result<Unpacked, StepError> {
        let downloaded = self.downloaded.remove(&descriptor.digest);
        let (reader, blob) = if let Some(blob) = &downloaded {
            (Box::new(blob.open()?) as Box<dyn Read + Send>, None)
        } else if let Some(file) = self.staged_before(descriptor)? {
            (Box::new(file) as Box<dyn Read + Send>, None)
        } else if self.store.has_blob(descriptor) {
            let file = self.store.open_blob(&descriptor.digest)?;
            (Box::new(file) as Box<dyn Read + Send>, None)
        } else {
            let Some(remote) = &self.base.remote else {
                let missing = crate::store::Error::MissingBlob(descriptor.digest.clone());
                return Err(self.verify(missing));
            };
            let name = self.base.name.clone();
            let reader = remote
                .source
                .open_blob(descriptor)
                .map_err(|source| StepError::Base {
                    name,
                    source: Box::new(source),
                })?;
            let mut blob = if remote.source.is_remote() {
                self.store.resumable_writer(descriptor)?
            } else {
                self.store.blob_writer(Some(descriptor))?
            };
            // Somebody else may have left one just now.
            if blob.length() > 0 {
                blob.restart()?;
            }
            (reader, Some(blob))
        };
        let origin = self
            .base
            .remote
            .as_ref()
            .map_or_else(|| "the store".into(), |r| r.source.name());
        let mut tee = Tee {
            reader,
            blob,
            read: 0,
            waited: Duration::ZERO,
            broke_off: false,
            progress: self.progress(descriptor),
        };
        let began = Instant::now();
        let unpacked = match unpack_layer(self.store, &mut tee, diff_id) {
            Ok(unpacked) => unpacked,
            Err(error) => {
                // What cannot be unpacked need not be gone on with; what broke off may.
                if let Some(blob) = tee.blob.filter(|_| !tee.broke_off) {
                    blob.discard();
                }
                return Err(error.into_step(&self.base.name, &origin));
            }
        };
        // Padding after the end of the archive belongs to the blob too.
        io::copy(&mut tee, &mut io::sink()).map_err(|source| StepError::Blob {
            name: self.base.name.clone(),
            origin,
            source,
        })?;
        let is_pulled = tee.blob.is_some();
        let (read, waited) = (tee.read, tee.waited);
        let staged = match tee.blob {
            Some(blob) => Some(blob.finish().map_err(|source| self.verify(source))?),
            None => downloaded,
        };
        let mut unpacking = began.elapsed();
        if is_pulled {
            unpacking = unpacking.saturating_sub(waited);
            self.spent(Spent {
                bytes: Some(read),
                ..Spent::new(Phase::Pull, waited)
            });
        }
        self.spent(Spent {
            bytes: Some(unpacked.size),
            files: Some(unpacked.files),
            ..Spent::new(Phase::Unpack, unpacking)
        });
        self.staged
            .push((diff_id.clone(), descriptor.clone(), staged));
        Ok(unpacked)
    }

    fn spent(&self, spent: Spent) {
        let id = Some(self.id);
        self.events.send(Event::Spent { id, spent });
    }

    /// The bytes of a layer that the image has twice.
    fn staged_before(&self, descriptor: &Descriptor) -> Result<Option<File>, StepError> {
        let blobs = self.staged.iter().filter_map(|(_, _, blob)| blob.as_ref());
        let mut same = blobs.filter(|blob| blob.digest == descriptor.digest);
        Ok(same.next().map(StagedBlob::open).transpose()?)
    }

    fn verify(&self, source: crate::store::Error) -> StepError {
        StepError::Verify {
            name: self.base.name.clone(),
            source,
        }
    }

    fn progress(&self, descriptor: &Descriptor) -> impl FnMut(u64) + use<> {
        let (events, id) = (self.events.clone(), self.id);
        let (label, total) = (descriptor.digest.to_string(), descriptor.size);
        move |done| {
            let total = Some(total);
            events.send(Event::Progress {
                id,
                label: label.clone(),
                done,
                total,
            });
        }
    }
}

/// Copies what is read into a blob, and counts it.
struct Tee<F> {
    reader: Box<dyn Read + Send>,
    blob: Option<BlobWriter>,
    read: u64,
    /// For those bytes, and for the blob to take them.
    waited: Duration,
    /// Reading failed.
    broke_off: bool,
    progress: F,
}

impl<F: FnMut(u64)> Read for Tee<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let began = Instant::now();
        let length = self.reader.read(buffer);
        let length = length.inspect_err(|_| self.broke_off = true)?;
        if let Some(blob) = &mut self.blob {
            io::Write::write_all(blob, &buffer[..length])?;
        }
        self.waited += began.elapsed();
        self.read += length as u64;
        (self.progress)(self.read);
        Ok(length)
    }
}
