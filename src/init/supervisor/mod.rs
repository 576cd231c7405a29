//! Answers the calls that [`crate::sandbox::emulation`] traps.
//!
//! It is a process beside init's first: in the user and mount namespaces of the sandbox and with its
//! root, outside of its pid namespace, so that no process of the sandbox reaches it. Its working directory is
//! the /proc in which it sees the callers; a path of theirs is below `PID/cwd`, `PID/fd/N`, or absolute.
//! Nothing of the host but that is open to it. When it ends, so does the sandbox.
//!
//! One call is answered at a time: two could not speed up one process, and the mode mask and the working
//! directory of the supervisor stand for those of the caller.

mod acquaintance;
mod attributes;
mod caller;
mod create;
mod credentials;
mod dispatch;
mod execute;
mod files;
mod identity;
mod layout;
mod records;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::CloneFlags;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::{ForkResult, Pid, getpid};

use self::acquaintance::Acquaintance;
use self::caller::Caller;
use self::credentials::Credentials;
use self::records::Records;
use crate::sandbox::passwd::Identity;
use crate::sandbox::spec::Emulation;
use crate::sandbox::wire;
use crate::sys::notify::{Listener, Response};
use crate::sys::process::Ended;
use crate::sys::{self, fs, process};

/// What has to be opened while the host is still there.
struct Prepared {
    proc: OwnedFd,
    tables: Vec<Vec<u8>>,
    table: File,
    upper: OwnedFd,
}

/// The running supervisor.
pub(super) struct Process {
    pid: Pid,
    pidfd: OwnedFd,
}

impl AsFd for Process {
    /// Readable once it has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl Process {
    /// Ends it, and says how it ended.
    pub(super) fn end(&self) -> sys::Result<String> {
        process::pidfd_kill(&self.pidfd)?;
        Ok(match process::wait(Some(self.pid))?.1 {
            Ended::Code(code) => format!("with exit code {code}"),
            Ended::Signal(signal) => format!("by signal {signal}"),
        })
    }
}

/// Starts the supervisor of a sandbox that this process is about to make. On the stream it waits for what
/// [`wire::send_emulation`] sends, then for the command to [hand its filter over](hand_over).
pub(super) fn start() -> sys::Result<(Process, UnixStream)> {
    let (ours, theirs) = UnixStream::pair().map_err(|error| {
        let errno = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
        sys::Error::new("socketpair", "", errno)
    })?;
    let maker = getpid();
    match process::fork()? {
        ForkResult::Child => {
            drop(theirs);
            let error = serve(ours, maker);
            // Standard error is the command's, where whoever looks for the reason finds it.
            drop(writeln!(std::io::stderr(), "rbuild: supervisor: {error}"));
            process::exit_now(1)
        }
        ForkResult::Parent { child } => {
            let pidfd = process::pidfd_open(child)?;
            Ok((Process { pid: child, pidfd }, theirs))
        }
    }
}

/// Waits for its orders, then for the command's filter, and answers calls for as long as there is one.
/// Returns only what went wrong.
fn serve(channel: UnixStream, maker: Pid) -> sys::Error {
    match try_serve(channel, maker) {
        Ok(()) => sys::Error::new("ioctl", "SECCOMP_IOCTL_NOTIF_RECV", Errno::EIO),
        Err(error) => error,
    }
}

fn try_serve(channel: UnixStream, maker: Pid) -> sys::Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)
        .map_err(|errno| sys::Error::new("prctl", "supervisor", errno))?;
    let Ok((emulation, upper)) = wire::receive_emulation(&channel) else {
        not_wanted();
    };
    let prepared = Prepared::open(&emulation, &upper)?;
    let Some((listener, identity)) = wire::receive_listener(&channel)? else {
        not_wanted();
    };
    drop(channel);
    prepared.answer(maker, listener, &identity)
}

/// The command was not started, which is reported elsewhere, or never wanted.
fn not_wanted() -> ! {
    loop {
        nix::unistd::pause();
    }
}

/// How a call ends.
enum Reply {
    Continue,
    Value(i64),
    Descriptor { fd: OwnedFd, close_on_exec: bool },
}

struct Supervisor {
    proc: OwnedFd,
    root: OwnedFd,
    records: Records,
    /// Every identity that a process has had; the first is that of the command.
    known: Vec<Credentials>,
    index: HashMap<Credentials, usize>,
    /// Groups in all of `known`.
    known_groups: usize,
    /// Whether a process may have another root than the sandbox's.
    has_chroots: bool,
}

impl Prepared {
    fn open(emulation: &Emulation, upper: &OsStr) -> sys::Result<Self> {
        let failed = |path: &Path, error: &std::io::Error| {
            let errno = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
            sys::Error::on("open", path, errno)
        };
        let mut tables = Vec::new();
        for path in &emulation.tables {
            let path = Path::new(path);
            match std::fs::read(path) {
                Ok(table) => tables.push(table),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(path, &error)),
            }
        }
        let path = Path::new(&emulation.table);
        let table = File::options()
            .append(true)
            .create(true)
            .open(path)
            .map_err(|error| failed(path, &error))?;
        Ok(Self {
            proc: fs::open_directory(Path::new("/proc"))?,
            tables,
            table,
            upper: fs::open_directory(Path::new(upper))?,
        })
    }

    /// Enters the sandbox of `maker`, and answers the calls of its command until none can come.
    fn answer(self, maker: Pid, listener: OwnedFd, identity: &Identity) -> sys::Result<()> {
        let failed = |call| move |errno| sys::Error::new(call, "supervisor", errno);
        // The command comes after the pivot, so the root of the namespace is the image's by now.
        let place = format!("{maker}/ns/mnt");
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let mounts = nix::fcntl::openat(&self.proc, place.as_str(), flags, Mode::empty())
            .map_err(failed("open"))?;
        nix::sched::setns(mounts, CloneFlags::CLONE_NEWNS).map_err(failed("setns"))?;
        let root =
            open("/", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).map_err(failed("open"))?;
        nix::unistd::fchdir(&self.proc).map_err(failed("fchdir"))?;
        let mut records = Records::new(&self.tables, self.table, self.upper);
        records.enter().map_err(failed("stat"))?;
        nix::sys::stat::umask(Mode::empty());
        let command = Credentials::of(identity);
        let mut supervisor = Supervisor {
            proc: self.proc,
            root,
            records,
            index: HashMap::from([(command.clone(), 0)]),
            known_groups: command.groups.len(),
            known: vec![command],
            has_chroots: false,
        };
        let listener = Listener::from(listener);
        listener.prefer_one_cpu();
        supervisor.answer_all(&listener)
    }
}

impl Supervisor {
    fn answer_all(&mut self, listener: &Listener) -> sys::Result<()> {
        let failed = |call| move |errno| sys::Error::new("ioctl", call, errno);
        let known = Acquaintance::default();
        loop {
            let notification = match listener.receive() {
                Ok(notification) => notification,
                // Whoever asked is gone, or a signal came for us.
                Err(Errno::ENOENT | Errno::EINTR) => continue,
                Err(errno) => return Err(failed("SECCOMP_IOCTL_NOTIF_RECV")(errno)),
            };
            let caller = Caller::new(listener, &known, notification);
            let response = match self.answer(&caller) {
                Ok(Reply::Continue) => Response::Continue,
                Ok(Reply::Value(value)) => Response::Value(value),
                Ok(Reply::Descriptor { fd, close_on_exec }) => {
                    match listener.respond_with(caller.id(), &fd, close_on_exec) {
                        Ok(()) => continue,
                        Err(errno) => Response::Errno(errno),
                    }
                }
                Err(errno) => Response::Errno(errno),
            };
            listener
                .respond(caller.id(), response)
                .map_err(failed("SECCOMP_IOCTL_NOTIF_SEND"))?;
        }
    }

    fn answer(&mut self, caller: &Caller<'_>) -> nix::Result<Reply> {
        let Some(call) = caller.call() else {
            return Ok(Reply::Continue);
        };
        if !self.has_chroots {
            return self.carry_out(caller, call);
        }
        // In the caller's root its absolute paths and links mean what they mean to the caller.
        nix::unistd::chroot(format!("{}/root", caller.pid()).as_str())?;
        self.records.leave(self.root.try_clone().ok());
        let reply = self.carry_out(caller, call);
        self.records.leave(None);
        nix::unistd::fchdir(self.root.as_fd())?;
        nix::unistd::chroot(".")?;
        nix::unistd::fchdir(self.proc.as_fd())?;
        reply
    }
}

/// Tells the supervisor which filter to answer for, and who the command is.
pub(super) fn hand_over(
    channel: &UnixStream,
    listener: &Listener,
    identity: &Identity,
) -> sys::Result<()> {
    wire::send_listener(channel, listener.as_fd(), identity)
}
