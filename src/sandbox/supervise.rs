//! Starting init, passing on what the command writes, and ending it all.

use super::spec::{Failure, Spec, Usage};
use super::{Cancel, seccomp};
use crate::sys;

/// Which of its two outputs a command wrote to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    Stdout,
    Stderr,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exit {
    pub(crate) status: Status,
    pub(crate) usage: Usage,
    /// Walls that this host allowed only weaker than wanted, one sentence each.
    pub(crate) warnings: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Code(i32),
    Signal(i32),
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("canceled")]
    Canceled,
    /// The command never ran; `Failure::step` tells `FindProgram` and `User` from broken walls.
    #[error("{0}")]
    Setup(Failure),
    #[error("cannot start the init process of the sandbox")]
    Start(#[source] std::io::Error),
    #[error("cannot talk to the init process of the sandbox")]
    Talk(#[source] std::io::Error),
    #[error("the init process of the sandbox ended without a report ({0})")]
    NoReport(std::process::ExitStatus),
    #[error("cannot remove the mount targets that the sandbox made")]
    RemoveTargets(#[source] sys::Error),
}

/// Runs one command in a fresh sandbox and waits for it. `output` gets what it writes, as it comes.
///
/// When this returns, whatever the result, no process of the sandbox is left and `upper` is quiet.
/// May be called from several threads at once, after [`super::userns::enter`].
pub(crate) fn run(
    spec: &Spec,
    output: &mut dyn FnMut(Output, &[u8]),
    cancel: &Cancel,
) -> Result<Exit, Error> {
    todo!()
}
