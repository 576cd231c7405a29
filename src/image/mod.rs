//! Images as their users see them: listed, found by a name or an id, described, removed, loaded.
//!
//! An image is its configuration: the id is that document's digest, and every manifest with it is the
//! same image. Reading needs a [`View`](crate::store::View) of the store only.

mod cache;
mod describe;
mod error;
mod filter;
mod garbage;
mod list;
mod load;
mod pattern;
mod remove;
mod tree;

pub(crate) use cache::{CacheLimits, Freed, Usage, prune_cache, usage};
pub(crate) use describe::describe;
pub(crate) use error::Error;
pub(crate) use filter::{Filter, parse_time};
pub(crate) use list::{
    Image, Name, familiar, find, find_by_id, find_for, list, open, repository_of,
};
pub(crate) use load::{Loaded, load, spool};
pub(crate) use remove::{Action, prune, remove};
pub(crate) use tree::{Part, Tree};
