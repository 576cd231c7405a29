//! Contexts whose archive breaks off behind a `Dockerfile` that is a link (CVE-2026-44517): what was unpacked
//! until then is not read.

use std::fs;
use std::io::Write as _;

use crate::rig::Rig;
use crate::rig::forged::Layer;
use crate::rig::outcome::Outcome;
use crate::rig::registry::{Answer, Registry};

const SECRET: &str = "host-secret";

/// It ended with a message in which nothing of the host's file is, and made no image.
#[track_caller]
fn refused(rig: &Rig, name: &str, outcome: &Outcome) {
    assert_eq!(outcome.code, Some(1), "{name}: {outcome:?}");
    let stdout = String::from_utf8_lossy(&outcome.stdout);
    assert!(
        !outcome.stderr.contains(SECRET) && !stdout.contains(SECRET),
        "{name}: {outcome:?}"
    );
    assert!(!rig.path("out").exists(), "{name}");
    let rest: Vec<_> = fs::read_dir(rig.store().join("tmp")).unwrap().collect();
    assert!(rest.is_empty(), "{name}: {rest:?}");
}

#[test]
fn a_context_that_breaks_off_is_not_built_from_what_had_come() {
    let (rig, server) = (Rig::new(), Registry::start());
    let outside = rig.path("Dockerfile");
    fs::write(&outside, format!("FROM base\nRUN echo {SECRET} > /got\n")).unwrap();
    let link = |text: &str| {
        Layer::new()
            .symlink("Dockerfile", text)
            .file("file", &"x".repeat(2000))
            .unfinished()
    };
    let mut cases = Vec::new();
    for (name, target) in [
        ("a link", outside.to_str().unwrap().to_owned()),
        (
            "a link up",
            format!("../../../../../../../..{}", outside.display()),
        ),
        (
            "a link to where rbuild is",
            "/proc/self/cwd/Dockerfile".to_owned(),
        ),
    ] {
        let whole = link(&target);
        for length in [512, 513, 1023, 1024, 1500, 3000] {
            cases.push((format!("{name}, {length} bytes"), whole[..length].to_vec()));
        }
        let mut damaged = whole.clone();
        damaged[512] ^= 1;
        cases.push((format!("{name}, damaged"), damaged));
        cases.push((format!("{name}, whole"), whole));
    }
    for (name, tar) in cases {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&tar).unwrap();
        let gzip = gzip.finish().unwrap();
        let cut = gzip[..gzip.len() - 9].to_vec();
        for (form, bytes) in [("plain", tar), ("gzip", gzip), ("gzip, cut off", cut)] {
            let name = format!("{name}, {form}");
            let out = rig.path("out").display().to_string();
            let output = format!("type=local,dest={out}");
            refused(
                &rig,
                &name,
                &rig.build_from_stdin(&["-o", &output, "-"], &bytes),
            );
            server.set("/context", Answer::ok(&bytes));
            let url = server.url("/context");
            let build = ["build", "--progress=plain", "-o", &output, &url];
            refused(&rig, &name, &rig.rbuild(build));
        }
    }
    // What came before does not answer for a context without a Dockerfile.
    let honest = Layer::new().file("file", "x").tar();
    let outcome = rig.build_from_stdin(&["-"], &honest).exits_with(1);
    outcome.says(&["there is no Dockerfile"]);
}
