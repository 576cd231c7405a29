//! Starting init, passing on what the command writes, and ending it all.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::net::Shutdown;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::network::{self, Isolated};
use super::spawner::{self, Child};
use super::spec::{Failure, Ground, Network, Outcome, Report, Spec, Usage};
use super::stand_ins::StandIns;
use super::watch::{Bounds, Exceeded, Watch};
use super::wire::Message;
use super::{Cancel, Reserve, cgroup, stubs, wire};
use crate::sys::{self, process};

/// Which of its two outputs a command wrote to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    Stdout,
    Stderr,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exit {
    pub(crate) status: Status,
    pub(crate) usage: Usage,
    /// Walls that this host allowed only weaker than wanted, one sentence each.
    pub(crate) warnings: Vec<String>,
    /// With [`Spec::tree`]: files of the tree, by their paths in it, that stood aside for others.
    pub(crate) restored: Vec<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Code(i32),
    Signal(i32),
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("canceled")]
    Canceled,
    /// The sandbox was ended because it took more than it may.
    #[error(transparent)]
    Exceeded(Exceeded),
    /// The command never ran; `Failure::step` tells a missing program or user from a broken wall.
    #[error("{0}")]
    Setup(Failure),
    #[error("cannot start the init process of the sandbox")]
    Start(#[source] io::Error),
    #[error("cannot send the init process of the sandbox its orders")]
    Send(#[source] io::Error),
    #[error("cannot watch the init process of the sandbox")]
    Watch(#[source] sys::Error),
    #[error("the init process of the sandbox ended without a report ({0})")]
    NoReport(ExitStatus),
    #[error("cannot remove the mount targets that the sandbox made")]
    RemoveTargets(#[source] sys::Error),
    #[error("cannot put in place what the command is to find")]
    StandIns(#[source] sys::Error),
    #[error("cannot give the command a network of its own")]
    Network(#[source] network::Error),
    #[error("cannot keep the sandbox to its limits")]
    Cgroup(#[source] cgroup::Error),
    #[error("the command left processes running that cannot be ended")]
    Leftovers,
}

/// What ended a sandbox.
#[derive(Debug)]
pub(super) enum End {
    Itself,
    /// It has reported, and nothing but its own end is to come.
    Alone,
    Canceled,
    Exceeded(Exceeded),
}

/// Runs one command in a fresh sandbox and waits for it, or ends it when it takes more than `bounds`.
/// `output` gets what it writes, as it comes. The sandbox is taken from `reserve` if there is one for it;
/// when `is_followed`, another is put there for the command after this.
///
/// When this returns, whatever the result, no process is left that could write to `upper`. What else is left of
/// the sandbox, its mounts among it, is gone after [`Reserve::settle`].
/// May be called from several threads at once, after [`super::userns::enter`].
pub(crate) fn run(
    spec: &Spec,
    bounds: &Bounds,
    (reserve, is_followed): (&Reserve, bool),
    output: &mut dyn FnMut(Output, &[u8]),
    cancel: &Cancel,
) -> Result<Exit, Error> {
    if cancel.is_canceled() {
        return Err(Error::Canceled);
    }
    let stand_ins = StandIns::put(spec).map_err(Error::StandIns)?;
    let mut watch = Watch::start(spec, bounds).map_err(Error::Start)?;
    let ground = spec.ground();
    let (mut init, ordered) = match reserve.take(ground, spec) {
        Some(init) => (init, Ok(())),
        None => {
            let init = Init::start(ground)?;
            let held = watch.hold(init.id()).map_err(Error::Cgroup);
            let held = held.and_then(|()| init.give_ground());
            let ordered = held.and_then(|()| init.give_orders(spec));
            (init, ordered)
        }
    };
    let talked = ordered.and_then(|()| {
        if is_followed {
            reserve.add(ground);
        }
        init.talk(&mut watch, output, cancel)
    });
    if let Ok(End::Alone) = talked {
        init.drain(output);
        let concluded = conclude(spec, stand_ins, &mut init, None, End::Alone, watch);
        reserve.leave(init);
        return concluded;
    }
    let status = init.reap(talked.is_err());
    let end = talked?;
    let status = status.map_err(Error::Start)?;
    init.drain(output);
    conclude(spec, stand_ins, &mut init, Some(status), end, watch)
}

/// What the end of `init` means, of which no process is left, or one that [is alone](Init::is_alone). Takes the
/// mount targets away.
pub(super) fn conclude(
    spec: &Spec,
    stand_ins: Option<StandIns>,
    init: &mut Init,
    status: Option<ExitStatus>,
    end: End,
    watch: Watch<'_>,
) -> Result<Exit, Error> {
    let last = watch.finish();
    let report = wire::parse_report(&init.report);
    if let Some(report) = &report {
        remove_targets(spec, report)?;
    }
    let taken_out = stand_ins.map(StandIns::take_out).transpose();
    let restored = taken_out.map_err(Error::StandIns)?.unwrap_or_default();
    match (end, last) {
        (End::Canceled, _) => return Err(Error::Canceled),
        (End::Exceeded(exceeded), _) | (End::Itself | End::Alone, Some(exceeded)) => {
            return Err(Error::Exceeded(exceeded));
        }
        (End::Itself | End::Alone, None) => {}
    }
    let report = report.ok_or_else(|| Error::NoReport(status.unwrap_or_default()))?;
    if let Some(network) = init.network.take() {
        network.end().map_err(Error::Network)?;
    }
    let ended_well = status.is_none_or(|status| status.success());
    let (status, usage) = match report.outcome {
        Outcome::Exited { code, usage } => (Status::Code(code), usage),
        Outcome::Signaled { signal, usage } => (Status::Signal(signal), usage),
        Outcome::SetupFailed(failure) => return Err(Error::Setup(failure)),
    };
    if spec.tree.is_some() && !ended_well {
        return Err(Error::Leftovers);
    }
    Ok(Exit {
        status,
        usage,
        warnings: report.warnings,
        restored,
    })
}

fn remove_targets(spec: &Spec, report: &Report) -> Result<(), Error> {
    if report.created.is_empty() && report.touched.is_empty() {
        return Ok(());
    }
    let upper = sys::fs::open_directory(Path::new(&spec.upper)).map_err(Error::RemoveTargets)?;
    stubs::remove(upper.as_fd(), &report.created, &report.touched).map_err(Error::RemoveTargets)
}

/// A started init and this end of everything it is connected to.
#[derive(Debug)]
pub(super) struct Init {
    ground: Ground,
    child: Child,
    pub(super) socket: UnixStream,
    pub(super) stdout: Option<File>,
    pub(super) stderr: Option<File>,
    /// pid 1 of the sandbox, once it has introduced itself; readable when its pid namespace is gone.
    first: Option<OwnedFd>,
    /// The other side of the command's terminal, once it has one.
    pub(super) terminal: Option<OwnedFd>,
    /// The command, once it is started, if [`Spec::console`] asks for it.
    pub(super) command: Option<OwnedFd>,
    /// Init has begun to report.
    reporting: bool,
    report: Vec<u8>,
    network: Option<Isolated>,
}

impl Init {
    /// Init dies with this process (`PR_SET_PDEATHSIG` in prctl(2)).
    pub(super) fn start(ground: Ground) -> Result<Self, Error> {
        let is_isolated = match ground {
            Ground::Namespaces { network, .. } => network == Network::Isolated,
            Ground::Chroot => false,
        };
        let network = is_isolated
            .then(Isolated::start)
            .transpose()
            .map_err(Error::Network)?;
        let (ours, theirs) = UnixStream::pair().map_err(Error::Start)?;
        let (stdout, output) = io::pipe().map_err(Error::Start)?;
        let (stderr, error) = io::pipe().map_err(Error::Start)?;
        let standard = [theirs.into(), output.into(), error.into()];
        let child = spawner::spawn(&standard).map_err(Error::Start)?;
        Ok(Self {
            ground,
            child,
            socket: ours,
            stdout: Some(OwnedFd::from(stdout).into()),
            stderr: Some(OwnedFd::from(stderr).into()),
            first: None,
            terminal: None,
            command: None,
            reporting: false,
            report: Vec::new(),
            network,
        })
    }

    /// Its process id.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn ground(&self) -> Ground {
        self.ground
    }

    /// Lets it begin, as far as it can without orders.
    pub(super) fn give_ground(&self) -> Result<(), Error> {
        wire::send_ground(&self.socket, &self.ground).map_err(Error::Send)?;
        let Some(network) = &self.network else {
            return Ok(());
        };
        let namespace = network.namespace().try_clone_to_owned();
        let message = Message::Network(namespace.map_err(Error::Start)?);
        wire::send(&self.socket, &message).map_err(Error::Watch)
    }

    /// Sends the spec, which is of its ground, and what belongs to it, but for the command's input.
    pub(super) fn give_orders(&self, spec: &Spec) -> Result<(), Error> {
        wire::send_spec(&self.socket, spec).map_err(Error::Send)
    }

    /// Passes on output until init and pid 1 are gone or as good as that; says why they are.
    fn talk(
        &mut self,
        watch: &mut Watch<'_>,
        output: &mut dyn FnMut(Output, &[u8]),
        cancel: &Cancel,
    ) -> Result<End, Error> {
        for pipe in [&self.stdout, &self.stderr].into_iter().flatten() {
            fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
                .map_err(|errno| Error::Watch(sys::Error::new("fcntl", "F_SETFL", errno)))?;
        }
        let mut end = End::Itself;
        loop {
            let ready = match end {
                End::Itself | End::Alone => self.wait(Some(cancel), watch.timeout())?,
                End::Canceled | End::Exceeded(_) => self.wait(None, PollTimeout::NONE)?,
            };
            if ready.stdout {
                pass_on(&mut self.stdout, Output::Stdout, output);
            }
            if ready.stderr {
                pass_on(&mut self.stderr, Output::Stderr, output);
            }
            if ready.cancel {
                end = End::Canceled;
            }
            let open = !ready.socket || self.listen()?;
            if let End::Itself = end
                && let Some(exceeded) = self.look(watch)
            {
                end = End::Exceeded(exceeded);
            }
            if let End::Canceled | End::Exceeded(_) = end {
                self.kill()?;
            }
            if !open {
                return Ok(end);
            }
            if let End::Itself = end
                && !watch.is_grouped()
                && self.is_alone()
            {
                return Ok(End::Alone);
            }
        }
    }

    /// Whether it has reported, and nothing but its own end is to come.
    fn is_alone(&self) -> bool {
        self.reporting && wire::parse_report(&self.report).is_some_and(|report| report.is_alone)
    }

    /// What the sandbox has taken too much of.
    pub(super) fn look(&self, watch: &mut Watch<'_>) -> Option<Exceeded> {
        watch.look(self.first.as_ref())
    }

    /// Waits until something can be read, or for `timeout`; a switch that is `None` is not watched.
    fn wait(&self, cancel: Option<&Cancel>, timeout: PollTimeout) -> Result<Ready, Error> {
        let fds = [
            Some(self.socket.as_fd()),
            self.stdout.as_ref().map(|pipe| pipe.as_fd()),
            self.stderr.as_ref().map(|pipe| pipe.as_fd()),
            cancel.map(|cancel| cancel.as_fd()),
        ];
        let mut polled: Vec<PollFd<'_>> = fds
            .iter()
            .flatten()
            .map(|fd| PollFd::new(*fd, PollFlags::POLLIN))
            .collect();
        loop {
            match poll(&mut polled, timeout) {
                Ok(_) => break,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(Error::Watch(sys::Error::new("poll", "", errno))),
            }
        }
        let mut results = polled.iter();
        let [socket, stdout, stderr, cancel] = fds.map(|fd| {
            fd.is_some()
                && results
                    .next()
                    .is_some_and(|polled| polled.any() != Some(false))
        });
        Ok(Ready {
            socket,
            stdout,
            stderr,
            cancel,
        })
    }

    /// Reads what init says; false at the end of file, when both init and pid 1 have closed the socket.
    pub(super) fn listen(&mut self) -> Result<bool, Error> {
        if self.reporting {
            return self.read_report();
        }
        let message = match wire::receive(&self.socket) {
            // It was ended before it read its orders.
            Err(error) if error.errno == Errno::ECONNRESET => Message::Closed,
            other => other.map_err(Error::Watch)?,
        };
        match message {
            Message::Closed => return Ok(false),
            Message::First(first) => self.first = Some(first),
            Message::Terminal(terminal) => self.terminal = Some(terminal),
            Message::Command(command) => self.command = Some(command),
            Message::Report => self.reporting = true,
            // Only the parent sends these.
            Message::Input(_) | Message::Network(_) => {}
        }
        Ok(true)
    }

    fn read_report(&mut self) -> Result<bool, Error> {
        let mut buffer = [0; 4096];
        match (&self.socket).read(&mut buffer) {
            Ok(0) => Ok(false),
            Ok(length) => {
                self.report.extend_from_slice(&buffer[..length]);
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(true),
            // Init died with unread data in its socket; there is nothing more to come.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(false),
            Err(error) => Err(Error::Watch(sys::Error::new(
                "read",
                "socket of init",
                error.raw_os_error().map_or(Errno::EIO, Errno::from_raw),
            ))),
        }
    }

    /// Kills every process of the sandbox: with pid 1 dies its namespace. Before pid 1 has introduced
    /// itself, init sees the end of the socket and does it.
    pub(super) fn kill(&self) -> Result<(), Error> {
        if let Some(first) = &self.first {
            process::pidfd_kill(first).map_err(Error::Watch)?;
        }
        match self.socket.shutdown(Shutdown::Write) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(()),
            Err(error) => Err(Error::Send(error)),
        }
    }

    /// Waits until no process of the sandbox is left, killing them first if asked to.
    ///
    /// Without namespaces init is not killed: it is what ends the others, at the end of its socket.
    pub(super) fn reap(&mut self, kill: bool) -> io::Result<ExitStatus> {
        if kill {
            // A failure here leaves the second way, and that init dies with this thread.
            drop(self.kill());
            if self.ground != Ground::Chroot {
                self.child.kill()?;
            }
        }
        if let Some(first) = &self.first {
            let mut gone = [PollFd::new(first.as_fd(), PollFlags::POLLIN)];
            while poll(&mut gone, PollTimeout::NONE) == Err(Errno::EINTR) {}
        }
        self.child.wait()
    }

    /// Ends one that has no orders: it sees the end of its socket. Nothing of it is left afterwards.
    pub(super) fn dismiss(mut self) {
        drop(self.socket.shutdown(Shutdown::Write));
        while let Ok(true) = self.listen() {}
        drop(self.child.wait());
    }

    /// Passes on what is left in the pipes. Their writers are dead, except for a process outside that
    /// the command handed its output to, which is not waited for.
    fn drain(&mut self, output: &mut dyn FnMut(Output, &[u8])) {
        /// A pipe holds 64 KiB, or up to 1 MiB if the command asked for it (pipe(7)).
        const READS: usize = 17;
        for _ in 0..READS {
            pass_on(&mut self.stdout, Output::Stdout, output);
            pass_on(&mut self.stderr, Output::Stderr, output);
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Ready {
    socket: bool,
    stdout: bool,
    stderr: bool,
    cancel: bool,
}

/// Reads once from a pipe that does not block; at its end it becomes `None`.
fn pass_on(pipe: &mut Option<File>, name: Output, output: &mut dyn FnMut(Output, &[u8])) {
    let mut buffer = [0; 65_536];
    let Some(file) = pipe else { return };
    match file.read(&mut buffer) {
        Ok(length) if length > 0 => output(name, &buffer[..length]),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
        Ok(_) | Err(_) => *pipe = None,
    }
}
