//! How much of a sandbox a host allows, from the most to the least.

use std::fmt;
use std::str::FromStr;

/// A way of building, named as on the command line. A better one is smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rung {
    /// A user namespace with many ids: owners are the kernel's.
    Mapped,
    /// A user namespace with one id: owners are records that a supervisor keeps (seccomp_unotify(2)).
    Recorded,
    /// No namespaces, but root of a container: a private directory and chroot(2).
    Chroot,
    /// Neither: files can be copied and no command can run.
    CopyOnly,
}

impl Rung {
    pub(crate) const ALL: [Self; 4] = [Self::Mapped, Self::Recorded, Self::Chroot, Self::CopyOnly];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Mapped => "mapped",
            Self::Recorded => "recorded",
            Self::Chroot => "chroot",
            Self::CopyOnly => "copy-only",
        }
    }
}

impl fmt::Display for Rung {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Not the name of a rung.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is none of mapped, recorded, chroot and copy-only")]
pub(crate) struct UnknownRung(String);

impl FromStr for Rung {
    type Err = UnknownRung;

    fn from_str(text: &str) -> Result<Self, UnknownRung> {
        Self::ALL
            .into_iter()
            .find(|rung| rung.name() == text)
            .ok_or_else(|| UnknownRung(text.to_owned()))
    }
}
