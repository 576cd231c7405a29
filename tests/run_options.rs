//! What the command line says about every RUN, and what a RUN may ask for.

use crate::rig::Rig;

/// What a step that sees an option wrote, and whether the option is part of its key.
#[test]
fn what_an_option_does_and_that_the_key_has_it() {
    for (options, command, expected) in [
        (
            &["--add-host", "db:10.1.2.3"][..],
            "tail -1 /etc/hosts",
            "10.1.2.3\tdb\n",
        ),
        (&["--add-host=a.b=::1"], "tail -1 /etc/hosts", "::1\ta.b\n"),
        (
            &["--shm-size", "1m"],
            "df -k /dev/shm | tail -1 | awk '{print $2}'",
            "1024\n",
        ),
        (
            &["--ulimit", "nofile=64:128"],
            "ulimit -Sn; ulimit -Hn",
            "64\n128\n",
        ),
        (
            &["--build-arg", "BUILDKIT_SANDBOX_HOSTNAME=box"],
            "hostname; grep -o box /etc/hosts",
            "box\nbox\n",
        ),
    ] {
        let rig = Rig::new();
        let dockerfile = format!("FROM base\nRUN ({command}) > /out || true");
        rig.image(&dockerfile);
        let image = rig.image_with(&dockerfile, options);
        assert_eq!(image.text("out"), expected, "{options:?}");
        let again = rig.build(options).succeeds();
        assert!(again.step("|| true").is_cached(), "{options:?}");
    }
}

#[test]
fn options_that_cannot_be() {
    let rig = Rig::new();
    rig.dockerfile("FROM base\nRUN echo started");
    for (options, needle) in [
        (
            &["--add-host", "a:host-gateway"][..],
            "host-gateway is not supported",
        ),
        (&["--add-host", "a"], "NAME:ADDRESS"),
        (&["--shm-size", "many"], "is no size"),
        (&["--ulimit", "nofile=-1"], "without root"),
        (&["--ulimit", "files=1"], "not known"),
        (&["--allow", "device"], "network.host, security.insecure"),
        (
            &["--build-arg", "BUILDKIT_SANDBOX_HOSTNAME=a b"],
            "is no host name",
        ),
    ] {
        rig.build(options).exits_with(2).says(&[needle]);
    }
    rig.build(&["--allow", "network.host"]).succeeds();
}

#[test]
fn an_insecure_run_is_refused_before_any_work() {
    let rig = Rig::new();
    for dockerfile in [
        "FROM base\nRUN echo started\nRUN --security=insecure true",
        "FROM base\nRUN echo started\nRUN --security=insecure --mount=type=tmpfs,target=/m true",
    ] {
        rig.dockerfile(dockerfile);
        for options in [&[][..], &["--allow", "network.host"]] {
            let outcome = rig.build(options).exits_with(1).says(&[
                "Dockerfile:3",
                "security.insecure is not allowed",
                "--allow security.insecure",
            ]);
            assert!(!outcome.stderr.contains(" started\n"), "{}", outcome.stderr);
        }
    }
    // Nor in a trigger of the base.
    rig.dockerfile("FROM base\nONBUILD RUN --security=insecure true");
    rig.build(&["-t", "parent"]).succeeds();
    rig.dockerfile("FROM parent\nRUN echo started");
    rig.build(&[])
        .exits_with(1)
        .says(&["Dockerfile:1", "security.insecure is not allowed"]);
}

#[test]
fn an_insecure_run_has_every_capability_of_its_namespace_and_no_other_run_has() {
    let rig = Rig::new();
    let command = "mount -t tmpfs none /mnt && echo mounted > /out || echo refused > /out";
    let allow = &["--allow", "security.insecure"];
    for (flag, expected) in [
        (" --security=insecure", "mounted\n"),
        (" --security=sandbox", "refused\n"),
        ("", "refused\n"),
    ] {
        let image = rig.image_with(
            &format!("FROM base\nRUN mkdir -p /mnt\nRUN{flag} {command} 2>/dev/null"),
            allow,
        );
        assert_eq!(image.text("out"), expected, "{flag:?}");
    }
    // Still not the host: its files and processes are not there.
    let secret = rig.path("secret");
    std::fs::write(&secret, "host-secret").unwrap();
    let text = rig
        .image_with(
            &format!(
                "FROM base\nRUN --security=insecure (cat {0} /proc/1/root{0}; \
                 mount -o remount,rw /sys; mount -o remount,rw /sys/kernel; umount -l /; cat {0}; \
                 echo x > /proc/sys/kernel/core_pattern && echo changed) > /out 2>&1 || true",
                secret.display()
            ),
            allow,
        )
        .text("out");
    assert!(
        !text.contains("host-secret") && !text.contains("changed"),
        "{text}"
    );
}
