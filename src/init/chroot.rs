//! A command in a chroot: no namespaces, so nothing ends with a first process. Instead the init that
//! starts it adopts every orphan of it (`PR_SET_CHILD_SUBREAPER` in prctl(2)) and ends them one by one.

use std::ffi::OsStr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, getpgid, getpgrp};

use super::failure::At as _;
use crate::sandbox::spec::{Failure, Ground, Step};
use crate::sys::{self, fs, process};

/// How long processes may take to die: one that waits for a disk takes its time.
const PATIENCE: Duration = Duration::from_secs(20);

/// Starts the command and returns when nothing of it is left.
pub(super) fn start(socket: &UnixStream) -> Result<(), Failure> {
    let failed = |call| move |errno| sys::Error::new("prctl", call, errno);
    prctl::set_child_subreaper(true)
        .map_err(failed("PR_SET_CHILD_SUBREAPER"))
        .at(Step::Fork)?;
    // Of the end of the parent its socket tells: a signal would kill who ends the rest.
    prctl::set_pdeathsig(None)
        .map_err(failed("PR_SET_PDEATHSIG"))
        .at(Step::Fork)?;
    match process::fork().at(Step::Fork)? {
        ForkResult::Child => process::exit_now(super::first(Ground::Chroot, socket, None)),
        ForkResult::Parent { child } => {
            let watched = super::watch(child, socket, None);
            if end_all().is_err() {
                // The report is the other process's; the parent takes this end for what it is.
                process::exit_now(1);
            }
            watched
        }
    }
}

/// Makes `tree` the root of this process and of what it starts.
pub(super) fn enter(tree: &OsStr) -> sys::Result<()> {
    let root = fs::open_directory(Path::new(tree))?;
    let failed = |call| move |errno| sys::Error::on(call, Path::new(tree), errno);
    nix::unistd::fchdir(&root).map_err(failed("fchdir"))?;
    nix::unistd::chroot(".").map_err(failed("chroot"))?;
    nix::unistd::chdir("/").map_err(failed("chdir"))
}

/// Kills every descendant. Whatever loses its parent becomes a child of this process, so when there is
/// no child there is no descendant. Process groups are killed as a whole, which a group cannot outrun
/// by forking: the kernel lets no member fork while it signals them.
fn end_all() -> sys::Result<()> {
    let start = Instant::now();
    loop {
        for child in children()? {
            if let Ok(group) = getpgid(Some(child))
                && group != getpgrp()
            {
                let _ = killpg(group, Signal::SIGKILL);
            }
            let _ = kill(child, Signal::SIGKILL);
        }
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => break,
                Ok(_) | Err(Errno::EINTR) => {}
                Err(Errno::ECHILD) => return Ok(()),
                Err(errno) => return Err(sys::Error::new("waitpid", "-1", errno)),
            }
        }
        if start.elapsed() > PATIENCE {
            return Err(sys::Error::new("waitpid", "-1", Errno::ETIMEDOUT));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The children of this process, by the fourth field of `/proc/PID/stat` (proc_pid_stat(5)).
fn children() -> sys::Result<Vec<Pid>> {
    let failed = |error: std::io::Error| {
        let errno = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
        sys::Error::new("open", "/proc", errno)
    };
    let own = nix::unistd::getpid();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").map_err(failed)?.flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let Ok(stat) = std::fs::read(entry.path().join("stat")) else {
            continue;
        };
        if parent_of(&stat) == Some(own.as_raw()) {
            found.push(Pid::from_raw(pid));
        }
    }
    Ok(found)
}

/// The name of the program, in brackets, may hold anything, closing brackets included.
fn parent_of(stat: &[u8]) -> Option<i32> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(&stat[end + 1..]).ok()?;
    rest.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::parent_of;

    #[test]
    fn the_parent_is_found_behind_any_program_name() {
        assert_eq!(parent_of(b"12 (sh) S 7 12 12 0"), Some(7));
        assert_eq!(parent_of(b"12 (a) Z 1 (b)) S 7 12"), Some(7));
        assert_eq!(parent_of(b"12 (\xff) S 7 12"), Some(7));
        assert_eq!(parent_of(b""), None);
    }
}
