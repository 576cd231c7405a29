//! Layers: tar streams of changes, and their compressed forms (image-spec layer.md).
//!
//! A snapshot is a directory in the form that overlayfs keeps an upper directory in when mounted with
//! `userxattr` (Linux 5.11): a character device 0:0 hides a name of the layers below, and a directory
//! with `user.overlay.opaque` set to `y` hides the directory below. [`pack()`] turns a snapshot into a
//! layer, [`unpack()`] a layer into a snapshot; both work on descriptors and never resolve a name
//! outside the directory they were given.

mod archive;
#[cfg(any(test, fuzzing))]
pub(crate) mod assertions;
mod attributes;
mod block_index;
mod blocks;
mod codec;
mod compress;
mod decompress;
mod diff;
mod follow;
mod header;
mod lower;
mod outline;
mod overrides;
mod pack;
mod pax;
mod place;
mod sparse;
pub(crate) mod tree;
mod unpack;

pub(crate) use archive::is_tar;
pub(crate) use block_index::{BlockIndex, EarlierBlob};
pub(crate) use compress::{Encoder, encoding_name};
pub(crate) use decompress::{Decoder, is_compressed};
pub(crate) use follow::{Follower, Part};
pub(crate) use lower::Lower;
pub(crate) use outline::Outline;
pub(crate) use pack::{
    Devices, Error as PackError, NamedTree, PackOptions, pack, pack_tree, pack_trees,
};
pub(crate) use unpack::{Error as UnpackError, Form, Limits, restrict, unpack, unpack_as};

/// How a layer's tar is compressed in a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Compression {
    Uncompressed,
    Gzip,
    Zstd,
}

/// The name of the file that makes the directory it is in opaque (image-spec layer.md).
const OPAQUE_NAME: &[u8] = b".wh..wh..opq";

/// The start of the names that stand for removals (image-spec layer.md).
const WHITEOUT_PREFIX: &[u8] = b".wh.";

/// The longest path and the deepest nesting that are packed or unpacked. A path that programs can
/// name is below `PATH_MAX` (4096 bytes), and each level costs a stack frame and a descriptor.
const MAX_PATH: usize = 4096;
const MAX_DEPTH: usize = 1024;
