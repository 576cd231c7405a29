//! What can go wrong between a name and its image.

use std::path::PathBuf;

use crate::oci::Digest;

/// Why an image or a blob could not be had. Every message names the source.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{name}: no such image")]
    NotFound { name: String },
    #[error("{name}: {registry} refuses access")]
    Unauthorized {
        name: String,
        registry: String,
        credentials: Credentials,
    },
    #[error("{name}: {registry} cannot be reached")]
    Unreachable {
        name: String,
        registry: String,
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("{name}: {registry} answered with status {status}")]
    Refused {
        name: String,
        registry: String,
        status: u16,
    },
    #[error("{name}: the credentials for {registry} cannot be read")]
    Credentials {
        name: String,
        registry: String,
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("{name}: {what} should have the digest {expected} and has {actual}")]
    DigestMismatch {
        name: String,
        what: String,
        expected: Digest,
        actual: Digest,
    },
    #[error("{name}: {what} ended after {got} of {size} bytes")]
    Truncated {
        name: String,
        what: String,
        got: u64,
        size: u64,
    },
    #[error("{name}: {what} {why}")]
    BadDocument {
        name: String,
        what: String,
        why: String,
    },
    #[error("{name}: no image for {wanted}; there is {}", list(.available))]
    NoPlatform {
        name: String,
        wanted: String,
        available: Vec<String>,
    },
    #[error("{name}: {count} images, and none was chosen")]
    Ambiguous {
        name: String,
        count: usize,
        names: Vec<String>,
    },
    #[error("{text:?} does not name an image: {why}")]
    BadLocation { text: String, why: String },
    #[error("failed to read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    #[error("failed to start the network runtime")]
    Runtime(#[source] std::io::Error),
}

/// Whether docker's configuration had something to log in with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Credentials {
    Found,
    NotFound,
    /// An identity token, which is not exchanged.
    IdentityToken,
}

impl Error {
    /// What the user may do about it, as one sentence.
    pub(crate) fn hint(&self) -> Option<String> {
        todo!()
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}
