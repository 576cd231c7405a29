//! What is kept open of a caller that asks again and again.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;

use nix::unistd::Pid;

use crate::sys::{notify, process};

/// The memory and the descriptors of one thread. Programs that look at many files make their calls one
/// after the other; reading memory through an open file, and asking a copy of a descriptor, cost about
/// half of what it takes to find the thread anew each time.
#[derive(Debug, Default)]
pub(super) struct Acquaintance {
    last: Cell<i32>,
    open: RefCell<Option<Open>>,
}

#[derive(Debug)]
struct Open {
    thread: i32,
    memory: File,
    /// `None` for a thread that is not the first of its process.
    process: Option<OwnedFd>,
}

impl Acquaintance {
    /// Says that `thread` asks. Whoever asks twice in a row becomes the one that is known; `is_valid` must
    /// say whether the thread still waits for its answer, and so is what was opened.
    pub(super) fn meet(&self, thread: i32, is_valid: impl FnOnce() -> bool) {
        if self.last.replace(thread) != thread || self.knows(thread) {
            return;
        }
        let open = || {
            let memory = File::open(format!("{thread}/mem")).ok()?;
            let process = process::pidfd_open(Pid::from_raw(thread)).ok();
            is_valid().then_some(Open {
                thread,
                memory,
                process,
            })
        };
        self.open.replace(open());
    }

    /// Must be called before any program is executed: the memory is another one afterwards, while the old
    /// one may live on in a process that shared it.
    pub(super) fn forget(&self) {
        self.last.set(0);
        self.open.replace(None);
    }

    fn knows(&self, thread: i32) -> bool {
        self.open
            .borrow()
            .as_ref()
            .is_some_and(|open| open.thread == thread)
    }

    /// Reads memory of `thread`; `None` where that has to be done in another way.
    pub(super) fn read(&self, thread: i32, address: u64, buffer: &mut [u8]) -> Option<usize> {
        let open = self.open.borrow();
        let open = open.as_ref().filter(|open| open.thread == thread)?;
        let count = open.memory.read_at(buffer, address).ok()?;
        // So it is when the memory is nobody's any more.
        (count > 0).then_some(count)
    }

    /// A copy of the descriptor `number` of `thread`; `None` where that cannot be had cheaply.
    pub(super) fn descriptor(&self, thread: i32, number: i32) -> Option<OwnedFd> {
        let open = self.open.borrow();
        let open = open.as_ref().filter(|open| open.thread == thread)?;
        notify::copy_descriptor(open.process.as_ref()?, number).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here() -> i32 {
        nix::unistd::getpid().as_raw()
    }

    #[test]
    fn only_who_asks_twice_in_a_row_is_known() {
        let known = Acquaintance::default();
        // Paths are relative to /proc, which is not where tests run: nothing can be opened here.
        known.meet(here(), || true);
        assert!(!known.knows(here()));
        known.meet(here(), || true);
        assert_eq!(known.read(here(), 0, &mut [0; 8]), None);
        assert!(known.descriptor(here(), 0).is_none());
    }

    #[test]
    fn memory_is_read_until_it_is_forgotten() {
        let text = *b"some text";
        let address = text.as_ptr().addr() as u64;
        let known = Acquaintance::default();
        known.open.replace(Some(Open {
            thread: here(),
            memory: File::open("/proc/self/mem").unwrap(),
            process: process::pidfd_open(nix::unistd::getpid()).ok(),
        }));
        let mut buffer = [0; 4];
        assert_eq!(known.read(here(), address, &mut buffer), Some(4));
        assert_eq!(&buffer, b"some");
        assert_eq!(known.read(here() + 1, address, &mut buffer), None);
        assert_eq!(known.read(here(), 0, &mut buffer), None);
        assert!(known.descriptor(here(), 0).is_some());
        assert!(known.descriptor(here(), 99_999).is_none());
        known.forget();
        assert_eq!(known.read(here(), address, &mut buffer), None);
        assert!(known.descriptor(here(), 0).is_none());
    }
}
