//! Compressing a layer: equal input gives equal bytes, however many threads there are.

use std::io::{self, Write};
use std::sync::Arc;

use super::Compression;
use super::block_index::{BlockIndex, EarlierBlob};
use super::blocks::Writer;
use super::codec::Codec;

/// Against 6 it saves a seventh of the time and costs 0.2 % of size (programs and Python packages, zlib-rs).
const DEFAULT_GZIP_LEVEL: u32 = 5;
const DEFAULT_ZSTD_LEVEL: u32 = 3;

/// Names what decides the bytes of a compressed layer, so that another level or another writer is not
/// taken for it. `level` is as for [`Encoder::new`].
pub(crate) fn encoding_name(compression: Compression, level: Option<u32>) -> String {
    let name = |format, level, codec: Codec| {
        let (least, most) = codec.sizes();
        format!("{format}:{level}:{}K-{}K", least >> 10, most >> 10)
    };
    match compression {
        Compression::Uncompressed => "tar".to_owned(),
        Compression::Gzip => {
            let level = level.unwrap_or(DEFAULT_GZIP_LEVEL);
            name("gzip", level, Codec::Gzip(level))
        }
        Compression::Zstd => {
            let level = level.unwrap_or(DEFAULT_ZSTD_LEVEL);
            let codec = Codec::Zstd(i32::try_from(level).unwrap_or(i32::MAX));
            name("zstd", level, codec)
        }
    }
}

/// Compresses what is written to it into `W`. Dropped before [`Encoder::finish`] it leaves a stream
/// that is cut off.
pub(crate) struct Encoder<W: Write>(Inner<W>);

enum Inner<W: Write> {
    Uncompressed(W),
    Compressed(Writer<W>),
}

impl<W: Write> Encoder<W> {
    /// `level` is the format's own (gzip 1 to 9, 5 when not given; zstd 1 to 22, 3 when not given);
    /// another is an error of the kind `InvalidInput`, as is any for an uncompressed layer.
    /// `threads` changes the speed, never the bytes; 0 counts as 1.
    pub(crate) fn new(
        out: W,
        compression: Compression,
        level: Option<u32>,
        threads: usize,
    ) -> io::Result<Self> {
        let codec = match compression {
            Compression::Uncompressed => {
                checked_level(level, 0, 0)?;
                return Ok(Self(Inner::Uncompressed(out)));
            }
            Compression::Gzip => Codec::Gzip(checked_level(level, DEFAULT_GZIP_LEVEL, 9)?),
            Compression::Zstd => {
                let level = checked_level(level, DEFAULT_ZSTD_LEVEL, 22)?;
                Codec::Zstd(i32::try_from(level).expect("at most 22"))
            }
        };
        Ok(Self(Inner::Compressed(Writer::new(out, codec, threads)?)))
    }

    /// Before the first write: what is in `earlier`, a blob of the same [`encoding_name`], need not be
    /// compressed again. The bytes do not change.
    pub(crate) fn take_from(&mut self, earlier: Arc<EarlierBlob>) {
        if let Inner::Compressed(writer) = &mut self.0 {
            writer.take_from(earlier);
        }
    }

    /// Before the first write: who writes asks [`Encoder::is_full`] and does not wait. About `bytes` may
    /// be in memory, and the threads that compress leave processors to those with something urgent. The
    /// bytes do not change.
    pub(crate) fn stay_behind(&mut self, bytes: usize) {
        if let Inner::Compressed(writer) = &mut self.0 {
            writer.stay_behind(bytes);
        }
    }

    /// Whether the next `bytes`, 256 KiB at most, would wait for compression.
    pub(crate) fn is_full(&mut self, bytes: usize) -> io::Result<bool> {
        match &mut self.0 {
            Inner::Uncompressed(_) => Ok(false),
            Inner::Compressed(writer) => writer.is_full(bytes),
        }
    }

    /// Writes what is left and the end of the format, and gives back the writer.
    pub(crate) fn finish(self) -> io::Result<W> {
        self.finish_indexed().map(|(out, _)| out)
    }

    /// The same, with where its blocks are, for a layer that comes after.
    pub(crate) fn finish_indexed(self) -> io::Result<(W, BlockIndex)> {
        match self.0 {
            Inner::Uncompressed(out) => Ok((out, BlockIndex::default())),
            Inner::Compressed(writer) => writer.finish(),
        }
    }
}

fn checked_level(level: Option<u32>, default: u32, highest: u32) -> io::Result<u32> {
    match level {
        None => Ok(default),
        Some(level) if (1..=highest).contains(&level) => Ok(level),
        Some(level) => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("the format has no compression level {level}"),
        )),
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Inner::Uncompressed(out) => out.write(bytes),
            Inner::Compressed(writer) => writer.write(bytes),
        }
    }

    /// Flushes the writer below. What waits to be compressed keeps waiting: where a stream is cut
    /// would change its bytes.
    fn flush(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Inner::Uncompressed(out) => out.flush(),
            Inner::Compressed(writer) => writer.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;
    use crate::layer::Decoder;

    /// Text that compresses, bytes that do not, and zeros: several blocks of each format.
    fn input() -> Vec<u8> {
        let mut state = 1_u32;
        let mut bytes = Vec::new();
        while bytes.len() < 6 << 20 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            match bytes.len() >> 20 {
                1 | 3 => bytes.extend_from_slice(&state.to_le_bytes()),
                4 => bytes.extend_from_slice(&[0; 64]),
                _ => bytes.extend_from_slice(format!("line {}\n", state >> 22).as_bytes()),
            }
        }
        bytes
    }

    fn compressed(input: &[u8], compression: Compression, threads: usize, chunk: usize) -> Vec<u8> {
        let mut encoder = Encoder::new(Vec::new(), compression, None, threads).unwrap();
        for chunk in input.chunks(chunk) {
            encoder.write_all(chunk).unwrap();
        }
        encoder.finish().unwrap()
    }

    fn filtered(program: &str, input: &[u8]) -> Option<Vec<u8>> {
        let mut child = Command::new(program)
            .args(["-d", "-c"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        let feeder = std::thread::spawn(move || stdin.write_all(&input));
        let output = child.wait_with_output().unwrap();
        feeder.join().unwrap().unwrap();
        assert!(output.status.success(), "{program}");
        Some(output.stdout)
    }

    #[test]
    fn the_bytes_do_not_depend_on_threads_or_on_how_they_were_written() {
        let input = input();
        for compression in [Compression::Gzip, Compression::Zstd] {
            let one = compressed(&input, compression, 1, 1 << 20);
            assert!(one.len() < input.len() / 2);
            assert!(
                one == compressed(&input, compression, 2, 1 << 20),
                "{compression:?}"
            );
            assert!(
                one == compressed(&input, compression, 3, 7777),
                "{compression:?}"
            );
        }
    }

    #[test]
    fn what_comes_late_because_the_compressor_was_full_changes_no_byte() {
        let input = input();
        for compression in [
            Compression::Uncompressed,
            Compression::Gzip,
            Compression::Zstd,
        ] {
            let one = compressed(&input, compression, 2, 1 << 20);
            // All of it has room, or next to nothing.
            for (ahead, chunk) in [(8 << 20, 7777), (1, 200_000)] {
                let mut encoder = Encoder::new(Vec::new(), compression, None, 2).unwrap();
                encoder.stay_behind(ahead);
                let mut was_full = false;
                for chunk in input.chunks(chunk) {
                    was_full |= encoder.is_full(chunk.len()).unwrap();
                    encoder.write_all(chunk).unwrap();
                }
                assert!(encoder.finish().unwrap() == one, "{compression:?}");
                if ahead > 1 {
                    assert!(!was_full, "{compression:?}");
                }
            }
        }
    }

    #[test]
    fn what_does_not_compress_is_stored_between_what_does() {
        let mut state = 88_172_645_463_325_252_u64;
        let mut noise = |length: usize| -> Vec<u8> {
            let mut next = || {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()
            };
            std::iter::repeat_with(&mut next)
                .flatten()
                .take(length)
                .collect()
        };
        let text = b"the same line again and again\n".repeat(40_000);
        let (first, last) = (noise(2 << 20), noise(700_001));
        let input = [&text[..], &first, &text, &last].concat();
        let one = compressed(&input, Compression::Gzip, 1, 1 << 20);
        assert!(one == compressed(&input, Compression::Gzip, 3, 7777));
        let noise = first.len() + last.len();
        assert!(
            (noise..noise + noise / 50).contains(&one.len()),
            "{}",
            one.len()
        );
        let mut back = Vec::new();
        io::Read::read_to_end(&mut Decoder::detect(&one[..]).unwrap(), &mut back).unwrap();
        assert!(back == input);
        if let Some(back) = filtered("gzip", &one) {
            assert!(back == input);
        }
    }

    #[test]
    fn gzip_and_zstd_read_what_is_written() {
        let large = input();
        // None, one byte, a block exactly and one more.
        for input in [
            &b""[..],
            b"x",
            &large[..512 << 10],
            &large[..(512 << 10) + 1],
            &large[..2560 << 10],
            &large[..(2560 << 10) + 1],
            &large,
            // Equal blocks after each other.
            &vec![0; 6 << 20],
        ] {
            for (compression, program) in [(Compression::Gzip, "gzip"), (Compression::Zstd, "zstd")]
            {
                let bytes = compressed(input, compression, 2, 100_000);
                let mut back = Vec::new();
                io::Read::read_to_end(&mut Decoder::detect(&bytes[..]).unwrap(), &mut back)
                    .unwrap();
                assert!(back == input, "{compression:?} of {} bytes", input.len());
                if let Some(back) = filtered(program, &bytes) {
                    assert!(back == input, "{program} of {} bytes", input.len());
                }
            }
        }
    }

    #[test]
    fn what_gives_other_bytes_has_another_name() {
        let name = encoding_name;
        assert_eq!(
            name(Compression::Gzip, None),
            name(Compression::Gzip, Some(5))
        );
        assert_ne!(
            name(Compression::Gzip, None),
            name(Compression::Gzip, Some(6))
        );
        // As versions with other bytes named their defaults.
        assert_ne!(name(Compression::Gzip, None), "gzip:default");
        assert_ne!(name(Compression::Zstd, None), "zstd:default");
        assert_ne!(name(Compression::Zstd, Some(3)), "zstd:3");
        assert_ne!(
            name(Compression::Zstd, Some(3)),
            name(Compression::Zstd, Some(4))
        );
    }

    #[test]
    fn levels_that_a_format_does_not_have_are_refused() {
        for (compression, level) in [
            (Compression::Gzip, 0),
            (Compression::Gzip, 10),
            (Compression::Zstd, 23),
            (Compression::Uncompressed, 1),
        ] {
            assert!(Encoder::new(Vec::new(), compression, Some(level), 1).is_err());
        }
    }
}
