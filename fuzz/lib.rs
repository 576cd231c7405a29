//! The rooms of the program that strangers' bytes reach, compiled for the fuzz targets. What the
//! targets do stands in `src/fuzzing.rs`, so that ordinary tests replay the corpora.

#![allow(
    dead_code,
    unused_imports,
    reason = "the program is included in part"
)]

#[path = "../src"]
mod program {
    pub(crate) mod context;
    pub(crate) mod dockerfile;
    pub(crate) mod fuzzing;
    pub(crate) mod layer;
    pub(crate) mod oci;
    pub(crate) mod ownership;
    pub(crate) mod reach;
    pub(crate) mod remote;
    pub(crate) mod store;
    pub(crate) mod sys;
    pub(crate) mod transport;
}

use program::{
    context, dockerfile, layer, oci, ownership, reach, remote, store, sys, transport,
};

/// Feeds `data` to the target `target`; panics where something does not hold.
pub fn run(target: &str, data: &[u8]) {
    program::fuzzing::run(target, data);
}
