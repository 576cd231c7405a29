//! What can go wrong with an image that is asked for.

use crate::oci::{DiffId, Digest, ReferenceError};
use crate::{store, transport};

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("No such image: {0}")]
    NotFound(String),
    /// The text of docker with containerd's store.
    #[error(
        "image with reference {name} was found but does not provide the specified platform ({platform})"
    )]
    Platform { name: String, platform: String },
    #[error("{name} is not in the store as a whole")]
    Incomplete { name: String },
    #[error("{text:?} is no name of an image")]
    Reference {
        text: String,
        source: ReferenceError,
    },
    #[error("{text:?} is the beginning of several image ids")]
    Ambiguous { text: String },
    #[error(
        "conflict: unable to delete {id} (must be forced) - image is referenced in multiple \
         repositories"
    )]
    Conflict { id: String },
    #[error("the image {name} in the store is damaged")]
    Damaged {
        name: String,
        source: serde_json::Error,
    },
    #[error("cannot read the image {name}")]
    Source {
        name: String,
        source: Box<transport::Error>,
    },
    #[error("cannot unpack a layer of {name}")]
    Layer {
        name: String,
        source: std::io::Error,
    },
    #[error("{name}: the layer {expected} has the content {actual}")]
    DiffId {
        name: String,
        expected: DiffId,
        actual: DiffId,
    },
    #[error("{name} calls the image {actual} by a name with another digest: {claimed}")]
    OtherDigest {
        name: String,
        claimed: String,
        actual: Digest,
    },
    #[error("{name} holds {count} images, and none was chosen")]
    Several { name: String, count: usize },
    #[error("{name} holds no image")]
    Empty { name: String },
    #[error(transparent)]
    Store(#[from] store::Error),
}
