//! Bases from a registry, one that serves well and one that does not.

use std::fs;

use serde_json::Value;

use crate::rig::Rig;
use crate::rig::image::{files_of, json};
use crate::rig::registry::{Access, Answer, Registry, blob_path};

const REPOSITORY: &str = "team/app";

/// A registry with an image of one own layer, and what is in it.
struct Served {
    registry: Registry,
    manifest_digest: String,
    layer_digest: String,
    layer: Vec<u8>,
}

impl Served {
    fn new() -> Self {
        let rig = Rig::new();
        rig.dockerfile("FROM base\nRUN echo pulled > /pulled\nENV FROM=registry");
        let archive = rig.path("image.tar");
        rig.build(&["-o", &format!("type=oci,dest={}", archive.display())])
            .succeeds();
        let files = files_of(&fs::read(archive).unwrap());
        let blob = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().unwrap().to_owned();
            let bytes = files[&format!("blobs/{}", digest.replace(':', "/"))].clone();
            (digest, bytes)
        };
        let index = json(&files["index.json"]);
        let descriptor = &index["manifests"][0];
        let media_type = descriptor["mediaType"].as_str().unwrap();
        let (manifest_digest, bytes) = blob(descriptor);
        let manifest = json(&bytes);
        let registry = Registry::start();
        for name in ["v1", &manifest_digest] {
            registry.set_manifest(REPOSITORY, name, media_type, &bytes);
        }
        let (digest, config) = blob(&manifest["config"]);
        registry.set_blob(REPOSITORY, &digest, &config);
        let mut last = (String::new(), Vec::new());
        for layer in manifest["layers"].as_array().unwrap() {
            last = blob(layer);
            registry.set_blob(REPOSITORY, &last.0, &last.1);
        }
        Self {
            registry,
            manifest_digest,
            layer_digest: last.0,
            layer: last.1,
        }
    }

    fn name(&self) -> String {
        format!("{}/{REPOSITORY}:v1", self.registry.host())
    }

    fn set_layer(&self, answer: Answer) {
        self.registry
            .set(&blob_path(REPOSITORY, &self.layer_digest), answer);
    }
}

#[test]
fn a_base_is_pulled_once_and_used_with_its_configuration() {
    let served = Served::new();
    let rig = Rig::empty();
    let dockerfile = format!(
        "FROM {}\nRUN test $FROM = registry && cat /pulled > /seen",
        served.name()
    );
    assert_eq!(rig.image(&dockerfile).text("seen"), "pulled\n");
    let layers_sent = || {
        let path = blob_path(REPOSITORY, &served.layer_digest);
        let requests = served.registry.requests();
        requests
            .iter()
            .filter(|request| request.path == path)
            .count()
    };
    assert_eq!(layers_sent(), 1);
    rig.build(&["--pull"]).succeeds();
    assert_eq!(
        layers_sent(),
        1,
        "a layer that is in the store is not fetched again"
    );
}

#[test]
fn an_image_to_run_is_pulled_once() {
    let served = Served::new();
    let rig = Rig::empty();
    let name = served.name();
    rig.run(&["--pull=never", &name, "true"])
        .exits_with(125)
        .says(&["no image"]);
    let outcome = rig.run(&[&name, "cat", "/pulled"]).succeeds();
    assert_eq!(outcome.stdout, b"pulled\n");
    assert!(outcome.stderr.contains("FROM"), "{}", outcome.stderr);
    let requests = served.registry.requests().len();
    let outcome = rig.run(&[&name, "cat", "/pulled"]).succeeds();
    assert_eq!(outcome.stderr, "", "nothing is said when it is there");
    assert_eq!(served.registry.requests().len(), requests);
    rig.run(&["-q", "--pull=always", &name, "true"]).succeeds();
    assert!(served.registry.requests().len() > requests);
}

#[test]
fn a_base_is_pulled_by_digest_and_one_that_lies_is_refused() {
    let served = Served::new();
    let rig = Rig::empty();
    let by_digest = format!(
        "{}/{REPOSITORY}@{}",
        served.registry.host(),
        served.manifest_digest
    );
    rig.image(&format!("FROM {by_digest}\nLABEL a=b"));
    served.registry.set_manifest(
        REPOSITORY,
        &served.manifest_digest,
        "application/vnd.oci.image.manifest.v1+json",
        br#"{"schemaVersion":2,"config":{},"layers":[]}"#,
    );
    refused(&by_digest);
}

/// That a build on `base` fails with code 1, names the base, and publishes nothing.
fn refused(base: &str) {
    let rig = Rig::new();
    let before = rig.store_listing();
    rig.dockerfile(&format!("FROM {base}\nRUN true"));
    let outcome = rig.build(&[]).exits_with(1).says(&[base]);
    assert_eq!(
        rig.store_listing(),
        before,
        "the store changed:\n{}",
        outcome.stderr
    );
}

#[test]
fn a_layer_that_is_not_what_its_digest_says_publishes_nothing() {
    let served = Served::new();
    let mut forged = served.layer.clone();
    *forged.last_mut().unwrap() ^= 1;
    served.set_layer(Answer::ok(&forged));
    refused(&served.name());
}

#[test]
fn a_layer_that_is_cut_off_publishes_nothing() {
    let served = Served::new();
    let mut cut = Answer::ok(&served.layer);
    cut.cut = Some(served.layer.len() / 2);
    served.set_layer(cut);
    refused(&served.name());
}

#[test]
fn a_layer_that_is_longer_than_announced_publishes_nothing() {
    let served = Served::new();
    let longer = [&served.layer[..], b"more"].concat();
    served.set_layer(Answer::ok(&longer));
    refused(&served.name());
}

#[test]
fn an_interrupted_transfer_is_taken_up_again() {
    let served = Served::new();
    let mut cut = Answer::ok(&served.layer);
    cut.cut = Some(served.layer.len() / 2);
    cut.ranges = true;
    served.set_layer(cut);
    let rig = Rig::empty();
    assert!(
        rig.image(&format!("FROM {}\nLABEL a=b", served.name()))
            .has("pulled")
    );
}

#[test]
fn a_busy_registry_is_asked_again() {
    let served = Served::new();
    let mut busy = Answer::ok(&served.layer);
    busy.busy = 1;
    served.set_layer(busy);
    let rig = Rig::empty();
    assert!(
        rig.image(&format!("FROM {}\nLABEL a=b", served.name()))
            .has("pulled")
    );
}

#[test]
fn names_that_are_unknown_and_registries_that_refuse_are_said() {
    let served = Served::new();
    refused(&format!(
        "{}/{REPOSITORY}:nosuchtag",
        served.registry.host()
    ));
    served
        .registry
        .set_access(Access::Basic("Basic bm9ib2R5Om5vdGhpbmc=".into()));
    refused(&served.name());
}

#[test]
fn credentials_come_from_dockers_configuration() {
    let served = Served::new();
    // user:password
    let encoded = "dXNlcjpwYXNzd29yZA==";
    let rig = Rig::empty();
    fs::create_dir(rig.path("docker-config")).unwrap();
    fs::write(
        rig.path("docker-config/config.json"),
        format!(
            r#"{{"auths":{{"{}":{{"auth":"{encoded}"}}}}}}"#,
            served.registry.host()
        ),
    )
    .unwrap();
    served
        .registry
        .set_access(Access::Basic(format!("Basic {encoded}")));
    assert!(
        rig.image(&format!("FROM {}\nLABEL a=b", served.name()))
            .has("pulled")
    );
    served.registry.set_access(Access::Token {
        token: "t0ken".into(),
        header: Some(format!("Basic {encoded}")),
    });
    let outcome = rig.build(&["--pull"]).succeeds();
    assert!(!outcome.stderr.contains("password") && !outcome.stderr.contains(encoded));
}
