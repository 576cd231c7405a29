//! What a store goes through that is no kill: power cuts, full disks, many processes at once, clocks that
//! jump.

use std::fs;
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::crash::{built, has_files_of, points, with_app};
use crate::rig::faulty::Faulty;
use crate::rig::outcome::Outcome;
use crate::rig::terminal::started_by;
use crate::rig::{Rig, base, host};

#[test]
fn blobs_reach_the_disk_before_a_tag_names_them() {
    if !host::tool("strace") {
        return;
    }
    let rig = with_app();
    let trace = rig.path("trace");
    let shown = trace.to_str().unwrap();
    let strace = [
        "timeout",
        "-k",
        "5",
        "120",
        "strace",
        "-f",
        "-y",
        "-qq",
        "-o",
        shown,
        "-e",
        "trace=rename,renameat,renameat2,fsync,fdatasync,syncfs",
    ];
    let build = built(&rig, 1, &[]);
    Outcome::of(&mut started_by(&strace, &build)).succeeds();
    let log = fs::read_to_string(trace).unwrap();
    let calls = calls_of(&log);
    let named = calls
        .iter()
        .position(|call| call.contains("rename") && call.contains("oci/index.json"))
        .unwrap_or_else(|| panic!("no tag in\n{log}"));
    let synced = |what: &str| {
        let is_it = |call: &String| call.contains("sync(") && call.contains(what);
        calls[..named].iter().any(is_it)
    };
    // What the image consists of, the new list of tags, and the directory that names the blobs.
    for digest in parts_of(&rig) {
        assert!(
            synced(&format!("oci/blobs/sha256/{digest}>")),
            "{digest} in\n{log}"
        );
    }
    assert!(synced("oci/blobs/sha256>"), "{log}");
    assert!(synced("/oci/.new-"), "{log}");
    let after = &calls[named..];
    assert!(
        after
            .iter()
            .any(|call| call.contains("fsync(") && call.contains("/oci>")),
        "{log}"
    );
}

/// The calls of a trace in the order of their ends, those that were interrupted put together.
fn calls_of(log: &str) -> Vec<String> {
    let mut begun = std::collections::HashMap::new();
    let mut calls = Vec::new();
    for line in log.lines() {
        let (pid, call) = line.split_once(' ').unwrap();
        let call = call.trim_start();
        if let Some(begin) = call.strip_suffix(" <unfinished ...>") {
            begun.insert(pid, begin.to_owned());
        } else if call.starts_with("<... ") {
            let begin = begun.remove(pid).unwrap_or_default();
            calls.push(format!("{begin}{call}"));
        } else {
            calls.push(call.to_owned());
        }
    }
    calls
}

/// The digests of manifest, configuration and layers of `app`.
fn parts_of(rig: &Rig) -> Vec<String> {
    let json = |path: &str| -> serde_json::Value {
        serde_json::from_slice(&fs::read(rig.store().join("oci").join(path)).unwrap()).unwrap()
    };
    let hex = |value: &serde_json::Value| {
        let digest = value["digest"].as_str().unwrap();
        digest.strip_prefix("sha256:").unwrap().to_owned()
    };
    let index = json("index.json");
    let entries = index["manifests"].as_array().unwrap();
    let entry = entries
        .iter()
        .find(|entry| entry["annotations"].to_string().contains("library/app:"))
        .unwrap();
    let manifest = json(&format!("blobs/sha256/{}", hex(entry)));
    let mut parts = vec![hex(entry), hex(&manifest["config"])];
    parts.extend(manifest["layers"].as_array().unwrap().iter().map(hex));
    parts
}

#[test]
fn builds_and_clean_ups_at_once() {
    let rig = with_app();
    let count = if points() == 0 { 20 } else { 200 };
    let next = std::sync::atomic::AtomicUsize::new(1);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let round = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if round > count {
                        return;
                    }
                    match round % 5 {
                        // A build may be running, then there is nothing to remove yet.
                        3 => drop(rig.rbuild(["builder", "prune", "-f"])),
                        4 => drop(rig.rbuild(["image", "prune", "-f"])),
                        0 => {
                            let checked = rig.rbuild(["store", "check"]);
                            let found = String::from_utf8_lossy(&checked.stdout);
                            assert!(checked.code == Some(0), "beside builds: {found}");
                        }
                        _ => {
                            let tag = format!("many:{round}");
                            let mut build = built(&rig, round % 7, &["-t", &tag]);
                            Outcome::of(&mut build).succeeds();
                        }
                    }
                }
            });
        }
    });
    let checked = rig.rbuild(["store", "check", "--deep"]).succeeds();
    let checked = String::from_utf8(checked.stdout).unwrap();
    assert!(checked.ends_with(": nothing is wrong\n"), "{checked}");
    Outcome::of(&mut built(&rig, 3, &[])).succeeds();
    has_files_of(&rig, 3);
}

#[test]
fn a_clock_that_jumps_does_no_harm() {
    let rig = with_app();
    for (years, round) in [(30, 1), (-30, 2)] {
        let now = SystemTime::now();
        let span = Duration::from_secs(365 * 24 * 3600 * 30);
        let time = if years > 0 { now + span } else { now - span };
        let mut waiting = vec![rig.store()];
        while let Some(path) = waiting.pop() {
            // What belongs to subordinate ids keeps its time: layers do not depend on the clock.
            let Ok(metadata) = fs::symlink_metadata(&path) else {
                continue;
            };
            if path.ends_with("diff") {
                continue;
            }
            if metadata.is_dir() {
                waiting.extend(
                    fs::read_dir(&path)
                        .into_iter()
                        .flatten()
                        .flatten()
                        .map(|it| it.path()),
                );
            } else if let Ok(file) = fs::File::options().write(true).open(&path) {
                drop(file.set_modified(time));
            }
        }
        for build_round in [0, round] {
            Outcome::of(&mut built(&rig, build_round, &[])).succeeds();
            has_files_of(&rig, build_round);
        }
        for prune in [
            &["builder", "prune", "-f", "--filter", "until=24h"][..],
            &["image", "prune", "-f"],
        ] {
            rig.rbuild(prune).succeeds();
        }
        let checked = rig.rbuild(["store", "check", "--deep"]).succeeds();
        let checked = String::from_utf8(checked.stdout).unwrap();
        assert!(checked.ends_with(": nothing is wrong\n"), "{checked}");
    }
}

/// Runs `script` where `disk/` is a file system of `size`.
fn on_small_disk(rig: &Rig, size: &str, script: &str) -> String {
    fs::create_dir(rig.path("disk")).unwrap();
    let script = format!(
        "set -e\nmount -t tmpfs -o size={size},mode=0700 none disk\nexport RBUILD_ROOT=disk/store\n{script}"
    );
    let mut run = Command::new("timeout");
    run.args([
        "-k",
        "5",
        "120",
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        &script,
    ])
    .env("RBUILD", host::binary())
    .env("NO_COLOR", "1")
    .current_dir(rig.path(""));
    String::from_utf8(host::stdout_of(&mut run)).unwrap()
}

#[test]
fn on_a_full_disk_each_command_fails_with_one_clear_error_and_the_store_stays_whole() {
    if !host::tool("unshare") {
        return;
    }
    let rig = with_app();
    let archive = rig.path("app.tar");
    rig.rbuild(["save", "-o", archive.to_str().unwrap(), "app"])
        .succeeds();
    let registry = Faulty::start();
    let name = format!("{}/app:1", registry.host());
    rig.rbuild(["tag", "app", &name]).succeeds();
    rig.rbuild(["push", &name]).succeeds();
    fs::write(rig.path("base.tar"), base::root_filesystem()).unwrap();
    let small = Rig::empty();
    small.dockerfile(
        "FROM base\nRUN echo 1 > /one\nRUN dd if=/dev/zero of=/big bs=1048576 count=16\n",
    );
    small.write("copied", "FROM base\nCOPY big /\n");
    small.write("big", vec![7; 16 << 20]);
    let (tar, app) = (rig.path("base.tar"), archive);
    let script = format!(
        "wrong() {{ echo \"$*:\" >&2; cat out err >&2; exit 9; }}
fails() {{
    if \"$RBUILD\" \"$@\" > out 2> err; then echo \"$* succeeded\" >&2; exit 9; fi
    grep -q 'No space left on device' err || wrong \"$@\"
    test \"$(grep -c '^error' err)\" = 1 || wrong \"$@\"
    \"$RBUILD\" store check > out 2> err || wrong after \"$@\"
}}
\"$RBUILD\" import {tar} base > out
fails build --progress=plain -t app context
fails build --progress=plain -t app -f context/copied context
cat /dev/zero > disk/fill 2> err || true
fails load -i {app}
fails pull {name}
fails import {tar} other
\"$RBUILD\" builder prune -af > out
\"$RBUILD\" rmi base > out
\"$RBUILD\" store check --repair > out
\"$RBUILD\" store check > out && grep -q 'nothing is wrong' out
rm disk/fill
\"$RBUILD\" import {tar} base > out
sed -i /dd/d context/Dockerfile
\"$RBUILD\" build -q -t app context
\"$RBUILD\" store check --deep
",
        tar = tar.display(),
        app = app.display(),
    );
    let stdout = on_small_disk(&small, "8m", &script);
    assert!(stdout.ends_with(": nothing is wrong\n"), "{stdout}");
}
