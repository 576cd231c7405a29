//! Mounts that the host makes while a step runs: none appears in the sandbox, on kernels either that refuse
//! `MS_PRIVATE` on what came from a more privileged namespace (CVE-2025-38498).

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::rig::image::Image;
use crate::rig::outcome::Outcome;
use crate::rig::{Rig, host, terminal};

/// Runs its arguments where mount(2) with `MS_PRIVATE` is EPERM.
const REFUSE: &str = r#"
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int count, char **arguments) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mount, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[3])),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, MS_PRIVATE, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
        return 125;
    return count > 1 && execvp(arguments[1], arguments + 1);
}
"#;

/// A rig with the program in `refuse`; `None`, and said so, where there is no compiler.
fn rig() -> Option<(Rig, String)> {
    let program = host::compile(REFUSE)?;
    let rig = Rig::new();
    let refuse = rig.path("refuse");
    fs::write(&refuse, program).unwrap();
    fs::set_permissions(&refuse, fs::Permissions::from_mode(0o755)).unwrap();
    let refuse = refuse.to_str().unwrap().to_owned();
    // It does what it is for: unshare(1) makes everything private.
    let unshare = |program: &str| {
        let mut command = Command::new(program);
        command.args(["unshare", "--map-root-user", "--mount", "true"]);
        command.stderr(Stdio::null()).status().unwrap().success()
    };
    assert!(unshare("env") && !unshare(&refuse));
    Some((rig, refuse))
}

const MOUNTS: &str = "--mount=type=cache,target=/cache --mount=type=bind,target=/context \
                      --mount=type=bind,source=sub,target=/writable,rw";

#[test]
fn a_kernel_that_refuses_private_mounts_is_enough_and_nothing_propagates() {
    let Some((rig, refuse)) = rig() else {
        return;
    };
    rig.write("sub/f", "f");
    rig.dockerfile(&format!(
        "FROM base\nRUN {MOUNTS} cat /proc/self/mountinfo > /seen"
    ));
    let archive = rig.path("image.tar");
    let output = format!("type=oci,dest={}", archive.display());
    let mut build = rig.build_command(&["-o", &output]);
    // The helpers that map many ids gain privileges, which is over where a filter was put by a user.
    build.env("RBUILD_SANDBOX", "recorded");
    let mut build = terminal::started_by(&["timeout", "-k", "5", "60", &refuse], &build);
    Outcome::of(&mut build).succeeds();
    let seen = Image::open(&archive).text("seen");
    assert!(seen.lines().count() > 15, "{seen}");
    for line in seen.lines() {
        assert_eq!(
            line.split(' ').position(|field| field == "-"),
            Some(6),
            "{line}"
        );
    }
    let doctor = terminal::started_by(&[&refuse], &rig.command(["doctor", "--json"]));
    let report = Outcome::of(&mut { doctor });
    let report: Value = serde_json::from_slice(&report.stdout).unwrap();
    let mut probes = report["probes"].as_array().unwrap().iter();
    let pivot = probes.find(|probe| probe["name"] == "pivot-root").unwrap();
    assert_eq!(pivot["ok"], true, "{pivot}");
}

/// Mounts on the host, as far as it is this namespace's, what a step then looks for.
const HOST: &str = "\
    \"$@\" 2> log & build=$!\n\
    n=0; until grep -q 'is ready' log; do\n\
      n=$((n+1)); test $n -lt 300 || break; kill -0 $build || break; sleep 0.1\n\
    done\n\
    mount -t tmpfs none context/sub && touch context/sub/appeared || exit 90\n\
    mount -t tmpfs none /sys/kernel && touch /sys/kernel/appeared || exit 91\n\
    echo appeared > text && mount --bind text /dev/full || exit 92\n\
    touch context/go; wait $build; code=$?; cat log >&2; exit $code\n";

#[test]
fn what_the_host_mounts_during_a_step_does_not_appear_in_it() {
    let Some((rig, refuse)) = rig() else {
        return;
    };
    rig.write("sub/f", "f");
    rig.dockerfile(&format!(
        "FROM base\nRUN {MOUNTS} echo is' 'ready; n=0; until test -e /context/go; do n=$((n+1)); \
         test $n -lt 300 || exit 9; sleep 0.1; done; \
         for f in /context/sub /writable /sys/kernel; do ! test -e $f/appeared || exit 8; done; \
         test -e /context/sub/f && test -c /dev/full && grep -c . /proc/self/mountinfo",
    ));
    let script = format!("cd {} && {HOST}", rig.path("").display());
    for program in ["env", &refuse] {
        drop(fs::remove_file(rig.context().join("go")));
        let mut build = rig.build_command(&["--no-cache"]);
        build.env("RBUILD_SANDBOX", "recorded");
        let build = terminal::started_by(&[program], &build);
        let unshare = [
            "timeout",
            "-k",
            "5",
            "90",
            "unshare",
            "--map-root-user",
            "--mount",
            "--propagation",
            "shared",
            "sh",
            "-c",
            &script,
            "sh",
        ];
        let outcome = Outcome::of(&mut terminal::started_by(&unshare, &build));
        assert_eq!(outcome.code, Some(0), "{program}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(" is ready"), "{}", outcome.stderr);
    }
}
