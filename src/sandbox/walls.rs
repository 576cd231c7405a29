//! Which way of building is taken: what the caller asked for, or the best that the host allows.

use std::str::FromStr;

use caps::{CapSet, Capability};
use nix::unistd::ForkResult;

use super::rung::{Rung, UnknownRung};
use super::userns;
use crate::sys::process::{self, Ended};

/// `--sandbox`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Wanted {
    /// The best that the host allows.
    #[default]
    Auto,
    /// This and nothing else.
    Only(Rung),
}

impl FromStr for Wanted {
    type Err = UnknownRung;

    fn from_str(text: &str) -> Result<Self, UnknownRung> {
        match text {
            "auto" => Ok(Self::Auto),
            rung => rung.parse().map(Self::Only),
        }
    }
}

/// What stands between a RUN and the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Walls {
    /// Namespaces; with a rung that was asked for, that one.
    Namespaces(Option<Rung>),
    /// chroot(2) alone, as root of a container.
    Chroot,
    /// None can be built, so no command runs.
    None {
        /// Why, as a clause.
        reason: String,
        /// What lifts it.
        help: String,
    },
}

/// A way of building that was asked for and is not to be had here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("--sandbox={rung} cannot be had here: {reason}")]
pub(crate) struct Refused {
    rung: Rung,
    reason: String,
    pub(crate) help: Option<String>,
}

/// The setting that lets [`Wanted::Auto`] run commands in a chroot, which isolates little.
pub(crate) const ALLOW_CHROOT: &str = "RBUILD_ALLOW_CHROOT";

/// What a RUN in a chroot shares with the container, for those who should know.
pub(crate) const NOT_ISOLATED: &str = "no namespaces here: commands run in a chroot and share processes, network and host name with \
     this container; setuid programs gain nothing";

/// Chooses. `may_chroot` says that [`ALLOW_CHROOT`] is set. Must be called while the process has one
/// thread, and before [`userns::enter`].
pub(crate) fn choose(wanted: Wanted, may_chroot: bool) -> Result<Walls, Refused> {
    match wanted {
        Wanted::Only(rung @ (Rung::Mapped | Rung::Recorded)) => match refusal_of_namespaces() {
            None => Ok(Walls::Namespaces(Some(rung))),
            Some(error) => Err(Refused {
                rung,
                reason: error.to_string(),
                help: error.hint().map(str::to_owned),
            }),
        },
        Wanted::Only(rung @ Rung::Chroot) => match lacks_for_chroot() {
            None => Ok(Walls::Chroot),
            Some(reason) => Err(Refused {
                rung,
                reason,
                help: None,
            }),
        },
        Wanted::Only(Rung::CopyOnly) => Ok(Walls::None {
            reason: "--sandbox=copy-only was asked for".to_owned(),
            help: "without --sandbox=copy-only (or RBUILD_SANDBOX) commands run as the host allows"
                .to_owned(),
        }),
        Wanted::Auto => Ok(match refusal_of_namespaces() {
            None => Walls::Namespaces(None),
            Some(_) if may_chroot && lacks_for_chroot().is_none() => Walls::Chroot,
            Some(error) => Walls::None {
                reason: error.to_string(),
                help: help_of(&error),
            },
        }),
    }
}

fn help_of(error: &userns::Error) -> String {
    let hint = error.hint().unwrap_or("let this user make user namespaces");
    if lacks_for_chroot().is_none() {
        return format!(
            "{hint}; or set {ALLOW_CHROOT}=1 to run commands in a chroot, which shares processes \
             and network with this container"
        );
    }
    hint.to_owned()
}

/// Why no namespace can be had, found out by a child that tries. What only fails half-way is left for
/// [`userns::enter`] to report.
fn refusal_of_namespaces() -> Option<userns::Error> {
    let attempt = match process::fork() {
        Ok(ForkResult::Child) => process::exit_now(match userns::enter_single() {
            Ok(()) => 0,
            Err(userns::Error::NoUserNamespaces(obstacle)) => obstacle.code(),
            Err(_) => 0,
        }),
        Ok(ForkResult::Parent { child }) => process::wait(Some(child)),
        Err(error) => Err(error),
    };
    match attempt {
        Ok((_, Ended::Code(code))) => {
            userns::Obstacle::of_code(code).map(userns::Error::NoUserNamespaces)
        }
        _ => None,
    }
}

/// What is missing to build in a chroot; `None` when nothing is.
fn lacks_for_chroot() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("a chroot takes root".to_owned());
    }
    let needed = [
        Capability::CAP_SYS_CHROOT,
        Capability::CAP_CHOWN,
        Capability::CAP_DAC_OVERRIDE,
        Capability::CAP_FOWNER,
        Capability::CAP_SETUID,
        Capability::CAP_SETGID,
    ];
    let has = |capability: &Capability| {
        caps::has_cap(None, CapSet::Effective, *capability).unwrap_or(false)
    };
    let missing: Vec<String> = needed
        .iter()
        .filter(|capability| !has(capability))
        .map(ToString::to_string)
        .collect();
    (!missing.is_empty()).then(|| format!("root lacks {}", missing.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rung_and_auto_can_be_asked_for() {
        assert_eq!("auto".parse(), Ok(Wanted::Auto));
        for rung in Rung::ALL {
            assert_eq!(rung.name().parse(), Ok(Wanted::Only(rung)));
        }
        assert!("podman".parse::<Wanted>().is_err());
    }

    #[test]
    fn obstacles_survive_the_way_through_an_exit_code() {
        for obstacle in userns::Obstacle::ALL {
            assert_eq!(userns::Obstacle::of_code(obstacle.code()), Some(obstacle));
        }
        assert_eq!(userns::Obstacle::of_code(0), None);
    }
}
