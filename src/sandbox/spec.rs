//! What init is told, and what it reports.

use std::ffi::OsString;

use serde::{Deserialize, Serialize};

/// What of a sandbox has nothing to do with its command, so that it can be made before there is a [`Spec`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Ground {
    /// Namespaces, and the mounts of /proc, /sys and /dev.
    Namespaces {
        network: Network,
        shm_size: u64,
        /// There will be an [`Emulation`].
        is_emulated: bool,
    },
    /// None of that, for a [`Spec::tree`].
    Chroot,
}

/// Everything that a sandbox is made of. What is not serialized is sent as it is, see [`super::wire`]. Host paths are absolute, or relative to the working directory
/// of the process that calls [`super::run`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Spec {
    /// A whole tree to run in with chroot(2) alone, for hosts without namespaces; then `lowers` and
    /// `upper` mean nothing, `work` is where what the mounts cover waits, and what is mounted is moved
    /// into the tree for the time of the command.
    pub(crate) tree: Option<OsString>,
    /// Layer directories, topmost first; at least one. The last should be one that has the mount targets,
    /// so that they exist without a trace in `upper`.
    #[serde(skip)]
    pub(crate) lowers: Vec<OsString>,
    /// Directory that receives what the command changes.
    pub(crate) upper: OsString,
    /// Empty directory on the file system of `upper`, never used before: the overlay is volatile.
    pub(crate) work: OsString,
    /// The command and its arguments; the command is looked up in the PATH of `env` unless it has a `/`.
    pub(crate) args: Vec<OsString>,
    /// The whole environment, in this order. HOME is added from the image's passwd when missing.
    pub(crate) env: Vec<(OsString, OsString)>,
    /// Working directory inside; made where it is missing, 0755 and root's. Empty means `/`.
    pub(crate) cwd: OsString,
    /// What the command reads from and writes to.
    pub(crate) console: Console,
    /// Nothing but what is mounted can be written to.
    pub(crate) read_only: bool,
    /// The text of USER, resolved with the image's own passwd and group; empty means 0:0.
    pub(crate) user: String,
    pub(crate) hostname: String,
    pub(crate) network: Network,
    /// Contents of /etc/resolv.conf and /etc/hosts, bound over the image's.
    pub(crate) resolv_conf: Vec<u8>,
    pub(crate) hosts: Vec<u8>,
    /// Size of /dev/shm in bytes.
    pub(crate) shm_size: u64,
    /// Resource limits, set after the sandbox's own; never above what init has.
    pub(crate) limits: Vec<Limit>,
    /// `--security=insecure`: every capability of the user namespace for root.
    pub(crate) insecure: bool,
    /// Mounted in this order after everything else.
    pub(crate) mounts: Vec<Mount>,
    /// seccomp programs in the order of installation, as of [`super::seccomp::filters`].
    #[serde(skip)]
    pub(crate) filters: Vec<Vec<u64>>,
    /// With one id in the user namespace: how the command sees several.
    pub(crate) emulation: Option<Emulation>,
}

impl Spec {
    /// What its sandbox has to stand on.
    pub(super) fn ground(&self) -> Ground {
        match self.tree {
            Some(_) => Ground::Chroot,
            None => Ground::Namespaces {
                network: self.network,
                shm_size: self.shm_size,
                is_emulated: self.emulation.is_some(),
            },
        }
    }
}

/// What the supervisor needs, see [`super::emulation`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Emulation {
    /// The filter that traps calls, as of [`super::emulation::program`]; installed after the others.
    pub(crate) filter: Vec<u64>,
    /// Files with the owners that `lowers` record beside their files; a missing one is empty.
    #[serde(skip)]
    pub(crate) tables: Vec<OsString>,
    /// The file that such owners of `upper` are added to.
    pub(crate) table: OsString,
}

/// The argv[0] with which this program is the init of a sandbox.
pub(crate) const INIT_NAME: &str = "rbuild-init";

/// The devices that a command finds: name, major and minor number (OCI runtime-spec, "Default Devices";
/// Linux, `Documentation/admin-guide/devices.txt`).
pub(crate) const DEVICES: [(&str, u64, u64); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// Docker's default for /dev/shm.
pub(crate) const DEFAULT_SHM_SIZE: u64 = 64 << 20;

/// The host name that BuildKit gives a RUN.
pub(crate) const DEFAULT_HOSTNAME: &str = "buildkitsandbox";

/// One limit of setrlimit(2): a name of [`super::limits`], and its two values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Limit {
    pub(crate) name: String,
    pub(crate) soft: u64,
    pub(crate) hard: u64,
}

/// Standard input, output and error of the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Console {
    /// /dev/null for input, and the pipes that init was started with.
    Captured,
    /// The same, but with `input` a pipe that follows the spec; init sends a pidfd of the command.
    Attached { input: bool },
    /// A terminal of the sandbox's own, whose other side init sends, then a pidfd of the command. Zero
    /// columns and rows are an unknown size.
    Terminal { columns: u16, rows: u16 },
}

/// What the command can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Network {
    /// The network namespace of the caller.
    Host,
    /// Loopback only.
    None,
    /// A way out through pasta, and none to the host: the namespace of [`super::network`], which the
    /// parent sends after the [`Ground`].
    Isolated,
}

/// A mount that the Dockerfile asked for. Targets are absolute paths in the image; missing ones are
/// created and reported, see [`Report::created`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Mount {
    /// A file, directory or socket of the host, without set-user-id and device semantics.
    Bind {
        source: OsString,
        target: OsString,
        read_only: bool,
    },
    /// The file or directory at `source` in the tree that `lowers` make, topmost first, as a process
    /// with that tree as its root would find it. Without `writable` it is read-only.
    Tree {
        lowers: Vec<OsString>,
        writable: Option<Writable>,
        source: OsString,
        target: OsString,
    },
    /// An empty file system; `size` in bytes, `None` for the kernel's default.
    Tmpfs {
        target: OsString,
        size: Option<u64>,
        mode: u32,
        no_exec: bool,
    },
    /// A read-only file with these contents, in memory.
    File {
        contents: Vec<u8>,
        target: OsString,
        mode: u32,
        uid: u32,
        gid: u32,
    },
}

/// The directories that take what is written to a [`Mount::Tree`], as [`Spec::upper`] and
/// [`Spec::work`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Writable {
    pub(crate) upper: OsString,
    pub(crate) work: OsString,
}

/// What init says at its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) outcome: Outcome,
    /// Walls that could only be built weaker than wanted, one sentence each.
    pub(crate) warnings: Vec<String>,
    /// Mount targets that were missing in the image and have been made in `upper`.
    pub(crate) created: Vec<Created>,
    /// Directories whose entries changed by that, outermost first.
    pub(crate) touched: Vec<Touched>,
    /// Only pid 1, which makes no more calls but to end, is left of all that could write to `upper`.
    pub(crate) is_alone: bool,
}

/// How the sandbox ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    Exited { code: i32, usage: Usage },
    Signaled { signal: i32, usage: Usage },
    SetupFailed(Failure),
}

/// A step of init that failed before the command ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) step: Step,
    /// The error number, 0 when no system call failed.
    pub(crate) errno: i32,
    /// What failed on what, in words.
    pub(crate) detail: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.step.complaint(), self.detail)
    }
}

/// The steps of init, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Step {
    Namespaces,
    Fork,
    Proc,
    Sys,
    Masks,
    Dev,
    ReadSpec,
    Rootfs,
    Generated,
    Mounts,
    Network,
    PivotRoot,
    /// The USER cannot be resolved in the image, or its ids do not exist on this host.
    User,
    Session,
    Limits,
    /// The terminal or the input pipe of the command.
    Console,
    /// The working directory does not exist or is none.
    Workdir,
    Seccomp,
    /// The supervisor of a sandbox with one id.
    Supervise,
    /// The supervisor ended before the command, which was killed for it.
    Supervisor,
    Privileges,
    /// The command was not found in PATH (ENOENT), or found without execute permission (EACCES).
    FindProgram,
    Execute,
    Wait,
}

impl Step {
    /// What failed when the step failed, as the beginning of a sentence.
    fn complaint(self) -> &'static str {
        match self {
            Self::ReadSpec => "cannot read the orders of the sandbox",
            Self::Namespaces => "cannot create the namespaces of the sandbox",
            Self::Fork => "cannot start a process in the sandbox",
            Self::Rootfs => "cannot mount the root file system of the sandbox",
            Self::Proc => "cannot mount /proc in the sandbox",
            Self::Sys => "cannot mount /sys in the sandbox",
            Self::Dev => "cannot mount /dev in the sandbox",
            Self::Generated => "cannot mount generated files in the sandbox",
            Self::Mounts => "cannot mount into the sandbox",
            Self::Masks => "cannot mask host paths in the sandbox",
            Self::Network => "cannot set up the network of the sandbox",
            Self::PivotRoot => "cannot enter the root file system of the sandbox",
            Self::User => "cannot run as the requested user",
            Self::Session => "cannot start a session in the sandbox",
            Self::Limits => "cannot set resource limits",
            Self::Console => "cannot connect the command",
            Self::Workdir => "cannot enter the working directory",
            Self::Seccomp => "cannot install the system call filters",
            Self::Supervise => "cannot answer the system calls of the command",
            Self::Supervisor => "who answers the system calls of the command is gone",
            Self::Privileges => "cannot drop privileges",
            Self::FindProgram | Self::Execute => "cannot execute the command",
            Self::Wait => "cannot wait for the command",
        }
    }
}

/// What the command and the processes that init reaped used, as of getrusage(2), and when.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Usage {
    pub(crate) user_microseconds: u64,
    pub(crate) system_microseconds: u64,
    pub(crate) max_resident_kib: u64,
    /// Just before its execve(2), and just after it was reaped: nanoseconds of the monotonic clock.
    pub(crate) began: u64,
    pub(crate) ended: u64,
}

/// A file or directory that init made in `upper`; `path` is relative to it and has no links in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Created {
    pub(crate) path: OsString,
    pub(crate) directory: bool,
    pub(crate) inode: u64,
}

/// A directory of `upper` that init changed or had copied up, with its modification times (seconds and
/// nanoseconds) before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Touched {
    pub(crate) path: OsString,
    /// It was not in `upper` before.
    pub(crate) copied_up: bool,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// The attribute that records its owner, where it has one.
    pub(crate) record: Option<Vec<u8>>,
    pub(crate) before: (i64, i64),
    pub(crate) after: (i64, i64),
}
