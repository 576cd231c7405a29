//! One build for several platforms: the index, the outputs, and what the platforms share.

use std::fs;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::Value;

use crate::rig::Rig;
use crate::rig::faulty::{Faulty, digest_of};
use crate::rig::host;
use crate::rig::image::{Node, entries_of, json};

const TWO: &str = "--platform=linux/amd64,linux/s390x";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// `BUILDPLATFORM` of this machine, whose image is one of the two or neither.
const HOST: &str = if cfg!(target_arch = "x86_64") {
    "linux/amd64"
} else {
    "linux/arm64"
};

fn blob(layout: &Path, descriptor: &Value) -> Vec<u8> {
    let digest = descriptor["digest"].as_str().unwrap();
    let bytes = fs::read(layout.join(digest.replace("sha256:", "blobs/sha256/"))).unwrap();
    assert_eq!(digest_of(&bytes), digest);
    assert_eq!(descriptor["size"], bytes.len());
    bytes
}

/// The one entry of a layout, and the manifests of the index that it is.
fn index(layout: &Path) -> (Value, Vec<Value>) {
    let mut top = json(&fs::read(layout.join("index.json")).unwrap());
    assert_eq!(top["manifests"].as_array().unwrap().len(), 1);
    let entry = top["manifests"][0].take();
    assert_eq!(entry["mediaType"], INDEX);
    let mut index = json(&blob(layout, &entry));
    assert_eq!(index["mediaType"], INDEX);
    let Value::Array(manifests) = index["manifests"].take() else {
        panic!("no list of manifests");
    };
    (entry, manifests)
}

fn platform(descriptor: &Value) -> String {
    let part = |name: &str| descriptor["platform"][name].as_str().map(str::to_owned);
    let parts = ["os", "architecture", "variant"].map(part);
    parts.into_iter().flatten().collect::<Vec<_>>().join("/")
}

fn platforms(manifests: &[Value]) -> Vec<String> {
    manifests.iter().map(platform).collect()
}

const DOCKERFILE: &str = "FROM scratch\nARG TARGETPLATFORM TARGETARCH\nCOPY file-$TARGETARCH /file\n\
                          LABEL of=$TARGETPLATFORM";

fn rig() -> Rig {
    let rig = Rig::empty();
    for arch in ["amd64", "s390x", "arm"] {
        let name = format!("file-{arch}");
        rig.write(&name, arch);
        let file = fs::File::open(rig.context().join(name)).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_secs(1_400_000_000))
            .unwrap();
    }
    rig.dockerfile(DOCKERFILE);
    rig
}

#[test]
fn several_platforms_make_one_index_and_each_image_is_as_if_built_alone() {
    let rig = rig();
    let layout = rig.path("layout");
    let mut build = rig.build_command(&[
        TWO,
        "--platform=linux/arm/v6",
        "-t",
        "app:1",
        "--iidfile=iid",
        "--metadata-file=metadata.json",
        "-o",
        "type=oci,tar=false,dest=layout",
    ]);
    build.env("SOURCE_DATE_EPOCH", "1500000000");
    let outcome = crate::rig::outcome::Outcome::of(&mut build).succeeds();
    let (entry, manifests) = index(&layout);
    let expected = ["linux/amd64", "linux/s390x", "linux/arm/v6"];
    assert_eq!(platforms(&manifests), expected);
    let digest = entry["digest"].as_str().unwrap();
    assert_eq!(outcome.id(), digest);
    assert_eq!(fs::read_to_string(rig.path("iid")).unwrap(), digest);
    let metadata = json(&fs::read(rig.path("metadata.json")).unwrap());
    assert_eq!(metadata["containerimage.digest"], digest);
    assert_eq!(metadata["containerimage.descriptor"]["mediaType"], INDEX);
    assert!(metadata.get("containerimage.config.digest").is_none());
    assert_eq!(metadata["image.name"], "docker.io/library/app:1");
    let name = &entry["annotations"]["io.containerd.image.name"];
    assert_eq!(name, "docker.io/library/app:1");
    for (manifest, platform) in manifests.iter().zip(expected) {
        let alone = self::rig();
        let mut build = alone.build_command(&[
            "--platform",
            platform,
            "-o",
            "type=oci,tar=false,dest=layout",
        ]);
        build.env("SOURCE_DATE_EPOCH", "1500000000");
        crate::rig::outcome::Outcome::of(&mut build).succeeds();
        let top = json(&fs::read(alone.path("layout/index.json")).unwrap());
        assert_eq!(top["manifests"][0]["digest"], manifest["digest"]);
        let theirs = blob(&alone.path("layout"), &top["manifests"][0]);
        assert_eq!(blob(&layout, manifest), theirs, "{platform}");
        let config = json(&blob(&layout, &json(&theirs)["config"]));
        assert_eq!(config["config"]["Labels"]["of"], platform);
    }
}

#[test]
fn platforms_are_given_as_a_list_or_one_by_one_and_doubles_are_one() {
    let rig = rig();
    for options in [
        &["--platform=linux/amd64,linux/s390x"][..],
        &["--platform=linux/amd64", "--platform=linux/s390x"],
        &["--platform=linux/amd64, linux/x86_64,linux/s390x"],
    ] {
        drop(fs::remove_dir_all(rig.path("layout")));
        let output = ["-o", "type=oci,tar=false,dest=layout"];
        rig.build(&[options, &output].concat()).succeeds();
        let (_, manifests) = index(&rig.path("layout"));
        assert_eq!(platforms(&manifests), ["linux/amd64", "linux/s390x"]);
    }
    drop(fs::remove_dir_all(rig.path("layout")));
    rig.build(&[
        "--platform=linux/amd64,linux/amd64",
        "-o",
        "type=oci,tar=false,dest=layout",
    ])
    .succeeds();
    let top = json(&fs::read(rig.path("layout/index.json")).unwrap());
    let of_type = top["manifests"][0]["mediaType"].as_str().unwrap();
    assert!(of_type.contains("manifest"), "one platform makes no index");
    rig.build(&["--platform=linux/amd64,commodore"])
        .exits_with(2)
        .says(&["unknown operating system or architecture"]);
}

#[test]
fn files_of_several_platforms_are_below_a_directory_for_each() {
    let rig = rig();
    let three = ["--platform", "linux/amd64,linux/s390x,linux/arm/v7"];
    let outputs = ["-o", "type=local,dest=out", "-o", "type=tar,dest=out.tar"];
    let options = ["--iidfile=iid"];
    let outcome = rig
        .build(&[&three[..], &outputs, &options].concat())
        .succeeds();
    assert_eq!(outcome.stdout, b"", "there is no image to name");
    assert_eq!(fs::read_to_string(rig.path("iid")).unwrap(), "");
    let entries = entries_of(&fs::read(rig.path("out.tar")).unwrap());
    let names: Vec<&str> = entries.iter().map(|(name, _)| name.as_str()).collect();
    let expected = [
        "linux_amd64",
        "linux_amd64/file",
        "linux_s390x",
        "linux_s390x/file",
        "linux_arm_v7",
        "linux_arm_v7/file",
    ];
    assert_eq!(names, expected);
    let attributes = |(_, node): &(String, Node)| !node.xattrs.is_empty();
    assert!(!entries.iter().any(attributes), "overlayfs keeps its own");
    for (directory, content) in [
        ("linux_amd64", "amd64"),
        ("linux_s390x", "s390x"),
        ("linux_arm_v7", "arm"),
    ] {
        let file = rig.path("out").join(directory).join("file");
        assert_eq!(fs::read_to_string(file).unwrap(), content);
        let name = format!("{directory}/file");
        let (_, node) = entries.iter().find(|(there, _)| *there == name).unwrap();
        assert_eq!(node.content, content.as_bytes());
    }
    assert!(!rig.path("out/file").exists());
    rig.build(&["--platform=linux/amd64", "-o", "one"])
        .succeeds();
    assert!(rig.path("one/file").exists());
}

#[test]
fn the_docker_output_holds_one_platform_only() {
    let rig = rig();
    rig.build(&[TWO, "-o", "type=docker,dest=image.tar"])
        .exits_with(2)
        .says(&["docker exporter does not currently support exporting manifest lists"]);
    assert!(!rig.path("image.tar").exists());
    assert!(!rig.store().exists(), "nothing was begun");
}

#[test]
fn a_build_pushes_the_index_with_all_its_images() {
    let server = Faulty::start();
    let rig = rig();
    let name = format!("{}/team/app:v1", server.host());
    let outcome = rig.build(&[TWO, "-t", &name, "--push"]).succeeds();
    let pushed = server.manifest("team/app", "v1").unwrap();
    assert_eq!(digest_of(&pushed), outcome.id());
    let index = json(&pushed);
    assert_eq!(index["mediaType"], INDEX);
    for entry in index["manifests"].as_array().unwrap() {
        let digest = entry["digest"].as_str().unwrap();
        let manifest = json(&server.manifest("team/app", digest).unwrap());
        let layers = manifest["layers"].as_array().unwrap().iter();
        for blob in layers.chain([&manifest["config"]]) {
            assert!(server.blob(blob["digest"].as_str().unwrap()).is_some());
        }
    }
    let docker = format!(
        "type=registry,name={}/team/app:v2,oci-mediatypes=false",
        server.host()
    );
    rig.build(&[TWO, "-o", &docker]).succeeds();
    let index = json(&server.manifest("team/app", "v2").unwrap());
    let list = "application/vnd.docker.distribution.manifest.list.v2+json";
    assert_eq!(index["mediaType"], list);
    let of_type = index["manifests"][0]["mediaType"].as_str().unwrap();
    assert!(of_type.starts_with("application/vnd.docker"), "{of_type}");
    // Each machine pulls its own.
    let other = Rig::empty();
    other
        .rbuild(["pull", "--platform=linux/s390x", &name])
        .succeeds();
    let inspected = other
        .rbuild(["inspect", "-f", "{{.Architecture}}", &name])
        .succeeds();
    assert_eq!(inspected.stdout, b"s390x\n");
}

#[test]
fn progress_names_the_platforms() {
    let rig = rig();
    rig.dockerfile(
        "FROM --platform=$BUILDPLATFORM scratch AS common\nCOPY file-arm /\n\
         FROM scratch\nARG TARGETARCH\nCOPY --from=common /file-arm /\nWORKDIR /w",
    );
    let outcome = rig.build(&[TWO]).succeeds();
    for name in [
        "[linux/amd64 stage-1 1/2] COPY --from=common /file-arm /",
        "[linux/s390x stage-1 2/2] WORKDIR /w",
    ] {
        let names: Vec<String> = outcome.vertices().into_iter().map(|v| v.name).collect();
        assert!(names.iter().any(|there| there == name), "{names:#?}");
    }
    // A stage of this machine that builds for another one says so.
    let target = if HOST == "linux/amd64" {
        "arm64"
    } else {
        "amd64"
    };
    import_base(&rig, HOST, "own", "x");
    rig.dockerfile("FROM --platform=$BUILDPLATFORM own\nARG TARGETARCH\nCOPY file-arm /");
    let options = format!("--platform={HOST},linux/{target}");
    let outcome = rig.build(&[&options]).succeeds();
    outcome.says(&[
        &format!("[{HOST} internal] load metadata for own"),
        &format!("[{HOST} 1/2] FROM own"),
        &format!("[{HOST} 2/2] COPY file-arm /"),
        &format!("[{HOST}->{target} 2/2] COPY file-arm /"),
    ]);
}

/// An image of one file for a platform, by `rbuild import`.
fn import_base(rig: &Rig, platform: &str, name: &str, content: &str) {
    let tar = rig.path("one.tar");
    let mut builder = tar::Builder::new(fs::File::create(&tar).unwrap());
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    builder
        .append_data(&mut header, "base", content.as_bytes())
        .unwrap();
    builder.finish().unwrap();
    rig.rbuild(["import", "--platform", platform, "one.tar", name])
        .succeeds();
}

#[test]
fn platforms_share_the_stages_that_do_not_depend_on_them_and_no_others() {
    let rig = Rig::new();
    rig.write("file", "x");
    rig.dockerfile(
        "FROM --platform=$BUILDPLATFORM base AS tool\nRUN echo once-and-no-more; date +%N > /made\n\
         FROM --platform=$BUILDPLATFORM base AS cross\nARG TARGETARCH\nRUN echo for-$TARGETARCH > /made\n\
         FROM scratch\nCOPY --from=tool /made /tool\nCOPY --from=cross /made /cross\nCOPY file /",
    );
    for options in [&[TWO][..], &[TWO, "--no-cache"]] {
        let output = ["-o", "out"];
        let outcome = rig.build(&[options, &output].concat()).succeeds();
        let lines = outcome.stderr.lines();
        let ran = lines
            .filter(|line| line.ends_with("once-and-no-more"))
            .count();
        assert_eq!(ran, 1, "{options:?}\n{}", outcome.stderr);
        let read = |path: &str| fs::read_to_string(rig.path("out").join(path)).unwrap();
        assert_eq!(read("linux_amd64/tool"), read("linux_s390x/tool"));
        assert_eq!(read("linux_amd64/cross"), "for-amd64\n");
        assert_eq!(read("linux_s390x/cross"), "for-s390x\n");
        let copies = outcome.vertices().into_iter();
        let copies = copies.filter(|vertex| vertex.name.ends_with("COPY file /"));
        let cached: Vec<bool> = copies.map(|vertex| vertex.is_cached()).collect();
        assert_eq!(cached, [false, false], "each platform has its own layers");
    }
    let again = rig.build(&[TWO]).succeeds();
    assert!(again.is_cached("COPY file /"));
}

#[test]
fn each_platform_stands_on_its_own_base() {
    let rig = Rig::empty();
    for arch in ["amd64", "s390x"] {
        import_base(&rig, &format!("linux/{arch}"), arch, arch);
    }
    rig.rbuild(["manifest", "create", "both", "amd64", "s390x"])
        .succeeds();
    rig.write("file", "x");
    rig.dockerfile("FROM both\nCOPY file /");
    rig.build(&[TWO, "-o", "out", "-t", "mine"]).succeeds();
    for arch in ["amd64", "s390x"] {
        let file = rig.path(&format!("out/linux_{arch}/base"));
        assert_eq!(fs::read_to_string(file).unwrap(), arch);
    }
    // What was built is in turn a base for both.
    rig.dockerfile("FROM mine\nCOPY --from=mine /base /copied");
    rig.build(&[TWO, "-o", "second"]).succeeds();
    for arch in ["amd64", "s390x"] {
        for name in ["base", "copied", "file"] {
            let file = rig.path(&format!("second/linux_{arch}/{name}"));
            assert!(file.exists(), "{arch} {name}");
        }
        let copied = rig.path(&format!("second/linux_{arch}/copied"));
        assert_eq!(fs::read_to_string(copied).unwrap(), arch);
    }
    // And from a registry's index.
    let server = Faulty::start();
    let name = format!("{}/team/both:v1", server.host());
    rig.rbuild(["tag", "both", &name]).succeeds();
    rig.rbuild(["push", &name]).succeeds();
    let other = Rig::empty();
    other.dockerfile(&format!("FROM {name}\nLABEL a=b"));
    other.build(&[TWO, "-o", "out"]).succeeds();
    for arch in ["amd64", "s390x"] {
        let file = other.path(&format!("out/linux_{arch}/base"));
        assert_eq!(fs::read_to_string(file).unwrap(), arch);
    }
    // A platform that the base does not have ends the build before any step.
    let outcome = other.build(&["--platform=linux/amd64,linux/riscv64"]);
    outcome
        .exits_with(1)
        .says(&["no image for linux/riscv64; there is linux/amd64, linux/s390x"]);
}

#[test]
fn a_run_that_one_platform_cannot_have_ends_the_build_before_any_work() {
    if Path::new("/proc/sys/fs/binfmt_misc/qemu-s390x").exists() {
        return;
    }
    let rig = Rig::empty();
    rig.dockerfile("FROM scratch\nRUN true");
    let options = format!("--platform={HOST},linux/s390x");
    rig.build(&[&options])
        .exits_with(1)
        .says(&["Dockerfile:2", "linux/s390x"]);
    assert!(!rig.store().exists());
}

#[test]
fn archives_and_git_contexts_are_read_once_for_all_platforms() {
    let rig = rig();
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_dir_all(".", rig.context()).unwrap();
    let archive = tar.into_inner().unwrap();
    let options = [TWO, "-o", "out", "-"];
    rig.build_from_stdin(&options, &archive).succeeds();
    for arch in ["amd64", "s390x"] {
        let file = rig.path(&format!("out/linux_{arch}/file"));
        assert_eq!(fs::read_to_string(file).unwrap(), arch);
    }
}

#[test]
fn skopeo_reads_both_images_of_an_archive() {
    if !host::tool("skopeo") {
        return;
    }
    let rig = rig();
    rig.build(&[TWO, "-t", "app:1", "-o", "type=oci,dest=image.tar"])
        .succeeds();
    for arch in ["amd64", "s390x"] {
        let mut skopeo = std::process::Command::new("skopeo");
        skopeo
            .args(["--override-os=linux", &format!("--override-arch={arch}")])
            .args(["inspect", "--config", "oci-archive:image.tar:1"])
            .current_dir(rig.path(""));
        let config = json(&host::stdout_of(&mut skopeo));
        assert_eq!(config["architecture"], arch);
    }
    let mut skopeo = std::process::Command::new("skopeo");
    skopeo
        .args(["--insecure-policy", "copy", "-q", "--all"])
        .args(["oci-archive:image.tar:1", "oci:copied:1"])
        .current_dir(rig.path(""));
    host::stdout_of(&mut skopeo);
    let (_, manifests) = index(&rig.path("copied"));
    assert_eq!(platforms(&manifests), ["linux/amd64", "linux/s390x"]);
}

#[test]
fn findings_of_the_checks_are_told_once() {
    let rig = rig();
    rig.dockerfile("FROM scratch as a\nCOPY file-arm /");
    let outcome = rig.build(&[TWO]).succeeds();
    assert_eq!(outcome.stderr.matches("FromAsCasing").count(), 1);
    rig.dockerfile("FROM scratch\nCOPY file-arm /");
    let outcome = rig.build(&[TWO, "--build-arg", "UNUSED=1"]).succeeds();
    assert_eq!(outcome.stderr.matches("not consumed").count(), 1);
}

#[test]
fn one_platform_makes_an_index_when_it_is_asked_for() {
    let rig = rig();
    let wanted = "--build-arg=BUILDKIT_MULTI_PLATFORM=true";
    let one = "--platform=linux/amd64";
    let output = ["-o", "type=oci,tar=false,dest=layout", "-o", "out"];
    let outcome = rig
        .build(&[&[one, wanted], &output[..]].concat())
        .succeeds();
    let (entry, manifests) = index(&rig.path("layout"));
    assert_eq!(platforms(&manifests), ["linux/amd64"]);
    assert_eq!(entry["digest"], outcome.id());
    assert!(rig.path("out/linux_amd64/file").exists());
    outcome.says(&["[linux/amd64 1/1] COPY file-$TARGETARCH /file"]);
    rig.build(&[one, wanted, "-o", "type=docker,dest=x"])
        .exits_with(2);
    for value in ["false", "maybe"] {
        let wanted = format!("--build-arg=BUILDKIT_MULTI_PLATFORM={value}");
        rig.build(&[TWO, &wanted])
            .exits_with(2)
            .says(&["BUILDKIT_MULTI_PLATFORM"]);
    }
}
