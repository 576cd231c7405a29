//! A command in the foreground: connected to the caller's input, outputs and signals.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use super::stand_ins::StandIns;
use super::supervise::{End, Error, Exit, Init, conclude};
use super::watch::{Bounds, Watch};
use super::wire::Message;
use super::{Cancel, Console, Spec, wire};
use crate::sys::{self, process, terminal};

/// As much as a pipe holds (pipe(7)).
const CHUNK: usize = 65_536;

/// A pipe that is ready for writing takes this much without waiting (`PIPE_BUF`, pipe(7)).
const READY: usize = 4096;

/// What a command in the foreground is connected to. It never gets these descriptors, only what is
/// read from them and what it writes: a terminal among them stays out of its reach.
#[derive(Debug)]
pub(crate) struct Attachment<'a> {
    /// Read only when the spec's console says that the command reads.
    pub(crate) input: Option<BorrowedFd<'a>>,
    pub(crate) output: BorrowedFd<'a>,
    /// Unused with a terminal, which has one output.
    pub(crate) error: BorrowedFd<'a>,
    /// The terminal whose size that of the command follows.
    pub(crate) window: Option<BorrowedFd<'a>>,
    /// A pipe: each byte is the number of a signal for the command. SIGWINCH means a new size.
    pub(crate) signals: BorrowedFd<'a>,
}

/// Runs the command of `spec`, whose console is not [`Console::Captured`], as [`super::run`] does.
pub(crate) fn run_attached(
    spec: &Spec,
    bounds: &Bounds,
    attachment: &Attachment<'_>,
    cancel: &Cancel,
) -> Result<Exit, Error> {
    let stand_ins = StandIns::put(spec).map_err(Error::StandIns)?;
    let mut watch = Watch::start(spec, bounds).map_err(Error::Start)?;
    let mut attached = Attached {
        init: Init::start(spec.ground())?,
        attachment,
        flows: Vec::new(),
        waiting: Vec::new(),
    };
    let talked = watch
        .hold(attached.init.id())
        .map_err(Error::Cgroup)
        .and_then(|()| attached.init.give_ground())
        .and_then(|()| attached.talk(spec, &mut watch, cancel));
    let status = attached.init.reap(talked.is_err());
    let end = talked?;
    let status = status.map_err(Error::Start)?;
    attached.drain()?;
    conclude(
        spec,
        stand_ins,
        &mut attached.init,
        Some(status),
        end,
        watch,
    )
}

struct Attached<'a> {
    init: Init,
    attachment: &'a Attachment<'a>,
    flows: Vec<Flow>,
    /// Signals that came before the command.
    waiting: Vec<i32>,
}

impl Attached<'_> {
    /// Passes everything on until init and pid 1 are gone; says why they are.
    fn talk(&mut self, spec: &Spec, watch: &mut Watch<'_>, cancel: &Cancel) -> Result<End, Error> {
        self.init.give_orders(spec)?;
        self.connect(spec.console)?;
        let mut end = End::Itself;
        let mut has_terminal = false;
        loop {
            let is_running = matches!(end, End::Itself);
            let watched = [
                Some(self.init.socket.as_fd()),
                Some(self.attachment.signals),
                is_running.then(|| cancel.as_fd()),
            ];
            let timeout = if is_running {
                watch.timeout()
            } else {
                PollTimeout::NONE
            };
            let ready = wait(watched, &mut self.flows, timeout)?;
            let [socket, signals, cancel] = ready.others;
            if signals {
                self.read_signals()?;
            }
            let open = !socket || self.init.listen()?;
            if let (false, Some(terminal)) = (has_terminal, &self.init.terminal) {
                has_terminal = true;
                let terminal = terminal.try_clone().map_err(Error::Start)?;
                self.connect_terminal(terminal)?;
            }
            self.deliver()?;
            if cancel {
                end = End::Canceled;
                self.init.kill()?;
            }
            if let End::Itself = end
                && let Some(exceeded) = self.init.look(watch)
            {
                end = End::Exceeded(exceeded);
            }
            if let End::Exceeded(_) = end {
                self.init.kill()?;
            }
            if !open {
                return Ok(end);
            }
        }
    }

    fn connect(&mut self, console: Console) -> Result<(), Error> {
        let attachment = self.attachment;
        if console == (Console::Attached { input: true }) {
            let (reader, writer) = io::pipe().map_err(Error::Start)?;
            wire::send(&self.init.socket, &Message::Input(reader.into())).map_err(Error::Watch)?;
            if let Some(input) = attachment.input {
                let from = clone(input)?;
                self.flows.push(Flow::input(from, writer.into())?);
            }
        }
        let outputs = [
            (self.init.stdout.take(), attachment.output),
            (self.init.stderr.take(), attachment.error),
        ];
        for (from, to) in outputs {
            if let Some(from) = from {
                self.flows.push(Flow::output(from.into(), clone(to)?)?);
            }
        }
        Ok(())
    }

    fn connect_terminal(&mut self, terminal: OwnedFd) -> Result<(), Error> {
        let attachment = self.attachment;
        let other = terminal.try_clone().map_err(Error::Start)?;
        self.flows
            .push(Flow::output(other, clone(attachment.output)?)?);
        if let Some(input) = attachment.input {
            self.flows.push(Flow::input(clone(input)?, terminal)?);
        }
        // What changed since the spec was made.
        self.resize()
    }

    fn resize(&self) -> Result<(), Error> {
        let (Some(window), Some(own)) = (self.attachment.window, &self.init.terminal) else {
            return Ok(());
        };
        match terminal::size(window) {
            Ok((columns, rows)) if (columns, rows) != (0, 0) => {
                terminal::set_size(own, columns, rows).map_err(Error::Watch)
            }
            _ => Ok(()),
        }
    }

    fn read_signals(&mut self) -> Result<(), Error> {
        for signal in read_bytes(self.attachment.signals)? {
            if i32::from(signal) == Signal::SIGWINCH as i32 {
                self.resize()?;
            } else {
                self.waiting.push(signal.into());
            }
        }
        Ok(())
    }

    fn deliver(&mut self) -> Result<(), Error> {
        let Some(command) = &self.init.command else {
            return Ok(());
        };
        for signal in self.waiting.drain(..) {
            process::pidfd_signal(command, signal).map_err(Error::Watch)?;
        }
        Ok(())
    }

    /// Passes on what the dead sandbox has written. A signal ends the wait for a reader of it.
    fn drain(&mut self) -> Result<(), Error> {
        self.flows.retain(|flow| !flow.is_input);
        loop {
            let pending = self.flows.iter().any(|flow| !flow.pending.is_empty());
            let timeout = if pending {
                PollTimeout::NONE
            } else {
                PollTimeout::ZERO
            };
            let ready = wait([Some(self.attachment.signals)], &mut self.flows, timeout)?;
            if ready.others[0] {
                let signals = read_bytes(self.attachment.signals)?;
                let resized = |signal: &u8| i32::from(*signal) == Signal::SIGWINCH as i32;
                if !signals.iter().all(resized) {
                    return Ok(());
                }
            } else if !ready.flows && !pending {
                return Ok(());
            }
        }
    }
}

fn clone(fd: BorrowedFd<'_>) -> Result<OwnedFd, Error> {
    fd.try_clone_to_owned().map_err(Error::Start)
}

fn read_bytes(pipe: BorrowedFd<'_>) -> Result<Vec<u8>, Error> {
    let mut buffer = [0; 64];
    let length = match nix::unistd::read(pipe, &mut buffer) {
        Ok(length) => length,
        Err(Errno::EINTR) => 0,
        Err(errno) => return Err(Error::Watch(sys::Error::new("read", "signals", errno))),
    };
    Ok(buffer[..length].to_vec())
}

/// Bytes on their way from one descriptor to another, a chunk at a time.
struct Flow {
    from: Option<File>,
    to: Option<File>,
    pending: Vec<u8>,
    /// How much may be written at once when `to` is ready.
    piece: usize,
    /// It ends at the command.
    is_input: bool,
}

impl Flow {
    /// The caller's descriptors may block: they are shared with other processes.
    fn output(from: OwnedFd, to: OwnedFd) -> Result<Self, Error> {
        do_not_block(&from)?;
        let to = File::from(to);
        let never_waits = to.metadata().is_ok_and(|metadata| metadata.is_file());
        let piece = if never_waits { CHUNK } else { READY };
        Ok(Self::new(from, to, piece, false))
    }

    fn input(from: OwnedFd, to: OwnedFd) -> Result<Self, Error> {
        do_not_block(&to)?;
        Ok(Self::new(from, to.into(), CHUNK, true))
    }

    fn new(from: OwnedFd, to: File, piece: usize, is_input: bool) -> Self {
        Self {
            from: Some(from.into()),
            to: Some(to),
            pending: Vec::new(),
            piece,
            is_input,
        }
    }

    /// What it waits for; `None` at its end.
    fn awaited(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        if self.pending.is_empty() {
            let from = self.from.as_ref()?;
            Some((from.as_fd(), PollFlags::POLLIN))
        } else {
            let to = self.to.as_ref()?;
            Some((to.as_fd(), PollFlags::POLLOUT))
        }
    }

    /// Reads or writes once. At the end of either side both are closed, so that the other side learns
    /// of it.
    fn advance(&mut self) {
        let passed = if self.pending.is_empty() {
            self.read()
        } else {
            self.write()
        };
        match passed {
            Ok(true) => {}
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Ok(false) | Err(_) => {
                self.from = None;
                self.to = None;
                self.pending.clear();
            }
        }
    }

    fn read(&mut self) -> io::Result<bool> {
        let Some(from) = &mut self.from else {
            return Ok(false);
        };
        let mut buffer = [0; CHUNK];
        let length = from.read(&mut buffer)?;
        self.pending.extend_from_slice(&buffer[..length]);
        Ok(length > 0)
    }

    fn write(&mut self) -> io::Result<bool> {
        let Some(to) = &mut self.to else {
            return Ok(false);
        };
        let length = to.write(&self.pending[..self.pending.len().min(self.piece)])?;
        self.pending.drain(..length);
        Ok(true)
    }
}

fn do_not_block(fd: &OwnedFd) -> Result<(), Error> {
    fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
        .map_err(|errno| Error::Watch(sys::Error::new("fcntl", "F_SETFL", errno)))?;
    Ok(())
}

struct Ready<const N: usize> {
    others: [bool; N],
    /// At least one flow went on.
    flows: bool,
}

/// Waits until one of `others` can be read or a flow can go on, and lets those go on that can.
fn wait<const N: usize>(
    others: [Option<BorrowedFd<'_>>; N],
    flows: &mut [Flow],
    timeout: PollTimeout,
) -> Result<Ready<N>, Error> {
    let awaited: Vec<_> = flows.iter().map(Flow::awaited).collect();
    let others_awaited = others.iter().map(|fd| fd.map(|fd| (fd, PollFlags::POLLIN)));
    let all: Vec<_> = others_awaited.chain(awaited).collect();
    let mut polled: Vec<PollFd<'_>> = all
        .iter()
        .flatten()
        .map(|(fd, flags)| PollFd::new(*fd, *flags))
        .collect();
    match poll(&mut polled, timeout) {
        Ok(_) => {}
        Err(Errno::EINTR) => {}
        Err(errno) => return Err(Error::Watch(sys::Error::new("poll", "", errno))),
    }
    let mut results = polled.iter();
    let ready: Vec<bool> = all
        .iter()
        .map(|awaited| {
            awaited.is_some()
                && results
                    .next()
                    .is_some_and(|polled| polled.any() != Some(false))
        })
        .collect();
    let (ready_others, ready_flows) = ready.split_at(N);
    let mut went_on = false;
    for (flow, _) in flows
        .iter_mut()
        .zip(ready_flows)
        .filter(|(_, ready)| **ready)
    {
        flow.advance();
        went_on = true;
    }
    let mut result = [false; N];
    result.copy_from_slice(ready_others);
    Ok(Ready {
        others: result,
        flows: went_on,
    })
}
