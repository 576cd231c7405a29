//! Ending sandboxes from another thread.

use std::io::{PipeReader, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};

/// A switch that ends every sandbox it was given to; clones are the same switch.
#[derive(Debug, Clone)]
pub(crate) struct Cancel(Arc<Switch>);

/// A pipe that nobody writes to: closing its only writer is what all watchers of the reader see.
#[derive(Debug)]
struct Switch {
    reader: PipeReader,
    writer: Mutex<Option<PipeWriter>>,
}

impl Cancel {
    /// Fails only when the process has no descriptors left.
    pub(crate) fn new() -> std::io::Result<Self> {
        let (reader, writer) = std::io::pipe()?;
        Ok(Self(Arc::new(Switch {
            reader,
            writer: Mutex::new(Some(writer)),
        })))
    }

    /// Kills all running sandboxes that watch this switch and keeps new ones from starting. May be called
    /// from any thread (not from a signal handler), and again.
    pub(crate) fn cancel(&self) {
        let mut writer = self.0.writer.lock().unwrap_or_else(PoisonError::into_inner);
        drop(writer.take());
    }

    pub(crate) fn is_canceled(&self) -> bool {
        let writer = self.0.writer.lock().unwrap_or_else(PoisonError::into_inner);
        writer.is_none()
    }
}

impl AsFd for Cancel {
    /// Hung up once canceled.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.reader.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::Cancel;

    #[test]
    fn clones_are_one_switch() {
        let cancel = Cancel::new().unwrap();
        let clone = cancel.clone();
        assert!(!clone.is_canceled());
        cancel.cancel();
        cancel.cancel();
        assert!(clone.is_canceled());
    }
}
