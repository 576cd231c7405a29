//! The formats of compressed layers, block by block.
//!
//! gzip: each block is deflated with the end of the block before it as dictionary, and ends at a byte
//! boundary, so the results joined are one deflate stream (RFC 1951) in one member (RFC 1952) that every
//! reader of gzip takes. zstd: each block is a frame of its own (RFC 8878, 3: frames may follow each other).

use std::io;

use flate2::{Compress, Compression, FlushCompress, Status};
use zstd::stream::raw::CParameter;

use super::blocks::{Block, Buffer};

/// As far as deflate can look back.
const WINDOW: usize = 32 << 10;

/// What [`is_incompressible`] looks at.
const SAMPLES: usize = 8;
const SAMPLE: usize = 4 << 10;
/// The length of a stored block has 16 bits.
const MAX_STORED: usize = 0xffff;

/// A format and its level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Codec {
    Gzip(u32),
    Zstd(i32),
}

/// Compresses one block after the other.
pub(super) enum Compressor {
    Gzip(Compression),
    Zstd(zstd::bulk::Compressor<'static>),
}

impl Codec {
    /// Bytes that a block has at least, but for the last, and at most. In between it ends where the next
    /// can be found again ([`super::blocks`]). Large enough that cutting costs next to no size (zstd:
    /// 0.6 % against one frame), small enough that a few in flight cost little.
    pub(super) const fn sizes(self) -> (usize, usize) {
        match self {
            Self::Gzip(_) => (256 << 10, 512 << 10),
            // From there on, matches are looked for further back than that.
            Self::Zstd(16..) => (8 << 20, 9 << 20),
            Self::Zstd(_) => (2 << 20, (2 << 20) + (512 << 10)),
        }
    }

    /// Bytes before a block that its compressed form depends on.
    pub(super) const fn window(self) -> usize {
        match self {
            Self::Gzip(_) => WINDOW,
            Self::Zstd(_) => 0,
        }
    }

    /// What begins the stream.
    pub(super) fn head(self) -> &'static [u8] {
        match self {
            // Deflate, no flags, no time, no hint of the level, an unknown system.
            Self::Gzip(_) => &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255],
            Self::Zstd(_) => &[],
        }
    }

    /// What ends the stream of bytes with this sum.
    pub(super) fn tail(self, crc: crc32fast::Hasher) -> Vec<u8> {
        match self {
            Self::Gzip(_) => {
                // RFC 1952: the size modulo 2^32.
                let size = crc.total_len().to_le_bytes();
                [
                    crc.finalize().to_le_bytes(),
                    [size[0], size[1], size[2], size[3]],
                ]
                .concat()
            }
            Self::Zstd(_) => Vec::new(),
        }
    }

    pub(super) fn compressor(self) -> io::Result<Compressor> {
        Ok(match self {
            Self::Gzip(level) => Compressor::Gzip(Compression::new(level)),
            Self::Zstd(level) => {
                let mut compressor = zstd::bulk::Compressor::new(level)?;
                compressor.set_parameter(CParameter::ChecksumFlag(true))?;
                compressor.set_parameter(CParameter::ContentSizeFlag(true))?;
                Compressor::Zstd(compressor)
            }
        })
    }
}

impl Compressor {
    pub(super) fn compress(&mut self, block: &Block) -> io::Result<Buffer> {
        match self {
            Self::Gzip(_) if is_incompressible(&block.bytes)? => {
                Ok(stored(&block.bytes, block.is_last))
            }
            Self::Gzip(level) => deflate(*level, block),
            Self::Zstd(compressor) => {
                let mut frame = Buffer::take(zstd::zstd_safe::compress_bound(block.bytes.len()));
                compressor.compress_to_buffer(&block.bytes[..], &mut *frame)?;
                Ok(frame)
            }
        }
    }
}

fn deflate(level: Compression, block: &Block) -> io::Result<Buffer> {
    // A state that is reset instead remembers enough of the last block to choose other matches.
    let mut compress = Compress::new(level, false);
    let dictionary = &block.previous[block.previous.len().saturating_sub(WINDOW)..];
    if !dictionary.is_empty() {
        compress
            .set_dictionary(dictionary)
            .map_err(io::Error::other)?;
    }
    let room = block.bytes.len();
    let mut bytes = Buffer::take(room);
    loop {
        let done = usize::try_from(compress.total_in()).map_err(io::Error::other)?;
        let (rest, flush) = match block.is_last {
            true => (&block.bytes[done..], FlushCompress::Finish),
            false => (&block.bytes[done..], FlushCompress::Sync),
        };
        let status = compress
            .compress_vec(rest, &mut bytes, flush)
            .map_err(io::Error::other)?;
        // Room that is left over means that everything came out, the end of the block included.
        let is_done =
            status == Status::StreamEnd || (!block.is_last && bytes.len() < bytes.capacity());
        if is_done {
            break;
        }
        bytes.reserve(room / 2 + 64);
    }
    Ok(bytes)
}

/// Whether deflate would gain next to nothing, judged by a few samples. Media and archives are so, and
/// trying them costs most of the time that a layer of them takes.
fn is_incompressible(block: &[u8]) -> io::Result<bool> {
    if block.len() < SAMPLES * SAMPLE {
        return Ok(false);
    }
    let mut room = Vec::with_capacity(SAMPLE + SAMPLE / 8);
    for sample in 0..SAMPLES {
        let begin = (block.len() - SAMPLE) / (SAMPLES - 1) * sample;
        room.clear();
        let mut compress = Compress::new(Compression::fast(), false);
        compress
            .compress_vec(
                &block[begin..begin + SAMPLE],
                &mut room,
                FlushCompress::Finish,
            )
            .map_err(io::Error::other)?;
        // One part that gives in is worth the whole.
        if room.len() < SAMPLE - SAMPLE / 32 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// `bytes` as they are, in blocks of deflate's first type (RFC 1951, 3.2.4), which begin and end at byte
/// boundaries.
fn stored(bytes: &[u8], is_last: bool) -> Buffer {
    let mut out = Buffer::take(bytes.len() + 5 * (bytes.len() / MAX_STORED + 1));
    let mut rest = bytes;
    while !rest.is_empty() {
        let (part, after) = rest.split_at(rest.len().min(MAX_STORED));
        let length = u16::try_from(part.len()).expect("not more than fits");
        out.push(u8::from(is_last && after.is_empty()));
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(part);
        rest = after;
    }
    out
}
