//! Platforms: the arguments that tell them, images of other architectures, and what can run here.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::rig::Rig;
use crate::rig::image::{Image, json as parse};
use crate::rig::registry::Registry;

const HOST: &str = if cfg!(target_arch = "x86_64") {
    "linux/amd64"
} else {
    "linux/arm64"
};
/// An architecture that no machine under test has.
const FOREIGN: &str = "linux/s390x";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn host_architecture() -> &'static str {
    HOST.trim_start_matches("linux/")
}

/// Whether some RUN for s390x could work here: then its refusal cannot be shown.
fn emulated() -> bool {
    Path::new("/proc/sys/fs/binfmt_misc/qemu-s390x").exists()
}

fn label(rig: &Rig, dockerfile: &str, options: &[&str]) -> String {
    let image = rig.image_with(dockerfile, options);
    image.setting("Labels")["v"].as_str().unwrap().to_owned()
}

/// A layout with an image for each of the platforms under one name: `/platform` tells its own.
fn layout_of(rig: &Rig, platforms: &[&str]) -> String {
    let layout = rig.path("several");
    let mut manifests = Vec::new();
    for platform in platforms {
        let one = rig.path(&platform.replace('/', "-"));
        rig.write("platform", platform);
        rig.dockerfile("FROM scratch\nCOPY platform /platform\nENV OF=$OF");
        let output = format!("type=oci,tar=false,dest={}", one.display());
        rig.build(&["--platform", platform, "-o", &output])
            .succeeds();
        let mut index = parse(&fs::read(one.join("index.json")).unwrap());
        manifests.push(index["manifests"][0].take());
        let blobs = layout.join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        for blob in fs::read_dir(one.join("blobs/sha256")).unwrap() {
            let blob = blob.unwrap();
            fs::copy(blob.path(), blobs.join(blob.file_name())).unwrap();
        }
        fs::copy(one.join("oci-layout"), layout.join("oci-layout")).unwrap();
    }
    for manifest in &mut manifests {
        manifest.as_object_mut().unwrap().remove("annotations");
    }
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
    fs::write(layout.join("index.json"), index.to_string()).unwrap();
    layout.display().to_string()
}

/// Serves a layout's images as `team/app:v1`, one index.
fn serve(layout: &str) -> Registry {
    let registry = Registry::start();
    let layout = Path::new(layout);
    let index = fs::read(layout.join("index.json")).unwrap();
    registry.set_manifest("team/app", "v1", INDEX, &index);
    let manifests = parse(&index)["manifests"].take();
    for blob in fs::read_dir(layout.join("blobs/sha256")).unwrap() {
        let blob = blob.unwrap();
        let digest = format!("sha256:{}", blob.file_name().to_str().unwrap());
        let bytes = fs::read(blob.path()).unwrap();
        let of = |manifest: &&Value| manifest["digest"] == *digest;
        match manifests.as_array().unwrap().iter().find(of) {
            Some(manifest) => {
                let kind = manifest["mediaType"].as_str().unwrap();
                registry.set_manifest("team/app", &digest, kind, &bytes);
            }
            None => registry.set_blob("team/app", &digest, &bytes),
        }
    }
    registry
}

#[test]
fn the_arguments_of_a_platform_tell_all_of_it() {
    const NAMES: &str = "PLATFORM OS OSVERSION ARCH VARIANT";
    let rig = Rig::empty();
    let host = format!("{HOST}|linux||{}|", host_architecture());
    for (platform, target) in [
        (None, host.as_str()),
        (Some("local"), host.as_str()),
        (Some("linux/s390x"), "linux/s390x|linux||s390x|"),
        (Some("linux/arm"), "linux/arm/v7|linux||arm|v7"),
        (Some("linux/arm/v6"), "linux/arm/v6|linux||arm|v6"),
        (Some("linux/arm64/v8"), "linux/arm64|linux||arm64|"),
        (Some("linux/aarch64"), "linux/arm64|linux||arm64|"),
        (
            Some("windows(10.0.1)/amd64"),
            "windows(10.0.1)/amd64|windows|10.0.1|amd64|",
        ),
    ] {
        for (prefix, expected) in [("TARGET", target), ("BUILD", host.as_str())] {
            let names: Vec<String> = NAMES
                .split(' ')
                .map(|name| format!("{prefix}{name}"))
                .collect();
            let words: Vec<String> = names.iter().map(|name| format!("${name}")).collect();
            let dockerfile = format!(
                "FROM scratch\nARG {}\nLABEL v=\"{}\"",
                names.join(" "),
                words.join("|")
            );
            let options: Vec<&str> = platform
                .into_iter()
                .flat_map(|p| ["--platform", p])
                .collect();
            let found = label(&rig, &dockerfile, &options);
            assert_eq!(found, expected, "{platform:?} {prefix}");
        }
    }
}

#[test]
fn platform_arguments_are_global_can_be_replaced_and_have_to_be_declared() {
    let rig = Rig::empty();
    for (dockerfile, options, expected) in [
        ("FROM scratch\nLABEL v=\"$TARGETARCH\"", &[][..], ""),
        (
            "FROM scratch\nARG TARGETARCH\nLABEL v=$TARGETARCH",
            &["--build-arg=TARGETARCH=mine"],
            "mine",
        ),
        (
            "FROM scratch\nARG TARGETARCH=default\nLABEL v=$TARGETARCH",
            &["--platform=linux/s390x"],
            "default",
        ),
        (
            "ARG X=${TARGETOS}-${TARGETARCH}\nFROM scratch\nARG X\nLABEL v=$X",
            &["--platform=linux/s390x"],
            "linux-s390x",
        ),
        (
            "FROM scratch AS a-s390x\nLABEL v=right\nFROM scratch AS a-amd64\nLABEL v=wrong\n\
             FROM a-${TARGETARCH}",
            &["--platform=linux/s390x"],
            "right",
        ),
        (
            "FROM scratch\nARG TARGETSTAGE\nLABEL v=$TARGETSTAGE",
            &[],
            "default",
        ),
        (
            "FROM scratch AS last\nARG TARGETSTAGE\nLABEL v=$TARGETSTAGE",
            &[],
            "last",
        ),
        (
            "FROM scratch AS one\nARG TARGETSTAGE\nLABEL v=$TARGETSTAGE\nFROM scratch AS two",
            &["--target=one"],
            "one",
        ),
        (
            "FROM scratch\nARG TARGETSTAGE\nLABEL v=$TARGETSTAGE",
            &["--build-arg=TARGETSTAGE=mine"],
            "mine",
        ),
    ] {
        assert_eq!(label(&rig, dockerfile, options), expected, "{dockerfile}");
    }
}

#[test]
fn the_image_is_for_the_platform_that_was_asked_for() {
    let rig = Rig::new();
    for (platform, architecture, variant) in [
        ("linux/s390x", "s390x", Value::Null),
        ("linux/arm/v6", "arm", json!("v6")),
        ("linux/arm64/v8", "arm64", Value::Null),
        ("linux/amd64/v1", "amd64", Value::Null),
    ] {
        let image = rig.image_with("FROM scratch\nLABEL a=b", &["--platform", platform]);
        assert_eq!(image.config["architecture"], architecture, "{platform}");
        assert_eq!(image.config["os"], "linux");
        assert_eq!(image.config["variant"], variant, "{platform}");
    }
    // A stage's own platform does not count for an empty one, and the build's is this machine's.
    let image = rig.image("FROM --platform=linux/s390x scratch\nLABEL a=b");
    assert_eq!(image.config["architecture"], host_architecture());
}

#[test]
fn the_platform_may_come_from_dockers_variable() {
    let rig = Rig::empty();
    rig.dockerfile("FROM scratch\nLABEL a=b");
    let archive = rig.path("image.tar");
    let output = format!("type=oci,dest={}", archive.display());
    for (option, architecture) in [(&[][..], "s390x"), (&["--platform=linux/arm64"], "arm64")] {
        let mut command = rig.build_command(&[option, &["-o", &output]].concat());
        command.env("DOCKER_DEFAULT_PLATFORM", "linux/s390x");
        crate::rig::outcome::Outcome::of(&mut command).succeeds();
        assert_eq!(Image::open(&archive).config["architecture"], architecture);
    }
}

#[test]
fn a_foreign_base_is_chosen_from_an_index() {
    let rig = Rig::new();
    let layout = layout_of(&rig, &["linux/arm64", "linux/amd64", FOREIGN]);
    let registry = serve(&layout);
    let served = format!("{}/team/app:v1", registry.host());
    let context = format!("several=oci-layout://{layout}");
    for base in ["several", &served] {
        let build = |from: &str, options: &[&str]| {
            let all = [&["--build-context", &context], options].concat();
            rig.image_with(&format!("{from}\nLABEL a=b"), &all)
        };
        let image = build(&format!("FROM {base}"), &["--platform", FOREIGN]);
        assert_eq!(image.text("platform"), FOREIGN, "{base}");
        assert_eq!(image.config["architecture"], "s390x");
        // Without --platform the image is what its base is.
        let image = build(&format!("FROM --platform={FOREIGN} {base}"), &[]);
        assert_eq!(image.text("platform"), FOREIGN);
        assert_eq!(image.config["architecture"], "s390x");
        let image = build(&format!("FROM {base}"), &[]);
        assert_eq!(image.text("platform"), HOST);
        assert_eq!(image.config["architecture"], host_architecture());
        // The same name for two platforms in one build.
        let both = format!(
            "FROM --platform=$BUILDPLATFORM {base} AS own\nFROM {base}\n\
             COPY --from=own /platform /own"
        );
        let image = build(&both, &["--platform", FOREIGN]);
        assert_eq!(image.text("platform"), FOREIGN);
        assert_eq!(image.text("own"), HOST);
        // COPY --from an image takes the one of the build's platform.
        let copied = format!("FROM scratch\nCOPY --from={base} /platform /copied");
        let image = build(&copied, &["--platform", FOREIGN]);
        assert_eq!(image.text("copied"), FOREIGN);
    }
    rig.dockerfile(&format!("FROM {served}"));
    rig.build(&["--platform=linux/riscv64"])
        .exits_with(1)
        .says(&[
            "no image for linux/riscv64; there is linux/arm64, linux/amd64, linux/s390x",
            "Dockerfile:1",
        ]);
}

#[test]
fn a_run_that_nothing_here_can_start_is_refused_before_any_work() {
    if emulated() {
        crate::rig::host::skip("this machine runs s390x programs");
        return;
    }
    let rig = Rig::new();
    for (dockerfile, options, place) in [
        (
            "FROM base AS own\nRUN touch /x\nFROM --platform=linux/s390x base\nRUN true",
            &[][..],
            "Dockerfile:4",
        ),
        (
            "FROM base\nRUN true",
            &["--platform=linux/s390x"],
            "Dockerfile:2",
        ),
        (
            "FROM scratch AS a\nFROM a\nRUN [\"/x\"]",
            &["--platform=linux/s390x"],
            "Dockerfile:3",
        ),
    ] {
        rig.dockerfile(dockerfile);
        let before = rig.store_listing();
        rig.build(options).exits_with(1).says(&[
            "RUN for linux/s390x cannot be carried out",
            "no handler for s390x programs",
            "qemu-user-static",
            place,
        ]);
        assert_eq!(rig.store_listing(), before, "{dockerfile}");
    }
    // What the target does not need, and what only copies, needs no emulator.
    let image = rig.image(
        "FROM --platform=linux/s390x base AS foreign\nRUN false\n\
         FROM base AS target\nRUN touch /x",
    );
    assert!(image.has("x"));
    let image = rig.image_with(
        &format!("FROM --platform={HOST} base AS tool\nRUN echo made > /made\nFROM scratch\nWORKDIR /w\nCOPY --from=tool /made ."),
        &["--platform=linux/s390x"],
    );
    assert_eq!(image.text("w/made"), "made\n");
    assert_eq!(image.config["architecture"], "s390x");
}

#[test]
fn a_trigger_that_nothing_here_can_start_is_refused_too() {
    if emulated() {
        return;
    }
    let rig = Rig::new();
    let archive = rig.path("parent.tar");
    rig.dockerfile("FROM scratch\nONBUILD RUN true");
    let output = format!("type=oci,dest={}", archive.display());
    rig.build(&["--platform=linux/s390x", "-o", &output])
        .succeeds();
    rig.dockerfile("FROM parent");
    let context = format!("parent=oci-archive:{}", archive.display());
    rig.build(&["--platform=linux/s390x", "--build-context", &context])
        .exits_with(1)
        .says(&["RUN for linux/s390x cannot be carried out", "Dockerfile:1"]);
}

#[test]
fn an_image_of_another_platform_than_asked_for_is_warned_of() {
    let rig = Rig::new();
    let archive = rig.path("foreign.tar");
    rig.dockerfile("FROM scratch\nLABEL a=b");
    let output = format!("type=oci,dest={}", archive.display());
    rig.build(&["--platform=linux/s390x", "-o", &output])
        .succeeds();
    rig.dockerfile("FROM foreign\nLABEL c=d");
    let context = format!("foreign=oci-archive:{}", archive.display());
    rig.build(&["--build-context", &context]).succeeds().says(&[&format!(
        "InvalidBaseImagePlatform: Base image foreign was pulled with platform \"linux/s390x\", \
         expected \"{HOST}\" for current build"
    )]);
    let quiet = rig.build(&["--platform=linux/s390x", "--build-context", &context]);
    assert!(!quiet.succeeds().stderr.contains("InvalidBaseImagePlatform"));
}

#[test]
fn a_name_that_the_store_has_for_another_platform_is_not_taken() {
    let rig = Rig::new();
    // Nobody answers at this address.
    let name = "127.0.0.1:1/team/app:v1";
    rig.dockerfile("FROM scratch\nLABEL a=b");
    rig.build(&["--platform=linux/s390x", "-t", name])
        .succeeds();
    rig.dockerfile(&format!("FROM {name}\nLABEL c=d"));
    rig.build(&["--platform=linux/s390x"]).succeeds();
    rig.build(&[]).exits_with(1).says(&[
        &format!("the store has it for linux/s390x, not for {HOST}"),
        "Dockerfile:1",
    ]);
    rig.dockerfile("FROM --platform=linux/s390x base\nLABEL c=d");
    assert_ne!(rig.build(&[]).code, Some(0));
}

#[test]
fn a_pulled_foreign_image_does_not_displace_this_machines() {
    let rig = Rig::new();
    let registry = serve(&layout_of(&rig, &["linux/arm64", "linux/amd64", FOREIGN]));
    let dockerfile = format!("FROM {}/team/app:v1\nLABEL a=b", registry.host());
    rig.image(&dockerfile);
    rig.image_with(&dockerfile, &["--platform", FOREIGN]);
    let before = registry.requests().len();
    assert_eq!(rig.image(&dockerfile).text("platform"), HOST);
    assert_eq!(registry.requests().len(), before, "the store has it");
}

#[test]
fn the_platform_is_part_of_the_cache_key() {
    let rig = Rig::empty();
    rig.write("file", "x");
    rig.dockerfile("FROM scratch\nCOPY file /file\nWORKDIR /w");
    rig.build(&["--platform=linux/s390x"]).succeeds();
    let again = rig.build(&["--platform=linux/s390x"]).succeeds();
    assert!(again.is_cached("COPY file /file") && again.is_cached("WORKDIR /w"));
    let other = rig.build(&["--platform=linux/riscv64"]).succeeds();
    assert!(!other.is_cached("COPY file /file"));
}

#[test]
fn platforms_that_are_none_are_refused_with_their_reason() {
    let rig = Rig::new();
    rig.dockerfile("FROM scratch\nLABEL a=b");
    for (platform, why) in [
        ("linux/amd64,", "is an invalid component"),
        ("commodore", "unknown operating system or architecture"),
        ("a/b/c/d", "cannot parse platform specifier"),
        ("linux/", "is an invalid component"),
    ] {
        rig.build(&["--platform", platform])
            .exits_with(2)
            .says(&[why]);
    }
    for (dockerfile, says) in [
        (
            "FROM --platform=$TARGETPLATFROM scratch",
            &[
                "empty platform value from expression $TARGETPLATFROM",
                "did you mean TARGETPLATFORM?",
            ][..],
        ),
        (
            "FROM --platform=a/b/c/d scratch",
            &[
                "failed to parse platform a/b/c/d",
                "cannot parse platform specifier",
            ],
        ),
        (
            "FROM --platform=linux/$X/v1 scratch",
            &["failed to parse platform linux/$X/v1", "invalid component"],
        ),
    ] {
        rig.dockerfile(dockerfile);
        rig.build(&[])
            .exits_with(1)
            .says(&[says, &["Dockerfile:1"]].concat());
    }
}

#[test]
fn the_tag_of_a_foreign_image_names_that_image() {
    let rig = Rig::empty();
    let archive = rig.path("out.tar");
    rig.dockerfile("FROM scratch\nLABEL a=b");
    let output = format!("type=oci,dest={}", archive.display());
    rig.build(&["--platform=linux/arm/v6", "-t", "app", "-o", &output])
        .succeeds();
    let index = crate::rig::image::files_of(&fs::read(&archive).unwrap());
    let descriptor = parse(&index["index.json"])["manifests"][0].take();
    assert_eq!(
        descriptor["platform"],
        json!({"architecture": "arm", "os": "linux", "variant": "v6"})
    );
    assert_eq!(Image::open(&archive).config["variant"], "v6");
}
