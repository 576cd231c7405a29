//! Everything the caller of a build chose, as values: what was typed has become what will run.

use std::path::PathBuf;

use super::limits::Limits;
use super::run_options::RunOptions;
use super::secret::Secret;
use super::secret_scan::SecretScan;
use crate::layer::Compression;
use crate::oci::{Platform, Reference};
use crate::remote::{Address, GitReference, HttpAddress};
use crate::sandbox::Walls;

/// A whole `rbuild build`.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) context: ContextSource,
    pub(crate) dockerfile: DockerfileSource,
    pub(crate) tags: Vec<Reference>,
    /// In the order given; the last of a name wins.
    pub(crate) build_args: Vec<(String, String)>,
    pub(crate) target: Option<String>,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) named_contexts: Vec<NamedContext>,
    pub(crate) no_cache: bool,
    pub(crate) pull: bool,
    pub(crate) network: Network,
    pub(crate) secrets: Vec<Secret>,
    pub(crate) secret_scan: SecretScan,
    pub(crate) run: RunOptions,
    pub(crate) limits: Limits,
    /// What RUN is shut in with.
    pub(crate) walls: Walls,
    pub(crate) outputs: Vec<Output>,
    /// Seconds since 1970 that replace the time of the build.
    pub(crate) source_date_epoch: Option<i64>,
    /// What is built for.
    pub(crate) platform: Platform,
    /// All that one build is for, each once, when it makes an index; else empty.
    pub(crate) platforms: Vec<Platform>,
    /// The platform was asked for; without that the image keeps its base's.
    pub(crate) platform_given: bool,
}

/// Where the build's files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ContextSource {
    Directory(PathBuf),
    /// `-`: a tar archive, or a Dockerfile with no context at all.
    Stdin,
    /// A git repository, or a file that is a tar archive or a Dockerfile.
    Remote(Address),
}

/// Where the Dockerfile is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DockerfileSource {
    /// `Dockerfile`, `dockerfile` or `Containerfile` in the context's root.
    Default,
    /// `-f PATH`, as typed.
    Path(PathBuf),
    /// `-f -`.
    Stdin,
    /// `-f https://…`
    Remote(HttpAddress),
}

/// `--build-context name=value`: what `FROM name` and `--from=name` mean.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NamedContext {
    pub(crate) name: String,
    pub(crate) source: NamedSource,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum NamedSource {
    Directory(PathBuf),
    Image(crate::transport::Location),
    Remote(Address),
}

impl Request {
    /// The same for each of its platforms alone.
    pub(crate) fn for_each_platform(&self) -> Vec<Self> {
        let platforms = match self.platforms.as_slice() {
            [] => std::slice::from_ref(&self.platform),
            several => several,
        };
        let one = |platform: &Platform| Self {
            platform: platform.clone(),
            ..self.clone()
        };
        platforms.iter().map(one).collect()
    }

    /// The build makes an index.
    pub(crate) fn makes_index(&self) -> bool {
        !self.platforms.is_empty()
    }

    /// The addresses of contexts.
    pub(crate) fn context_addresses(&self) -> impl Iterator<Item = &Address> {
        let main = match &self.context {
            ContextSource::Remote(address) => Some(address),
            ContextSource::Directory(_) | ContextSource::Stdin => None,
        };
        let named = self.named_contexts.iter();
        main.into_iter()
            .chain(named.filter_map(|named| match &named.source {
                NamedSource::Remote(address) => Some(address),
                NamedSource::Directory(_) | NamedSource::Image(_) => None,
            }))
    }

    /// Whether the caller, not a Dockerfile, chose this repository.
    pub(crate) fn names_repository(&self, reference: &GitReference) -> bool {
        self.context_addresses()
            .any(|address| matches!(address, Address::Git(git) if git == reference))
    }
}

/// The network of RUN.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Network {
    /// The host's network, which is what an unprivileged process can share.
    #[default]
    Default,
    Host,
    /// Only a loopback interface.
    None,
    /// A way out, and none to the host or private networks.
    Isolated,
}

/// One `--output`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Output {
    pub(crate) form: OutputForm,
    pub(crate) encoding: Encoding,
    /// Clamp the times in layers to the source date epoch.
    pub(crate) rewrite_timestamp: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OutputForm {
    /// An OCI image layout as a tar archive, with Docker's `manifest.json` beside it.
    OciArchive(Destination),
    /// An OCI image layout as a directory.
    OciLayout(PathBuf),
    /// What `docker load` reads: the same archive with Docker's media types.
    DockerArchive(Destination),
    /// The root file system as a tar archive.
    Tar(Destination),
    /// The root file system's files, in a directory.
    Local(PathBuf),
    /// Nothing but the cache and the store.
    CacheOnly,
    /// The image in the store under the request's tags, and in their registries.
    Image(ImageOutput),
}

impl OutputForm {
    /// Whether the output is written to standard output.
    pub(crate) fn is_stdout(&self) -> bool {
        matches!(
            self,
            Self::OciArchive(Destination::Stdout)
                | Self::DockerArchive(Destination::Stdout)
                | Self::Tar(Destination::Stdout)
        )
    }
}

/// What is done with an image beside keeping it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImageOutput {
    /// Names of this output alone (`name=`).
    pub(crate) names: Vec<Reference>,
    pub(crate) push: bool,
    /// Push without a tag.
    pub(crate) by_digest: bool,
    /// Write OCI media types; Docker's otherwise.
    pub(crate) oci: bool,
}

/// Where an archive goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Destination {
    File(PathBuf),
    Stdout,
}

/// How the layers of an output are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Encoding {
    pub(crate) compression: Compression,
    pub(crate) level: Option<u32>,
}

impl Default for Encoding {
    fn default() -> Self {
        Self {
            compression: Compression::Gzip,
            level: None,
        }
    }
}
