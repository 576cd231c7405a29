//! The parts of the build context that need no file system. The files are links to those of the
//! program: a `#[path]` would lose the modules inside of them.

pub(crate) mod glob;
pub(crate) mod ignore;
