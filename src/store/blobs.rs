//! Blobs by digest: written aside, verified, renamed into place.

use std::fs::File;
use std::io::{self, Seek as _, Write};
use std::path::{Path, PathBuf};

use super::partials::Partial;
use super::writeback::Writeback;
use super::{Error, Store};
use crate::oci::{Descriptor, Digest, StreamHasher};

/// A blob being written. Dropped unfinished, nothing of it stays, or of a [resumable](
/// Store::resumable_writer) one what reached the disk.
#[derive(Debug)]
pub(crate) struct BlobWriter {
    file: Place,
    hasher: StreamHasher,
    buffer: Vec<u8>,
    writeback: Writeback,
    expected: Option<(Digest, u64)>,
}

/// A complete, verified blob that is not in the store yet. Dropped, it is as before its writer.
#[derive(Debug)]
pub(crate) struct StagedBlob {
    file: Place,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

/// Where a blob is before it is published.
#[derive(Debug)]
enum Place {
    Scratch(tempfile::NamedTempFile),
    Partial(Partial),
}

impl Place {
    fn path(&self) -> &Path {
        match self {
            Self::Scratch(file) => file.path(),
            Self::Partial(partial) => partial.path(),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Scratch(file) => file.as_file_mut().write_all(bytes),
            // A full disk has no space for beginnings.
            Self::Partial(partial) => partial.write_all(bytes).inspect_err(|_| partial.discard()),
        }
    }

    fn discard(&mut self) {
        if let Self::Partial(partial) = self {
            partial.discard();
        }
    }

    fn persist(self, path: &Path) -> Result<(), Error> {
        match self {
            Self::Scratch(file) => {
                let persisted = file.persist(path);
                persisted.map_err(|error| Error::io("write", path)(error.error))?;
                Ok(())
            }
            Self::Partial(partial) => partial.persist(path),
        }
    }
}

/// Bytes gathered before a write(2).
const BUFFER: usize = 256 * 1024;

/// Where the store at `root` keeps a blob.
pub(super) fn path_of(root: &Path, digest: &Digest) -> PathBuf {
    let blobs = root.join("oci/blobs");
    blobs.join(digest.algorithm()).join(digest.hex())
}

/// [`Store::has_blob`].
pub(super) fn is_there(root: &Path, descriptor: &Descriptor) -> bool {
    path_of(root, &descriptor.digest)
        .metadata()
        .is_ok_and(|metadata| metadata.len() == descriptor.size)
}

/// [`Store::open_blob`].
pub(super) fn open(root: &Path, digest: &Digest) -> Result<File, Error> {
    let path = path_of(root, digest);
    File::open(&path).map_err(|error| {
        if error.kind() == io::ErrorKind::NotFound {
            Error::MissingBlob(digest.clone())
        } else {
            Error::io("open", &path)(error)
        }
    })
}

/// [`Store::read_blob`].
pub(super) fn read(root: &Path, digest: &Digest) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut open(root, digest)?, &mut bytes)
        .map_err(Error::io("read", &path_of(root, digest)))?;
    Ok(bytes)
}

impl Store {
    fn blob_path(&self, digest: &Digest) -> PathBuf {
        path_of(&self.root, digest)
    }

    /// Whether the blob is there, with the size its descriptor promises.
    pub(crate) fn has_blob(&self, descriptor: &Descriptor) -> bool {
        is_there(&self.root, descriptor)
    }

    /// Opens a blob for reading. Its bytes were verified when it was published.
    pub(crate) fn open_blob(&self, digest: &Digest) -> Result<File, Error> {
        open(&self.root, digest)
    }

    /// The whole of a small blob: a manifest or a configuration.
    pub(crate) fn read_blob(&self, digest: &Digest) -> Result<Vec<u8>, Error> {
        read(&self.root, digest)
    }

    /// Starts a blob. With `expected`, [`BlobWriter::finish`] refuses any other bytes.
    pub(crate) fn blob_writer(&self, expected: Option<&Descriptor>) -> Result<BlobWriter, Error> {
        let directory = self.tmp()?.path();
        let file = tempfile::Builder::new()
            .prefix("blob-")
            .tempfile_in(directory)
            .map_err(Error::io("write to", directory))?;
        Ok(BlobWriter {
            file: Place::Scratch(file),
            hasher: StreamHasher::new(),
            buffer: Vec::with_capacity(BUFFER),
            writeback: Writeback::default(),
            expected: expected.map(|descriptor| (descriptor.digest.clone(), descriptor.size)),
        })
    }

    /// As [`Store::blob_writer`], going on with the bytes that an earlier download of this blob left
    /// ([`BlobWriter::length`]). Dropped unfinished, it leaves its own to the next, except those that
    /// are known to be wrong. While somebody else writes the same blob it is an ordinary writer.
    pub(crate) fn resumable_writer(&self, expected: &Descriptor) -> Result<BlobWriter, Error> {
        let Some(mut partial) = self.partial(expected)? else {
            return self.blob_writer(Some(expected));
        };
        let hasher = StreamHasher::from(partial.hash(expected.size)?);
        Ok(BlobWriter {
            file: Place::Partial(partial),
            buffer: Vec::with_capacity(BUFFER),
            writeback: Writeback::after(hasher.length()),
            hasher,
            expected: Some((expected.digest.clone(), expected.size)),
        })
    }

    /// An empty file for bytes whose digest is known when they are complete. Dropped, nothing of it
    /// stays.
    pub(crate) fn loose_file(&self) -> Result<tempfile::NamedTempFile, Error> {
        let directory = self.tmp()?.path();
        tempfile::Builder::new()
            .prefix("file-")
            .tempfile_in(directory)
            .map_err(Error::io("write to", directory))
    }

    /// Makes a complete file, the digest of whose bytes the caller took while writing them, a blob.
    pub(crate) fn publish_file(
        &self,
        file: tempfile::NamedTempFile,
        digest: &Digest,
    ) -> Result<(), Error> {
        let path = self.blob_path(digest);
        file.persist(&path)
            .map_err(|error| Error::io("write", &path)(error.error))?;
        Ok(())
    }

    /// Puts a verified blob in its place. One that is there already stays as it is.
    pub(crate) fn publish_blob(&self, blob: StagedBlob) -> Result<(), Error> {
        blob.file.persist(&self.blob_path(&blob.digest))
    }

    /// Writes a document as a blob.
    pub(crate) fn put_blob(&self, media_type: &str, bytes: &[u8]) -> Result<Descriptor, Error> {
        let descriptor = Descriptor::new(media_type, Digest::of(bytes), bytes.len() as u64);
        if !self.has_blob(&descriptor) {
            let mut writer = self.blob_writer(Some(&descriptor))?;
            let path = self.blob_path(&descriptor.digest);
            writer.write_all(bytes).map_err(Error::io("write", &path))?;
            self.publish_blob(writer.finish()?)?;
        }
        Ok(descriptor)
    }

    /// Flushes blobs to disk, so that what is going to name them may survive a power cut.
    pub(crate) fn sync_blobs<'a>(
        &self,
        digests: impl IntoIterator<Item = &'a Digest>,
    ) -> Result<(), Error> {
        for digest in digests {
            let path = self.blob_path(digest);
            self.open_blob(digest)?
                .sync_data()
                .map_err(Error::io("sync", &path))?;
        }
        super::sync_directory(&self.root.join("oci/blobs/sha256"))
    }
}

impl StagedBlob {
    /// Opens the blob's bytes for reading.
    pub(crate) fn open(&self) -> Result<File, Error> {
        let path = self.file.path();
        File::open(path).map_err(Error::io("open", path))
    }
}

impl BlobWriter {
    /// The file that it is written to, which becomes the blob.
    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }

    /// How many bytes the blob has so far.
    pub(crate) fn length(&self) -> u64 {
        self.hasher.length()
    }

    /// Forgets every byte.
    pub(crate) fn restart(&mut self) -> Result<(), Error> {
        self.buffer.clear();
        self.hasher = StreamHasher::new();
        self.writeback = Writeback::default();
        let path = self.file.path().to_owned();
        let restarted = match &mut self.file {
            Place::Partial(partial) => partial.restart(),
            Place::Scratch(file) => {
                let file = file.as_file_mut();
                file.set_len(0).and_then(|()| file.rewind())
            }
        };
        restarted.map_err(Error::io("write", &path))
    }

    /// Leaves no beginning of the blob: it is not what the image says.
    pub(crate) fn discard(mut self) {
        self.file.discard();
    }

    /// Ends the blob: the bytes are complete, and they are the expected ones.
    pub(crate) fn finish(mut self) -> Result<StagedBlob, Error> {
        let path = self.file.path().to_owned();
        self.flush_buffer().map_err(Error::io("write", &path))?;
        let size = self.hasher.length();
        let digest = self.hasher.finish();
        if let Some((expected, expected_size)) = self.expected {
            if size != expected_size || digest != expected {
                self.file.discard();
            }
            if size != expected_size {
                return Err(Error::SizeMismatch {
                    digest: expected,
                    expected: expected_size,
                    actual: size,
                });
            }
            if digest != expected {
                return Err(Error::DigestMismatch {
                    expected,
                    actual: digest,
                });
            }
        }
        Ok(StagedBlob {
            file: self.file,
            digest,
            size,
        })
    }

    fn flush_buffer(&mut self) -> io::Result<()> {
        self.file.write_all(&self.buffer)?;
        self.writeback.wrote(self.file.path(), self.buffer.len());
        self.buffer.clear();
        Ok(())
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some((digest, size)) = &self.expected
            && self.hasher.length() + bytes.len() as u64 > *size
        {
            self.file.discard();
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("more bytes than the {size} that the descriptor of {digest} says"),
            ));
        }
        self.hasher.update(bytes);
        if self.buffer.len() + bytes.len() > BUFFER {
            self.flush_buffer()?;
        }
        if bytes.len() >= BUFFER {
            self.file.write_all(bytes)?;
            self.writeback.wrote(self.file.path(), bytes.len());
        } else {
            self.buffer.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.flush_buffer()
    }
}
