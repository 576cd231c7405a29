//! Archives of images: what rbuild saves others read, and the other way round.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::rig::Rig;
use crate::rig::host;
use crate::rig::image::Image;
use crate::rig::outcome::Outcome;

fn stdout(outcome: &Outcome) -> String {
    String::from_utf8(outcome.stdout.clone()).unwrap()
}

/// A rig with `app:latest`, `app:1` and `other:latest`, and all of them saved as `saved.tar`.
fn saved() -> Rig {
    let rig = Rig::new();
    rig.dockerfile("FROM base\nRUN echo 1 > /one\n")
        .build(&["-t", "app", "-t", "app:1"])
        .succeeds();
    rig.dockerfile("FROM base\nRUN echo 2 > /two\n")
        .build(&["-t", "other"])
        .succeeds();
    rig.rbuild(["save", "-o", "saved.tar", "app", "app:1", "other"])
        .succeeds();
    rig
}

fn ids(rig: &Rig) -> Vec<String> {
    let format = "{{.Repository}}:{{.Tag}} {{.ID}} {{.Digest}}";
    let listed = rig.rbuild(["images", "--no-trunc", "--format", format]);
    let mut lines: Vec<String> = stdout(&listed.succeeds())
        .lines()
        .map(str::to_owned)
        .collect();
    lines.sort();
    lines
}

/// Loads from standard input.
fn load(rig: &Rig, archive: &[u8]) -> Outcome {
    let mut child = rig
        .command(["load"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdin.take().unwrap().write_all(archive));
    child.wait_with_output().unwrap().into()
}

#[test]
fn what_is_saved_is_loaded_as_the_same_images() {
    let rig = saved();
    let archive = fs::read(rig.path("saved.tar")).unwrap();
    let to_stdout = rig
        .rbuild(["image", "save", "app", "app:1", "other"])
        .succeeds();
    assert!(
        to_stdout.stdout == archive,
        "a file and a pipe get the same"
    );
    let mut expected = ids(&rig);
    expected.retain(|line| !line.starts_with("base"));
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&archive).unwrap();
    for bytes in [&archive, &gzip.finish().unwrap()] {
        let other = Rig::empty();
        let loaded = stdout(&load(&other, bytes).succeeds());
        assert_eq!(
            loaded,
            "Loaded image: app:latest\nLoaded image: app:1\nLoaded image: other:latest\n"
        );
        assert_eq!(ids(&other), expected);
    }
    let other = Rig::empty();
    let file = rig.path("saved.tar");
    other
        .rbuild(["image", "load", "-q", "-i", file.to_str().unwrap()])
        .succeeds();
    assert_eq!(ids(&other), expected);
    // The layers are unpacked by who needs them.
    let image = other.image("FROM app\nRUN cat /one > /copy\n");
    assert_eq!(image.files()["copy"].content, b"1\n");
}

#[test]
fn names_of_one_image_are_saved_with_the_layers_that_each_was_built_with() {
    let rig = Rig::new();
    rig.dockerfile("FROM base\nRUN echo 1 > /one\n");
    for form in ["gzip", "zstd", "uncompressed"] {
        let output = format!("type=image,compression={form}");
        let name = format!("app:{form}");
        rig.build(&["-t", &name, "-o", &output]).succeeds();
    }
    for (name, suffix) in [
        ("app:gzip", ".tar+gzip"),
        ("app:zstd", ".tar+zstd"),
        ("app:uncompressed", ".tar"),
    ] {
        let image = Image::from_archive(&rig.rbuild(["save", name]).succeeds().stdout);
        // The base keeps the layers it came with.
        let layer = image.layers.last().unwrap();
        assert!(layer.media_type.ends_with(suffix), "{}", layer.media_type);
    }
}

#[test]
fn an_image_that_is_saved_by_its_id_has_no_name() {
    let rig = saved();
    let id = stdout(&rig.rbuild(["inspect", "-f", "{{.Id}}", "app"]).succeeds());
    rig.rbuild(["save", "-o", "id.tar", id.trim()]).succeeds();
    let other = Rig::empty();
    let archive = fs::read(rig.path("id.tar")).unwrap();
    let loaded = stdout(&load(&other, &archive).succeeds());
    assert_eq!(loaded, format!("Loaded image ID: {id}"));
    let listed = stdout(&other.rbuild(["images", "-q", "--no-trunc"]).succeeds());
    assert_eq!(listed, id);
}

#[test]
fn a_damaged_archive_is_refused_and_leaves_nothing() {
    let rig = saved();
    let archive = fs::read(rig.path("saved.tar")).unwrap();
    let before = ids(&rig);
    // Every place in the archive is below some digest, or is a document's structure.
    for at in [2, 5, 7].map(|part| archive.len() * part / 10) {
        let mut damaged = archive.clone();
        for byte in &mut damaged[at..at + 600] {
            *byte ^= 0x55;
        }
        let other = Rig::empty();
        load(&other, &damaged).exits_with(1);
        assert_eq!(ids(&other), [""; 0]);
    }
    load(&Rig::empty(), b"").exits_with(1);
    load(&Rig::empty(), &archive[..archive.len() / 2]).exits_with(1);
    load(&Rig::empty(), b"no archive at all").exits_with(1);
    assert_eq!(ids(&rig), before);
}

#[test]
fn skopeo_and_umoci_read_what_is_saved() {
    if !host::tool("skopeo") || !host::tool("umoci") {
        return;
    }
    let rig = saved();
    let tar = rig.path("saved.tar");
    for (from, to) in [
        (format!("docker-archive:{}:app:1", tar.display()), "one"),
        (
            format!("docker-archive:{}:other:latest", tar.display()),
            "two",
        ),
    ] {
        let layout = rig.path(to);
        let mut copy = Command::new("skopeo");
        copy.args(["--insecure-policy", "copy", "-q", &from])
            .arg(format!("oci:{}:it", layout.display()));
        host::stdout_of(&mut copy);
        unpack(&rig, &layout, to);
    }
    rig.rbuild(["save", "-o", "single.tar", "app:1"]).succeeds();
    let single = format!("oci-archive:{}:1", rig.path("single.tar").display());
    host::stdout_of(Command::new("skopeo").args(["inspect", &single]));
}

/// Unpacks with umoci and looks for the image's own file.
fn unpack(rig: &Rig, layout: &Path, file: &str) {
    let bundle = rig.path(&format!("bundle-{file}"));
    let mut umoci = Command::new("umoci");
    umoci.args(["unpack", "--image"]);
    umoci.arg(format!("{}:it", layout.display()));
    if !host::is_root() {
        umoci.arg("--rootless");
    }
    host::stdout_of(umoci.arg(&bundle));
    assert!(bundle.join("rootfs").join(file).exists());
}

#[test]
fn archives_that_skopeo_writes_are_loaded() {
    if !host::tool("skopeo") {
        return;
    }
    let rig = saved();
    rig.rbuild(["save", "-o", "single.tar", "app:1"]).succeeds();
    let from = format!("oci-archive:{}:1", rig.path("single.tar").display());
    let id = stdout(&rig.rbuild(["inspect", "-f", "{{.Id}}", "app"]).succeeds());
    for (form, said) in [
        (
            "docker-archive:docker.tar:example.org/x:2",
            "Loaded image: example.org/x:2\n",
        ),
        (
            "oci-archive:oci.tar:example.org/x:2",
            "Loaded image: example.org/x:2\n",
        ),
        ("oci-archive:bare.tar", ""),
    ] {
        let mut copy = Command::new("skopeo");
        copy.args(["--insecure-policy", "copy", "-q", &from, form])
            .current_dir(rig.path(""));
        host::stdout_of(&mut copy);
        let file = rig.path(form.split(':').nth(1).unwrap());
        let other = Rig::empty();
        let loaded = stdout(&load(&other, &fs::read(file).unwrap()).succeeds());
        let expected = match said {
            "" => format!("Loaded image ID: {id}"),
            said => said.to_owned(),
        };
        assert_eq!(loaded, expected, "{form}");
        let loaded = stdout(&other.rbuild(["images", "-q", "--no-trunc"]).succeeds());
        assert_eq!(loaded, id, "{form}");
    }
}

#[test]
fn podman_loads_what_is_saved_and_saves_what_is_loaded() {
    if !host::tool("podman") || !host::maps_many_ids() {
        return;
    }
    let rig = saved();
    let podman = |arguments: &[&str]| {
        let runtime = rig.path("podman-run");
        fs::create_dir_all(&runtime).unwrap();
        let mut command = Command::new("timeout");
        command
            .args(["120", "podman", "--storage-driver", "vfs", "--root"])
            .arg(rig.path("podman"))
            .arg("--runroot")
            .arg(&runtime)
            .args(arguments)
            .env("XDG_RUNTIME_DIR", &runtime)
            .env("HOME", rig.path(""))
            .current_dir(rig.path(""));
        String::from_utf8(host::stdout_of(&mut command)).unwrap()
    };
    fs::create_dir_all(rig.path(".config/containers")).unwrap();
    let policy = r#"{"default":[{"type":"insecureAcceptAnything"}]}"#;
    fs::write(rig.path(".config/containers/policy.json"), policy).unwrap();
    let loaded = podman(&["load", "-i", "saved.tar"]);
    for name in ["app:1", "app:latest", "other:latest"] {
        assert!(loaded.contains(name), "{loaded}");
    }
    let id = stdout(&rig.rbuild(["inspect", "-f", "{{.Id}}", "app"]).succeeds());
    let theirs = podman(&["image", "inspect", "--format", "{{.Id}}", "app:1"]);
    assert_eq!(format!("sha256:{theirs}"), id);
    for form in ["docker-archive", "oci-archive"] {
        let file = format!("{form}.tar");
        podman(&["save", "-q", "--format", form, "-o", &file, "app:1"]);
        let other = Rig::empty();
        let bytes = fs::read(rig.path(&file)).unwrap();
        let loaded = stdout(&load(&other, &bytes).succeeds());
        assert!(
            loaded.starts_with("Loaded image: ") && loaded.contains("app:1"),
            "{loaded}"
        );
    }
    drop(Image::open(&rig.path("oci-archive.tar")));
}
