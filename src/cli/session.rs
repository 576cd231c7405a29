//! What every command that uses the store needs: the user namespace, the store, progress, signals.

use std::io::{PipeReader, PipeWriter, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};

use nix::sys::signal::{SigSet, Signal};

use super::Exit;
use super::place;
use super::report::{self, Report};
use crate::build::event::EventSender;
use crate::progress::{self, Mode, Progress};
use crate::sandbox::{Cancel, userns};
use crate::store::Store;

/// An open store inside the build's user namespace, with a watched line of events.
pub(super) struct Session {
    pub(super) store: Store,
    pub(super) events: EventSender,
    pub(super) cancel: Cancel,
    /// Why the build has only one id, when it does.
    pub(super) single_reason: Option<String>,
    progress: Progress,
}

impl Session {
    /// Ends the progress view and closes the store; what is printed afterwards stands below it.
    pub(super) fn finish(self) {
        drop(self.events);
        self.progress.finish();
    }
}

/// What a command that came to `exit` ends with: an interrupted one failed because it was told to.
pub(super) fn exit(exit: Exit) -> Exit {
    if exit != Exit::Success && was_interrupted() {
        Exit::Interrupted
    } else {
        exit
    }
}

pub(super) fn was_interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

/// A signal asked for the end. Set before the work is told to stop, so that its error is known to be
/// a consequence.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Enters the namespace and opens the store at `root`; says itself what failed. Must be called while
/// the process has one thread.
pub(super) fn start(root: &Path, mode: Mode) -> Result<Session, Exit> {
    start_watching(root, mode, &ENDING)
}

/// As [`start`], with more signals watched, so that [`divert_signals`] can have them.
pub(super) fn start_diverting(root: &Path, mode: Mode) -> Result<Session, Exit> {
    start_watching(root, mode, &DIVERTIBLE)
}

/// From now on no signal ends the work: the number of each comes out of the pipe.
pub(super) fn divert_signals() -> std::io::Result<PipeReader> {
    let (reader, writer) = std::io::pipe()?;
    *diverted() = Some(writer);
    Ok(reader)
}

/// What asks for the end of the work.
const ENDING: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

/// What a command in the foreground is told, a new size of the terminal included.
const DIVERTIBLE: [Signal; 7] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
];

static DIVERTED: Mutex<Option<PipeWriter>> = Mutex::new(None);

fn diverted() -> MutexGuard<'static, Option<PipeWriter>> {
    DIVERTED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn start_watching(root: &Path, mode: Mode, signals: &[Signal]) -> Result<Session, Exit> {
    let entered = userns::enter().map_err(|error| {
        report::print(&Report {
            title: error.to_string(),
            causes: report::causes_of(&error),
            help: error.hint().map(str::to_owned),
            ..Report::default()
        });
        Exit::Host
    })?;
    place::require_overlay(root)?;
    let cancel = Cancel::new().map_err(|error| start_failed(&error))?;
    watch_signals(signals, cancel.clone()).map_err(|error| start_failed(&error))?;
    let store = Store::open(root, entered.ownership).map_err(|error| {
        report::print(&Report {
            title: "cannot open the store".to_owned(),
            causes: std::iter::once(error.to_string())
                .chain(report::causes_of(&error))
                .collect(),
            help: Some("--root DIR or RBUILD_ROOT puts it elsewhere".to_owned()),
            ..Report::default()
        });
        Exit::Failed
    })?;
    let (sender, receiver) = mpsc::channel();
    let progress = progress::start(mode, receiver).map_err(|error| start_failed(&error))?;
    let events = EventSender::new(sender);
    Ok(Session {
        store,
        events,
        cancel,
        single_reason: entered.single_reason,
        progress,
    })
}

fn start_failed(error: &dyn std::error::Error) -> Exit {
    report::print_error(&format!("cannot start: {}", report::chain(error)));
    Exit::Host
}

/// The signals are blocked in every thread, and one waits for them: they end the work or are diverted.
fn watch_signals(signals: &[Signal], cancel: Cancel) -> std::io::Result<()> {
    let signals: SigSet = signals.iter().copied().collect();
    signals.thread_block()?;
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            while let Ok(signal) = signals.wait() {
                if let Some(pipe) = &mut *diverted() {
                    // Numbers of signals have one byte; a pipe without a reader has nobody to tell.
                    drop(pipe.write_all(&[signal as u8]));
                    continue;
                }
                if signal == Signal::SIGWINCH {
                    continue;
                }
                INTERRUPTED.store(true, Ordering::SeqCst);
                cancel.cancel();
            }
        })?;
    Ok(())
}
