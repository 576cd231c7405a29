//! The kernel's own file systems: /proc, /sys, and what of them a command must not see or change. All of it is
//! mounted in a place that is not the image, from where it is moved there.

use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::{Notes, devices};
use crate::sandbox::spec::Network;
use crate::sys::mount::{Attributes, Context};
use crate::sys::{self, fs, mount};

/// Docker's masked paths (moby, `daemon/pkg/oci/defaults.go`).
const MASKED: [&str; 12] = [
    "proc/acpi",
    "proc/asound",
    "proc/interrupts",
    "proc/kcore",
    "proc/keys",
    "proc/latency_stats",
    "proc/sched_debug",
    "proc/scsi",
    "proc/timer_list",
    "proc/timer_stats",
    "sys/devices/virtual/powercap",
    "sys/firmware",
];

/// Docker's read-only paths (the same file).
const READ_ONLY: [&str; 5] = [
    "proc/bus",
    "proc/fs",
    "proc/irq",
    "proc/sys",
    "proc/sysrq-trigger",
];

const INERT: Attributes = Attributes {
    read_only: false,
    no_suid: true,
    no_dev: true,
    no_exec: true,
};

const INERT_READ_ONLY: Attributes = Attributes {
    read_only: true,
    ..INERT
};

/// Mounts the /proc of the new pid namespace. Where the kernel refuses that, because part of the host's
/// /proc is covered (as in a container), the host's is bound, read-only with all below it: otherwise
/// `/proc/<pid>/oom_score_adj` of the user's processes could be written.
pub(super) fn mount_proc(place: &OwnedFd, notes: &mut Notes) -> sys::Result<OwnedFd> {
    let fresh = Context::open(c"proc").and_then(|context| context.mount(INERT));
    let proc = match fresh {
        Err(error) if error.errno == Errno::EPERM => {
            notes.warnings.push(
                "parts of the host's /proc are masked, so the sandbox has a read-only view of it \
                 instead of its own"
                    .to_owned(),
            );
            bind_read_only("/proc")?
        }
        other => other?,
    };
    devices::attach_in(place, "proc", &proc)?;
    Ok(proc)
}

/// Mounts /sys read-only: a fresh one if the network namespace is the sandbox's own, else the kernel
/// refuses and the host's is bound.
pub(super) fn mount_sys(place: &OwnedFd, network: Network) -> sys::Result<OwnedFd> {
    let own = match network {
        Network::Host => None,
        Network::None | Network::Isolated => Context::open(c"sysfs")
            .and_then(|context| context.mount(INERT_READ_ONLY))
            .ok(),
    };
    let sys = match own {
        Some(sys) => sys,
        None => bind_read_only("/sys")?,
    };
    devices::attach_in(place, "sys", &sys)?;
    mount_cgroup(place)?;
    Ok(sys)
}

/// The cgroup namespace's own hierarchy; an empty directory where the host has no cgroup2.
fn mount_cgroup(place: &OwnedFd) -> sys::Result<()> {
    let Some(target) = try_open(place, "sys/fs/cgroup")? else {
        return Ok(());
    };
    let cgroup = Context::open(c"cgroup2").and_then(|context| context.mount(INERT_READ_ONLY));
    let cgroup = match cgroup {
        Ok(cgroup) => cgroup,
        Err(_) => Context::open(c"tmpfs")?.mount(INERT_READ_ONLY)?,
    };
    mount::attach(cgroup, target)
}

/// Covers [`MASKED`] and write-protects [`READ_ONLY`], as far as this kernel has them. To be called while
/// nothing but [`mount_proc`] and [`mount_sys`] has put anything there.
pub(super) fn mask(place: &OwnedFd) -> sys::Result<()> {
    for path in MASKED {
        let Some(target) = try_open(place, path)? else {
            continue;
        };
        let cover = match fs::Kind::of(&fs::stat(&target)?) {
            fs::Kind::Directory => Context::open(c"tmpfs")?.mount(INERT_READ_ONLY)?,
            _ => devices::clone_null()?,
        };
        mount::attach(cover, target)?;
    }
    for path in READ_ONLY {
        let Some(target) = try_open(place, path)? else {
            continue;
        };
        // By its descriptor: before the pivot an absolute link on the way would start at the host's root.
        let tree = mount::clone_open(&target)?;
        mount::restrict(&tree, INERT_READ_ONLY)?;
        mount::attach(tree, target)?;
    }
    Ok(())
}

fn bind_read_only(path: &str) -> sys::Result<OwnedFd> {
    let tree = mount::clone_tree(mount::working_directory(), Path::new(path))?;
    mount::restrict(&tree, INERT_READ_ONLY)?;
    Ok(tree)
}

/// Opens a path of /proc or /sys; `None` where this kernel does not have it or does not show it.
fn try_open(place: &OwnedFd, path: &str) -> sys::Result<Option<OwnedFd>> {
    match fs::open_in_root(place, Path::new(path), OFlag::O_PATH, 0) {
        Ok(fd) => Ok(Some(fd)),
        Err(error) if matches!(error.errno, Errno::ENOENT | Errno::EACCES) => Ok(None),
        Err(error) => Err(error),
    }
}
