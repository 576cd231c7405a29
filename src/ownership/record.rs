//! Records of owners that the file system cannot hold: the extended attribute of a file or directory,
//! and an entry of a layer's table for what cannot have attributes.

use crate::sys::statx::Birth;

/// The attribute of a regular file or directory whose owner is not 0:0, or that stands for a device.
/// Names that begin with [`RESERVED`] are rbuild's own: programs neither see nor set them, and no
/// layer holds them.
pub(crate) const ATTRIBUTE: &str = "user.rbuild.owner";

/// The attribute of a file or directory whose mode forbids its owner what rbuild has to do, where that
/// would stop it: the mode's four bytes, the lowest first.
pub(crate) const MODE: &str = "user.rbuild.mode";

/// The beginning of every attribute name that is rbuild's own.
pub(crate) const RESERVED: &str = "user.rbuild.";

/// What a file is, beyond what the file system says of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// The empty regular file that has this record is a device.
    pub(crate) device: Option<Device>,
}

/// A device node: `S_IFCHR` or `S_IFBLK`, and its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) is_block: bool,
    pub(crate) major: u32,
    pub(crate) minor: u32,
}

/// The longest value of [`ATTRIBUTE`].
pub(crate) const MAX_VALUE: usize = 17;

impl Record {
    /// The owner 0:0 of something that is what it seems: no record says the same.
    pub(crate) fn is_default(self) -> bool {
        self == Self::default()
    }

    pub(crate) fn owned_by(uid: u32, gid: u32) -> Self {
        Self {
            uid,
            gid,
            device: None,
        }
    }

    /// The value of [`ATTRIBUTE`]: uid and gid, and for a device `c` or `b`, major and minor number;
    /// numbers have four bytes, the lowest first.
    pub(crate) fn encode(self) -> Vec<u8> {
        let mut value = Vec::with_capacity(MAX_VALUE);
        value.extend_from_slice(&self.uid.to_le_bytes());
        value.extend_from_slice(&self.gid.to_le_bytes());
        if let Some(device) = self.device {
            value.push(if device.is_block { b'b' } else { b'c' });
            value.extend_from_slice(&device.major.to_le_bytes());
            value.extend_from_slice(&device.minor.to_le_bytes());
        }
        value
    }

    /// `None` for what [`Record::encode`] never writes.
    pub(crate) fn decode(value: &[u8]) -> Option<Self> {
        let number = |at: usize| Some(u32::from_le_bytes(value.get(at..at + 4)?.try_into().ok()?));
        let device = match value.len() {
            8 => None,
            MAX_VALUE => Some(Device {
                is_block: match value[8] {
                    b'b' => true,
                    b'c' => false,
                    _ => return None,
                },
                major: number(9)?,
                minor: number(13)?,
            }),
            _ => return None,
        };
        Some(Self {
            uid: number(0)?,
            gid: number(4)?,
            device,
        })
    }
}

/// A file for as long as it exists: inode numbers are given to new files, birth times are not. Seen
/// through an overlay it is the same as in the layer's directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct FileId {
    pub(crate) inode: u64,
    /// Seconds and nanoseconds (`stx_btime` of statx(2)); zero where the file system has none.
    pub(crate) born: (i64, u32),
}

impl From<Birth> for FileId {
    fn from(birth: Birth) -> Self {
        Self {
            inode: birth.inode,
            born: birth.time,
        }
    }
}

/// One entry of a table: who owns the symbolic link, FIFO or socket. Later entries of a table
/// replace earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) file: FileId,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Entry {
    /// Bytes of an entry in the file `owners` of a snapshot.
    pub(crate) const SIZE: usize = 28;

    /// Inode, seconds, nanoseconds, uid, gid; the lowest byte of each first.
    pub(crate) fn encode(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        bytes[..8].copy_from_slice(&self.file.inode.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.file.born.0.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.file.born.1.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.uid.to_le_bytes());
        bytes[24..].copy_from_slice(&self.gid.to_le_bytes());
        bytes
    }

    /// The entries of a table; one that was cut short by a crash is left out.
    pub(crate) fn decode_all(table: &[u8]) -> impl Iterator<Item = Self> {
        table.chunks_exact(Self::SIZE).map(|bytes| {
            let (inode, rest) = bytes.split_at(8);
            let (seconds, rest) = rest.split_at(8);
            let number = |at: usize| {
                u32::from_le_bytes([rest[at], rest[at + 1], rest[at + 2], rest[at + 3]])
            };
            Self {
                file: FileId {
                    inode: u64::from_le_bytes(inode.try_into().expect("eight bytes")),
                    born: (
                        i64::from_le_bytes(seconds.try_into().expect("eight bytes")),
                        number(0),
                    ),
                },
                uid: number(4),
                gid: number(8),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_as_they_were_written() {
        let device = |is_block| Device {
            is_block,
            major: 259,
            minor: u32::MAX,
        };
        for device in [None, Some(device(false)), Some(device(true))] {
            let record = Record {
                uid: 1000,
                gid: u32::MAX - 1,
                device,
            };
            assert_eq!(Record::decode(&record.encode()), Some(record));
        }
    }

    #[test]
    fn what_is_no_record_is_not_taken_for_one() {
        let device = Record {
            device: Some(Device {
                is_block: false,
                major: 1,
                minor: 3,
            }),
            ..Record::default()
        };
        let mut unknown = device.encode();
        unknown[8] = b'x';
        for value in [&b""[..], b"1234567", b"123456789", &[0; 18], &unknown] {
            assert_eq!(Record::decode(value), None, "{value:?}");
        }
    }

    #[test]
    fn a_table_is_read_as_far_as_it_is_whole() {
        let entry = |inode| Entry {
            file: FileId {
                inode,
                born: (-5, 999_999_999),
            },
            uid: 33,
            gid: 34,
        };
        let mut table = [entry(1).encode(), entry(u64::MAX).encode()].concat();
        table.extend_from_slice(&[1, 2, 3]);
        let read: Vec<_> = Entry::decode_all(&table).collect();
        assert_eq!(read, [entry(1), entry(u64::MAX)]);
    }
}
