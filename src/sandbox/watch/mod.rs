//! Ending a sandbox that takes more than it may: what no wall of the kernel stops is looked at.
//!
//! An unprivileged process has no disk quota and seldom a cgroup ([`super::cgroup`]), so the parent looks
//! every [`INTERVAL`] at the clock, at the processes in the sandbox's own /proc, and at what it wrote.

mod disk;
mod processes;

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use nix::poll::PollTimeout;

use disk::Meter;
use processes::Tally;

use super::Spec;
use super::cgroup::{self, Group};

/// How often a sandbox is looked at.
const INTERVAL: Duration = Duration::from_millis(100);

/// What a sandbox may take. `None` is as much as it likes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bounds {
    /// Wall time, from the start of the sandbox.
    pub(crate) seconds: Option<u64>,
    /// Time of all its processes together, in thousandths of what one CPU has; only a cgroup keeps it.
    pub(crate) cpus: Option<u64>,
    /// Processes that exist at one time.
    pub(crate) processes: Option<u64>,
    /// Bytes of anonymous memory of all its processes; what several share counts for each.
    pub(crate) memory: Option<u64>,
    /// Bytes on disk that the sandbox may add to its upper directory and `directories`.
    pub(crate) written_bytes: Option<u64>,
    /// Files, directories and links that it may add there.
    pub(crate) written_files: Option<u64>,
    /// What is written to besides the upper directory.
    pub(crate) directories: Vec<PathBuf>,
}

/// A limit that ended something: its name on the command line, its value as one types it there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) struct Exceeded {
    pub(crate) name: &'static str,
    pub(crate) value: String,
    /// What was done that it does not allow, as `the step took longer`.
    pub(crate) what: String,
}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, value, what } = self;
        write!(f, "{what} than the limit {name}={value} allows")
    }
}

/// Bytes as `--limits` takes them.
pub(crate) fn size(bytes: u64) -> String {
    for (unit, letter) in [(40, "t"), (30, "g"), (20, "m"), (10, "k")] {
        if bytes > 0 && bytes.trailing_zeros() >= unit {
            return format!("{}{letter}", bytes >> unit);
        }
    }
    bytes.to_string()
}

/// Looks at one sandbox from its start to its end.
pub(super) struct Watch<'a> {
    bounds: &'a Bounds,
    deadline: Option<Instant>,
    next: Option<Instant>,
    /// The id of pid 1 of the sandbox among the processes of this one.
    first: Arc<OnceLock<i32>>,
    has_processes: bool,
    disk: Option<Meter>,
    group: Option<Group>,
}

impl<'a> Watch<'a> {
    /// Begins, for the sandbox that `spec` is about to become.
    pub(super) fn start(spec: &Spec, bounds: &'a Bounds) -> std::io::Result<Self> {
        let now = Instant::now();
        let upper = PathBuf::from(spec.tree.as_ref().unwrap_or(&spec.upper));
        let first = Arc::new(OnceLock::new());
        let has_disk = bounds.written_bytes.is_some() || bounds.written_files.is_some();
        let disk = has_disk
            .then(|| {
                let mut directories = vec![upper];
                directories.extend(bounds.directories.iter().cloned());
                Meter::start(bounds, directories, Arc::clone(&first))
            })
            .transpose()?;
        // Without namespaces it has no /proc of its own.
        let has_processes = spec.tree.is_none();
        let samples = has_disk || bounds.processes.is_some() || bounds.memory.is_some();
        Ok(Self {
            bounds,
            deadline: bounds
                .seconds
                .and_then(|seconds| now.checked_add(Duration::from_secs(seconds))),
            next: samples.then_some(now + INTERVAL),
            first,
            has_processes,
            disk,
            group: None,
        })
    }

    /// Puts init, which has started nothing yet, into a cgroup where there are any.
    pub(super) fn hold(&mut self, init: u32) -> Result<(), cgroup::Error> {
        self.group = cgroup::group(self.bounds)?;
        self.group.as_ref().map_or(Ok(()), |group| group.add(init))
    }

    /// Whether the sandbox has a cgroup, which is there as long as its processes are.
    pub(super) fn is_grouped(&self) -> bool {
        self.group.is_some()
    }

    /// How long the caller may wait before it looks again.
    pub(super) fn timeout(&self) -> PollTimeout {
        let wake = [self.deadline, self.next].into_iter().flatten().min();
        let Some(wake) = wake else {
            return PollTimeout::NONE;
        };
        // A millisecond more, so that the time has come when the wait is over.
        let left = wake.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
    }

    /// What the sandbox has taken too much of. `first` is a pidfd of its pid 1, once there is one.
    pub(super) fn look(&mut self, first: Option<&OwnedFd>) -> Option<Exceeded> {
        let now = Instant::now();
        if let (Some(deadline), Some(seconds)) = (self.deadline, self.bounds.seconds)
            && now >= deadline
        {
            return Some(Exceeded {
                name: "step-seconds",
                value: seconds.to_string(),
                what: "the step took longer".to_owned(),
            });
        }
        if self.next.is_none_or(|next| now < next) {
            return None;
        }
        let exceeded = self.sample(first);
        // What a look costs must not become what the build costs.
        self.next = Some(Instant::now() + INTERVAL.max(now.elapsed() * 9));
        exceeded
    }

    fn sample(&mut self, first: Option<&OwnedFd>) -> Option<Exceeded> {
        if self.has_processes
            && self.first.get().is_none()
            && let Some(pid) = first.and_then(processes::pid_of)
        {
            self.first.get_or_init(|| pid);
        }
        if let Some(exceeded) = self.disk.as_ref().and_then(Meter::exceeded) {
            return Some(exceeded);
        }
        let Bounds {
            processes, memory, ..
        } = *self.bounds;
        if processes.is_none() && memory.is_none() {
            return None;
        }
        let tally = Tally::take(*self.first.get()?, memory.is_some())?;
        if let Some(most) = processes.filter(|most| tally.processes > *most) {
            return Some(Exceeded {
                name: "processes",
                value: most.to_string(),
                what: "the step had more processes".to_owned(),
            });
        }
        let most = memory.filter(|most| tally.anonymous > *most)?;
        Some(Exceeded {
            name: "memory",
            value: size(most),
            what: "the processes of the step together had more memory".to_owned(),
        })
    }

    /// What the sandbox, of which no process is left, has taken too much of since the last look.
    pub(super) fn finish(mut self) -> Option<Exceeded> {
        let written = self.disk.take().and_then(Meter::finish);
        self.group.take().and_then(Group::finish).or(written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_shown_as_they_are_typed() {
        for (bytes, text) in [
            (0, "0"),
            (1000, "1000"),
            (1024, "1k"),
            (1536, "1536"),
            (64 << 20, "64m"),
            (3 << 30, "3g"),
            (1 << 40, "1t"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
