//! What a layer's tar goes through while it is packed: a hash, a compressor, and whoever looks for secrets.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use super::error::StepError;
use super::request::Encoding;
use super::secret_scan::LayerScan;
use crate::layer::{Compression, Encoder};
use crate::oci::{DiffId, Hasher};
use crate::store::{BlobWriter, StagedBlob, Store};

/// Bytes of a tar whose blob is complete when it is: that takes less than going on without it.
const SMALL: u64 = 1 << 20;

/// A tar on its way.
pub(super) enum TarSink {
    /// Nobody wants a blob of it.
    Hashed(Hasher),
    /// Hashed as it is, and compressed into a blob.
    Compressed(Hasher, Blob),
    /// The blob is the tar, and its digest the DiffId.
    Plain(Blob),
}

/// A blob on its way.
pub(super) struct Blob {
    encoder: Encoder<BlobWriter>,
    began: Instant,
    /// How long it kept what was written to it waiting.
    waited: Duration,
    /// The tar does not wait for it.
    may_leave: bool,
    /// What it has of the tar, once that went on without it.
    left_at: Option<Hasher>,
}

impl Blob {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let began = Instant::now();
        self.encoder.write_all(bytes)?;
        self.waited += began.elapsed();
        Ok(())
    }

    /// Whether waiting for it has taken twice as long so far as packing did, which is what the rest takes
    /// again where the tar goes on without it.
    fn is_slow(&self) -> bool {
        3 * self.waited > 2 * self.began.elapsed()
    }

    /// Takes what follows on `before` in the tar, unless it is too slow for that.
    fn follow(&mut self, before: &Hasher, bytes: &[u8]) -> io::Result<()> {
        if self.left_at.is_some() {
            return Ok(());
        }
        let is_large = before.length() + bytes.len() as u64 > SMALL;
        if self.may_leave && is_large && self.is_slow() && self.encoder.is_full(bytes.len())? {
            self.left_at = Some(before.clone());
            return Ok(());
        }
        self.write_all(bytes)
    }

    /// What became of it at the end of the tar, all of which is in `hasher`.
    fn end_with(mut self, hasher: &Hasher) -> Result<EndedBlob, StepError> {
        if self.may_leave && hasher.length() > SMALL {
            let taken = self.left_at.take().unwrap_or_else(|| hasher.clone());
            let encoder = self.encoder;
            return Ok(EndedBlob::Begun(Box::new(Begun { encoder, taken })));
        }
        self.end().map(EndedBlob::Complete)
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
    pub(super) blob: EndedBlob,
}

/// The blob of a tar that is complete.
pub(super) enum EndedBlob {
    Unwanted,
    Complete(StagedBlob),
    /// For [`Begun::resume`].
    Begun(Box<Begun>),
}

impl TarSink {
    pub(super) fn waited(&self) -> Duration {
        match self {
            Self::Hashed(_) => Duration::ZERO,
            Self::Compressed(_, blob) | Self::Plain(blob) => blob.waited,
        }
    }

    pub(super) fn end(self) -> Result<EndedTar, StepError> {
        let hashed = |hasher: Hasher, blob| EndedTar {
            length: hasher.length(),
            diff_id: DiffId(hasher.finish()),
            blob,
        };
        Ok(match self {
            Self::Hashed(hasher) => hashed(hasher, EndedBlob::Unwanted),
            Self::Compressed(hasher, blob) => {
                let blob = blob.end_with(&hasher)?;
                hashed(hasher, blob)
            }
            Self::Plain(blob) => {
                let blob = blob.end()?;
                EndedTar {
                    diff_id: DiffId(blob.digest.clone()),
                    length: blob.size,
                    blob: EndedBlob::Complete(blob),
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
                blob.follow(hasher, bytes)?;
                hasher.update(bytes);
            }
            Self::Plain(blob) => blob.write_all(bytes)?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Begins a tar; with `encoding` there will be a blob of it. With `ahead` the tar does not wait for the
/// blob of a layer that is not small, and about so many bytes may be in memory.
pub(super) fn begin(
    store: &Store,
    encoding: Option<Encoding>,
    ahead: Option<usize>,
) -> Result<TarSink, StepError> {
    let Some(encoding) = encoding else {
        return Ok(TarSink::Hashed(Hasher::new()));
    };
    let mut blob = Blob {
        encoder: encoder(store, encoding)?,
        began: Instant::now(),
        waited: Duration::ZERO,
        may_leave: ahead.is_some(),
        left_at: None,
    };
    if let Some(ahead) = ahead {
        blob.encoder.stay_behind(ahead);
    }
    Ok(match encoding.compression {
        Compression::Uncompressed => TarSink::Plain(blob),
        Compression::Gzip | Compression::Zstd => TarSink::Compressed(Hasher::new(), blob),
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

/// A blob that has the beginning of a tar, or all of it without being complete. Dropped, nothing of it
/// stays.
pub(super) struct Begun {
    encoder: Encoder<BlobWriter>,
    taken: Hasher,
}

impl Begun {
    /// Bytes of the tar that it has.
    pub(super) fn length(&self) -> u64 {
        self.taken.length()
    }

    /// Goes on with the same tar, written from its first byte again, until `is_stopped`. A tar that it has
    /// all of need not be written.
    pub(super) fn resume(self, is_stopped: &dyn Fn() -> bool) -> Resumed<'_> {
        Resumed {
            skip: self.taken.length(),
            begun: self,
            is_stopped,
        }
    }
}

/// A blob that gets the rest of its tar.
pub(super) struct Resumed<'a> {
    begun: Begun,
    /// Bytes to come that the blob has.
    skip: u64,
    is_stopped: &'a dyn Fn() -> bool,
}

impl Resumed<'_> {
    /// The blob, and the layer that it holds: what it had before, then what was written from there on.
    pub(super) fn end(self) -> Result<(DiffId, StagedBlob), StepError> {
        let writer = self.begun.encoder.finish();
        let writer = writer.map_err(|source| StepError::Compress { source })?;
        Ok((DiffId(self.begun.taken.finish()), writer.finish()?))
    }
}

impl Write for Resumed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if (self.is_stopped)() {
            return Err(io::Error::other("the build has ended"));
        }
        let skipped = usize::try_from(self.skip).map_or(bytes.len(), |skip| skip.min(bytes.len()));
        self.skip -= skipped as u64;
        let rest = &bytes[skipped..];
        self.begun.taken.update(rest);
        self.begun.encoder.write_all(rest)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
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
