//! The caller's terminal while the command has its own.

use std::io;
use std::sync::{Mutex, Once, PoisonError};

use nix::sys::termios::Termios;

use crate::sys::{self, terminal};

/// The modes to go back to, while the terminal is raw.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// The terminal on standard input passes on every key as it is; its modes come back with the end of the
/// value, and when this program panics.
#[derive(Debug)]
pub(super) struct Raw(());

impl Raw {
    pub(super) fn enter() -> sys::Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let default = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                restore();
                default(panic);
            }));
        });
        let before = terminal::make_raw(io::stdin())?;
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        Ok(Self(()))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
    }
}

fn restore() {
    let before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(modes) = before {
        // A terminal that is gone has no modes.
        drop(terminal::restore(io::stdin(), &modes));
    }
}
