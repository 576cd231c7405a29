//! The user namespace of the build.

use crate::ownership::Ownership;
use crate::sys;

/// What entering gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entered {
    pub(crate) ownership: Ownership,
    /// With [`Ownership::Single`]: why there is only one id, for error messages.
    pub(crate) single_reason: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("this host forbids user namespaces ({reason})")]
    NoUserNamespaces { reason: String },
    #[error("cannot set up the user namespace of the build")]
    SetUp(#[source] sys::Error),
}

impl Error {
    /// The setting of the host that would have to change.
    pub(crate) fn hint(&self) -> Option<String> {
        todo!()
    }
}

/// Moves this process into a new user and mount namespace where it is uid 0 with all capabilities.
///
/// Must be called once, before any thread is started: unshare(2) of a user namespace fails with EINVAL
/// in a threaded process.
pub(crate) fn enter() -> Result<Entered, Error> {
    todo!()
}
