//! Registries that behave badly: the right result, or one error and a store as it was before.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::rig::Rig;
use crate::rig::faulty::{Act, Faulty, Heard};
use crate::rig::image::json;
use crate::rig::outcome::Outcome;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A registry that has `team/app:v1`, an image of three layers of which the last is large.
struct Stand {
    server: Faulty,
    rig: Rig,
    layers: Vec<String>,
}

impl Stand {
    fn new() -> Self {
        let server = Faulty::start();
        let rig = Rig::new();
        rig.dockerfile("FROM base\nRUN echo one > /one\nRUN head -c 300000 /dev/urandom > /large");
        let name = format!("{}/team/app:v1", server.host());
        rig.build(&["-t", &name]).succeeds();
        rig.rbuild(["push", &name]).succeeds();
        let manifest = json(&server.manifest("team/app", "v1").unwrap());
        let layers = manifest["layers"].as_array().unwrap().iter();
        let digest = |layer: &Value| layer["digest"].as_str().unwrap().to_owned();
        let layers = layers.map(digest).collect();
        Self {
            server,
            rig,
            layers,
        }
    }

    fn name(&self) -> String {
        format!("{}/team/app:v1", self.server.host())
    }

    fn last(&self) -> String {
        self.layers.last().unwrap().clone()
    }

    /// That a pull fails with these words and one error, and leaves the store as it was.
    #[track_caller]
    fn refused(&self, words: &[&str]) {
        let rig = Rig::new();
        let before = rig.store_listing();
        let outcome = Outcome::of(&mut pull(&rig, &self.name()));
        let outcome = outcome.exits_with(1).says(words);
        let errors = outcome.stderr.matches("error: ").count();
        assert_eq!(errors, 1, "{}", outcome.stderr);
        assert_eq!(rig.store_listing(), before, "{}", outcome.stderr);
    }

    /// That a pull gives the image that was pushed.
    #[track_caller]
    fn pulled(&self) -> Rig {
        let rig = Rig::new();
        Outcome::of(&mut pull(&rig, &self.name())).succeeds();
        for layer in &self.layers {
            let path = format!("store/oci/blobs/{}", layer.replace(':', "/"));
            assert_eq!(fs::read(rig.path(&path)).ok(), self.server.blob(layer));
        }
        rig
    }
}

/// `rbuild pull` with a short patience.
fn pull(rig: &Rig, name: &str) -> Command {
    let mut command = rig.command(["pull", name]);
    configure(rig, &mut command, r#"{"stall-seconds": 1}"#);
    command
}

fn configure(rig: &Rig, command: &mut Command, text: &str) {
    let path = rig.path("registries.json");
    fs::write(&path, text).unwrap();
    command.env("RBUILD_REGISTRIES", path);
}

fn ok(body: &[u8]) -> Act {
    Act::Answer(200, Vec::new(), body.to_vec())
}

/// Gives `act` for every request with this method whose path has `part`.
fn on(
    method: &'static str,
    part: &str,
    act: impl Fn() -> Act + Send + Sync + 'static,
) -> impl Fn(&Heard) -> Act + Send + Sync + 'static {
    let part = part.to_owned();
    move |heard| {
        if heard.is(method, &part) {
            act()
        } else {
            Act::Serve
        }
    }
}

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
        stand.server.heard().len() <= 4,
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
    let rig = stand.pulled();
    let by_tag = |heard: &&Heard| heard.is("GET", "/manifests/v1");
    assert_eq!(stand.server.heard().iter().filter(by_tag).count(), 1);
    rig.dockerfile(&format!("FROM {}\nRUN test -s /large", stand.name()));
    rig.build(&[]).succeeds();
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
fn a_configuration_with_an_unknown_key_is_an_error() {
    let rig = Rig::empty();
    let mut command = rig.command(["pull", "127.0.0.1:1/a"]);
    configure(&rig, &mut command, r#"{"registry":{}}"#);
    Outcome::of(&mut command)
        .exits_with(1)
        .says(&["registries.json", "unknown field `registry`"]);
}
