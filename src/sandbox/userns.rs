//! The user namespace of the build (user_namespaces(7)).

use std::ffi::{CString, OsStr};
use std::io::{PipeReader, PipeWriter, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::unistd::{ForkResult, Gid, Pid, Uid};

use super::rung::Rung;
use super::subids;
use crate::ownership::{Ownership, Table};
use crate::sys::{self, mount, process};

/// What entering gave.
#[derive(Debug, Clone)]
pub(crate) struct Entered {
    pub(crate) ownership: Ownership,
    /// With [`Ownership::Recorded`]: why there is only one id, for error messages.
    pub(crate) single_reason: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("this host forbids user namespaces: {0}")]
    NoUserNamespaces(Obstacle),
    #[error("cannot set up the user namespace of the build")]
    SetUp(#[source] sys::Error),
    #[error("--sandbox=mapped cannot be had here: there is only one id ({0})")]
    OneId(String),
}

/// What stands against a user namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Obstacle {
    #[error("kernel.unprivileged_userns_clone is 0")]
    Sysctl,
    #[error("AppArmor takes the capabilities of unprivileged ones away")]
    AppArmor,
    #[error("the limit user.max_user_namespaces is reached")]
    Limit,
    #[error("a seccomp filter or security module does not allow them")]
    Filter,
    #[error("the kernel is built without them")]
    Kernel,
}

impl Obstacle {
    pub(super) const ALL: [Self; 5] = [
        Self::Sysctl,
        Self::AppArmor,
        Self::Limit,
        Self::Filter,
        Self::Kernel,
    ];

    /// An exit code of a child that met it: a number from 1.
    pub(super) fn code(self) -> i32 {
        self as i32 + 1
    }

    pub(super) fn of_code(code: i32) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|obstacle| obstacle.code() == code)
    }
}

impl Error {
    /// The setting of the host that would have to change.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::SetUp(_) | Self::OneId(_) => None,
            Self::NoUserNamespaces(obstacle) => Some(match obstacle {
                Obstacle::Sysctl => "set the sysctl kernel.unprivileged_userns_clone=1",
                Obstacle::AppArmor => {
                    "set the sysctl kernel.apparmor_restrict_unprivileged_userns=0, \
                     or give rbuild an AppArmor profile that allows userns"
                }
                Obstacle::Limit => "raise the sysctl user.max_user_namespaces",
                Obstacle::Filter => {
                    "in a container, start it with --security-opt seccomp=unconfined"
                }
                Obstacle::Kernel => "use a kernel with CONFIG_USER_NS",
            }),
        }
    }
}

/// Moves this process into a new user and mount namespace where it is uid 0 with all capabilities.
///
/// With subordinate ids, or as root, the namespace maps many ids; otherwise, or if `forced` is
/// [`Rung::Recorded`], only 0, the caller. Forced to [`Rung::Mapped`], one id is an error. The mount
/// namespace receives what the host mounts later and gives nothing back.
///
/// Must be called once, before any thread is started: unshare(2) of a user namespace fails with EINVAL
/// in a threaded process. The process must be dumpable, or the kernel keeps its id maps from being
/// written.
pub(crate) fn enter(forced: Option<Rung>) -> Result<Entered, Error> {
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    let (writers, mut reason) = match MapWriters::choose(uid, gid) {
        _ if forced == Some(Rung::Recorded) => {
            (None, Some("--sandbox=recorded was asked for".to_owned()))
        }
        Choice::Many(writers) => (Some(writers), None),
        Choice::Single(reason) => (None, Some(reason)),
    };
    let writers = writers.map(MapWriters::start).transpose()?;
    if let Err(errno) = nix::sched::unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS) {
        return Err(refused(errno));
    }
    if let Some(writers) = writers {
        reason = writers.release().err();
    }
    if forced == Some(Rung::Mapped)
        && let Some(reason) = reason
    {
        return Err(Error::OneId(reason));
    }
    if reason.is_some() {
        map_single(uid, gid).map_err(Error::SetUp)?;
    }
    become_root().map_err(Error::SetUp)?;
    match mount::set_propagation(mount::Propagation::Slave) {
        Ok(()) => {}
        // All capabilities, and yet no mount: Ubuntu's restriction of unprivileged namespaces.
        Err(error) if matches!(error.errno, Errno::EPERM | Errno::EACCES) => {
            return Err(Error::NoUserNamespaces(denied()));
        }
        Err(error) => return Err(Error::SetUp(error)),
    }
    Ok(Entered {
        ownership: if reason.is_none() {
            Ownership::Mapped
        } else {
            Ownership::Recorded(Table::default())
        },
        single_reason: reason,
    })
}

/// How [`enter`], with nothing forced, will most likely keep owners, told without entering anything.
pub(crate) fn likely_ownership() -> Ownership {
    let recorded = || Ownership::Recorded(Table::default());
    match MapWriters::choose(nix::unistd::geteuid(), nix::unistd::getegid()) {
        Choice::Single(_) => recorded(),
        // The kernel gives neither of them the privileges of a set-user-id program (execve(2)).
        Choice::Many(MapWriters::Helpers(_)) if is_traced() || has_no_new_privs() => recorded(),
        Choice::Many(_) => Ownership::Mapped,
    }
}

fn has_no_new_privs() -> bool {
    nix::sys::prctl::get_no_new_privs().unwrap_or(false)
}

fn is_traced() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let tracer = status
        .lines()
        .find_map(|line| line.strip_prefix("TracerPid:"));
    tracer.is_some_and(|tracer| tracer.trim() != "0")
}

/// As [`enter`], with one id only and so without any other process: enough to try mounts in.
pub(super) fn enter_single() -> Result<(), Error> {
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    nix::sched::unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).map_err(refused)?;
    map_single(uid, gid)
        .and_then(|()| become_root())
        .map_err(Error::SetUp)?;
    match mount::set_propagation(mount::Propagation::Slave) {
        Err(error) if matches!(error.errno, Errno::EPERM | Errno::EACCES) => {
            Err(Error::NoUserNamespaces(denied()))
        }
        other => other.map_err(Error::SetUp),
    }
}

fn refused(errno: Errno) -> Error {
    match errno {
        Errno::EPERM | Errno::EACCES => Error::NoUserNamespaces(denied()),
        Errno::ENOSPC | Errno::EUSERS => Error::NoUserNamespaces(Obstacle::Limit),
        Errno::ENOSYS => Error::NoUserNamespaces(Obstacle::Kernel),
        // unshare(2) says EINVAL to threads as well as to a kernel that does not know the flag.
        Errno::EINVAL if !Path::new("/proc/self/ns/user").exists() => {
            Error::NoUserNamespaces(Obstacle::Kernel)
        }
        errno => Error::SetUp(sys::Error::new("unshare", "CLONE_NEWUSER", errno)),
    }
}

fn denied() -> Obstacle {
    let is = |path: &str, value: &str| {
        std::fs::read_to_string(path).is_ok_and(|text| text.trim() == value)
    };
    if is("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        Obstacle::Sysctl
    } else if is(
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
    ) {
        Obstacle::AppArmor
    } else {
        Obstacle::Filter
    }
}

fn become_root() -> sys::Result<()> {
    let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
    nix::unistd::setresgid(gid, gid, gid)
        .map_err(|errno| sys::Error::new("setresgid", "0", errno))?;
    nix::unistd::setresuid(uid, uid, uid).map_err(|errno| sys::Error::new("setresuid", "0", errno))
}

/// Maps 0 to the caller, as far as no map has been written yet.
fn map_single(uid: Uid, gid: Gid) -> sys::Result<()> {
    let uid_map = Path::new("/proc/self/uid_map");
    if !is_written(uid_map) {
        write_file(uid_map, &format!("0 {uid} 1\n"))?;
    }
    let gid_map = Path::new("/proc/self/gid_map");
    if !is_written(gid_map) {
        // setgroups(2) must be given up before an unprivileged process may write its group map.
        write_file(Path::new("/proc/self/setgroups"), "deny")?;
        write_file(gid_map, &format!("0 {gid} 1\n"))?;
    }
    Ok(())
}

fn is_written(map: &Path) -> bool {
    std::fs::read(map).is_ok_and(|current| !current.is_empty())
}

/// Writes in one write(2), as id maps demand.
fn write_file(path: &Path, contents: &str) -> sys::Result<()> {
    std::fs::write(path, contents).map_err(|error| {
        let errno = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
        sys::Error::on("write", path, errno)
    })
}

/// How the maps get written.
enum Choice {
    Many(MapWriters),
    /// Only the caller's own id, for this reason.
    Single(String),
}

/// What processes left outside the new namespace do for it.
enum MapWriters {
    /// newuidmap and newgidmap, set-user-id programs that know the subordinate ids.
    Helpers([(PathBuf, Vec<String>); 2]),
    /// Root writes its own ids itself: the texts of the two maps.
    Identity { uid_map: String, gid_map: String },
}

impl MapWriters {
    fn choose(uid: Uid, gid: Gid) -> Choice {
        if uid.is_root() && may_map_any_id() {
            let read = |path| std::fs::read_to_string(path).unwrap_or_default();
            let maps = (
                subids::identity_map(&read("/proc/self/uid_map")),
                subids::identity_map(&read("/proc/self/gid_map")),
            );
            return match maps {
                (Some(uid_map), Some(gid_map)) => Choice::Many(Self::Identity { uid_map, gid_map }),
                _ => Choice::Single("this user namespace has only one id".to_owned()),
            };
        }
        match Self::helpers(uid, gid) {
            Ok(helpers) => Choice::Many(helpers),
            Err(reason) => Choice::Single(reason),
        }
    }

    fn helpers(uid: Uid, gid: Gid) -> Result<Self, String> {
        let name = nix::unistd::User::from_uid(uid)
            .ok()
            .flatten()
            .map(|user| user.name);
        let helper = |program: &str, file: &str, own: u32| {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            let ranges = subids::parse(&text, name.as_deref(), uid.as_raw());
            if ranges.is_empty() {
                let user = name.clone().unwrap_or_else(|| uid.to_string());
                return Err(format!("{file} has no line for {user}"));
            }
            let path = find_helper(program).ok_or_else(|| format!("{program} is not installed"))?;
            Ok((path, subids::map_arguments(own, &ranges)))
        };
        Ok(Self::Helpers([
            helper("newuidmap", "/etc/subuid", uid.as_raw())?,
            helper("newgidmap", "/etc/subgid", gid.as_raw())?,
        ]))
    }

    /// Forks the writers. They must exist before the namespace does, to be outside of it.
    fn start(self) -> Result<Started, Error> {
        let target = nix::unistd::getpid();
        let mut outsiders = Vec::new();
        match self {
            Self::Helpers(helpers) => {
                for (program, map) in helpers {
                    outsiders.push(Outsider::start_helper(&program, target, map)?);
                }
            }
            Self::Identity { uid_map, gid_map } => {
                outsiders.push(Outsider::start("the process outside".to_owned(), || {
                    let proc = PathBuf::from(format!("/proc/{target}"));
                    let written = write_file(&proc.join("uid_map"), &uid_map)
                        .and_then(|()| write_file(&proc.join("gid_map"), &gid_map));
                    match written {
                        Ok(()) => 0,
                        Err(error) => {
                            drop(writeln!(std::io::stderr(), "{error}"));
                            1
                        }
                    }
                })?);
            }
        }
        Ok(Started(outsiders))
    }
}

pub(super) fn may_map_any_id() -> bool {
    let has =
        |capability| caps::has_cap(None, caps::CapSet::Effective, capability).unwrap_or(false);
    has(caps::Capability::CAP_SETUID) && has(caps::Capability::CAP_SETGID)
}

/// Where a program of the host is, if it is installed.
pub(super) fn find_helper(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::iter::once(PathBuf::from("/usr/bin"))
        .chain(std::env::split_paths(&path).filter(|dir| dir.is_absolute()))
        .map(|dir| dir.join(program))
        .find(|candidate| candidate.is_file())
}

/// All writers, waiting for the namespace.
struct Started(Vec<Outsider>);

impl Started {
    /// Lets them write, at the same time; the reason if one could not.
    fn release(self) -> Result<(), String> {
        let waiting: Vec<_> = self.0.into_iter().map(Outsider::release).collect();
        waiting
            .into_iter()
            .map(Released::wait)
            .fold(Ok(()), Result::and)
    }
}

/// A child that waits outside for a byte and then does its work.
struct Outsider {
    name: String,
    pid: Pid,
    go: PipeWriter,
    complaint: PipeReader,
}

impl Outsider {
    fn start_helper(program: &Path, target: Pid, map: Vec<String>) -> Result<Self, Error> {
        let name = program
            .file_name()
            .unwrap_or(OsStr::new("helper"))
            .display()
            .to_string();
        let failed = |_| Error::SetUp(sys::Error::on("execve", program, Errno::EINVAL));
        let path = CString::new(program.as_os_str().as_bytes()).map_err(failed)?;
        let mut arguments = vec![path.clone()];
        for argument in std::iter::once(target.to_string()).chain(map) {
            arguments.push(CString::new(argument).expect("digits hold no NUL"));
        }
        Self::start(name, || {
            let Err(errno) = nix::unistd::execve(&path, &arguments, &[] as &[CString]);
            drop(writeln!(std::io::stderr(), "execve: {}", errno.desc()));
            127
        })
    }

    /// Forks; the child runs `work` with standard error going to the parent, and ends with its code.
    fn start(name: String, work: impl FnOnce() -> i32) -> Result<Self, Error> {
        let failed = |error: std::io::Error| {
            let errno = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
            Error::SetUp(sys::Error::new("pipe2", "", errno))
        };
        let (mut wait, go) = std::io::pipe().map_err(failed)?;
        let (complaint, stderr) = std::io::pipe().map_err(failed)?;
        match process::fork().map_err(Error::SetUp)? {
            ForkResult::Parent { child } => Ok(Self {
                name,
                pid: child,
                go,
                complaint,
            }),
            ForkResult::Child => {
                drop(go);
                let mut byte = [0];
                let released = wait.read_exact(&mut byte).is_ok();
                let redirected = nix::unistd::dup2_stderr(&stderr).is_ok();
                process::exit_now(if released && redirected { work() } else { 1 })
            }
        }
    }

    fn release(mut self) -> Released {
        // A child that has died shows in its exit status.
        drop(self.go.write_all(&[0]));
        Released {
            name: self.name,
            pid: self.pid,
            complaint: self.complaint,
        }
    }
}

/// A child at its work.
struct Released {
    name: String,
    pid: Pid,
    complaint: PipeReader,
}

impl Released {
    fn wait(self) -> Result<(), String> {
        let mut text = Vec::new();
        drop(self.complaint.take(4096).read_to_end(&mut text));
        if let Ok((_, process::Ended::Code(0))) = process::wait(Some(self.pid)) {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&text);
        Err(format!("{} failed: {}", self.name, text.trim()))
    }
}
