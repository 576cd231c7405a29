//! Layers that a manifest says are to be had elsewhere (CVE-2020-15157): nobody is asked but the registry,
//! and so no other server sees what the registry may.

use std::fs;

use serde_json::json;

use crate::rig::Rig;
use crate::rig::faulty::{Act, Faulty, digest_of};
use crate::rig::image::json as parse;
use crate::rig::outcome::Outcome;
use crate::rig::stand::{Stand, ok, pull};

/// `user:password`, as `docker login` keeps it.
const LOGIN: &str = "dXNlcjpwYXNzd29yZA==";

/// Answers only who has the password, and says so to everybody else.
fn lock(server: &Faulty) {
    server.fail(|heard| {
        let expected = format!("Basic {LOGIN}");
        if heard.headers.get("authorization") == Some(&expected) {
            return Act::Serve;
        }
        let challenge = (
            "WWW-Authenticate".to_owned(),
            "Basic realm=\"r\"".to_owned(),
        );
        Act::Answer(401, vec![challenge], Vec::new())
    });
}

#[test]
fn the_addresses_in_a_manifest_are_asked_for_nothing() {
    let stand = Stand::new();
    let elsewhere = Faulty::start();
    let layer = stand.server.blob(&stand.last()).unwrap();
    elsewhere.fail(move |_| ok(&layer));
    let original = parse(&stand.server.manifest("team/app", "v1").unwrap());
    let last = original["layers"].as_array().unwrap().len() - 1;
    stand.server.forget_blob(&stand.last());
    for (manifest_type, layer_type) in [
        (
            "application/vnd.docker.distribution.manifest.v2+json",
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        ),
        (
            "application/vnd.oci.image.manifest.v1+json",
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        ),
        (
            "application/vnd.oci.image.manifest.v1+json",
            "application/vnd.oci.image.layer.v1.tar+gzip",
        ),
    ] {
        let mut manifest = original.clone();
        manifest["mediaType"] = json!(manifest_type);
        manifest["layers"][last]["mediaType"] = json!(layer_type);
        manifest["layers"][last]["urls"] = json!([
            format!("http://{}/layer", elsewhere.host()),
            format!("http://user:password@localhost:{}/layer", elsewhere.port()),
        ]);
        manifest["config"]["urls"] = manifest["layers"][last]["urls"].clone();
        let bytes = manifest.to_string().into_bytes();
        let (server, digest) = (&stand.server, digest_of(&bytes));
        for name in ["v1", digest.as_str()] {
            server.set_manifest("team/app", name, manifest_type, &bytes);
        }
        lock(server);
        let rig = Rig::empty();
        fs::create_dir(rig.path("docker-config")).unwrap();
        let config = json!({"auths": {server.host(): {"auth": LOGIN}}}).to_string();
        fs::write(rig.path("docker-config/config.json"), config).unwrap();
        let outcome = Outcome::of(&mut pull(&rig, &stand.name()));
        assert_eq!(outcome.code, Some(1), "{layer_type}: {}", outcome.stderr);
        assert!(!outcome.stderr.contains("password"), "{}", outcome.stderr);
        assert!(!server.heard().is_empty());
        rig.dockerfile(&format!("FROM {}\nRUN true", stand.name()));
        rig.build(&[]).exits_with(1);
        let asked = elsewhere.heard();
        assert!(asked.is_empty(), "{layer_type}: {asked:?}");
    }
}
