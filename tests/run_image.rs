//! `rbuild run`: what a command in an image is, sees and leaves.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;

use crate::rig::outcome::Outcome;
use crate::rig::{Rig, host};

fn text(outcome: &Outcome) -> String {
    String::from_utf8(outcome.stdout.clone()).unwrap()
}

#[test]
fn the_exit_code_is_the_commands() {
    let rig = Rig::new();
    for (command, code) in [
        (&["true"][..], 0),
        (&["sh", "-c", "exit 7"], 7),
        (&["sh", "-c", "kill -9 $$"], 137),
        (&["sh", "-c", "kill -TERM $$"], 143),
        (&["no-such-program"], 127),
        (&["/no/such/program"], 127),
        (&["/etc/passwd"], 126),
        (&["/etc"], 126),
    ] {
        rig.run(&[&["base"], command].concat()).exits_with(code);
    }
}

#[test]
fn rbuilds_own_failures_are_125() {
    let rig = Rig::new();
    for (options, why) in [
        (&["base"][..], "no command specified"),
        (&["--pull=never", "nothing", "true"], "no image nothing"),
        (
            &["-u", "nobody-here", "base", "true"],
            "unable to find user",
        ),
        (&["--no-such-option", "base", "true"], "--no-such-option"),
        (&["-w", "relative", "base", "true"], "not absolute"),
        (&["--env-file", "/no/file", "base", "true"], "/no/file"),
        (&["-it", "base", "true"], "not a TTY"),
        (&["--network", "bridge", "base", "true"], "without root"),
        (
            &["--platform", "linux/s390x", "base", "true"],
            "cannot be run",
        ),
        (&["-d", "base", "true"], "no daemon"),
        (
            &["-p", "80:80", "base", "true"],
            "the network is the host's",
        ),
        (
            &["--publish=80:80", "base", "true"],
            "the network is the host's",
        ),
        (&["--name", "x", "base", "true"], "nothing stays"),
        (&["--restart", "always", "base", "true"], "no daemon"),
        (&["--init", "base", "true"], "an init already"),
        (&["--privileged", "base", "true"], "cannot be opened"),
        (&["--memory=1g", "base", "true"], "control groups"),
        (&["--mount", "type=bind", "base", "true"], "--tmpfs DST"),
        (&["--hostname", "a b", "base", "true"], "no host name"),
        (&["-e", "=x", "base", "true"], "no name"),
    ] {
        rig.run(options).exits_with(125).says(&[why]);
    }
}

#[test]
fn the_outputs_are_separate_and_whole() {
    let rig = Rig::new();
    let command = "echo one; echo two >&2; seq 1 100000; printf three >&2";
    let outcome = rig.run(&["base", "sh", "-c", command]).succeeds();
    let lines = text(&outcome);
    assert!(lines.starts_with("one\n1\n2\n") && lines.ends_with("\n100000\n"));
    assert_eq!(lines.lines().count(), 100_001);
    assert_eq!(outcome.stderr, "two\nthree");
}

#[test]
fn input_is_passed_on_only_when_asked_for() {
    let rig = Rig::new();
    for (options, expected) in [
        (&["-i", "base", "cat"][..], "typed\n"),
        (&["base", "cat"], ""),
    ] {
        let mut child = rig
            .command([&["run"], options].concat())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdin.take().unwrap().write_all(b"typed\n"));
        let outcome = Outcome::from(child.wait_with_output().unwrap()).succeeds();
        assert_eq!(text(&outcome), expected);
    }
}

#[test]
fn nothing_waits_in_a_buffer() {
    let rig = Rig::new();
    let dialogue = "echo ask; read answer; echo got $answer";
    let mut child = rig
        .command(["run", "-i", "base", "sh", "-c", dialogue])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ask");
    let mut keys = child.stdin.take().unwrap();
    keys.write_all(b"this\n").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "got this");
    // The input is still open, and the command ends without its end.
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_reader_that_leaves_ends_the_writer() {
    let rig = Rig::new();
    let mut child = rig
        .command(["run", "base", "yes"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "y");
    drop(lines);
    assert_eq!(child.wait().unwrap().code(), Some(128 + 13));
}

#[test]
fn entrypoint_and_cmd_are_combined_as_docker_does() {
    let rig = Rig::new();
    rig.dockerfile("FROM base\nENTRYPOINT [\"echo\", \"e\"]\nCMD [\"c\"]");
    rig.build(&["-t", "both"]).succeeds();
    for (options, expected) in [
        (&["both"][..], "e c\n"),
        (&["both", "given", "-x"], "e given -x\n"),
        (&["--entrypoint", "printf", "both", "%s", "word"], "word"),
        (&["--entrypoint=", "both", "printf", "word"], "word"),
    ] {
        assert_eq!(text(&rig.run(options).succeeds()), expected, "{options:?}");
    }
    // The image's CMD is no argument of another entrypoint.
    rig.run(&["--entrypoint", "echo", "both"]).succeeds();
    rig.run(&["--entrypoint=", "both"]).exits_with(125);
}

#[test]
fn variables_come_from_the_image_the_file_and_the_command_line() {
    let rig = Rig::new();
    rig.dockerfile("FROM base\nENV A=image B=image C=image D=image");
    rig.build(&["-t", "with-env"]).succeeds();
    let file = rig.path("variables");
    fs::write(&file, "# comment\nB=file\nC=file\nCALLER\nGONE\n").unwrap();
    let file = file.to_str().unwrap();
    let options = [
        "run",
        "--env-file",
        file,
        "-e",
        "C=line",
        "-e",
        "D",
        "-e",
        "CALLER2",
        "--hostname",
        "h",
        "with-env",
        "env",
    ];
    let mut command = rig.command(options);
    command
        .env("CALLER", "1")
        .env("CALLER2", "2")
        .env("LEAKED", "no")
        .env_remove("D")
        .env_remove("GONE");
    let outcome = Outcome::of(&mut command).succeeds();
    let mut variables: Vec<String> = text(&outcome).lines().map(str::to_owned).collect();
    variables.sort();
    assert_eq!(
        variables,
        [
            "A=image",
            "B=file",
            "C=line",
            "CALLER2=2",
            "CALLER=1",
            "HOME=/root",
            "HOSTNAME=h",
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        ]
    );
}

#[test]
fn the_working_directory_and_the_user_are_the_images_or_the_callers() {
    let rig = Rig::new();
    rig.dockerfile("FROM base\nWORKDIR /work");
    rig.build(&["-t", "worker"]).succeeds();
    let pwd = |options: &[&str]| text(&rig.run(&[options, &["worker", "pwd"]].concat()).succeeds());
    assert_eq!(pwd(&[]), "/work\n");
    assert_eq!(pwd(&["-w", "/tmp"]), "/tmp\n");
    assert_eq!(pwd(&["-w", "/new/../made/here"]), "/made/here\n");
    rig.run(&["-w", "/etc/passwd", "worker", "pwd"])
        .exits_with(125);
    rig.dockerfile("FROM base\nUSER app");
    rig.build(&["-t", "user"]).succeeds();
    let id = |options: &[&str]| text(&rig.run(&[options, &["user", "id"]].concat()).succeeds());
    assert!(id(&[]).starts_with("uid=1000(app) gid=1000(app)"));
    assert!(id(&["-u", "0"]).starts_with("uid=0(root) gid=0(root)"));
    assert!(id(&["-u", "app:wheel"]).starts_with("uid=1000(app) gid=10(wheel)"));
    let home = rig
        .run(&["user", "sh", "-c", "echo $HOME; echo x > /dev/stdout"])
        .succeeds();
    assert_eq!(text(&home), "/home/app\nx\n");
}

#[test]
fn an_image_is_found_by_its_id_and_the_beginning_of_it() {
    let rig = Rig::new();
    rig.dockerfile("FROM base\nCMD [\"echo\", \"this one\"]");
    let id = rig.build(&["-t", "named"]).succeeds().id();
    let digits = id.strip_prefix("sha256:").unwrap();
    for name in [
        &id,
        digits,
        &digits[..12],
        "named",
        "docker.io/library/named:latest",
    ] {
        let outcome = rig.run(&["--pull=never", name]).succeeds();
        assert_eq!(text(&outcome), "this one\n", "{name}");
    }
    let other = if digits.starts_with('0') { "1" } else { "0" };
    rig.run(&["--pull=never", &format!("sha256:{}", other.repeat(64))])
        .exits_with(125)
        .says(&["no image"]);
}

#[test]
fn what_the_command_writes_is_thrown_away() {
    let rig = Rig::new();
    let before = rig.store_listing();
    rig.run(&[
        "--rm",
        "base",
        "sh",
        "-c",
        "echo x > /file; rm /etc/group; mkdir /d",
    ])
    .succeeds();
    assert_eq!(rig.store_listing(), before);
    let outcome = rig.run(&["base", "ls", "/file"]);
    assert_ne!(outcome.code, Some(0));
}

#[test]
fn a_read_only_root_takes_no_writes() {
    let rig = Rig::new();
    for path in ["/file", "/etc/passwd", "/tmp/file", "/etc/hosts"] {
        let command = format!("echo x > {path}");
        rig.run(&["--read-only", "base", "sh", "-c", &command])
            .exits_with(1)
            .says(&["Read-only file system"]);
    }
    let command = "echo x > /tmp/f && cat /tmp/f && echo x > /dev/null && echo x > /dev/shm/f";
    rig.run(&[
        "--read-only",
        "--tmpfs",
        "/tmp",
        "base",
        "sh",
        "-c",
        command,
    ])
    .succeeds();
    // Not from inside either.
    let outcome = rig.run(&["--read-only", "base", "mount", "-o", "remount,rw", "/"]);
    assert_ne!(outcome.code, Some(0));
}

#[test]
fn a_tmpfs_is_empty_and_not_executable() {
    let rig = Rig::new();
    let copy = "ls -A /etc; cp /bin/busybox /etc/b && /etc/b true";
    let outcome = rig.run(&["--tmpfs", "/etc:size=8m", "base", "sh", "-c", copy]);
    outcome.exits_with(126);
    rig.run(&[
        "--tmpfs",
        "/x/y:exec,size=8m",
        "base",
        "sh",
        "-c",
        "cp /bin/busybox /x/y && /x/y/busybox true",
    ])
    .succeeds();
}

#[test]
fn without_a_network_there_is_loopback_only() {
    let rig = Rig::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let connect = format!("nc -w 2 127.0.0.1 {port} < /dev/null && echo reached");
    let outcome = rig.run(&["--network", "none", "base", "sh", "-c", &connect]);
    assert!(!text(&outcome).contains("reached"));
    let interfaces = rig
        .run(&["--network=none", "base", "cat", "/proc/net/dev"])
        .succeeds();
    assert_eq!(
        text(&interfaces).lines().count(),
        3,
        "{}",
        text(&interfaces)
    );
}

#[test]
fn the_name_and_other_hosts_are_the_callers() {
    let rig = Rig::new();
    let outcome = rig
        .run(&[
            "-h",
            "own",
            "--add-host",
            "far:10.1.2.3",
            "base",
            "sh",
            "-c",
            "hostname; cat /etc/hosts",
        ])
        .succeeds();
    let lines = text(&outcome);
    assert!(
        lines.starts_with("own\n127.0.0.1\tlocalhost own\n"),
        "{lines}"
    );
    assert!(lines.contains("10.1.2.3\tfar\n"), "{lines}");
}

#[test]
fn the_command_has_the_sandbox_of_run() {
    let rig = Rig::new();
    let command = "cat /proc/self/status; ls /proc/self/fd";
    let outcome = rig.run(&["base", "sh", "-c", command]).succeeds();
    let status = text(&outcome);
    assert!(status.contains("Seccomp:\t2"), "{status}");
    assert!(status.contains("CapBnd:\t00000000a80425fb"), "{status}");
    // 3 is the directory that ls itself reads.
    assert!(status.ends_with("\n0\n1\n2\n3\n"), "{status}");
    for attempt in [
        "mount -t tmpfs none /tmp",
        "unshare -U true",
        "kill -9 1; sleep 0.1; echo > /proc/sys/kernel/hostname",
        "readlink /proc/1/fd/0",
        "cat /proc/1/environ",
    ] {
        let outcome = rig.run(&["base", "sh", "-c", attempt]);
        assert_ne!(outcome.code, Some(0), "{attempt}: {outcome:?}");
    }
}

#[test]
fn what_the_command_leaves_running_is_ended() {
    let rig = Rig::new();
    let mark = format!("7{:06}", std::process::id());
    let command = format!("setsid sleep {mark} & sleep 0.1");
    rig.run(&["base", "sh", "-c", &command]).succeeds();
    assert_eq!(host::processes_with(&format!("sleep {mark}")), [""; 0]);
}
