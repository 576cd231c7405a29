//! Why something could not be fetched: what, from where, and the reason.

use std::io;

use crate::sys;

/// Addresses in messages have neither passwords nor queries, which may carry signatures.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{text:?} cannot be fetched: {why}")]
    Address { text: String, why: String },
    #[error("cannot fetch {url}: {host} cannot be reached")]
    Unreachable {
        url: String,
        host: String,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("cannot fetch {url}: {source}")]
    Private {
        url: String,
        source: crate::reach::Refused,
    },
    #[error("cannot fetch {url}: {why}, and private addresses are refused")]
    Unchecked { url: String, why: &'static str },
    #[error("cannot fetch {url}: {host} answered {status}")]
    Status {
        url: String,
        host: String,
        status: String,
        /// Whether the server wants other credentials than it got.
        denied: bool,
    },
    #[error("cannot fetch {url}: it redirects to {target}, {why}")]
    Redirect {
        url: String,
        target: String,
        why: &'static str,
    },
    #[error("cannot fetch {url}: the transfer ended after {got} bytes")]
    Cut {
        url: String,
        got: u64,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("cannot write what {url} sends")]
    Write { url: String, source: io::Error },
    #[error("cannot start the client that fetches {url}")]
    Client {
        url: String,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("digest mismatch for {url}: {actual} (expected: {expected})")]
    Digest {
        url: String,
        expected: String,
        actual: String,
    },
    #[error("the fetch of {url} was interrupted")]
    Stopped { url: String },
    #[error("cannot fetch {url}: the program git is not installed")]
    NoGit { url: String },
    #[error("cannot start git to fetch {url}")]
    StartGit { url: String, source: io::Error },
    #[error("cannot fetch {url}: git {command} failed: {message}")]
    Git {
        url: String,
        command: String,
        message: String,
    },
    #[error("cannot fetch {url}: the repository does not contain ref {reference}")]
    NoReference { url: String, reference: String },
    #[error("cannot fetch {url}: expected checksum to match {expected}, got {actual}")]
    Checksum {
        url: String,
        expected: String,
        actual: String,
    },
    #[error("cannot use {url}: there is no directory {subdir} in it")]
    NoSubdir {
        url: String,
        subdir: String,
        source: sys::Error,
    },
    #[error("cannot keep the files of {url}")]
    Tree { url: String, source: sys::Error },
}

impl Error {
    /// What the user may do about it, as one sentence.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::NoGit { .. } => Some("install git, and have it in PATH".to_owned()),
            Self::Unreachable { host, .. } => {
                Some(format!("check the network and the spelling of {host}"))
            }
            Self::Status {
                host, denied: true, ..
            } => Some(format!(
                "credentials are given with --secret id=HTTP_AUTH_TOKEN_{host} or \
                 id=HTTP_AUTH_HEADER_{host}"
            )),
            Self::Git { message, .. }
                if [
                    "Authentication failed",
                    "could not read Username",
                    "error: 403",
                ]
                .iter()
                .any(|text| message.contains(text)) =>
            {
                Some(
                    "credentials are given with --secret id=GIT_AUTH_TOKEN.HOST or \
                     id=GIT_AUTH_HEADER.HOST"
                        .to_owned(),
                )
            }
            Self::Git { message, .. } if message.contains("Host key verification failed") => {
                Some("the server's key must be in ~/.ssh/known_hosts".to_owned())
            }
            _ => None,
        }
    }

    /// Whether the disk (or a quota) is full.
    pub(crate) fn is_full(&self) -> bool {
        let kind = match self {
            Self::Write { source, .. } => source.kind(),
            Self::Tree { source, .. } => io::Error::from(source.errno).kind(),
            Self::Git { message, .. } => return message.contains("No space left on device"),
            _ => return false,
        };
        matches!(
            kind,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        )
    }
}
