//! Content digests and the identities that are built from them.

use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// `sha256:hex` of some bytes (image-spec, descriptor.md). Only sha256 with 64 lower-case digits is
/// accepted, so a `Digest` is always safe as a part of a file name, and always one rbuild can check.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Digest(String);

/// A text that is not a digest rbuild accepts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a digest (expected sha256: and 64 hexadecimal digits)")]
pub(crate) struct DigestError {
    text: String,
}

impl Digest {
    /// SHA-256 of `bytes`.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(bytes);
        hasher.finish()
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn algorithm(&self) -> &str {
        self.0.split_once(':').expect("checked when made").0
    }

    pub(crate) fn hex(&self) -> &str {
        self.0.split_once(':').expect("checked when made").1
    }

    /// The first twelve digits, as docker shows an id.
    pub(crate) fn short(&self) -> &str {
        &self.hex()[..12]
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let length = match text.split_once(':') {
            Some(("sha256", _)) => 64,
            Some(("sha512", _)) => 128,
            _ => 0,
        };
        let hex = text.split_once(':').map_or("", |(_, hex)| hex);
        let valid = length != 0
            && hex.len() == length
            && hex
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(DigestError {
                text: text.chars().take(200).collect(),
            })
        }
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, DigestError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// SHA-256 over a stream; counts the bytes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hasher {
    state: Sha256,
    length: u64,
}

impl Hasher {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.state.update(bytes);
        self.length += bytes.len() as u64;
    }

    /// Adds what `reader` still has, read through `buffer`.
    pub(crate) fn update_from(
        &mut self,
        reader: &mut impl Read,
        buffer: &mut [u8],
    ) -> io::Result<()> {
        loop {
            match reader.read(buffer) {
                Ok(0) => return Ok(()),
                Ok(length) => self.update(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// How many bytes were hashed.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    pub(crate) fn finish(self) -> Digest {
        use std::fmt::Write as _;
        let mut text = String::with_capacity(71);
        text.push_str("sha256:");
        for byte in self.state.finalize() {
            write!(text, "{byte:02x}").expect("a String can be written");
        }
        Digest(text)
    }
}

impl Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Digest of a layer's uncompressed tar (image-spec, config.md, `rootfs.diff_ids`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct DiffId(pub(crate) Digest);

/// Identity of a stack of layers (image-spec, config.md, "Layer ChainID").
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct ChainId(pub(crate) Digest);

impl ChainId {
    /// The stack `below` with `diff_id` on top; `None` is the empty stack.
    pub(crate) fn on(below: Option<&Self>, diff_id: &DiffId) -> Self {
        match below {
            None => Self(diff_id.0.clone()),
            Some(below) => Self(Digest::of(format!("{} {}", below.0, diff_id.0).as_bytes())),
        }
    }
}

impl fmt::Display for DiffId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_an_algorithm_and_its_hex() {
        let digest = Digest::of(b"");
        assert_eq!(
            digest.as_str(),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(digest.as_str().parse::<Digest>(), Ok(digest));
    }

    #[test]
    fn what_could_leave_a_directory_is_no_digest() {
        for text in [
            "",
            "sha256:",
            "sha256:../../x",
            "md5:d41d8cd98f00b204e9800998ecf8427e",
        ] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
        let upper = Digest::of(b"").as_str().to_uppercase();
        assert!(upper.parse::<Digest>().is_err());
    }

    #[test]
    fn a_chain_of_one_is_its_layer() {
        let first = DiffId(Digest::of(b"a"));
        let second = DiffId(Digest::of(b"b"));
        let one = ChainId::on(None, &first);
        assert_eq!(one.0, first.0);
        let two = ChainId::on(Some(&one), &second);
        assert_eq!(
            two.0,
            Digest::of(format!("{} {}", first.0, second.0).as_bytes())
        );
    }
}
