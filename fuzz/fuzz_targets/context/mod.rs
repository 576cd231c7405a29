//! The parts of the build context that need no file system.

#[path = "../../../src/context/glob.rs"]
pub(crate) mod glob;
#[path = "../../../src/context/ignore.rs"]
pub(crate) mod ignore;
