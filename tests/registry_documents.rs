//! Documents of a registry that are not what their headers say (CVE-2021-41190), and tokens without an end
//! (CVE-2020-1702).

use serde_json::json;

use crate::rig::Rig;
use crate::rig::faulty::{Act, digest_of};
use crate::rig::forged::descriptor;
use crate::rig::image::json as parse;
use crate::rig::outcome::Outcome;
use crate::rig::stand::{Stand, ok, pull};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER: &str = "application/vnd.docker.distribution.manifest.v2+json";
const LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// The id of the image that a new store gets.
fn pulled_id(stand: &Stand) -> String {
    let rig = Rig::empty();
    Outcome::of(&mut pull(&rig, &stand.name())).succeeds();
    let ids = rig.rbuild(["images", "-q", "--no-trunc"]).succeeds().stdout;
    String::from_utf8(ids).unwrap()
}

#[test]
fn a_header_does_not_make_one_document_two() {
    let stand = Stand::new();
    let expected = pulled_id(&stand);
    let manifest = stand.server.manifest("team/app", "v1").unwrap();
    let mut entry = descriptor(MANIFEST, &manifest);
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        _ => "arm64",
    };
    entry["platform"] = json!({"os": "linux", "architecture": architecture});
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry.clone()]});
    for header in [
        MANIFEST,
        INDEX,
        DOCKER,
        LIST,
        "application/json",
        "text/html",
    ] {
        for body in [manifest.clone(), index.to_string().into_bytes()] {
            stand.server.set_manifest("team/app", "v1", header, &body);
            assert_eq!(pulled_id(&stand), expected, "{header}");
        }
    }
    // What is both is neither, whatever the header says.
    let mut both = parse(&manifest);
    both["manifests"] = json!([entry]);
    for inner in [
        json!(MANIFEST),
        json!(INDEX),
        json!(null),
        json!("application/json"),
    ] {
        both["mediaType"] = inner.clone();
        if inner.is_null() {
            both.as_object_mut().unwrap().remove("mediaType");
        }
        let bytes = both.to_string().into_bytes();
        for header in [MANIFEST, LIST] {
            for name in ["v1", &digest_of(&bytes)] {
                stand.server.set_manifest("team/app", name, header, &bytes);
            }
            stand.refused(&["the manifest"]);
        }
    }
}

#[test]
fn a_token_without_an_end_is_not_read_to_it() {
    let stand = Stand::new();
    let challenge = |host: &str| {
        let realm = format!("Bearer realm=\"http://{host}/token\",service=\"s\"");
        Act::Answer(401, vec![("WWW-Authenticate".into(), realm)], Vec::new())
    };
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
    let endless = [&head[..], b"\r\n{\"token\":\""].concat();
    let announced = [&head[..], b"Content-Length: 5242880\r\n\r\n{\"token\":\""].concat();
    for head in [endless, announced] {
        let host = stand.server.host();
        stand.server.fail(move |heard| {
            if heard.path.starts_with("/token") {
                Act::Forever(head.clone(), vec![b'x'; 1 << 16], 0)
            } else {
                challenge(&host)
            }
        });
        stand.refused(&["the token has more than the 4194304 bytes"]);
    }
    // A large one that ends is a token, though no header has room for it.
    let host = stand.server.host();
    let token = format!("{{\"token\":\"{}\"}}", "x".repeat(3 << 20)).into_bytes();
    stand.server.fail(move |heard| {
        if heard.path.starts_with("/token") {
            ok(&token)
        } else {
            challenge(&host)
        }
    });
    let rig = Rig::empty();
    let outcome = Outcome::of(&mut pull(&rig, &stand.name())).exits_with(1);
    assert!(outcome.stderr.len() < 10_000, "{}", outcome.stderr.len());
}
