//! Where in blobs their blocks are, so that a layer like one before it need not be compressed whole.
//!
//! A file stands for an instruction and tells of the blob that it made last. It is replaced by rename and
//! not flushed: what a crash tears is found out, and is as good as none.

use std::fs;
use std::path::PathBuf;

use super::{Durable, Error, Store, create_private, write_atomically};
use crate::layer::BlockIndex;
use crate::oci::Digest;

/// A file of ten million blocks is none of ours.
const LIMIT: u64 = 1 << 29;

/// What a file is called by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockIndexName([u8; 32]);

impl BlockIndexName {
    /// No two lists of parts have the same name.
    pub(crate) fn of(parts: &[&[u8]]) -> Self {
        let mut hasher = blake3::Hasher::new();
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        Self(hasher.finalize().into())
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn hex(self) -> String {
        blake3::Hash::from_bytes(self.0).to_hex().to_string()
    }
}

impl Store {
    /// Which blob the file tells of, and what; `None` where there is none that is whole. The blob may be
    /// gone.
    pub(crate) fn block_index(&self, name: &BlockIndexName) -> Option<(Digest, BlockIndex)> {
        let path = self.block_index_path(*name);
        if fs::metadata(&path).ok()?.len() > LIMIT {
            return None;
        }
        BlockIndex::decode(&fs::read(path).ok()?)
    }

    /// Puts the file in place of what is there.
    pub(crate) fn keep_block_index(
        &self,
        name: &BlockIndexName,
        blob: &Digest,
        index: &BlockIndex,
    ) -> Result<(), Error> {
        let path = self.block_index_path(*name);
        create_private(path.parent().expect("indexes are in a directory"))?;
        write_atomically(&path, &index.encode(blob), Durable::No)
    }

    fn block_index_path(&self, name: BlockIndexName) -> PathBuf {
        let name = format!("{}.index", name.hex());
        self.root.join("blocks").join(name)
    }
}
