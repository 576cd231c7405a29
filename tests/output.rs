//! What a build writes, in every form, and whether other tools can read it.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::rig::image::{Image, Layer, entries_of, files_of, json, sha256};
use crate::rig::{Rig, host};

const DOCKERFILE: &str =
    "FROM base\nRUN mkdir /d && echo text > /d/f && chmod 640 /d/f && ln -s f /d/l\nCMD [\"x\"]";

fn to(rig: &Rig, attributes: &str, name: &str) -> String {
    format!("{attributes},dest={}", rig.path(name).display())
}

#[test]
fn an_oci_archive_is_named_and_typed() {
    let rig = Rig::new();
    let image = rig.image_with(DOCKERFILE, &["-t", "my/app:v2"]);
    assert_eq!(image.manifest["schemaVersion"], 2);
    assert_eq!(
        image.manifest["mediaType"],
        "application/vnd.oci.image.manifest.v1+json"
    );
    assert_eq!(
        image.manifest["config"]["mediaType"],
        "application/vnd.oci.image.config.v1+json"
    );
    assert!(
        image.names.contains(&"docker.io/my/app:v2".into()),
        "{:?}",
        image.names
    );
    assert!(image.names.contains(&"v2".into()), "{:?}", image.names);
}

#[test]
fn the_last_line_of_standard_output_is_the_image_id() {
    let rig = Rig::new();
    rig.dockerfile(DOCKERFILE);
    let outcome = rig
        .build(&["-o", &to(&rig, "type=oci", "image.tar")])
        .succeeds();
    assert_eq!(outcome.id(), Image::open(&rig.path("image.tar")).id);
    let quiet = rig.build(&["-q"]).succeeds();
    assert_eq!(
        String::from_utf8(quiet.stdout).unwrap(),
        format!("{}\n", outcome.id())
    );
    assert_eq!(quiet.stderr, "");
}

#[test]
fn layers_are_compressed_as_asked() {
    for (attributes, suffix) in [
        ("type=oci", "+gzip"),
        ("type=oci,compression=gzip,compression-level=1", "+gzip"),
        ("type=oci,compression=zstd", "+zstd"),
        ("type=oci,compression=zstd,compression-level=3", "+zstd"),
        ("type=oci,compression=uncompressed", ".tar"),
    ] {
        let rig = Rig::new();
        rig.dockerfile(DOCKERFILE);
        rig.build(&["-o", &to(&rig, attributes, "image.tar")])
            .succeeds();
        let image = Image::open(&rig.path("image.tar"));
        let own = image.layers.last().unwrap();
        assert!(
            own.media_type.ends_with(suffix),
            "{attributes}: {}",
            own.media_type
        );
        assert_eq!(image.text("d/f"), "text\n", "{attributes}");
    }
}

#[test]
fn a_layout_directory_is_the_archive_unpacked() {
    let rig = Rig::new();
    rig.dockerfile(DOCKERFILE);
    rig.build(&[
        "-o",
        &to(&rig, "type=oci", "image.tar"),
        "-o",
        &to(&rig, "type=oci,tar=false", "layout"),
    ])
    .succeeds();
    let (archive, layout) = (
        Image::open(&rig.path("image.tar")),
        Image::open(&rig.path("layout")),
    );
    assert_eq!(archive.manifest_digest, layout.manifest_digest);
}

#[test]
fn a_docker_archive_has_dockers_manifest() {
    let rig = Rig::new();
    rig.dockerfile(DOCKERFILE);
    rig.build(&[
        "-t",
        "app",
        "-t",
        "app:v1",
        "-o",
        &to(&rig, "type=docker", "docker.tar"),
    ])
    .succeeds();
    let files = files_of(&fs::read(rig.path("docker.tar")).unwrap());
    let manifest = json(&files["manifest.json"]);
    let image = &manifest[0];
    let tags: Vec<_> = image["RepoTags"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert_eq!(tags.len(), 2, "{tags:?}");
    assert!(
        tags.iter()
            .all(|tag| tag.ends_with("app:latest") || tag.ends_with("app:v1")),
        "{tags:?}"
    );
    let config = json(&files[image["Config"].as_str().unwrap()]);
    let layers = image["Layers"].as_array().unwrap();
    for (layer, diff_id) in layers
        .iter()
        .zip(config["rootfs"]["diff_ids"].as_array().unwrap())
    {
        let blob = &files[layer.as_str().unwrap()];
        let media_type = if blob.starts_with(&[0x1f, 0x8b]) {
            "gzip"
        } else {
            "tar"
        };
        assert_eq!(*diff_id, sha256(&Layer::read(media_type, blob).tar));
    }
}

#[test]
fn tar_and_local_are_the_flattened_files() {
    let rig = Rig::new();
    rig.dockerfile(&format!("{DOCKERFILE}\nRUN rm -r /home"));
    rig.build(&[
        "-o",
        &to(&rig, "type=tar", "root.tar"),
        "-o",
        &to(&rig, "type=local", "root"),
    ])
    .succeeds();
    let entries = entries_of(&fs::read(rig.path("root.tar")).unwrap());
    let paths: Vec<_> = entries.iter().map(|(path, _)| &**path).collect();
    assert!(paths.contains(&"d/f") && paths.contains(&"bin/busybox"));
    assert!(!paths.contains(&"home"), "removed files are not there");
    assert!(!paths.iter().any(|path| path.contains(".wh.")), "{paths:?}");

    let file = rig.path("root/d/f");
    assert_eq!(fs::read_to_string(&file).unwrap(), "text\n");
    let metadata = fs::metadata(&file).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o640);
    assert_eq!(
        metadata.uid(),
        host::uid(),
        "files of a local output are the caller's"
    );
    assert_eq!(fs::read_link(rig.path("root/d/l")).unwrap(), Path::new("f"));
    assert!(!rig.path("root/home").exists());
}

#[test]
fn a_bare_path_is_a_local_output_and_a_dash_a_tar_on_standard_output() {
    let rig = Rig::new();
    rig.dockerfile(DOCKERFILE);
    rig.build(&["-o", rig.path("out").to_str().unwrap()])
        .succeeds();
    assert!(rig.path("out/d/f").exists());
    let streamed = rig.build(&["-o", "-"]).succeeds();
    assert!(
        entries_of(&streamed.stdout)
            .iter()
            .any(|(path, _)| path == "d/f")
    );
}

#[test]
fn archives_can_be_streamed() {
    let rig = Rig::new();
    rig.dockerfile(DOCKERFILE);
    let streamed = rig.build(&["-o", "type=oci,dest=-"]).succeeds();
    assert_eq!(Image::from_archive(&streamed.stdout).text("d/f"), "text\n");
}

#[test]
fn cacheonly_writes_nothing() {
    let rig = Rig::new();
    rig.dockerfile(DOCKERFILE);
    rig.build(&["-t", "unwanted", "-o", "type=cacheonly"])
        .succeeds();
    assert!(rig.build(&[]).succeeds().step("/d/l").is_cached());
}

#[test]
fn the_id_and_the_metadata_are_written_to_files() {
    let rig = Rig::new();
    rig.dockerfile(DOCKERFILE);
    let (iid, metadata) = (rig.path("iid"), rig.path("metadata.json"));
    let outcome = rig
        .build(&[
            "-t",
            "app",
            "--iidfile",
            iid.to_str().unwrap(),
            "--metadata-file",
            metadata.to_str().unwrap(),
            "-o",
            &to(&rig, "type=oci", "image.tar"),
        ])
        .succeeds();
    assert_eq!(
        fs::read_to_string(iid).unwrap(),
        outcome.id(),
        "no newline, as docker writes it"
    );
    let metadata = json(&fs::read(metadata).unwrap());
    let image = Image::open(&rig.path("image.tar"));
    assert_eq!(metadata["containerimage.config.digest"], image.id);
    assert_eq!(metadata["containerimage.digest"], image.manifest_digest);
    assert_eq!(
        metadata["containerimage.descriptor"]["digest"],
        image.manifest_digest
    );
    assert!(
        metadata["image.name"]
            .as_str()
            .unwrap()
            .ends_with("app:latest"),
        "{metadata}"
    );
}

#[test]
fn a_failed_build_leaves_no_output() {
    let rig = Rig::new();
    rig.dockerfile("FROM base\nRUN false");
    let iid = rig.path("iid");
    rig.build(&[
        "-o",
        &to(&rig, "type=oci", "image.tar"),
        "--iidfile",
        iid.to_str().unwrap(),
    ])
    .exits_with(1);
    assert!(!rig.path("image.tar").exists() && !iid.exists());
    let left: Vec<_> = fs::read_dir(rig.path(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(
        !left
            .iter()
            .any(|name| name.to_string_lossy().contains("image.tar")),
        "{left:?}"
    );
}

#[test]
fn an_output_that_exists_is_replaced_only_by_a_finished_one() {
    let rig = Rig::new();
    fs::write(rig.path("image.tar"), "precious").unwrap();
    rig.dockerfile("FROM base\nRUN false");
    let output = to(&rig, "type=oci", "image.tar");
    rig.build(&["-o", &output]).exits_with(1);
    assert_eq!(
        fs::read_to_string(rig.path("image.tar")).unwrap(),
        "precious"
    );
    rig.image("FROM base\nRUN true");
}

#[test]
fn unknown_outputs_and_attributes_are_usage_errors() {
    let rig = Rig::new();
    rig.dockerfile(DOCKERFILE);
    for (output, needle) in [
        ("type=nonsense", "nonsense"),
        ("type=oci,dest=x,colour=red", "colour"),
        ("type=oci,dest=x,compression=lz4", "lz4"),
        ("type=oci,dest=x,compression-level=high", "high"),
        ("type=local", "dest"),
    ] {
        rig.build(&["-o", output]).exits_with(2).says(&[needle]);
    }
}

#[test]
fn skopeo_reads_the_archives() {
    if !host::tool("skopeo") {
        return;
    }
    let rig = Rig::new();
    rig.dockerfile(DOCKERFILE);
    rig.build(&[
        "-t",
        "app",
        "-o",
        &to(&rig, "type=oci", "oci.tar"),
        "-o",
        &to(&rig, "type=oci,compression=zstd", "zstd.tar"),
        "-o",
        &to(&rig, "type=docker", "docker.tar"),
    ])
    .succeeds();
    for source in [
        "oci-archive:oci.tar",
        "oci-archive:zstd.tar",
        "docker-archive:docker.tar",
    ] {
        let copy = rig.path("copy");
        // Copying verifies every digest and, unlike inspecting, reads every layer.
        host::stdout_of(
            Command::new("skopeo")
                .args(["--insecure-policy", "--tmpdir=."])
                .args(["copy", "-q", source])
                .arg(format!("dir:{}", copy.display()))
                .current_dir(rig.path("")),
        );
        fs::remove_dir_all(copy).unwrap();
    }
}

#[test]
fn umoci_unpacks_the_layout() {
    if !host::tool("umoci") {
        return;
    }
    let rig = Rig::new();
    rig.dockerfile(DOCKERFILE);
    rig.build(&["-t", "app", "-o", &to(&rig, "type=oci,tar=false", "layout")])
        .succeeds();
    let bundle = rig.path("bundle");
    let mut umoci = Command::new("umoci");
    umoci
        .args(["unpack", "--image"])
        .arg(format!("{}:latest", rig.path("layout").display()));
    if !host::is_root() {
        umoci.arg("--rootless");
    }
    host::stdout_of(umoci.arg(&bundle));
    assert_eq!(
        fs::read_to_string(bundle.join("rootfs/d/f")).unwrap(),
        "text\n"
    );
}
