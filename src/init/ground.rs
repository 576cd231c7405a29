//! What of a sandbox's root file system does not depend on its command: /proc, /sys and /dev, mounted in a
//! place of their own until there is an image to move them to.
//!
//! Nearly all of the time that a sandbox takes to start goes here, so it is made while the command before
//! still runs ([`crate::sandbox`]'s reserve). Nothing of it is shared: another sandbox has another.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::Path;

use super::failure::At as _;
use super::{Notes, devices, filesystems};
use crate::sandbox::spec::{Failure, Network, Step};
use crate::sys::mount::{Attributes, Context, Propagation};
use crate::sys::{self, fs, mount};

/// The mounts of one sandbox, waiting for its root.
pub(super) struct Laid {
    /// A small file system of our own, on top of the host's root. Host paths still work, because an absolute
    /// path starts below it.
    pub(super) scratch: OwnedFd,
    pub(super) proc: OwnedFd,
    pub(super) sys: OwnedFd,
    pub(super) dev: OwnedFd,
}

/// To be called by pid 1 of new namespaces, with its capabilities.
pub(super) fn lay(network: Network, shm_size: u64, notes: &mut Notes) -> Result<Laid, Failure> {
    // Nothing goes back to the host. What it mounts until the spec is there is still seen.
    mount::set_propagation(Propagation::Slave).at(Step::Rootfs)?;
    let scratch = scratch().at(Step::Rootfs)?;
    let place = OsStr::new("ground");
    fs::make_directory_at(&scratch, place, 0o700).at(Step::Rootfs)?;
    let place = fs::open_directory_at(&scratch, place).at(Step::Rootfs)?;
    let proc = filesystems::mount_proc(&place, notes).at(Step::Proc)?;
    let sys = filesystems::mount_sys(&place, network).at(Step::Sys)?;
    filesystems::mask(&place).at(Step::Masks)?;
    let dev = devices::mount(&place, shm_size).at(Step::Dev)?;
    Ok(Laid {
        scratch,
        proc,
        sys,
        dev,
    })
}

fn scratch() -> sys::Result<OwnedFd> {
    let context = Context::open(c"tmpfs")?;
    context.set(c"mode", OsStr::new("0700"))?;
    let scratch = context.mount(Attributes {
        no_dev: true,
        no_suid: true,
        ..Attributes::default()
    })?;
    mount::attach(&scratch, fs::open_directory(Path::new("/"))?)?;
    Ok(scratch)
}
