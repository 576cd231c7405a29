//! Shows on stderr what a build does. Nothing goes to stdout, which belongs to results.
//!
//! One thread receives the build's events and gives them to a view; a view never asks the build
//! anything. That stderr was closed ends no build.

use std::io;
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;

use crate::build::event::Event;

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// BuildKit's numbered lines.
    Plain,
    /// A live view that is redrawn in place.
    Tty,
    /// Nothing.
    Quiet,
    /// One JSON object per line; the schema is in [`rawjson`].
    RawJson,
}

/// A `--progress` that cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ModeError {
    #[error("unknown progress mode {0:?} (expected auto, plain, tty, quiet, none or rawjson)")]
    Unknown(String),
    #[error("progress mode \"tty\" needs a terminal on stderr")]
    NoTerminal,
}

impl Mode {
    /// The mode called `name`: auto, plain, tty, quiet, none (the same as quiet) or rawjson. `auto` is
    /// tty if stderr is a terminal that can move its cursor, plain otherwise.
    pub(crate) fn parse(name: &str) -> Result<Self, ModeError> {
        let _ = name;
        todo!()
    }
}

/// The thread that shows progress.
#[derive(Debug)]
pub(crate) struct Progress {
    thread: JoinHandle<()>,
}

/// Starts to show what `receiver` gives. This is a thread: call it after the last fork of a
/// single-threaded process.
pub(crate) fn start(mode: Mode, receiver: Receiver<Event>) -> io::Result<Progress> {
    let _ = (mode, receiver);
    todo!()
}

impl Progress {
    /// Waits until everything sent is shown and the terminal is left as it was found. Returns only
    /// after every [`EventSender`](crate::build::event::EventSender) is dropped.
    pub(crate) fn finish(self) {
        todo!()
    }
}

/// Whether stderr is a terminal on which colours are welcome: `NO_COLOR` is unset or empty
/// (no-color.org) and `TERM` is not `dumb`.
pub(crate) fn colour_on_stderr() -> bool {
    todo!()
}

/// The columns of the terminal on stderr, 80 if it is none or does not say.
pub(crate) fn width_of_stderr() -> usize {
    todo!()
}
