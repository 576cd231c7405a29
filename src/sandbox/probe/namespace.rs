//! A user namespace, and what can be done in it.

use nix::sched::CloneFlags;
use serde::{Deserialize, Serialize};

use super::child::{in_child, in_pid_namespace};
use super::ids::{Ids, Single};
use super::{Answer, Finding, Refusal, filter};
use crate::sandbox::userns;
use crate::sys::mount::{Attributes, Context};
use crate::sys::{self, fs, mount};

/// What happened in the namespace. Without one every answer is an error.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Inside {
    /// Why there is only one id, if so; or what stands against a namespace at all.
    entered: Result<Option<String>, (Refusal, String)>,
    pub(super) mounts: Answer,
    pub(super) overlay: Answer,
    pub(super) proc: Answer,
    pub(super) pivot: Answer,
    pub(super) filter: Answer,
    pub(super) listener: Answer,
}

/// Enters a namespace in a child, as a build does, and tries everything there.
pub(super) fn try_it(overlay: &dyn Fn() -> Answer) -> Inside {
    let answer = in_child(|| serde_json::to_vec(&enter_and_try(overlay)).unwrap_or_default());
    answer
        .and_then(|answer| serde_json::from_slice(&answer).ok())
        .unwrap_or_else(|| Inside::nothing(Refusal::Other, "the probe died".to_owned()))
}

fn enter_and_try(overlay: &dyn Fn() -> Answer) -> Inside {
    let entered = match userns::enter(None) {
        Ok(entered) => entered.single_reason,
        Err(userns::Error::NoUserNamespaces(obstacle)) => {
            return Inside::nothing(obstacle.into(), obstacle.to_string());
        }
        Err(userns::Error::SetUp(error)) => {
            return Inside::nothing(Refusal::Other, error.to_string());
        }
        Err(error @ userns::Error::OneId(_)) => {
            return Inside::nothing(Refusal::Other, error.to_string());
        }
    };
    let answer = |found: &str, result: sys::Result<()>| match result {
        Ok(()) => Ok(found.to_owned()),
        Err(error) => Err(error.to_string()),
    };
    let tried = |result: sys::Result<()>| match result {
        Ok(()) => Vec::new(),
        Err(error) => error.to_string().into_bytes(),
    };
    Inside {
        entered: Ok(entered),
        mounts: answer("allowed", try_tmpfs()),
        overlay: overlay(),
        proc: of_child(
            "can be mounted",
            in_pid_namespace(|| tried(try_kind(c"proc"))),
        ),
        pivot: of_child("allowed", in_child(|| tried(try_pivot()))),
        filter: in_child_answer(filter::install),
        listener: in_child_answer(filter::listen),
    }
}

/// The answer of a child that writes nothing when it succeeds.
fn of_child(found: &str, complaint: Option<Vec<u8>>) -> Answer {
    match complaint {
        Some(complaint) if complaint.is_empty() => Ok(found.to_owned()),
        Some(complaint) => Err(String::from_utf8_lossy(&complaint).into_owned()),
        None => Err("the probe died".to_owned()),
    }
}

fn in_child_answer(probe: fn() -> Answer) -> Answer {
    in_child(|| serde_json::to_vec(&probe()).unwrap_or_default())
        .and_then(|answer| serde_json::from_slice(&answer).ok())
        .unwrap_or_else(|| Err("the probe died".to_owned()))
}

fn try_tmpfs() -> sys::Result<()> {
    try_kind(c"tmpfs")
}

fn try_kind(kind: &'static std::ffi::CStr) -> sys::Result<()> {
    Context::open(kind)?.mount(Attributes::default()).map(drop)
}

/// Goes into a file system of its own, as the first process of a sandbox does.
fn try_pivot() -> sys::Result<()> {
    nix::sched::unshare(CloneFlags::CLONE_NEWNS)
        .map_err(|errno| sys::Error::new("unshare", "CLONE_NEWNS", errno))?;
    mount::isolate_namespace()?;
    let root = Context::open(c"tmpfs")?.mount(Attributes::default())?;
    mount::attach(&root, fs::open_directory(std::path::Path::new("/"))?)?;
    mount::pivot_to(&root)
}

impl Inside {
    fn nothing(refusal: Refusal, reason: String) -> Self {
        let untried = || Err("not tried, because there is no user namespace".to_owned());
        Self {
            entered: Err((refusal, reason)),
            mounts: untried(),
            overlay: untried(),
            proc: untried(),
            pivot: untried(),
            filter: untried(),
            listener: untried(),
        }
    }

    /// What stands against a namespace, and what against many ids in it.
    pub(super) fn owners(&self, ids: &Ids) -> (Option<Refusal>, Option<Single>) {
        match &self.entered {
            Ok(None) => (None, None),
            Ok(Some(reason)) => (None, Some(ids.why_single(reason))),
            Err((refusal, _)) => (Some(*refusal), ids.would_be_single()),
        }
    }

    /// Why there is only one id; `None` where there are many, or no namespace.
    pub(super) fn single_reason(&self) -> Option<&str> {
        self.entered.as_ref().ok()?.as_deref()
    }

    pub(super) fn has_namespace(&self) -> bool {
        self.entered.is_ok()
    }

    pub(super) fn findings(&self) -> Vec<Finding> {
        let namespace = match &self.entered {
            Ok(_) => Ok("allowed".to_owned()),
            Err((_, reason)) => Err(reason.clone()),
        };
        [
            (
                "user-namespace",
                "everything that a RUN is confined by",
                &namespace,
            ),
            ("mounts", "the sandbox is made of mounts", &self.mounts),
            (
                "overlay",
                "each step writes into an overlay at the store's place",
                &self.overlay,
            ),
            (
                "pivot-root",
                "a RUN sees nothing but its image",
                &self.pivot,
            ),
            (
                "fresh-proc",
                "a RUN sees its own processes only; else a read-only view of all",
                &self.proc,
            ),
            (
                "seccomp-filter",
                "a RUN cannot use the kernel's dangerous parts",
                &self.filter,
            ),
            (
                "seccomp-listener",
                "the recorded rung watches calls that name owners",
                &self.listener,
            ),
        ]
        .map(|(name, why, answer)| Finding::new(name, why, answer.clone()))
        .into()
    }
}
