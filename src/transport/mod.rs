//! Where images come from and go to: registries, layouts and archives, behind one trait.
//!
//! A [`Source`] finds an image for a platform and opens its blobs as streams. Documents are verified
//! here; a blob's size and digest are verified by whoever stores it, while the bytes pass.

mod archive;
#[cfg(any(test, fuzzing))]
pub(crate) mod assertions;
mod body;
mod contents;
mod credentials;
mod docker_archive;
mod document;
mod error;
mod location;
mod oci_archive;
mod oci_layout;
mod registry;
mod stop;
#[cfg(test)]
mod tests;

use std::io::Read;

use crate::oci::{Descriptor, Digest, ImageConfig, Manifest, Platform};

pub(crate) use contents::archived;
pub(crate) use credentials::{Credential, Kept, forget, keep};
pub(crate) use docker_archive::docker_archive;
pub(crate) use document::choose;
pub(crate) use error::Error;
pub(crate) use location::Location;
pub(crate) use oci_archive::oci_archive;
pub(crate) use oci_layout::oci_layout;
pub(crate) use registry::{Options, Repository, Sent, log_in, registry};
pub(crate) use stop::Stop;

/// An image found at a source: the exact bytes of its documents and what they say.
///
/// The bytes have the digests that the manifest's name and the config's descriptor give, and the
/// config has as many diff_ids as the manifest has layers.
#[derive(Debug, Clone)]
pub(crate) struct Resolved {
    pub(crate) manifest_digest: Digest,
    pub(crate) manifest_bytes: Vec<u8>,
    pub(crate) manifest: Manifest,
    pub(crate) config_bytes: Vec<u8>,
    pub(crate) config: ImageConfig,
}

/// An index found at a source: the exact bytes of its documents, each of which has its digest.
#[derive(Debug, Clone)]
pub(crate) struct ResolvedIndex {
    pub(crate) top: (Descriptor, Vec<u8>),
    /// Indexes in the index.
    pub(crate) indexes: Vec<(Descriptor, Vec<u8>)>,
    /// Images, with the descriptors that the index has of them.
    pub(crate) images: Vec<(Descriptor, Resolved)>,
    /// Manifests that are no images, such as attestations.
    pub(crate) others: Vec<(Descriptor, Vec<u8>, Manifest)>,
    /// What the index lists and the source does not hold.
    pub(crate) missing: Vec<Descriptor>,
}

/// A place that holds an image.
pub(crate) trait Source: Send + Sync {
    /// Finds the image for `platform`. An index is resolved to the first manifest that satisfies it.
    fn resolve(&self, platform: &Platform) -> Result<Resolved, Error>;

    /// The index that the source names, with its images; `None` where it names an image, or cannot hold
    /// an index.
    fn index(&self) -> Result<Option<ResolvedIndex>, Error> {
        Ok(None)
    }

    /// Opens the blob that `descriptor` names, for one sequential read in flat memory.
    ///
    /// The reader yields at most `descriptor.size + 1` bytes and fails when the transfer is cut; it
    /// does not promise that the bytes have the digest. Its errors carry an [`Error`] inside.
    fn open_blob(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send>, Error>;

    /// As [`Source::open_blob`], from byte `offset` on where the source can. The number says where the
    /// reader begins: at `offset`, or at 0.
    fn open_blob_from(
        &self,
        descriptor: &Descriptor,
        _offset: u64,
    ) -> Result<(u64, Box<dyn Read + Send>), Error> {
        Ok((0, self.open_blob(descriptor)?))
    }

    /// Whether blobs come over a network, so that the beginning of one is worth keeping.
    fn is_remote(&self) -> bool {
        false
    }

    /// How messages call the source: the reference or the path.
    fn name(&self) -> String;
}
