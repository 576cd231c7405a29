//! From pid 1 in the image's root to the command: who it is, what it may, what it is.

use std::ffi::{CString, OsStr, OsString};
use std::io::Read as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use caps::{CapSet, Capability, CapsHashSet};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag};
use nix::sys::prctl;
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use nix::unistd::{AccessFlags, Gid, Pid, Uid, faccessat};

use super::console::Console;
use super::failure::{At as _, unspecific};
use super::{supervisor, workdir};
use crate::sandbox::limits;
use crate::sandbox::passwd::{self, Identity};
use crate::sandbox::spec::{Failure, Outcome, Spec, Step, Usage};
use crate::sys::clock::monotonic;
use crate::sys::process::Ended;
use crate::sys::{self, fs, notify, process};

/// Docker's default capabilities (moby, `daemon/pkg/oci/caps/defaults.go`).
const CAPABILITIES: [Capability; 14] = [
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_FSETID,
    Capability::CAP_FOWNER,
    Capability::CAP_MKNOD,
    Capability::CAP_NET_RAW,
    Capability::CAP_SETGID,
    Capability::CAP_SETUID,
    Capability::CAP_SETFCAP,
    Capability::CAP_SETPCAP,
    Capability::CAP_NET_BIND_SERVICE,
    Capability::CAP_SYS_CHROOT,
    Capability::CAP_KILL,
    Capability::CAP_AUDIT_WRITE,
];

/// RLIMIT_NOFILE for the command, below the host's hard limit: some programs walk all of it.
const MAX_OPEN_FILES: u64 = 1 << 20;

/// Nothing in an image has a reason to be larger than this and still be a passwd or group file.
const MAX_ACCOUNT_FILE: u64 = 10 << 20;

/// Runs the command of `spec` in the root of this process, which is pid 1, and reaps until it ends.
pub(super) fn run(
    spec: &Spec,
    socket: &UnixStream,
    input: Option<OwnedFd>,
    channel: Option<UnixStream>,
) -> Result<Outcome, Failure> {
    let identity = identify(&spec.user)?;
    let console = Console::open(spec.console, socket, input).at(Step::Console)?;
    let mut began = 0;
    let mut failure = None;
    let child = process::start(|| {
        let channel = channel.as_ref();
        let Err(why) = become_command(spec, &identity, &console, channel, &mut began);
        failure = Some(why);
        127
    });
    let child = child.at(Step::Fork)?;
    drop(channel);
    let _terminal = console
        .keep_alive(spec.console, child, socket)
        .at(Step::Console)?;
    let ended = reap_until(child).at(Step::Wait)?;
    if let Some(failure) = failure {
        return Ok(Outcome::SetupFailed(failure));
    }
    let usage = usage(began).at(Step::Wait)?;
    Ok(match ended {
        Ended::Code(code) => Outcome::Exited { code, usage },
        Ended::Signal(signal) => Outcome::Signaled { signal, usage },
    })
}

/// Reaps whatever ends until `child` does: orphans of the sandbox become children of pid 1.
fn reap_until(child: Pid) -> sys::Result<Ended> {
    loop {
        let (pid, ended) = process::wait(None)?;
        if pid == child {
            return Ok(ended);
        }
    }
}

fn usage(began: u64) -> sys::Result<Usage> {
    let ended = monotonic()?;
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)
        .map_err(|errno| sys::Error::new("getrusage", "", errno))?;
    let microseconds = |time: nix::sys::time::TimeVal| {
        let whole = u64::try_from(time.tv_sec()).unwrap_or(0) * 1_000_000;
        whole + u64::try_from(time.tv_usec()).unwrap_or(0)
    };
    Ok(Usage {
        user_microseconds: microseconds(usage.user_time()),
        system_microseconds: microseconds(usage.system_time()),
        max_resident_kib: u64::try_from(usage.max_rss()).unwrap_or(0),
        began,
        ended,
    })
}

/// Resolves USER with the account files of the image.
fn identify(user: &str) -> Result<Identity, Failure> {
    let passwd = read_account_file("/etc/passwd")?;
    let group = read_account_file("/etc/group")?;
    passwd::lookup_user(&passwd, &group, user).map_err(|error| unusable(error.to_string()))
}

/// The contents of a regular file; empty when there is none. Never waits, whatever the image put there.
fn read_account_file(path: &str) -> Result<Vec<u8>, Failure> {
    let root = fs::open_directory(Path::new("/")).at(Step::User)?;
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = match fs::open_in_root(root, Path::new(path), flags, 0) {
        Err(error) if matches!(error.errno, Errno::ENOENT | Errno::ENOTDIR) => {
            return Ok(Vec::new());
        }
        other => other.at(Step::User)?,
    };
    let stat = fs::stat(&file).at(Step::User)?;
    if fs::Kind::of(&stat) != fs::Kind::Regular {
        return Err(unusable(format!("{path} is not a regular file")));
    }
    let mut contents = Vec::new();
    std::fs::File::from(file)
        .take(MAX_ACCOUNT_FILE + 1)
        .read_to_end(&mut contents)
        .map_err(|error| unspecific(Step::User, &error))?;
    if contents.len() as u64 > MAX_ACCOUNT_FILE {
        return Err(unusable(format!(
            "{path} is larger than {MAX_ACCOUNT_FILE} bytes"
        )));
    }
    Ok(contents)
}

fn unusable(detail: String) -> Failure {
    Failure {
        step: Step::User,
        errno: 0,
        detail,
    }
}

/// Gives up what the command must not have and executes it; returns only on failure.
///
/// The order is the kernel's: the keyring before the filters that forbid keyctl(2); the groups and the
/// filters while there is CAP_SETGID and CAP_SYS_ADMIN, which spares `no_new_privs` and so keeps sudo
/// working; the bounding set while there is CAP_SETPCAP; the user last, because leaving uid 0 drops the
/// rest.
fn become_command(
    spec: &Spec,
    identity: &Identity,
    console: &Console,
    channel: Option<&UnixStream>,
    began: &mut u64,
) -> Result<std::convert::Infallible, Failure> {
    // With one id only, the user and the groups are the supervisor's affair.
    let shown = identity;
    let root = Identity {
        uid: 0,
        gid: 0,
        groups: Vec::new(),
        home: None,
    };
    let identity = if spec.emulation.is_some() {
        &root
    } else {
        shown
    };
    start_session().at(Step::Session)?;
    console.connect(identity).at(Step::Console)?;
    limit(spec).at(Step::Limits)?;
    enter_workdir(&spec.cwd).at(Step::Workdir)?;
    if spec.emulation.is_none() {
        set_groups(identity).at(Step::User)?;
    }
    if spec.tree.is_some() && !spec.filters.is_empty() && !is_admin() {
        // Filters then take a promise that no program gains privileges by them (seccomp(2)).
        prctl::set_no_new_privs()
            .map_err(|errno| sys::Error::new("prctl", "PR_SET_NO_NEW_PRIVS", errno))
            .at(Step::Seccomp)?;
    }
    for filter in &spec.filters {
        process::install_filter(filter).at(Step::Seccomp)?;
    }
    if let (Some(emulation), Some(channel)) = (&spec.emulation, channel) {
        let listener = notify::install(&emulation.filter).at(Step::Seccomp)?;
        // From here on the supervisor answers, so it has to know for whom.
        supervisor::hand_over(channel, &listener, shown).at(Step::Supervise)?;
    }
    let kept: CapsHashSet = if spec.insecure {
        caps::runtime::thread_all_supported()
    } else if spec.tree.is_some() {
        in_chroot().at(Step::Privileges)?
    } else {
        CAPABILITIES.into_iter().collect()
    };
    drop_bounding(&kept).at(Step::Privileges)?;
    if spec.emulation.is_none() {
        set_user(identity).at(Step::User)?;
    }
    drop_capabilities(identity, &kept).at(Step::Privileges)?;

    let program = find_program(spec)?;
    let (arguments, environment) = command_line(spec, shown).at(Step::Execute)?;
    process::reset_signals().at(Step::Execute)?;
    process::close_on_exec().at(Step::Execute)?;
    let path = c_string(program.as_os_str()).at(Step::Execute)?;
    *began = monotonic().at(Step::Execute)?;
    let Err(errno) = nix::unistd::execve(&path, &arguments, &environment);
    Err(sys::Error::on("execve", &program, errno)).at(Step::Execute)
}

fn is_admin() -> bool {
    caps::has_cap(None, CapSet::Effective, Capability::CAP_SYS_ADMIN).unwrap_or(false)
}

/// What of [`CAPABILITIES`] the container has, without the one that leads out of a chroot. To have one
/// less than other processes of the container also keeps them from being traced (ptrace(2)).
fn in_chroot() -> sys::Result<CapsHashSet> {
    let permitted = caps::read(None, CapSet::Permitted)
        .map_err(|_| sys::Error::new("capget", "", Errno::EPERM))?;
    let kept = CAPABILITIES.into_iter();
    Ok(kept
        .filter(|capability| {
            *capability != Capability::CAP_SYS_CHROOT && permitted.contains(capability)
        })
        .collect())
}

/// A new session and keyring.
fn start_session() -> sys::Result<()> {
    nix::unistd::setsid().map_err(|errno| sys::Error::new("setsid", "", errno))?;
    match process::new_session_keyring() {
        // No keyrings in this kernel, none left for this user, or hidden by an outer container: the
        // filters refuse keyctl(2) to the command in any case.
        Err(error) if matches!(error.errno, Errno::ENOSYS | Errno::EDQUOT | Errno::EPERM) => Ok(()),
        other => other,
    }
}

fn limit(spec: &Spec) -> sys::Result<()> {
    // 1 and not 0: only this value also keeps a pipe in kernel.core_pattern from running (core(5)).
    set_limit("RLIMIT_CORE", Resource::RLIMIT_CORE, 1)?;
    set_limit("RLIMIT_NOFILE", Resource::RLIMIT_NOFILE, MAX_OPEN_FILES)?;
    for limit in &spec.limits {
        let resource = limits::of_spec(&limit.name)
            .ok_or_else(|| sys::Error::new("setrlimit", limit.name.as_str(), Errno::EINVAL))?;
        let failed = |call| {
            let name = limit.name.clone();
            move |errno| sys::Error::new(call, name, errno)
        };
        let (_, most) = getrlimit(resource).map_err(failed("getrlimit"))?;
        setrlimit(resource, limit.soft.min(most), limit.hard.min(most))
            .map_err(failed("setrlimit"))?;
    }
    Ok(())
}

/// Sets both limits to `value`, or to the hard limit when that is lower.
fn set_limit(name: &'static str, resource: Resource, value: u64) -> sys::Result<()> {
    let (_, hard) =
        getrlimit(resource).map_err(|errno| sys::Error::new("getrlimit", name, errno))?;
    let value = value.min(hard);
    setrlimit(resource, value, value).map_err(|errno| sys::Error::new("setrlimit", name, errno))
}

/// Enters the working directory; it and its parents are made where they are missing.
fn enter_workdir(cwd: &OsStr) -> sys::Result<()> {
    let root = fs::open_directory(Path::new("/"))?;
    let dir = workdir::open(&root, cwd)?;
    nix::unistd::fchdir(dir.as_fd()).map_err(|errno| sys::Error::on("fchdir", cwd, errno))
}

fn set_groups(identity: &Identity) -> sys::Result<()> {
    let gid = Gid::from_raw(identity.gid);
    // With one id only the kernel has taken setgroups(2) away, and there are no groups to set. Where
    // there is no such file it has not.
    let is_allowed = match std::fs::read("/proc/self/setgroups") {
        Ok(text) => text.trim_ascii() == b"allow",
        Err(_) => true,
    };
    if is_allowed {
        let groups: Vec<Gid> = identity.groups.iter().copied().map(Gid::from_raw).collect();
        nix::unistd::setgroups(&groups).map_err(|errno| unmapped("setgroups", gid, errno))?;
    }
    nix::unistd::setresgid(gid, gid, gid).map_err(|errno| unmapped("setresgid", gid, errno))
}

fn set_user(identity: &Identity) -> sys::Result<()> {
    let uid = Uid::from_raw(identity.uid);
    nix::unistd::setresuid(uid, uid, uid).map_err(|errno| unmapped("setresuid", uid, errno))
}

/// EINVAL of these calls means an id that the build's user namespace does not have.
fn unmapped(call: &'static str, id: impl std::fmt::Display, errno: Errno) -> sys::Error {
    let object = match errno {
        Errno::EINVAL => format!("{id}, an id this build does not have"),
        _ => id.to_string(),
    };
    sys::Error::new(call, object, errno)
}

fn drop_bounding(kept: &CapsHashSet) -> sys::Result<()> {
    for capability in caps::all().difference(kept) {
        // An error means that this kernel does not know it.
        if !caps::has_cap(None, CapSet::Bounding, *capability).unwrap_or(false) {
            continue;
        }
        caps::drop(None, CapSet::Bounding, *capability).map_err(|_| {
            sys::Error::new(
                "prctl",
                format!("PR_CAPBSET_DROP {capability}"),
                Errno::EPERM,
            )
        })?;
    }
    Ok(())
}

/// Leaves root with `kept`, and anybody else with nothing.
fn drop_capabilities(identity: &Identity, kept: &CapsHashSet) -> sys::Result<()> {
    let none = CapsHashSet::new();
    let own = if identity.uid == 0 { kept } else { &none };
    caps::clear(None, CapSet::Ambient)
        .map_err(|_| sys::Error::new("prctl", "PR_CAP_AMBIENT_CLEAR_ALL", Errno::EPERM))?;
    let sets = [
        (CapSet::Inheritable, &none),
        (CapSet::Effective, own),
        (CapSet::Permitted, own),
    ];
    for (set, capabilities) in sets {
        caps::set(None, set, capabilities)
            .map_err(|_| sys::Error::new("capset", format!("{set:?}"), Errno::EPERM))?;
    }
    Ok(())
}

/// Finds the command as a shell would: a name with a slash is a path, others are in PATH.
fn find_program(spec: &Spec) -> Result<PathBuf, Failure> {
    let failed = |name: &OsStr, errno: Errno| Failure {
        step: Step::FindProgram,
        errno: errno as i32,
        detail: match errno {
            Errno::EACCES => format!("exec: {name:?}: permission denied"),
            _ => format!("exec: {name:?}: executable file not found in $PATH"),
        },
    };
    let Some(name) = spec.args.first().filter(|name| !name.is_empty()) else {
        return Err(failed(OsStr::new(""), Errno::ENOENT));
    };
    if name.as_bytes().contains(&b'/') {
        return Ok(PathBuf::from(name));
    }
    let path = spec.env.iter().find(|(key, _)| key == "PATH");
    let mut errno = Errno::ENOENT;
    for dir in path
        .iter()
        .flat_map(|(_, value)| std::env::split_paths(value))
    {
        let dir = if dir.as_os_str().is_empty() {
            PathBuf::from(".")
        } else {
            dir
        };
        let candidate = dir.join(name);
        if !candidate.is_file() {
            continue;
        }
        match faccessat(AT_FDCWD, &candidate, AccessFlags::X_OK, AtFlags::AT_EACCESS) {
            Ok(()) => return Ok(candidate),
            Err(_) => errno = Errno::EACCES,
        }
    }
    Err(failed(name, errno))
}

/// The arguments and the environment, with HOME added if the image does not set it.
fn command_line(spec: &Spec, identity: &Identity) -> sys::Result<(Vec<CString>, Vec<CString>)> {
    let arguments = spec.args.iter().map(|argument| c_string(argument));
    let home = identity.home.as_deref().filter(|home| !home.is_empty());
    let home = (
        OsString::from("HOME"),
        OsString::from_vec(home.unwrap_or(b"/").to_vec()),
    );
    let has_home = spec.env.iter().any(|(name, _)| name == "HOME");
    let environment = spec
        .env
        .iter()
        .chain((!has_home).then_some(&home))
        .map(|(name, value)| {
            let mut entry = name.clone();
            entry.push("=");
            entry.push(value);
            c_string(&entry)
        });
    Ok((
        arguments.collect::<sys::Result<_>>()?,
        environment.collect::<sys::Result<_>>()?,
    ))
}

fn c_string(text: &OsStr) -> sys::Result<CString> {
    CString::new(text.as_bytes()).map_err(|_| sys::Error::on("execve", text, Errno::EINVAL))
}
