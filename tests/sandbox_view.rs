//! What a RUN can see and do on each rung, compared with what is written down in `tests/sandbox_view`:
//! `view.RUNG` is what a process is, sees and may, `syscalls.ARCH` what the filters answer to every
//! system call. `RBUILD_BLESS=1` writes them anew (as a user with subordinate ids) instead of comparing;
//! every line that changes is a wall that moved.

mod filters;

use std::collections::BTreeSet;
use std::fs;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::rig::image::Image;
use crate::rig::outcome::Outcome;
use crate::rig::terminal::started_by;
use crate::rig::{Rig, host};

const LIMIT: [&str; 4] = ["timeout", "-k", "5", "200"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rung {
    Mapped,
    Recorded,
    /// As root of a user namespace.
    Chroot,
}

impl Rung {
    const ALL: [Self; 3] = [Self::Mapped, Self::Recorded, Self::Chroot];

    fn name(self) -> &'static str {
        match self {
            Self::Mapped => "mapped",
            Self::Recorded => "recorded",
            Self::Chroot => "chroot",
        }
    }

    /// Those that this user can stand on.
    fn reached() -> impl Iterator<Item = Self> {
        let many = host::maps_many_ids();
        Self::ALL
            .into_iter()
            .filter(move |rung| many || *rung == Self::Recorded)
    }

    fn build(self, rig: &Rig, dockerfile: &str, options: &[&str]) -> Outcome {
        rig.dockerfile(dockerfile);
        let context = rig.context().display().to_string();
        let sandbox = format!("--sandbox={}", self.name());
        let arguments = [
            &[&sandbox, "build", "--progress=plain", "--no-cache"],
            options,
            &[&context],
        ];
        let rbuild = rig.command(arguments.concat());
        let as_root = ["unshare", "--map-root-user", "--map-auto", "--"];
        let program = match self {
            Self::Chroot => [&LIMIT[..], &as_root].concat(),
            _ => LIMIT.to_vec(),
        };
        Outcome::of(started_by(&program, &rbuild).stdin(Stdio::null()))
    }

    #[track_caller]
    fn image(self, rig: &Rig, dockerfile: &str, options: &[&str]) -> Image {
        let archive = rig.path(&format!("{}.tar", self.name()));
        let output = format!("type=oci,dest={}", archive.display());
        self.build(rig, dockerfile, &[&["-o", &output], options].concat())
            .succeeds();
        Image::open(&archive)
    }
}

/// `name` in the source tree beside this file.
fn expected(name: &str) -> PathBuf {
    host::source().join("tests/sandbox_view").join(name)
}

/// A rig whose context has the compiled program `name`.
fn rig(name: &str) -> Option<Rig> {
    let program = host::compile(&fs::read_to_string(expected(&format!("{name}.c"))).unwrap())?;
    let rig = Rig::new();
    rig.write(name, program).chmod(name, 0o755);
    Some(rig)
}

fn is_blessing() -> bool {
    std::env::var_os("RBUILD_BLESS").is_some()
}

#[track_caller]
fn assert_lines(what: &str, actual: &str, expected: &str) {
    let mut differences = String::new();
    let (actual, expected): (Vec<_>, Vec<_>) =
        (actual.lines().collect(), expected.lines().collect());
    for line in expected.iter().filter(|line| !actual.contains(line)) {
        differences += &format!("- {line}\n");
    }
    for line in actual.iter().filter(|line| !expected.contains(line)) {
        differences += &format!("+ {line}\n");
    }
    assert_eq!(differences, "", "{what} has changed");
}

/// A process of the host for the attacks, which ends with the value.
struct Victim(Child);

impl Victim {
    fn start() -> Self {
        Self(Command::new("sleep").arg("600").spawn().unwrap())
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn a_command_is_sees_and_may_what_is_written_down() {
    let Some(rig) = rig("view") else { return };
    let victim = Victim::start();
    let secret = rig.path("secret");
    fs::write(&secret, "host-secret").unwrap();
    let name = format!("rbuild-view-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let _listener = UnixListener::bind_addr(&address).unwrap();
    for rung in Rung::reached() {
        let dockerfile = format!(
            "FROM base\nCOPY view /view\nWORKDIR /tmp/work\nRUN [\"/bin/sh\", \"-c\", \
             \"exec /view {} {name} {} {} > /seen\"]",
            victim.0.id(),
            secret.display(),
            if rung == Rung::Chroot { "chroot" } else { "" },
        );
        let image = rung.image(&rig, &dockerfile, &[]);
        let seen = without_numbers(&image.text("seen"));
        let file = expected(&format!("view.{}", rung.name()));
        if is_blessing() {
            fs::write(&file, seen).unwrap();
            continue;
        }
        assert_lines(rung.name(), &seen, &fs::read_to_string(&file).unwrap());
        // The crash left nothing in the layer.
        let core = image.files().into_keys().find(|path| path.contains("core"));
        assert_eq!(core, None, "{rung:?}");
    }
}

/// Says of each namespace whose it is, and of the host name.
fn without_numbers(seen: &str) -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let told = seen.lines().map(|line| {
        if line.strip_prefix("host name: ") == Some(name.trim_end()) {
            return "host name: the host's\n".to_owned();
        }
        let Some((kind, link)) = line
            .strip_prefix("namespace ")
            .and_then(|rest| rest.split_once(": "))
        else {
            return format!("{line}\n");
        };
        let host = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        let whose = match link {
            "cannot be read" => link,
            _ if host.to_str() == Some(link) => "the host's",
            _ => "its own",
        };
        format!("namespace {kind}: {whose}\n")
    });
    told.collect()
}

/// Target, file system (empty: that of a directory of the host), options, and whether the kernel or the
/// host may lack it.
type Row = (&'static str, &'static str, &'static str, bool);

const MOUNTS: [Row; 38] = [
    ("/", "overlay", "rw", false),
    ("/cache", "", "rw,nosuid,nodev", false),
    ("/context", "", "ro,nosuid,nodev", false),
    ("/dev", "tmpfs", "rw,nosuid,noexec", false),
    ("/dev/full", "", "ro,nosuid,noexec", false),
    ("/dev/mqueue", "mqueue", "rw,nosuid,nodev,noexec", false),
    ("/dev/null", "", "ro,nosuid,noexec", false),
    ("/dev/pts", "devpts", "rw,nosuid,noexec", false),
    ("/dev/random", "", "ro,nosuid,noexec", false),
    ("/dev/shm", "tmpfs", "rw,nosuid,nodev,noexec", false),
    ("/dev/tty", "", "ro,nosuid,noexec", false),
    ("/dev/urandom", "", "ro,nosuid,noexec", false),
    ("/dev/zero", "", "ro,nosuid,noexec", false),
    ("/etc/hosts", "tmpfs", "ro,nosuid,nodev", false),
    ("/etc/resolv.conf", "tmpfs", "ro,nosuid,nodev", false),
    ("/proc", "proc", "rw,nosuid,nodev,noexec", false),
    ("/proc/acpi", "tmpfs", "ro,nosuid,nodev,noexec", true),
    ("/proc/asound", "tmpfs", "ro,nosuid,nodev,noexec", true),
    ("/proc/bus", "proc", "ro,nosuid,nodev,noexec", true),
    ("/proc/fs", "proc", "ro,nosuid,nodev,noexec", true),
    ("/proc/interrupts", "", "ro,nosuid,noexec", true),
    ("/proc/irq", "proc", "ro,nosuid,nodev,noexec", true),
    ("/proc/kcore", "", "ro,nosuid,noexec", true),
    ("/proc/keys", "", "ro,nosuid,noexec", true),
    ("/proc/latency_stats", "", "ro,nosuid,noexec", true),
    ("/proc/sched_debug", "", "ro,nosuid,noexec", true),
    ("/proc/scsi", "tmpfs", "ro,nosuid,nodev,noexec", true),
    ("/proc/sys", "proc", "ro,nosuid,nodev,noexec", false),
    (
        "/proc/sysrq-trigger",
        "proc",
        "ro,nosuid,nodev,noexec",
        true,
    ),
    ("/proc/timer_list", "", "ro,nosuid,noexec", true),
    ("/proc/timer_stats", "", "ro,nosuid,noexec", true),
    ("/run/secrets/s", "tmpfs", "ro,nosuid,nodev", false),
    ("/sys", "sysfs", "ro,nosuid,nodev,noexec", false),
    (
        "/sys/devices/virtual/powercap",
        "tmpfs",
        "ro,nosuid,nodev,noexec",
        true,
    ),
    ("/sys/firmware", "tmpfs", "ro,nosuid,nodev,noexec", true),
    ("/sys/fs/cgroup", "", "ro,nosuid,nodev,noexec", false),
    ("/scratch", "tmpfs", "rw,nosuid,nodev", false),
    ("/writable", "", "rw,nosuid,nodev", false),
];

#[test]
fn the_mounts_are_exactly_those_of_the_table() {
    let rig = Rig::new();
    rig.write("dir/f", "f");
    fs::write(rig.path("s"), "secret").unwrap();
    let secret = format!("id=s,src={}", rig.path("s").display());
    for rung in Rung::reached().filter(|rung| *rung != Rung::Chroot) {
        let image = rung.image(
            &rig,
            "FROM base\nRUN --mount=type=cache,target=/cache --mount=type=tmpfs,target=/scratch \
             --mount=type=bind,target=/context --mount=type=bind,source=dir,target=/writable,rw \
             --mount=type=secret,id=s cat /proc/self/mountinfo > /seen",
            &["--secret", &secret],
        );
        let seen = image.text("seen");
        let mut missing: BTreeSet<&str> = MOUNTS
            .iter()
            .filter(|row| !row.3)
            .map(|row| row.0)
            .collect();
        for line in seen.lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            let (target, options) = (fields[4], without_times(fields[5]));
            let separator = fields.iter().position(|field| *field == "-").unwrap();
            let kind = fields[separator + 1];
            // Nothing that the host mounts reaches the sandbox later, or the other way round.
            assert_eq!(separator, 6, "{rung:?}: it propagates: {line}");
            missing.remove(target);
            match MOUNTS.iter().find(|row| row.0 == target) {
                Some((_, of, allowed, _)) => {
                    assert!(of.is_empty() || *of == kind, "{rung:?}: {line}");
                    assert_eq!(options, *allowed, "{rung:?}: {line}");
                }
                // What the host has below /sys.
                None => {
                    assert!(target.starts_with("/sys/"), "{rung:?}: {line}");
                    assert_eq!(options, "ro,nosuid,nodev,noexec", "{rung:?}: {line}");
                }
            }
        }
        assert!(missing.is_empty(), "{rung:?} lacks {missing:?}:\n{seen}");
    }
}

/// Mount options without those that tell how times of access are kept.
fn without_times(options: &str) -> String {
    let kept: Vec<&str> = options
        .split(',')
        .filter(|option| !option.ends_with("atime"))
        .collect();
    kept.join(",")
}

#[test]
fn another_user_has_no_capabilities_and_no_groups_of_the_host() {
    for rung in Rung::reached() {
        let Some(rig) = rig("view") else { return };
        let image = rung.image(
            &rig,
            "FROM base\nCOPY view /view\nRUN mkdir -m 777 /w\nUSER app\nWORKDIR /w\n\
             RUN [\"/bin/sh\", \"-c\", \"exec /view 999999 none /none chroot > seen\"]",
            &[],
        );
        let seen = image.text("w/seen");
        let line = |key: &str| {
            let found = seen.lines().find(|line| line.starts_with(key));
            found.unwrap_or_else(|| panic!("no {key:?} in {seen}"))
        };
        assert_eq!(line("ids:"), "ids: 1000 1000 1000, 1000 1000 1000");
        assert_eq!(line("groups:"), "groups: 50 1000");
        assert_eq!(line("chroot:"), "chroot: EPERM");
        assert_eq!(line("make a device:"), "make a device: EPERM");
        assert_eq!(line("set the host name:"), "set the host name: EPERM");
        // Where users are what programs see, the kernel has only root.
        if rung != Rung::Recorded {
            let sets = line("capabilities:");
            assert!(
                sets.contains("effective 0 permitted 0 inheritable 0"),
                "{rung:?}: {sets}"
            );
        }
    }
}

#[test]
fn a_network_namespace_is_the_steps_own() {
    let Some(rig) = rig("view") else { return };
    let name = format!("rbuild-net-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let _listener = UnixListener::bind_addr(&address).unwrap();
    for rung in Rung::reached().filter(|rung| *rung != Rung::Chroot) {
        let image = rung.image(
            &rig,
            &format!(
                "FROM base\nCOPY view /view\nRUN --network=none /view 999999 {name} /none > /seen"
            ),
            &[],
        );
        let seen = without_numbers(&image.text("seen"));
        for line in [
            "namespace net: its own",
            "host's abstract socket: ECONNREFUSED",
        ] {
            assert!(seen.contains(line), "{rung:?}: {line}: {seen}");
        }
    }
}

#[test]
fn programs_with_set_id_bits_are_out_of_reach_of_other_users() {
    for rung in Rung::reached() {
        let rig = Rig::empty();
        // A directory that was made by hand, with anybody's rights.
        fs::create_dir(rig.store()).unwrap();
        fs::set_permissions(rig.store(), fs::Permissions::from_mode(0o755)).unwrap();
        rig.write("busybox", "as good as a program")
            .chmod("busybox", 0o755);
        rung.build(&rig, "FROM scratch\nCOPY --chmod=4755 busybox /set-id", &[])
            .succeeds();
        let mode = fs::metadata(rig.store()).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o700, "{rung:?}");
        let found = Command::new("find")
            .arg(rig.store())
            .args(["-name", "set-id", "-perm", "-4000"])
            .output()
            .unwrap();
        assert!(
            !found.stdout.is_empty(),
            "{rung:?}: no such file in the store"
        );
    }
}

#[test]
fn the_builder_cannot_be_found_or_replaced() {
    let before = fs::read(host::binary()).unwrap();
    let path = host::binary().canonicalize().unwrap().display().to_string();
    for rung in Rung::reached() {
        let rig = Rig::new();
        rig.write("f", "f");
        // Every process that is seen, while a second step runs beside it.
        rung.build(
            &rig,
            &format!(
"FROM base AS beside\nRUN sleep 2\nFROM base\nCOPY f /f\n\
                 RUN for p in /proc/[0-9]*; do echo broken > $p/exe; \
                 cp /bin/true $p/root{path}; echo broken > $p/mem; done; echo broken > {path}; true\n\
                 COPY --from=beside /etc/passwd /x"
            ),
            &[],
        )
        .succeeds();
        assert!(fs::read(host::binary()).unwrap() == before, "{rung:?}");
    }
}

#[test]
fn a_process_beside_a_chroot_is_no_way_out() {
    let Some(rig) = host::maps_many_ids().then(|| rig("trace")).flatten() else {
        return;
    };
    rig.dockerfile("FROM base\nARG PID\nCOPY trace /trace\nRUN /trace $PID > /seen");
    let archive = rig.path("trace.tar");
    let output = format!("type=oci,dest={}", archive.display());
    let context = rig.context().display().to_string();
    let script = format!(
        "setpriv --reuid=1000 --regid=1000 --clear-groups sleep 60 & sleep 0.3; {context}/trace $! >&2; \
         \"$@\" --build-arg PID=$! {context}; code=$?; kill -9 $!; exit $code"
    );
    let mut rbuild = rig.command(["--sandbox=chroot", "build", "-o", &output]);
    // Other users have to reach the program and the store's parent.
    fs::set_permissions(rig.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    rbuild.stdin(Stdio::null());
    let as_root = ["unshare", "--map-root-user", "--map-auto", "--"];
    let program = [&LIMIT[..], &as_root, &["sh", "-c", &script, "sh"]].concat();
    let outcome = Outcome::of(&mut started_by(&program, &rbuild)).succeeds();
    if !outcome.stderr.contains("seize: managed") {
        return host::skip("this host lets nobody trace a process");
    }
    let seen = Image::open(&archive).text("seen");
    assert_eq!(
        seen,
        "read: EPERM\nwrite: EPERM\nseize: EPERM\nattach: EPERM\n"
    );
}
