//! What a layer's tar goes through while it is packed: a hash, a compressor, and whoever looks for secrets.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use super::error::StepError;
use super::request::Encoding;
use super::secret_scan::LayerScan;
use crate::layer::{Compression, Encoder};
use crate::oci::{DiffId, StreamHasher};
use crate::store::{BlobWriter, StagedBlob, Store};

/// A tar on its way.
pub(super) enum TarSink {
    /// Nobody wants a blob of it.
    Hashed(StreamHasher),
    /// Hashed as it is, and compressed into a blob.
    Compressed(StreamHasher, Blob),
    /// The blob is the tar, and its digest the DiffId.
    Plain(Blob),
}

/// A blob on its way.
pub(super) struct Blob {
    encoder: Encoder<BlobWriter>,
    /// How long it kept what was written to it waiting.
    waited: Duration,
}

impl Blob {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let began = Instant::now();
        self.encoder.write_all(bytes)?;
        self.waited += began.elapsed();
        Ok(())
    }

    fn end(self) -> Result<StagedBlob, StepError> {
        let writer = self.encoder.finish();
        let writer = writer.map_err(|source| StepError::Compress { source })?;
        Ok(writer.finish()?)
    }
}

/// A tar that is complete.
pub(super) struct EndedTar {
    pub(super) diff_id: DiffId,
    pub(super) length: u64,
    pub(super) blob: Option<StagedBlob>,
}

impl TarSink {
    pub(super) fn waited(&self) -> Duration {
        match self {
            Self::Hashed(_) => Duration::ZERO,
            Self::Compressed(_, blob) | Self::Plain(blob) => blob.waited,
        }
    }

    pub(super) fn end(self) -> Result<EndedTar, StepError> {
        let hashed = |hasher: StreamHasher, blob| EndedTar {
            length: hasher.length(),
            diff_id: DiffId(hasher.finish()),
            blob,
        };
        Ok(match self {
            Self::Hashed(hasher) => hashed(hasher, None),
            Self::Compressed(hasher, blob) => hashed(hasher, Some(blob.end()?)),
            Self::Plain(blob) => {
                let blob = blob.end()?;
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
            Self::Compressed(hasher, blob) => {
                hasher.update(bytes);
                blob.write_all(bytes)?;
            }
            Self::Plain(blob) => blob.write_all(bytes)?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Begins a tar; with `encoding` there will be a blob of it.
pub(super) fn begin(store: &Store, encoding: Option<Encoding>) -> Result<TarSink, StepError> {
    let Some(encoding) = encoding else {
        return Ok(TarSink::Hashed(StreamHasher::new()));
    };
    let blob = Blob {
        encoder: encoder(store, encoding)?,
        waited: Duration::ZERO,
    };
    Ok(match encoding.compression {
        Compression::Uncompressed => TarSink::Plain(blob),
        Compression::Gzip | Compression::Zstd => TarSink::Compressed(StreamHasher::new(), blob),
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

/// A tar that is looked through while it goes on.
pub(super) struct Scanned<'p> {
    pub(super) tar: TarSink,
    pub(super) scan: Option<LayerScan<'p>>,
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
