//! The history of an image, as `docker history` users know it, and what of a base's configuration
//! is carried on.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::rig::Rig;
use crate::rig::image::{Image, json as parse};

/// The rows that the build added, as text and whether they have no layer.
fn own_rows(image: &Image, inherited: usize) -> Vec<(String, bool)> {
    let rows = image.config["history"].as_array().unwrap();
    rows[inherited..]
        .iter()
        .map(|row| {
            assert_eq!(row["comment"], "buildkit.dockerfile.v0");
            // Without any layer there is no time to give.
            assert!(
                row["created"].is_string() || image.layers.is_empty(),
                "{row}"
            );
            let text = row["created_by"].as_str().unwrap().to_owned();
            (text, row["empty_layer"] == true)
        })
        .collect()
}

#[test]
fn metadata_instructions_are_written_as_buildkit_writes_them() {
    for (instruction, row) in [
        ("ENV a=1 b=\"2 3\"", "ENV a=1 b=2 3"),
        ("ENV a 1 2", "ENV a=1 2"),
        ("ENV a=1\\\n    b=2", "ENV a=1 b=2"),
        ("LABEL a=1 \"b c\"=2", "LABEL a=1 b c=2"),
        (
            "MAINTAINER me <me@example.org>",
            "MAINTAINER me <me@example.org>",
        ),
        ("EXPOSE 80", "EXPOSE [80/tcp]"),
        // The words are sorted as they were written, ranges are not.
        ("EXPOSE 80 443/TCP 53/udp", "EXPOSE [443/tcp 53/udp 80/tcp]"),
        ("EXPOSE 9-11", "EXPOSE [9/tcp 10/tcp 11/tcp]"),
        ("VOLUME /a /b", "VOLUME [/a /b]"),
        ("VOLUME [\"/a b\"]", "VOLUME [/a b]"),
        ("USER app:staff", "USER app:staff"),
        ("WORKDIR /", "WORKDIR /"),
        ("STOPSIGNAL SIGUSR1", "STOPSIGNAL SIGUSR1"),
        ("SHELL [\"/bin/bash\", \"-c\"]", "SHELL [/bin/bash -c]"),
        ("CMD [\"a\", \"b c\"]", "CMD [\"a\" \"b c\"]"),
        ("CMD a \"b\"", "CMD [\"/bin/sh\" \"-c\" \"a \\\"b\\\"\"]"),
        ("CMD []", "CMD []"),
        ("ENTRYPOINT [\"/e\"]", "ENTRYPOINT [\"/e\"]"),
        ("ENTRYPOINT []", "ENTRYPOINT []"),
        (
            "HEALTHCHECK --interval=5s --timeout=1m30s --retries=3 CMD check me",
            "HEALTHCHECK {Test:[CMD-SHELL check me] Interval:5s Timeout:1m30s StartPeriod:0s \
             StartInterval:0s Retries:3}",
        ),
        (
            "HEALTHCHECK NONE",
            "HEALTHCHECK {Test:[NONE] Interval:0s Timeout:0s StartPeriod:0s StartInterval:0s \
             Retries:0}",
        ),
        ("ARG a", "ARG a"),
        ("ARG a=1 b c=", "ARG a=1 b c="),
        ("ARG TARGETOS", "ARG TARGETOS=linux"),
    ] {
        let rig = Rig::empty();
        let image = rig.image(&format!("FROM scratch\n{instruction}"));
        let expected = vec![(row.to_owned(), true)];
        assert_eq!(own_rows(&image, 0), expected, "{instruction}");
    }
}

#[test]
fn onbuild_has_no_row() {
    let rig = Rig::empty();
    let image = rig.image("FROM scratch\nONBUILD RUN x\nLABEL a=b");
    assert_eq!(own_rows(&image, 0), [("LABEL a=b".to_owned(), true)]);
}

#[test]
fn steps_that_make_layers_are_written_as_buildkit_writes_them() {
    let rig = Rig::new();
    rig.write("file", "").write("other", "");
    for (instructions, rows) in [
        ("RUN true", &["RUN /bin/sh -c true # buildkit"][..]),
        ("RUN [\"echo\", \"a b\"]", &["RUN echo a b # buildkit"]),
        (
            "RUN <<EOF\necho a\necho b\nEOF",
            &["RUN /bin/sh -c echo a\necho b\n # buildkit"],
        ),
        (
            "RUN cat <<EOF > /x\nbody\nEOF",
            &["RUN /bin/sh -c cat <<EOF > /x\nbody\nEOF # buildkit"],
        ),
        (
            "RUN <<EOF\n#!/bin/sh\ntrue\nEOF",
            &["RUN /dev/pipes/EOF # buildkit"],
        ),
        (
            "SHELL [\"/bin/sh\", \"-e\", \"-c\"]\nRUN true",
            &["SHELL [/bin/sh -e -c]", "RUN /bin/sh -e -c true # buildkit"],
        ),
        (
            "ARG a=1 b\nENV a=2\nRUN true",
            &[
                "ARG a=1 b",
                "ENV a=2",
                "RUN |2 a=2 b= /bin/sh -c true # buildkit",
            ],
        ),
        ("COPY file other /d/", &["COPY file other /d/ # buildkit"]),
        (
            "COPY --chown=0:0 --chmod=600 file /f",
            &["COPY --chown=0:0 --chmod=600 file /f # buildkit"],
        ),
        (
            "COPY --from=base /etc/group /g",
            &["COPY /etc/group /g # buildkit"],
        ),
        ("COPY <<EOF /h\nx\nEOF", &["COPY <<EOF /h # buildkit"]),
        (
            "ARG f=file\nCOPY $f /$f",
            &["ARG f=file", "COPY file /file # buildkit"],
        ),
        ("ADD file /a", &["ADD file /a # buildkit"]),
        ("WORKDIR /w", &["WORKDIR /w"]),
        ("WORKDIR /w\nWORKDIR x", &["WORKDIR /w", "WORKDIR /w/x"]),
    ] {
        let image = rig.image(&format!("FROM base\n{instructions}"));
        let texts: Vec<String> = own_rows(&image, 1).into_iter().map(|row| row.0).collect();
        assert_eq!(texts, rows, "{instructions}");
        let rows = image.config["history"].as_array().unwrap();
        let layers = rows.iter().filter(|row| row["empty_layer"] != true).count();
        assert_eq!(layers, image.layers.len(), "{instructions}");
    }
}

#[test]
fn a_directory_that_is_there_makes_no_layer() {
    let rig = Rig::new();
    let image = rig.image("FROM base\nWORKDIR /etc\nWORKDIR /");
    assert_eq!(
        own_rows(&image, 1),
        [
            ("WORKDIR /etc".to_owned(), true),
            ("WORKDIR /".to_owned(), true)
        ]
    );
}

#[test]
fn stages_give_their_rows_to_those_on_them() {
    let rig = Rig::new();
    let image = rig.image("FROM base AS a\nENV x=1\nFROM a AS b\nARG y=2\nFROM b\nRUN true");
    let texts: Vec<String> = own_rows(&image, 1).into_iter().map(|row| row.0).collect();
    assert_eq!(
        texts,
        [
            "ENV x=1",
            "ARG y=2",
            "RUN |1 y=2 /bin/sh -c true # buildkit"
        ]
    );
}

#[test]
fn rows_without_a_layer_have_the_time_of_the_layers_around_them() {
    let rig = Rig::new();
    let image = rig.image("FROM base\nENV a=1\nRUN touch /x\nENV b=2");
    let rows = image.config["history"].as_array().unwrap();
    let time = |row: usize| rows[row]["created"].as_str().unwrap();
    assert_eq!(time(0), "2014-05-13T16:53:20Z");
    assert_ne!(time(1), time(0));
    assert_eq!([time(1), time(3)], [time(2), time(2)]);
    assert_eq!(image.config["created"], time(3));
    // Nothing was made: the image is as old as its base.
    let image = rig.image("FROM base\nENV a=1");
    assert_eq!(image.config["created"], "2014-05-13T16:53:20Z");
    // An epoch bounds the base's rows too.
    let image = rig.image_with(
        "FROM base\nENV a=1\nRUN touch /y",
        &["--build-arg=SOURCE_DATE_EPOCH=1000000000"],
    );
    for row in image.config["history"].as_array().unwrap() {
        assert_eq!(row["created"], "2001-09-09T01:46:40Z", "{row}");
    }
    assert_eq!(image.config["created"], "2001-09-09T01:46:40Z");
}

/// A layout whose image has this configuration and no layers.
fn layout(rig: &Rig, config: &Value) -> String {
    let directory = rig.path("made");
    let blobs = directory.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: Vec<u8>, kind: &str| {
        let digest = crate::rig::image::sha256(&bytes);
        fs::write(blobs.join(digest.trim_start_matches("sha256:")), &bytes).unwrap();
        json!({"mediaType": kind, "digest": digest, "size": bytes.len()})
    };
    let config = put(
        config.to_string().into_bytes(),
        "application/vnd.oci.image.config.v1+json",
    );
    let manifest_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest =
        json!({"schemaVersion": 2, "mediaType": manifest_type, "config": config, "layers": []});
    let manifest = put(manifest.to_string().into_bytes(), manifest_type);
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    fs::write(directory.join("index.json"), index.to_string()).unwrap();
    let version = json!({"imageLayoutVersion": "1.0.0"});
    fs::write(directory.join("oci-layout"), version.to_string()).unwrap();
    directory.display().to_string()
}

#[test]
fn everything_of_the_bases_configuration_is_carried_on() {
    let architecture = if cfg!(target_arch = "x86_64") {
        "amd64"
    } else {
        "arm64"
    };
    let base = json!({
        "created": "2020-02-02T02:02:02Z", "author": "somebody",
        "architecture": architecture, "os": "linux", "os.version": "1.2", "x.future": {"a": [1]},
        "moby.buildkit.buildinfo.v1": "old", "moby.buildkit.cache.v0": {"layers": []},
        "config": {
            "User": "app", "WorkingDir": "/srv//app/", "Env": ["Z=1", "A=2", "Z2=3"],
            "Entrypoint": ["/e"], "Cmd": ["c"], "Labels": {"l": "1"},
            "ExposedPorts": {"80/tcp": {}}, "Volumes": {"/v": {}},
            "Healthcheck": {"Test": ["CMD", "x"], "Interval": 1, "Future": true},
            "Shell": ["/bin/ash", "-c"], "StopSignal": "SIGQUIT", "StopTimeout": 3,
            "ArgsEscaped": true, "OnBuild": ["LABEL triggered=yes"], "XFuture": "kept"
        },
        "rootfs": {"type": "layers", "diff_ids": []},
        "history": [{"created": "2020-02-02T02:02:02Z", "created_by": "theirs", "empty_layer": true,
                     "author": "them", "XFuture": 1}]
    });
    let rig = Rig::empty();
    let context = format!("made=oci-layout://{}", layout(&rig, &base));
    let image = rig.image_with("FROM made\nENV Z=9 N=4", &["--build-context", &context]);
    let mut expected = base.clone();
    for gone in ["moby.buildkit.buildinfo.v1", "moby.buildkit.cache.v0"] {
        expected.as_object_mut().unwrap().remove(gone);
    }
    let config = expected["config"].as_object_mut().unwrap();
    config.remove("OnBuild");
    config["WorkingDir"] = json!("/srv/app");
    config["Labels"] = json!({"l": "1", "triggered": "yes"});
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    config["Env"] = json!(["Z=9", "A=2", "Z2=3", path, "N=4"]);
    let row = |text: &str| {
        json!({"created": "2020-02-02T02:02:02Z", "created_by": text, "empty_layer": true,
               "comment": "buildkit.dockerfile.v0"})
    };
    let history = expected["history"].as_array_mut().unwrap();
    history.extend([row("LABEL triggered=yes"), row("ENV Z=9 N=4")]);
    assert_eq!(image.config, expected);
}

#[test]
fn the_members_of_the_configuration_are_sorted() {
    let rig = Rig::new();
    let archive = rig.path("image.tar");
    rig.dockerfile("FROM base\nLABEL z=1 a=2\nUSER root\nCMD x");
    rig.build(&["-o", &format!("type=oci,dest={}", archive.display())])
        .succeeds();
    let files = crate::rig::image::files_of(&fs::read(&archive).unwrap());
    let image = Image::open(Path::new(&archive));
    let bytes = &files[&format!("blobs/{}", image.id.replace(':', "/"))];
    // The test's own parser sorts, so writing again gives the same bytes.
    assert_eq!(parse(bytes).to_string().as_bytes(), &bytes[..]);
}
