//! Images for several platforms in the store: shown, saved, loaded, pushed, removed.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::rig::Rig;
use crate::rig::faulty::{Faulty, digest_of};
use crate::rig::host;
use crate::rig::image::{files_of, json};

const OWN: &str = if cfg!(target_arch = "x86_64") {
    "amd64"
} else {
    "arm64"
};
const OTHER: &str = "s390x";

/// A store with the index `app`, whose images tell their platform; and the index's digest.
fn rig() -> (Rig, String) {
    let rig = Rig::empty();
    rig.write("file", "x");
    rig.dockerfile(
        "FROM scratch\nARG TARGETARCH\nCOPY file /$TARGETARCH\nLABEL of=$TARGETARCH\nWORKDIR /$TARGETARCH-w",
    );
    let options = format!("--platform=linux/{OWN},linux/{OTHER}");
    let id = rig.build(&[&options, "-t", "app"]).succeeds().id();
    (rig, id)
}

fn says(rig: &Rig, arguments: &[&str]) -> String {
    let outcome = rig.rbuild(arguments).succeeds();
    String::from_utf8(outcome.stdout).unwrap()
}

fn foreign() -> String {
    format!("--platform=linux/{OTHER}")
}

#[test]
fn one_image_of_an_index_is_shown() {
    let (rig, index) = rig();
    let label = ["-f", "{{.Config.Labels.of}} {{.Architecture}}"];
    let show = |more: &[&str]| says(&rig, &[&["inspect"], &label[..], more].concat());
    assert_eq!(show(&["app"]), format!("{OWN} {OWN}\n"));
    assert_eq!(show(&[&foreign(), "app"]), format!("{OTHER} {OTHER}\n"));
    // The digest that the build printed is an id as well, and so is the beginning of it.
    for id in [index.as_str(), &index[7..19]] {
        assert_eq!(show(&[id]), format!("{OWN} {OWN}\n"));
        assert_eq!(show(&[&foreign(), id]), format!("{OTHER} {OTHER}\n"));
    }
    let history = says(&rig, &["history", "--no-trunc", &foreign(), "app"]);
    assert!(
        history.contains(&format!("WORKDIR /{OTHER}-w")),
        "{history}"
    );
    let history = says(&rig, &["history", "--no-trunc", "app"]);
    assert!(history.contains(&format!("WORKDIR /{OWN}-w")), "{history}");
    for command in ["inspect", "history"] {
        rig.rbuild([command, "--platform=linux/riscv64", "app"])
            .exits_with(1)
            .says(&["app was found but does not provide the specified platform (linux/riscv64)"]);
        rig.rbuild([command, "--platform=a,b", "app"]).exits_with(2);
    }
    let listed = says(&rig, &["images", "--digests", "--format", "{{.Digest}}"]);
    assert_eq!(listed, format!("{index}\n"));
    // An image of one platform has no other one.
    rig.build(&["--platform", &format!("linux/{OWN}"), "-t", "single"])
        .succeeds();
    rig.rbuild(["inspect", &foreign(), "single"]).exits_with(1);
    let of = says(
        &rig,
        &[
            "inspect",
            "-f",
            "{{.Os}}",
            "--platform",
            &format!("linux/{OWN}"),
            "single",
        ],
    );
    assert_eq!(of, "linux\n");
}

/// The platforms in the one index of an archive, and those whose manifests are there too.
fn contents(archive: &[u8]) -> (Vec<String>, Vec<String>) {
    let files = files_of(archive);
    let top = json(&files["index.json"]);
    let blob = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().unwrap();
        files.get(&digest.replace("sha256:", "blobs/sha256/"))
    };
    let index = json(blob(&top["manifests"][0]).unwrap());
    let entries = index["manifests"].as_array().unwrap();
    let arch = |entry: &&Value| {
        entry["platform"]["architecture"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let there = entries.iter().filter(|entry| blob(entry).is_some());
    (
        entries.iter().map(|one| arch(&one)).collect(),
        there.map(|one| arch(&one)).collect(),
    )
}

#[test]
fn an_index_is_saved_and_loaded_as_a_whole() {
    let (rig, index) = rig();
    rig.rbuild(["save", "-o", "all.tar", "app"]).succeeds();
    let archive = fs::read(rig.path("all.tar")).unwrap();
    let both = vec![OWN.to_owned(), OTHER.to_owned()];
    assert_eq!(contents(&archive), (both.clone(), both.clone()));
    let other = Rig::empty();
    fs::write(other.path("all.tar"), &archive).unwrap();
    let loaded = says(&other, &["load", "-i", "all.tar"]);
    assert_eq!(loaded, "Loaded image: app:latest\n");
    let digest = says(&other, &["images", "--format", "{{.Digest}}"]);
    assert_eq!(digest, format!("{index}\n"));
    for arch in [OWN, OTHER] {
        let platform = format!("--platform=linux/{arch}");
        let label = says(
            &other,
            &["inspect", "-f", "{{.Config.Labels.of}}", &platform, "app"],
        );
        assert_eq!(label, format!("{arch}\n"));
        // Its files too.
        other
            .rbuild(["export", &platform, "-o", &format!("out-{arch}"), "app"])
            .succeeds();
        assert!(other.path(&format!("out-{arch}/{arch}")).exists());
    }
    // What is saved again is the same.
    other.rbuild(["save", "-o", "again.tar", "app"]).succeeds();
    assert_eq!(fs::read(other.path("again.tar")).unwrap(), archive);
    // By its digest it has no name.
    rig.rbuild(["save", "-o", "bare.tar", &index]).succeeds();
    let bare = Rig::empty();
    fs::copy(rig.path("bare.tar"), bare.path("bare.tar")).unwrap();
    let loaded = says(&bare, &["load", "-i", "bare.tar"]);
    assert_eq!(loaded, format!("Loaded image ID: {index}\n"));
}

#[test]
fn platforms_of_an_index_are_saved_and_loaded_alone() {
    let (rig, _) = rig();
    rig.rbuild(["save", &foreign(), "-o", "one.tar", "app"])
        .succeeds();
    let files = files_of(&fs::read(rig.path("one.tar")).unwrap());
    let top = json(&files["index.json"]);
    let of_type = top["manifests"][0]["mediaType"].as_str().unwrap();
    assert!(of_type.contains("manifest"), "one image and no index");
    assert_eq!(top["manifests"][0]["platform"]["architecture"], OTHER);
    rig.rbuild(["save", "--platform=linux/riscv64", "-o", "no.tar", "app"])
        .exits_with(1)
        .says(&["does not provide the specified platform"]);
    assert!(!rig.path("no.tar").exists());
    rig.rbuild(["save", "-o", "all.tar", "app"]).succeeds();
    let other = Rig::empty();
    fs::copy(rig.path("all.tar"), other.path("all.tar")).unwrap();
    other
        .rbuild(["load", "--platform=linux/riscv64", "-i", "all.tar"])
        .exits_with(1)
        .says(&["does not provide the specified platform"]);
    assert_eq!(says(&other, &["images", "-q"]), "");
    other
        .rbuild(["load", &foreign(), "-i", "all.tar"])
        .succeeds();
    let label = says(&other, &["inspect", "-f", "{{.Config.Labels.of}}", "app"]);
    assert_eq!(label, format!("{OTHER}\n"));
    other
        .rbuild(["inspect", "--platform", &format!("linux/{OWN}"), "app"])
        .exits_with(1);
    // The index is kept, and says that it has more than what is here.
    other.rbuild(["save", "-o", "part.tar", "app"]).succeeds();
    let both = vec![OWN.to_owned(), OTHER.to_owned()];
    let part = fs::read(other.path("part.tar")).unwrap();
    assert_eq!(contents(&part), (both, vec![OTHER.to_owned()]));
    let server = Faulty::start();
    let name = format!("{}/team/app:v1", server.host());
    other.rbuild(["tag", "app", &name]).succeeds();
    other
        .rbuild(["push", &name])
        .exits_with(1)
        .says(&["that is not here", "--platform"]);
    assert!(server.manifest("team/app", "v1").is_none());
    other.rbuild(["push", &foreign(), &name]).succeeds();
    let pushed = json(&server.manifest("team/app", "v1").unwrap());
    assert!(pushed.get("layers").is_some(), "an image and no index");
}

#[test]
fn an_index_is_pushed_with_everything_from_everywhere() {
    let server = Faulty::start();
    let (rig, index) = rig();
    let host = server.host();
    let name = |tag: &str| format!("{host}/team/{tag}:v1");
    let index_in = |tag: &str| {
        let pushed = server.manifest(&format!("team/{tag}"), "v1").unwrap();
        for entry in json(&pushed)["manifests"].as_array().unwrap() {
            let digest = entry["digest"].as_str().unwrap();
            assert!(server.manifest(&format!("team/{tag}"), digest).is_some());
        }
        digest_of(&pushed)
    };
    rig.rbuild(["save", "-o", "all.tar", "app"]).succeeds();
    let unpacked = rig.path("layout");
    fs::create_dir(&unpacked).unwrap();
    tar::Archive::new(fs::File::open(rig.path("all.tar")).unwrap())
        .unpack(&unpacked)
        .unwrap();
    rig.rbuild(["tag", "app", &name("a")]).succeeds();
    for (arguments, tag) in [
        (vec!["push", &name("a")], "a"),
        (vec!["push", "oci:layout", &name("b")], "b"),
        (vec!["push", "oci-archive:all.tar", &name("c")], "c"),
        (vec!["push", "oci:layout:latest", &name("d")], "d"),
    ] {
        rig.rbuild(arguments).succeeds();
        assert_eq!(index_in(tag), index, "{tag}");
    }
    rig.rbuild(["push", &foreign(), "oci:layout", &name("e")])
        .succeeds();
    let pushed = json(&server.manifest("team/e", "v1").unwrap());
    assert!(pushed.get("layers").is_some(), "an image and no index");
    rig.rbuild(["push", "--platform=linux/riscv64", &name("a")])
        .exits_with(1)
        .says(&["no image for linux/riscv64"]);
    // A layout that lacks what its index names is not pushed as far as it goes.
    let blobs = unpacked.join("blobs/sha256");
    let file = files_of(&fs::read(rig.path("all.tar")).unwrap());
    let top = json(&file["index.json"]);
    let path = top["manifests"][0]["digest"]
        .as_str()
        .unwrap()
        .replace("sha256:", "blobs/sha256/");
    let gone = json(&file[&path])["manifests"][1]["digest"]
        .as_str()
        .unwrap()
        .replace("sha256:", "");
    fs::remove_file(blobs.join(gone)).unwrap();
    rig.rbuild(["push", "oci:layout", &name("f")])
        .exits_with(1)
        .says(&[&format!("image for linux/{OTHER} that is not here")]);
    assert!(server.manifest("team/f", "v1").is_none());
}

#[test]
fn an_index_goes_with_all_its_images() {
    let (rig, index) = rig();
    rig.rbuild(["builder", "prune", "-af"]).succeeds();
    let removed = says(&rig, &["rmi", "app"]);
    assert!(
        removed.starts_with("Untagged: app:latest\nDeleted: sha256:"),
        "{removed}"
    );
    let blobs = || {
        fs::read_dir(rig.store().join("oci/blobs/sha256"))
            .unwrap()
            .count()
    };
    assert_eq!(blobs(), 0);
    // By the digest that the build printed.
    let (rig, again) = self::rig();
    assert_eq!(again.len(), index.len());
    rig.rbuild(["builder", "prune", "-af"]).succeeds();
    rig.rbuild(["rmi", &again]).succeeds();
    assert_eq!(says(&rig, &["images", "-q"]), "");
    // An index that lost its name is pruned, also when one of its images still has one.
    let (rig, _) = self::rig();
    rig.rbuild(["image", "prune", "-f"]).succeeds();
    rig.dockerfile("FROM scratch\nCOPY file /other");
    let count = || {
        fs::read_dir(rig.store().join("oci/blobs/sha256"))
            .unwrap()
            .count()
    };
    assert_eq!(
        count(),
        9,
        "an index, two manifests, two configs, four layers"
    );
    let options = format!("--platform=linux/{OWN},linux/riscv64");
    rig.build(&[&options, "-t", "app"]).succeeds();
    let pruned = says(&rig, &["image", "prune", "-f"]);
    assert!(pruned.starts_with("Deleted Images:\n"), "{pruned}");
    rig.rbuild(["builder", "prune", "-af"]).succeeds();
    assert_eq!(count(), 6, "the old index is gone with its images");
    let own = format!("linux/{OWN}");
    rig.build(&["--platform", &own, "-t", "single"]).succeeds();
    rig.rbuild(["rmi", "app"]).succeeds();
    rig.build(&[&options, "-t", "app"]).succeeds();
    let other = format!("--platform=linux/{OTHER},{own}");
    rig.build(&[&other, "-t", "app"]).succeeds();
    let pruned = says(&rig, &["image", "prune", "-f"]);
    assert!(pruned.contains("deleted: sha256:"), "{pruned}");
    let index = json(&fs::read(rig.store().join("oci/index.json")).unwrap());
    assert_eq!(index["manifests"].as_array().unwrap().len(), 2);
    for name in ["app", "single"] {
        rig.rbuild(["inspect", name]).succeeds();
    }
}

#[test]
fn podman_and_skopeo_read_a_saved_index() {
    if !host::tool("skopeo") {
        return;
    }
    let (rig, _) = rig();
    rig.rbuild(["save", "-o", "all.tar", "app"]).succeeds();
    for from in [
        "oci-archive:all.tar:latest",
        "docker-archive:all.tar:app:latest",
    ] {
        let mut skopeo = Command::new("skopeo");
        skopeo
            .args(["inspect", "--config", from])
            .current_dir(rig.path(""));
        let config = json(&host::stdout_of(&mut skopeo));
        assert_eq!(config["architecture"], OWN, "{from}");
    }
    if !host::tool("podman") || !host::maps_many_ids() {
        return;
    }
    let runtime = rig.path("podman-run");
    fs::create_dir_all(&runtime).unwrap();
    fs::create_dir_all(rig.path(".config/containers")).unwrap();
    let policy = r#"{"default":[{"type":"insecureAcceptAnything"}]}"#;
    fs::write(rig.path(".config/containers/policy.json"), policy).unwrap();
    let mut podman = Command::new("timeout");
    podman
        .args(["120", "podman", "--storage-driver", "vfs", "--root"])
        .arg(rig.path("podman"))
        .arg("--runroot")
        .arg(&runtime)
        .args(["load", "-i", "all.tar"])
        .env("XDG_RUNTIME_DIR", &runtime)
        .env("HOME", rig.path(""))
        .current_dir(rig.path(""));
    let loaded = String::from_utf8(host::stdout_of(&mut podman)).unwrap();
    assert!(loaded.contains("app:latest"), "{loaded}");
}

#[test]
fn run_takes_this_machines_image_of_an_index() {
    let rig = Rig::new();
    rig.dockerfile("FROM base\nRUN echo own > /which");
    let own = format!("linux/{OWN}");
    rig.build(&["--platform", &own, "-t", "own"]).succeeds();
    rig.dockerfile("FROM scratch\nCOPY Dockerfile /which");
    rig.build(&[&foreign(), "-t", "foreign"]).succeeds();
    rig.rbuild(["manifest", "create", "both", "foreign", "own"])
        .succeeds();
    for options in [&["both"][..], &["--platform", &own, "both"]] {
        let outcome = rig.run(&[options, &["cat", "/which"]].concat());
        assert_eq!(outcome.succeeds().stdout, b"own\n");
    }
    rig.run(&["--pull=never", "foreign", "true"])
        .exits_with(125)
        .says(&["is for linux/s390x, this machine is"]);
    rig.rbuild(["export", &foreign(), "-o", "out", "both"])
        .succeeds();
    let which = fs::read_to_string(rig.path("out/which")).unwrap();
    assert!(which.starts_with("FROM scratch"));
}
