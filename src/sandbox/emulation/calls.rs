//! The trapped calls by their numbers, for each architecture (syscalls(2)).

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

/// linux/audit.h: the machine's ELF number with the bits for 64 and little-endian.
#[cfg(target_arch = "x86_64")]
pub(crate) const NATIVE_ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
pub(crate) const NATIVE_ARCH: u32 = 0xc000_00b7;
#[cfg(target_arch = "x86_64")]
pub(crate) const I386_ARCH: u32 = 0x4000_0003;

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

/// The trapped native calls, the frequent ones first.
pub(crate) const NATIVE: &[Trap] = &{
    use Call::*;
    use Layout::Native;
    use Width::Full;
    [
        trap_if(libc::SYS_openat, OpenAt, bits(2, CREATES)),
        trap(libc::SYS_newfstatat, StatAt(Native)),
        trap(libc::SYS_fstat, Fstat(Native)),
        trap(libc::SYS_statx, Statx),
        #[cfg(target_arch = "x86_64")]
        trap(libc::SYS_stat, Stat(Native)),
        #[cfg(target_arch = "x86_64")]
        trap(libc::SYS_lstat, Lstat(Native)),
        #[cfg(target_arch = "x86_64")]
        trap_if(libc::SYS_open, Open, bits(1, CREATES)),
        #[cfg(target_arch = "x86_64")]
        trap(libc::SYS_creat, Creat),
        #[cfg(target_arch = "x86_64")]
        trap(libc::SYS_chown, Chown(Full)),
        #[cfg(target_arch = "x86_64")]
        trap(libc::SYS_lchown, Lchown(Full)),
        #[cfg(target_arch = "x86_64")]
        trap(libc::SYS_mknod, Mknod),
        #[cfg(target_arch = "x86_64")]
        trap(libc::SYS_mkdir, Mkdir),
        #[cfg(target_arch = "x86_64")]
        trap(libc::SYS_symlink, Symlink),
        #[cfg(target_arch = "x86_64")]
        trap_if(libc::SYS_rename, Rename, When::Specials),
        #[cfg(target_arch = "x86_64")]
        trap_if(libc::SYS_link, Link, When::Specials),
        #[cfg(target_arch = "x86_64")]
        trap_if(libc::SYS_chmod, Chmod, sets_group(1)),
        #[cfg(target_arch = "x86_64")]
        trap_if(libc::SYS_utime, SetTimes, When::Specials),
        #[cfg(target_arch = "x86_64")]
        trap_if(libc::SYS_utimes, SetTimes, When::Specials),
        trap(libc::SYS_getuid, GetUid(Full)),
        trap(libc::SYS_getgid, GetGid(Full)),
        trap(libc::SYS_geteuid, GetEUid(Full)),
        trap(libc::SYS_getegid, GetEGid(Full)),
        trap(libc::SYS_execve, Execute),
        trap(libc::SYS_execveat, ExecuteAt),
        trap(libc::SYS_fchown, Fchown(Full)),
        trap(libc::SYS_fchownat, ChownAt),
        trap(libc::SYS_mknodat, MknodAt),
        trap(libc::SYS_mkdirat, MkdirAt),
        trap(libc::SYS_symlinkat, SymlinkAt),
        trap(libc::SYS_openat2, OpenAt2),
        trap(libc::SYS_bind, Bind),
        trap_if(libc::SYS_getsockopt, PeerCredentials, PEER),
        trap(libc::SYS_setuid, SetUid(Full)),
        trap(libc::SYS_setgid, SetGid(Full)),
        trap(libc::SYS_setreuid, SetReUid(Full)),
        trap(libc::SYS_setregid, SetReGid(Full)),
        trap(libc::SYS_setresuid, SetResUid(Full)),
        trap(libc::SYS_setresgid, SetResGid(Full)),
        trap(libc::SYS_setfsuid, SetFsUid(Full)),
        trap(libc::SYS_setfsgid, SetFsGid(Full)),
        trap(libc::SYS_setgroups, SetGroups(Full)),
        trap(libc::SYS_getresuid, GetResUid(Full)),
        trap(libc::SYS_getresgid, GetResGid(Full)),
        trap(libc::SYS_getgroups, GetGroups(Full)),
        trap_if(libc::SYS_prctl, Prctl, equals(0, PRIVILEGES)),
        trap_if(libc::SYS_setrlimit, SetLimit, equals(0, LOCKS)),
        trap_if(
            libc::SYS_getrlimit,
            GetLimit(LimitWidth::Eight),
            equals(0, LOCKS),
        ),
        trap_if(libc::SYS_prlimit64, Prlimit, equals(1, LOCKS)),
        trap(libc::SYS_getxattr, GetAttribute(Subject::Path)),
        trap(libc::SYS_lgetxattr, GetAttribute(Subject::Link)),
        trap(libc::SYS_fgetxattr, GetAttribute(Subject::Descriptor)),
        trap(libc::SYS_listxattr, ListAttributes(Subject::Path)),
        trap(libc::SYS_llistxattr, ListAttributes(Subject::Link)),
        trap(libc::SYS_flistxattr, ListAttributes(Subject::Descriptor)),
        trap(libc::SYS_setxattr, SetAttribute(Subject::Path)),
        trap(libc::SYS_lsetxattr, SetAttribute(Subject::Link)),
        trap(libc::SYS_fsetxattr, SetAttribute(Subject::Descriptor)),
        trap(libc::SYS_removexattr, RemoveAttribute(Subject::Path)),
        trap(libc::SYS_lremovexattr, RemoveAttribute(Subject::Link)),
        trap(libc::SYS_fremovexattr, RemoveAttribute(Subject::Descriptor)),
        trap(libc::SYS_chroot, Chroot),
        trap(libc::SYS_pivot_root, ChangeMounts),
        trap(libc::SYS_setns, ChangeMounts),
        trap_if(libc::SYS_unshare, ChangeMounts, bits(0, NEW_MOUNTS)),
        trap_if(libc::SYS_clone, ChangeMounts, bits(0, NEW_MOUNTS)),
        trap_if(libc::SYS_renameat, RenameAt, When::Specials),
        trap_if(libc::SYS_renameat2, RenameAt2, When::Specials),
        trap_if(libc::SYS_linkat, LinkAt, When::Specials),
        trap_if(libc::SYS_utimensat, SetTimesAt, When::Specials),
        trap_if(libc::SYS_fchmod, Fchmod, sets_group(1)),
        trap_if(libc::SYS_fchmodat, ChmodAt, sets_group(2)),
        trap_if(FCHMODAT2, ChmodAt2, sets_group(2)),
    ]
};

/// The calls that the kernel would let pass by the filter on other ways, in every architecture's newer
/// numbers: io_uring_setup(2), and the attribute calls of Linux 6.13. Programs fall back on ENOSYS.
pub(crate) const REFUSED: &[u32] = &[425, 463, 464, 465, 466];

/// The calls of 32-bit programs (linux/arch/x86/entry/syscalls/syscall_32.tbl).
#[cfg(target_arch = "x86_64")]
pub(crate) const I386: &[Trap] = &{
    use Call::*;
    use Layout::{Large, Small};
    use Width::{Full, Half};
    [
        trap_if(295, OpenAt, bits(2, CREATES)),
        trap_if(5, Open, bits(1, CREATES)),
        trap(195, Stat(Large)),
        trap(196, Lstat(Large)),
        trap(197, Fstat(Large)),
        trap(300, StatAt(Large)),
        trap(383, Statx),
        trap(106, Stat(Small)),
        trap(107, Lstat(Small)),
        trap(108, Fstat(Small)),
        trap(8, Creat),
        trap(11, Execute),
        trap(358, ExecuteAt),
        trap(14, Mknod),
        trap(297, MknodAt),
        trap(39, Mkdir),
        trap(296, MkdirAt),
        trap(83, Symlink),
        trap(304, SymlinkAt),
        trap(437, OpenAt2),
        trap(361, Bind),
        trap_if(365, PeerCredentials, PEER),
        trap(182, Chown(Half)),
        trap(16, Lchown(Half)),
        trap(95, Fchown(Half)),
        trap(212, Chown(Full)),
        trap(198, Lchown(Full)),
        trap(207, Fchown(Full)),
        trap(298, ChownAt),
        trap(23, SetUid(Half)),
        trap(46, SetGid(Half)),
        trap(70, SetReUid(Half)),
        trap(71, SetReGid(Half)),
        trap(164, SetResUid(Half)),
        trap(170, SetResGid(Half)),
        trap(138, SetFsUid(Half)),
        trap(139, SetFsGid(Half)),
        trap(81, SetGroups(Half)),
        trap(24, GetUid(Half)),
        trap(47, GetGid(Half)),
        trap(49, GetEUid(Half)),
        trap(50, GetEGid(Half)),
        trap(165, GetResUid(Half)),
        trap(171, GetResGid(Half)),
        trap(80, GetGroups(Half)),
        trap(213, SetUid(Full)),
        trap(214, SetGid(Full)),
        trap(203, SetReUid(Full)),
        trap(204, SetReGid(Full)),
        trap(208, SetResUid(Full)),
        trap(210, SetResGid(Full)),
        trap(215, SetFsUid(Full)),
        trap(216, SetFsGid(Full)),
        trap(206, SetGroups(Full)),
        trap(199, GetUid(Full)),
        trap(200, GetGid(Full)),
        trap(201, GetEUid(Full)),
        trap(202, GetEGid(Full)),
        trap(209, GetResUid(Full)),
        trap(211, GetResGid(Full)),
        trap(205, GetGroups(Full)),
        trap_if(172, Prctl, equals(0, PRIVILEGES)),
        trap_if(75, SetLimit, equals(0, LOCKS)),
        trap_if(191, GetLimit(LimitWidth::Four), equals(0, LOCKS)),
        trap_if(340, Prlimit, equals(1, LOCKS)),
        trap(229, GetAttribute(Subject::Path)),
        trap(230, GetAttribute(Subject::Link)),
        trap(231, GetAttribute(Subject::Descriptor)),
        trap(232, ListAttributes(Subject::Path)),
        trap(233, ListAttributes(Subject::Link)),
        trap(234, ListAttributes(Subject::Descriptor)),
        trap(226, SetAttribute(Subject::Path)),
        trap(227, SetAttribute(Subject::Link)),
        trap(228, SetAttribute(Subject::Descriptor)),
        trap(235, RemoveAttribute(Subject::Path)),
        trap(236, RemoveAttribute(Subject::Link)),
        trap(237, RemoveAttribute(Subject::Descriptor)),
        trap(61, Chroot),
        trap(217, ChangeMounts),
        trap(346, ChangeMounts),
        trap_if(310, ChangeMounts, bits(0, NEW_MOUNTS)),
        trap_if(120, ChangeMounts, bits(0, NEW_MOUNTS)),
        trap_if(38, Rename, When::Specials),
        trap_if(302, RenameAt, When::Specials),
        trap_if(353, RenameAt2, When::Specials),
        trap_if(9, Link, When::Specials),
        trap_if(303, LinkAt, When::Specials),
        trap_if(30, SetTimes, When::Specials),
        trap_if(271, SetTimes, When::Specials),
        trap_if(320, SetTimesAt, When::Specials),
        trap_if(412, SetTimesAt, When::Specials),
        trap_if(15, Chmod, sets_group(1)),
        trap_if(94, Fchmod, sets_group(1)),
        trap_if(306, ChmodAt, sets_group(2)),
        trap_if(FCHMODAT2, ChmodAt2, sets_group(2)),
    ]
};

/// What the call `number` of `arch` is; `None` for what the filter does not trap.
pub(crate) fn find(arch: u32, number: i32) -> Option<Call> {
    let traps = match arch {
        NATIVE_ARCH => NATIVE,
        #[cfg(target_arch = "x86_64")]
        I386_ARCH => I386,
        _ => return None,
    };
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
        let lists = [
            NATIVE,
            #[cfg(target_arch = "x86_64")]
            I386,
        ];
        for list in lists {
            let numbers: BTreeSet<_> = list.iter().map(|trap| trap.number).collect();
            assert_eq!(numbers.len(), list.len());
        }
    }
}
