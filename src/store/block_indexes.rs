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

impl Store {
    /// Which blob the file of `key` tells of, and what; `None` where there is none that is whole. The blob may be
    /// gone.
    pub(crate) fn block_index(&self, key: &Digest) -> Option<(Digest, BlockIndex)> {
        let path = self.block_index_path(key);
        if fs::metadata(&path).ok()?.len() > LIMIT {
            return None;
        }
        BlockIndex::decode(&fs::read(path).ok()?)
    }

    /// Puts the file in place of what is there.
    pub(crate) fn keep_block_index(
        &self,
        key: &Digest,
        blob: &Digest,
        index: &BlockIndex,
    ) -> Result<(), Error> {
        let path = self.block_index_path(key);
        create_private(path.parent().expect("indexes are in a directory"))?;
        write_atomically(&path, &index.encode(blob), Durable::No)
    }

    fn block_index_path(&self, key: &Digest) -> PathBuf {
        let name = format!("{}.index", key.hex());
        self.root.join("blocks").join(name)
    }
}
