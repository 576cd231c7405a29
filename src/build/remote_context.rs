//! Contexts that are fetched: trees of git repositories, archives, single files.
//!
//! No ignore file applies to any of them, as with BuildKit. Their files are in the store's scratch
//! space and go with it.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};

use nix::fcntl::OFlag;

use super::error::StepError;
use super::fetch::Fetch;
use super::input::looks_like_archive;
use super::request::Request;
use crate::context::Context;
use crate::layer::{Decoder, Form, Limits, unpack};
use crate::ownership::Ownership;
use crate::remote::{Address, GitReference, HttpAddress, parse_bool};
use crate::store::Store;
use crate::sys;

/// The name of the file in a context that is one file, as BuildKit has it.
pub(crate) const FILE_NAME: &str = "context";

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
                Ok((unpack_archive(fetch.store, file)?, false))
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
pub(crate) fn unpack_archive(store: &Store, archive: File) -> Result<Context, StepError> {
    let unpack = |file: File, root: std::os::fd::BorrowedFd<'_>| {
        let mut tar = Decoder::detect(file)?;
        let ownership = Ownership::Discarded;
        unpack(&mut tar, root, &ownership, Form::Plain, &Limits::default())
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
