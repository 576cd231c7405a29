//! What can go wrong between a name and its image.

use std::path::PathBuf;

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
    #[error("{name}: {registry} answered: {answer}")]
    Refused {
        name: String,
        registry: String,
        answer: String,
    },
    #[error("{name}: the credentials for {registry} cannot be read: {why}")]
    BadCredentials {
        name: String,
        registry: String,
        why: String,
    },
    #[error("{name}: {registry} is not asked: {why}")]
    Private {
        name: String,
        registry: String,
        why: String,
    },
    #[error("{name}: the configuration of registries cannot be used: {why}")]
    BadConfiguration { name: String, why: String },
    #[error("{name}: {what} should have the digest {expected} and has {actual}")]
    DigestMismatch {
        name: String,
        what: String,
        expected: String,
        actual: String,
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
    /// The caller wanted the end ([`super::Stop`]).
    #[error("interrupted")]
    Interrupted,
    #[error("failed to start the threads for the network")]
    Runtime(#[source] std::io::Error),
    #[error("{name}: no client for {registry} could be made")]
    Client {
        name: String,
        registry: String,
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Whether there was something to log in with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Credentials {
    Found,
    NotFound,
    /// Found, and not shown to a token server on another domain.
    Withheld,
}

impl Error {
    /// What the user may do about it, as one sentence.
    pub(crate) fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NotFound { .. } => "check the spelling of the name and the tag".to_owned(),
            Self::Unauthorized {
                registry,
                credentials,
                ..
            } => match credentials {
                Credentials::NotFound => format!(
                    "the image may not exist, or it is private: there are no credentials for \
                     {registry} (rbuild login {registry})"
                ),
                Credentials::Found => format!(
                    "the image may not exist, or the credentials for {registry} do not give access \
                     to it"
                ),
                Credentials::Withheld => format!(
                    "the credentials for {registry} were not sent to its token server, which is on \
                     another domain; token-hosts in registries.json allows it"
                ),
            },
            Self::Unreachable { registry, .. } => {
                format!("check the network and the spelling of {registry}")
            }
            Self::Client { .. } => {
                "install the certificates of authorities (ca-certificates) or set SSL_CERT_FILE"
                    .to_owned()
            }
            Self::Ambiguous { names, .. } if !names.is_empty() => {
                format!("choose one of {}", names.join(", "))
            }
            Self::Ambiguous { .. } => "choose one by its digest".to_owned(),
            _ => return None,
        };
        Some(hint)
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}
