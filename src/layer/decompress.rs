//! Decompressing whatever a layer or an archive turns out to be, in this process only.

use std::io::{self, BufRead, BufReader, Chain, Cursor, Read};

use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::GzDecoder;
use liblzma::bufread::XzDecoder;

/// The format of a stream, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detected {
    Plain,
    Gzip,
    Zstd,
    Xz,
    Bzip2,
}

/// The window that zstd streams may ask for, as a power of two: what `zstd --ultra -22` uses.
const ZSTD_WINDOW: u32 = 27;
/// `xz -9` needs 65 MiB to decompress.
const XZ_MEMORY: u64 = 256 << 20;

type Input<R> = BufReader<Chain<Cursor<Vec<u8>>, R>>;

/// Reads the decompressed bytes of a stream. A stream that is cut off is an error, of the kind
/// `UnexpectedEof` but for bytes that are no stream at all; so is anything but zeros after its end.
pub(crate) struct Decoder<R: Read>(Inner<R>);

enum Inner<R: Read> {
    Plain(Input<R>),
    Gzip(GzipMembers<Input<R>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, Input<R>>>),
    Xz(XzDecoder<Input<R>>),
    Bzip2(MultiBzDecoder<Input<R>>),
}

impl Detected {
    fn of(prefix: &[u8]) -> Self {
        match prefix {
            [0x1f, 0x8b, ..] => Self::Gzip,
            // A zstd stream may start with a frame to be skipped (RFC 8878, 3.1.2).
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, ..]
            | [b'B', b'Z', b'h', b'1'..=b'9', 0x17, 0x72, ..] => Self::Bzip2,
            _ => Self::Plain,
        }
    }
}

/// Whether a file that begins with `prefix`, six bytes of it, is compressed.
pub(crate) fn is_compressed(prefix: &[u8]) -> bool {
    !matches!(Detected::of(prefix), Detected::Plain)
}

impl<R: Read> Decoder<R> {
    /// Reads the first bytes of `reader` and chooses by them.
    pub(crate) fn detect(mut reader: R) -> io::Result<Self> {
        let mut prefix = Vec::new();
        reader.by_ref().take(6).read_to_end(&mut prefix)?;
        let detected = Detected::of(&prefix);
        let input = BufReader::with_capacity(64 << 10, Cursor::new(prefix).chain(reader));
        Ok(Self(match detected {
            Detected::Plain => Inner::Plain(input),
            Detected::Gzip => Inner::Gzip(GzipMembers(Some(Member::Open(Box::new(
                GzDecoder::new(input),
            ))))),
            Detected::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
                decoder.window_log_max(ZSTD_WINDOW)?;
                Inner::Zstd(Box::new(decoder))
            }
            Detected::Xz => {
                let stream = liblzma::stream::Stream::new_stream_decoder(
                    XZ_MEMORY,
                    liblzma::stream::CONCATENATED,
                )?;
                Inner::Xz(XzDecoder::new_stream(input, stream))
            }
            Detected::Bzip2 => Inner::Bzip2(MultiBzDecoder::new(input)),
        }))
    }

    #[cfg(test)]
    fn detected(&self) -> Detected {
        match self.0 {
            Inner::Plain(_) => Detected::Plain,
            Inner::Gzip(_) => Detected::Gzip,
            Inner::Zstd(_) => Detected::Zstd,
            Inner::Xz(_) => Detected::Xz,
            Inner::Bzip2(_) => Detected::Bzip2,
        }
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Inner::Plain(input) => input.read(buffer),
            Inner::Gzip(members) => members.read(buffer),
            Inner::Zstd(decoder) => decoder.read(buffer),
            Inner::Xz(decoder) => decoder.read(buffer),
            Inner::Bzip2(decoder) => decoder.read(buffer),
        }
    }
}

/// The members of a gzip file one after the other (RFC 1952, 2.2), and zeros after the last, with
/// which tapes and block devices pad.
struct GzipMembers<B: BufRead>(Option<Member<B>>);

enum Member<B: BufRead> {
    Open(Box<GzDecoder<B>>),
    /// Between members; only zeros may follow once one was seen.
    Between {
        input: B,
        padding: bool,
    },
}

impl<B: BufRead> Read for GzipMembers<B> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        // The state is gone only while an error is on its way out.
        while let Some(member) = self.0.take() {
            match member {
                Member::Open(mut decoder) => {
                    let count = decoder.read(buffer)?;
                    if count > 0 {
                        self.0 = Some(Member::Open(decoder));
                        return Ok(count);
                    }
                    let input = decoder.into_inner();
                    self.0 = Some(Member::Between {
                        input,
                        padding: false,
                    });
                }
                Member::Between {
                    mut input,
                    mut padding,
                } => {
                    let bytes = input.fill_buf()?;
                    let Some(first) = bytes.first() else {
                        self.0 = Some(Member::Between { input, padding });
                        return Ok(0);
                    };
                    if *first == 0 {
                        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
                        input.consume(zeros);
                        padding = true;
                        self.0 = Some(Member::Between { input, padding });
                    } else if padding {
                        let what = "data follows the padding of a gzip stream";
                        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
                    } else {
                        self.0 = Some(Member::Open(Box::new(GzDecoder::new(input))));
                    }
                }
            }
        }
        let what = "the gzip stream was damaged";
        Err(io::Error::new(io::ErrorKind::InvalidData, what))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn text() -> Vec<u8> {
        (0..50_000_u32)
            .flat_map(|n| format!("{n}\n").into_bytes())
            .collect()
    }

    fn streams() -> Vec<(Detected, Vec<u8>)> {
        let text = text();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&text).unwrap();
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
        xz.write_all(&text).unwrap();
        let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        bzip2.write_all(&text).unwrap();
        vec![
            (Detected::Gzip, gzip.finish().unwrap()),
            (Detected::Zstd, zstd::encode_all(&text[..], 1).unwrap()),
            (Detected::Xz, xz.finish().unwrap()),
            (Detected::Bzip2, bzip2.finish().unwrap()),
        ]
    }

    fn decoded(stream: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        Decoder::detect(stream)?.read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn formats_are_told_by_their_first_bytes() {
        for (detected, stream) in streams() {
            assert_eq!(Decoder::detect(&stream[..]).unwrap().detected(), detected);
            assert!(decoded(&stream).unwrap() == text(), "{detected:?}");
        }
        for plain in [&b""[..], b"a", b"BZh", b"BZhello world", b"plain text"] {
            assert_eq!(Decoder::detect(plain).unwrap().detected(), Detected::Plain);
            assert_eq!(decoded(plain).unwrap(), plain);
        }
    }

    #[test]
    fn streams_that_are_cut_off_are_errors() {
        for (detected, stream) in streams() {
            for length in [stream.len() - 1, stream.len() - 5, stream.len() / 2, 9] {
                let error = decoded(&stream[..length]).expect_err("it is cut off");
                assert_eq!(
                    error.kind(),
                    io::ErrorKind::UnexpectedEof,
                    "{detected:?} at {length}"
                );
            }
        }
    }

    #[test]
    fn streams_one_after_the_other_are_one() {
        for (detected, stream) in streams() {
            assert!(
                decoded(&stream.repeat(2)).unwrap() == text().repeat(2),
                "{detected:?}"
            );
        }
    }

    #[test]
    fn after_a_gzip_stream_only_zeros_may_follow() {
        let (_, gzip) = streams().remove(0);
        assert!(decoded(&[&gzip[..], &[0; 1000]].concat()).unwrap() == text());
        assert!(decoded(&[&gzip[..], b"garbage"].concat()).is_err());
        assert!(decoded(&[&gzip[..], &[0; 10], &gzip[..]].concat()).is_err());
    }
}
