//! The init room: entered by exec with `sandbox::INIT_NAME` as argv[0], forks for each sandbox
//! ([`spawner`]), builds it from a `Spec` and runs one command in it. It interprets, it decides nothing.
//!
//! Three processes of a sandbox share this code. The first reads the spec, makes the namespaces and forks; from then on
//! it only waits, and kills the second should the parent go away. The second is pid 1 of the sandbox:
//! it mounts, enters the new root, forks the third, reaps, reports and exits, whereupon the kernel kills
//! what is left. The third gives up its privileges and becomes the command.
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
//! | supervisor | the filter's listener, /proc and the upper directory as they were, pipes | all of the build's user namespace | image |
//! | command | /dev/null (0), pipes (1, 2); or what `Spec::console` says | `payload::CAPABILITIES` for uid 0, else none | image |

mod chroot;
mod console;
mod devices;
mod failure;
mod filesystems;
mod payload;
mod rootfs;
mod spawner;
mod supervisor;
mod targets;
mod workdir;

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::CloneFlags;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{ForkResult, Pid, getpid, sethostname};

use crate::sandbox::spec::{
    Console, Created, Failure, Network, Outcome, Report, Spec, Step, Touched,
};
use crate::sandbox::wire::{self, Message};
use crate::sys::{self, process};
use failure::At as _;

/// Forks whenever the parent wants an init.
pub(crate) fn main() -> ExitCode {
    match connect().and_then(spawner::serve) {
        Ok(true) => init(),
        Ok(false) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Reads the `Spec` from standard input, runs its command and reports on the same socket.
fn init() -> ExitCode {
    // Without a socket there is nobody to report to.
    let Ok(socket) = connect() else {
        return ExitCode::FAILURE;
    };
    let failure = match receive_orders(&socket) {
        Ok((spec, input, network)) => match start(&spec, &socket, input, network) {
            Ok(()) => return ExitCode::SUCCESS,
            Err(failure) => failure,
        },
        Err(error) => Failure {
            step: Step::ReadSpec,
            errno: error.raw_os_error().unwrap_or(0),
            detail: error.to_string(),
        },
    };
    let report = Notes::default().report(Outcome::SetupFailed(failure));
    // A parent that is gone does not want it.
    drop(send_report(&socket, &report));
    ExitCode::FAILURE
}

/// The spec, and what it says that follows: what the command will read, and its network namespace.
fn receive_orders(socket: &UnixStream) -> io::Result<(Spec, Option<OwnedFd>, Option<OwnedFd>)> {
    let spec = wire::receive_spec(socket)?;
    let input = match spec.console {
        Console::Attached { input: true } => match wire::receive(socket)? {
            Message::Input(input) => Some(input),
            _ => return Err(io::ErrorKind::InvalidData.into()),
        },
        _ => None,
    };
    let network = match spec.network {
        Network::Isolated => match wire::receive(socket)? {
            Message::Network(network) => Some(network),
            _ => return Err(io::ErrorKind::InvalidData.into()),
        },
        Network::Host | Network::None => None,
    };
    Ok((spec, input, network))
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
}

impl Notes {
    fn report(self, outcome: Outcome) -> Report {
        Report {
            outcome,
            warnings: self.warnings,
            created: self.created,
            touched: self.touched,
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

fn start(
    spec: &Spec,
    socket: &UnixStream,
    input: Option<OwnedFd>,
    network: Option<OwnedFd>,
) -> Result<(), Failure> {
    if spec.tree.is_some() {
        return chroot::start(spec, socket, input);
    }
    let mut namespaces = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWCGROUP;
    if spec.network == Network::None {
        namespaces |= CloneFlags::CLONE_NEWNET;
    }
    // Before the pid namespace, which it must not be in, and from which no thread can be started.
    let (supervisor, channel) = match &spec.emulation {
        None => (None, None),
        Some(emulation) => {
            let upper = Path::new(&spec.upper);
            let (supervisor, channel) = supervisor::start(emulation, upper).at(Step::Supervise)?;
            (Some(supervisor), Some(channel))
        }
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
        ForkResult::Child => process::exit_now(first(spec, socket, input, channel)),
        ForkResult::Parent { child } => {
            drop(input);
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
        // After the spec the parent sends nothing, so this is the end of the socket.
        PollFd::new(socket.as_fd(), PollFlags::POLLIN),
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
fn first(
    spec: &Spec,
    socket: &UnixStream,
    input: Option<OwnedFd>,
    channel: Option<UnixStream>,
) -> i32 {
    let introduced = prctl::set_pdeathsig(Signal::SIGKILL)
        .map_err(|errno| sys::Error::new("prctl", "PR_SET_PDEATHSIG", errno))
        .and_then(|()| process::pidfd_open(getpid()))
        .and_then(|pidfd| wire::send(socket, &Message::First(pidfd)));
    if introduced.is_err() {
        return 1;
    }
    umask(Mode::from_bits_truncate(0o022));
    let mut notes = Notes::default();
    let outcome =
        run(spec, socket, input, channel, &mut notes).unwrap_or_else(Outcome::SetupFailed);
    match send_report(socket, &notes.report(outcome)) {
        Ok(()) => 0,
        Err(_) => 1,
    }
}

fn run(
    spec: &Spec,
    socket: &UnixStream,
    input: Option<OwnedFd>,
    channel: Option<UnixStream>,
    notes: &mut Notes,
) -> Result<Outcome, Failure> {
    if let Some(tree) = &spec.tree {
        chroot::enter(tree).at(Step::Rootfs)?;
        return payload::run(spec, socket, input, channel);
    }
    let root = rootfs::build(spec, notes)?;
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
    payload::run(spec, socket, input, channel)
}
