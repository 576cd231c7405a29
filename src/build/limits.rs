//! What a build or a command may take of the host. None of it changes a result, so none of it is part
//! of a cache key.

use std::path::PathBuf;

use crate::layer;
use crate::sandbox::{Bounds, Exceeded, Limit, Mount, Status, size};

/// The limits by the names of `--limits`; `None` is as much as there is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Wall time of one RUN.
    pub(crate) step_seconds: Option<u64>,
    /// Wall time of the whole.
    pub(crate) build_seconds: Option<u64>,
    /// RUNs that go on at one time.
    pub(crate) parallel_steps: Option<u64>,
    /// Time of the processes of one RUN, in thousandths of what one CPU has.
    pub(crate) cpus: Option<u64>,
    /// Processes of one RUN at one time.
    pub(crate) processes: Option<u64>,
    /// Open files of each process.
    pub(crate) open_files: Option<u64>,
    /// Bytes of each file that a process writes.
    pub(crate) file_size: Option<u64>,
    /// Bytes of memory of one RUN, and of addresses of each of its processes.
    pub(crate) memory: Option<u64>,
    /// Bytes that one RUN adds to its layer and caches.
    pub(crate) written_bytes: Option<u64>,
    /// Files that it adds to them.
    pub(crate) written_files: Option<u64>,
    /// Bytes of a RUN's output that are shown.
    pub(crate) log_bytes: Option<u64>,
    /// Bytes that one archive or layer unpacks to.
    pub(crate) unpack_bytes: Option<u64>,
    /// Entries of one archive or layer.
    pub(crate) unpack_files: Option<u64>,
}

/// The kernel counts every thread of the build's user namespace, rbuild's own and those of other steps
/// too, so its wall stands a little behind what is counted exactly.
const ROOM_FOR_OWN: u64 = 64;

impl Limits {
    /// What the kernel holds every process of a sandbox to.
    pub(crate) fn of_processes(&self) -> Vec<Limit> {
        let limits = [
            (
                "nproc",
                self.processes.map(|n| n.saturating_add(ROOM_FOR_OWN)),
            ),
            ("nofile", self.open_files),
            ("fsize", self.file_size),
            ("as", self.memory),
        ];
        let limit = |(name, value): (&str, Option<u64>)| {
            let value = value?;
            Some(Limit {
                name: name.to_owned(),
                soft: value,
                hard: value,
            })
        };
        limits.into_iter().filter_map(limit).collect()
    }

    /// What a sandbox that also writes to `directories` is held to by rbuild.
    pub(crate) fn of_sandbox(&self, directories: Vec<PathBuf>) -> Bounds {
        Bounds {
            seconds: self.step_seconds,
            cpus: self.cpus,
            processes: self.processes,
            memory: self.memory,
            written_bytes: self.written_bytes,
            written_files: self.written_files,
            directories,
        }
    }

    /// What an archive is held to.
    pub(crate) fn of_archives(&self) -> layer::Limits {
        let default = layer::Limits::default();
        let total_bytes = self.unpack_bytes.unwrap_or(default.total_bytes);
        layer::Limits {
            entries: self.unpack_files.unwrap_or(default.entries),
            file_bytes: default.file_bytes.min(total_bytes),
            total_bytes,
            ..default
        }
    }

    /// Keeps file systems in memory without a size of their own from being a way around `memory`.
    pub(crate) fn bound_mounts(&self, mounts: &mut [Mount]) {
        for mount in mounts {
            if let (Mount::Tmpfs { size, .. }, Some(memory)) = (mount, self.memory) {
                *size = Some(size.map_or(memory, |size| size.min(memory)));
            }
        }
    }

    /// The limit that a command which failed has met, as far as it and its last lines tell: the kernel
    /// tells only the command.
    pub(crate) fn blame(&self, status: Status, log: &[String]) -> Option<Exceeded> {
        let sigxfsz = nix::sys::signal::Signal::SIGXFSZ as i32;
        let too_large = status == Status::Signal(sigxfsz) || status == Status::Code(128 + sigxfsz);
        let count = |number: u64| number.to_string();
        let suspects = [
            (
                "file-size",
                self.file_size.map(size),
                "a process wrote a file that is larger",
                ["File too large", "file size limit exceeded"],
            ),
            (
                "open-files",
                self.open_files.map(count),
                "a process opened more files",
                ["Too many open files", "No file descriptors available"],
            ),
            (
                "processes",
                self.processes.map(count),
                "the step wanted more processes",
                ["Resource temporarily unavailable", "can't fork"],
            ),
            (
                "memory",
                self.memory.map(size),
                "a process wanted more memory",
                ["out of memory", "Cannot allocate memory"],
            ),
        ];
        suspects.into_iter().find_map(|(name, value, what, texts)| {
            let says = texts
                .iter()
                .any(|text| log.iter().any(|line| line.contains(text)));
            let is_it = says || name == "file-size" && too_large;
            let value = value.filter(|_| is_it)?;
            Some(Exceeded {
                name,
                value,
                what: what.to_owned(),
            })
        })
    }
}

/// What of a RUN's output is shown; the rest is read, so that the command does not wait, and dropped.
#[derive(Debug)]
pub(crate) struct Clip {
    most: Option<u64>,
    left: u64,
    said: bool,
}

impl Clip {
    pub(crate) fn new(most: Option<u64>) -> Self {
        Self {
            most,
            left: most.unwrap_or(u64::MAX),
            said: false,
        }
    }

    /// The part of `bytes` that is shown, with a line that says so where the output ends.
    pub(crate) fn cut(&mut self, mut bytes: Vec<u8>) -> Vec<u8> {
        let length = bytes.len() as u64;
        if length <= self.left {
            self.left -= length;
            return bytes;
        }
        bytes.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left = 0;
        if let Some(most) = self.most
            && !std::mem::replace(&mut self.said, true)
        {
            let line = format!(
                "\n[output clipped: the limit log-bytes={} is reached]\n",
                size(most)
            );
            bytes.extend_from_slice(line.as_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_cut_once_with_a_line_that_says_so() {
        let mut clip = Clip::new(Some(4));
        assert_eq!(clip.cut(b"abc".to_vec()), b"abc");
        let cut = String::from_utf8(clip.cut(b"def".to_vec())).unwrap();
        assert_eq!(
            cut,
            "d\n[output clipped: the limit log-bytes=4 is reached]\n"
        );
        assert_eq!(clip.cut(b"ghi".to_vec()), b"");
        let mut free = Clip::new(None);
        assert_eq!(free.cut(b"abc".to_vec()), b"abc");
    }

    #[test]
    fn a_failed_command_tells_which_limit_it_met() {
        let limits = Limits {
            file_size: Some(1 << 20),
            open_files: Some(64),
            ..Limits::default()
        };
        for (status, line, named) in [
            (Status::Code(153), "", Some("file-size=1m")),
            (Status::Signal(25), "", Some("file-size=1m")),
            (
                Status::Code(1),
                "sh: write error: File too large",
                Some("file-size=1m"),
            ),
            (
                Status::Code(1),
                "open: Too many open files",
                Some("open-files=64"),
            ),
            (Status::Code(1), "sh: can't fork", None),
            (Status::Code(1), "no such file", None),
        ] {
            let blamed = limits.blame(status, &[line.to_owned()]);
            match named {
                Some(named) => {
                    let text = blamed.unwrap().to_string();
                    assert!(text.contains(named), "{line}: {text}");
                }
                None => assert_eq!(blamed, None, "{line}"),
            }
        }
    }
}
