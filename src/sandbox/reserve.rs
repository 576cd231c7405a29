//! What of a sandbox is done beside the commands: one is begun before its command is known, as far as all are
//! the same, and taken apart while what the command wrote becomes a layer.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::cgroup;
use super::spec::{Ground, Network, Spec};
use super::supervise::Init;

/// Sandboxes in which nothing has run yet, and such in which nothing runs any more. Dropping it ends them all.
#[derive(Debug, Default)]
pub(crate) struct Reserve {
    begun: Mutex<Vec<Init>>,
    ended: Mutex<Vec<Init>>,
}

impl Reserve {
    /// One that stands on `ground`, with the orders of `spec`.
    pub(super) fn take(&self, ground: Ground, spec: &Spec) -> Option<Init> {
        loop {
            let init = {
                let mut begun = lock(&self.begun);
                let index = begun.iter().position(|init| init.ground() == ground)?;
                begun.swap_remove(index)
            };
            match init.give_orders(spec) {
                Ok(()) => return Some(init),
                // It is gone, for instance because memory ran out.
                Err(_) => init.dismiss(),
            }
        }
    }

    /// Begins one more. What goes wrong goes wrong again, and is reported, where it is wanted.
    pub(super) fn add(&self, ground: Ground) {
        let is_alike = match ground {
            // Each has a process beside it that leads out.
            Ground::Namespaces { network, .. } => network != Network::Isolated,
            // Nothing is made ahead.
            Ground::Chroot => false,
        };
        // A sandbox is put into its cgroup before it starts anything.
        if !is_alike || cgroup::is_claimed() {
            return;
        }
        let begun = Init::start(ground).and_then(|init| {
            let given = init.give_ground();
            given.map(|()| init)
        });
        if let Ok(init) = begun {
            lock(&self.begun).push(init);
        }
    }

    /// Takes one over that has only its own end before it.
    pub(super) fn leave(&self, init: Init) {
        lock(&self.ended).push(init);
    }

    /// Waits until nothing is left of the sandboxes of the commands that have ended. Until then the kernel warns of
    /// an overlay over what one of them wrote.
    pub(crate) fn settle(&self) {
        // Under the lock: another stage's may be among them, and it must not go on before.
        for mut init in lock(&self.ended).drain(..) {
            drop(init.reap(false));
        }
    }
}

fn lock(inits: &Mutex<Vec<Init>>) -> MutexGuard<'_, Vec<Init>> {
    inits.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Reserve {
    fn drop(&mut self) {
        for init in lock(&self.begun).drain(..) {
            init.dismiss();
        }
        self.settle();
    }
}
