//! The sandbox of a RUN: what it is made of ([`Spec`]), starting and watching it ([`run`]), and the
//! user namespace that the whole build lives in ([`userns`]).
//!
//! A sandbox is this program executed again in the init room, once ([`spawner`]), and forked there, perhaps
//! [ahead](reserve). A fork reads the [`Spec`], interprets it and reports back. Nothing is decided there.

mod attach;
pub(crate) mod binfmt;
mod cancel;
pub(crate) mod cgroup;
pub(crate) mod emulation;
#[cfg(test)]
mod interpreter;
pub(crate) mod limits;
pub(crate) mod network;
pub(crate) mod passwd;
pub(crate) mod probe;
mod reserve;
pub(crate) mod rung;
pub(crate) mod seccomp;
mod spawner;
pub(crate) mod spec;
mod stand_ins;
pub(crate) mod stubs;
mod subids;
mod supervise;
pub(crate) mod userns;
pub(crate) mod walls;
mod watch;
pub(crate) mod wire;

pub(crate) use attach::{Attachment, run_attached};
pub(crate) use cancel::Cancel;
pub(crate) use reserve::Reserve;
pub(crate) use spec::{Console, Emulation, Limit, Mount, Network, Spec, Step, Writable};
pub(crate) use supervise::{Error, Exit, Output, Status, run};
pub(crate) use walls::Walls;
pub(crate) use watch::{Bounds, Exceeded, size};
