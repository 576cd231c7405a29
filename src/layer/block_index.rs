//! The compressed blocks of an earlier layer, for one that has the same bytes there.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use super::blocks::Buffer;
use crate::oci::Digest;

const MAGIC: &[u8; 8] = b"rbblock1";
const CHECKSUM: usize = 4;
/// The bytes of a SHA-256 in hexadecimal.
const HEX: usize = 64;
/// The bytes of an [`IndexedBlock`].
const ENTRY: usize = 32 + 8 + 4 + 4;

/// BLAKE3 of a block before it is compressed.
pub(super) type BlockKey = [u8; 32];

/// Where in a blob a block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct IndexedBlock {
    pub(super) key: BlockKey,
    /// Bytes from the start of the blob.
    pub(super) offset: u64,
    /// Compressed bytes, and their CRC-32.
    pub(super) length: u32,
    pub(super) checksum: u32,
}

/// The blocks of a blob that are worth finding again.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct BlockIndex(Vec<IndexedBlock>);

impl BlockIndex {
    pub(super) fn push(&mut self, block: IndexedBlock) {
        self.0.push(block);
    }

    #[cfg(test)]
    pub(super) fn keys(&self) -> std::collections::BTreeSet<BlockKey> {
        self.0.iter().map(|block| block.key).collect()
    }

    /// The same places, with the checksums of what is there in `blob`.
    #[cfg(test)]
    pub(super) fn with_sums_of(mut self, blob: &[u8]) -> Self {
        for block in &mut self.0 {
            let from = usize::try_from(block.offset).unwrap();
            let length = usize::try_from(block.length).unwrap();
            block.checksum = crc32fast::hash(&blob[from..from + length]);
        }
        self
    }

    /// Whether a layer of so few blocks takes no time to compress.
    pub(crate) fn is_small(&self) -> bool {
        self.0.len() < 4
    }

    /// The index as a file, big-endian and with a CRC-32 at the end; `blob` is where the blocks are.
    pub(crate) fn encode(&self, blob: &Digest) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(MAGIC.len() + HEX + ENTRY * self.0.len() + CHECKSUM);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(blob.hex().as_bytes());
        for block in &self.0 {
            bytes.extend_from_slice(&block.key);
            bytes.extend_from_slice(&block.offset.to_be_bytes());
            for number in [block.length, block.checksum] {
                bytes.extend_from_slice(&number.to_be_bytes());
            }
        }
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
        bytes
    }

    /// What [`Self::encode`] wrote; `None` where that is not whole.
    pub(crate) fn decode(bytes: &[u8]) -> Option<(Digest, Self)> {
        let (bytes, checksum) = bytes.split_last_chunk::<CHECKSUM>()?;
        if crc32fast::hash(bytes) != u32::from_be_bytes(*checksum) {
            return None;
        }
        let (hex, entries) = bytes.strip_prefix(MAGIC)?.split_first_chunk::<HEX>()?;
        let digest = format!("sha256:{}", std::str::from_utf8(hex).ok()?);
        let (entries, rest) = entries.as_chunks::<ENTRY>();
        if !rest.is_empty() {
            return None;
        }
        let entries = entries.iter().map(read).collect::<Option<_>>()?;
        Some((digest.parse().ok()?, Self(entries)))
    }
}

fn read(entry: &[u8; ENTRY]) -> Option<IndexedBlock> {
    let mut rest = &entry[..];
    let key = take(&mut rest)?;
    let offset = u64::from_be_bytes(take(&mut rest)?);
    let mut number = || take(&mut rest).map(u32::from_be_bytes);
    Some(IndexedBlock {
        key,
        offset,
        length: number()?,
        checksum: number()?,
    })
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    bytes.split_off(..N)?.try_into().ok()
}

/// A blob that blocks are taken from.
#[derive(Debug)]
pub(crate) struct EarlierBlob {
    file: File,
    blocks: HashMap<BlockKey, IndexedBlock>,
}

impl EarlierBlob {
    /// `file` is the blob that `index` is of.
    pub(crate) fn new(file: File, index: BlockIndex) -> Arc<Self> {
        let blocks = index.0.into_iter().map(|block| (block.key, block));
        Arc::new(Self {
            file,
            blocks: blocks.collect(),
        })
    }

    /// The compressed block of this key. One that cannot be read or is not as it was is as good as none.
    pub(super) fn block(&self, key: &BlockKey) -> Option<(Buffer, IndexedBlock)> {
        let found = self.blocks.get(key)?;
        let read = || -> io::Result<Buffer> {
            let length = usize::try_from(found.length).map_err(io::Error::other)?;
            let mut bytes = Buffer::take(length);
            bytes.resize(length, 0);
            self.file.read_exact_at(&mut bytes, found.offset)?;
            Ok(bytes)
        };
        let bytes = read().ok()?;
        (crc32fast::hash(&bytes) == found.checksum).then_some((bytes, *found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(blocks: u8) -> BlockIndex {
        let mut index = BlockIndex::default();
        for number in 0..blocks {
            index.push(IndexedBlock {
                key: [number; 32],
                offset: u64::MAX - u64::from(number),
                length: 1,
                checksum: u32::MAX,
            });
        }
        index
    }

    #[test]
    fn an_index_comes_back_as_it_was_and_a_damaged_one_not_at_all() {
        let blob = Digest::of(b"blob");
        for blocks in [0, 1, 5] {
            let good = index(blocks).encode(&blob);
            assert_eq!(
                BlockIndex::decode(&good),
                Some((blob.clone(), index(blocks)))
            );
            for at in 0..good.len() {
                let mut bad = good.clone();
                bad[at] ^= 0x10;
                assert_eq!(BlockIndex::decode(&bad), None, "byte {at}");
                assert_eq!(BlockIndex::decode(&good[..at]), None, "{at} bytes");
            }
            // Whole, but no number of entries.
            let mut odd = good[..good.len() - CHECKSUM].to_vec();
            odd.push(0);
            odd.extend_from_slice(&crc32fast::hash(&odd).to_be_bytes());
            assert_eq!(BlockIndex::decode(&odd), None);
        }
    }
}
