//! /dev: the devices of the OCI runtime-spec ("Default Devices"), bound from the host because a user
//! namespace cannot make device nodes.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::makedev;

use crate::sandbox::spec::DEVICES;
use crate::sys::mount::{Attributes, Context};
use crate::sys::{self, fs, mount};

const LINKS: [(&str, &str); 6] = [
    ("core", "/proc/kcore"),
    ("fd", "/proc/self/fd"),
    ("ptmx", "pts/ptmx"),
    ("stderr", "/proc/self/fd/2"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
];

const NO_SUID_NO_EXEC: Attributes = Attributes {
    read_only: false,
    no_suid: true,
    no_dev: false,
    no_exec: true,
};

/// Read-only protects mode and owner of the host's node; writing to a device is not writing to a file
/// system, so it still works.
const NODE: Attributes = Attributes {
    read_only: true,
    ..NO_SUID_NO_EXEC
};

const NO_DEVICES: Attributes = Attributes {
    no_dev: true,
    ..NO_SUID_NO_EXEC
};

/// Mounts /dev in `place`, with its nodes, links, pts, shm (of `shm_size` bytes) and mqueue.
pub(super) fn mount(place: &OwnedFd, shm_size: u64) -> sys::Result<OwnedFd> {
    let context = Context::open(c"tmpfs")?;
    // Not 1777: with fs.protected_regular that would keep root from opening what others own in it.
    context.set(c"mode", OsStr::new("0755"))?;
    context.set(c"size", OsStr::new("65536k"))?;
    let dev = context.mount(NO_SUID_NO_EXEC)?;
    attach_in(place, "dev", &dev)?;

    for (name, major, minor) in DEVICES {
        let node = clone_node(name, major, minor)?;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
        mount::attach(node, fs::open_at(&dev, OsStr::new(name), flags, 0o666)?)?;
    }
    for (name, text) in LINKS {
        fs::symlink_at(OsStr::new(text), &dev, OsStr::new(name))?;
    }
    attach_in(&dev, "pts", &devpts()?)?;
    let context = Context::open(c"tmpfs")?;
    context.set(c"mode", OsStr::new("1777"))?;
    context.set(c"size", OsStr::new(&shm_size.to_string()))?;
    attach_in(&dev, "shm", &context.mount(NO_DEVICES)?)?;
    let mqueue = Context::open(c"mqueue")?.mount(NO_DEVICES)?;
    attach_in(&dev, "mqueue", &mqueue)?;
    Ok(dev)
}

/// A detached mount of the host's /dev/null.
pub(super) fn clone_null() -> sys::Result<OwnedFd> {
    let (name, major, minor) = DEVICES[0];
    clone_node(name, major, minor)
}

fn clone_node(name: &str, major: u64, minor: u64) -> sys::Result<OwnedFd> {
    let path = Path::new("/dev").join(name);
    let node = mount::clone_mount(mount::working_directory(), &path)?;
    let stat = fs::stat(&node)?;
    if fs::Kind::of(&stat) != fs::Kind::CharDevice || stat.st_rdev != makedev(major, minor) {
        return Err(sys::Error::on("open_tree", path, Errno::ENODEV));
    }
    mount::restrict(&node, NODE)?;
    Ok(node)
}

/// Attaches a detached mount to a new directory.
pub(super) fn attach_in(place: &OwnedFd, name: &str, mounted: &OwnedFd) -> sys::Result<()> {
    let name = OsStr::new(name);
    fs::make_directory_at(place, name, 0o755)?;
    mount::attach(mounted, fs::open_directory_at(place, name)?)
}

/// A private instance of terminals, of group tty (5) as everywhere, if this namespace has that group.
fn devpts() -> sys::Result<OwnedFd> {
    match configure_devpts(Some("5")) {
        Err(error) if error.errno == Errno::EINVAL => configure_devpts(None),
        other => other,
    }
}

fn configure_devpts(group: Option<&str>) -> sys::Result<OwnedFd> {
    let context = Context::open(c"devpts")?;
    context.set_flag(c"newinstance")?;
    context.set(c"ptmxmode", OsStr::new("0666"))?;
    context.set(c"mode", OsStr::new("0620"))?;
    if let Some(group) = group {
        context.set(c"gid", OsStr::new(group))?;
    }
    context.mount(NO_SUID_NO_EXEC)
}
