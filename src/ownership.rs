//! How a snapshot stores owners: the one place that decides it.
//!
//! Layers name any user and group; the files of a snapshot can only carry the ids that the build's
//! user namespace maps. Everything that sets or reads an owner in a snapshot (unpack, COPY, WORKDIR,
//! the committer) goes through [`Ownership`], so another way to keep owners is a variant here.

pub(crate) mod record;

use std::ffi::OsStr;
use std::os::fd::AsFd;

use crate::sys;

/// The way owners are kept, chosen once when the build enters its user namespace. Snapshots of
/// different ways live apart in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ownership {
    /// Subordinate ids: an image's id is the same id on disk, as the namespace shows it.
    Mapped,
    /// One id: everything belongs to 0:0, other owners are refused.
    Single,
    /// Owners are dropped: the files are a build context, which has none.
    Discarded,
}

/// An owner that this host cannot store.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(
        "the owner {uid}:{gid} needs subordinate ids, and this host gives the build only one id"
    )]
    Unmapped { uid: u32, gid: u32 },
    #[error(transparent)]
    Sys(#[from] sys::Error),
}

impl Ownership {
    /// The directory of the store under which snapshots of this kind live.
    pub(crate) fn directory(&self) -> &'static str {
        match self {
            Self::Mapped => "mapped",
            Self::Single => "single",
            Self::Discarded => unreachable!("snapshots keep owners"),
        }
    }

    /// Gives `name` in `dir`, link or not, its owner.
    pub(crate) fn set_at(
        &self,
        dir: impl AsFd,
        name: &OsStr,
        uid: u32,
        gid: u32,
    ) -> Result<(), Error> {
        match self {
            Self::Mapped => match sys::fs::chown_at(dir, name, uid, gid) {
                // chown(2): EINVAL is an id outside the namespace's map.
                Err(error) if error.errno == nix::errno::Errno::EINVAL => {
                    Err(Error::Unmapped { uid, gid })
                }
                other => Ok(other?),
            },
            Self::Discarded => Ok(()),
            Self::Single if (uid, gid) == (0, 0) => Ok(()),
            Self::Single => Err(Error::Unmapped { uid, gid }),
        }
    }

    /// Gives an open file its owner.
    pub(crate) fn set(&self, fd: impl AsFd, uid: u32, gid: u32) -> Result<(), Error> {
        match self {
            Self::Mapped => match sys::fs::chown(fd, uid, gid) {
                Err(error) if error.errno == nix::errno::Errno::EINVAL => {
                    Err(Error::Unmapped { uid, gid })
                }
                other => Ok(other?),
            },
            Self::Discarded => Ok(()),
            Self::Single if (uid, gid) == (0, 0) => Ok(()),
            Self::Single => Err(Error::Unmapped { uid, gid }),
        }
    }
}
