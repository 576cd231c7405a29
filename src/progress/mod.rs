//! Shows on stderr what a build does. Nothing goes to stdout, which belongs to results.
//!
//! One thread receives the build's events and gives them to a view; a view never asks the build
//! anything. That stderr was closed ends no build.

mod bar;
mod frame;
mod numbers;
mod parts;
mod plain;
mod quiet;
mod rawjson;
mod timings;
mod tty;
pub(crate) mod units;

use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::build::event::Event;
use crate::sys;

/// How often a view may redraw or catch up: fast enough for a clock with tenths of a second.
const TICK: Duration = Duration::from_millis(100);
/// Columns where nobody knows better.
const DEFAULT_WIDTH: usize = 80;
const DEFAULT_HEIGHT: usize = 24;
/// What is being done, where the command does not say otherwise.
const BUILDING: &str = "Building";

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// BuildKit's numbered lines.
    Plain,
    /// A live view that is redrawn in place, below what is being done: `Building`, `Pulling`.
    Tty(&'static str),
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
        let terminal = io::stderr().is_terminal();
        match name {
            "auto" if terminal && !terminal_is_dumb() => Ok(Self::Tty(BUILDING)),
            "auto" | "plain" => Ok(Self::Plain),
            "tty" if !terminal => Err(ModeError::NoTerminal),
            "tty" => Ok(Self::Tty(BUILDING)),
            "quiet" | "none" => Ok(Self::Quiet),
            "rawjson" => Ok(Self::RawJson),
            _ => Err(ModeError::Unknown(name.to_owned())),
        }
    }
}

/// One way to show events. `now` is the time since the build began and never goes back.
trait View {
    fn show(&mut self, event: &Event, now: Duration);
    /// Called several times a second, and after events: time to write what may not wait longer.
    fn tick(&mut self, now: Duration);
    /// Nothing follows.
    fn finish(&mut self, now: Duration);
}

/// The thread that shows progress.
#[derive(Debug)]
pub(crate) struct Progress {
    /// `None` when nothing is shown.
    thread: Option<JoinHandle<()>>,
}

/// Starts to show what `receiver` gives. This is a thread: call it after the last fork of a
/// single-threaded process.
pub(crate) fn start(mode: Mode, receiver: Receiver<Event>) -> io::Result<Progress> {
    if mode == Mode::Quiet {
        // Nobody listens, so nothing is sent.
        return Ok(Progress { thread: None });
    }
    start_view(move || view_of(mode), receiver)
}

/// As [`start`], and below it a table of what each phase took; what is [`Mode::RawJson`] has that already.
pub(crate) fn start_with_timings(mode: Mode, receiver: Receiver<Event>) -> io::Result<Progress> {
    if mode == Mode::RawJson {
        return start(mode, receiver);
    }
    let view =
        move || -> Box<dyn View> { Box::new(timings::Timings::new(view_of(mode), io::stderr())) };
    start_view(view, receiver)
}

fn start_view(
    view: impl FnOnce() -> Box<dyn View> + Send + 'static,
    receiver: Receiver<Event>,
) -> io::Result<Progress> {
    let thread = std::thread::Builder::new()
        .name("progress".to_owned())
        .spawn(move || watch(view().as_mut(), &receiver))?;
    Ok(Progress {
        thread: Some(thread),
    })
}

fn view_of(mode: Mode) -> Box<dyn View> {
    let output = BufWriter::new(io::stderr());
    match mode {
        Mode::Plain => Box::new(plain::Plain::new(output)),
        Mode::Tty(title) => Box::new(tty::Tty::new(output, colour_on_stderr(), title)),
        Mode::Quiet => Box::new(quiet::Quiet),
        Mode::RawJson => Box::new(rawjson::RawJson::new(output, jiff::Timestamp::now())),
    }
}

fn watch(view: &mut dyn View, receiver: &Receiver<Event>) {
    let began = Instant::now();
    let mut ticked = Duration::ZERO;
    loop {
        match receiver.recv_timeout(TICK) {
            Ok(event) => view.show(&event, began.elapsed()),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        let now = began.elapsed();
        if now.saturating_sub(ticked) >= TICK {
            view.tick(now);
            ticked = now;
        }
    }
    view.finish(began.elapsed());
}

/// Writes to `output`. An error is that of a closed pipe or terminal, which ends no build.
fn write_all(output: &mut impl Write, bytes: &[u8]) {
    drop(output.write_all(bytes));
}

impl Progress {
    /// Waits until everything sent is shown and the terminal is left as it was found. Returns only
    /// after every [`EventSender`](crate::build::event::EventSender) is dropped.
    pub(crate) fn finish(self) {
        // A view that panicked said so itself; what it showed is no result of the build.
        drop(self.thread.map(JoinHandle::join));
    }
}

/// Whether stderr is a terminal on which colours are welcome: `NO_COLOR` is unset or empty
/// (no-color.org) and `TERM` is not `dumb`.
pub(crate) fn colour_on_stderr() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    io::stderr().is_terminal() && !refused && !terminal_is_dumb()
}

fn terminal_is_dumb() -> bool {
    std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb")
}

/// The columns of the terminal on stderr, 80 if it is none or does not say.
pub(crate) fn width_of_stderr() -> usize {
    size_of_stderr().0
}

/// Columns and rows, each 80 and 24 where the terminal does not say.
fn size_of_stderr() -> (usize, usize) {
    let (columns, rows) = sys::terminal::size(io::stderr()).unwrap_or((0, 0));
    let or = |size: u16, otherwise| {
        if size == 0 {
            otherwise
        } else {
            usize::from(size)
        }
    };
    (or(columns, DEFAULT_WIDTH), or(rows, DEFAULT_HEIGHT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_have_the_names_of_buildkit() {
        for (name, expected) in [
            ("plain", Ok(Mode::Plain)),
            ("quiet", Ok(Mode::Quiet)),
            ("none", Ok(Mode::Quiet)),
            ("rawjson", Ok(Mode::RawJson)),
            ("fancy", Err(ModeError::Unknown("fancy".to_owned()))),
        ] {
            assert_eq!(Mode::parse(name), expected);
        }
    }
}
