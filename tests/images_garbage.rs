//! What clean-up takes and what it leaves, whatever happens meanwhile.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::rig::{Rig, base, host};

fn says(rig: &Rig, arguments: &[&str]) -> String {
    let outcome = rig.rbuild(arguments).succeeds();
    String::from_utf8(outcome.stdout).unwrap()
}

fn snapshots(rig: &Rig) -> usize {
    let listing = rig.store_listing();
    let is_snapshot = |line: &&String| line.contains("/snapshot.json ");
    listing.iter().filter(is_snapshot).count()
}

fn blobs(rig: &Rig) -> usize {
    let listing = rig.store_listing();
    let is_blob = |line: &&String| line.starts_with("oci/blobs/sha256/") && !line.ends_with('/');
    listing.iter().filter(is_blob).count()
}

const LINKED: &str = "FROM base\nRUN echo 1 > /one\nCOPY --link file /file\nRUN echo 2 > /two\n";

#[test]
fn the_cache_outlives_its_images_and_goes_with_builder_prune() {
    let rig = Rig::new();
    rig.write("file", "x").dockerfile(LINKED);
    rig.build(&["-t", "app"]).succeeds();
    let (all_snapshots, all_blobs) = (snapshots(&rig), blobs(&rig));
    says(&rig, &["rmi", "app"]);
    assert_eq!(snapshots(&rig), all_snapshots, "the cache needs them");
    assert!(blobs(&rig) < all_blobs);
    let again = rig.build(&["-t", "app"]).succeeds();
    assert!(again.is_cached("RUN echo 2 > /two") && again.is_cached("COPY --link file /file"));
    assert_eq!(blobs(&rig), all_blobs);

    // What a tagged image stands on stays, also the snapshot that a linked one names.
    says(&rig, &["builder", "prune", "-f"]);
    let again = rig.build(&["-t", "app"]).succeeds();
    assert!(again.is_cached("RUN echo 1 > /one") && again.is_cached("RUN echo 2 > /two"));

    let pruned = says(&rig, &["builder", "prune", "--all", "--force"]);
    assert!(
        pruned.starts_with("Deleted build cache objects:\n"),
        "{pruned}"
    );
    assert_eq!(snapshots(&rig), 0);
    assert_eq!(blobs(&rig), all_blobs, "images stay");
    let image = rig.image("FROM app\nRUN cat /one /file /two > /all\n");
    assert_eq!(image.files()["all"].content, b"1\nx2\n");
    says(&rig, &["image", "prune", "-af"]);
    says(&rig, &["builder", "prune", "-af"]);
    assert_eq!((snapshots(&rig), blobs(&rig)), (0, 0));
}

#[test]
fn the_least_recently_used_goes_first() {
    let rig = Rig::new();
    let dockerfile = |name: &str| {
        format!("FROM base\nRUN dd if=/dev/zero of=/{name} bs=1048576 count=4 2>/dev/null\n")
    };
    for name in ["old", "new"] {
        rig.dockerfile(&dockerfile(name)).build(&[]).succeeds();
        says(&rig, &["image", "prune", "-f"]);
        std::thread::sleep(Duration::from_millis(20));
    }
    // A hit is a use.
    rig.dockerfile(&dockerfile("old")).build(&[]).succeeds();
    says(&rig, &["image", "prune", "-f"]);
    let pruned = says(&rig, &["builder", "prune", "-f", "--filter", "until=24h"]);
    assert_eq!(pruned, "Total reclaimed space: 0B\n");
    says(&rig, &["builder", "prune", "-f", "--keep-storage", "1GB"]);
    let before = snapshots(&rig);
    says(&rig, &["builder", "prune", "-f", "--keep-storage", "7MB"]);
    assert_eq!(snapshots(&rig), before - 1);
    let kept = rig.dockerfile(&dockerfile("old")).build(&[]).succeeds();
    assert!(kept.is_cached("count=4 2>/dev/null"));
    let gone = rig.dockerfile(&dockerfile("new")).build(&[]).succeeds();
    assert!(!gone.is_cached("count=4 2>/dev/null"));
}

#[test]
fn cache_mounts_are_counted_and_removed() {
    let rig = Rig::new();
    rig.dockerfile("FROM base\nRUN --mount=type=cache,target=/c echo 1 >> /c/f && cat /c/f > /o\n");
    rig.build(&["-t", "app"]).succeeds();
    let used = says(
        &rig,
        &["system", "df", "--format", "{{.Type}}: {{.TotalCount}}"],
    );
    assert!(
        used.contains("Images: 2\n") && used.contains("Cache mounts: 1\n"),
        "{used}"
    );
    assert!(says(&rig, &["du"]).starts_with("TYPE            TOTAL "));
    says(&rig, &["builder", "prune", "-f"]);
    let used = says(&rig, &["du", "--format", "{{.Type}}: {{.TotalCount}}"]);
    assert!(used.contains("Cache mounts: 0\n"), "{used}");
}

#[test]
fn nothing_is_removed_below_a_running_build() {
    let rig = Rig::new();
    rig.rbuild(["tag", "base", "spare"]).succeeds();
    let fifo = rig.path("started");
    rig.dockerfile("FROM base\nRUN echo 1 > /one\nRUN sleep 20\n");
    let mut build = rig
        .build_command(&["-t", "slow"])
        .stderr(fs::File::create(&fifo).unwrap())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let start = Instant::now();
    let is_sleeping = || {
        let log = fs::read_to_string(&fifo).unwrap();
        log.contains("RUN sleep 20")
    };
    while !is_sleeping() && start.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let before = snapshots(&rig);
    let outcomes = [
        rig.rbuild(["image", "prune", "-af"]),
        rig.rbuild(["builder", "prune", "-af"]),
        rig.rbuild(["rmi", "spare"]),
    ];
    let listed = rig.rbuild(["images", "-q"]);
    let after = snapshots(&rig);
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(build.id().try_into().unwrap()),
        nix::sys::signal::Signal::SIGTERM,
    )
    .unwrap();
    build.wait().unwrap();
    let [images, cache, name] = outcomes;
    images.exits_with(1).says(&["in use by a build"]);
    cache.exits_with(1).says(&["in use by a build"]);
    let name = name.succeeds().says(&["a build is running"]);
    assert_eq!(name.stdout, b"Untagged: spare:latest\n");
    listed.succeeds();
    assert_eq!(before, after);
}

#[test]
fn a_clean_up_that_is_killed_leaves_a_store_that_works() {
    let rig = Rig::new();
    rig.write("file", "x").dockerfile(LINKED);
    for delay in 0..12 {
        rig.build(&["-t", "app"]).succeeds();
        let mut prune = rig
            .command(["builder", "prune", "-af"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(delay * 3));
        drop(prune.kill());
        prune.wait().unwrap();
    }
    rig.build(&["-t", "app"]).succeeds();
    let image = rig.image("FROM app\nRUN cat /one /file /two > /all\n");
    assert_eq!(image.files()["all"].content, b"1\nx2\n");
}

#[test]
fn a_full_disk_is_no_obstacle() {
    if !host::tool("unshare") {
        return;
    }
    let rig = Rig::empty();
    let script = "set -e
mount -t tmpfs -o size=12m,mode=0700 none disk
export RBUILD_ROOT=disk/store
\"$RBUILD\" import base.tar one
\"$RBUILD\" tag one two
cat /dev/zero > disk/fill 2> /dev/null || true
\"$RBUILD\" rmi two
cat /dev/zero > disk/fill2 2> /dev/null || true
\"$RBUILD\" rmi one
\"$RBUILD\" builder prune -f
\"$RBUILD\" images -q
rm disk/fill disk/fill2
\"$RBUILD\" import base.tar three
";
    fs::write(rig.path("base.tar"), base::root_filesystem()).unwrap();
    fs::create_dir(rig.path("disk")).unwrap();
    let mut run = Command::new("unshare");
    run.args(["--user", "--map-root-user", "--mount", "sh", "-c", script])
        .env("RBUILD", host::binary())
        .current_dir(rig.path(""));
    let stdout = String::from_utf8(host::stdout_of(&mut run)).unwrap();
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(
        lines[1..3],
        ["Untagged: two:latest", "Untagged: one:latest"]
    );
    assert!(lines[3].starts_with("Deleted: sha256:"), "{stdout}");
    assert!(stdout.contains("Total reclaimed space: 2"), "{stdout}");
}
