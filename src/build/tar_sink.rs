//! What a layer's tar goes through while it is packed: a hash, a compressor, and whoever looks for secrets.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::archive_ahead::{LARGE, NextLayer};
use super::error::StepError;
use super::request::Encoding;
use super::secret_scan::LayerScan;
use crate::layer::{BlockIndex, Compression, EarlierBlob, Encoder};
use crate::oci::{DiffId, StreamHasher};
use crate::store::{BlobWriter, StagedBlob, Store};

/// Bytes of a tar whose blob is complete when it is: that takes less than going on without it.
const SMALL: u64 = 1 << 20;

/// A tar on its way.
pub(super) enum TarSink<'a> {
    /// Nobody wants a blob of it.
    Hashed(StreamHasher),
    /// Hashed as it is, and compressed into a blob.
    Compressed(StreamHasher, Blob<'a>),
    /// The blob is the tar, and its digest the DiffId.
    Plain(Blob<'a>),
}

/// A blob on its way.
pub(super) struct Blob<'a> {
    encoder: Encoder<BlobWriter>,
    began: Instant,
    /// How long it kept what was written to it waiting.
    waited: Duration,
    /// The tar does not wait for it.
    may_leave: bool,
    /// Bytes that it has of the tar, once that went on without it.
    left_at: Option<u64>,
    /// Bytes that it has of the tar.
    length: u64,
    /// Who follows it once it is large, and the file that it is written to.
    follower: Option<(NextLayer<'a>, PathBuf)>,
}

impl Blob<'_> {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let began = Instant::now();
        self.encoder.write_all(bytes)?;
        self.waited += began.elapsed();
        self.length += bytes.len() as u64;
        if self.length >= LARGE
            && let Some((layer, file)) = self.follower.take()
        {
            layer.follow(&file);
        }
        Ok(())
    }

    /// Whether waiting for it has taken twice as long so far as packing did, which is what the rest takes
    /// again where the tar goes on without it.
    fn is_slow(&self) -> bool {
        3 * self.waited > 2 * self.began.elapsed()
    }

    /// Takes what comes after `before` bytes of the tar, unless it is too slow for that.
    fn follow(&mut self, before: u64, bytes: &[u8]) -> io::Result<()> {
        if self.left_at.is_some() {
            return Ok(());
        }
        let is_large = before + bytes.len() as u64 > SMALL;
        if self.may_leave && is_large && self.is_slow() && self.encoder.is_full(bytes.len())? {
            self.left_at = Some(before);
            return Ok(());
        }
        self.write_all(bytes)
    }

    /// What became of it at the end of a tar of `length` bytes.
    fn end_at(self, length: u64) -> Result<EndedBlob, StepError> {
        if self.may_leave && length > SMALL {
            return Ok(EndedBlob::Begun(Box::new(Begun {
                length: self.left_at.unwrap_or(length),
                encoder: self.encoder,
            })));
        }
        self.end().map(EndedBlob::Complete)
    }

    fn end(self) -> Result<LayerFile, StepError> {
        complete(self.encoder)
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
    Complete(LayerFile),
    /// For [`Begun::resume`].
    Begun(Box<Begun>),
}

impl TarSink<'_> {
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
            Self::Hashed(hasher) => hashed(hasher, EndedBlob::Unwanted),
            Self::Compressed(hasher, blob) => {
                let blob = blob.end_at(hasher.length())?;
                hashed(hasher, blob)
            }
            Self::Plain(blob) => {
                let file = blob.end()?;
                EndedTar {
                    diff_id: DiffId(file.blob.digest.clone()),
                    length: file.blob.size,
                    blob: EndedBlob::Complete(file),
                }
            }
        })
    }
}

impl Write for TarSink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Hashed(hasher) => hasher.update(bytes),
            Self::Compressed(hasher, blob) => {
                blob.follow(hasher.length(), bytes)?;
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

/// Begins a tar; with `encoding` there will be a blob of it, and what `earlier` holds of it is not
/// compressed again. With `ahead` the tar does not wait for the blob of a layer that is not small, and about
/// so many bytes may be in memory. If the blob becomes large, `archive` follows it.
pub(super) fn begin<'a>(
    store: &Store,
    encoding: Option<Encoding>,
    earlier: Option<Arc<EarlierBlob>>,
    ahead: Option<usize>,
    archive: Option<NextLayer<'a>>,
) -> Result<TarSink<'a>, StepError> {
    let Some(encoding) = encoding else {
        return Ok(TarSink::Hashed(StreamHasher::new()));
    };
    let writer = store.blob_writer(None)?;
    let follower = archive.map(|archive| (archive, writer.path().to_owned()));
    let threads = crate::sys::process::processors();
    let mut encoder = Encoder::new(writer, encoding.compression, encoding.level, threads)
        .map_err(|source| StepError::Compress { source })?;
    if let Some(earlier) = earlier {
        encoder.take_from(earlier);
    }
    let mut blob = Blob {
        encoder,
        began: Instant::now(),
        waited: Duration::ZERO,
        may_leave: ahead.is_some(),
        left_at: None,
        length: 0,
        follower,
    };
    if let Some(ahead) = ahead {
        blob.encoder.stay_behind(ahead);
    }
    Ok(match encoding.compression {
        Compression::Uncompressed => TarSink::Plain(blob),
        Compression::Gzip | Compression::Zstd => TarSink::Compressed(StreamHasher::new(), blob),
    })
}

/// A blob that has the beginning of a tar, or all of it without being complete. Dropped, nothing of it
/// stays.
pub(super) struct Begun {
    encoder: Encoder<BlobWriter>,
    length: u64,
}

impl Begun {
    /// Bytes of the tar that it has.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Goes on with the same tar, written from its first byte again, until `is_stopped`.
    pub(super) fn resume(self, is_stopped: &dyn Fn() -> bool) -> Resumed<'_> {
        Resumed {
            encoder: self.encoder,
            skip: self.length,
            hasher: StreamHasher::new(),
            is_stopped,
        }
    }

    /// The blob of a tar that it has all of.
    pub(super) fn end(self) -> Result<LayerFile, StepError> {
        complete(self.encoder)
    }
}

/// A blob that is complete, and where in it which blocks are.
pub(super) struct LayerFile {
    pub(super) blob: StagedBlob,
    pub(super) index: BlockIndex,
}

fn complete(encoder: Encoder<BlobWriter>) -> Result<LayerFile, StepError> {
    let ended = encoder.finish_indexed();
    let (writer, index) = ended.map_err(|source| StepError::Compress { source })?;
    let blob = writer.finish()?;
    Ok(LayerFile { blob, index })
}

/// A blob that gets the rest of its tar.
pub(super) struct Resumed<'a> {
    encoder: Encoder<BlobWriter>,
    /// Bytes to come that the blob has.
    skip: u64,
    /// Of all that is written: what the blob had before came from the same files.
    hasher: StreamHasher,
    is_stopped: &'a dyn Fn() -> bool,
}

impl Resumed<'_> {
    /// The blob, and what was written.
    pub(super) fn end(self) -> Result<(DiffId, LayerFile), StepError> {
        let blob = complete(self.encoder)?;
        Ok((DiffId(self.hasher.finish()), blob))
    }
}

impl Write for Resumed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if (self.is_stopped)() {
            return Err(io::Error::other("the build has ended"));
        }
        let skipped = usize::try_from(self.skip).map_or(bytes.len(), |skip| skip.min(bytes.len()));
        self.skip -= skipped as u64;
        self.hasher.update(bytes);
        self.encoder.write_all(&bytes[skipped..])?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A tar that is looked through while it goes on.
pub(super) struct Scanned<'p> {
    pub(super) tar: TarSink<'p>,
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
