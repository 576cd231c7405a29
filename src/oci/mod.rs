//! The nouns of the OCI image specification, as values: digests, descriptors, manifests, names.
//!
//! Nothing here does I/O. Documents are written with sorted keys, so equal values are equal bytes;
//! documents that were pulled are kept as the bytes they came in and never written again.

#[cfg(any(test, fuzzing))]
pub(crate) mod assertions;
mod config;
mod digest;
mod manifest;
mod platform;
mod reference;
mod stream_hasher;

pub(crate) use config::{ContainerConfig, Healthcheck, History, ImageConfig, RootFs};
pub(crate) use digest::{ChainId, DiffId, Digest, Hasher};
pub(crate) use manifest::{Descriptor, Index, Manifest, media_type};
pub(crate) use platform::Platform;
pub(crate) use reference::{Reference, ReferenceError, parse_reference};
pub(crate) use stream_hasher::StreamHasher;

/// Serialises a document the one way rbuild writes JSON: compact, keys of every map sorted.
pub(crate) fn to_json<T: serde::Serialize>(document: &T) -> Vec<u8> {
    let value = serde_json::to_value(document).expect("documents hold string keys only");
    serde_json::to_vec(&value).expect("a JSON value can be written")
}
