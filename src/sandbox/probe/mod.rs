//! What the host allows, found out by trying it.
//!
//! Whatever has a side effect is tried in a forked child, which ends with its answer. Nothing here
//! changes this process or leaves anything behind, and all of it together takes a few milliseconds.

mod child;
mod filter;
mod flat;
mod ids;
mod namespace;
mod surroundings;
mod verdict;

use std::path::Path;

use serde::{Deserialize, Serialize};

pub(crate) use child::{in_child, in_namespace};
pub(crate) use verdict::{Lack, Place, Remedy};

use super::rung::Rung;
use super::userns::Obstacle;

/// What one probe found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// Stable, for programs: `user-namespace`.
    pub(crate) name: &'static str,
    /// Whether the host allows it.
    pub(crate) ok: bool,
    pub(crate) found: String,
    /// What a build needs it for.
    pub(crate) why: &'static str,
}

impl Finding {
    fn new(name: &'static str, why: &'static str, answer: Answer) -> Self {
        let (ok, found) = match answer {
            Ok(found) => (true, found),
            Err(found) => (false, found),
        };
        Self {
            name,
            ok,
            found,
            why,
        }
    }
}

/// What was found where it works, and where it does not.
type Answer = Result<String, String>;

/// Everything that was found on a host.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) findings: Vec<Finding>,
    facts: Facts,
}

/// What the choice of a rung rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Facts {
    /// Major and minor number; a kernel that does not say them is taken to be new.
    kernel: Option<(u32, u32)>,
    uid: u32,
    user: Option<String>,
    no_new_privs: bool,
    place: Place,
    /// What stands against user namespaces.
    obstacle: Option<Refusal>,
    /// Why a namespace has only one id.
    single: Option<ids::Single>,
    mounts: Answer,
    overlay: Answer,
    fresh_proc: Answer,
    pivot: Answer,
    filter: Answer,
    listener: Answer,
    memory: Answer,
    chroot: Answer,
    chroot_allowed: bool,
}

/// Why there is no user namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Refusal {
    Sysctl,
    AppArmor,
    Limit,
    Filter,
    Kernel,
    Other,
}

impl From<Obstacle> for Refusal {
    fn from(obstacle: Obstacle) -> Self {
        match obstacle {
            Obstacle::Sysctl => Self::Sysctl,
            Obstacle::AppArmor => Self::AppArmor,
            Obstacle::Limit => Self::Limit,
            Obstacle::Filter => Self::Filter,
            Obstacle::Kernel => Self::Kernel,
        }
    }
}

/// Probes the host. `overlay` mounts one at the store's place and says what it is on; it is called in a
/// child inside a user namespace. `scratch` is a writable directory, for what needs a file.
///
/// Must be called while the process has one thread.
pub(crate) fn examine(overlay: &dyn Fn() -> Answer, scratch: &Path) -> Host {
    let uid = nix::unistd::geteuid().as_raw();
    let surroundings = surroundings::look();
    let ids = ids::Ids::look();
    let inside = namespace::try_it(overlay);
    let chroot = flat::try_it(scratch);
    let memory = filter::try_memory();
    let kernel = surroundings::kernel();
    let mut findings = vec![
        Finding::new(
            "user",
            "who starts a build decides what it may map and mount",
            Ok(surroundings.describe_user(uid, ids.user.as_deref())),
        ),
        Finding::new(
            "kernel",
            "5.11 has overlay mounts in user namespaces, 5.14 what the recorded rung needs",
            verdict::kernel_answer(kernel),
        ),
    ];
    findings.extend(inside.findings());
    findings.extend(ids.findings(&inside));
    findings.push(Finding::new(
        "process-memory",
        "the recorded rung reads the arguments of calls",
        memory.clone(),
    ));
    findings.push(Finding::new(
        "chroot",
        "the chroot rung: root of a container without namespaces",
        chroot.clone(),
    ));
    findings.extend(surroundings.findings());
    let (obstacle, single) = inside.owners(&ids);
    let facts = Facts {
        kernel,
        uid,
        user: ids.user,
        no_new_privs: surroundings.no_new_privs,
        place: surroundings.place,
        obstacle,
        single,
        mounts: inside.mounts,
        overlay: inside.overlay,
        fresh_proc: inside.proc,
        pivot: inside.pivot,
        filter: inside.filter,
        listener: inside.listener,
        memory,
        chroot,
        chroot_allowed: std::env::var_os("RBUILD_ALLOW_CHROOT").is_some_and(|value| value == "1"),
    };
    Host { findings, facts }
}

impl Host {
    /// The best rung that this host reaches.
    pub(crate) fn rung(&self) -> Rung {
        self.facts.rung()
    }

    /// For each rung above the one that is reached, from the nearest up: what is missing.
    pub(crate) fn lacks(&self) -> Vec<Lack> {
        self.facts.lacks()
    }

    /// The variable that has to be set for the rung and is not.
    pub(crate) fn opt_in(&self) -> Option<&'static str> {
        (self.rung() == Rung::Chroot && !self.facts.chroot_allowed)
            .then_some("RBUILD_ALLOW_CHROOT=1")
    }

    /// Where rbuild runs.
    pub(crate) fn place(&self) -> Place {
        self.facts.place
    }

    /// What would make the rung that is reached better.
    pub(crate) fn advice(&self) -> Vec<Remedy> {
        self.facts.advice()
    }
}
