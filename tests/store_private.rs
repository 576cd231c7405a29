//! Layers hold set-user-ID programs that belong to the invoking user or its subordinate ids: nobody else
//! may reach them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::rig::outcome::Outcome;
use crate::rig::{Rig, host};

/// A store with a set-user-ID program, in a directory that others can go through.
fn with_program() -> Rig {
    let rig = Rig::new();
    open_up(&rig.path(""), 0o755);
    rig.dockerfile("FROM base\nRUN cp /bin/busybox /escalate && chmod 4755 /escalate\n");
    rig.build(&["-t", "app"]).succeeds();
    rig
}

fn open_up(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// Runs a script as a user of the host that has neither the invoking user's id nor its rights.
fn as_another(script: &str) -> Outcome {
    let mut run = Command::new("timeout");
    run.args([
        "60",
        "unshare",
        "--user",
        "--map-root-user",
        "--map-auto",
        "--",
    ]);
    run.args([
        "setpriv",
        "--reuid=4321",
        "--regid=4321",
        "--clear-groups",
        "--",
    ]);
    Outcome::of(run.args(["sh", "-c", script]))
}

#[test]
fn another_user_reaches_nothing_in_a_store() {
    if !host::maps_many_ids() || !host::tool("unshare") {
        return;
    }
    let rig = with_program();
    let program = rig.store().join("snapshots");
    let found = Command::new("find")
        .arg(&program)
        .args(["-name", "escalate", "-perm", "-4000"])
        .output()
        .unwrap();
    let found = String::from_utf8(found.stdout).unwrap();
    let program = found.lines().next().expect("the layer has the program");
    let others = as_another(&format!("ls -d {}", rig.path("").display()));
    assert_eq!(others.code, Some(0), "{}", others.stderr);
    for script in [
        format!("ls {}", rig.store().display()),
        format!("{program} id -u"),
        format!("cat {program}"),
        format!("ls {}", Path::new(program).parent().unwrap().display()),
        format!("cat {}/oci/index.json", rig.store().display()),
    ] {
        let outcome = as_another(&script);
        assert_ne!(outcome.code, Some(0), "{script}");
        assert!(
            outcome.stderr.contains("ermission denied"),
            "{script}: {}",
            outcome.stderr
        );
    }
}

#[test]
fn a_store_that_others_could_read_is_made_private_before_it_is_used() {
    let rig = with_program();
    assert_eq!(mode(&rig.store()), 0o700);
    open_up(&rig.store(), 0o755);
    rig.build(&["-t", "app"]).succeeds();
    assert_eq!(mode(&rig.store()), 0o700);
    open_up(&rig.store(), 0o755);
    let checked = rig.rbuild(["store", "check", "--repair"]);
    let found = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(found.contains("make it private"), "{found}");
    assert_eq!(mode(&rig.store()), 0o700);
}

#[test]
fn a_store_is_private_whatever_the_umask_allows() {
    let rig = Rig::empty();
    rig.dockerfile("FROM scratch\nCOPY Dockerfile /\n");
    let build = rig.build_command(&["-t", "app"]);
    let mut command = Command::new("sh");
    command.args(["-c", "umask 0; exec \"$0\" \"$@\""]);
    command.arg(build.get_program()).args(build.get_args());
    for (name, value) in build.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    Outcome::of(&mut command).succeeds();
    assert_eq!(mode(&rig.store()), 0o700);
    for name in ["snapshots", "cache", "tmp", "oci/blobs/sha256", "unsynced"] {
        assert_eq!(mode(&rig.store().join(name)) & 0o077, 0, "{name}");
    }
}
