//! RUN: what a command sees, and what of its doings ends up in the image.

use std::fs;

use crate::rig::image::Kind;
use crate::rig::{Rig, host};

/// What `command`, run by RUN in the base, wrote to its standard output.
fn output_of(command: &str) -> String {
    let rig = Rig::new();
    rig.image(&format!("FROM base\nRUN ({command}) > /tmp/out"))
        .text("tmp/out")
}

#[test]
fn the_shell_form_is_one_argument_of_the_shell() {
    assert_eq!(output_of("echo \"a  b\" $((1+1)) && echo c"), "a  b 2\nc\n");
}

#[test]
fn the_exec_form_is_taken_as_it_is() {
    let rig = Rig::new();
    let image = rig.image(
        r#"FROM base
ENV X=expanded
RUN ["/bin/sh", "-c", "printf %s \"$0\" > /out", "$X"]"#,
    );
    assert_eq!(image.text("out"), "$X");
}

#[test]
fn the_exec_form_finds_its_program_in_the_images_path() {
    let rig = Rig::new();
    rig.image("FROM base\nRUN mkdir /opt && ln -s /bin/busybox /opt/touch\nENV PATH=/opt\nRUN [\"touch\", \"/found\"]")
        .file("found");
}

#[test]
fn shell_replaces_the_shell() {
    let rig = Rig::new();
    let image =
        rig.image("FROM base\nSHELL [\"/bin/sh\", \"-e\", \"-u\", \"-c\"]\nRUN echo $- > /out");
    let flags = image.text("out");
    assert!(flags.contains('e') && flags.contains('u'), "{flags:?}");
}

#[test]
fn a_command_sees_env_args_path_and_home_and_nothing_of_the_caller() {
    let rig = Rig::new();
    rig.dockerfile("FROM base\nARG A=1\nENV E=2\nRUN env > /out");
    let archive = rig.path("image.tar");
    let output = format!("type=oci,dest={}", archive.display());
    let mut command = rig.build_command(&["-o", &output]);
    command.env("LEAKED", "yes").env("TERM", "xterm");
    crate::rig::outcome::Outcome::of(&mut command).succeeds();
    let text = crate::rig::image::Image::open(&archive).text("out");
    let mut names: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split('=').next())
        // Set by the shell itself.
        .filter(|name| !["SHLVL", "PWD", "OLDPWD", "_"].contains(name))
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["A", "E", "HOME", "PATH"]);
    assert!(text.contains("HOME=/root"), "{text}");
    assert!(
        text.contains("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        "{text}"
    );
}

#[test]
fn a_command_starts_in_the_working_directory() {
    let rig = Rig::new();
    let image = rig.image("FROM base\nWORKDIR /a\nWORKDIR b\nRUN pwd > /out");
    assert_eq!(image.text("out"), "/a/b\n");
}

#[test]
fn standard_input_is_empty() {
    assert_eq!(output_of("wc -c"), "0\n");
}

#[test]
fn the_command_is_root_with_fourteen_capabilities() {
    // CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_RAW
    // SYS_CHROOT MKNOD AUDIT_WRITE SETFCAP.
    let expected = "00000000a80425fb";
    let status = output_of("id -u; id -g; cat /proc/self/status");
    assert!(status.starts_with("0\n0\n"), "{status}");
    for set in ["CapEff", "CapPrm", "CapBnd"] {
        assert!(status.contains(&format!("{set}:\t{expected}")), "{status}");
    }
    assert!(
        status.contains("NoNewPrivs:\t0"),
        "setuid programs work: {status}"
    );
    assert!(status.contains("Seccomp:\t2"), "{status}");
}

#[test]
fn users_and_groups_come_from_the_images_own_files() {
    for (user, expected) in [
        (
            "app",
            "uid=1000(app) gid=1000(app) groups=50(staff),1000(app)",
        ),
        (
            "1000",
            "uid=1000(app) gid=1000(app) groups=50(staff),1000(app)",
        ),
        ("app:wheel", "uid=1000(app) gid=10(wheel) groups=10(wheel)"),
        ("1234", "uid=1234 gid=0(root) groups=0(root)"),
        ("1234:5678", "uid=1234 gid=5678 groups=5678"),
        ("root", "uid=0(root) gid=0(root) groups=0(root),10(wheel)"),
    ] {
        let rig = Rig::new();
        let text = rig
            .image(&format!("FROM base\nUSER {user}\nRUN id > /tmp/out"))
            .text("tmp/out");
        let line = text.trim();
        // busybox lists the primary group only when it is among the supplementary ones.
        let (head, groups) = line.split_once(" groups=").unwrap_or((line, ""));
        let (expected_head, expected_groups) = expected.split_once(" groups=").unwrap();
        assert_eq!(head, expected_head, "USER {user}");
        if !groups.is_empty() {
            let mut groups: Vec<_> = groups.split(',').collect();
            let mut expected: Vec<_> = expected_groups.split(',').collect();
            groups.sort_unstable();
            expected.sort_unstable();
            assert_eq!(groups, expected, "USER {user}");
        }
    }
}

#[test]
fn an_unknown_user_fails_the_step_and_is_named() {
    let rig = Rig::new();
    rig.dockerfile("FROM base\nUSER nosuchuser\nRUN true");
    rig.build(&[]).exits_with(1).says(&["nosuchuser"]);
}

#[test]
fn a_setuid_program_gains_its_owner() {
    let Some(program) = host::compile(
        "#include <stdio.h>\n#include <unistd.h>\n\
         int main(void) { printf(\"%d %d\\n\", getuid(), geteuid()); return 0; }",
    ) else {
        return;
    };
    let rig = Rig::new();
    rig.write("ids", program).chmod("ids", 0o755);
    let image =
        rig.image("FROM base\nCOPY ids /ids\nRUN chmod 4755 /ids\nUSER app\nRUN /ids > /tmp/out");
    assert_eq!(image.file("ids").mode, 0o4755);
    assert_eq!(image.text("tmp/out"), "1000 0\n");
}

#[test]
fn proc_dev_shm_and_hosts_are_there_and_leave_nothing_behind() {
    let rig = Rig::new();
    let image = rig.image(
        "FROM base\nRUN test -r /proc/self/status && test -c /dev/null && test -c /dev/urandom \
         && echo x > /dev/shm/x && test -s /etc/hosts && test -e /etc/resolv.conf && \
         test -d /sys/kernel && touch /ran",
    );
    assert_eq!(image.last_layer(), ["ran"]);
}

#[test]
fn a_resolv_conf_of_the_image_stays_the_images() {
    let rig = Rig::new();
    let image = rig
        .image("FROM base\nCOPY <<EOF /etc/resolv.conf\nnameserver 192.0.2.1\nEOF\nRUN touch /ran");
    assert_eq!(image.text("etc/resolv.conf"), "nameserver 192.0.2.1\n");
    assert_eq!(image.last_layer(), ["ran"]);
}

#[test]
fn a_command_that_changes_nothing_makes_no_layer() {
    let rig = Rig::new();
    let image = rig.image("FROM base\nRUN true");
    assert_eq!(image.layers.len(), 1);
    let row = image.config["history"].as_array().unwrap().last().unwrap();
    assert_eq!(row["empty_layer"], true);
}

#[test]
fn the_exit_code_the_last_lines_and_the_instruction_are_reported() {
    let rig = Rig::new();
    rig.dockerfile("FROM base\nRUN true\nRUN echo about to fail && exit 7\n");
    rig.build(&["-t", "never"]).exits_with(1).says(&[
        "about to fail",
        "exit code: 7",
        "Dockerfile:3",
        ">>> RUN echo about to fail && exit 7",
    ]);
    assert!(
        !rig.store_listing()
            .iter()
            .any(|path| path.contains("never")),
        "nothing is published under the tag"
    );
}

#[test]
fn a_command_that_a_signal_ended_is_a_failed_step() {
    let rig = Rig::new();
    rig.dockerfile("FROM base\nRUN kill -KILL $$");
    rig.build(&[]).exits_with(1);
}

#[test]
fn a_program_that_is_missing_is_named() {
    let rig = Rig::new();
    rig.dockerfile("FROM base\nRUN [\"/no/such/program\"]");
    rig.build(&[]).exits_with(1).says(&["/no/such/program"]);
}

#[test]
fn removed_files_become_whiteouts_and_replaced_directories_opaque() {
    let rig = Rig::new();
    let image = rig.image(
        "FROM base\nRUN mkdir /d && touch /d/1 /d/2 /gone && mkdir /r && touch /r/old\n\
         RUN rm /d/1 /gone && rm -r /r && mkdir /r && touch /r/new",
    );
    let last = image.last_layer();
    assert!(last.contains(&"d/.wh.1"), "{last:?}");
    assert!(last.contains(&".wh.gone"), "{last:?}");
    for (path, there) in [
        ("d/1", false),
        ("d/2", true),
        ("gone", false),
        ("r/old", false),
        ("r/new", true),
    ] {
        assert_eq!(image.has(path), there, "{path}");
    }
}

#[test]
fn an_untouched_directory_is_not_in_the_layer() {
    let rig = Rig::new();
    let image = rig.image("FROM base\nRUN mkdir -p /a/b\nRUN ls -lR /a > /dev/null && touch /x");
    assert_eq!(image.last_layer(), ["x"]);
}

#[test]
fn links_fifos_modes_and_times_are_kept() {
    let rig = Rig::new();
    let image = rig.image(
        "FROM base\nRUN echo data > /file && ln /file /hard && ln -s file /soft && mkfifo /pipe && \
         chmod 2750 /pipe && mkdir -m 1777 /sticky && touch -d '2001-02-03 04:05:06' /old",
    );
    let layer = &image.layers.last().unwrap().entries;
    let hard: Vec<_> = layer
        .iter()
        .filter(|(path, _)| path == "file" || path == "hard")
        .collect();
    assert_eq!(hard[0].1.kind, Kind::File);
    assert_eq!(hard[1].1.kind, Kind::HardLink);
    assert_eq!(hard[1].1.link.as_deref(), Some("file"));
    assert_eq!(image.file("soft").link.as_deref(), Some("file"));
    assert_eq!(image.file("pipe").kind, Kind::Fifo);
    assert_eq!(image.file("pipe").mode, 0o2750);
    assert_eq!(image.file("sticky").mode, 0o1777);
    assert_eq!(image.file("old").mtime, 981_173_106);
}

#[test]
fn long_and_strange_names_survive() {
    let rig = Rig::new();
    let long = "d".repeat(120);
    let image = rig.image(&format!(
        "FROM base\nRUN mkdir -p /{long}/{long}/{long} && touch /{long}/{long}/{long}/f && \
         touch '/with space' '/quote\"' /ünïcode && ln -s /{long}/{long}/{long}/f /to-long"
    ));
    let path = format!("{long}/{long}/{long}/f");
    for name in [&path, "with space", "quote\"", "ünïcode"] {
        assert!(image.has(name), "{name}");
    }
    assert_eq!(image.file("to-long").link, Some(format!("/{path}")));
}

#[test]
fn a_process_left_behind_is_gone_before_the_commit() {
    let rig = Rig::new();
    let mark = format!("7{:06}", std::process::id());
    rig.image(&format!(
        "FROM base\nRUN (sleep {mark}; touch /late) & echo started"
    ));
    assert_eq!(host::processes_with(&format!("sleep {mark}")), [""; 0]);
}

#[test]
fn the_network_is_the_hosts_by_default_and_absent_with_none() {
    let rig = Rig::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    rig.dockerfile(&format!(
        "FROM base\nRUN nc -w 2 127.0.0.1 {port} < /dev/null"
    ));
    rig.build(&["--network=none"]).exits_with(1);
    rig.build(&["--network=host"]).succeeds();
    rig.build(&["--no-cache"]).succeeds();

    rig.dockerfile("FROM base\nRUN --network=none ls /sys/class/net > /out");
    let archive = rig.path("image.tar");
    let output = format!("type=oci,dest={}", archive.display());
    rig.build(&["-o", &output]).succeeds();
    let interfaces = crate::rig::image::Image::open(&archive).text("out");
    assert_eq!(interfaces, "lo\n");
}

#[test]
fn many_layers_stack() {
    let rig = Rig::new();
    let mut dockerfile = String::from("FROM base\n");
    for step in 0..130 {
        dockerfile.push_str(&format!("COPY <<EOF /f{step}\n{step}\nEOF\n"));
    }
    dockerfile.push_str("RUN cat /f0 /f64 /f129 > /out");
    assert_eq!(rig.image(&dockerfile).text("out"), "0\n64\n129\n");
}

#[test]
fn what_a_command_prints_is_in_the_progress() {
    let rig = Rig::new();
    rig.dockerfile("FROM base\nRUN echo to stdout && echo to stderr >&2");
    let step = rig
        .build(&[])
        .succeeds()
        .step("RUN echo to stdout && echo to stderr >&2");
    let mut log = step.log();
    log.sort_unstable();
    assert_eq!(log, ["to stderr", "to stdout"]);
}

#[test]
fn the_context_is_never_written_to() {
    let rig = Rig::new();
    rig.write("file", "content");
    rig.image("FROM base\nCOPY file /file\nRUN echo changed > /file");
    assert_eq!(
        fs::read_to_string(rig.context().join("file")).unwrap(),
        "content"
    );
}
