//! The formats of compressed layers, block by block: each is a member of gzip (RFC 1952, 2.2) or a frame of
//! zstd (RFC 8878, 3), of which both have any number after each other.

use std::io;

use libdeflater::{CompressionLvl, Compressor as Deflater};
use zstd::stream::raw::CParameter;

use super::blocks::Buffer;

/// What [`Gzip::is_incompressible`] looks at.
const SAMPLES: usize = 8;
const SAMPLE: usize = 4 << 10;

/// A format and its level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Codec {
    Gzip(u32),
    Zstd(i32),
}

/// Compresses one block after the other, each as if it were the first.
pub(super) enum Compressor {
    Gzip(Box<Gzip>),
    Zstd(zstd::bulk::Compressor<'static>),
}

pub(super) struct Gzip {
    deflater: Deflater,
    /// For samples; a small layer has none.
    fast: Option<Deflater>,
    /// For what does not compress.
    storing: Option<Deflater>,
}

impl Codec {
    /// Bytes that a block has at least, but for the last, and at most. In between it ends where the next
    /// can be found again ([`super::blocks`]). Large enough that cutting costs next to no size (0.6 % of
    /// one zstd frame), small enough that a few in flight cost little.
    pub(super) const fn sizes(self) -> (usize, usize) {
        match self {
            Self::Gzip(_) => (1 << 20, (1 << 20) + (256 << 10)),
            // From there on, matches are looked for further back than that.
            Self::Zstd(16..) => (8 << 20, 9 << 20),
            Self::Zstd(_) => (2 << 20, (2 << 20) + (512 << 10)),
        }
    }

    /// The level is one that the format has.
    pub(super) fn compressor(self) -> io::Result<Compressor> {
        Ok(match self {
            Self::Gzip(level) => Compressor::Gzip(Box::new(Gzip {
                deflater: deflater(level),
                fast: None,
                storing: None,
            })),
            Self::Zstd(level) => {
                let mut compressor = zstd::bulk::Compressor::new(level)?;
                compressor.set_parameter(CParameter::ChecksumFlag(true))?;
                compressor.set_parameter(CParameter::ContentSizeFlag(true))?;
                Compressor::Zstd(compressor)
            }
        })
    }
}

fn deflater(level: u32) -> Deflater {
    let level = i32::try_from(level).ok();
    let level = level.and_then(|level| CompressionLvl::new(level).ok());
    Deflater::new(level.expect("a level of gzip is one of libdeflate"))
}

impl Compressor {
    pub(super) fn compress(&mut self, block: &[u8]) -> io::Result<Buffer> {
        match self {
            Self::Gzip(gzip) => gzip.compress(block),
            Self::Zstd(compressor) => {
                let mut frame = Buffer::take(zstd::zstd_safe::compress_bound(block.len()));
                compressor.compress_to_buffer(block, &mut *frame)?;
                Ok(frame)
            }
        }
    }
}

impl Gzip {
    fn compress(&mut self, block: &[u8]) -> io::Result<Buffer> {
        let deflater = match self.is_incompressible(block)? {
            true => self.storing.get_or_insert_with(|| deflater(0)),
            false => &mut self.deflater,
        };
        let bound = deflater.gzip_compress_bound(block.len());
        let mut member = Buffer::take(bound);
        member.resize(bound, 0);
        let length = deflater
            .gzip_compress(block, &mut member)
            .map_err(io::Error::other)?;
        member.truncate(length);
        Ok(member)
    }

    /// Whether deflate would gain next to nothing, judged by a few samples. Media and archives are so, and
    /// trying them costs most of the time that a layer of them takes.
    fn is_incompressible(&mut self, block: &[u8]) -> io::Result<bool> {
        if block.len() < SAMPLES * SAMPLE {
            return Ok(false);
        }
        let fast = self.fast.get_or_insert_with(|| deflater(1));
        let mut room = vec![0; fast.deflate_compress_bound(SAMPLE)];
        for sample in 0..SAMPLES {
            let begin = (block.len() - SAMPLE) / (SAMPLES - 1) * sample;
            let sample = &block[begin..begin + SAMPLE];
            let length = fast
                .deflate_compress(sample, &mut room)
                .map_err(io::Error::other)?;
            // One part that gives in is worth the whole.
            if length < SAMPLE - SAMPLE / 32 {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
