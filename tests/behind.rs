//! A large layer is compressed while the next steps run: to the same bytes, and whatever goes wrong with
//! it is its step's error.

use std::fs;
use std::process::Stdio;

use serde_json::Value;

use crate::rig::image::Image;
use crate::rig::outcome::Outcome;
use crate::rig::terminal::started_by;
use crate::rig::{Rig, host};

/// More than may wait in memory, in files of half a MiB: words that compress slowly, or noise.
fn write_large(rig: &Rig, mebibytes: usize, is_noise: bool) {
    let mut state = 88_172_645_463_325_252_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for number in 0..2 * mebibytes {
        let mut bytes = Vec::new();
        while bytes.len() < 512 << 10 {
            match is_noise {
                true => bytes.extend_from_slice(&next().to_le_bytes()),
                false => bytes.extend_from_slice(format!("{:x} ", next() % 60_000).as_bytes()),
            }
        }
        rig.write(&format!("large/{number}"), bytes);
    }
}

/// Builds the context of `rig` in the store of `other`: the image's layers, and the names of the vertices
/// that left something.
fn built(rig: &Rig, other: &Rig, compression: &str) -> (Vec<String>, Vec<String>) {
    let archive = other.path("image.tar");
    let output = format!(
        "type=oci,compression={compression},dest={}",
        archive.display()
    );
    let context = rig.context();
    let arguments = [
        "build",
        "--progress=rawjson",
        "-o",
        &output,
        context.to_str().unwrap(),
    ];
    let stderr = other.rbuild(arguments).succeeds().stderr;
    let events = stderr
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let events: Vec<Value> = events.collect();
    let left = events.iter().filter(|event| event["phase"] == "behind");
    let name_of = |vertex: &Value| {
        let is_start = |event: &&Value| event["type"] == "started" && event["vertex"] == *vertex;
        let name = events.iter().find(is_start).unwrap()["name"].as_str();
        name.unwrap().rsplit("] ").next().unwrap().to_owned()
    };
    let left = left.map(|event| name_of(&event["vertex"])).collect();
    let manifest = Image::open(&archive).manifest;
    let layers = manifest["layers"].as_array().unwrap().iter();
    let layers = layers.map(|layer| layer["digest"].as_str().unwrap().to_owned());
    (layers.collect(), left)
}

#[test]
fn a_layer_that_was_left_behind_has_the_bytes_of_one_that_was_not() {
    for (mebibytes, is_noise, compression) in [
        (2, false, "gzip"),
        (10, false, "gzip"),
        (12, true, "gzip"),
        (8, false, "zstd"),
        (2, false, "uncompressed"),
    ] {
        let what = format!("{mebibytes} MiB with {compression}");
        let rig = Rig::empty();
        write_large(&rig, mebibytes, is_noise);
        rig.dockerfile("FROM base\nCOPY large /large\n");
        let (one_pass, left) = built(&rig, &Rig::new(), compression);
        assert_eq!(left, Vec::<String>::new(), "{what}: nothing follows");
        rig.dockerfile("FROM base\nCOPY large /large\nRUN echo > /small\nRUN echo > /last\n");
        let other = Rig::new();
        let (layers, left) = built(&rig, &other, compression);
        assert_eq!(layers[1], one_pass[1], "{what}");
        let is_left = compression != "uncompressed";
        let expected = vec!["COPY large /large"; usize::from(is_left)];
        assert_eq!(left, expected, "{what}");
        let (again, left) = built(&rig, &other, compression);
        assert_eq!((again, left.len()), (layers, 0), "{what}, cached");
        let checked = other.rbuild(["store", "check", "--deep"]).succeeds();
        let checked = String::from_utf8(checked.stdout).unwrap();
        assert!(checked.ends_with(": nothing is wrong\n"), "{checked}");
    }
}

#[test]
fn layers_that_are_left_at_once_are_all_in_the_image() {
    let rig = Rig::new();
    write_large(&rig, 3, false);
    // Some of them are the same, and more than may be left at a time.
    let copies: String = (0..4)
        .map(|number| {
            format!(
                "COPY large /large{number}\nRUN rm -r /large{number}\nCOPY large /large{number}\n"
            )
        })
        .collect();
    let linked = "COPY --link large /linked\nRUN echo > /last\n";
    let image = rig.image(&format!("FROM base AS one\n{copies}FROM one\n{linked}"));
    let manifest = image.manifest["layers"].as_array().unwrap();
    assert_eq!(manifest.len(), 1 + 4 * 3 + 2);
    for number in 0..4 {
        let first = 1 + 3 * number;
        assert_eq!(manifest[first]["digest"], manifest[first + 2]["digest"]);
    }
    for directory in ["large0", "large3", "linked"] {
        let content = fs::read(rig.context().join("large/5")).unwrap();
        assert_eq!(image.file(&format!("{directory}/5")).content, content);
    }
}

/// What is in the scratch space of the store.
fn scratch(rig: &Rig) -> Vec<String> {
    let entries = fs::read_dir(rig.path("store/tmp")).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn a_blob_that_cannot_be_written_fails_its_step_and_not_the_one_that_runs() {
    for (compression, mebibytes) in [("gzip", 12), ("zstd", 12)] {
        let rig = Rig::new();
        write_large(&rig, mebibytes, true);
        rig.dockerfile("FROM base\nCOPY large /large\nRUN sleep 100\n");
        let output = format!(
            "type=oci,compression={compression},dest={}",
            rig.path("image.tar").display()
        );
        let build = rig.build_command(&["-o", &output]);
        // No file of it is as large as its blob would be.
        let limited = "trap '' XFSZ; ulimit -f 8192; exec \"$@\"";
        let mut build = started_by(
            &["timeout", "-k", "5", "60", "sh", "-c", limited, "sh"],
            &build,
        );
        let outcome = Outcome::of(build.stdin(Stdio::null()))
            .exits_with(1)
            .says(&["Dockerfile:2", "COPY large /large", "File too large"]);
        assert!(
            !outcome.stderr.contains("Dockerfile:3"),
            "{}",
            outcome.stderr
        );
        assert_eq!(scratch(&rig), Vec::<String>::new());
        assert!(!rig.path("image.tar").exists());
        rig.rbuild(["store", "check", "--deep"]).succeeds();
        rig.dockerfile("FROM base\nCOPY large /large\nRUN true\n");
        rig.build(&["-o", &output]).succeeds();
        let image = Image::open(&rig.path("image.tar"));
        assert_eq!(image.file("large/0").content.len(), 512 << 10);
    }
}

#[test]
fn a_step_that_fails_after_a_large_one_leaves_that_cached_and_nothing_half_made() {
    let rig = Rig::new();
    write_large(&rig, 12, false);
    rig.dockerfile("FROM base\nCOPY large /large\nRUN false\n");
    let failed = rig.build(&[]).exits_with(1);
    failed.says(&["Dockerfile:3", "RUN false"]);
    assert_eq!(scratch(&rig), Vec::<String>::new());
    rig.rbuild(["store", "check", "--deep"]).succeeds();
    rig.dockerfile("FROM base\nCOPY large /large\nRUN true\n");
    let outcome = rig.build(&["-t", "app"]).succeeds();
    let vertices = outcome.vertices();
    let copy = vertices
        .iter()
        .find(|vertex| vertex.name.ends_with("COPY large /large"));
    assert_eq!(copy.unwrap().lines, ["CACHED"]);
}

#[test]
fn a_secret_at_the_end_of_a_large_layer_is_found_before_it_is_left() {
    let rig = Rig::new();
    write_large(&rig, 8, false);
    rig.write("large/zzz", "the secret is Xq7-tenant-secret-Zw42\n");
    fs::write(rig.path("secret"), "Xq7-tenant-secret-Zw42").unwrap();
    rig.dockerfile("FROM base\nCOPY large /large\nRUN --mount=type=secret,id=s true\n");
    let secret = format!("id=s,src={}", rig.path("secret").display());
    let outcome = rig.build(&["--secret", &secret, "--secret-scan=fail"]);
    outcome.exits_with(1).says(&["Dockerfile:2", "large/zzz"]);
    assert_eq!(scratch(&rig), Vec::<String>::new());
}

#[test]
fn an_interrupted_build_does_not_wait_for_what_was_left() {
    if !host::tool("timeout") {
        return;
    }
    let rig = Rig::new();
    write_large(&rig, 12, false);
    rig.dockerfile("FROM base\nCOPY large /large\nRUN sleep 100\n");
    let build = rig.build_command(&[]);
    let mut build = started_by(&["timeout", "-s", "INT", "-k", "20", "3"], &build);
    let outcome = Outcome::of(build.stdin(Stdio::null()));
    assert_ne!(outcome.code, Some(137), "{}", outcome.stderr);
    assert_eq!(scratch(&rig), Vec::<String>::new());
    rig.rbuild(["store", "check", "--deep"]).succeeds();
}
