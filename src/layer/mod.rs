//! Layers: tar streams of changes, and their compressed forms (image-spec layer.md).

/// How a layer's tar is compressed in a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Compression {
    Uncompressed,
    Gzip,
    Zstd,
}
