//! What is kept open of a caller that asks again and again.

use std::cell::{Cell, RefCell};
use std::os::fd::OwnedFd;

use nix::unistd::Pid;

use crate::sys::{notify, process};

/// The process of one thread. Programs that look at many files make their calls one after the other, and
/// a copy of a descriptor costs half of what the way over /proc does.
#[derive(Debug, Default)]
pub(super) struct Acquaintance {
    last: Cell<i32>,
    open: RefCell<Option<Open>>,
}

#[derive(Debug)]
struct Open {
    thread: i32,
    /// It stays the same process when it executes another program; once it has ended, it has no
    /// descriptors, whoever has its number.
    process: OwnedFd,
}

impl Acquaintance {
    /// Says that `thread` asks. Whoever asks twice in a row becomes the one that is known; `is_valid` must
    /// say whether the thread still waits for its answer, and so is what was opened.
    pub(super) fn meet(&self, thread: i32, is_valid: impl FnOnce() -> bool) {
        if self.last.replace(thread) != thread || self.knows(thread) {
            return;
        }
        // Refused for a thread that is not the first of its process.
        let process = process::pidfd_open(Pid::from_raw(thread)).ok();
        let open = process.map(|process| Open { thread, process });
        self.open.replace(open.filter(|_| is_valid()));
    }

    fn knows(&self, thread: i32) -> bool {
        self.open
            .borrow()
            .as_ref()
            .is_some_and(|open| open.thread == thread)
    }

    /// A copy of the descriptor `number` of `thread`; `None` where that cannot be had cheaply.
    pub(super) fn descriptor(&self, thread: i32, number: i32) -> Option<OwnedFd> {
        let mut open = self.open.borrow_mut();
        let known = open.as_ref().filter(|open| open.thread == thread)?;
        let copy = notify::copy_descriptor(&known.process, number);
        if copy.is_err() {
            // Perhaps another process has the number now.
            *open = None;
        }
        copy.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_asks_twice_in_a_row_is_known() {
        let here = nix::unistd::getpid().as_raw();
        let known = Acquaintance::default();
        known.meet(here, || true);
        assert!(known.descriptor(here, 0).is_none());
        known.meet(here, || true);
        assert!(known.descriptor(here, 0).is_some());
        assert!(known.descriptor(here + 1, 0).is_none());
        assert!(known.descriptor(here, 99_999).is_none());
        assert!(known.descriptor(here, 0).is_none(), "asked for nothing");
        known.meet(here, || true);
        assert!(known.descriptor(here, 0).is_some());
    }

    #[test]
    fn whoever_is_gone_by_now_is_not_known() {
        let here = nix::unistd::getpid().as_raw();
        let known = Acquaintance::default();
        known.meet(here, || true);
        known.meet(here, || false);
        assert!(known.descriptor(here, 0).is_none());
    }
}
