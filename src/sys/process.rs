//! Processes: making them, watching them, and giving up what they may do.
#![expect(unsafe_code, reason = "neither nix nor libc wraps these calls")]

use std::num::NonZero;
use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::sync::OnceLock;
use std::time::Duration;

use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::unistd::{ForkResult, Pid};

use super::{Error, Result};

/// fork(2), in a process with one thread only; any other gets EDEADLK, because a lock that another thread
/// holds at that moment would stay locked in the child.
pub(crate) fn fork() -> Result<ForkResult> {
    let failed = |errno| Error::new("fork", "", errno);
    require_one_thread()?;
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that forks"
    )]
    // SAFETY: this is the only thread, so the child finds every lock and the heap in a usable state.
    let result = unsafe { nix::unistd::fork() };
    result.map_err(failed)
}

/// As [`fork`], but the child has the parent of this process (`CLONE_PARENT` in clone(2)): that one waits
/// for it, and its thread that made this process is the one whose end `PR_SET_PDEATHSIG` tells of.
pub(crate) fn fork_sibling() -> Result<ForkResult> {
    require_one_thread()?;
    let flags = libc::CLONE_PARENT | libc::SIGCHLD;
    // SAFETY: as in `fork`; without CLONE_VM and a stack the child goes on with a copy of this one. The
    // C library does not learn that the child has another id, which only functions on threads use.
    let child = unsafe { libc::syscall(libc::SYS_clone, libc::c_long::from(flags), 0, 0, 0, 0) };
    match Errno::result(child) {
        Ok(0) => Ok(ForkResult::Child),
        Ok(child) => {
            let child = i32::try_from(child).expect("process ids are ints");
            Ok(ForkResult::Parent {
                child: Pid::from_raw(child),
            })
        }
        Err(errno) => Err(Error::new("clone", "CLONE_PARENT", errno)),
    }
}

/// Starts a child that runs `work` in the memory of this process, which stops until the child executes a program
/// or ends (`CLONE_VM` and `CLONE_VFORK` in clone(2)). Nothing is copied, so that takes a third of the time of
/// [`fork`], and what `work` leaves in memory is there for this process. All else, descriptors among it, is the
/// child's own: it must close none that an object of this process owns. It ends with what `work` returns.
///
/// In a process with one thread only, as [`fork`].
pub(crate) fn start(mut work: impl FnMut() -> i32) -> Result<Pid> {
    /// `work` walks no trees.
    const STACK: usize = 1 << 20;
    require_one_thread()?;
    // Pages that are not touched are never made.
    let mut stack = vec![0; STACK];
    let flags = CloneFlags::CLONE_VM | CloneFlags::CLONE_VFORK;
    let entry = Box::new(|| -> isize { exit_now(work()) });
    // SAFETY: this thread does not run while the child does, and there is no other, so the two never touch the
    // same memory at one time; and the stack outlives the child's use of it.
    let child = unsafe { nix::sched::clone(entry, &mut stack, flags, Some(libc::SIGCHLD)) };
    child.map_err(|errno| Error::new("clone", "CLONE_VFORK", errno))
}

fn require_one_thread() -> Result<()> {
    let threads = match std::fs::read_dir("/proc/self/task") {
        Ok(threads) => threads.count(),
        // In a chroot without /proc, where only the init room gets: it never starts a thread.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => 1,
        Err(error) => {
            let errno = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
            return Err(Error::new("open", "/proc/self/task", errno));
        }
    };
    if threads != 1 {
        return Err(Error::new("fork", "", Errno::EDEADLK));
    }
    Ok(())
}

/// What `work` returns, done in a thread of its own. When this returns the thread is gone, with what only it
/// held, such as a namespace; and [`fork`] does not count it.
pub(crate) fn in_thread<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T> {
    let (id, result) = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .spawn_scoped(scope, || (nix::unistd::gettid(), work()))
            .map_err(|error| {
                let errno = error.raw_os_error().map_or(Errno::EAGAIN, Errno::from_raw);
                Error::new("clone", "CLONE_THREAD", errno)
            })?;
        Ok(thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    // Who joins a thread is woken when it leaves the address space, which is before it leaves the rest.
    while is_thread(id) {
        std::thread::sleep(Duration::from_micros(50));
    }
    Ok(result)
}

/// Whether `id` is a thread of this process.
fn is_thread(id: Pid) -> bool {
    let process = nix::unistd::getpid();
    // SAFETY: integers only, and signal 0 is none.
    let status = unsafe { libc::syscall(libc::SYS_tgkill, process.as_raw(), id.as_raw(), 0) };
    Errno::result(status).is_ok()
}

/// Ends this process at once, without destructors or atexit handlers: the way out of a forked child.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: _exit(2) takes an integer and does not return.
    unsafe { libc::_exit(code) }
}

/// Lets other threads that want a processor have it for most of the time before the calling one. That the
/// kernel may refuse changes nothing but the speed.
pub(crate) fn lower_priority() {
    /// About a third of what a usual thread gets beside it (`sched(7)`): nobody waits for long on a busy
    /// machine either.
    const NICER: libc::c_int = 5;
    // SAFETY: an integer only. On Linux it is the thread's own value that changes (`nice(2)`).
    unsafe { libc::nice(NICER) };
}

/// How many threads run at one time: processors, or the quota of a cgroup. Read once, because it takes a dozen
/// calls.
pub(crate) fn processors() -> usize {
    static PROCESSORS: OnceLock<usize> = OnceLock::new();
    *PROCESSORS.get_or_init(|| std::thread::available_parallelism().map_or(1, NonZero::get))
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Code(i32),
    /// The number of the signal, real-time signals included.
    Signal(i32),
}

/// Waits for a child to end, any child if `None`; which one, and how.
pub(crate) fn wait(child: Option<Pid>) -> Result<(Pid, Ended)> {
    let which = child.map_or(-1, Pid::as_raw);
    let mut status = 0;
    loop {
        // SAFETY: `status` is writable and outlives the call.
        let pid = unsafe { libc::waitpid(which, &raw mut status, 0) };
        match Errno::result(pid) {
            Ok(pid) if libc::WIFSIGNALED(status) => {
                return Ok((Pid::from_raw(pid), Ended::Signal(libc::WTERMSIG(status))));
            }
            Ok(pid) => return Ok((Pid::from_raw(pid), Ended::Code(libc::WEXITSTATUS(status)))),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(Error::new("waitpid", which.to_string(), errno)),
        }
    }
}

/// Kills every process of the pid namespace of which this is pid 1, and waits until none is left. EPERM in
/// any other process, of which far more would be killed.
pub(crate) fn end_all_others() -> Result<()> {
    let all = Pid::from_raw(-1);
    if nix::unistd::getpid() != Pid::from_raw(1) {
        return Err(Error::new("kill", "-1", Errno::EPERM));
    }
    // No process can outrun this by forking: the kernel lets none that has a deadly signal (kill(2)).
    match nix::sys::signal::kill(all, Signal::SIGKILL) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(errno) => return Err(Error::new("kill", "-1", errno)),
    }
    loop {
        match wait(None) {
            Ok(_) => {}
            // Orphans become children of pid 1, so that without children there is nobody.
            Err(error) if error.errno == Errno::ECHILD => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// A descriptor of the process `pid`, readable once it has ended (`pidfd_open(2)`, Linux 5.3).
pub(crate) fn pidfd_open(pid: Pid) -> Result<OwnedFd> {
    // SAFETY: integers only.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    let fd = Errno::result(fd).map_err(|errno| Error::new("pidfd_open", pid.to_string(), errno))?;
    let raw = RawFd::try_from(fd).expect("descriptors are ints");
    // SAFETY: the kernel just made this descriptor for us, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Sends SIGKILL. That the process has ended already is success.
pub(crate) fn pidfd_kill(pidfd: impl AsFd) -> Result<()> {
    pidfd_signal(pidfd, libc::SIGKILL)
}

/// Sends a signal. That the process has ended already is success.
pub(crate) fn pidfd_signal(pidfd: impl AsFd, signal: i32) -> Result<()> {
    // SAFETY: a null siginfo is allowed; the descriptor is borrowed for the call.
    let status = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_fd().as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    match Errno::result(status) {
        Ok(_) | Err(Errno::ESRCH) => Ok(()),
        Err(errno) => Err(Error::new("pidfd_send_signal", signal.to_string(), errno)),
    }
}

/// Closes all descriptors but the standard three (`close_range(2)`, Linux 5.9): for the very start of a
/// program, when nothing in it owns a descriptor yet.
pub(crate) fn close_inherited() -> Result<()> {
    close_range(0)
}

/// Marks all descriptors but the standard three to be closed by the next exec (Linux 5.11).
pub(crate) fn close_on_exec() -> Result<()> {
    close_range(libc::CLOSE_RANGE_CLOEXEC)
}

fn close_range(flags: libc::c_uint) -> Result<()> {
    // SAFETY: integers only.
    let status = unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, flags) };
    Errno::result(status).map_err(|errno| Error::new("close_range", "3", errno))?;
    Ok(())
}

/// Gives every signal its default action and blocks none: what exec would otherwise hand on.
pub(crate) fn reset_signals() -> Result<()> {
    for signal in 1..=libc::SIGRTMAX() {
        // The C library keeps two signals to itself, and two cannot be changed: EINVAL for those.
        // SAFETY: SIG_DFL installs no handler, so nothing is called.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    SigSet::empty()
        .thread_set_mask()
        .map_err(|errno| Error::new("sigprocmask", "", errno))
}

/// Joins a new, empty session keyring (keyctl(2)).
pub(crate) fn new_session_keyring() -> Result<()> {
    // SAFETY: a null name asks for an anonymous keyring; integers otherwise.
    let status = unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            libc::KEYCTL_JOIN_SESSION_KEYRING,
            std::ptr::null::<libc::c_char>(),
        )
    };
    Errno::result(status).map_err(|errno| Error::new("keyctl", "join session keyring", errno))?;
    Ok(())
}

/// Installs a seccomp program, given one word per instruction: code, jt, jf and k of `struct sock_filter`
/// from the high bits down. Needs CAP_SYS_ADMIN in the user namespace, and leaves `no_new_privs` alone.
pub(crate) fn install_filter(words: &[u64]) -> Result<()> {
    seccomp_filter(words, 0).map(drop)
}

/// `seccomp(2)` with `SECCOMP_SET_MODE_FILTER` and `flags`; what the call returns.
pub(super) fn seccomp_filter(words: &[u64], flags: libc::c_ulong) -> Result<libc::c_long> {
    let failed = |errno| Error::new("seccomp", "SECCOMP_SET_MODE_FILTER", errno);
    let mut program: Vec<libc::sock_filter> = words
        .iter()
        .map(|word| {
            let [c1, c0, jt, jf, k3, k2, k1, k0] = word.to_be_bytes();
            libc::sock_filter {
                code: u16::from_be_bytes([c1, c0]),
                jt,
                jf,
                k: u32::from_be_bytes([k3, k2, k1, k0]),
            }
        })
        .collect();
    let filter = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| failed(Errno::EINVAL))?,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: `filter` points at `program`, whose length it holds; the kernel copies both before the
    // call returns.
    let status = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const filter,
        )
    };
    Errno::result(status).map_err(failed)
}

/// Brings the loopback interface of this network namespace up.
pub(crate) fn loopback_up() -> Result<()> {
    let socket = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .map_err(|errno| Error::new("socket", "AF_INET", errno))?;
    let up = libc::IFF_UP | libc::IFF_RUNNING;
    let mut name = [0; libc::IFNAMSIZ];
    name[0] = libc::c_char::from_ne_bytes([b'l']);
    name[1] = libc::c_char::from_ne_bytes([b'o']);
    let request = libc::ifreq {
        ifr_name: name,
        ifr_ifru: libc::__c_anonymous_ifr_ifru {
            ifru_flags: libc::c_short::try_from(up).expect("two low bits"),
        },
    };
    // The C libraries disagree on the type of a request.
    // SAFETY: SIOCSIFFLAGS reads a whole ifreq, which outlives the call.
    let status = unsafe {
        libc::ioctl(
            socket.as_raw_fd(),
            libc::SIOCSIFFLAGS as libc::Ioctl,
            &raw const request,
        )
    };
    Errno::result(status).map_err(|errno| Error::new("ioctl", "lo, SIOCSIFFLAGS", errno))?;
    Ok(())
}
