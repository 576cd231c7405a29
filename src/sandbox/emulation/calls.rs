//! The trapped calls by their numbers, for each architecture (syscalls(2)).

#[cfg(any(test, target_arch = "aarch64"))]
mod aarch64;
#[cfg(target_arch = "x86_64")]
mod i386;
#[cfg(target_arch = "x86_64")]
mod x86_64;

/// A system call by its meaning; names that differ only in how they take a path are one variant each.
#[cfg_attr(
    not(target_arch = "x86_64"),
    expect(
        dead_code,
        reason = "newer architectures have only the calls that take a directory"
    )
)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Stat(Layout),
    Lstat(Layout),
    Fstat(Layout),
    StatAt(Layout),
    Statx,
    Chown(Width),
    Lchown(Width),
    Fchown(Width),
    ChownAt,
    Mknod,
    MknodAt,
    Mkdir,
    MkdirAt,
    Symlink,
    SymlinkAt,
    Open,
    OpenAt,
    OpenAt2,
    Creat,
    Bind,
    /// SO_PEERCRED and SO_PEERGROUPS of getsockopt(2).
    PeerCredentials,
    Execute,
    ExecuteAt,
    SetUid(Width),
    SetGid(Width),
    SetReUid(Width),
    SetReGid(Width),
    SetResUid(Width),
    SetResGid(Width),
    SetFsUid(Width),
    SetFsGid(Width),
    SetGroups(Width),
    GetUid(Width),
    GetGid(Width),
    GetEUid(Width),
    GetEGid(Width),
    GetResUid(Width),
    GetResGid(Width),
    GetGroups(Width),
    /// PR_SET_KEEPCAPS and PR_SET_SECUREBITS of prctl(2).
    Prctl,
    /// RLIMIT_LOCKS, where the supervisor keeps its notes.
    SetLimit,
    GetLimit(LimitWidth),
    Prlimit,
    GetAttribute(Subject),
    ListAttributes(Subject),
    SetAttribute(Subject),
    RemoveAttribute(Subject),
    Chroot,
    /// What gives a process another tree of mounts, in which its paths mean something else.
    ChangeMounts,
    Rename,
    RenameAt,
    RenameAt2,
    Link,
    LinkAt,
    SetTimes,
    SetTimesAt,
    Chmod,
    Fchmod,
    ChmodAt,
    ChmodAt2,
}

/// The structure that a stat call fills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    Native,
    /// `struct stat64` of i386.
    #[cfg(target_arch = "x86_64")]
    Large,
    /// `struct stat` of i386, with ids of 16 bits.
    #[cfg(target_arch = "x86_64")]
    Small,
}

/// The size of an id in the arguments and results of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Width {
    Full,
    /// 16 bits, as in the oldest calls of i386.
    #[cfg(target_arch = "x86_64")]
    Half,
}

/// The size of a limit in `struct rlimit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LimitWidth {
    Eight,
    #[cfg(target_arch = "x86_64")]
    Four,
}

/// How a call on attributes names its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    Path,
    /// A path whose last link is not followed.
    Link,
    Descriptor,
}

/// With which arguments a call is trapped. Others go to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    Always,
    /// One of these bits of the argument is set.
    Bits {
        argument: u8,
        bits: u32,
    },
    /// The argument is one of these.
    Equals {
        argument: u8,
        values: &'static [u32],
    },
    /// The one argument is this and the other one of those.
    Both {
        one: (u8, u32),
        other: (u8, &'static [u32]),
    },
    /// Something below has an owner of its own and cannot carry attributes: a symbolic link, a FIFO or
    /// a socket gets another inode when it is copied up.
    Specials,
    /// The same, or one of these bits of the argument is set.
    SpecialsOrBits {
        argument: u8,
        bits: u32,
    },
}

/// One trapped call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trap {
    pub(crate) number: i64,
    pub(crate) call: Call,
    pub(crate) when: When,
}

/// fchmodat2(2), the same everywhere.
const FCHMODAT2: i64 = 452;
/// O_CREAT and __O_TMPFILE, the same everywhere.
const CREATES: u32 = 0x40 | 0x40_0000;
/// CLONE_NEWNS.
const NEW_MOUNTS: u32 = 0x2_0000;
/// SOL_SOCKET with SO_PEERCRED and SO_PEERGROUPS.
const PEER: When = When::Both {
    one: (1, 1),
    other: (2, &[17, 59]),
};
const LOCKS: &[u32] = &[10];
const PRIVILEGES: &[u32] = &[8, 28];

const fn trap(number: i64, call: Call) -> Trap {
    Trap {
        number,
        call,
        when: When::Always,
    }
}

const fn trap_if(number: i64, call: Call, when: When) -> Trap {
    Trap { number, call, when }
}

const fn bits(argument: u8, bits: u32) -> When {
    When::Bits { argument, bits }
}

/// chmod(2) with S_ISGID in the mode at `argument`.
const fn sets_group(argument: u8) -> When {
    When::SpecialsOrBits {
        argument,
        bits: 0o2000,
    }
}

const fn equals(argument: u8, values: &'static [u32]) -> When {
    When::Equals { argument, values }
}

/// The calls that the kernel would let pass by the filter on other ways, in every architecture's newer
/// numbers: io_uring_setup(2), and the attribute calls of Linux 6.13. Programs fall back on ENOSYS.
pub(crate) const REFUSED: &[u32] = &[425, 463, 464, 465, 466];

/// What the filter of a machine knows: of each kind of program that it runs the architecture (linux/audit.h)
/// and the calls.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) native: (u32, &'static [Trap]),
    /// 32-bit programs, where they are supervised. Others have no calls at all.
    pub(crate) compat: Option<(u32, &'static [Trap])>,
    /// Whether x32 programs, which have no calls either, come with the native architecture.
    pub(crate) has_x32: bool,
}

#[cfg(target_arch = "x86_64")]
pub(crate) const X86_64: Machine = Machine {
    native: (0xc000_003e, x86_64::TRAPS),
    compat: Some((0x4000_0003, i386::TRAPS)),
    has_x32: true,
};
#[cfg(any(test, target_arch = "aarch64"))]
pub(crate) const AARCH64: Machine = Machine {
    native: (0xc000_00b7, aarch64::TRAPS),
    compat: None,
    has_x32: false,
};

#[cfg(target_arch = "aarch64")]
pub(crate) use AARCH64 as NATIVE;
#[cfg(target_arch = "x86_64")]
pub(crate) use X86_64 as NATIVE;

/// What the call `number` of `arch` is; `None` for what the filter does not trap.
pub(crate) fn find(arch: u32, number: i32) -> Option<Call> {
    let mut kinds = std::iter::once(NATIVE.native).chain(NATIVE.compat);
    let (_, traps) = kinds.find(|(of, _)| *of == arch)?;
    traps
        .iter()
        .find(|trap| trap.number == i64::from(number))
        .map(|trap| trap.call)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_number_is_listed_twice() {
        let machines = [AARCH64, NATIVE];
        let kinds = machines.map(|machine| std::iter::once(machine.native).chain(machine.compat));
        for (_, list) in kinds.into_iter().flatten() {
            let numbers: BTreeSet<_> = list.iter().map(|trap| trap.number).collect();
            assert_eq!(numbers.len(), list.len());
        }
    }
}
