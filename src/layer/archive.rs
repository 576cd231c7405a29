//! Reading a tar.

/// Whether `prefix`, the first bytes of a file, starts like a tar: 512 bytes that are a header with a
/// right checksum.
pub(crate) fn is_tar(prefix: &[u8]) -> bool {
    todo!("{prefix:?}")
}
