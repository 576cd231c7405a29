//! What ends a build: where, and why.

use std::io;
use std::path::PathBuf;

use super::copy;
use super::export;
use super::secret;
use super::secret_scan::Leaks;
use crate::check::Finding;
use crate::dockerfile::{Diagnostic, Span, WordError};
use crate::image;
use crate::oci::DiffId;
use crate::remote;
use crate::sandbox::{self, Exceeded, passwd};
use crate::store;
use crate::transport;
use crate::{context, layer, ownership, sys};

/// Why a build failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot open the build context {}", path.display())]
    Context { path: PathBuf, source: io::Error },
    #[error("the build context {} is not a directory", path.display())]
    ContextNotADirectory { path: PathBuf },
    #[error("cannot read the build context")]
    ReadContext { source: context::Error },
    #[error("there is no Dockerfile in {}", context.display())]
    NoDockerfile { context: PathBuf },
    #[error("cannot read the Dockerfile {}", path.display())]
    ReadDockerfile { path: PathBuf, source: io::Error },
    /// The file is wrong; nothing was started.
    #[error("the Dockerfile has errors")]
    Dockerfile { diagnostics: Vec<Diagnostic> },
    /// The file asks for findings of its checks to be errors, and there are some.
    #[error("{message}")]
    Checks {
        message: String,
        findings: Vec<Finding>,
    },
    #[error("a context archive can only be built: give the Dockerfile alone, or a directory")]
    InspectArchive,
    /// A trigger stored in a base image is wrong.
    #[error("the base image {image} has an ONBUILD trigger that cannot be carried out: {message}")]
    Trigger {
        image: String,
        message: String,
        location: Span,
    },
    /// One instruction failed.
    #[error("{source}")]
    Step {
        step: String,
        location: Span,
        source: Box<StepError>,
    },
    #[error("{source}")]
    Push { source: Box<StepError> },
    #[error("cannot fetch the build context")]
    Fetch { source: Box<StepError> },
    #[error("cannot fetch the Dockerfile")]
    FetchDockerfile { source: Box<StepError> },
    #[error("cannot use the store")]
    Store { source: store::Error },
    #[error("cannot look for the secrets")]
    Secret { source: secret::Error },
    #[error("cannot write the image")]
    Assemble { source: StepError },
    #[error("the output failed")]
    Export { source: export::Error },
    #[error("the output failed")]
    ExportTree {
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("the build was interrupted")]
    Canceled,
}

/// Why an instruction failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StepError {
    #[error("process \"{command}\" did not complete successfully: {how}{}",
        limit.as_ref().map_or_else(String::new, |limit| format!(": {limit}")))]
    Run {
        command: String,
        how: String,
        /// What it may have failed for.
        limit: Option<Box<Exceeded>>,
        log: Vec<String>,
    },
    #[error(transparent)]
    Limit { source: Exceeded },
    #[error("cannot run the command")]
    Sandbox { source: sandbox::Error },
    #[error("cannot copy what the command is to find")]
    Tree { source: layer::tree::Error },
    #[error("cannot prepare the sandbox")]
    Filters { source: sandbox::seccomp::Error },
    #[error(transparent)]
    Copy { source: copy::Error },
    /// The store was asked for an image that a command names.
    #[error(transparent)]
    Image { source: image::Error },
    #[error("cannot use the base image {name}")]
    Base {
        name: String,
        source: Box<transport::Error>,
    },
    #[error("cannot pull {name}")]
    Pull {
        name: String,
        source: Box<transport::Error>,
    },
    #[error("cannot push {name}")]
    Push {
        name: String,
        source: Box<transport::Error>,
    },
    #[error("there is no image {name} in the store")]
    NotStored { name: String },
    #[error("cannot use the base image {name}: the store has it for {stored}, not for {wanted}")]
    OtherPlatform {
        name: String,
        stored: String,
        wanted: String,
        source: Box<Self>,
    },
    #[error("cannot read the base image {name} from {}", origin)]
    Blob {
        name: String,
        origin: String,
        source: io::Error,
    },
    #[error("a layer of {name} is not what its image says")]
    Verify { name: String, source: store::Error },
    #[error("cannot unpack a layer of {name}")]
    Unpack {
        name: String,
        source: layer::UnpackError,
    },
    #[error("a layer of {name} has the content {actual}, its image says {expected}")]
    DiffId {
        name: String,
        expected: DiffId,
        actual: DiffId,
    },
    #[error("{text:?} is no name of an image")]
    Reference {
        text: String,
        source: crate::oci::ReferenceError,
    },
    #[error("cannot forward the ssh agent {id:?}")]
    Ssh { id: String, source: io::Error },
    #[error(transparent)]
    Word { source: WordError },
    #[error(transparent)]
    Owner { source: passwd::Error },
    #[error("{message}")]
    Value { message: String },
    #[error("cannot read the layer that the step made")]
    Pack { source: layer::PackError },
    #[error("cannot compress the layer that the step made")]
    Compress { source: io::Error },
    #[error("cannot use the store")]
    Store { source: store::Error },
    #[error("cannot create the directory {path}")]
    Directory { path: String, source: sys::Error },
    #[error("cannot give {path} its owner")]
    SetOwner {
        path: String,
        source: ownership::Error,
    },
    #[error("cannot read {path} in the image")]
    ReadImage { path: String, source: sys::Error },
    #[error("cannot read the build context")]
    Context { source: context::Error },
    #[error(transparent)]
    Remote { source: Box<remote::Error> },
    /// What the step leaves has secrets in it (`--secret-scan`).
    #[error("{leaks}")]
    Leak { leaks: Leaks },
    #[error("cannot use a secret")]
    Secret { source: secret::Error },
    #[error("cannot write {} in the scratch space", path.display())]
    Scratch { path: PathBuf, source: io::Error },
    #[error("interrupted")]
    Canceled,
}

impl From<remote::Error> for StepError {
    fn from(source: remote::Error) -> Self {
        match source {
            remote::Error::Stopped { .. } => Self::Canceled,
            source => Self::Remote {
                source: Box::new(source),
            },
        }
    }
}

impl From<store::Error> for StepError {
    fn from(source: store::Error) -> Self {
        Self::Store { source }
    }
}

impl From<store::Error> for Error {
    fn from(source: store::Error) -> Self {
        Self::Store { source }
    }
}

impl From<export::Error> for Error {
    fn from(source: export::Error) -> Self {
        Self::Export { source }
    }
}
