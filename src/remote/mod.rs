//! What a build fetches besides images: files over HTTP, and trees of git repositories.
//!
//! An [`Address`] is parsed from text and asks nobody. Servers, repositories and the Dockerfile that
//! names them are taken to be hostile: credentials go only to the server they are meant for, `git`
//! sees no configuration but the one given here and runs nothing that a repository names, and what it
//! checks out is opened below its own root.

mod address;
#[cfg(any(test, fuzzing))]
pub(crate) mod assertions;
mod authorization;
mod error;
mod git;
mod git_reference;
mod http;
mod program;
mod tree;
mod tunnel;

pub(crate) use address::{Address, HttpAddress, without_password};
pub(crate) use authorization::Authorization;
pub(crate) use error::Error;
pub(crate) use git::{Repository, Resolved, is_installed};
pub(crate) use git_reference::{GitReference, Mtime, parse_bool};
pub(crate) use http::{Answer, Request, Validators, Watch, fetch, parse_time};
