//! Archives and labels that claim the names of other images (CVE-2026-50195): a name moves where the user
//! asks for it, and nowhere else.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};
use tar::{Builder, EntryType};

use crate::rig::base::append;
use crate::rig::forged::{Forged, Layer};
use crate::rig::image::{Image, files_of, json as parse};
use crate::rig::outcome::Outcome;
use crate::rig::{Rig, terminal};

const EVIL: &str = "evil";

fn bounded(rig: &Rig, arguments: &[&str]) -> Outcome {
    let command = rig.command(arguments);
    Outcome::of(&mut terminal::started_by(
        &["timeout", "-k", "5", "120"],
        &command,
    ))
}

/// An image with the file `evil`, whose labels claim names too.
fn forged() -> Forged {
    let mut forged = Forged::on_base(vec![Layer::new().file(EVIL, "x").tar()]);
    forged.settings = json!({
        "Env": ["PATH=/bin"],
        "Labels": {
            "org.opencontainers.image.ref.name": "base",
            "io.containerd.image.name": "docker.io/library/base:latest",
        },
    });
    forged
}

/// The files of a tar, as `change` leaves them.
fn rewritten(tar: &[u8], change: impl FnOnce(&mut BTreeMap<String, Vec<u8>>)) -> Vec<u8> {
    let mut files = files_of(tar);
    change(&mut files);
    let mut tar = Builder::new(Vec::new());
    for (path, bytes) in files {
        append(&mut tar, EntryType::Regular, &path, 0o644, &bytes);
    }
    tar.into_inner().unwrap()
}

/// [`forged`] as an OCI archive in which it has these annotations, and so has its manifest.
fn layout(annotations: &Value) -> Vec<u8> {
    let forged = forged();
    let config = forged.config().to_string().into_bytes();
    let mut manifest = forged.manifest(&config);
    manifest["annotations"] = annotations.clone();
    let archive = forged.archive_of(&config, manifest.to_string().as_bytes());
    rewritten(&archive, |files| {
        let mut index = parse(&files["index.json"]);
        index["manifests"][0]["annotations"] = annotations.clone();
        index["annotations"] = annotations.clone();
        files.insert("index.json".to_owned(), index.to_string().into_bytes());
    })
}

/// [`forged`] as docker once saved it, with this name.
fn saved_by_docker(name: &str) -> Vec<u8> {
    let forged = forged();
    let layers: Vec<String> = (0..forged.layers.len())
        .map(|n| format!("{n}.tar"))
        .collect();
    let manifest = json!([{"Config": "c.json", "RepoTags": [name], "Layers": layers}]);
    let mut tar = Builder::new(Vec::new());
    let mut add = |path: &str, bytes: &[u8]| {
        append(&mut tar, EntryType::Regular, path, 0o644, bytes);
    };
    add("manifest.json", manifest.to_string().as_bytes());
    add("c.json", forged.config().to_string().as_bytes());
    for (path, layer) in layers.iter().zip(&forged.layers) {
        add(path, layer);
    }
    add("repositories", b"{\"base\":{\"latest\":\"0\"}}");
    tar.into_inner().unwrap()
}

/// Every name in the store with its image; an image without one is `<none>:<none>`.
fn names(rig: &Rig) -> Vec<String> {
    let format = "{{.Repository}}:{{.Tag}} {{.ID}} {{.Digest}}";
    let listed = rig.rbuild(["images", "--no-trunc", "--digests", "--format", format]);
    let listed = String::from_utf8(listed.succeeds().stdout).unwrap();
    let mut lines: Vec<String> = listed.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// [`names`] without the images that have none.
fn named(rig: &Rig) -> Vec<String> {
    let mut lines = names(rig);
    lines.retain(|line| !line.starts_with("<none>:<none> "));
    lines
}

const CLAIMS: [&str; 9] = [
    "docker.io/library/base:latest",
    "index.docker.io/library/base:latest",
    "base:latest",
    "base",
    "../../index",
    "/etc/passwd",
    "a\u{1b}[2Jb:latest",
    "base:latest\nother:latest",
    "",
];

#[test]
fn the_names_in_an_archive_that_is_built_on_or_read_move_nothing() {
    let rig = Rig::new();
    let before = names(&rig);
    for claim in CLAIMS {
        for key in [
            "org.opencontainers.image.ref.name",
            "io.containerd.image.name",
        ] {
            let archive = rig.path("evil.tar");
            fs::write(&archive, layout(&json!({key: claim}))).unwrap();
            rig.dockerfile(&format!(
                "FROM evil\nRUN test -e /{EVIL}\nFROM base\nRUN test ! -e /{EVIL}\nCOPY --from=evil /{EVIL} /got"
            ));
            let context = format!("evil=oci-archive:{}", archive.display());
            let output = format!("type=oci,dest={}", rig.path("image.tar").display());
            let build = [
                "build",
                "--build-context",
                &context,
                "-o",
                &output,
                "context",
            ];
            let outcome = bounded(&rig, &build);
            assert_eq!(outcome.code, Some(0), "{claim:?}: {}", outcome.stderr);
            assert!(
                Image::open(&rig.path("image.tar")).names.is_empty(),
                "{claim:?}"
            );
            bounded(&rig, &["inspect", archive.to_str().unwrap()]);
            assert_eq!(named(&rig), before, "{key} {claim:?}");
        }
    }
    // An image of a registry's shape, whose labels name another: its own name is the only one.
    rig.dockerfile(
        "FROM base\nLABEL org.opencontainers.image.ref.name=base io.containerd.image.name=base",
    );
    bounded(&rig, &["build", "-t", "labelled", "context"]).exits_with(0);
    let mut after = named(&rig);
    after.retain(|line| !line.starts_with("labelled:latest "));
    assert_eq!(after, before);
}

#[test]
fn import_gives_no_name_but_the_one_that_was_asked_for() {
    let rig = Rig::new();
    let before = names(&rig);
    // Read as a root file system, which it is no less than others.
    let archive = rig.path("evil.tar");
    fs::write(
        &archive,
        layout(&json!({"io.containerd.image.name": "base:latest"})),
    )
    .unwrap();
    bounded(&rig, &["import", archive.to_str().unwrap(), "files"]).exits_with(0);
    let mut after = names(&rig);
    after.retain(|line| !line.starts_with("files:latest "));
    assert_eq!(after, before);
}

#[test]
fn load_moves_the_names_that_it_says_and_the_old_image_stays() {
    let rig = Rig::new();
    let own = names(&rig).remove(0);
    let own = own.strip_prefix("base:latest ").unwrap();
    let archives = CLAIMS.map(|claim| {
        let annotations = json!({"io.containerd.image.name": claim});
        [layout(&annotations), saved_by_docker(claim)]
    });
    for (claim, archive) in CLAIMS
        .iter()
        .zip(archives)
        .flat_map(|(claim, archives)| archives.map(|archive| (claim, archive)))
    {
        let before = names(&rig);
        let file = rig.path("evil.tar");
        fs::write(&file, archive).unwrap();
        let outcome = bounded(&rig, &["load", "-i", file.to_str().unwrap()]);
        assert!(!outcome.stderr.contains(['\u{1b}', '\r']), "{outcome:?}");
        let said = String::from_utf8(outcome.stdout.clone()).unwrap();
        let after = names(&rig);
        if claim.contains("base") && !claim.contains('\n') {
            assert_eq!(said, "Loaded image: base:latest\n", "{claim:?}");
            assert_eq!(after.len(), before.len() + 1, "{claim:?}: {after:?}");
            assert!(after.contains(&format!("<none>:<none> {own}")), "{after:?}");
            bounded(&rig, &["rmi", "-f", "base"]).exits_with(0);
            let old = own.split(' ').next().unwrap();
            bounded(&rig, &["tag", old, "base"]).exits_with(0);
        } else {
            assert_eq!(outcome.code, Some(1), "{claim:?}: {}", outcome.stderr);
            assert_eq!((said.as_str(), after), ("", before), "{claim:?}");
        }
    }
}

#[test]
fn load_gives_no_image_the_name_of_another_digest() {
    let rig = Rig::new();
    let before = names(&rig);
    // Nobody listens there: what is not in the store is not found.
    let pinned = format!("127.0.0.1:1/base@sha256:{}", "0".repeat(64));
    let both = pinned.replace("base@", "base:latest@");
    for claim in [&pinned, &both] {
        let layouts = [
            "org.opencontainers.image.ref.name",
            "io.containerd.image.name",
        ]
        .map(|key| layout(&json!({key: claim})));
        for archive in layouts.into_iter().chain([saved_by_docker(claim)]) {
            let file = rig.path("evil.tar");
            fs::write(&file, archive).unwrap();
            let outcome = bounded(&rig, &["load", "-i", file.to_str().unwrap()]);
            outcome.exits_with(1).says(&["another digest", claim]);
            assert_eq!(names(&rig), before, "{claim}");
        }
    }
    rig.dockerfile(&format!("FROM {pinned}\nRUN true"));
    bounded(&rig, &["build", "context"])
        .exits_with(1)
        .says(&["127.0.0.1:1"]);
}

#[test]
fn an_image_that_has_the_digest_in_its_name_is_loaded() {
    let rig = Rig::new();
    let archive = layout(&json!({}));
    let digest = parse(&files_of(&archive)["index.json"])["manifests"][0]["digest"]
        .as_str()
        .unwrap()
        .to_owned();
    let name = format!("example.org/pinned@{digest}");
    let archive = rewritten(&archive, |files| {
        let mut index = parse(&files["index.json"]);
        index["manifests"][0]["annotations"] = json!({"io.containerd.image.name": name});
        files.insert("index.json".to_owned(), index.to_string().into_bytes());
    });
    let file = rig.path("pinned.tar");
    fs::write(&file, archive).unwrap();
    bounded(&rig, &["load", "-i", file.to_str().unwrap()]).exits_with(0);
    rig.dockerfile(&format!("FROM {name}\nRUN test -e /{EVIL}"));
    bounded(&rig, &["build", "context"]).exits_with(0);
    // And saved under that name, again.
    bounded(&rig, &["save", "-o", "again.tar", &name]).exits_with(0);
    let other = Rig::empty();
    let again = rig.path("again.tar");
    let outcome = bounded(&other, &["load", "-i", again.to_str().unwrap()]).exits_with(0);
    assert_eq!(
        outcome.stdout,
        format!("Loaded image: {name}\n").into_bytes()
    );
}
