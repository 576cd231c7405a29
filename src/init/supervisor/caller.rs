//! Who asks: arguments, memory, and the files that its arguments name.

use std::ffi::CString;

use nix::errno::Errno;

use crate::sandbox::emulation::calls::{self, Call};
use crate::sys::notify::{self, Listener, Notification};

/// A call that waits for its answer.
pub(super) struct Caller<'a> {
    listener: &'a Listener,
    notification: Notification,
}

/// A file as the caller names it, in words of the supervisor: absolute in the root that both have, or
/// relative to the /proc in which the supervisor sees the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) path: CString,
    /// Whether a link at the end of the path is followed.
    pub(super) follow: bool,
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

/// Paths that mean something else to each process, or files that have no owner to keep.
const PER_PROCESS: [&[u8]; 4] = [b"/proc", b"/sys", b"/dev/fd", b"/dev/std"];

impl<'a> Caller<'a> {
    pub(super) fn new(listener: &'a Listener, notification: Notification) -> Self {
        Self {
            listener,
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
        let mut text = vec![0; limit];
        let mut filled = 0;
        while filled < limit {
            // Memory may end at any page, so none is touched before the one before it was read.
            let at = address + filled as u64;
            let rest = usize::try_from(PAGE - at % PAGE).expect("less than a page");
            let end = limit.min(filled + rest);
            let count = self.read(at, &mut text[filled..end])?;
            if let Some(length) = text[filled..filled + count]
                .iter()
                .position(|byte| *byte == 0)
            {
                text.truncate(filled + length);
                return Ok(text);
            }
            filled += count;
            if count == 0 {
                return Err(Errno::EFAULT);
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
        if is_per_process(path) {
            return Ok(None);
        }
        let words = if path[0] == b'/' {
            path.to_vec()
        } else {
            let mut words = match directory {
                libc::AT_FDCWD => format!("{}/cwd/", self.notification.pid),
                fd if fd < 0 => return Err(Errno::EBADF),
                fd => format!("{}/fd/{fd}/", self.notification.pid),
            }
            .into_bytes();
            words.extend_from_slice(path);
            words
        };
        if words.len() >= MAX_PATH {
            return Ok(None);
        }
        Ok(Some(Target {
            path: CString::new(words).expect("read up to a zero byte"),
            follow: !lookup.no_follow,
        }))
    }

    /// What the descriptor `fd`, or AT_FDCWD, stands for.
    pub(super) fn descriptor(&self, fd: i32) -> Option<Target> {
        let path = match fd {
            libc::AT_FDCWD => format!("{}/cwd", self.notification.pid),
            fd if fd < 0 => return None,
            fd => format!("{}/fd/{fd}", self.notification.pid),
        };
        Some(Target {
            path: CString::new(path).expect("digits and letters"),
            // The link in /proc, which leads to the file itself even where that is a link.
            follow: true,
        })
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
        let status = std::fs::read(format!("{}/status", self.notification.pid))
            .map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
        self.check()?;
        status
            .split(|byte| *byte == b'\n')
            .find_map(|line| line.strip_prefix(b"Umask:"))
            .and_then(|value| std::str::from_utf8(value).ok())
            .and_then(|value| u32::from_str_radix(value.trim(), 8).ok())
            .ok_or(Errno::EIO)
    }
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
