//! Contexts that are fetched: trees of git repositories, archives, single files.
//!
//! No ignore file applies to any of them, as with BuildKit. Their files are in the store's scratch
//! space and go with it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, PoisonError};

use nix::fcntl::OFlag;

use super::engine::ContextPlace;
use super::error::{Error, StepError};
use super::event::VertexId;
use super::fetch::Fetch;
use super::input::{self, DockerfileText, looks_like_archive};
use super::request::{ContextSource, DockerfileSource, Request};
use super::source_tree::{OpenContext, SourceTree};
use crate::context::Context;
use crate::context::digest::Memo;
use crate::layer::{self, Decoder, Form, Limits};
use crate::ownership::Ownership;
use crate::remote::{self, Address, GitReference, HttpAddress, parse_bool};
use crate::store::Store;
use crate::sys;

/// The vertex of what is fetched before the engine begins, which numbers from the other end.
pub(crate) const VERTEX: VertexId = VertexId(u32::MAX);

/// The name of the file in a context that is one file, as BuildKit has it.
pub(crate) const FILE_NAME: &str = "context";

/// Refuses contexts that are repositories where there is no program to fetch them.
pub(crate) fn check(request: &Request) -> Result<(), Error> {
    let mut addresses = request.context_addresses();
    let git = addresses.find(|address| matches!(address, Address::Git(_)));
    match git.filter(|_| !remote::is_installed()) {
        None => Ok(()),
        Some(git) => {
            let url = git.shown();
            Err(of_context(remote::Error::NoGit { url }.into()))
        }
    }
}

/// Whether the Dockerfile has to be fetched. A relative `-f` is a path in the context, an absolute one
/// is a file of the host, as with buildx.
pub(crate) fn has_dockerfile(request: &Request) -> bool {
    let in_context = matches!(request.context, ContextSource::Remote(_));
    match &request.dockerfile {
        DockerfileSource::Remote(_) => true,
        DockerfileSource::Stdin => false,
        DockerfileSource::Default => in_context,
        DockerfileSource::Path(path) => in_context && !path.is_absolute(),
    }
}

/// Fetches the Dockerfile where [`has_dockerfile`], with the context where it is in that.
pub(crate) fn load(fetch: &Fetch<'_>) -> Result<(DockerfileText, ContextPlace), Error> {
    let request = fetch.request;
    match (&request.dockerfile, &request.context) {
        (DockerfileSource::Remote(address), _) => {
            let shown = address.shown();
            let name = format!("[internal] load build definition from {shown}");
            let fetched = fetch.as_vertex(name, || fetch.nameless_file(address));
            let (mut file, _) = fetched.map_err(|error| match error {
                StepError::Canceled => Error::Canceled,
                error => Error::FetchDockerfile {
                    source: Box::new(error),
                },
            })?;
            let text = input::read_fetched(&mut file, &shown)?;
            let context = ContextPlace::beside(request, &text);
            Ok((text, context))
        }
        (_, ContextSource::Remote(address)) => {
            let shown = address.shown();
            let name = format!("[internal] load remote build context {shown}");
            let fetched = fetch.as_vertex(name, || fetch_main(fetch, address));
            let (context, is_dockerfile) = fetched.map_err(of_context)?;
            let text = read_dockerfile(request, &context, is_dockerfile, &shown)?;
            Ok((text, ContextPlace::Archive(context)))
        }
        _ => unreachable!("has_dockerfile is true for these only"),
    }
}

fn read_dockerfile(
    request: &Request,
    context: &Context,
    is_dockerfile: bool,
    shown: &str,
) -> Result<DockerfileText, Error> {
    if !is_dockerfile {
        return input::read_from_archive(context.root(), &request.dockerfile, shown);
    }
    if let DockerfileSource::Path(path) = &request.dockerfile {
        return Err(Error::ReadDockerfile {
            path: path.clone(),
            source: io::Error::other(format!("{shown} is one file, not an archive")),
        });
    }
    let own = DockerfileSource::Path(FILE_NAME.into());
    let mut text = input::read_from_archive(context.root(), &own, shown)?;
    "Dockerfile".clone_into(&mut text.name);
    Ok(text)
}

fn of_context(error: StepError) -> Error {
    match error {
        StepError::Canceled => Error::Canceled,
        error => Error::Fetch {
            source: Box::new(error),
        },
    }
}

/// The contexts that steps have read so far: by their numbers those with a name, and the main one.
#[derive(Debug, Default)]
pub(crate) struct FetchedContexts(Mutex<BTreeMap<Option<usize>, Arc<OpenContext>>>);

impl FetchedContexts {
    /// The context with this number, fetched now if it was not before. Several stages that ask at once
    /// wait for one transfer.
    pub(crate) fn get(
        &self,
        index: Option<usize>,
        fetch: impl FnOnce() -> Result<Context, StepError>,
    ) -> Result<SourceTree, StepError> {
        let mut fetched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = fetched.get(&index) {
            return Ok(SourceTree::Context(Arc::clone(open)));
        }
        let open = Arc::new(OpenContext {
            context: fetch()?,
            memo: Memo::none(),
        });
        fetched.insert(index, Arc::clone(&open));
        Ok(SourceTree::Context(open))
    }
}

/// The build context itself, and whether it is one file that is the Dockerfile.
pub(crate) fn fetch_main(
    fetch: &Fetch<'_>,
    address: &Address,
) -> Result<(Context, bool), StepError> {
    match address {
        Address::Git(reference) => {
            let keep = keeps_git_dir(fetch.request) || reference.keep_git_dir == Some(true);
            Ok((check_out(fetch, reference, keep)?, false))
        }
        Address::Http(address) => {
            let (mut file, mtime) = fetch.nameless_file(address)?;
            if is_archive(&mut file).map_err(|source| unreadable(address, source))? {
                Ok((unpack(fetch.store, file)?, false))
            } else {
                Ok((one_file(fetch.store, file, mtime)?, true))
            }
        }
    }
}

/// A named context. One over HTTP is one file, an archive too, as with BuildKit.
pub(crate) fn fetch_named(fetch: &Fetch<'_>, address: &Address) -> Result<Context, StepError> {
    match address {
        Address::Git(reference) => {
            check_out(fetch, reference, reference.keep_git_dir == Some(true))
        }
        Address::Http(address) => {
            let (file, mtime) = fetch.nameless_file(address)?;
            one_file(fetch.store, file, mtime)
        }
    }
}

/// The build argument BUILDKIT_CONTEXT_KEEP_GIT_DIR; what is no truth value counts as false.
fn keeps_git_dir(request: &Request) -> bool {
    let mut arguments = request.build_args.iter().rev();
    arguments
        .find(|(name, _)| name == "BUILDKIT_CONTEXT_KEEP_GIT_DIR")
        .and_then(|(_, value)| parse_bool(value))
        .unwrap_or(false)
}

fn check_out(
    fetch: &Fetch<'_>,
    reference: &GitReference,
    keep_git_dir: bool,
) -> Result<Context, StepError> {
    let resolved = fetch.resolve(reference)?;
    let tree = fetch.check_out(reference, &resolved, keep_git_dir)?;
    Ok(Context::opened(tree))
}

/// Unpacks a context archive of any compression into the scratch space.
pub(crate) fn unpack_archive(store: &Store, archive: File) -> Result<Context, Error> {
    unpack(store, archive).map_err(|error| match error {
        StepError::Context { source } => Error::ReadContext { source },
        StepError::Store { source } => Error::Store { source },
        error => of_context(error),
    })
}

fn unpack(store: &Store, archive: File) -> Result<Context, StepError> {
    let unpack = |file: File, root: BorrowedFd<'_>| {
        let mut tar = Decoder::detect(file)?;
        let ownership = Ownership::Discarded;
        layer::unpack(&mut tar, root, &ownership, Form::Plain, &Limits::in_force())
            .map(drop)
            .map_err(Box::<dyn std::error::Error + Send + Sync>::from)
    };
    Context::from_tar(archive, &store.scratch()?, unpack)
        .map_err(|source| StepError::Context { source })
}

fn one_file(store: &Store, mut file: File, mtime: i64) -> Result<Context, StepError> {
    let scratch = store.scratch()?;
    let context = Context::empty(&scratch).map_err(|source| StepError::Context { source })?;
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
    let mut write = || -> io::Result<()> {
        let made = sys::fs::open_at(context.root(), FILE_NAME.as_ref(), flags, 0o600)?;
        let mut made = File::from(made);
        io::copy(&mut file, &mut made)?;
        sys::fs::set_mtime(&made, mtime, 0).map_err(io::Error::from)
    };
    write().map_err(|source| StepError::Scratch {
        path: scratch.join(FILE_NAME),
        source,
    })?;
    Ok(context)
}

/// Leaves the file at its start.
fn is_archive(file: &mut File) -> io::Result<bool> {
    let mut start = Vec::new();
    file.take(512).read_to_end(&mut start)?;
    file.rewind()?;
    Ok(looks_like_archive(&start))
}

fn unreadable(address: &HttpAddress, source: io::Error) -> StepError {
    StepError::Scratch {
        path: address.shown().into(),
        source,
    }
}
