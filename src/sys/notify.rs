//! System calls that a filter hands to another process to answer (`seccomp_unotify(2)`), and that
//! process's hands: the memory and limits of the caller.
#![expect(unsafe_code, reason = "neither nix nor libc wraps these calls")]

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

use nix::errno::Errno;

use super::{Error, Result};

/// The end of a filter at which its questions arrive.
#[derive(Debug)]
pub(crate) struct Listener(OwnedFd);

/// A call that a task of the sandbox makes and that waits for its answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Notification {
    pub(crate) id: u64,
    /// The thread, as seen by the process that asks; zero when it is not visible there.
    pub(crate) pid: i32,
    pub(crate) number: i32,
    /// `AUDIT_ARCH_*`.
    pub(crate) arch: u32,
    pub(crate) arguments: [u64; 6],
}

/// What the caller gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Response {
    /// The kernel carries the call out after all.
    Continue,
    Value(i64),
    Errno(Errno),
}

/// `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV` of linux/seccomp.h.
const WAIT_KILLABLE: libc::c_ulong = 1 << 5;
/// `SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP` of linux/seccomp.h.
const SYNC_WAKE_UP: u64 = 1;

/// Installs a filter, in the words of [`super::process::install_filter`], that has a listener, and
/// returns it. Only one filter of a process may have one: EBUSY otherwise.
///
/// Where the kernel can (Linux 5.19), a signal does not interrupt a call that is being answered, so
/// that nothing is done twice.
pub(crate) fn install(words: &[u64]) -> Result<Listener> {
    match install_with(words, WAIT_KILLABLE) {
        Err(error) if error.errno == Errno::EINVAL => install_with(words, 0),
        other => other,
    }
}

fn install_with(words: &[u64], flags: libc::c_ulong) -> Result<Listener> {
    let flags = flags | libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    let fd = super::process::seccomp_filter(words, flags)?;
    let raw = RawFd::try_from(fd).expect("descriptors are ints");
    // SAFETY: the kernel just made this descriptor for us, so nobody else owns it.
    Ok(Listener(unsafe { OwnedFd::from_raw_fd(raw) }))
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Listener {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl Listener {
    /// Asks the kernel to answer on the cpu of the caller (Linux 6.6). Without it all works the same.
    pub(crate) fn prefer_one_cpu(&self) {
        // SAFETY: the request takes an integer.
        unsafe {
            libc::ioctl(
                self.0.as_raw_fd(),
                libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS,
                SYNC_WAKE_UP,
            );
        }
    }

    /// Waits for the next call. ENOENT means that its caller went away meanwhile.
    pub(crate) fn receive(&self) -> nix::Result<Notification> {
        // SAFETY: the structure holds integers only, for which zero is a value; the kernel demands it.
        let mut raw: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        // SAFETY: the kernel fills the structure, which outlives the call.
        let status = unsafe {
            libc::ioctl(
                self.0.as_raw_fd(),
                libc::SECCOMP_IOCTL_NOTIF_RECV,
                &raw mut raw,
            )
        };
        Errno::result(status)?;
        Ok(Notification {
            id: raw.id,
            pid: raw.pid.cast_signed(),
            number: raw.data.nr,
            arch: raw.data.arch,
            arguments: raw.data.args,
        })
    }

    /// Answers. A caller that is gone is none of our business.
    pub(crate) fn respond(&self, id: u64, response: Response) -> nix::Result<()> {
        let mut raw = libc::seccomp_notif_resp {
            id,
            val: 0,
            error: 0,
            flags: 0,
        };
        match response {
            Response::Continue => raw.flags = 1, // SECCOMP_USER_NOTIF_FLAG_CONTINUE
            Response::Value(value) => raw.val = value,
            Response::Errno(errno) => raw.error = -(errno as i32),
        }
        // SAFETY: the kernel reads the structure, which outlives the call.
        let status = unsafe {
            libc::ioctl(
                self.0.as_raw_fd(),
                libc::SECCOMP_IOCTL_NOTIF_SEND,
                &raw mut raw,
            )
        };
        match Errno::result(status) {
            Ok(_) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// Gives the caller a descriptor of `fd` as the result of its call, and so answers it (Linux 5.14).
    pub(crate) fn respond_with(
        &self,
        id: u64,
        fd: impl AsFd,
        close_on_exec: bool,
    ) -> nix::Result<()> {
        let raw = libc::seccomp_notif_addfd {
            id,
            flags: 2, // SECCOMP_ADDFD_FLAG_SEND
            srcfd: fd.as_fd().as_raw_fd().cast_unsigned(),
            newfd: 0,
            newfd_flags: if close_on_exec {
                libc::O_CLOEXEC.cast_unsigned()
            } else {
                0
            },
        };
        // SAFETY: the kernel reads the structure, which outlives the call.
        let status = unsafe {
            libc::ioctl(
                self.0.as_raw_fd(),
                libc::SECCOMP_IOCTL_NOTIF_ADDFD,
                &raw const raw,
            )
        };
        match Errno::result(status) {
            Ok(_) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// Whether the caller still waits. What was opened by its number before is then really its own.
    pub(crate) fn is_valid(&self, id: u64) -> bool {
        // SAFETY: the kernel reads the number, which outlives the call.
        let status = unsafe {
            libc::ioctl(
                self.0.as_raw_fd(),
                libc::SECCOMP_IOCTL_NOTIF_ID_VALID,
                &raw const id,
            )
        };
        status == 0
    }
}

/// Reads memory of the thread `pid` at `address`; fewer bytes than asked for where it ends.
/// `process_vm_readv(2)`.
pub(crate) fn read_memory(pid: i32, address: u64, buffer: &mut [u8]) -> nix::Result<usize> {
    let local = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    let remote = remote(address, buffer.len())?;
    // SAFETY: `local` describes `buffer`, writable for its length; the other process's addresses are
    // checked by the kernel.
    let count =
        unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) };
    let count = Errno::result(count)?;
    Ok(usize::try_from(count).expect("not negative"))
}

/// Writes all of `bytes` into memory of the thread `pid`; EFAULT where it cannot be.
pub(crate) fn write_memory(pid: i32, address: u64, bytes: &[u8]) -> nix::Result<()> {
    let local = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    let remote = remote(address, bytes.len())?;
    // SAFETY: `local` describes `bytes`, which the kernel only reads; the other process's addresses are
    // checked by the kernel.
    let count =
        unsafe { libc::process_vm_writev(pid, &raw const local, 1, &raw const remote, 1, 0) };
    match Errno::result(count) {
        Ok(count) if usize::try_from(count) == Ok(bytes.len()) => Ok(()),
        Ok(_) => Err(Errno::EFAULT),
        Err(errno) => Err(errno),
    }
}

fn remote(address: u64, length: usize) -> nix::Result<libc::iovec> {
    Ok(libc::iovec {
        iov_base: usize::try_from(address).map_err(|_| Errno::EFAULT)? as *mut libc::c_void,
        iov_len: length,
    })
}

/// The soft value of RLIMIT_LOCKS of the process of thread `pid`. The limit means nothing since Linux
/// 2.4.25, and is inherited by fork(2) and kept by execve(2).
pub(crate) fn tag(pid: i32) -> nix::Result<u64> {
    let mut limit = libc::rlimit64 {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: a null new limit is allowed; `limit` is writable and outlives the call.
    let status =
        unsafe { libc::prlimit64(pid, libc::RLIMIT_LOCKS, std::ptr::null(), &raw mut limit) };
    Errno::result(status)?;
    Ok(limit.rlim_cur)
}

/// Sets what [`tag`] returns.
pub(crate) fn set_tag(pid: i32, tag: u64) -> nix::Result<()> {
    let limit = libc::rlimit64 {
        rlim_cur: tag,
        rlim_max: libc::RLIM64_INFINITY,
    };
    // SAFETY: `limit` outlives the call; a null old limit is allowed.
    let status = unsafe {
        libc::prlimit64(
            pid,
            libc::RLIMIT_LOCKS,
            &raw const limit,
            std::ptr::null_mut(),
        )
    };
    Errno::result(status).map(drop)
}

/// A copy of descriptor `fd` of the process `pid`.
pub(crate) fn steal_descriptor(pid: i32, fd: i32) -> Result<OwnedFd> {
    let process = super::process::pidfd_open(nix::unistd::Pid::from_raw(pid))?;
    copy_descriptor(&process, fd)
}

/// A copy of descriptor `fd` of `process`, a pidfd (`pidfd_getfd(2)`, Linux 5.6). ESRCH when the process
/// has ended, whoever has its number now.
pub(crate) fn copy_descriptor(process: &OwnedFd, fd: i32) -> Result<OwnedFd> {
    let failed = |errno| Error::new("pidfd_getfd", fd.to_string(), errno);
    // SAFETY: integers only.
    let stolen = unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), fd, 0) };
    let stolen = Errno::result(stolen).map_err(failed)?;
    let raw = RawFd::try_from(stolen).expect("descriptors are ints");
    // SAFETY: the kernel just made this descriptor for us, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// A structure as the kernel writes it into the memory of a program.
pub(crate) trait Plain: Copy {}
impl Plain for libc::stat {}
impl Plain for libc::statx {}

/// The bytes of such a structure.
pub(crate) fn bytes_of<T: Plain>(structure: &T) -> &[u8] {
    // SAFETY: the structures of `Plain` are C structures that the kernel filled whole after they were
    // zeroed, padding included, and the slice borrows them.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(structure).cast(), size_of::<T>()) }
}
