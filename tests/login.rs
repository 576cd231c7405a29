//! The credentials of who builds: no step can read them, on any rung.

use std::fs;
use std::process::Stdio;

use crate::rig::image::Image;
use crate::rig::outcome::Outcome;
use crate::rig::{Rig, host, terminal};

const TOKEN: &str = "zq7-token-of-the-user";
/// Finds [`TOKEN`], and is not found itself in a command line.
const PATTERN: &str = "zq[7]-token";

/// The rungs that this user can stand on, and how to be who can.
fn rungs() -> Vec<(&'static str, Vec<&'static str>)> {
    let limit = vec!["timeout", "-k", "5", "90"];
    let as_root = [
        &limit[..],
        &["unshare", "--map-root-user", "--map-auto", "--"],
    ]
    .concat();
    let mut rungs = vec![("recorded", limit.clone())];
    if host::maps_many_ids() {
        rungs.extend([("mapped", limit), ("chroot", as_root)]);
    }
    rungs
}

#[test]
fn a_step_cannot_read_the_configuration_with_the_credentials() {
    let rig = Rig::new();
    let directory = rig.path("docker-config");
    fs::create_dir(&directory).unwrap();
    let config = directory.join("config.json");
    let auths = serde_json::json!({"auths": {"registry.example": {"identitytoken": TOKEN}}});
    fs::write(&config, auths.to_string()).unwrap();
    let config = config.display();
    let look = format!(
        "FROM base\nRUN {{ for at in '' /proc/1/root /proc/self/root /proc/self/cwd /proc/1/cwd ../../../..; do \
         cat $at{config}; done; for p in /proc/[0-9]*; do cat $p/environ $p/cmdline; \
         for f in $p/fd/*; do timeout 1 head -c 100000 $f </dev/null | grep {PATTERN}; cat $f{config}; done; \
         cat $p/root{config} $p/cwd{config}; done; env; mount; \
         grep -rs {PATTERN} /etc /home /root /run /tmp /usr /var /dev/shm; }} > /out 2>/dev/null; \
         ls -a / > /listing"
    );
    rig.dockerfile(&look);
    for (rung, program) in rungs() {
        let archive = rig.path("image.tar");
        let output = format!("type=oci,dest={}", archive.display());
        let mut build = rig.build_command(&["--no-cache", "-o", &output]);
        build.env("RBUILD_SANDBOX", rung).env("LOGIN_TOKEN", TOKEN);
        let mut build = terminal::started_by(&program, &build);
        let outcome = Outcome::of(build.stdin(Stdio::null()));
        assert_eq!(outcome.code, Some(0), "{rung}: {}", outcome.stderr);
        assert!(!outcome.stderr.contains(TOKEN), "{rung}");
        let image = Image::open(&archive);
        let out = image.file("out").content;
        // It did look: the environment is its own.
        let text = String::from_utf8_lossy(&out);
        assert!(text.contains("PATH="), "{rung}: {text}");
        assert!(!text.contains(TOKEN), "{rung}: {text}");
    }
}
