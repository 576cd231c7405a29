//! Sources against registries and archives that the tests make.

#[path = "../../tests/rig/registry.rs"]
mod rig;

mod archives;
mod image;
mod registries;
