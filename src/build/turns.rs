//! How many RUNs go on at one time.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::sandbox::Cancel;

/// How often one that waits looks whether the build should end.
const GLANCE: Duration = Duration::from_millis(100);

/// Gives turns to the stages of a build.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    taken: Mutex<u64>,
    freed: Condvar,
}

/// The right to run a command, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn<'a>(&'a Turns);

impl Turns {
    /// Waits until fewer than `most` turns are taken; `None` when the build is canceled.
    pub(crate) fn take(&self, most: Option<u64>, cancel: &Cancel) -> Option<Turn<'_>> {
        let mut taken = self.lock();
        while most.is_some_and(|most| *taken >= most) {
            if cancel.is_canceled() {
                return None;
            }
            let waited = self.freed.wait_timeout(taken, GLANCE);
            (taken, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
        *taken += 1;
        Some(Turn(self))
    }

    fn lock(&self) -> MutexGuard<'_, u64> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.lock() -= 1;
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_waited_for_until_one_is_over_or_the_build_is() {
        let turns = Turns::default();
        let cancel = Cancel::new().unwrap();
        let first = turns.take(Some(1), &cancel).unwrap();
        assert!(turns.take(None, &cancel).is_some());
        std::thread::scope(|scope| {
            let second = scope.spawn(|| turns.take(Some(1), &cancel).is_some());
            drop(first);
            assert!(second.join().unwrap());
        });
        let _third = turns.take(Some(1), &cancel).unwrap();
        cancel.cancel();
        assert!(turns.take(Some(1), &cancel).is_none());
    }
}
