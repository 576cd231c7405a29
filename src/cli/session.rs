//! What every command that uses the store needs: the user namespace, the store, progress, signals.

use std::io::{PipeReader, PipeWriter, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, mpsc};

use nix::sys::signal::{SigSet, Signal};

use super::Exit;
use super::place;
use super::report::{self, Report};
use crate::build::event::{Event, EventSender};
use crate::ownership::{Ownership, Table};
use crate::progress::{self, Mode, Progress};
use crate::sandbox::walls::{self, ALLOW_CHROOT, Wanted};
use crate::sandbox::{Cancel, Walls, userns};
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
    start_watching(root, &ENDING, |receiver| progress::start(mode, receiver))
}

/// As [`start`], with what each phase took below the progress.
pub(super) fn start_with_timings(root: &Path, mode: Mode) -> Result<Session, Exit> {
    start_watching(root, &ENDING, |receiver| {
        progress::start_with_timings(mode, receiver)
    })
}

/// As [`start`], with more signals watched, so that [`divert_signals`] can have them.
pub(super) fn start_diverting(root: &Path, mode: Mode) -> Result<Session, Exit> {
    start_watching(root, &DIVERTIBLE, |receiver| {
        progress::start(mode, receiver)
    })
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

fn start_watching(
    root: &Path,
    signals: &[Signal],
    show: impl FnOnce(Receiver<Event>) -> std::io::Result<Progress>,
) -> Result<Session, Exit> {
    let entered = enter()?;
    if !entered.is_flat {
        place::require_overlay(root)?;
    }
    let cancel = Cancel::new().map_err(|error| start_failed(&error))?;
    watch_signals(signals, cancel.clone()).map_err(|error| start_failed(&error))?;
    let opened = if entered.is_flat {
        Store::open_flat(root, entered.ownership)
    } else {
        Store::open(root, entered.ownership)
    };
    let store = opened.map_err(|error| {
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
    let progress = show(receiver).map_err(|error| start_failed(&error))?;
    let events = EventSender::new(sender);
    Ok(Session {
        store,
        events,
        cancel,
        single_reason: entered.single_reason,
        progress,
    })
}

/// What the process has become.
pub(super) struct Entered {
    pub(super) ownership: Ownership,
    /// Nothing can be mounted.
    pub(super) is_flat: bool,
    single_reason: Option<String>,
}

/// `--sandbox`, as typed.
static WANTED: OnceLock<Wanted> = OnceLock::new();

/// What was chosen of it.
static WALLS: OnceLock<Walls> = OnceLock::new();

/// Whether the command line leaves the choice to the host.
pub(super) fn sandbox_is_automatic() -> bool {
    WANTED.get().copied().unwrap_or_default() == Wanted::Auto
}

/// Notes what the command line asked for.
pub(super) fn choose_sandbox(wanted: Wanted) {
    // The command line is read once.
    let _ = WANTED.set(wanted);
}

/// What commands will run in; says itself why nothing can be. Must be called while the process has one
/// thread.
pub(super) fn walls() -> Result<&'static Walls, Exit> {
    if WALLS.get().is_none() {
        let allowed = std::env::var(ALLOW_CHROOT).is_ok_and(|value| value == "1");
        let wanted = WANTED.get().copied().unwrap_or_default();
        let chosen = walls::choose(wanted, allowed).map_err(|refused| {
            report::print(&Report {
                title: refused.to_string(),
                help: refused.help.clone(),
                ..Report::default()
            });
            Exit::Host
        })?;
        drop(WALLS.set(chosen));
    }
    Ok(WALLS.get().expect("it was just chosen"))
}

/// Enters the user namespace, if there is one to enter; says itself what failed. Must be called while
/// the process has one thread.
pub(super) fn enter() -> Result<Entered, Exit> {
    let forced = match walls()? {
        Walls::Namespaces(forced) => *forced,
        Walls::Chroot => {
            // A command of the same user could otherwise read this process and take it over (ptrace(2)).
            let _ = nix::sys::prctl::set_dumpable(false);
            return Ok(Entered {
                ownership: Ownership::Mapped,
                is_flat: true,
                single_reason: None,
            });
        }
        Walls::None { reason, .. } => {
            return Ok(Entered {
                ownership: Ownership::Recorded(Table::default()),
                is_flat: true,
                single_reason: Some(reason.clone()),
            });
        }
    };
    let entered = userns::enter(forced).map_err(|error| {
        report::print(&Report {
            title: error.to_string(),
            causes: report::causes_of(&error),
            help: error.hint().map(str::to_owned),
            ..Report::default()
        });
        Exit::Host
    })?;
    Ok(Entered {
        ownership: entered.ownership,
        is_flat: false,
        single_reason: entered.single_reason,
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
