//! Base images whose documents lie, or say what no honest builder says.

use std::ffi::OsStr;
use std::fs;

use serde_json::{Value, json};

use crate::rig::Rig;
use crate::rig::forged::{Forged, Layer, descriptor};
use crate::rig::image::Image;
use crate::rig::outcome::Outcome;

fn load(rig: &Rig) -> Outcome {
    let archive = rig.path("evil.tar");
    Outcome::bounded(&rig.command([OsStr::new("load"), OsStr::new("-i"), archive.as_os_str()]))
}

fn base() -> Forged {
    Forged::on_base(vec![Layer::new().file("added", "x").tar()])
}

/// Changes the manifest or configuration of [`base`]; both are written as they then are.
fn lying(config: impl FnOnce(&mut Value), manifest: impl FnOnce(&mut Value)) -> Vec<u8> {
    let forged = base();
    let mut document = forged.config();
    config(&mut document);
    let config = document.to_string().into_bytes();
    let mut document = forged.manifest(&config);
    manifest(&mut document);
    forged.archive_of(&config, document.to_string().as_bytes())
}

#[test]
fn documents_that_lie_are_refused() {
    let as_it_is = |_: &mut Value| {};
    let zeros = "0".repeat(64);
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    let huge = json!({"Env": ["A=".to_owned() + &"x".repeat(5 << 20)]});
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        (
            "a layer's size",
            lying(as_it_is, |m| m["layers"][1]["size"] = json!(7)),
            "",
        ),
        (
            "a layer's larger size",
            lying(as_it_is, |m| m["layers"][1]["size"] = json!(1_u64 << 40)),
            "",
        ),
        (
            "a negative size",
            lying(as_it_is, |m| m["layers"][1]["size"] = json!(-1)),
            "",
        ),
        (
            "a layer that is not there",
            lying(as_it_is, |m| {
                m["layers"][1]["digest"] = json!(format!("sha256:{zeros}"));
            }),
            "",
        ),
        (
            "a digest that is a path",
            lying(as_it_is, |m| {
                m["layers"][1]["digest"] = json!("sha256:../../../etc/passwd");
            }),
            "",
        ),
        (
            "a digest of no algorithm",
            lying(as_it_is, |m| {
                m["layers"][1]["digest"] = json!(format!("md5:{zeros}"));
            }),
            "",
        ),
        (
            "another layer's content",
            lying(
                |c| c["rootfs"]["diff_ids"][1] = json!(format!("sha256:{zeros}")),
                as_it_is,
            ),
            "",
        ),
        (
            "too few layers in the configuration",
            lying(
                |c| {
                    c["rootfs"]["diff_ids"].as_array_mut().unwrap().pop();
                },
                as_it_is,
            ),
            "lists 1 layers where the manifest lists 2",
        ),
        (
            "too many layers in the configuration",
            lying(
                |c| {
                    let first = c["rootfs"]["diff_ids"][0].clone();
                    c["rootfs"]["diff_ids"].as_array_mut().unwrap().push(first);
                },
                as_it_is,
            ),
            "lists 3 layers",
        ),
        (
            "no configuration",
            lying(as_it_is, |m| {
                m["config"]["digest"] = json!(format!("sha256:{zeros}"));
            }),
            "",
        ),
        (
            "a configuration of another kind",
            lying(as_it_is, |m| {
                m["config"]["mediaType"] = json!("application/vnd.cncf.helm.config.v1+json");
            }),
            "is not of a container image",
        ),
        (
            "a configuration larger than it says",
            lying(as_it_is, |m| m["config"]["size"] = json!(3)),
            "",
        ),
        (
            "a manifest and an index",
            lying(as_it_is, |m| m["manifests"] = json!([])),
            "both",
        ),
        (
            "the media type of an index",
            lying(as_it_is, |m| {
                m["mediaType"] = json!("application/vnd.oci.image.index.v1+json");
            }),
            "media type",
        ),
        (
            "schema version 1",
            lying(as_it_is, |m| m["schemaVersion"] = json!(1)),
            "version 1",
        ),
        (
            "layers that are a text",
            lying(as_it_is, |m| m["layers"] = json!("all")),
            "",
        ),
        (
            "a layer of an unknown kind",
            lying(as_it_is, |m| {
                m["layers"][1]["mediaType"] = json!("application/x-\u{1b}[2J");
            }),
            "",
        ),
        (
            "settings that are a text",
            lying(|c| c["config"] = json!("all"), as_it_is),
            "",
        ),
        (
            "a variable that is a number",
            lying(|c| c["config"]["Env"] = json!([1]), as_it_is),
            "",
        ),
        (
            "a configuration that is a list",
            lying(|c| *c = json!([]), as_it_is),
            "",
        ),
        (
            "a configuration beyond 4 MiB",
            lying(|c| c["config"] = huge, as_it_is),
            "4194304",
        ),
        (
            "a configuration of brackets",
            {
                let forged = base();
                let manifest = forged.manifest(deep.as_bytes()).to_string();
                forged.archive_of(deep.as_bytes(), manifest.as_bytes())
            },
            "not valid",
        ),
        (
            "a manifest of brackets",
            {
                let forged = base();
                forged.archive_of(b"{}", deep.as_bytes())
            },
            "not valid",
        ),
    ];
    let rig = Rig::empty();
    for (name, archive, error) in cases {
        let outcome = rig.build_on(&archive, "FROM evil\nRUN test -e /added");
        outcome.is_sane(name);
        // What a layer's media type says does not matter where its content is what it has to be.
        let is_harmless = name == "a layer of an unknown kind";
        assert!(
            outcome.code == Some(1) || is_harmless,
            "{name}: {}",
            outcome.stderr
        );
        assert!(outcome.stderr.contains(error), "{name}: {}", outcome.stderr);
        let outcome = load(&rig);
        outcome.is_sane(name);
        // The content of layers is looked at when they are unpacked.
        assert!(
            outcome.code == Some(1) || is_harmless,
            "load of {name}: {outcome:?}"
        );
    }
    // The one that is harmless, as it is and with a step on it.
    let listed = rig.rbuild(["images", "-q"]).succeeds();
    assert!(
        listed.stdout.len() <= 2 * "0123456789ab\n".len(),
        "{listed:?}"
    );
    rig.rbuild(["store", "check"]).exits_with(0);
}

#[test]
fn settings_that_mean_harm_do_none() {
    let rig = Rig::empty();
    let victim = rig.path("victim");
    fs::create_dir(&victim).unwrap();
    let outside = victim.to_str().unwrap();
    let run = "FROM evil\nRUN id > /id; pwd > /pwd";
    // The settings, the Dockerfile, and whether it is built.
    let cases: Vec<(&str, Value, &str, Option<bool>)> = vec![
        ("user 2^32", json!({"User": "4294967296"}), run, Some(false)),
        (
            "user 2^32 - 1",
            json!({"User": "4294967295"}),
            run,
            Some(false),
        ),
        (
            "user 2^64",
            json!({"User": "18446744073709551616"}),
            run,
            Some(false),
        ),
        ("user -1", json!({"User": "-1"}), run, Some(false)),
        (
            "group 2^32",
            json!({"User": "0:4294967296"}),
            run,
            Some(false),
        ),
        (
            "a user with a line feed",
            json!({"User": "app\nroot"}),
            run,
            Some(false),
        ),
        (
            "a user with a zero byte",
            json!({"User": "app\u{0}"}),
            run,
            Some(false),
        ),
        (
            "a user with escapes",
            json!({"User": "\u{1b}[2J"}),
            run,
            Some(false),
        ),
        ("three users", json!({"User": "0:0:0"}), run, Some(false)),
        (
            "no user before a group",
            json!({"User": ":0"}),
            run,
            Some(false),
        ),
        (
            "a directory above",
            json!({"WorkingDir": "../../../../../../.."}),
            run,
            Some(true),
        ),
        (
            "a directory of the host",
            json!({"WorkingDir": outside}),
            run,
            None,
        ),
        (
            "a directory with a zero byte",
            json!({"WorkingDir": "/a\u{0}b"}),
            run,
            Some(false),
        ),
        (
            "a long directory",
            json!({"WorkingDir": "/d".repeat(3000)}),
            run,
            Some(false),
        ),
        (
            "a descriptor",
            json!({"WorkingDir": "/proc/self/fd/8"}),
            run,
            None,
        ),
        (
            "a descriptor above",
            json!({"WorkingDir": "/proc/self/fd/8/../../../.."}),
            run,
            None,
        ),
        (
            "2 MiB of environment",
            json!({"Env": [format!("A={}", "x".repeat(2 << 20))]}),
            run,
            Some(false),
        ),
        (
            "much environment",
            json!({"Env": (0..20_000).map(|n| format!("A{n}={}", "x".repeat(100))).collect::<Vec<_>>()}),
            run,
            None,
        ),
        (
            "a variable without a value",
            json!({"Env": ["PATH=/bin", "A"]}),
            run,
            None,
        ),
        (
            "a variable without a name",
            json!({"Env": ["PATH=/bin", "=x", ""]}),
            run,
            None,
        ),
        (
            "a zero byte in a variable",
            json!({"Env": ["PATH=/bin", "A=\u{0}"]}),
            run,
            Some(false),
        ),
        (
            "a path to everywhere",
            json!({"Env": ["PATH=:..:/proc/self/cwd:/bin"]}),
            run,
            Some(true),
        ),
        (
            "a shell with a zero byte",
            json!({"Shell": ["/bin/sh\u{0}", "-c"]}),
            run,
            Some(false),
        ),
        (
            "an empty shell",
            json!({"Shell": ["", ""]}),
            run,
            Some(false),
        ),
        ("no shell", json!({"Shell": []}), run, None),
        (
            "a trigger that is no instruction",
            json!({"OnBuild": ["\u{1b}[2J"]}),
            run,
            Some(false),
        ),
        (
            "a trigger that begins anew",
            json!({"OnBuild": ["FROM scratch"]}),
            run,
            Some(false),
        ),
        (
            "a trigger of a trigger",
            json!({"OnBuild": ["ONBUILD RUN true"]}),
            run,
            Some(false),
        ),
        (
            "a trigger that reads outside",
            json!({"OnBuild": [format!("COPY ..{outside} /got")]}),
            run,
            Some(false),
        ),
        (
            "a trigger of two lines",
            json!({"OnBuild": ["RUN true\nRUN touch /second"]}),
            run,
            None,
        ),
        (
            "2,000 triggers that each name the next",
            json!({"OnBuild": (0..2000).map(|n| format!("ARG A{}=$A{n}$A{n}", n + 1)).collect::<Vec<_>>()}),
            run,
            None,
        ),
        (
            "a command with a zero byte",
            json!({"Cmd": ["a\u{0}b"], "Entrypoint": ["\u{0}"]}),
            run,
            None,
        ),
        (
            "a volume above",
            json!({"Volumes": {"../../..": {}, "": {}, "/a\u{0}b": {}, "/\u{1b}": {}}}),
            run,
            None,
        ),
        (
            "labels with escapes",
            json!({"Labels": {"\u{1b}[2J": "\u{7}"}}),
            run,
            None,
        ),
        (
            "strange ports and signals",
            json!({"ExposedPorts": {"-1/\u{1b}": {}}, "StopSignal": "\u{1b}"}),
            run,
            None,
        ),
    ];
    for (name, settings, dockerfile, is_built) in cases {
        let mut forged = base();
        forged.settings = json!({"Env": ["PATH=/bin"]});
        for (key, value) in settings.as_object().unwrap() {
            forged.settings[key] = value.clone();
        }
        let outcome = rig.build_on(&forged.archive(), dockerfile);
        outcome.is_sane(name);
        if let Some(is_built) = is_built {
            assert_eq!(
                outcome.code == Some(0),
                is_built,
                "{name}: {}",
                outcome.stderr
            );
        }
        assert_eq!(fs::read_dir(&victim).unwrap().count(), 0, "{name}");
        if outcome.code == Some(0) {
            let image = Image::open(&rig.path("image.tar"));
            assert!(image.text("id").starts_with("uid=0"), "{name}");
            let directory = image.text("pwd");
            assert!(
                directory.starts_with('/') && !directory.contains("unreachable"),
                "{name}: {directory}"
            );
        }
        // A command on the image itself, too.
        load(&rig).exits_with(0);
        let outcome = rig.run(&["--rm", "evil", "/bin/true"]);
        assert!(
            matches!(outcome.code, Some(0 | 125..=127)),
            "{name}: {outcome:?}"
        );
        assert!(!outcome.stderr.contains("panicked"), "{name}: {outcome:?}");
    }
}

#[test]
fn ten_thousand_layers_are_refused_at_once() {
    let forged = base();
    let mut config = forged.config();
    let diff_id = config["rootfs"]["diff_ids"][1].clone();
    config["rootfs"]["diff_ids"] = json!(vec![diff_id; 10_000]);
    let config = config.to_string().into_bytes();
    let mut manifest = forged.manifest(&config);
    manifest["layers"] = json!(vec![
        descriptor(
            "application/vnd.oci.image.layer.v1.tar",
            &forged.layers[1]
        );
        10_000
    ]);
    let archive = forged.archive_of(&config, manifest.to_string().as_bytes());
    let rig = Rig::empty();
    let outcome = rig.build_on(&archive, "FROM evil\nCOPY Dockerfile /");
    outcome.is_sane("10,000 layers");
    assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("500"), "{}", outcome.stderr);
}
