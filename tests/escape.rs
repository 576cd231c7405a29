//! Attacks from inside a RUN, and from the files that a build reads.

use std::fs;
use std::process::Command;

use crate::rig::{Rig, host};

/// Runs `attack` in the base and returns what it managed to write to `/tmp/out`.
fn attack(rig: &Rig, attack: &str) -> String {
    rig.image(&format!(
        "FROM base\nRUN ({attack}) > /tmp/out 2>&1 || true"
    ))
    .text("tmp/out")
}

#[test]
fn no_descriptor_of_the_builder_is_open() {
    let text = attack(&Rig::new(), "ls /proc/self/fd");
    let open: Vec<&str> = text.lines().collect();
    // 3 is the directory that ls itself reads.
    assert_eq!(open, ["0", "1", "2", "3"], "{text}");
}

#[test]
fn the_process_that_is_one_belongs_to_the_step() {
    let rig = Rig::new();
    let text = attack(
        &rig,
        "ls /proc/1/root/; readlink /proc/1/exe; cat /proc/1/environ; ls /proc | grep -c '^[0-9]'",
    );
    assert!(
        !text.contains(&rig.path("").display().to_string()),
        "{text}"
    );
    let processes: u32 = text.lines().last().unwrap().parse().unwrap();
    assert!(processes < 10, "the host's processes are seen: {text}");
}

#[test]
fn files_of_the_host_cannot_be_seen_or_reached() {
    let rig = Rig::new();
    fs::write(rig.path("secret"), "host-secret").unwrap();
    let secret = rig.path("secret").display().to_string();
    for path in [
        secret.clone(),
        format!("/proc/1/root{secret}"),
        format!("/proc/self/root{secret}"),
        format!("/proc/1/cwd/../../../../../../..{secret}"),
        format!("/../../../../../..{secret}"),
    ] {
        let text = attack(&rig, &format!("cat {path}"));
        assert!(!text.contains("host-secret"), "{path}: {text}");
    }
}

#[test]
fn the_old_root_is_not_mounted_anywhere() {
    let rig = Rig::new();
    let text = attack(&rig, "cat /proc/self/mountinfo");
    for line in text.lines() {
        let target = line.split(' ').nth(4).unwrap();
        let expected = target == "/"
            || [
                "/proc",
                "/dev",
                "/sys",
                "/etc/hosts",
                "/etc/resolv.conf",
                "/etc/hostname",
                "/run/",
            ]
            .iter()
            .any(|prefix| target.starts_with(prefix));
        assert!(expected, "{line}");
    }
    assert!(text.contains(" / / "), "{text}");
}

#[test]
fn processes_outside_cannot_be_signalled() {
    let mut victim = Command::new("sleep").arg("60").spawn().unwrap();
    let rig = Rig::new();
    // The second one ends the step itself.
    rig.dockerfile(&format!(
        "FROM base\nRUN kill -9 {}; kill -9 -1",
        victim.id()
    ));
    rig.build(&[]).exits_with(1);
    let state = victim.try_wait().unwrap();
    victim.kill().unwrap();
    victim.wait().unwrap();
    assert!(state.is_none(), "a process of the host was killed");
}

#[test]
fn mounts_hostname_and_namespaces_do_not_change_outside() {
    let rig = Rig::new();
    let before = fs::read_to_string("/proc/self/mounts").unwrap();
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    attack(
        &rig,
        "mount -t tmpfs none /tmp; mount --bind / /tmp; hostname stolen; umount /proc",
    );
    assert_eq!(fs::read_to_string("/proc/self/mounts").unwrap(), before);
    assert_eq!(
        fs::read_to_string("/proc/sys/kernel/hostname").unwrap(),
        name
    );
}

#[test]
fn mounting_is_not_permitted() {
    for attempt in [
        "mount -t tmpfs none /tmp",
        "mount -t proc none /tmp",
        "mount --bind /etc /tmp",
        "mount -o remount,rw /sys",
        "umount /proc",
        "unshare -U true",
        "unshare -m true",
        "pivot_root / /tmp",
        "chroot / swapoff -a",
    ] {
        let text = attack(&Rig::new(), &format!("{attempt} && echo managed"));
        assert!(!text.contains("managed"), "{attempt}: {text}");
    }
}

#[test]
fn the_kernels_settings_are_read_only_or_hidden() {
    for path in [
        "/proc/sys/kernel/hostname",
        "/proc/sys/kernel/core_pattern",
        "/proc/sysrq-trigger",
        "/sys/kernel/uevent_helper",
        "/sys/fs/cgroup/cgroup.procs",
    ] {
        let text = attack(&Rig::new(), &format!("echo x > {path} && echo managed"));
        assert!(!text.contains("managed"), "{path}: {text}");
    }
    for path in ["/proc/kcore", "/proc/keys", "/proc/timer_list"] {
        let text = attack(&Rig::new(), &format!("head -c 1 {path} | wc -c"));
        assert!(
            !text.contains('1') || text.contains("denied"),
            "{path}: {text}"
        );
    }
}

#[test]
fn devices_are_the_harmless_ones() {
    let text = attack(&Rig::new(), "ls /dev");
    let expected = [
        "console", "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm",
        "stderr", "stdin", "stdout", "tty", "urandom", "zero",
    ];
    for name in text.split_whitespace() {
        assert!(expected.contains(&name), "/dev/{name}");
    }
    let text = attack(
        &Rig::new(),
        "mknod /tmp/d b 254 0 && test $(head -c 1 /tmp/d | wc -c) = 1 && echo managed",
    );
    assert!(!text.contains("managed"), "{text}");
}

#[test]
fn shared_memory_and_message_queues_are_the_steps_own() {
    let made = Command::new("ipcmk")
        .args(["-Q", "-M", "4096"])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let ids: Vec<String> = String::from_utf8(made.stdout)
        .unwrap()
        .lines()
        .map(|line| line.rsplit(' ').next().unwrap().to_owned())
        .collect();
    let text = attack(
        &Rig::new(),
        "tail -n +2 /proc/sysvipc/shm; tail -n +2 /proc/sysvipc/msg; ls -A /dev/shm",
    );
    let removed = Command::new("ipcrm")
        .args(["-m", &ids[0], "-q", &ids[1]])
        .status()
        .unwrap();
    assert_eq!(text, "");
    assert!(removed.success(), "{ids:?}");
}

#[test]
fn sockets_without_a_path_are_out_of_reach_without_a_network() {
    use std::os::linux::net::SocketAddrExt as _;
    let name = format!("rbuild-it-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let _listener = std::os::unix::net::UnixListener::bind_addr(&address).unwrap();
    let Some(program) = host::compile(
        "#include <stddef.h>\n#include <stdio.h>\n#include <string.h>\n#include <sys/socket.h>\n#include <sys/un.h>\n\
         int main(int c, char **v) {\n\
         struct sockaddr_un a = {.sun_family = AF_UNIX};\n\
         strcpy(a.sun_path + 1, v[1]);\n\
         int s = socket(AF_UNIX, SOCK_STREAM, 0);\n\
         if (connect(s, (void *)&a, offsetof(struct sockaddr_un, sun_path) + 1 + strlen(v[1]))) { perror(\"connect\"); return 1; }\n\
         puts(\"managed\"); return 0; }",
    ) else {
        return;
    };
    let rig = Rig::new();
    rig.write("connect", program).chmod("connect", 0o755);
    let image = rig.image(&format!(
        "FROM base\nCOPY connect /connect\nRUN --network=none /connect {name} > /tmp/out 2>&1 || true"
    ));
    assert!(
        !image.text("tmp/out").contains("managed"),
        "{}",
        image.text("tmp/out")
    );
}

#[test]
fn dangerous_system_calls_are_refused() {
    let Some(program) = host::compile(
        "#define _GNU_SOURCE\n#include <errno.h>\n#include <stdio.h>\n#include <sys/syscall.h>\n#include <unistd.h>\n\
         #define TRY(n, ...) do { long r = syscall(SYS_##n, __VA_ARGS__); \
           if (r >= 0 || (errno != EPERM && errno != ENOSYS)) printf(\"%s: %ld %d\\n\", #n, r, errno); } while (0)\n\
         int main(void) {\n\
         TRY(keyctl, 0, -3, 0, 0, 0); TRY(add_key, 0, 0, 0, 0, 0); TRY(bpf, 0, 0, 0);\n\
         TRY(userfaultfd, 0); TRY(kexec_load, 0, 0, 0, 0); TRY(init_module, 0, 0, 0);\n\
         TRY(open_by_handle_at, -1, 0, 0); TRY(unshare, 0x10000000); TRY(setns, -1, 0);\n\
         TRY(mount, 0, 0, 0, 0, 0); TRY(fsopen, 0, 0); TRY(move_mount, -1, 0, -1, 0, 0);\n\
         TRY(perf_event_open, 0, 0, 0, 0, 0); TRY(clone3, 0, 0);\n\
         return 0; }",
    ) else {
        return;
    };
    let rig = Rig::new();
    rig.write("try", program).chmod("try", 0o755);
    let image = rig.image("FROM base\nCOPY try /try\nRUN /try > /tmp/out");
    assert_eq!(image.text("tmp/out"), "");
}

#[test]
fn a_daemon_that_leaves_its_session_is_still_gone() {
    let rig = Rig::new();
    let mark = format!("9{:06}", std::process::id());
    rig.image(&format!(
        "FROM base\nRUN setsid sh -c 'setsid sleep {mark} &' & sleep 0.1"
    ));
    assert_eq!(host::processes_with(&format!("sleep {mark}")), [""; 0]);
}

#[test]
fn a_process_cannot_outlive_a_killed_builder() {
    let rig = Rig::new();
    let mark = format!("6{:06}", std::process::id());
    rig.dockerfile(&format!("FROM base\nRUN sleep {mark}"));
    let mut build = rig
        .build_command(&[])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let sleeping = || !host::processes_with(&format!("sleep {mark}")).is_empty();
    wait_until(sleeping, "the step to start");
    build.kill().unwrap();
    build.wait().unwrap();
    wait_until(|| !sleeping(), "the step to end");
}

fn wait_until(condition: impl Fn() -> bool, what: &str) {
    for _ in 0..600 {
        if condition() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("waited too long for {what}");
}

#[test]
fn links_planted_by_a_step_do_not_lead_copy_out() {
    let rig = Rig::new();
    let outside = rig.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "host-secret").unwrap();
    rig.write("f", "payload");
    let target = outside.display();
    let image = rig.image(&format!(
        "FROM base AS evil\nRUN ln -s {target} /d && ln -s {target}/secret /s && mkdir -p {target}\n\
         COPY f /d/\nFROM base\nRUN mkdir -p {target}\nCOPY --from=evil /d /got\n\
         WORKDIR /d"
    ));
    assert_eq!(
        fs::read_dir(&outside).unwrap().count(),
        1,
        "something was written outside"
    );
    for (path, node) in image.files() {
        assert!(
            !node
                .content
                .windows(11)
                .any(|bytes| bytes == b"host-secret"),
            "{path}"
        );
    }
    rig.dockerfile(&format!(
        "FROM base AS evil\nRUN ln -s {target}/secret /s\nFROM base\nCOPY --from=evil /s /stolen"
    ));
    let outcome = rig.build(&[]);
    assert_eq!(
        outcome.code,
        Some(1),
        "the link has no target inside the image: {}",
        outcome.stderr
    );
}

/// The kernel's own files are looked at by path until the image is the root: nothing may cover them.
#[test]
fn a_link_to_the_kernels_files_does_not_lead_a_mount_onto_them() {
    let rig = Rig::new();
    fs::create_dir(rig.path("outside")).unwrap();
    fs::write(rig.path("outside/secret"), "host-secret").unwrap();
    let outside = rig.path("outside");
    let outside = outside.display();
    for (link, target) in [
        ("/proc", "/l"),
        ("/proc", "/l/sys"),
        ("/proc/self/..", "/l/sys/../../l"),
        ("/", "/l/proc"),
    ] {
        for mount in [
            format!("type=bind,from=tree,source=/t,target={target}"),
            format!("type=bind,from=tree,source=/t,rw,target={target}"),
            format!("type=cache,from=tree,source=/t,target={target}"),
            format!("type=tmpfs,target={target}"),
        ] {
            rig.dockerfile(&format!(
                "FROM base AS tree\n\
                 RUN mkdir -p /t/self && ln -s {outside} /t/sys && echo deny > /t/self/setgroups\n\
                 FROM base\n\
                 RUN ln -s {link} /l && mkdir -p {outside}\n\
                 RUN --mount={mount} cat {outside}/secret /proc/sys/secret && echo REACHED; \
                 test -e /proc/1/stat && test ! -e /proc/self/sys && echo KERNELS"
            ));
            let outcome = rig.build(&["--no-cache"]);
            assert!(
                !outcome.stderr.contains("host-secret") && !outcome.stderr.contains("] REACHED"),
                "{mount}: {}",
                outcome.stderr
            );
            assert_eq!(outcome.code, Some(1), "{mount}: {}", outcome.stderr);
        }
    }
}

#[test]
fn escape_sequences_of_a_step_do_not_reach_the_terminal() {
    let rig = Rig::new();
    rig.dockerfile("FROM base\nRUN printf '\\033]0;stolen title\\007\\033[2J visible\\n'");
    let outcome = rig.build(&[]).succeeds();
    assert!(outcome.stderr.contains("visible"));
    assert!(!outcome.stderr.contains('\u{1b}'), "{:?}", outcome.stderr);
}
