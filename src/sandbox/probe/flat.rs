//! What the chroot rung needs: root's calls without any namespace.

use std::ffi::OsStr;
use std::path::Path;

use nix::sys::stat::{Mode, SFlag};
use nix::unistd::{Gid, Uid};

use super::{Answer, in_child};
use crate::sys;

/// Tries in a child what a RUN in a chroot does, in a new directory of `scratch`.
pub(super) fn try_it(scratch: &Path) -> Answer {
    if !nix::unistd::geteuid().is_root() {
        return Err("not root".to_owned());
    }
    let directory = tempfile::Builder::new()
        .prefix(".rbuild-probe-")
        .tempdir_in(scratch)
        .map_err(|error| format!("{}: {error}", scratch.display()))?;
    let answer = in_child(|| {
        let answer = match calls(directory.path()) {
            Ok(devices) => Ok(devices),
            Err(error) => Err(error.to_string()),
        };
        serde_json::to_vec(&answer).unwrap_or_default()
    });
    answer
        .and_then(|answer| serde_json::from_slice(&answer).ok())
        .unwrap_or_else(|| Err("the probe died".to_owned()))
}

fn calls(directory: &Path) -> sys::Result<String> {
    let failed = |call| move |errno| sys::Error::new(call, "", errno);
    let parent = sys::fs::open_directory(directory)?;
    nix::unistd::fchown(&parent, Some(Uid::from_raw(1)), Some(Gid::from_raw(1)))
        .map_err(failed("chown"))?;
    nix::unistd::fchown(&parent, Some(Uid::from_raw(0)), Some(Gid::from_raw(0)))
        .map_err(failed("chown"))?;
    let device = nix::sys::stat::mknodat(
        &parent,
        OsStr::new("null"),
        SFlag::S_IFCHR,
        Mode::from_bits_truncate(0o666),
        nix::sys::stat::makedev(1, 3),
    );
    nix::unistd::chroot(directory).map_err(failed("chroot"))?;
    let (uid, gid) = (Uid::from_raw(1), Gid::from_raw(1));
    nix::unistd::setgroups(&[gid]).map_err(failed("setgroups"))?;
    nix::unistd::setresgid(gid, gid, gid).map_err(failed("setresgid"))?;
    nix::unistd::setresuid(uid, uid, uid).map_err(failed("setresuid"))?;
    Ok(match device {
        Ok(()) => "chroot, chown, setuid and mknod work".to_owned(),
        Err(errno) => format!(
            "chroot, chown and setuid work, mknod does not ({})",
            errno.desc()
        ),
    })
}
