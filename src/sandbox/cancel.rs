//! Ending sandboxes from another thread.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::sys;

/// A switch that ends every sandbox it was given to; clones are the same switch.
#[derive(Debug, Clone)]
pub(crate) struct Cancel(Arc<EventFd>);

impl Cancel {
    pub(crate) fn new() -> Result<Self, sys::Error> {
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
            .map_err(|errno| sys::Error::new("eventfd2", "", errno))?;
        Ok(Self(Arc::new(event)))
    }

    /// Kills all running sandboxes that watch this switch and keeps new ones from starting. May be called
    /// from any thread, and again.
    pub(crate) fn cancel(&self) {
        todo!()
    }

    pub(crate) fn is_canceled(&self) -> bool {
        todo!()
    }
}

impl AsFd for Cancel {
    /// Readable once canceled.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
