//! The end of a blob: never silent, never late.

use std::io::{self, Read};

use crate::oci::Descriptor;

use super::Error;

/// Bytes of a blob. Yields at most one byte more than the descriptor's size, so that whoever counts
/// sees the excess, and fails where fewer came.
pub(super) struct Body<R> {
    inner: R,
    name: String,
    descriptor: Descriptor,
    got: u64,
}

impl<R: Read> Body<R> {
    /// `inner` begins at byte `from` of the blob.
    pub(super) fn new(inner: R, name: &str, descriptor: &Descriptor, from: u64) -> Self {
        Self {
            inner,
            name: name.to_owned(),
            descriptor: descriptor.clone(),
            got: from,
        }
    }
}

impl<R: Read> Read for Body<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let size = self.descriptor.size;
        let left = size.saturating_add(1) - self.got;
        let most = usize::try_from(left).map_or(buffer.len(), |left| buffer.len().min(left));
        if most == 0 {
            return Ok(0);
        }
        let count = self.inner.read(&mut buffer[..most])?;
        if count == 0 && self.got < size {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                Error::Truncated {
                    name: self.name.clone(),
                    what: self.descriptor.digest.to_string(),
                    got: self.got,
                    size,
                },
            ));
        }
        self.got += count as u64;
        Ok(count)
    }
}

/// The [`Error`] inside a reader's error.
pub(super) fn error_of(error: io::Error, name: &str, what: &str) -> Error {
    match error.downcast::<Error>() {
        Ok(inner) => inner,
        Err(cause) => Error::Read {
            path: format!("{name} ({what})").into(),
            cause,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Digest;

    fn read(bytes: &[u8], size: u64) -> io::Result<Vec<u8>> {
        let descriptor = Descriptor::new("x", Digest::of(b""), size);
        let mut all = Vec::new();
        Body::new(bytes, "image", &descriptor, 0).read_to_end(&mut all)?;
        Ok(all)
    }

    #[test]
    fn a_body_has_its_size_or_fails_or_shows_one_byte_more() {
        assert_eq!(read(b"four", 4).unwrap(), b"four");
        assert_eq!(read(b"", 0).unwrap(), b"");
        assert_eq!(read(b"four and more", 4).unwrap(), b"four ");
        let error = error_of(read(b"fou", 4).unwrap_err(), "", "");
        assert!(matches!(
            error,
            Error::Truncated {
                got: 3,
                size: 4,
                ..
            }
        ));
    }
}
