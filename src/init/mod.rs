//! The init room: entered by exec with `sandbox::INIT_NAME` as argv[0], forks for each sandbox
//! ([`spawner`]), builds it from a `Spec` and runs one command in it. It interprets, it decides nothing.
//!
//! Three processes of a sandbox share this code. The first learns of the [`Ground`], makes the namespaces and
//! forks; from then on it only waits, and kills the second should the parent go away. The second is pid 1 of
//! the sandbox: it [lays the ground](ground), reads the spec, which may come much later, mounts, enters the new
//! root, starts the third, reaps, kills what is left, reports and exits. The third gives up its privileges and
//! becomes the command.
//!
//! With [`Spec::tree`] there are no namespaces ([`chroot`]): the second enters a chroot, and the first
//! ends whatever is left.
//!
//! With one id in the user namespace the first process starts one more, the [`supervisor`], which answers
//! system calls of the command.
//!
//! What each of them holds:
//!
//! | process | descriptors | capabilities | root |
//! |---|---|---|---|
//! | spawner | its own socket (0) | all of the build's user namespace | host |
//! | first | socket (0), pipes (1, 2), pidfd of pid 1 | all of the build's user namespace | host |
//! | pid 1 until the pivot | those, and the mounts it makes | the same | host |
//! | pid 1 afterwards | socket, pipes | the same; not dumpable, so closed to the command | image |
//! | supervisor | the filter's listener, /proc and the upper directory as they were, pipes | all of the build's user namespace | host until there is a listener, then image |
//! | command | /dev/null (0), pipes (1, 2); or what `Spec::console` says | `payload::CAPABILITIES` for uid 0, else none | image |

mod chroot;
mod console;
mod devices;
mod failure;
mod filesystems;
mod ground;
mod payload;
mod rootfs;
mod spawner;
mod supervisor;
mod targets;
mod workdir;

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::CloneFlags;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{ForkResult, Pid, getpid, sethostname};

use crate::sandbox::spec::{
    Console, Created, Failure, Ground, Network, Outcome, Report, Spec, Step, Touched,
};
use crate::sandbox::wire::{self, Message};
use crate::sys::{self, process};
use failure::{At as _, unspecific};

/// Forks whenever the parent wants an init.
pub(crate) fn main() -> ExitCode {
    match connect().and_then(spawner::serve) {
        Ok(true) => init(),
        Ok(false) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Reads the [`Ground`] and the [`Spec`] from standard input, runs the command and reports on the same socket.
fn init() -> ExitCode {
    // Without a socket there is nobody to report to.
    let Ok(socket) = connect() else {
        return ExitCode::FAILURE;
    };
    let started = receive_ground(&socket)
        .map_err(|error| unspecific(Step::ReadSpec, &error))
        .and_then(|(ground, network)| start(ground, &socket, network));
    let Err(failure) = started else {
        return ExitCode::SUCCESS;
    };
    let report = Notes::default().report(Outcome::SetupFailed(failure));
    // A parent that is gone does not want it.
    drop(send_report(&socket, &report));
    ExitCode::FAILURE
}

/// The ground, and the network namespace of the sandbox if it says that this follows.
fn receive_ground(socket: &UnixStream) -> io::Result<(Ground, Option<OwnedFd>)> {
    let ground = wire::receive_ground(socket)?;
    let network = match ground {
        Ground::Namespaces {
            network: Network::Isolated,
            ..
        } => match wire::receive(socket)? {
            Message::Network(network) => Some(network),
            _ => return Err(io::ErrorKind::InvalidData.into()),
        },
        Ground::Namespaces { .. } | Ground::Chroot => None,
    };
    Ok((ground, network))
}

/// The spec, and what the command will read if it says that this follows.
fn receive_spec(socket: &UnixStream) -> io::Result<(Spec, Option<OwnedFd>)> {
    let spec = wire::receive_spec(socket)?;
    let input = match spec.console {
        Console::Attached { input: true } => match wire::receive(socket)? {
            Message::Input(input) => Some(input),
            _ => return Err(io::ErrorKind::InvalidData.into()),
        },
        _ => None,
    };
    Ok((spec, input))
}

fn send_report(socket: &UnixStream, report: &Report) -> io::Result<()> {
    wire::send(socket, &Message::Report)?;
    wire::send_report(socket, report)
}

/// What pid 1 has to say beside the outcome.
#[derive(Debug, Default)]
struct Notes {
    warnings: Vec<String>,
    created: Vec<Created>,
    touched: Vec<Touched>,
    is_alone: bool,
}

impl Notes {
    fn report(self, outcome: Outcome) -> Report {
        Report {
            outcome,
            warnings: self.warnings,
            created: self.created,
            touched: self.touched,
            is_alone: self.is_alone,
        }
    }
}

/// Cuts every tie to the parent but standard input, output and error.
fn connect() -> io::Result<UnixStream> {
    process::close_inherited()?;
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    prctl::set_dumpable(false)?;
    let socket: OwnedFd = io::stdin().as_fd().try_clone_to_owned()?;
    Ok(UnixStream::from(socket))
}

fn start(ground: Ground, socket: &UnixStream, network: Option<OwnedFd>) -> Result<(), Failure> {
    let Ground::Namespaces {
        network: kind,
        is_emulated,
        ..
    } = ground
    else {
        return chroot::start(socket);
    };
    let mut namespaces = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWCGROUP;
    if kind == Network::None {
        namespaces |= CloneFlags::CLONE_NEWNET;
    }
    // Before the pid namespace, which it must not be in, and from which no thread can be started.
    let (supervisor, channel) = if is_emulated {
        let (supervisor, channel) = supervisor::start().at(Step::Supervise)?;
        (Some(supervisor), Some(channel))
    } else {
        (None, None)
    };
    if let Some(network) = network {
        nix::sched::setns(network, CloneFlags::CLONE_NEWNET)
            .map_err(|errno| sys::Error::new("setns", "network", errno))
            .at(Step::Namespaces)?;
    }
    nix::sched::unshare(namespaces)
        .map_err(|errno| sys::Error::new("unshare", "", errno))
        .at(Step::Namespaces)?;
    match process::fork().at(Step::Fork)? {
        ForkResult::Child => process::exit_now(first(ground, socket, channel)),
        ForkResult::Parent { child } => {
            drop(channel);
            watch(child, socket, supervisor.as_ref())
        }
    }
}

/// Waits for pid 1, and kills it when the parent hangs up or the supervisor ends: a call without an
/// answer must not look like one that failed. When this returns, the supervisor is gone too.
fn watch(
    child: Pid,
    socket: &UnixStream,
    supervisor: Option<&supervisor::Process>,
) -> Result<(), Failure> {
    let pidfd = process::pidfd_open(child).at(Step::Wait)?;
    let mut polled = vec![
        PollFd::new(pidfd.as_fd(), PollFlags::POLLIN),
        // What the parent sends is for pid 1, its hanging up is not.
        PollFd::new(socket.as_fd(), PollFlags::from_bits_retain(libc::POLLRDHUP)),
    ];
    polled.extend(supervisor.map(|supervisor| PollFd::new(supervisor.as_fd(), PollFlags::POLLIN)));
    loop {
        match poll(&mut polled, PollTimeout::NONE) {
            Ok(_) => break,
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(sys::Error::new("poll", "", errno)).at(Step::Wait),
        }
    }
    let is_over = polled[0].any() == Some(true);
    if !is_over {
        process::pidfd_kill(&pidfd).at(Step::Wait)?;
    }
    process::wait(Some(child)).at(Step::Wait)?;
    let Some(supervisor) = supervisor else {
        return Ok(());
    };
    let ended = supervisor.end().at(Step::Wait)?;
    if !is_over && polled[2].any() == Some(true) {
        return Err(Failure {
            step: Step::Supervisor,
            errno: 0,
            detail: format!("the supervisor of the sandbox ended {ended}"),
        });
    }
    Ok(())
}

/// The life of pid 1; its exit code, which nobody but a debugger sees.
fn first(ground: Ground, socket: &UnixStream, channel: Option<UnixStream>) -> i32 {
    let introduced = prctl::set_pdeathsig(Signal::SIGKILL)
        .map_err(|errno| sys::Error::new("prctl", "PR_SET_PDEATHSIG", errno))
        .and_then(|()| process::pidfd_open(getpid()))
        .and_then(|pidfd| wire::send(socket, &Message::First(pidfd)));
    if introduced.is_err() {
        return 1;
    }
    umask(Mode::from_bits_truncate(0o022));
    let mut notes = Notes::default();
    let outcome = run(ground, socket, channel, &mut notes).unwrap_or_else(Outcome::SetupFailed);
    match send_report(socket, &notes.report(outcome)) {
        Ok(()) => 0,
        Err(_) => 1,
    }
}

fn run(
    ground: Ground,
    socket: &UnixStream,
    channel: Option<UnixStream>,
    notes: &mut Notes,
) -> Result<Outcome, Failure> {
    let laid = match ground {
        Ground::Namespaces {
            network, shm_size, ..
        } => Some(ground::lay(network, shm_size, notes)?),
        Ground::Chroot => None,
    };
    let (spec, input) = receive_spec(socket).map_err(|error| unspecific(Step::ReadSpec, &error))?;
    let spec = &spec;
    if let Some(tree) = &spec.tree {
        chroot::enter(tree).at(Step::Rootfs)?;
    }
    if let (Some(emulation), Some(channel)) = (&spec.emulation, &channel) {
        wire::send_emulation(channel, emulation, &spec.upper)
            .map_err(|error| unspecific(Step::Supervise, &error))?;
    }
    let Some(laid) = laid else {
        return payload::run(spec, socket, input, channel);
    };
    let root = rootfs::build(spec, laid, notes)?;
    if let Err(errno) = sethostname(&spec.hostname) {
        notes.warnings.push(format!(
            "the host does not let a sandbox have its own host name ({})",
            errno.desc()
        ));
    }
    if spec.network == Network::None {
        process::loopback_up().at(Step::Network)?;
    }
    sys::mount::pivot_to(&root).at(Step::PivotRoot)?;
    drop(root);
    let outcome = payload::run(spec, socket, input, channel)?;
    process::end_all_others().at(Step::Wait)?;
    // The supervisor may still be about to write what a process wanted that is gone.
    notes.is_alone = spec.emulation.is_none();
    Ok(outcome)
}
