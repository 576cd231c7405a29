//! Decompressing whatever a layer or an archive turns out to be.

use std::io::{self, Read};

/// The format of a stream, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detected {
    Plain,
    Gzip,
    Zstd,
    Xz,
    Bzip2,
}

/// Reads the decompressed bytes of a stream.
pub(crate) struct Decoder<R: Read> {
    reader: R,
}

impl<R: Read> Decoder<R> {
    /// Reads the first bytes of `reader` and chooses by them.
    pub(crate) fn detect(reader: R) -> io::Result<Self> {
        Ok(Self { reader })
    }

    pub(crate) fn detected(&self) -> Detected {
        todo!()
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer)
    }
}
