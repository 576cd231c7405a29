//! From a directory that a step wrote to, to a layer: one pass that packs, hashes, compresses.

use std::io::{self, Write};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;

use super::error::StepError;
use super::request::Encoding;
use super::secret_scan::{LayerScan, Leak};
use crate::layer::{Compression, Decoder, Encoder, PackOptions, pack};
use crate::oci::{Descriptor, DiffId, Hasher, media_type};
use crate::store::{Active, BlobWriter, LayerBlob, Packing, Snapshot, StagedBlob, Store};
use crate::sys;

/// How a build writes its layers.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct LayerOptions {
    /// Seconds since 1970 that no time in a layer may be later than.
    pub(crate) clamp_mtime: Option<i64>,
    /// The blob to write while the layer is packed; `None` where no output needs one.
    pub(crate) blob: Option<Encoding>,
}

/// A tar on its way.
enum TarSink {
    /// Nobody wants a blob of it.
    Hashed(Hasher),
    /// Hashed as it is, and compressed into a blob.
    Compressed(Hasher, Encoder<BlobWriter>),
    /// The blob is the tar, and its digest the DiffId.
    Plain(Encoder<BlobWriter>),
}

/// A tar that is complete.
struct EndedTar {
    diff_id: DiffId,
    length: u64,
    blob: Option<StagedBlob>,
}

impl TarSink {
    fn end(self) -> Result<EndedTar, StepError> {
        let staged = |encoder: Encoder<BlobWriter>| -> Result<StagedBlob, StepError> {
            let writer = encoder.finish();
            let writer = writer.map_err(|source| StepError::Compress { source })?;
            Ok(writer.finish()?)
        };
        let hashed = |hasher: Hasher, blob| EndedTar {
            length: hasher.length(),
            diff_id: DiffId(hasher.finish()),
            blob,
        };
        Ok(match self {
            Self::Hashed(hasher) => hashed(hasher, None),
            Self::Compressed(hasher, encoder) => hashed(hasher, Some(staged(encoder)?)),
            Self::Plain(encoder) => {
                let blob = staged(encoder)?;
                EndedTar {
                    diff_id: DiffId(blob.digest.clone()),
                    length: blob.size,
                    blob: Some(blob),
                }
            }
        })
    }
}

impl Write for TarSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Hashed(hasher) => hasher.update(bytes),
            Self::Compressed(hasher, encoder) => {
                hasher.update(bytes);
                encoder.write_all(bytes)?;
            }
            Self::Plain(encoder) => encoder.write_all(bytes)?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A tar that is also looked through on its way.
struct Scanned<'p> {
    tar: TarSink,
    scan: Option<LayerScan<'p>>,
}

impl Write for Scanned<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.tar.write_all(bytes)?;
        if let Some(scan) = &mut self.scan {
            scan.write_all(bytes)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Commits what `active` holds. Without a change there is no layer, and the parent is returned as it
/// is. Nothing of the step may be running any more. A secret that `scan` finds is an error, of which
/// nothing stays, or is returned.
pub(crate) fn commit(
    store: &Store,
    active: Active,
    options: LayerOptions,
    scan: Option<LayerScan<'_>>,
) -> Result<Committed, StepError> {
    store.settle(&active)?;
    let upper = open(&active.upper())?;
    let below = store.layer_paths(active.parent());
    let lowers = open_all(&below)?;
    let layers: Vec<PathBuf> = std::iter::once(active.upper()).chain(below).collect();
    let owners = store.owners_of(&layers);
    let tar = sink(store, options.blob)?;
    let mut sink = Scanned { tar, scan };
    let pack_options = PackOptions {
        clamp_mtime: options.clamp_mtime,
        include_parents: true,
    };
    let packed = pack(upper.as_fd(), &lowers, &owners, &pack_options, &mut sink)
        .map_err(|source| StepError::Pack { source })?;
    if packed.entries == 0 {
        let parent = active.parent().clone();
        store.abandon(active);
        return Ok(Committed {
            snapshot: parent,
            diff_id: None,
            leaks: Vec::new(),
        });
    }
    let leaks = sink.scan.map(LayerScan::finish).transpose();
    let leaks = match leaks {
        Ok(leaks) => leaks.unwrap_or_default(),
        Err(leak) => {
            store.abandon(active);
            return Err(leak);
        }
    };
    let diff_id = finish(store, sink.tar, options.blob)?;
    let packing = Packing {
        clamp_mtime: options.clamp_mtime,
    };
    let staged = store.stage(active, diff_id.clone(), Some(packing));
    Ok(Committed {
        snapshot: store.publish_snapshot(staged)?,
        diff_id: Some(diff_id),
        leaks,
    })
}

/// What [`commit`] made.
#[derive(Debug)]
pub(crate) struct Committed {
    pub(crate) snapshot: Snapshot,
    /// The layer, if there was a change.
    pub(crate) diff_id: Option<DiffId>,
    /// Secrets in it that are only warned of.
    pub(crate) leaks: Vec<Leak>,
}

fn open(path: &std::path::Path) -> Result<OwnedFd, StepError> {
    sys::fs::open_directory(path).map_err(|source| StepError::Directory {
        path: path.display().to_string(),
        source,
    })
}

fn open_all(paths: &[PathBuf]) -> Result<Vec<OwnedFd>, StepError> {
    paths.iter().map(|path| open(path)).collect()
}

fn sink(store: &Store, encoding: Option<Encoding>) -> Result<TarSink, StepError> {
    let Some(encoding) = encoding else {
        return Ok(TarSink::Hashed(Hasher::new()));
    };
    let encoder = encoder(store, encoding)?;
    Ok(match encoding.compression {
        Compression::Uncompressed => TarSink::Plain(encoder),
        Compression::Gzip | Compression::Zstd => TarSink::Compressed(Hasher::new(), encoder),
    })
}

fn encoder(store: &Store, encoding: Encoding) -> Result<Encoder<BlobWriter>, StepError> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Encoder::new(
        store.blob_writer(None)?,
        encoding.compression,
        encoding.level,
        threads,
    )
    .map_err(|source| StepError::Compress { source })
}

/// Ends the blob, if there is one, puts it in the store and remembers which layer it holds.
fn finish(store: &Store, sink: TarSink, encoding: Option<Encoding>) -> Result<DiffId, StepError> {
    let tar = sink.end()?;
    store.remember_layer_size(&tar.diff_id, tar.length)?;
    if let (Some(blob), Some(encoding)) = (tar.blob, encoding) {
        publish(store, blob, encoding, &tar.diff_id)?;
    }
    Ok(tar.diff_id)
}

fn publish(
    store: &Store,
    staged: StagedBlob,
    encoding: Encoding,
    diff_id: &DiffId,
) -> Result<Descriptor, StepError> {
    let descriptor = Descriptor::new(
        media_type_of(encoding.compression),
        staged.digest.clone(),
        staged.size,
    );
    if !store.has_blob(&descriptor) {
        store.publish_blob(staged)?;
    }
    let blob = LayerBlob {
        descriptor: descriptor.clone(),
        encoding: Some(encoding_name(encoding)),
    };
    store.add_layer_blob(diff_id, blob)?;
    Ok(descriptor)
}

fn media_type_of(compression: Compression) -> &'static str {
    match compression {
        Compression::Uncompressed => media_type::LAYER,
        Compression::Gzip => media_type::LAYER_GZIP,
        Compression::Zstd => media_type::LAYER_ZSTD,
    }
}

/// Names what wrote a blob, so that another level or another writer is not taken for it.
fn encoding_name(encoding: Encoding) -> String {
    let level = encoding
        .level
        .map_or_else(|| "default".to_owned(), |level| level.to_string());
    match encoding.compression {
        Compression::Uncompressed => "tar".to_owned(),
        Compression::Gzip => format!("gzip:{level}"),
        Compression::Zstd => format!("zstd:{level}"),
    }
}

/// The blob of the topmost layer of `snapshot` for an output: a layer that came from elsewhere as it
/// came, an own one in `encoding`, made now when it is not there.
pub(crate) fn layer_blob(
    store: &Store,
    snapshot: &Snapshot,
    diff_id: &DiffId,
    encoding: Encoding,
    clamp_mtime: Option<i64>,
) -> Result<Descriptor, StepError> {
    let there = store.layer_blobs(diff_id);
    let wanted = encoding_name(encoding);
    let found = there
        .iter()
        .find(|blob| blob.encoding.is_none())
        .or_else(|| {
            there
                .iter()
                .find(|blob| blob.encoding.as_ref() == Some(&wanted))
        });
    if let Some(found) = found {
        return Ok(found.descriptor.clone());
    }
    let mut sink = sink(store, Some(encoding))?;
    read_layer(store, snapshot, diff_id, clamp_mtime, &mut sink)?;
    let tar = sink.end()?;
    if tar.diff_id != *diff_id {
        let name = "the store".to_owned();
        return Err(StepError::DiffId {
            name,
            expected: diff_id.clone(),
            actual: tar.diff_id,
        });
    }
    let blob = tar.blob.expect("the sink was made with an encoding");
    publish(store, blob, encoding, diff_id)
}

/// Writes the tar of the topmost layer of `snapshot`, from a blob of it or from its files.
pub(crate) fn read_layer(
    store: &Store,
    snapshot: &Snapshot,
    diff_id: &DiffId,
    clamp_mtime: Option<i64>,
    out: &mut dyn Write,
) -> Result<(), StepError> {
    match store.layer_blobs(diff_id).first() {
        Some(blob) => {
            let blob = store.open_blob(&blob.descriptor.digest)?;
            Decoder::detect(blob)
                .and_then(|mut tar| io::copy(&mut tar, out))
                .map_err(|source| StepError::Compress { source })?;
        }
        None => {
            let paths = match store.linked_files(snapshot) {
                Some(path) => vec![path],
                None => store.layer_paths(snapshot),
            };
            let (top, below) = paths
                .split_first()
                .expect("a snapshot with a layer has a path");
            let options = PackOptions {
                clamp_mtime,
                include_parents: true,
            };
            let (upper, lowers) = (open(top)?, open_all(below)?);
            let owners = store.owners_of(&paths);
            pack(upper.as_fd(), &lowers, &owners, &options, out)
                .map_err(|source| StepError::Pack { source })?;
        }
    }
    Ok(())
}
