//! Compressing a layer.

use std::io::{self, Write};

use super::Compression;

/// Compresses what is written to it into `W`.
pub(crate) struct Encoder<W: Write> {
    out: W,
}

impl<W: Write> Encoder<W> {
    /// `level` is the format's own (gzip 1 to 9, 6 when not given; zstd 1 to 22, 3 when not given);
    /// `threads` changes the speed, never the bytes.
    pub(crate) fn new(
        out: W,
        compression: Compression,
        level: Option<u32>,
        threads: usize,
    ) -> io::Result<Self> {
        todo!("{compression:?} {level:?} {threads}")
    }

    /// Writes what is left and the end of the format, and gives back the writer.
    pub(crate) fn finish(self) -> io::Result<W> {
        Ok(self.out)
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
