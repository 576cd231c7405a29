//! Header blocks of a tar, written and read (POSIX ustar, with GNU's binary numbers on reading).

use tar::EntryType;

use super::attributes::Attributes;
use super::pax;

/// Headers and data come in units of this size.
pub(super) const BLOCK: usize = 512;

const NAME_LENGTH: usize = 100;
const MAX_ID: u32 = 0o7_777_777;
const MAX_SIZE: u64 = 0o77_777_777_777;

/// One member of a tar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    /// As in the archive: a directory's ends in a slash when it is written.
    pub(super) path: Vec<u8>,
    /// The target of a hard or symbolic link, else empty.
    pub(super) link: Vec<u8>,
    pub(super) kind: EntryType,
    /// Permission bits (07777).
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Bytes of data that follow; of a sparse file that is read, its whole size.
    pub(super) size: u64,
    /// Seconds since 1970, and nanoseconds.
    pub(super) mtime: (i64, i64),
    /// Major and minor number of a device.
    pub(super) device: (u32, u32),
    pub(super) attributes: Attributes,
}

impl Member {
    /// Appends the header of the member, after an extended header if it needs one. Equal members give
    /// equal bytes: no names of users, no times but one, records sorted by key.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let records = self.records();
        if !records.is_empty() {
            let mut body = Vec::new();
            for (key, value) in &records {
                pax::append(&mut body, key, value);
            }
            let mut header = tar::Header::new_ustar();
            set_text(&mut header.as_old_mut().name, b"././@PaxHeader");
            header.set_entry_type(EntryType::XHeader);
            header.set_size(body.len() as u64);
            finish(header, out);
            out.extend_from_slice(&body);
            out.resize(out.len().next_multiple_of(BLOCK), 0);
        }
        let mut header = tar::Header::new_ustar();
        set_text(&mut header.as_old_mut().name, &self.path);
        set_text(&mut header.as_old_mut().linkname, &self.link);
        header.set_entry_type(self.kind);
        header.set_mode(self.mode);
        header.set_uid(if self.uid > MAX_ID {
            0
        } else {
            self.uid.into()
        });
        header.set_gid(if self.gid > MAX_ID {
            0
        } else {
            self.gid.into()
        });
        header.set_size(if self.size > MAX_SIZE { 0 } else { self.size });
        header.set_mtime(header_seconds(self.mtime.0).unwrap_or(0));
        if let Some(ustar) = header.as_ustar_mut() {
            ustar.set_device_major(self.device.0);
            ustar.set_device_minor(self.device.1);
        }
        finish(header, out);
    }

    /// What the header block cannot say.
    fn records(&self) -> Attributes {
        let mut records: Attributes = self
            .attributes
            .iter()
            .map(|(name, value)| ([pax::XATTR, name].concat(), value.clone()))
            .collect();
        let mut add = |key: &str, value: &[u8]| records.push((key.into(), value.to_vec()));
        if !fits(&self.path) {
            add("path", &self.path);
        }
        if !fits(&self.link) {
            add("linkpath", &self.link);
        }
        if self.size > MAX_SIZE {
            add("size", self.size.to_string().as_bytes());
        }
        if self.uid > MAX_ID {
            add("uid", self.uid.to_string().as_bytes());
        }
        if self.gid > MAX_ID {
            add("gid", self.gid.to_string().as_bytes());
        }
        if self.mtime.1 != 0 || header_seconds(self.mtime.0).is_none() {
            add(
                "mtime",
                pax::format_time(self.mtime.0, self.mtime.1).as_bytes(),
            );
        }
        records.sort_unstable();
        records
    }
}

fn fits(text: &[u8]) -> bool {
    text.len() <= NAME_LENGTH && std::str::from_utf8(text).is_ok()
}

fn header_seconds(seconds: i64) -> Option<u64> {
    u64::try_from(seconds)
        .ok()
        .filter(|seconds| *seconds <= MAX_SIZE)
}

fn set_text(field: &mut [u8; NAME_LENGTH], text: &[u8]) {
    let length = text.len().min(NAME_LENGTH);
    field[..length].copy_from_slice(&text[..length]);
}

fn finish(mut header: tar::Header, out: &mut Vec<u8>) {
    header.set_cksum();
    out.extend_from_slice(header.as_bytes());
}

/// A header block as it was read: checksum right, fields not yet judged.
#[derive(Clone, Copy)]
pub(super) struct RawHeader<'a>(&'a [u8; BLOCK]);

impl<'a> RawHeader<'a> {
    /// `None` if the checksum is wrong. Sums of signed bytes, which old writers made, are accepted.
    pub(super) fn new(block: &'a [u8; BLOCK]) -> Option<Self> {
        let stored = number(&block[148..156])?;
        let (mut unsigned, mut signed) = (0_i64, 0_i64);
        for (index, byte) in block.iter().enumerate() {
            let byte = if (148..156).contains(&index) {
                b' '
            } else {
                *byte
            };
            unsigned += i64::from(byte);
            signed += i64::from(byte.cast_signed());
        }
        (stored == unsigned || stored == signed).then_some(Self(block))
    }

    pub(super) fn kind(self) -> u8 {
        self.0[156]
    }

    pub(super) fn path(self) -> Vec<u8> {
        let name = text(&self.0[..100]);
        let prefix = text(&self.0[345..500]);
        // GNU tar's magic is "ustar  ", and it keeps other things where ustar has the prefix.
        if &self.0[257..263] == b"ustar\0" && !prefix.is_empty() {
            [prefix, b"/", name].concat()
        } else {
            name.to_vec()
        }
    }

    pub(super) fn link(self) -> &'a [u8] {
        text(&self.0[157..257])
    }

    pub(super) fn mode(self) -> Option<i64> {
        number(&self.0[100..108])
    }

    pub(super) fn uid(self) -> Option<i64> {
        number(&self.0[108..116])
    }

    pub(super) fn gid(self) -> Option<i64> {
        number(&self.0[116..124])
    }

    pub(super) fn size(self) -> Option<u64> {
        number(&self.0[124..136]).and_then(|size| u64::try_from(size).ok())
    }

    pub(super) fn mtime(self) -> Option<i64> {
        number(&self.0[136..148])
    }

    /// Of a sparse file in GNU tar's old form: the fields of its first parts, whether a block with more
    /// follows, and the size of the whole file.
    pub(super) fn old_sparse(self) -> Option<(&'a [u8], bool, u64)> {
        let size = u64::try_from(number(&self.0[483..495])?).ok()?;
        Some((&self.0[386..482], self.0[482] != 0, size))
    }

    pub(super) fn device(self) -> Option<(u32, u32)> {
        let part = |field| number(field).and_then(|part| u32::try_from(part).ok());
        Some((part(&self.0[329..337])?, part(&self.0[337..345])?))
    }
}

fn text(field: &[u8]) -> &[u8] {
    let end = field
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(field.len());
    &field[..end]
}

/// Octal digits between blanks and NULs, nothing being zero; or GNU's two's complement, big endian,
/// marked by the highest bit.
pub(super) fn number(field: &[u8]) -> Option<i64> {
    let first = *field.first()?;
    if first & 0x80 != 0 {
        // The mark is no part of the number; the bit after it is the sign.
        let mut value = if first & 0x40 == 0 {
            i128::from(first & 0x7f)
        } else {
            i128::from(first.cast_signed())
        };
        for byte in &field[1..] {
            value = value.checked_mul(256)? + i128::from(*byte);
        }
        return i64::try_from(value).ok();
    }
    let digits = field.trim_ascii_start();
    let end = digits
        .iter()
        .position(|byte| matches!(byte, 0 | b' '))
        .unwrap_or(digits.len());
    let (digits, rest) = digits.split_at(end);
    if !rest.iter().all(|byte| matches!(byte, 0 | b' ')) {
        return None;
    }
    digits.iter().try_fold(0_i64, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &[u8]) -> Member {
        Member {
            path: path.to_vec(),
            link: Vec::new(),
            kind: EntryType::Regular,
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: 3,
            mtime: (1_000_000_000, 0),
            device: (0, 0),
            attributes: Vec::new(),
        }
    }

    fn encoded(member: &Member) -> Vec<u8> {
        let mut out = Vec::new();
        member.encode(&mut out);
        out
    }

    #[test]
    fn a_plain_file_is_one_ustar_block() {
        let mut expected = vec![0_u8; BLOCK];
        let mut put = |at: usize, text: &[u8]| expected[at..at + text.len()].copy_from_slice(text);
        put(0, b"etc/motd");
        put(100, b"0000644\0");
        put(108, b"0000000\0");
        put(116, b"0000000\0");
        put(124, b"00000000003\0");
        put(136, b"07346545000\0");
        put(156, b"0");
        put(257, b"ustar\x0000");
        put(329, b"0000000\0");
        put(337, b"0000000\0");
        let sum: u32 = expected.iter().map(|byte| u32::from(*byte)).sum::<u32>() + 8 * 32;
        expected[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let block = encoded(&file(b"etc/motd"));
        let mut normal = block.clone();
        // The two customary ways to end the checksum field.
        normal[148..156].copy_from_slice(&expected[148..156]);
        assert_eq!(normal, expected);
        assert!(RawHeader::new(block[..].try_into().unwrap()).is_some());
    }

    #[test]
    fn what_ustar_cannot_say_is_a_sorted_extended_header() {
        let mut member = file(&[b'a'; 101]);
        member.uid = 3_000_000;
        member.gid = 4_000_000;
        member.size = 1 << 34;
        member.mtime = (5, 250_000_000);
        member.link = b"\xff".to_vec();
        member.attributes = vec![(b"user.b".to_vec(), b"1\n2".to_vec())];
        let out = encoded(&member);
        assert_eq!(out[156], b'x');
        let size = usize::try_from(number(&out[124..136]).unwrap()).unwrap();
        let records = pax::parse(&out[BLOCK..BLOCK + size]).unwrap();
        let keys: Vec<_> = records
            .iter()
            .map(|(key, _)| String::from_utf8_lossy(key))
            .collect();
        assert_eq!(
            keys,
            [
                "SCHILY.xattr.user.b",
                "gid",
                "linkpath",
                "mtime",
                "path",
                "size",
                "uid"
            ]
        );
        assert_eq!(records[0].1, b"1\n2");
        assert_eq!(records[3].1, b"5.25");
        assert_eq!(out.len(), 3 * BLOCK);
    }

    #[test]
    fn numbers_are_octal_or_binary() {
        let cases: [(&[u8], Option<i64>); 9] = [
            (b"0000644\0", Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0\0", Some(0)),
            (b"0000008\0", None),
            (b"12\x0034\0", None),
            (b"-1\0", None),
            (b"\x80\0\0\0\0\0\x01\0", Some(256)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
            (b"\xbf\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
        ];
        for (field, expected) in cases {
            assert_eq!(number(field), expected, "{field:?}");
        }
    }
}
