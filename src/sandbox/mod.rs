//! The sandbox of a RUN: what it is made of ([`Spec`]), starting and watching it ([`run`]), and the
//! user namespace that the whole build lives in ([`userns`]).
//!
//! A sandbox is this program executed again in the init room, which reads the [`Spec`], interprets it
//! and reports back. Nothing is decided there.

pub(crate) mod binfmt;
mod cancel;
pub(crate) mod limits;
pub(crate) mod passwd;
pub(crate) mod seccomp;
pub(crate) mod spec;
pub(crate) mod stubs;
mod subids;
mod supervise;
pub(crate) mod userns;
pub(crate) mod wire;

pub(crate) use cancel::Cancel;
pub(crate) use spec::{Limit, Mount, Network, Spec, Step, Writable};
pub(crate) use supervise::{Error, Output, Status, run};
