//! Registries that behave badly: the right result, or one error and a store as it was before.

use std::fs;

use crate::rig::Rig;
use crate::rig::faulty::{Act, Faulty, Heard};
use crate::rig::outcome::Outcome;
use crate::rig::stand::{Stand, configure, ok, on, pull};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

#[test]
fn bytes_with_another_digest_or_size_are_refused() {
    let stand = Stand::new();
    let layer = stand.server.blob(&stand.last()).unwrap();
    let mut forged = layer.clone();
    forged[20_000] ^= 1;
    let longer = [&layer[..], b"more"].concat();
    let shorter = layer[..layer.len() / 2].to_vec();
    for (bytes, words) in [
        (forged, "is not what its image says"),
        (longer, "more bytes than"),
        (shorter, "ended after"),
    ] {
        stand
            .server
            .fail(on("GET", &stand.last(), move || ok(&bytes)));
        stand.refused(&[words]);
    }
}

#[test]
fn a_body_without_an_end_is_read_to_the_announced_size() {
    let stand = Stand::new();
    let head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
    let endless = move || Act::Forever(head.to_vec(), vec![b' '; 1 << 16], 0);
    stand.server.fail(on("GET", &stand.last(), endless));
    stand.refused(&["more bytes than"]);
    stand.server.fail(on("GET", "/manifests/", endless));
    stand.refused(&["the manifest has more than the 4194304 bytes"]);
}

#[test]
fn a_manifest_of_a_gibibyte_is_not_read() {
    let stand = Stand::new();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 1 << 30);
    let huge = move || Act::Forever(head.clone().into_bytes(), vec![b' '; 1 << 16], 0);
    stand.server.fail(on("GET", "/manifests/", huge));
    stand.refused(&["the manifest has more than the 4194304 bytes"]);
}

#[test]
fn a_manifest_of_the_first_schema_is_refused_with_a_sentence() {
    let stand = Stand::new();
    let old = br#"{"schemaVersion":1,"fsLayers":[]}"#;
    stand.server.set_manifest("team/app", "v1", MANIFEST, old);
    stand.refused(&["has schema version 1, which registries gave up"]);
}

#[test]
fn a_registry_that_drips_or_says_nothing_is_given_up() {
    let stand = Stand::new();
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n";
    let drip = move || Act::Forever(head.to_vec(), b"x".to_vec(), 300);
    stand.server.fail(on("GET", &stand.last(), drip));
    stand.refused(&["nothing came for 1s"]);
    let silence = || Act::Forever(Vec::new(), Vec::new(), 300);
    stand.server.fail(on("GET", "/manifests/", silence));
    stand.refused(&["nothing came for 1s"]);
}

#[test]
fn lost_connections_are_made_again() {
    let stand = Stand::new();
    let every_tenth = |heard: &Heard| {
        if heard.number % 10 == 3 {
            Act::Reset
        } else {
            Act::Serve
        }
    };
    stand.server.fail(every_tenth);
    stand.pulled();
    for layer in &stand.layers {
        stand.server.forget_blob(layer);
    }
    stand.server.fail(every_tenth);
    stand.rig.rbuild(["push", &stand.name()]).succeeds();
    stand.pulled();
}

#[test]
fn a_busy_registry_is_left_alone_for_as_long_as_it_says() {
    let stand = Stand::new();
    stand.server.fail(|heard| match heard.number {
        0 | 2 => Act::Answer(429, vec![("Retry-After".into(), "1".into())], Vec::new()),
        _ => Act::Serve,
    });
    stand.pulled();
    stand.server.fail(|heard| match heard.number {
        0 => {
            let past = "Wed, 21 Oct 2015 07:28:00 GMT";
            Act::Answer(429, vec![("Retry-After".into(), past.into())], Vec::new())
        }
        _ => Act::Serve,
    });
    stand.pulled();
    stand
        .server
        .fail(|_| Act::Answer(429, vec![("Retry-After".into(), "0".into())], Vec::new()));
    stand.refused(&["answered: status 429"]);
    assert_eq!(stand.server.heard().len(), 4);
}

#[test]
fn a_registry_that_never_lets_in_is_asked_no_more() {
    let stand = Stand::new();
    let realm = format!(
        "Bearer realm=\"http://{}/token\",service=\"s\"",
        stand.server.host()
    );
    stand.server.fail(move |heard| {
        if heard.path.starts_with("/token") {
            ok(br#"{"token":"t"}"#)
        } else {
            Act::Answer(
                401,
                vec![("WWW-Authenticate".into(), realm.clone())],
                Vec::new(),
            )
        }
    });
    stand.refused(&["refuses access"]);
    assert!(
        stand.server.heard().len() <= 5,
        "{:?}",
        stand.server.heard()
    );
}

/// A rig whose docker configuration has a password for `host`.
fn with_password(host: &str) -> Rig {
    let rig = Rig::empty();
    fs::create_dir(rig.path("docker-config")).unwrap();
    let config = format!(r#"{{"auths":{{"{host}":{{"auth":"dXNlcjpwYXNzd29yZA=="}}}}}}"#);
    fs::write(rig.path("docker-config/config.json"), config).unwrap();
    rig
}

#[test]
fn a_token_server_on_another_host_sees_a_password_only_where_the_user_says() {
    let stand = Stand::new();
    let foreign = Faulty::start();
    foreign.fail(|heard| match heard.headers.get("authorization") {
        Some(_) => ok(br#"{"token":"good"}"#),
        None => Act::Answer(401, Vec::new(), Vec::new()),
    });
    // The same machine under another name.
    let realm = format!("Bearer realm=\"http://localhost:{}/token\"", foreign.port());
    stand.server.fail(
        move |heard| match heard.headers.get("authorization").map(String::as_str) {
            Some("Bearer good") => Act::Serve,
            _ => Act::Answer(
                401,
                vec![("WWW-Authenticate".into(), realm.clone())],
                Vec::new(),
            ),
        },
    );
    let rig = with_password(&stand.server.host());
    let outcome = Outcome::of(&mut pull(&rig, &stand.name())).exits_with(1);
    let outcome = outcome.says(&["refuses access", "token-hosts in registries.json"]);
    assert!(!outcome.stderr.contains("password"), "{}", outcome.stderr);
    let asked = foreign.heard();
    assert!(!asked.is_empty());
    assert!(
        asked
            .iter()
            .all(|heard| !heard.headers.contains_key("authorization"))
    );

    let mut command = rig.command(["pull", &stand.name()]);
    let host = stand.server.host();
    let text = format!(r#"{{"registries":{{"{host}":{{"token-hosts":["localhost"]}}}}}}"#);
    configure(&rig, &mut command, &text);
    Outcome::of(&mut command).succeeds();
}

#[test]
fn a_redirect_takes_no_credentials_along() {
    let stand = Stand::new();
    let elsewhere = Faulty::start();
    let layer = stand.server.blob(&stand.last()).unwrap();
    elsewhere.fail(move |_| ok(&layer));
    let location = format!("http://localhost:{}/signed", elsewhere.port());
    let last = stand.last();
    stand.server.fail(move |heard| {
        if !heard.headers.contains_key("authorization") {
            let challenge = ("WWW-Authenticate".into(), "Basic realm=\"r\"".into());
            Act::Answer(401, vec![challenge], Vec::new())
        } else if heard.is("GET", &last) {
            Act::Answer(307, vec![("Location".into(), location.clone())], Vec::new())
        } else {
            Act::Serve
        }
    });
    let rig = with_password(&stand.server.host());
    Outcome::of(&mut pull(&rig, &stand.name())).succeeds();
    let asked = elsewhere.heard();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].headers.get("authorization"), None);
}

#[test]
fn a_redirect_that_goes_round_ends() {
    let stand = Stand::new();
    let host = stand.server.host();
    stand.server.fail(on("GET", "/manifests/", move || {
        let location = format!("http://{host}/v2/team/app/manifests/v1");
        Act::Answer(302, vec![("Location".into(), location)], Vec::new())
    }));
    stand.refused(&["too many redirects"]);
}

#[test]
fn a_tag_that_moves_during_a_pull_gives_one_image() {
    let stand = Stand::new();
    let old = stand.server.manifest("team/app", "v1").unwrap();
    stand.rig.dockerfile("FROM base\nRUN echo moved > /moved");
    let moved = format!("{}/team/app:v2", stand.server.host());
    stand.rig.build(&["-t", &moved]).succeeds();
    stand.rig.rbuild(["push", &moved]).succeeds();
    let new = stand.server.manifest("team/app", "v2").unwrap();
    assert_ne!(old, new);
    // The first request for the tag gets one image, every later one the other.
    let asked = std::sync::atomic::AtomicBool::new(false);
    let first = old.clone();
    stand.server.fail(move |heard| {
        if !heard.is("GET", "/manifests/v1") {
            return Act::Serve;
        }
        let later = asked.swap(true, std::sync::atomic::Ordering::SeqCst);
        let headers = vec![("Content-Type".to_owned(), MANIFEST.to_owned())];
        Act::Answer(
            200,
            headers,
            if later { new.clone() } else { first.clone() },
        )
    });
    let rig = Rig::new();
    let digest = crate::rig::faulty::digest_of(&old);
    Outcome::of(&mut pull(&rig, &stand.name()))
        .succeeds()
        .says(&[&format!("Digest: {digest}")]);
    let by_tag = |heard: &&Heard| heard.is("GET", "/manifests/v1");
    assert_eq!(stand.server.heard().iter().filter(by_tag).count(), 1);
    rig.dockerfile(&format!(
        "FROM {}\nRUN test -s /large && test ! -e /moved",
        stand.name()
    ));
    rig.build(&[]).succeeds();
}

#[test]
fn layers_of_every_compression_and_both_kinds_of_manifest_are_pulled() {
    let server = Faulty::start();
    let rig = Rig::new();
    rig.dockerfile("FROM base\nRUN echo one > /one");
    for (tag, output) in [
        ("gzip", "type=image,push=true,compression=gzip"),
        ("zstd", "type=image,push=true,compression=zstd"),
        ("plain", "type=image,push=true,compression=uncompressed"),
        ("docker", "type=docker,dest=docker.tar"),
    ] {
        let name = format!("{}/team/app:{tag}", server.host());
        let output = match tag {
            "docker" => output.to_owned(),
            _ => format!("{output},name={name}"),
        };
        rig.build(&["-o", &output]).succeeds();
        if tag == "docker" {
            rig.rbuild(["push", "oci-archive:docker.tar", &name])
                .succeeds();
        }
        let manifest = crate::rig::image::json(&server.manifest("team/app", tag).unwrap());
        let layer = manifest["layers"].as_array().unwrap().last().unwrap();
        let kind = layer["mediaType"].as_str().unwrap().to_owned();
        let expected = match tag {
            "gzip" => "application/vnd.oci.image.layer.v1.tar+gzip",
            "zstd" => "application/vnd.oci.image.layer.v1.tar+zstd",
            "plain" => "application/vnd.oci.image.layer.v1.tar",
            _ => "application/vnd.docker.image.rootfs.diff.tar.gzip",
        };
        assert_eq!(kind, expected);
        let other = Rig::empty();
        Outcome::of(&mut pull(&other, &name)).succeeds();
        other.dockerfile(&format!("FROM {name}\nRUN test -s /one"));
        other.build(&[]).succeeds();
    }
}

#[test]
fn an_upload_that_broke_off_goes_on_where_it_did() {
    let stand = Stand::new();
    let last = stand.last();
    let bytes = stand.server.blob(&last).unwrap();
    stand.server.forget_blob(&last);
    let cut = std::sync::atomic::AtomicBool::new(false);
    stand.server.fail(move |heard| {
        let first = heard.method == "PATCH" && !cut.swap(true, std::sync::atomic::Ordering::SeqCst);
        if first {
            Act::CutUpload(100_000)
        } else {
            Act::Serve
        }
    });
    stand.rig.rbuild(["push", &stand.name()]).succeeds();
    assert!(stand.server.blob(&last).as_ref() == Some(&bytes));
    let heard = stand.server.heard();
    let ranges: Vec<_> = heard
        .iter()
        .filter(|heard| heard.method == "PATCH")
        .map(|heard| heard.headers.get("content-range").cloned())
        .collect();
    let rest = format!("100000-{}", bytes.len() - 1);
    assert_eq!(ranges, [None, Some(rest)]);
}

#[test]
fn an_upload_that_the_registry_forgot_begins_again() {
    let stand = Stand::new();
    let last = stand.last();
    stand.server.forget_blob(&last);
    let forgot = std::sync::atomic::AtomicBool::new(false);
    stand.server.fail(move |heard| {
        let first =
            heard.method == "PATCH" && !forgot.swap(true, std::sync::atomic::Ordering::SeqCst);
        if first {
            Act::ForgetUploads
        } else {
            Act::Serve
        }
    });
    stand.rig.rbuild(["push", &stand.name()]).succeeds();
    assert!(stand.server.blob(&last).is_some());
    stand.pulled();
}

#[test]
fn an_upload_whose_session_died_half_way_begins_again() {
    let stand = Stand::new();
    let last = stand.last();
    let bytes = stand.server.blob(&last).unwrap();
    stand.server.forget_blob(&last);
    let tries = std::sync::atomic::AtomicUsize::new(0);
    let next = move || tries.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    stand.server.fail(move |heard| match heard.method.as_str() {
        "PATCH" if next() == 0 => Act::CutUpload(100_000),
        "GET" if heard.path.contains("/uploads/") => Act::ForgetUploads,
        _ => Act::Serve,
    });
    stand.rig.rbuild(["push", &stand.name()]).succeeds();
    assert!(stand.server.blob(&last).as_ref() == Some(&bytes));
    let heard = stand.server.heard();
    let begun = heard.iter().filter(|heard| heard.is("POST", "/uploads/"));
    assert_eq!(begun.count(), 2);
}

#[test]
fn a_push_that_cannot_be_ends_with_one_error() {
    let stand = Stand::new();
    stand.server.forget_blob(&stand.last());
    stand.server.fail(on("PATCH", "/uploads/", || {
        Act::Answer(500, Vec::new(), Vec::new())
    }));
    let outcome = stand.rig.rbuild(["push", &stand.name()]).exits_with(1);
    let outcome = outcome.says(&["cannot push", "answered: status 500"]);
    assert_eq!(
        outcome.stderr.matches("error: ").count(),
        1,
        "{}",
        outcome.stderr
    );
    let manifests = |heard: &Heard| heard.is("PUT", "/manifests/");
    assert!(!stand.server.heard().iter().any(manifests));
}

#[test]
fn a_mirror_is_asked_first_and_the_registry_where_it_has_nothing() {
    let stand = Stand::new();
    let empty = Faulty::start();
    let rig = Rig::empty();
    let mut command = rig.command(["pull", &stand.name()]);
    let (host, mirror) = (stand.server.host(), empty.host());
    let text = format!(r#"{{"registries":{{"{host}":{{"mirrors":["{mirror}"]}}}}}}"#);
    configure(&rig, &mut command, &text);
    Outcome::of(&mut command).succeeds();
    assert!(empty.heard()[0].is("GET", "/v2/team/app/manifests/v1"));

    let rig = Rig::empty();
    let mut command = rig.command(["pull", "nowhere.test/team/app:v1"]);
    let text = format!(r#"{{"registries":{{"nowhere.test":{{"mirrors":["{host}"]}}}}}}"#);
    configure(&rig, &mut command, &text);
    let outcome = Outcome::of(&mut command).succeeds();
    assert_eq!(outcome.stdout, b"nowhere.test/team/app:v1\n");
}

#[test]
fn a_mirror_without_a_blob_or_without_a_server_is_passed_over() {
    let stand = Stand::new();
    let mirror = Faulty::start();
    let manifest = stand.server.manifest("team/app", "v1").unwrap();
    mirror.set_manifest("team/app", "v1", MANIFEST, &manifest);
    let (host, place) = (stand.server.host(), mirror.host());
    let text = format!(r#"{{"registries":{{"{host}":{{"mirrors":["{place}"]}}}}}}"#);
    let pull = || {
        let rig = Rig::empty();
        let mut command = rig.command(["pull", &stand.name()]);
        configure(&rig, &mut command, &text);
        Outcome::of(&mut command).succeeds();
    };
    let count = |heard: Vec<Heard>, part: &str| {
        let asked = heard.iter().filter(|heard| heard.is("GET", part));
        asked.count()
    };
    stand.server.fail(|_| Act::Serve);
    pull();
    assert_eq!(count(stand.server.heard(), "/manifests/"), 0);
    assert!(count(mirror.heard(), "/blobs/") >= stand.layers.len());
    assert!(count(stand.server.heard(), "/blobs/") >= stand.layers.len());

    mirror.fail(|_| Act::Reset);
    pull();
    assert_eq!(mirror.heard().len(), 4, "the tries of the first request");
}

#[test]
fn a_configuration_with_an_unknown_key_is_an_error() {
    let rig = Rig::empty();
    let mut command = rig.command(["pull", "127.0.0.1:1/a"]);
    configure(&rig, &mut command, r#"{"registry":{}}"#);
    Outcome::of(&mut command)
        .exits_with(1)
        .says(&["registries.json", "unknown field `registry`"]);
}
