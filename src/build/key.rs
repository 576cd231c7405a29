//! Cache keys: everything that the result of a step depends on, and nothing else.
//!
//! A key is the SHA-256 of named, length-prefixed fields, so no two different lists of inputs give
//! the same bytes. What stands below a step is its parent's [`ChainId`]: the content itself, not how
//! it came about, so an equal layer from another Dockerfile is as good.

use crate::oci::{ChainId, Digest, Hasher, Platform};

/// Raised when the same inputs begin to give another result.
const VERSION: &str = "1";

/// A key in the making.
#[derive(Debug)]
pub(crate) struct KeyBuilder(Hasher);

impl KeyBuilder {
    /// Starts the key of a step of this `kind` on `parent` for `platform`.
    pub(crate) fn new(kind: &str, parent: Option<&ChainId>, platform: &Platform) -> Self {
        let mut key = Self(Hasher::new());
        key.field("version", VERSION);
        key.field("kind", kind);
        key.field(
            "parent",
            parent.map_or("scratch", |parent| parent.0.as_str()),
        );
        key.field("platform", platform.to_string());
        key
    }

    /// Adds one input.
    pub(crate) fn field(&mut self, name: &str, value: impl AsRef<[u8]>) -> &mut Self {
        for part in [name.as_bytes(), value.as_ref()] {
            self.0.update(&(part.len() as u64).to_le_bytes());
            self.0.update(part);
        }
        self
    }

    /// Adds a list of inputs, whose length counts.
    pub(crate) fn list<T: AsRef<[u8]>>(
        &mut self,
        name: &str,
        values: impl IntoIterator<Item = T>,
    ) -> &mut Self {
        let mut count = 0_u64;
        for value in values {
            self.field(name, value);
            count += 1;
        }
        self.field(name, count.to_le_bytes())
    }

    pub(crate) fn finish(self) -> Digest {
        self.0.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(build: impl FnOnce(&mut KeyBuilder)) -> Digest {
        let mut key = KeyBuilder::new("run", None, &Platform::new("linux", "amd64", None));
        build(&mut key);
        key.finish()
    }

    #[test]
    fn fields_do_not_run_into_each_other() {
        let one = key(|key| {
            key.field("a", "bc").field("d", "");
        });
        let other = key(|key| {
            key.field("ab", "c").field("d", "");
        });
        assert_ne!(one, other);
    }

    #[test]
    fn a_list_is_not_its_concatenation() {
        let one = key(|key| {
            key.list("args", ["a b"]);
        });
        let other = key(|key| {
            key.list("args", ["a", "b"]);
        });
        assert_ne!(one, other);
    }
}
