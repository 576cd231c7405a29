//! What can fail in a copy. The first words are BuildKit's where it has the same error.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::context::digest;
use crate::context::glob::BadPattern;
use crate::context::ignore;
use crate::{ownership, sys};

/// Paths of sources are as the Dockerfile sees them, from the root of their tree; paths of
/// destinations from the root of the image.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{path:?}: not found{}", Explanation(hidden_by.as_ref(), suggestion.as_deref()))]
    NotFound {
        path: PathBuf,
        /// The ignore rule that keeps an existing file out of the context.
        hidden_by: Option<HiddenBy>,
        /// An existing path with nearly that name.
        suggestion: Option<String>,
    },
    #[error("cannot match sources")]
    Pattern {
        #[source]
        source: BadPattern,
    },
    #[error("cannot match what the sources hold")]
    Rules {
        #[source]
        source: ignore::Problem,
    },
    #[error("cannot read source {path:?}")]
    Source {
        path: PathBuf,
        #[source]
        source: sys::Error,
    },
    #[error("cannot digest {path:?}")]
    Digest {
        path: PathBuf,
        #[source]
        source: digest::Error,
    },
    #[error("{path:?} has more than {limit} directories above it")]
    TooDeep { path: PathBuf, limit: usize },
    #[error("cannot copy {path:?}: it is a socket")]
    Socket { path: PathBuf },
    #[error("{path:?} changed during the build")]
    ChangedDuringBuild { path: PathBuf },
    #[error("cannot replace to directory {} with file", path.display())]
    ReplaceDirectory { path: PathBuf },
    #[error("cannot copy to non-directory: {}", path.display())]
    NotDirectory { path: PathBuf },
    #[error(
        "when using {instruction} with more than one source file, the destination must be a directory and end with a /"
    )]
    SeveralSources { instruction: &'static str },
    #[error("failed to create device {}", path.display())]
    Device {
        path: PathBuf,
        #[source]
        source: sys::Error,
    },
    #[error("cannot write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: sys::Error,
    },
    #[error("cannot write the content of {}", path.display())]
    WriteContent {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot find out who owns {}", path.display())]
    Owned {
        path: PathBuf,
        source: ownership::Error,
    },
    #[error("failed to chown {}", path.display())]
    Owner {
        path: PathBuf,
        #[source]
        source: ownership::Error,
    },
    #[error("cannot tell whether {path:?} is an archive")]
    Sniff {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("failed to unpack {path:?}")]
    Extract {
        path: PathBuf,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A line of an ignore file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HiddenBy {
    /// How messages call the file.
    pub(crate) file: String,
    pub(crate) line: usize,
    pub(crate) text: String,
}

struct Explanation<'a>(Option<&'a HiddenBy>, Option<&'a str>);

impl fmt::Display for Explanation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(HiddenBy { file, line, text }) = self.0 {
            return write!(f, " ({file}:{line} hides it: {text})");
        }
        match self.1 {
            Some(suggestion) => write!(f, " (did you mean {suggestion:?}?)"),
            None => Ok(()),
        }
    }
}
