//! Answers the calls that [`crate::sandbox::emulation`] traps.
//!
//! It is a process beside init's first: in the user and mount namespaces of the sandbox and with its
//! root, outside of its pid namespace, so that no process of the sandbox reaches it. Its working directory is
//! the /proc in which it sees the callers; a path of theirs is below `PID/cwd`, `PID/fd/N`, or absolute.
//! Nothing of the host but that is open to it. When it ends, so does the sandbox.
//!
//! One call is answered at a time: two could not speed up one process, and the mode mask and the working
//! directory of the supervisor stand for those of the caller.

mod attributes;
mod caller;
mod create;
mod credentials;
mod execute;
mod files;
mod identity;
mod layout;
mod records;

use std::collections::HashMap;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use caps::Capability;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::CloneFlags;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::{ForkResult, Pid, getpid};

use self::caller::{Caller, Lookup, Target};
use self::credentials::Credentials;
use self::records::Records;
use crate::sandbox::emulation::calls::{Call, Subject};
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

/// Starts the supervisor of a sandbox that this process is about to make. The command hands its filter
/// over on the stream.
pub(super) fn start(emulation: &Emulation, upper: &Path) -> sys::Result<(Process, UnixStream)> {
    let prepared = Prepared::open(emulation, upper)?;
    let (ours, theirs) = UnixStream::pair().map_err(|error| {
        let errno = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
        sys::Error::new("socketpair", "", errno)
    })?;
    let maker = getpid();
    match process::fork()? {
        ForkResult::Child => {
            drop(theirs);
            let error = prepared.serve(ours, maker);
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
    fn open(emulation: &Emulation, upper: &Path) -> sys::Result<Self> {
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
            upper: fs::open_directory(upper)?,
        })
    }

    /// Waits for the command's filter, enters the sandbox of `maker`, and answers calls for as long as
    /// there is one. Returns only what went wrong.
    fn serve(self, channel: UnixStream, maker: Pid) -> sys::Error {
        match self.try_serve(channel, maker) {
            Ok(()) => sys::Error::new("ioctl", "SECCOMP_IOCTL_NOTIF_RECV", Errno::EIO),
            Err(error) => error,
        }
    }

    fn try_serve(self, channel: UnixStream, maker: Pid) -> sys::Result<()> {
        let failed = |call| move |errno| sys::Error::new(call, "supervisor", errno);
        prctl::set_pdeathsig(Signal::SIGKILL).map_err(failed("prctl"))?;
        let Some((listener, identity)) = wire::receive_listener(&channel)? else {
            // The command was not started, which is reported elsewhere.
            loop {
                nix::unistd::pause();
            }
        };
        drop(channel);
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
        let command = Credentials::of(&identity);
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
        loop {
            let notification = match listener.receive() {
                Ok(notification) => notification,
                // Whoever asked is gone, or a signal came for us.
                Err(Errno::ENOENT | Errno::EINTR) => continue,
                Err(errno) => return Err(failed("SECCOMP_IOCTL_NOTIF_RECV")(errno)),
            };
            let caller = Caller::new(listener, notification);
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

    fn carry_out(&mut self, caller: &Caller<'_>, call: Call) -> nix::Result<Reply> {
        use super::supervisor::files::id;
        const USER: Capability = Capability::CAP_SETUID;
        const GROUP: Capability = Capability::CAP_SETGID;
        const HERE: i32 = libc::AT_FDCWD;
        const FOLLOW: Lookup = Lookup {
            no_follow: false,
            allows_empty: false,
        };
        const NO_FOLLOW: Lookup = Lookup {
            no_follow: true,
            allows_empty: false,
        };
        let lookup = |flags: i32| Lookup {
            no_follow: flags & libc::AT_SYMLINK_NOFOLLOW != 0,
            allows_empty: flags & libc::AT_EMPTY_PATH != 0,
        };
        match call {
            Call::Stat(layout) | Call::Lstat(layout) => {
                let lookup = if matches!(call, Call::Stat(_)) {
                    FOLLOW
                } else {
                    NO_FOLLOW
                };
                let target = caller.target_at(HERE, caller.address(0), lookup)?;
                self.stat(caller, target.as_ref(), layout, caller.address(1))
            }
            Call::Fstat(layout) => {
                let target = caller.descriptor(caller.int(0));
                self.stat(caller, target.as_ref(), layout, caller.address(1))
            }
            Call::StatAt(layout) => {
                let flags = caller.int(3);
                if flags & !files::STAT_FLAGS != 0 {
                    return Ok(Reply::Continue);
                }
                let target = caller.target_at(caller.int(0), caller.address(1), lookup(flags))?;
                self.stat(caller, target.as_ref(), layout, caller.address(2))
            }
            Call::Statx => self.statx(caller),
            Call::Chown(width) | Call::Lchown(width) => {
                let owner = (id(caller, 1, width), id(caller, 2, width));
                let lookup = if matches!(call, Call::Chown(_)) {
                    FOLLOW
                } else {
                    NO_FOLLOW
                };
                self.chown_path(caller, HERE, caller.address(0), lookup, owner)
            }
            Call::Fchown(width) => {
                let owner = (id(caller, 1, width), id(caller, 2, width));
                self.fchown(caller, owner)
            }
            Call::ChownAt => {
                let owner = (caller.word(2), caller.word(3));
                let flags = caller.int(4);
                if flags & !(libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH) != 0 {
                    return Err(Errno::EINVAL);
                }
                let lookup = lookup(flags);
                self.chown_path(caller, caller.int(0), caller.address(1), lookup, owner)
            }
            Call::Open => {
                let (flags, mode) = (caller.int(1), caller.word(2));
                self.open(caller, HERE, caller.address(0), flags, mode)
            }
            Call::OpenAt => {
                let (flags, mode) = (caller.int(2), caller.word(3));
                self.open(caller, caller.int(0), caller.address(1), flags, mode)
            }
            Call::Creat => {
                let flags = libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC;
                self.open(caller, HERE, caller.address(0), flags, caller.word(1))
            }
            Call::OpenAt2 => self.open_how(caller),
            Call::Mkdir => self.make_directory(caller, HERE, caller.address(0), caller.word(1)),
            Call::MkdirAt => {
                self.make_directory(caller, caller.int(0), caller.address(1), caller.word(2))
            }
            Call::Symlink => self.make_link(caller, caller.address(0), HERE, caller.address(1)),
            Call::SymlinkAt => {
                self.make_link(caller, caller.address(0), caller.int(1), caller.address(2))
            }
            Call::Mknod => {
                let (mode, device) = (caller.word(1), caller.word(2));
                self.make_node(caller, HERE, caller.address(0), mode, device)
            }
            Call::MknodAt => {
                let (mode, device) = (caller.word(2), caller.word(3));
                self.make_node(caller, caller.int(0), caller.address(1), mode, device)
            }
            Call::Bind => self.bind(caller),
            Call::PeerCredentials => self.peer(caller),
            Call::Execute => self.execute(caller, HERE, caller.address(0), FOLLOW),
            Call::ExecuteAt => {
                let lookup = lookup(caller.int(4));
                self.execute(caller, caller.int(0), caller.address(1), lookup)
            }
            Call::SetUid(width) => {
                self.set_ids(caller, width, USER, |who, [id, ..]| who.set_user(id))
            }
            Call::SetGid(width) => {
                self.set_ids(caller, width, GROUP, |who, [id, ..]| who.set_group(id))
            }
            Call::SetReUid(width) => {
                self.set_ids(caller, width, USER, |who, [real, effective, _]| {
                    who.set_users(real, effective)
                })
            }
            Call::SetReGid(width) => {
                self.set_ids(caller, width, GROUP, |who, [real, effective, _]| {
                    who.set_both_groups(real, effective)
                })
            }
            Call::SetResUid(width) => {
                self.set_ids(caller, width, USER, |who, [real, effective, saved]| {
                    who.set_all_users(real, effective, saved)
                })
            }
            Call::SetResGid(width) => {
                self.set_ids(caller, width, GROUP, |who, [real, effective, saved]| {
                    who.set_all_groups(real, effective, saved)
                })
            }
            Call::SetFsUid(width) => {
                let id = id(caller, 0, width);
                self.change_with(caller, USER, |who| Ok(who.set_file_user(id).into()))
            }
            Call::SetFsGid(width) => {
                let id = id(caller, 0, width);
                self.change_with(caller, GROUP, |who| Ok(who.set_file_group(id).into()))
            }
            Call::SetGroups(width) => self.set_groups(caller, width),
            Call::GetUid(width) => self.get_id(caller, width, |who| who.user.real),
            Call::GetEUid(width) => self.get_id(caller, width, |who| who.user.effective),
            Call::GetGid(width) => self.get_id(caller, width, |who| who.group.real),
            Call::GetEGid(width) => self.get_id(caller, width, |who| who.group.effective),
            Call::GetResUid(width) => self.get_all(caller, width, |who| who.user),
            Call::GetResGid(width) => self.get_all(caller, width, |who| who.group),
            Call::GetGroups(width) => self.get_groups(caller, width),
            Call::Prctl => self.prctl(caller),
            Call::SetLimit => Ok(Reply::Value(0)),
            Call::GetLimit(width) => self.get_limit(caller, caller.address(1), width),
            Call::Prlimit => {
                let width = crate::sandbox::emulation::calls::LimitWidth::Eight;
                self.get_limit(caller, caller.address(3), width)
            }
            Call::GetAttribute(_) => Self::get_attribute(caller),
            Call::SetAttribute(subject) | Call::RemoveAttribute(subject) => {
                self.hold_subject(caller, subject)?;
                self.change_attribute(caller)
            }
            Call::ListAttributes(subject) => Self::list_attributes(caller, subject),
            Call::Chroot => {
                if !self.credentials(caller)?.is_capable() {
                    return Err(Errno::EPERM);
                }
                self.has_chroots = true;
                Ok(Reply::Continue)
            }
            Call::Rename | Call::Link => self.hold(caller, HERE, caller.address(0), NO_FOLLOW),
            Call::RenameAt => self.hold(caller, caller.int(0), caller.address(1), NO_FOLLOW),
            Call::RenameAt2 => {
                if caller.word(4) & libc::RENAME_EXCHANGE != 0 {
                    self.hold(caller, caller.int(2), caller.address(3), NO_FOLLOW)?;
                }
                self.hold(caller, caller.int(0), caller.address(1), NO_FOLLOW)
            }
            Call::LinkAt => {
                let lookup = Lookup {
                    no_follow: caller.int(4) & libc::AT_SYMLINK_FOLLOW == 0,
                    allows_empty: false,
                };
                self.hold(caller, caller.int(0), caller.address(1), lookup)
            }
            Call::SetTimes => self.hold(caller, HERE, caller.address(0), FOLLOW),
            Call::SetTimesAt if caller.address(1) == 0 => {
                self.hold_target(caller.descriptor(caller.int(0)));
                Ok(Reply::Continue)
            }
            Call::SetTimesAt => {
                let lookup = lookup(caller.int(3));
                self.hold(caller, caller.int(0), caller.address(1), lookup)
            }
            Call::Chmod => {
                let target = caller.target_at(HERE, caller.address(0), FOLLOW)?;
                self.chmod(caller, target, caller.word(1))
            }
            Call::Fchmod => {
                let target = caller.descriptor(caller.int(0));
                self.chmod(caller, target, caller.word(1))
            }
            Call::ChmodAt => {
                let target = caller.target_at(caller.int(0), caller.address(1), FOLLOW)?;
                self.chmod(caller, target, caller.word(2))
            }
            Call::ChmodAt2 => {
                let lookup = lookup(caller.int(3));
                let target = caller.target_at(caller.int(0), caller.address(1), lookup)?;
                self.chmod(caller, target, caller.word(2))
            }
        }
    }

    /// Keeps the record of a special file that the kernel is about to copy up.
    fn hold(
        &mut self,
        caller: &Caller<'_>,
        directory: i32,
        address: u64,
        lookup: Lookup,
    ) -> nix::Result<Reply> {
        self.hold_target(caller.target_at(directory, address, lookup).ok().flatten());
        Ok(Reply::Continue)
    }

    fn hold_target(&mut self, target: Option<Target>) {
        if let Some(target) = target {
            // What goes wrong here goes wrong in the kernel too, which says so.
            let _refused = self.records.hold(&target).is_err();
        }
    }

    fn hold_subject(&mut self, caller: &Caller<'_>, subject: Subject) -> nix::Result<Reply> {
        let lookup = Lookup {
            no_follow: subject == Subject::Link,
            allows_empty: false,
        };
        match subject {
            Subject::Descriptor => {
                self.hold_target(caller.descriptor(caller.int(0)));
                Ok(Reply::Continue)
            }
            Subject::Path | Subject::Link => {
                self.hold(caller, libc::AT_FDCWD, caller.address(0), lookup)
            }
        }
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
