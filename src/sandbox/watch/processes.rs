//! The processes of a sandbox, as its own /proc shows them.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::sys;

/// What the processes of a sandbox are together; pid 1 does not count.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) processes: u64,
    /// Bytes of memory that no file with a name stands for.
    pub(super) anonymous: u64,
}

/// The /proc of the sandbox whose pid 1 is `first`. The sandbox cannot put another there unless it has
/// the right to mount.
fn proc_of(first: i32) -> PathBuf {
    PathBuf::from(format!("/proc/{first}/root/proc"))
}

/// The process that `pidfd` stands for, as this process counts (pidfd_open(2)).
pub(super) fn pid_of(pidfd: &OwnedFd) -> Option<i32> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).ok()?;
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:"))?;
    pid.trim().parse().ok().filter(|pid| *pid > 0)
}

impl Tally {
    /// `None` when the sandbox cannot be looked into: it has just begun, or ended.
    pub(super) fn take(first: i32, memory: bool) -> Option<Self> {
        let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)
            .ok()
            .flatten()
            .and_then(|page| u64::try_from(page).ok())
            .unwrap_or(4096);
        let mut tally = Self::default();
        let mut held = Held::default();
        for process in processes(first)? {
            tally.processes += 1;
            if !memory {
                continue;
            }
            // One that has ended since it was listed has nothing any more.
            if let Ok(statm) = fs::read_to_string(process.join("statm")) {
                tally.anonymous += anonymous_pages(&statm) * page;
            }
            held.add(&process);
        }
        tally.anonymous += held.in_memory;
        Some(tally)
    }
}

/// The directories in /proc of every process but pid 1.
fn processes(first: i32) -> Option<Vec<PathBuf>> {
    let proc = proc_of(first);
    let entries = fs::read_dir(&proc).ok()?;
    let mut pids: Vec<i32> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    // Before pid 1 has its own root, and where it cannot have its own /proc, that is the one of this
    // process, with everything on the host.
    if fs::read_link(proc.join("self")).is_ok() {
        pids = descendants(&proc, &pids, first);
    } else {
        pids.retain(|pid| *pid != 1);
    }
    let path = |pid: i32| proc.join(pid.to_string());
    Some(pids.into_iter().map(path).collect())
}

/// Those of `pids` that came from `first`. An orphan goes to pid 1 of its namespace, so none of a
/// sandbox is missed.
fn descendants(proc: &Path, pids: &[i32], first: i32) -> Vec<i32> {
    let parent = |pid: &i32| {
        let stat = fs::read_to_string(proc.join(format!("{pid}/stat"))).ok()?;
        // The name in front may have spaces and parentheses (proc_pid_stat(5)).
        let (_, fields) = stat.rsplit_once(')')?;
        let parent: i32 = fields.split_whitespace().nth(1)?.parse().ok()?;
        Some((*pid, parent))
    };
    let parents: HashMap<i32, i32> = pids.iter().filter_map(parent).collect();
    let descends = |pid: &i32| {
        let mut ancestors = std::iter::successors(parents.get(pid), |pid| parents.get(pid));
        // Ids that were taken anew while this was read could make a circle.
        ancestors
            .by_ref()
            .take(parents.len())
            .any(|pid| *pid == first)
    };
    pids.iter().copied().filter(descends).collect()
}

/// Resident pages without those of files and of shared memory (proc_pid_statm(5)).
fn anonymous_pages(statm: &str) -> u64 {
    let mut numbers = statm.split_whitespace().skip(1).map(str::parse::<u64>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(resident)), Some(Ok(shared))) => resident.saturating_sub(shared),
        _ => 0,
    }
}

/// Bytes of the files without a name that the processes of the sandbox hold open on disk.
pub(super) fn held_bytes(first: i32) -> u64 {
    let mut held = Held::default();
    for process in processes(first).into_iter().flatten() {
        held.add(&process);
    }
    held.on_disk
}

/// The files without a name that processes hold open, each once.
#[derive(Debug, Default)]
struct Held {
    seen: HashSet<(u64, u64)>,
    on_disk: u64,
    /// memfd_create(2): memory that no process has to map.
    in_memory: u64,
}

impl Held {
    fn add(&mut self, process: &Path) {
        let descriptors = fs::read_dir(process.join("fd")).into_iter().flatten();
        for path in descriptors.flatten().map(|descriptor| descriptor.path()) {
            let Ok(stat) = nix::sys::stat::stat(&path) else {
                continue;
            };
            let is_file = sys::fs::Kind::of(&stat) == sys::fs::Kind::Regular;
            if !is_file || stat.st_nlink > 0 || !self.seen.insert((stat.st_dev, stat.st_ino)) {
                continue;
            }
            let bytes = u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
            let name = fs::read_link(&path).unwrap_or_default();
            if name.as_os_str().as_bytes().starts_with(b"/memfd:") {
                self.in_memory += bytes;
            } else {
                self.on_disk += bytes;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anonymous_memory_is_what_no_file_stands_for() {
        for (statm, pages) in [
            ("1000 300 100 10 0 200 0\n", 200),
            ("1000 100 300 10 0 200 0\n", 0),
            ("0 0 0 0 0 0 0\n", 0),
            ("", 0),
        ] {
            assert_eq!(anonymous_pages(statm), pages, "{statm:?}");
        }
    }

    #[test]
    fn of_the_processes_of_a_host_the_descendants_count() {
        let own = nix::unistd::getpid().as_raw();
        let mut child = std::process::Command::new("sleep")
            .arg("1000")
            .spawn()
            .unwrap();
        let id = i32::try_from(child.id()).unwrap();
        let of_child = processes(id);
        let of_own = descendants(Path::new("/proc"), &[1, own, id], own);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(of_child, Some(Vec::new()));
        assert_eq!(of_own, [id]);
    }

    #[test]
    fn a_pidfd_tells_its_process() {
        let own = nix::unistd::getpid();
        let pidfd = sys::process::pidfd_open(own).unwrap();
        assert_eq!(pid_of(&pidfd), Some(own.as_raw()));
    }
}
