//! Limits on what is read and fetched: archives, Dockerfiles, and addresses of private networks.

use std::fs;
use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, EntryType, Header};

use crate::rig::outcome::Outcome;
use crate::rig::registry::{Answer, Registry};
use crate::rig::{Rig, terminal};

fn header(size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(0);
    header
}

/// 200 MB of zeros in one file of 200 kB.
fn large_bomb() -> Vec<u8> {
    let mut tar = Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    let size = 200 << 20;
    let zeros = std::io::Read::take(std::io::repeat(0), size);
    tar.append_data(&mut header(size), "large", zeros).unwrap();
    tar.into_inner().unwrap().finish().unwrap()
}

/// Many empty files.
fn many_files() -> Vec<u8> {
    let mut tar = Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for number in 0..2000 {
        let path = format!("many/{number}");
        tar.append_data(&mut header(0), path, std::io::empty())
            .unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

#[test]
fn archives_that_become_too_large_are_refused_wherever_they_come_from() {
    let rig = Rig::new();
    let zstd = |plain: Vec<u8>| {
        let mut tar = flate2::read::GzDecoder::new(plain.as_slice());
        zstd::stream::encode_all(&mut tar, 1).unwrap()
    };
    rig.write("large.tar.gz", large_bomb());
    rig.write("large.tar.zst", zstd(large_bomb()));
    rig.write("many.tar.gz", many_files());
    for (file, limit) in [
        ("large.tar.gz", "unpack-bytes"),
        ("large.tar.zst", "unpack-bytes"),
        ("many.tar.gz", "unpack-files"),
    ] {
        rig.dockerfile(&format!("FROM base\nADD {file} /to/"));
        rig.build(&["--limits", "unpack-bytes=10m,unpack-files=1000"])
            .exits_with(1)
            .says(&["exceeds the limit", &format!("--limits {limit}=VALUE")]);
    }
    // A layer, in a command without the option.
    let config = rig.path("config.json");
    fs::write(&config, r#"{"limits": {"unpack-bytes": "10m"}}"#).unwrap();
    let bomb = rig.context().join("large.tar.gz");
    let import = ["import", bomb.to_str().unwrap(), "bomb"];
    let listing = rig.store_listing();
    Outcome::of(rig.command(import).env("RBUILD_CONFIG", &config))
        .exits_with(1)
        .says(&["limit"]);
    assert_eq!(rig.store_listing(), listing);
    // What is allowed still is.
    rig.dockerfile("FROM base\nADD many.tar.gz /to/\nRUN test -e /to/many/1999");
    rig.build(&["--limits", "unpack-bytes=10m,unpack-files=3000"])
        .succeeds();
}

#[test]
fn a_dockerfile_of_a_gibibyte_is_not_read() {
    let rig = Rig::new();
    let file = fs::File::create(rig.context().join("Dockerfile")).unwrap();
    file.set_len(1 << 30).unwrap();
    rig.build(&[]).exits_with(1).says(&["larger than 4 MiB"]);
    let long = format!("FROM base\nRUN <<E\n{}\nE\n", "#".repeat(5 << 20));
    rig.dockerfile(&long);
    rig.build(&[]).exits_with(1).says(&["larger than 4 MiB"]);
}

#[test]
fn an_ignore_file_cannot_keep_the_build_busy() {
    let rig = Rig::new();
    rig.write(&"a".repeat(250), "");
    for number in 0..100 {
        rig.write(&format!("f{number}"), "");
    }
    rig.dockerfile("FROM scratch\nCOPY . /");
    let build = |patterns: &str| {
        rig.write(".dockerignore", patterns);
        let build = terminal::started_by(&["timeout", "60"], &rig.build_command(&[]));
        Outcome::of(&mut { build })
    };
    // A matcher that goes back would try 2^120 ways.
    let (stars, trees) = ("*a".repeat(120), "**/*a".repeat(60));
    build(&format!("{stars}b\n{trees}b\n").repeat(20)).succeeds();
    build(&"*x\n".repeat(20_000))
        .exits_with(1)
        .says(&["line 10001", "more than 10000 patterns"]);
    build(&"#".repeat(2 << 20))
        .exits_with(1)
        .says(&["1048576 bytes"]);
}

#[test]
fn stages_are_counted() {
    let rig = Rig::new();
    let file = |stages: usize| format!("FROM base AS a\n{}", "FROM a AS a\n".repeat(stages - 1));
    rig.dockerfile(&file(1000).replace("FROM a AS a", "FROM base"));
    rig.build(&[]).succeeds();
    rig.dockerfile(&file(100_000));
    let build = terminal::started_by(&["timeout", "60"], &rig.build_command(&[]));
    Outcome::of(&mut { build })
        .exits_with(1)
        .says(&["more than 1000 stages", "Dockerfile:1001"]);
}

#[test]
fn variables_that_grow_with_every_line_end_the_build_before_the_memory_does() {
    let rig = Rig::new();
    let doubling = |instruction: &str| {
        let mut text = format!("{instruction} a0={}\n", "x".repeat(100));
        for number in 1..40 {
            let last = number - 1;
            text.push_str(&format!("{instruction} a{number}=$a{last}$a{last}\n"));
        }
        text
    };
    let wide = format!("LABEL {}", "l=$a ".repeat(5000));
    let long = "x".repeat(1 << 19);
    // Every one is small, all together they are not.
    let many = |instruction: &str| {
        let mut text = format!("{instruction} a={}\n", "x".repeat(1 << 19));
        for number in 0..2000 {
            text.push_str(&format!("{instruction} b{number}=$a\n"));
        }
        text
    };
    for (dockerfile, limit) in [
        (format!("{}FROM base\n", doubling("ARG")), "1048576"),
        (format!("FROM base\n{}", doubling("ARG")), "1048576"),
        (format!("FROM base\n{}", doubling("ENV")), "1048576"),
        (format!("{}FROM base\n", many("ARG")), "4 MiB"),
        (format!("FROM base\n{}", many("ARG")), "4 MiB"),
        (format!("FROM base\n{}", many("ENV")), "4 MiB"),
        (
            format!("FROM base\nENV a={long}\n{}", many("LABEL")),
            "4 MiB",
        ),
        (format!("FROM base\nENV a={long}\n{wide}"), "4 MiB"),
    ] {
        rig.dockerfile(&dockerfile);
        // 1.2 GB of addresses; an ordinary build needs less than half of that.
        let mut command = terminal::started_by(
            &[
                "timeout",
                "60",
                "sh",
                "-c",
                "ulimit -v 1200000; exec \"$@\"",
                "sh",
            ],
            &rig.build_command(&[]),
        );
        let shown: String = dockerfile.chars().take(40).collect();
        let outcome = Outcome::of(&mut command);
        assert_eq!(outcome.code, Some(1), "{shown}: {}", outcome.stderr);
        outcome.says(&[limit]);
    }
}

#[test]
fn private_addresses_are_refused_by_name_and_number() {
    let rig = Rig::new();
    let server = Registry::start();
    server.set("/file", Answer::ok(b"private"));
    let port = server.host().rsplit_once(':').unwrap().1.to_owned();
    let refused = "an address of this machine or a private network";
    for host in [
        "127.0.0.1",
        "localhost",
        "2130706433",
        "[::ffff:127.0.0.1]",
        "0.0.0.0",
    ] {
        rig.dockerfile(&format!("FROM base\nADD http://{host}:{port}/file /f"));
        rig.build(&["--refuse-private-addresses"])
            .exits_with(1)
            .says(&[refused]);
        rig.dockerfile(&format!("FROM base\nADD https://{host}:{port}/r.git /f"));
        rig.build(&["--refuse-private-addresses"])
            .exits_with(1)
            .says(&[refused]);
    }
    for address in [
        "169.254.169.254",
        "10.0.0.1",
        "[fd00:ec2::254]",
        "[fe80::1]",
    ] {
        rig.dockerfile(&format!("FROM base\nADD http://{address}/latest /f"));
        rig.build(&["--profile", "multi-tenant"])
            .exits_with(1)
            .says(&[refused]);
    }
    for repository in ["http://127.0.0.1/r.git", "ssh://git@127.0.0.1/r.git"] {
        rig.dockerfile(&format!("FROM base\nADD {repository} /f"));
        rig.build(&["--refuse-private-addresses"])
            .exits_with(1)
            .says(&["https only"]);
    }
    assert!(server.requests().is_empty());
    rig.dockerfile(&format!("FROM base\nADD http://127.0.0.1:{port}/file /f"));
    rig.build(&[]).succeeds();
}

#[test]
fn a_private_registry_is_asked_only_when_it_is_configured() {
    let rig = Rig::new();
    let server = Registry::start();
    let host = server.host();
    let port = host.rsplit_once(':').unwrap().1;
    let refused = "an address of this machine or a private network";
    for name in [host.to_string(), format!("localhost:{port}")] {
        rig.dockerfile(&format!("FROM {name}/app\n"));
        rig.build(&["--refuse-private-addresses"])
            .exits_with(1)
            .says(&[refused]);
    }
    assert!(server.requests().is_empty());
    let registries = rig.path("registries.json");
    let mut file = fs::File::create(&registries).unwrap();
    write!(file, r#"{{"registries": {{"{host}": {{}}}}}}"#).unwrap();
    rig.dockerfile(&format!("FROM {host}/app\n"));
    let mut build = rig.build_command(&["--refuse-private-addresses"]);
    Outcome::of(build.env("RBUILD_REGISTRIES", &registries))
        .exits_with(1)
        .says(&["no such image"]);
    assert!(!server.requests().is_empty());
    // It cannot send the build on to others.
    let mut away = Answer::ok(b"");
    away.status = 307;
    away.headers = vec![(
        "Location".to_owned(),
        format!("http://localhost:{port}/v2/x"),
    )];
    server.set("/v2/app/manifests/latest", away);
    let mut build = rig.build_command(&["--refuse-private-addresses"]);
    Outcome::of(build.env("RBUILD_REGISTRIES", &registries))
        .exits_with(1)
        .says(&[refused, "localhost"]);
}
