//! Which rung the findings amount to, and what would lead higher.

use serde::Serialize;

use super::ids::Single;
use super::{Answer, Facts, Refusal};
use crate::sandbox::rung::Rung;

/// Where a setting is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Place {
    /// A shell of root on the machine.
    Host,
    /// The command line of `docker run`.
    Docker,
    /// The command line of `podman run`.
    Podman,
    /// The `securityContext` of a pod or container.
    Kubernetes,
}

impl Place {
    /// Who can add the line, for people.
    pub(crate) fn heading(self) -> &'static str {
        match self {
            Self::Host => "root:",
            Self::Docker => "docker run:",
            Self::Podman => "podman run:",
            Self::Kubernetes => "pod:",
        }
    }
}

/// A line that someone can add.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Remedy {
    pub(crate) place: Place,
    pub(crate) line: String,
}

/// What stands between this host and a rung.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Lack {
    #[serde(serialize_with = "name_of")]
    pub(crate) rung: Rung,
    /// One fragment for each thing that is missing.
    pub(crate) missing: Vec<String>,
    /// All of one place are needed together.
    pub(crate) remedies: Vec<Remedy>,
}

fn name_of<S: serde::Serializer>(rung: &Rung, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(rung.name())
}

/// The first kernels with what a rung needs: overlay mounts in user namespaces, and descriptors that a
/// supervisor gives as results (`SECCOMP_ADDFD_FLAG_SEND`).
const OVERLAY: (u32, u32) = (5, 11);
const SUPERVISOR: (u32, u32) = (5, 14);

pub(super) fn kernel_answer(kernel: Option<(u32, u32)>) -> Answer {
    match kernel {
        None => Ok("of an unknown version".to_owned()),
        Some((major, minor)) if (major, minor) < SUPERVISOR => {
            Err(format!("Linux {major}.{minor}"))
        }
        Some((major, minor)) => Ok(format!("Linux {major}.{minor}")),
    }
}

impl Facts {
    pub(super) fn rung(&self) -> Rung {
        let best = Rung::ALL
            .into_iter()
            .find(|rung| self.lack(*rung).missing.is_empty());
        best.unwrap_or(Rung::CopyOnly)
    }

    pub(super) fn lacks(&self) -> Vec<Lack> {
        let reached = self.rung();
        let above = Rung::ALL.into_iter().filter(|rung| *rung < reached);
        let mut lacks: Vec<_> = above.map(|rung| self.lack(rung)).collect();
        lacks.reverse();
        lacks
    }

    fn lack(&self, rung: Rung) -> Lack {
        let mut lack = Lack {
            rung,
            missing: Vec::new(),
            remedies: Vec::new(),
        };
        match rung {
            Rung::Mapped => {
                self.namespaces(&mut lack);
                self.many_ids(&mut lack);
            }
            Rung::Recorded => {
                self.namespaces(&mut lack);
                self.supervisor(&mut lack);
            }
            Rung::Chroot => self.chroot(&mut lack),
            Rung::CopyOnly => {}
        }
        lack
    }

    fn kernel_from(&self, (major, minor): (u32, u32), lack: &mut Lack) {
        if self.kernel.is_some_and(|kernel| kernel < (major, minor)) {
            lack.missing
                .push(format!("a kernel of Linux {major}.{minor} or later"));
            lack.add(Place::Host, "boot a newer kernel");
        }
    }

    fn namespaces(&self, lack: &mut Lack) {
        self.kernel_from(OVERLAY, lack);
        if let Some(refusal) = self.obstacle {
            refusal.explain(lack);
            return;
        }
        for (what, answer) in [
            ("mounts", &self.mounts),
            ("pivot_root", &self.pivot),
            ("a seccomp filter", &self.filter),
        ] {
            if let Err(reason) = answer {
                lack.missing.push(format!("{what}: {reason}"));
                lack.add(
                    Place::Docker,
                    "--security-opt seccomp=unconfined --security-opt apparmor=unconfined",
                );
                lack.add(Place::Podman, "--security-opt seccomp=unconfined");
                lack.add(Place::Kubernetes, "seccompProfile: {type: Unconfined}");
                lack.add(Place::Kubernetes, "appArmorProfile: {type: Unconfined}");
            }
        }
        if let Err(reason) = &self.overlay {
            lack.missing
                .push(format!("a store that holds overlay layers: {reason}"));
            lack.add(
                Place::Host,
                "export RBUILD_ROOT=DIRECTORY  # on ext4, xfs, btrfs or tmpfs",
            );
            lack.add(
                Place::Docker,
                "--volume rbuild:/store --env RBUILD_ROOT=/store",
            );
            lack.add(
                Place::Podman,
                "--volume rbuild:/store --env RBUILD_ROOT=/store",
            );
            lack.add(
                Place::Kubernetes,
                "volumes: [{name: store, emptyDir: {}}]  # mounted at $RBUILD_ROOT",
            );
        }
    }

    fn many_ids(&self, lack: &mut Lack) {
        let Some(single) = &self.single else {
            return;
        };
        match single {
            Single::NoRange(files) => {
                lack.missing.push(format!(
                    "subordinate ids: no line in {}",
                    files.join(" and ")
                ));
                lack.add(Place::Host, &self.grant_ids());
                self.as_root(lack);
            }
            Single::NoHelper(programs) => {
                lack.missing
                    .push(format!("the programs {}", programs.join(" and ")));
                lack.add(
                    Place::Host,
                    "apt-get install uidmap  # elsewhere: shadow-utils, shadow-uidmap",
                );
                self.as_root(lack);
            }
            Single::Powerless(reason) if self.no_new_privs => {
                lack.missing.push(reason.clone());
                lack.add(
                    Place::Host,
                    "run it without no_new_privs (systemd: NoNewPrivileges=no)",
                );
                lack.add(Place::Docker, "no --security-opt no-new-privileges");
                lack.add(Place::Podman, "no --security-opt no-new-privileges");
                lack.add(Place::Kubernetes, "allowPrivilegeEscalation: true");
            }
            Single::Powerless(reason) | Single::Failed(reason) => {
                lack.missing.push(reason.clone());
                lack.add(Place::Host, "setcap cap_setuid+ep /usr/bin/newuidmap && setcap cap_setgid+ep /usr/bin/newgidmap");
                self.as_root(lack);
            }
            Single::Nested => {
                lack.missing
                    .push("many ids: the user namespace around it has one".to_owned());
                lack.add(Place::Host, &self.grant_ids());
                lack.add(Place::Kubernetes, "hostUsers: false");
            }
        }
    }

    /// Root of a container maps its own ids, with nothing installed.
    fn as_root(&self, lack: &mut Lack) {
        for place in [Place::Docker, Place::Podman] {
            lack.add(place, "--user 0 --cap-add SETUID --cap-add SETGID");
        }
        lack.add(Place::Kubernetes, "runAsUser: 0");
        lack.add(Place::Kubernetes, "capabilities: {add: [SETUID, SETGID]}");
    }

    fn grant_ids(&self) -> String {
        match &self.user {
            Some(user) => {
                format!("usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}")
            }
            None => format!(
                "echo {}:100000:65536 | tee -a /etc/subuid /etc/subgid",
                self.uid
            ),
        }
    }

    fn supervisor(&self, lack: &mut Lack) {
        self.kernel_from(SUPERVISOR, lack);
        if self.obstacle.is_none()
            && let Err(reason) = &self.listener
        {
            lack.missing.push(format!("a seccomp listener: {reason}"));
            lack.add(
                Place::Host,
                "run it outside of the other supervisor (LXD: security.syscalls.intercept.*=false)",
            );
            lack.add(Place::Docker, "--security-opt seccomp=unconfined");
        }
        if let Err(reason) = &self.memory {
            lack.missing
                .push(format!("the memory of its children: {reason}"));
            lack.add(Place::Host, "sysctl -w kernel.yama.ptrace_scope=1  # or 0");
            lack.add(Place::Docker, "--security-opt seccomp=unconfined");
            lack.add(Place::Kubernetes, "seccompProfile: {type: Unconfined}");
        }
    }

    fn chroot(&self, lack: &mut Lack) {
        if let Err(reason) = &self.chroot {
            lack.missing
                .push(format!("root's calls without namespaces: {reason}"));
            lack.add(Place::Host, "run it as root of a container");
            for place in [Place::Docker, Place::Podman] {
                lack.add(place, "--user 0 --env RBUILD_ALLOW_CHROOT=1");
            }
            lack.add(Place::Kubernetes, "runAsUser: 0");
            lack.add(
                Place::Kubernetes,
                "env: [{name: RBUILD_ALLOW_CHROOT, value: \"1\"}]",
            );
        }
    }

    pub(super) fn advice(&self) -> Vec<Remedy> {
        let mut lack = Lack {
            rung: self.rung(),
            missing: Vec::new(),
            remedies: Vec::new(),
        };
        let unless = |answer: &Answer| answer.is_err();
        if self.rung() <= Rung::Recorded && unless(&self.fresh_proc) {
            lack.add(Place::Docker, "--security-opt systempaths=unconfined");
            lack.add(Place::Podman, "--security-opt unmask=ALL");
            lack.add(Place::Kubernetes, "procMount: Unmasked");
        }
        if self.rung() == Rung::Chroot && !self.chroot_allowed {
            lack.add(Place::Host, "export RBUILD_ALLOW_CHROOT=1");
            for place in [Place::Docker, Place::Podman] {
                lack.add(place, "--env RBUILD_ALLOW_CHROOT=1");
            }
            lack.add(
                Place::Kubernetes,
                "env: [{name: RBUILD_ALLOW_CHROOT, value: \"1\"}]",
            );
        }
        lack.remedies
    }
}

impl Lack {
    fn add(&mut self, place: Place, line: &str) {
        let remedy = Remedy {
            place,
            line: line.to_owned(),
        };
        if !self.remedies.contains(&remedy) {
            self.remedies.push(remedy);
        }
    }
}

impl Refusal {
    fn explain(self, lack: &mut Lack) {
        let (missing, host) = match self {
            Self::Sysctl => (
                "user namespaces: kernel.unprivileged_userns_clone is 0",
                "sysctl -w kernel.unprivileged_userns_clone=1",
            ),
            Self::AppArmor => (
                "user namespaces: AppArmor takes their capabilities away",
                "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0  # or the profile of `rbuild doctor --for apparmor`",
            ),
            Self::Limit => (
                "user namespaces: the limit user.max_user_namespaces is reached",
                "sysctl -w user.max_user_namespaces=15000",
            ),
            Self::Filter => (
                "user namespaces: a seccomp filter or security module refuses them",
                "",
            ),
            Self::Kernel => (
                "user namespaces: the kernel is built without them",
                "boot a kernel with CONFIG_USER_NS",
            ),
            Self::Other => ("user namespaces: making one failed", ""),
        };
        lack.missing.push(missing.to_owned());
        if !host.is_empty() {
            lack.add(Place::Host, host);
        }
        match self {
            Self::AppArmor => {
                lack.add(Place::Docker, "--security-opt apparmor=unconfined");
                lack.add(Place::Kubernetes, "appArmorProfile: {type: Unconfined}");
            }
            Self::Filter | Self::Other => {
                lack.add(Place::Docker, "--security-opt seccomp=unconfined");
                lack.add(Place::Podman, "--security-opt seccomp=unconfined");
                lack.add(Place::Kubernetes, "seccompProfile: {type: Unconfined}  # or the Localhost profile of `rbuild doctor --for seccomp`");
            }
            Self::Sysctl | Self::Limit | Self::Kernel => {}
        }
    }
}

#[cfg(test)]
mod tests;
