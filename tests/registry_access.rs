//! Who is let in by a registry, and with what: tokens, certificates, programs.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::rig::Rig;
use crate::rig::distribution::{Distribution, log_in};
use crate::rig::faulty::{Act, Faulty, Heard};
use crate::rig::outcome::Outcome;
use crate::rig::stand::{Stand, ok, pull};

fn with_configuration(rig: &Rig, config: &str) {
    fs::create_dir_all(rig.path("docker-config")).unwrap();
    fs::write(rig.path("docker-config/config.json"), config).unwrap();
}

/// A server that lets in whoever has the token that `current` gives, and sends others to `/token`.
fn token_wall(
    server: &Faulty,
    current: impl Fn() -> String + Send + Sync + 'static,
    token: impl Fn(&Heard) -> Act + Send + Sync + 'static,
) -> impl Fn(&Heard) -> Act + Send + Sync + 'static {
    let challenge = format!(
        "Bearer realm=\"http://{}/token\",service=\"registry\"",
        server.host()
    );
    move |heard| {
        let shown = heard.headers.get("authorization");
        if heard.path.starts_with("/token") {
            token(heard)
        } else if shown == Some(&format!("Bearer {}", current())) {
            Act::Serve
        } else {
            let header = ("WWW-Authenticate".to_owned(), challenge.clone());
            Act::Answer(401, vec![header], Vec::new())
        }
    }
}

#[test]
fn an_identity_token_is_exchanged_for_an_access_token() {
    let stand = Stand::new();
    let exchange = |heard: &Heard| {
        if heard.method == "POST" && !heard.headers.contains_key("authorization") {
            ok(br#"{"access_token":"exchanged","expires_in":300}"#)
        } else {
            Act::Answer(401, Vec::new(), Vec::new())
        }
    };
    let wall = token_wall(&stand.server, || "exchanged".to_owned(), exchange);
    stand.server.fail(wall);
    let rig = Rig::empty();
    let host = stand.server.host();
    with_configuration(
        &rig,
        &format!(r#"{{"auths":{{"{host}":{{"auth":"dXNlcjo=","identitytoken":"r3fresh&1"}}}}}}"#),
    );
    Outcome::of(&mut pull(&rig, &stand.name())).succeeds();
    let heard = stand.server.heard();
    let form = heard.iter().find(|heard| heard.path == "/token").unwrap();
    assert_eq!(
        form.headers["content-type"],
        "application/x-www-form-urlencoded"
    );
    let body = String::from_utf8(form.body.clone()).unwrap();
    for field in [
        "grant_type=refresh_token",
        "refresh_token=r3fresh%261",
        "service=registry",
        "scope=repository%3Ateam%2Fapp%3Apull",
        "client_id=rbuild",
    ] {
        assert!(body.split('&').any(|part| part == field), "{body}");
    }
}

/// A wall whose token is another one from the first request on that `expires` is true of.
fn expiring(
    server: &Faulty,
    expires: impl Fn(&Heard) -> bool + Send + Sync + 'static,
) -> impl Fn(&Heard) -> Act + Send + Sync + 'static {
    let expired = Arc::new(AtomicBool::new(false));
    let known = Arc::clone(&expired);
    let name = move || format!("after-{}", known.load(Ordering::SeqCst));
    let current = name.clone();
    let wall = token_wall(server, current, move |_| {
        ok(format!(r#"{{"token":"{}","expires_in":3600}}"#, name()).as_bytes())
    });
    move |heard| {
        if expires(heard) {
            expired.store(true, Ordering::SeqCst);
        }
        wall(heard)
    }
}

#[test]
fn a_token_that_expires_on_the_way_is_replaced() {
    let stand = Stand::new();
    let last = stand.last();
    let is_last = move |heard: &Heard| heard.is("GET", &last);
    stand.server.fail(expiring(&stand.server, is_last));
    stand.pulled();
    let tokens = |server: &Faulty| {
        let heard = server.heard();
        let asked = heard
            .iter()
            .filter(|heard| heard.path.starts_with("/token"));
        asked.count()
    };
    assert!(tokens(&stand.server) > 1);

    for (method, part) in [
        ("POST", "/uploads/"),
        ("PATCH", "/uploads/"),
        ("PUT", "/uploads/"),
        ("PUT", "/manifests/"),
    ] {
        for layer in &stand.layers {
            stand.server.forget_blob(layer);
        }
        let expires = move |heard: &Heard| heard.is(method, part);
        stand.server.fail(expiring(&stand.server, expires));
        stand.rig.rbuild(["push", &stand.name()]).succeeds();
        assert!(tokens(&stand.server) > 1, "{method}");
        stand.server.fail(|_| Act::Serve);
        stand.pulled();
    }
}

#[test]
fn a_client_is_known_by_its_certificate() {
    let rig = Rig::new();
    let Some(registry) = Distribution::start_with(&rig, ", clientcas: [CA]", "") else {
        return;
    };
    let name = registry.name("team/app:v1");
    rig.dockerfile("FROM base\nLABEL a=b");
    rig.build(&["-t", &name]).succeeds();
    let refused = log_in(&registry, &rig, "password").exits_with(1);
    assert!(
        refused.stderr.contains("cannot be reached"),
        "{}",
        refused.stderr
    );
    // In TLS 1.3 the client is done before the server has looked at it: the alert comes with the first
    // answer, or too late.
    let reasons = [
        "BadCertificate",
        "connection was not ready",
        "connection closed",
    ];
    assert!(
        reasons.iter().any(|reason| refused.stderr.contains(reason)),
        "{}",
        refused.stderr
    );
    registry.certify_client(&rig);
    log_in(&registry, &rig, "password").succeeds();
    registry.run(&rig, &["push", &name]).succeeds();
    registry.run(&rig, &["pull", &name]).succeeds();

    // A certificate without its key.
    fs::remove_file(format!("{}/client.key", registry.authority(&rig))).unwrap();
    registry
        .run(&rig, &["pull", &name])
        .exits_with(1)
        .says(&["client.cert"]);
}

#[test]
fn an_authority_that_is_not_known_is_not_believed() {
    let rig = Rig::new();
    let Some(registry) = Distribution::start(&rig) else {
        return;
    };
    fs::remove_file(format!("{}/ca.crt", registry.authority(&rig))).unwrap();
    let name = registry.name("team/app:v1");
    let outcome = registry.run(&rig, &["pull", &name]).exits_with(1);
    outcome.says(&["cannot be reached", "certificate"]);
    fs::write(format!("{}/bad.crt", registry.authority(&rig)), "nonsense").unwrap();
    registry
        .run(&rig, &["pull", &name])
        .exits_with(1)
        .says(&["bad.crt"]);
}

#[test]
fn an_encrypted_registry_cannot_send_on_to_one_that_is_not() {
    let rig = Rig::new();
    let clear = Faulty::start();
    let more = format!(
        "middleware: {{storage: [{{name: redirect, options: {{baseurl: \"http://{}/\"}}}}]}}\n",
        clear.host()
    );
    let Some(registry) = Distribution::start_with(&rig, "", &more) else {
        return;
    };
    log_in(&registry, &rig, "password").succeeds();
    let name = registry.name("team/app:v1");
    rig.dockerfile("FROM base\nLABEL a=b");
    rig.build(&["-t", &name]).succeeds();
    registry.run(&rig, &["push", &name]).succeeds();
    let other = Rig::new();
    let before = other.store_listing();
    for file in ["docker-config", "registries.json"] {
        let mut copy = std::process::Command::new("cp");
        crate::rig::host::stdout_of(copy.arg("-r").args([rig.path(file), other.path(file)]));
    }
    let outcome = registry.run(&other, &["pull", &name]).exits_with(1);
    let outcome = outcome.says(&["go on at http://127.0.0.1, which is not encrypted"]);
    assert_eq!(
        outcome.stderr.matches("error: ").count(),
        1,
        "{}",
        outcome.stderr
    );
    assert_eq!(other.store_listing(), before);
    assert!(clear.heard().is_empty());
}

#[test]
fn a_helper_that_is_missing_or_writes_rubbish_is_named() {
    let stand = Stand::new();
    let rig = Rig::new();
    let programs = rig.path("bin");
    fs::create_dir(&programs).unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    with_configuration(&rig, r#"{"credsStore":"odd"}"#);
    let before = rig.store_listing();
    let refused = |words: &str| {
        let outcome = Outcome::of(pull(&rig, &stand.name()).env("PATH", &path));
        let outcome = outcome
            .exits_with(1)
            .says(&["docker-credential-odd", words]);
        assert_eq!(
            outcome.stderr.matches("error: ").count(),
            1,
            "{}",
            outcome.stderr
        );
        assert!(!outcome.stderr.contains("hunter2"), "{}", outcome.stderr);
        assert_eq!(rig.store_listing(), before);
    };
    refused("cannot be run: ");
    let helper = programs.join("docker-credential-odd");
    for (script, words) in [
        (
            "echo '{\"Username\":\"hunter2\"}'",
            "answered in an unknown way",
        ),
        ("printf '\\377\\000hunter2'", "answered in an unknown way"),
        ("yes hunter2 2>/dev/null", "failed"),
        ("kill -9 $$", "failed"),
    ] {
        fs::write(&helper, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
        refused(words);
    }
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o644)).unwrap();
    refused("cannot be run: ");
}
