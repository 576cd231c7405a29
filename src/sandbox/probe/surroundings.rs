//! What is around rbuild: a container, its limits, and what a build may use when it is there.

use std::fs::{self, File};
use std::path::Path;

use super::verdict::Place;
use super::{Answer, Finding};
use crate::oci::Platform;
use crate::sandbox::cgroup::Delegation;
use crate::sandbox::{binfmt, userns};

/// Where this process runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Surroundings {
    pub(super) place: Place,
    pub(super) no_new_privs: bool,
    /// `Seccomp:` in proc_pid_status(5): 2 is a filter.
    has_filter: bool,
}

pub(super) fn look() -> Surroundings {
    let place = if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() {
        Place::Kubernetes
    } else if Path::new("/.dockerenv").exists() {
        Place::Docker
    } else if Path::new("/run/.containerenv").exists() {
        Place::Podman
    } else {
        Place::Host
    };
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .map_or("", str::trim)
    };
    Surroundings {
        place,
        no_new_privs: field("NoNewPrivs:") == "1",
        has_filter: field("Seccomp:") == "2",
    }
}

impl Surroundings {
    pub(super) fn describe_user(&self, uid: u32, name: Option<&str>) -> String {
        let user = match name {
            Some(name) => format!("{name} (uid {uid})"),
            None => format!("uid {uid}, which has no name"),
        };
        let place = match self.place {
            Place::Host => "",
            Place::Docker => ", in a docker container",
            Place::Podman => ", in a podman container",
            Place::Kubernetes => ", in a Kubernetes pod",
        };
        let limits = match (self.no_new_privs, self.has_filter) {
            (true, true) => ", with no_new_privs and a seccomp filter",
            (true, false) => ", with no_new_privs",
            (false, true) => ", with a seccomp filter",
            (false, false) => "",
        };
        format!("{user}{place}{limits}")
    }

    pub(super) fn findings(&self) -> Vec<Finding> {
        vec![
            Finding::new(
                "cgroup",
                "limits of CPU time, memory and processes",
                cgroup(),
            ),
            Finding::new("tun", "--network=isolated", tun()),
            Finding::new("pasta", "--network=isolated", pasta()),
            Finding::new(
                "binfmt",
                "RUN of images for other architectures",
                handlers(),
            ),
        ]
    }
}

/// Major and minor number of the kernel, if it says them.
pub(super) fn kernel() -> Option<(u32, u32)> {
    let name = nix::sys::utsname::uname().ok()?;
    version(name.release().to_str()?)
}

/// `6.1` of `6.1.0-18-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Whether this user may make cgroups below its own (cgroups(7), delegation).
fn cgroup() -> Answer {
    Delegation::find()
        .and_then(|delegation| delegation.describe())
        .map(|controllers| format!("delegated: {controllers}"))
        .map_err(|lack| lack.to_string())
}

fn tun() -> Answer {
    match File::options().read(true).write(true).open("/dev/net/tun") {
        Ok(_) => Ok("/dev/net/tun can be opened".to_owned()),
        Err(error) => Err(format!("/dev/net/tun: {error}")),
    }
}

fn pasta() -> Answer {
    userns::find_helper("pasta")
        .map(|path| path.display().to_string())
        .ok_or_else(|| "not installed (package passt)".to_owned())
}

fn handlers() -> Answer {
    let foreign: Vec<&str> = [
        "amd64", "arm64", "arm", "386", "riscv64", "ppc64le", "s390x",
    ]
    .into_iter()
    .filter(|architecture| {
        let platform = Platform::new("linux", architecture, None);
        *architecture != Platform::host().architecture && binfmt::can_run(&platform)
    })
    .collect();
    if foreign.is_empty() {
        return Err("none".to_owned());
    }
    Ok(foreign.join(", "))
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn kernels_have_two_numbers_that_count() {
        for (release, numbers) in [
            ("6.1.0-18-amd64", Some((6, 1))),
            ("5.14", Some((5, 14))),
            ("5.4+", Some((5, 4))),
            ("six", None),
        ] {
            assert_eq!(version(release), numbers, "{release}");
        }
    }
}
