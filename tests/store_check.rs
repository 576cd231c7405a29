//! `rbuild store check`: what it takes for damage and what not, and what a repair leaves.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::rig::outcome::Outcome;
use crate::rig::{Rig, base, host};

const DOCKERFILE: &str = "FROM base\nRUN echo 1 > /one\nCOPY --link file /file\n\
    RUN --mount=type=cache,target=/c echo 2 > /two\n";

/// A store with an image of every kind of layer, and a cache.
pub(crate) fn built() -> Rig {
    let rig = Rig::new();
    rig.write("file", "x").dockerfile(DOCKERFILE);
    build(&rig);
    rig
}

/// Builds the image, the same whenever that is; its id.
pub(crate) fn build(rig: &Rig) -> String {
    building(rig).id()
}

fn building(rig: &Rig) -> Outcome {
    let output = "type=image,rewrite-timestamp=true";
    let mut command = rig.build_command(&["-t", "app", "-o", output]);
    command.env("SOURCE_DATE_EPOCH", "1500000000");
    Outcome::of(&mut command).succeeds()
}

pub(crate) fn check(rig: &Rig, options: &[&str]) -> (Option<i32>, String) {
    let outcome = rig.rbuild([&["store", "check"], options].concat());
    let stdout = String::from_utf8(outcome.stdout).unwrap();
    (outcome.code, format!("{stdout}{}", outcome.stderr))
}

fn document(rig: &Rig, digest: &str) -> Value {
    serde_json::from_slice(&fs::read(blob(rig, digest)).unwrap()).unwrap()
}

pub(crate) fn blob(rig: &Rig, digest: &str) -> PathBuf {
    rig.store().join("oci/blobs").join(digest.replace(':', "/"))
}

/// Digests of the manifest, the configuration and the layers of a name, in this order.
pub(crate) fn parts(rig: &Rig, name: &str) -> Vec<String> {
    let index = fs::read(rig.store().join("oci/index.json")).unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    let entry = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .find(|entry| {
            let name_of = &entry["annotations"]["org.opencontainers.image.ref.name"];
            *name_of == format!("docker.io/library/{name}:latest")
        })
        .unwrap();
    let digest = |value: &Value| value["digest"].as_str().unwrap().to_owned();
    let manifest = document(rig, &digest(entry));
    let mut parts = vec![digest(entry), digest(&manifest["config"])];
    parts.extend(manifest["layers"].as_array().unwrap().iter().map(digest));
    parts
}

pub(crate) fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// The files below `directory` of the store whose path ends with `end`, sorted.
pub(crate) fn files(rig: &Rig, directory: &str, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![rig.store().join(directory)];
    while let Some(path) = waiting.pop() {
        if path.to_str().unwrap().ends_with(end) {
            found.push(path);
        } else if fs::symlink_metadata(&path).is_ok_and(|it| it.is_dir()) {
            let entries = fs::read_dir(&path).into_iter().flatten().flatten();
            waiting.extend(entries.map(|entry| entry.path()));
        }
    }
    found.sort();
    assert!(!found.is_empty(), "nothing in {directory} ends with {end}");
    found
}

/// The directory of the snapshot whose own files include `name`.
pub(crate) fn snapshot_with(rig: &Rig, name: &str) -> PathBuf {
    let file = &files(rig, "snapshots", &format!("/diff/{name}"))[0];
    file.parent().unwrap().parent().unwrap().to_owned()
}

#[test]
fn what_is_right_outlives_a_repair() {
    let rig = built();
    rig.rbuild(["tag", "base", "other"]).succeeds();
    flip(&blob(&rig, &parts(&rig, "app")[3]));
    check(&rig, &["--repair"]);
    let listed = rig
        .rbuild(["images", "--format", "{{.Repository}}"])
        .succeeds();
    assert_eq!(listed.stdout, b"base\nother\n");
    // The snapshots were right, so only the blob is made again.
    let again = building(&rig);
    assert!(again.is_cached("RUN echo 1 > /one") && again.is_cached("COPY --link file /file"));
}

#[test]
fn a_lost_list_of_tags_leaves_the_images_without_names() {
    let rig = built();
    let id = build(&rig);
    fs::write(rig.store().join("oci/index.json"), "").unwrap();
    assert_eq!(check(&rig, &["--repair"]).0, Some(0));
    let listed = rig
        .rbuild(["images", "--all", "--no-trunc", "--quiet"])
        .succeeds();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(
        listed.contains(&id) && listed.lines().count() == 2,
        "{listed}"
    );
    rig.rbuild(["tag", &id, "app"]).succeeds();
    rig.rbuild(["inspect", "app"]).succeeds();
}

#[test]
fn only_a_deep_check_sees_other_files_in_a_layer() {
    let rig = built();
    let id = build(&rig);
    let one = snapshot_with(&rig, "one").join("diff/one");
    fs::write(&one, "7\n").unwrap();
    assert_eq!(check(&rig, &[]).0, Some(0));
    let (code, found) = check(&rig, &["--deep"]);
    assert_eq!(code, Some(1));
    assert!(
        found.contains("its files make the layer sha256:"),
        "{found}"
    );
    assert!(found.contains("it needs sha256:"), "{found}");
    assert_eq!(check(&rig, &["--deep", "--repair"]).0, Some(0));
    assert_eq!(build(&rig), id);
    assert_eq!(check(&rig, &["--deep"]).0, Some(0));

    // A layer that is said to be in another one's blob.
    let lists = files(&rig, "layers", ".json");
    fs::copy(&lists[0], &lists[1]).unwrap();
    let (code, found) = check(&rig, &["--deep"]);
    assert!(
        code == Some(1) && found.contains(" holds the layer sha256:"),
        "{found}"
    );
    assert_eq!(check(&rig, &["--deep", "--repair"]).0, Some(0));
    assert_eq!(check(&rig, &["--deep"]).0, Some(0));
}

#[test]
fn layers_with_rewritten_times_are_the_same_when_they_are_packed_again() {
    let rig = built();
    let output = format!(
        "type=oci,rewrite-timestamp=true,dest={}",
        rig.path("o.tar").display()
    );
    for dockerfile in [
        "FROM base\nRUN echo 4 > /four\n",
        "FROM base AS a\nRUN echo 5 > /five\nFROM base\nCOPY --from=a /five /\n",
    ] {
        rig.dockerfile(dockerfile);
        let mut command = rig.build_command(&["-o", &output]);
        command.env("SOURCE_DATE_EPOCH", "1500000000");
        Outcome::of(&mut command).succeeds();
        let (code, found) = check(&rig, &["--deep"]);
        assert_eq!(code, Some(0), "{found}");
    }
}

#[test]
fn leftovers_are_listed_and_are_no_failure() {
    let rig = built();
    let store = rig.store();
    let leftovers = [
        "tmp/b-dead/0/diff/file",
        "layers/.new-abc",
        "oci/.new-abc",
        "contexts/.tmpabc",
        "blocks/.new-abc",
    ];
    for path in leftovers {
        let path = store.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    fs::write(store.join("tmp/b-dead.lock"), "").unwrap();
    fs::write(store.join("reserve"), "short").unwrap();
    fs::write(store.join("unsynced").join("ab".repeat(32)), "").unwrap();
    let place = &files(&rig, "cache-mounts", "/0")[0];
    fs::create_dir(place.with_file_name("1.new")).unwrap();
    let (code, found) = check(&rig, &[]);
    assert_eq!(code, Some(0), "{found}");
    assert_eq!(found.matches("leftover: ").count(), 9, "{found}");
    let (code, repaired) = check(&rig, &["--repair"]);
    assert!(
        code == Some(0) && repaired.ends_with("; 9 repaired\n"),
        "{repaired}"
    );
    let (_, clean) = check(&rig, &[]);
    assert!(clean.ends_with(": nothing is wrong\n"), "{clean}");
    // What is not rbuild's stays.
    fs::write(store.join("layers/README"), "mine").unwrap();
    let (code, kept) = check(&rig, &["--repair"]);
    assert!(
        code == Some(0) && kept.contains("stray layers/README"),
        "{kept}"
    );
    assert!(store.join("layers/README").exists());
}

#[test]
fn a_store_of_a_later_format_is_left_alone() {
    let rig = built();
    fs::write(rig.store().join("version"), "2\n").unwrap();
    fs::write(rig.store().join("oci/index.json"), "").unwrap();
    let before = rig.store_listing();
    for options in [&[][..], &["--repair"]] {
        let (code, found) = check(&rig, options);
        assert_eq!(code, Some(1));
        assert!(
            found.contains("the store has format \"2\", not 1"),
            "{found}"
        );
        assert!(!found.contains("index"), "{found}");
    }
    assert_eq!(rig.store_listing(), before);
}

#[test]
fn findings_are_objects_for_programs() {
    let rig = built();
    flip(&blob(&rig, &parts(&rig, "app")[3]));
    let (_, found) = check(&rig, &["--format", "json"]);
    let lines: Vec<Value> = found
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 3, "{found}");
    assert_eq!(lines[0]["kind"], "blob");
    assert_eq!(lines[1]["place"], "docker.io/library/app:latest");
    assert_eq!(lines[1]["repair"], "take it out of the list of images");
    assert_eq!(lines[2]["summary"]["damages"], 2);
}

#[test]
fn a_check_goes_on_beside_a_build_and_a_repair_waits_for_its_end() {
    let rig = built();
    let log = rig.path("log");
    rig.dockerfile("FROM base\nRUN echo here && sleep 20\n");
    let mut build = rig
        .build_command(&[])
        .stderr(fs::File::create(&log).unwrap())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let start = Instant::now();
    let runs = || fs::read_to_string(&log).unwrap().contains(" here\n");
    while !runs() && start.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let beside = check(&rig, &[]);
    let repair = check(&rig, &["--repair"]);
    build.kill().unwrap();
    build.wait().unwrap();
    assert_eq!(beside.0, Some(0), "{}", beside.1);
    assert!(beside.1.ends_with(": nothing is wrong\n"), "{}", beside.1);
    assert_eq!(repair.0, Some(1));
    assert!(repair.1.contains("in use by a build"), "{}", repair.1);
}

#[test]
fn a_repair_needs_no_space() {
    if !host::tool("unshare") {
        return;
    }
    let rig = Rig::empty();
    let script = "set -e
mount -t tmpfs -o size=12m,mode=0700 none disk
export RBUILD_ROOT=disk/store
\"$RBUILD\" import base.tar one
\"$RBUILD\" import base.tar two -m other
for blob in disk/store/oci/blobs/sha256/*; do last=$blob; done
cat /dev/zero > disk/fill 2> /dev/null || true
: > \"$last\"
: > disk/store/oci/oci-layout
echo x > disk/store/stub/etc/hosts || true
cat /dev/zero > disk/fill2 2> /dev/null || true
if \"$RBUILD\" store check; then exit 9; fi
\"$RBUILD\" store check --repair
\"$RBUILD\" store check
";
    fs::write(rig.path("base.tar"), base::root_filesystem()).unwrap();
    fs::create_dir(rig.path("disk")).unwrap();
    let mut run = std::process::Command::new("unshare");
    run.args(["--user", "--map-root-user", "--mount", "sh", "-c", script])
        .env("RBUILD", host::binary())
        .current_dir(rig.path(""));
    let stdout = String::from_utf8(host::stdout_of(&mut run)).unwrap();
    assert!(stdout.ends_with(": nothing is wrong\n"), "{stdout}");
}

#[test]
fn where_there_is_no_store_nothing_is_wrong() {
    let rig = Rig::empty();
    let outcome = rig.rbuild(["store", "check"]).succeeds();
    outcome.says(&["there is no store at "]);
    assert!(!rig.store().exists());
}
