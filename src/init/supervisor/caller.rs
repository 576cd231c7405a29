//! Who asks: arguments, memory, and the files that its arguments name.

use std::ffi::{CString, OsStr};
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag};
use nix::sys::stat::Mode;
use nix::sys::statfs::{PROC_SUPER_MAGIC, statfs};

use super::acquaintance::Acquaintance;
use crate::sandbox::emulation::calls::{self, Call};
use crate::sys::notify::{self, Listener, Notification};

/// A call that waits for its answer.
pub(super) struct Caller<'a> {
    listener: &'a Listener,
    known: &'a Acquaintance,
    notification: Notification,
}

/// A file as the caller names it, in words of the supervisor: absolute in the root that both have, or
/// relative to the /proc in which the supervisor sees the caller.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) path: CString,
    /// Whether a link at the end of the path is followed.
    pub(super) follow: bool,
    /// The descriptor of the caller that it is, where it is one.
    number: Option<i32>,
    /// What the path starts at where it is a descriptor of the supervisor's own.
    _held: Option<Rc<OwnedFd>>,
}

/// Where a relative path starts.
#[derive(Debug, Clone)]
pub(super) enum Start {
    /// A descriptor of the caller, or AT_FDCWD.
    Callers(i32),
    Own(Rc<OwnedFd>),
}

impl Target {
    fn new(path: impl Into<Vec<u8>>, follow: bool) -> Self {
        Self {
            path: CString::new(path).expect("read up to a zero byte"),
            follow,
            number: None,
            _held: None,
        }
    }

    /// A descriptor of the supervisor's own, which must stay open.
    pub(super) fn of(fd: &impl std::os::fd::AsFd) -> Self {
        Self {
            path: super::records::own(fd),
            follow: true,
            number: None,
            _held: None,
        }
    }
}

/// How a call treats the end of a path.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Lookup {
    pub(super) no_follow: bool,
    /// An empty path means the directory descriptor itself (AT_EMPTY_PATH).
    pub(super) allows_empty: bool,
}

/// PATH_MAX of linux/limits.h, with the zero byte.
const MAX_PATH: usize = 4096;
const PAGE: u64 = 4096;
/// Bytes of a string that are read at first.
const SHORT: usize = 256;

/// Paths that mean something else to each process, or files that have no owner to keep.
const PER_PROCESS: [&[u8]; 4] = [b"/proc", b"/sys", b"/dev/fd", b"/dev/std"];

impl<'a> Caller<'a> {
    pub(super) fn new(
        listener: &'a Listener,
        known: &'a Acquaintance,
        notification: Notification,
    ) -> Self {
        known.meet(notification.pid, || listener.is_valid(notification.id));
        Self {
            listener,
            known,
            notification,
        }
    }

    pub(super) fn call(&self) -> Option<Call> {
        calls::find(self.notification.arch, self.notification.number)
    }

    pub(super) fn id(&self) -> u64 {
        self.notification.id
    }

    pub(super) fn pid(&self) -> i32 {
        self.notification.pid
    }

    /// ESRCH when the caller is gone, and its number may be another's.
    pub(super) fn check(&self) -> nix::Result<()> {
        if self.listener.is_valid(self.notification.id) {
            Ok(())
        } else {
            Err(Errno::ESRCH)
        }
    }

    pub(super) fn address(&self, index: usize) -> u64 {
        self.notification.arguments[index]
    }

    /// An argument that is an `int` or an `unsigned int`: the upper half is not looked at.
    pub(super) fn word(&self, index: usize) -> u32 {
        let [.., b0, b1, b2, b3] = self.notification.arguments[index].to_be_bytes();
        u32::from_be_bytes([b0, b1, b2, b3])
    }

    pub(super) fn int(&self, index: usize) -> i32 {
        self.word(index).cast_signed()
    }

    /// Reads a string up to its zero byte.
    pub(super) fn string(&self, address: u64, limit: usize) -> nix::Result<Vec<u8>> {
        let mut text = Vec::new();
        while text.len() < limit {
            // Memory may end at any page, so none is touched before the one before it was read. Most
            // strings are short.
            let at = address + text.len() as u64;
            let rest = usize::try_from(PAGE - at % PAGE).expect("less than a page");
            let most = if text.is_empty() { SHORT } else { limit };
            let begin = text.len();
            text.resize(limit.min(begin + rest.min(most)), 0);
            let count = self.read(at, &mut text[begin..])?;
            if count == 0 {
                return Err(Errno::EFAULT);
            }
            text.truncate(begin + count);
            if let Some(length) = text[begin..].iter().position(|byte| *byte == 0) {
                text.truncate(begin + length);
                return Ok(text);
            }
        }
        Err(Errno::ENAMETOOLONG)
    }

    /// Reads up to the length of `buffer`.
    pub(super) fn read(&self, address: u64, buffer: &mut [u8]) -> nix::Result<usize> {
        match notify::read_memory(self.notification.pid, address, buffer) {
            // Hidden by the seccomp profile of an outer container.
            Err(Errno::EPERM | Errno::ENOSYS) => self.memory(false)?.read(address, buffer),
            other => other,
        }
    }

    pub(super) fn read_whole(&self, address: u64, buffer: &mut [u8]) -> nix::Result<()> {
        if self.read(address, buffer)? == buffer.len() {
            Ok(())
        } else {
            Err(Errno::EFAULT)
        }
    }

    /// Writes into memory of the caller, if it is still the caller.
    pub(super) fn write(&self, address: u64, bytes: &[u8]) -> nix::Result<()> {
        self.check()?;
        match notify::write_memory(self.notification.pid, address, bytes) {
            Err(Errno::EPERM | Errno::ENOSYS) => self.memory(true)?.write(address, bytes),
            other => other,
        }
    }

    fn memory(&self, writable: bool) -> nix::Result<Memory> {
        let path = format!("{}/mem", self.notification.pid);
        let file = std::fs::File::options()
            .read(true)
            .write(writable)
            .open(path)
            .map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
        self.check()?;
        Ok(Memory(file))
    }

    /// The path at `address`, as it is.
    pub(super) fn path(&self, address: u64) -> nix::Result<Vec<u8>> {
        self.string(address, MAX_PATH)
    }

    /// What `path`, relative to the descriptor `directory`, names. `None` where only the kernel can tell.
    pub(super) fn target(
        &self,
        directory: i32,
        path: &[u8],
        lookup: Lookup,
    ) -> nix::Result<Option<Target>> {
        if path.is_empty() {
            if !lookup.allows_empty {
                return Err(Errno::ENOENT);
            }
            return Ok(self.descriptor(directory));
        }
        self.target_from(&Start::Callers(directory), path, !lookup.no_follow)
    }

    /// The same for a path that is not empty.
    pub(super) fn target_from(
        &self,
        start: &Start,
        path: &[u8],
        follow: bool,
    ) -> nix::Result<Option<Target>> {
        if is_per_process(path) {
            return Ok(self.own_way(path, follow));
        }
        let mut words = Vec::with_capacity(path.len() + 32);
        if path.first() != Some(&b'/') {
            let start = match start {
                Start::Callers(libc::AT_FDCWD) => format!("{}/cwd/", self.notification.pid),
                Start::Callers(fd) if *fd < 0 => return Err(Errno::EBADF),
                Start::Callers(fd) => format!("{}/fd/{fd}/", self.notification.pid),
                Start::Own(fd) => format!("self/fd/{}/", std::os::fd::AsRawFd::as_raw_fd(&**fd)),
            };
            words.extend_from_slice(start.as_bytes());
        }
        words.extend_from_slice(path);
        let held = match start {
            Start::Callers(_) => None,
            Start::Own(fd) => Some(Rc::clone(fd)),
        };
        if words.len() < MAX_PATH {
            return Ok(Some(Target {
                _held: held,
                ..Target::new(words, follow)
            }));
        }
        Ok(Self::shorten(&words, follow))
    }

    /// A path that the way to its start makes too long: half of it is gone first.
    fn shorten(words: &[u8], follow: bool) -> Option<Target> {
        let half = words.len() / 2;
        let slash = half + words[half..].iter().position(|byte| *byte == b'/')?;
        let name = words[slash..].iter().position(|byte| *byte != b'/')? + slash;
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let start = OsStr::from_bytes(&words[..slash]);
        let start = Rc::new(nix::fcntl::openat(AT_FDCWD, start, flags, Mode::empty()).ok()?);
        let number = std::os::fd::AsRawFd::as_raw_fd(&*start);
        let path = [format!("self/fd/{number}/").as_bytes(), &words[name..]].concat();
        Some(Target {
            _held: Some(start),
            ..Target::new(path, follow)
        })
    }

    /// A path to the caller's own descriptors and directories as the supervisor has to go it; `None` for
    /// the rest of /proc, where nothing has an owner to keep.
    fn own_way(&self, path: &[u8], follow: bool) -> Option<Target> {
        let pid = self.notification.pid;
        let number = match path {
            b"/dev/stdin" => Some(0),
            b"/dev/stdout" => Some(1),
            b"/dev/stderr" => Some(2),
            _ => None,
        };
        if let Some(number) = number {
            // The link itself is a file like any other.
            return (follow && leads(path, format!("/proc/self/fd/{number}").as_bytes()))
                .then(|| Target::new(format!("{pid}/fd/{number}"), true));
        }
        let rest = if let Some(rest) = path.strip_prefix(b"/dev/fd/") {
            leads(b"/dev/fd", b"/proc/self/fd").then(|| [b"fd/".as_slice(), rest].concat())?
        } else {
            let rest = path.strip_prefix(b"/proc/")?;
            let slash = rest.iter().position(|byte| *byte == b'/')?;
            let (name, rest) = (&rest[..slash], &rest[slash + 1..]);
            if name.iter().all(u8::is_ascii_digit) {
                // A number of the sandbox's, in the sandbox's /proc.
                return Some(Target::new(path, follow));
            }
            let is_own = matches!(name, b"self" | b"thread-self")
                && !rest.is_empty()
                && statfs("/proc").is_ok_and(|of| of.filesystem_type() == PROC_SUPER_MAGIC);
            is_own.then(|| rest.to_vec())?
        };
        let words = [format!("{pid}/").as_bytes(), &rest].concat();
        (words.len() < MAX_PATH).then(|| Target::new(words, follow))
    }

    /// What the link at the end of `target` leads to, in the caller's eyes.
    pub(super) fn behind(&self, target: &Target) -> Option<Target> {
        let link = nix::fcntl::readlink(target.path.as_c_str()).ok()?;
        let link = link.as_bytes();
        if link.first() == Some(&b'/') {
            return self
                .target_from(&Start::Callers(libc::AT_FDCWD), link, true)
                .ok()?;
        }
        let path = target.path.as_bytes();
        let parent = path.iter().rposition(|byte| *byte == b'/')? + 1;
        let words = [&path[..parent], link].concat();
        (words.len() < MAX_PATH).then(|| Target {
            _held: target._held.clone(),
            ..Target::new(words, true)
        })
    }

    /// Whether descriptor `fd` was opened with O_PATH: some calls do not take it.
    pub(super) fn is_path_only(&self, fd: i32) -> bool {
        // The second line, of a file that is written anew for whoever reads it: one read has it.
        let mut information = [0; 128];
        let path = format!("{}/fdinfo/{fd}", self.notification.pid);
        let read = std::fs::File::open(path).and_then(|mut file| file.read(&mut information));
        read.is_ok_and(|length| {
            let mut lines = information[..length].split(|byte| *byte == b'\n');
            let flags = lines.find_map(|line| line.strip_prefix(b"flags:"));
            flags
                .and_then(|flags| std::str::from_utf8(flags).ok())
                .and_then(|flags| i32::from_str_radix(flags.trim(), 8).ok())
                .is_some_and(|flags| flags & libc::O_PATH != 0)
        })
    }

    /// Whether the process has the capability still: capset(2) and prctl(2) may have taken it.
    pub(super) fn has(&self, capability: caps::Capability) -> bool {
        caps::has_cap(
            Some(self.notification.pid),
            caps::CapSet::Effective,
            capability,
        )
        .unwrap_or(true)
    }

    /// What the descriptor `fd`, or AT_FDCWD, stands for.
    pub(super) fn descriptor(&self, fd: i32) -> Option<Target> {
        let path = match fd {
            libc::AT_FDCWD => format!("{}/cwd", self.notification.pid),
            fd if fd < 0 => return None,
            fd => format!("{}/fd/{fd}", self.notification.pid),
        };
        // The link in /proc, which leads to the file itself even where that is a link.
        Some(Target {
            number: (fd >= 0).then_some(fd),
            ..Target::new(path, true)
        })
    }

    /// A copy of the descriptor that `target` is; `None` where it is none, or costs more than a look
    /// at /proc.
    pub(super) fn copy_of(&self, target: &Target) -> Option<OwnedFd> {
        self.known.descriptor(self.notification.pid, target.number?)
    }

    /// Reads the path at `address` and finds what it names.
    pub(super) fn target_at(
        &self,
        directory: i32,
        address: u64,
        lookup: Lookup,
    ) -> nix::Result<Option<Target>> {
        // Linux 6.11: a null path is an empty one.
        if address == 0 && lookup.allows_empty {
            return Ok(self.descriptor(directory));
        }
        let path = self.path(address)?;
        self.target(directory, &path, lookup)
    }

    /// The bits that the caller wants cleared in the mode of what it makes.
    pub(super) fn umask(&self) -> nix::Result<u32> {
        u32::from_str_radix(&self.status("Umask:")?, 8).map_err(|_| Errno::EIO)
    }

    /// PR_SET_NO_NEW_PRIVS: programs give no ids.
    pub(super) fn gains_nothing(&self) -> bool {
        self.status("NoNewPrivs:").is_ok_and(|value| value != "0")
    }

    /// The number of the process that the thread belongs to.
    pub(super) fn process(&self) -> nix::Result<i32> {
        self.status("Tgid:")?.parse().map_err(|_| Errno::EIO)
    }

    /// A line of proc_pid_status(5).
    fn status(&self, field: &str) -> nix::Result<String> {
        let status = std::fs::read(format!("{}/status", self.notification.pid))
            .map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
        self.check()?;
        status
            .split(|byte| *byte == b'\n')
            .find_map(|line| line.strip_prefix(field.as_bytes()))
            .and_then(|value| std::str::from_utf8(value).ok())
            .map(|value| value.trim().to_owned())
            .ok_or(Errno::EIO)
    }
}

/// Whether `link` is the link to `place` that a sandbox has there.
fn leads(link: &[u8], place: &[u8]) -> bool {
    nix::fcntl::readlink(OsStr::from_bytes(link)).is_ok_and(|found| found.as_bytes() == place)
}

/// Whether `path` leads to what is different for each process.
pub(super) fn is_per_process(path: &[u8]) -> bool {
    PER_PROCESS.iter().any(|prefix| {
        path.strip_prefix(*prefix)
            .is_some_and(|rest| rest.is_empty() || rest[0] == b'/' || *prefix == b"/dev/std")
    })
}

/// /proc/PID/mem of a caller.
struct Memory(std::fs::File);

impl Memory {
    fn read(&self, address: u64, buffer: &mut [u8]) -> nix::Result<usize> {
        std::os::unix::fs::FileExt::read_at(&self.0, buffer, address).map_err(|_| Errno::EFAULT)
    }

    fn write(&self, address: u64, bytes: &[u8]) -> nix::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(&self.0, bytes, address).map_err(|_| Errno::EFAULT)
    }
}

#[cfg(test)]
mod tests {
    use super::is_per_process;

    #[test]
    fn paths_of_the_kernel_are_left_to_it() {
        for path in [
            "/proc",
            "/proc/self/fd/1",
            "/sys/x",
            "/dev/fd/3",
            "/dev/stdout",
        ] {
            assert!(is_per_process(path.as_bytes()), "{path}");
        }
        for path in [
            "/",
            "/process",
            "/system",
            "/dev/fdx",
            "proc/self",
            "/dev/null",
        ] {
            assert!(!is_per_process(path.as_bytes()), "{path}");
        }
    }
}
