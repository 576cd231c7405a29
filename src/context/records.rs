//! The table behind a [`Memo`](super::digest::Memo), in memory and as a file: records of one size, sorted.
//!
//! A context may have a million files, so a record takes what it takes in the file and a byte.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek as _, SeekFrom, Write as _};
use std::path::Path;

pub(super) const MAGIC: &[u8; 8] = b"rbmemo2\n";
const CHECKSUM: usize = 4;

/// Device and inode, big-endian: what records are sorted by.
pub(super) const KEY: usize = 16;
/// A record: its key, what else a stamp has, the hash.
pub(super) const RECORD: usize = 84;

/// A file larger than this is no memo of ours.
const LIMIT: u64 = 1 << 30;

/// So many new records wait to be sorted in, or an eighth of the others if that is more.
const FRESH: usize = 4096;

type Key = [u8; KEY];

#[derive(Debug, Clone, Copy)]
pub(super) struct Record {
    pub(super) bytes: [u8; RECORD],
    /// A build asked for it since it was read.
    pub(super) used: bool,
}

impl Record {
    fn key(&self) -> &[u8] {
        &self.bytes[..KEY]
    }
}

#[derive(Debug, Default)]
pub(super) struct Records {
    sorted: Vec<Record>,
    fresh: BTreeMap<Key, Record>,
}

impl Records {
    #[cfg(any(test, fuzzing))]
    pub(super) fn len(&self) -> usize {
        self.sorted.len() + self.fresh.len()
    }

    pub(super) fn find(&mut self, key: &Key) -> Option<&mut Record> {
        match self.place(key) {
            Ok(at) => self.sorted.get_mut(at),
            Err(_) => self.fresh.get_mut(key),
        }
    }

    fn place(&self, key: &Key) -> Result<usize, usize> {
        self.sorted.binary_search_by(|record| record.key().cmp(key))
    }

    /// Adds a record, in place of another with its key.
    pub(super) fn insert(&mut self, record: Record) {
        let mut key = [0; KEY];
        key.copy_from_slice(record.key());
        match self.place(&key) {
            Ok(at) => self.sorted[at] = record,
            Err(_) => {
                self.fresh.insert(key, record);
            }
        }
        if self.fresh.len() > FRESH.max(self.sorted.len() / 8) {
            self.sort_in();
        }
    }

    /// Merges from the end, so that no second table is needed.
    fn sort_in(&mut self) {
        let fresh = std::mem::take(&mut self.fresh);
        let mut from = self.sorted.len();
        self.sorted.extend(fresh.values());
        let mut to = self.sorted.len();
        for record in fresh.values().rev() {
            while from > 0 && self.sorted[from - 1].key() > record.key() {
                from -= 1;
                to -= 1;
                self.sorted[to] = self.sorted[from];
            }
            to -= 1;
            self.sorted[to] = *record;
        }
    }

    /// Writes the file in place of what is there. Records that no build used for long are left out once
    /// they are most of it. Not synced: what a crash tears fails its checksum and is made anew.
    pub(super) fn write(&mut self, path: &Path) -> io::Result<()> {
        self.sort_in();
        let used = self.sorted.iter().filter(|record| record.used).count();
        let drop_unused = self.sorted.len() > 10_000.max(used.saturating_mul(4));
        let parent = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(parent)?;
        let mut file = tempfile::NamedTempFile::new_in(parent)?;
        let mut out = BufWriter::new(&mut file);
        out.write_all(MAGIC)?;
        out.write_all(&[0; CHECKSUM])?;
        let mut checksum = crc32fast::Hasher::new();
        for record in &self.sorted {
            if record.used || !drop_unused {
                checksum.update(&record.bytes);
                out.write_all(&record.bytes)?;
            }
        }
        out.seek(SeekFrom::Start(MAGIC.len() as u64))?;
        out.write_all(&checksum.finalize().to_be_bytes())?;
        out.flush()?;
        drop(out);
        file.persist(path)?;
        Ok(())
    }

    /// The table in the file `path`; `None` where there is none, or it is damaged.
    pub(super) fn load(path: &Path) -> Option<Self> {
        let file = File::open(path).ok()?;
        let length = file.metadata().ok()?.len();
        if length > LIMIT {
            return None;
        }
        let head = MAGIC.len() + CHECKSUM;
        let count = usize::try_from(length).ok()?.saturating_sub(head) / RECORD;
        Self::read(BufReader::new(file.take(LIMIT)), count)
    }

    /// The table that `from` holds, of about `count` records.
    pub(super) fn read(mut from: impl Read, count: usize) -> Option<Self> {
        let mut magic = [0; MAGIC.len()];
        from.read_exact(&mut magic).ok()?;
        let mut expected = [0; CHECKSUM];
        from.read_exact(&mut expected).ok()?;
        if magic != *MAGIC {
            return None;
        }
        let mut checksum = crc32fast::Hasher::new();
        let mut sorted: Vec<Record> = Vec::with_capacity(count);
        let mut bytes = [0; RECORD];
        while read_record(&mut from, &mut bytes)? {
            checksum.update(&bytes);
            let record = Record { bytes, used: false };
            if sorted.last().is_some_and(|last| last.key() >= record.key()) {
                return None;
            }
            sorted.push(record);
        }
        (checksum.finalize() == u32::from_be_bytes(expected)).then_some(Self {
            sorted,
            fresh: BTreeMap::new(),
        })
    }
}

/// False at the end; `None` where a record breaks off.
fn read_record(from: &mut impl Read, bytes: &mut [u8; RECORD]) -> Option<bool> {
    let mut filled = 0;
    while filled < RECORD {
        match from.read(&mut bytes[filled..]) {
            Ok(0) => return (filled == 0).then_some(false),
            Ok(length) => filled += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
    Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: u32, last: u8) -> Record {
        let mut bytes = [0; RECORD];
        bytes[12..KEY].copy_from_slice(&number.to_be_bytes());
        bytes[RECORD - 1] = last;
        Record { bytes, used: true }
    }

    fn last_of(records: &mut Records, number: u32) -> Option<u8> {
        let wanted = record(number, 0);
        let mut key = [0; KEY];
        key.copy_from_slice(wanted.key());
        records.find(&key).map(|found| found.bytes[RECORD - 1])
    }

    #[test]
    fn records_are_found_in_whatever_order_they_came() {
        let mut records = Records::default();
        let count = 3 * u32::try_from(FRESH).unwrap();
        // Every number once, in a mixed order, as the count is no multiple of 7919.
        for step in 0..count {
            let number = step * 7919 % count;
            records.insert(record(number, (number % 251) as u8));
        }
        assert_eq!(records.len(), count as usize);
        for number in 0..count {
            let expected = (number % 251) as u8;
            assert_eq!(last_of(&mut records, number), Some(expected), "{number}");
        }
        assert_eq!(last_of(&mut records, count), None);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("memo");
        records.write(&path).unwrap();
        let mut records = Records::load(&path).unwrap();
        assert_eq!(records.len(), count as usize);
        assert_eq!(
            last_of(&mut records, count - 1),
            Some(((count - 1) % 251) as u8)
        );
    }

    #[test]
    fn a_record_takes_the_place_of_one_with_its_key() {
        let mut records = Records::default();
        for round in 1..4 {
            records.insert(record(7, round));
            assert_eq!(last_of(&mut records, 7), Some(round));
            records.sort_in();
            assert_eq!(last_of(&mut records, 7), Some(round));
        }
        assert_eq!(records.len(), 1);
    }

    #[test]
    fn what_was_not_used_goes_when_it_is_most_of_a_large_table() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("memo");
        for (count, used, left) in [
            (9_000, 1, 9_000),
            (11_000, 2_000, 2_000),
            (11_000, 3_000, 11_000),
        ] {
            let mut records = Records::default();
            for number in 0..count {
                let used = number < used;
                records.insert(Record {
                    used,
                    ..record(number, 0)
                });
            }
            records.write(&path).unwrap();
            assert_eq!(Records::load(&path).unwrap().len(), left, "{count} {used}");
        }
    }

    #[test]
    fn records_out_of_order_are_no_table() {
        let body = [record(2, 0).bytes, record(1, 0).bytes].concat();
        let checksum = crc32fast::hash(&body).to_be_bytes();
        let bytes = [MAGIC.as_slice(), &checksum, &body].concat();
        assert!(Records::read(&bytes[..], 2).is_none());
    }
}
