//! Images go to registries, and come back to us and to other programs.

use std::fs;
use std::process::Command;

use crate::rig::distribution::{Distribution, log_in};
use crate::rig::faulty::{Faulty, digest_of};
use crate::rig::image::json;
use crate::rig::outcome::Outcome;
use crate::rig::{Rig, host};

#[test]
fn an_image_goes_to_docker_registry_over_tls_and_comes_back() {
    let rig = Rig::new();
    let Some(registry) = Distribution::start(&rig) else {
        return;
    };
    let name = registry.name("team/app:v1");
    rig.dockerfile("FROM base\nRUN echo pushed > /pushed");
    rig.build(&["-t", &name]).succeeds();
    registry
        .run(&rig, &["push", &name])
        .exits_with(1)
        .says(&["refuses access", "rbuild login"]);
    let refused = log_in(&registry, &rig, "wrong").exits_with(1);
    assert!(
        refused.stderr.contains("refuses these credentials"),
        "{}",
        refused.stderr
    );
    let done = log_in(&registry, &rig, "password").succeeds();
    assert_eq!(done.stdout, b"Login Succeeded\n");

    let pushed = registry.run(&rig, &["push", &name]).succeeds();
    pushed.says(&["The push refers to repository", ": Pushed"]);
    let again = registry
        .run(&rig, &["image", "push", "--digestfile", "digest", &name])
        .succeeds();
    let again = again.says(&["Layer already exists"]);
    let digest = fs::read_to_string(rig.path("digest")).unwrap();
    let line = format!("v1: digest: {digest} size: ");
    assert!(String::from_utf8_lossy(&again.stdout).starts_with(&line));

    let other = Rig::new();
    for file in ["docker-config", "registries.json"] {
        host::stdout_of(
            Command::new("cp")
                .arg("-r")
                .args([rig.path(file), other.path(file)]),
        );
    }
    let pulled = registry.run(&other, &["pull", &name]).succeeds();
    assert_eq!(String::from_utf8_lossy(&pulled.stdout), format!("{name}\n"));
    pulled.says(&[
        "v1: Pulling from team/app",
        ": Pull complete",
        &format!("Digest: {digest}"),
        "Status: Downloaded newer image for",
    ]);
    let again = registry.run(&other, &["image", "pull", &name]).succeeds();
    again.says(&[": Already exists", "Status: Image is up to date for"]);
    assert_eq!(
        other
            .image(&format!("FROM {name}\nRUN cp /pushed /seen"))
            .text("seen"),
        "pushed\n"
    );

    registry.run(&rig, &["logout", &registry.host()]).succeeds();
    registry.run(&rig, &["push", &name]).exits_with(1);
}

#[test]
fn other_programs_read_what_was_pushed_and_push_what_is_built_from() {
    if !host::tool("skopeo") {
        return;
    }
    let rig = Rig::new();
    let Some(registry) = Distribution::start(&rig) else {
        return;
    };
    log_in(&registry, &rig, "password").succeeds();
    let name = registry.name("team/app:v1");
    rig.dockerfile("FROM base\nRUN echo pushed > /pushed\nLABEL from=rbuild");
    let mut build = rig.build_command(&["--push", "-t", &name]);
    build.env("RBUILD_REGISTRIES", rig.path("registries.json"));
    Outcome::of(&mut build).succeeds();

    let authority = registry.authority(&rig);
    let remote = format!("docker://{name}");
    let inspected = registry.peer(
        &rig,
        "skopeo",
        &[
            "inspect",
            "--creds=user:password",
            "--cert-dir",
            &authority,
            &remote,
        ],
    );
    assert_eq!(json(&inspected)["Labels"]["from"], "rbuild");
    let copy = format!("docker://{}", registry.name("other/copy:v2"));
    registry.peer(
        &rig,
        "skopeo",
        &[
            "copy",
            "--policy",
            "policy.json",
            "--format=v2s2",
            "--src-creds=user:password",
            "--dest-creds=user:password",
            "--src-cert-dir",
            &authority,
            "--dest-cert-dir",
            &authority,
            &remote,
            &copy,
        ],
    );
    let other = registry.name("other/copy:v2");
    let mut build = rig.build_command(&["-t", "built"]);
    build.env("RBUILD_REGISTRIES", rig.path("registries.json"));
    rig.dockerfile(&format!("FROM {other}\nRUN test -s /pushed"));
    Outcome::of(&mut build).succeeds();
}

#[test]
fn podman_pulls_what_was_pushed() {
    if !host::maps_many_ids() || !host::tool("podman") {
        return;
    }
    let rig = Rig::new();
    let Some(registry) = Distribution::start(&rig) else {
        return;
    };
    log_in(&registry, &rig, "password").succeeds();
    let name = registry.name("team/app:v1");
    rig.dockerfile("FROM base\nRUN echo pushed > /pushed");
    rig.build(&["-t", &name]).succeeds();
    registry.run(&rig, &["push", &name]).succeeds();
    let authority = registry.authority(&rig);
    let store = rig.path("podman").display().to_string();
    let run = rig.path("podman-run").display().to_string();
    let places = ["--root", &store, "--runroot", &run, "--storage-driver=vfs"];
    let pull = [
        "pull",
        "--signature-policy=policy.json",
        "--creds=user:password",
        "--cert-dir",
        &authority,
        &name,
    ];
    let id = registry.peer(&rig, "podman", &[&places[..], &pull].concat());
    assert_eq!(String::from_utf8_lossy(&id).trim().len(), 64);
    let remove = ["unshare", "rm", "-rf", &store];
    registry.peer(&rig, "podman", &[&places[..], &remove].concat());
}

#[test]
fn an_archive_and_a_layout_are_pushed_as_they_are() {
    let server = Faulty::start();
    let rig = Rig::new();
    rig.dockerfile("FROM base\nRUN echo one > /one");
    rig.build(&[
        "-o",
        "type=oci,dest=image.tar",
        "-o",
        "type=oci,tar=false,dest=layout",
    ])
    .succeeds();
    for (from, tag) in [("oci-archive:image.tar", "a"), ("oci:layout", "b")] {
        let name = format!("{}/team/app:{tag}", server.host());
        rig.rbuild(["push", from, &name]).succeeds();
    }
    let pushed = server.manifest("team/app", "a").unwrap();
    assert_eq!(server.manifest("team/app", "b").unwrap(), pushed);
    rig.rbuild(["push", "dir:layout", "x"])
        .exits_with(2)
        .says(&["is neither oci:DIR"]);
    rig.rbuild(["push", "nosuchimage"])
        .exits_with(1)
        .says(&["there is no image"]);
}

#[test]
fn a_layer_that_another_repository_has_is_mounted() {
    let server = Faulty::start();
    let rig = Rig::new();
    rig.dockerfile("FROM base\nRUN echo one > /one");
    let (first, second) = (
        format!("{}/team/app:v1", server.host()),
        format!("{}/other/app:v1", server.host()),
    );
    rig.build(&["-t", &first, "-t", &second]).succeeds();
    rig.rbuild(["push", &first]).succeeds();
    rig.rbuild(["push", &second])
        .succeeds()
        .says(&["Mounted from team/app"]);
}

#[test]
fn every_tag_of_a_repository_is_pushed() {
    let server = Faulty::start();
    let rig = Rig::new();
    rig.dockerfile("FROM base\nLABEL a=b");
    let name = format!("{}/team/app", server.host());
    let tags = [format!("{name}:v1"), format!("{name}:v2")];
    rig.build(&["-t", &tags[0], "-t", &tags[1]]).succeeds();
    let quiet = rig.rbuild(["push", "-q", "--all-tags", &name]).succeeds();
    assert_eq!(
        String::from_utf8_lossy(&quiet.stdout),
        format!("{}\n{}\n", tags[0], tags[1])
    );
    assert_eq!(quiet.stderr, "");
    assert!(server.manifest("team/app", "v1").is_some());
    assert!(server.manifest("team/app", "v2").is_some());
}

#[test]
fn a_build_pushes_by_name_and_by_digest() {
    let server = Faulty::start();
    let rig = Rig::new();
    rig.dockerfile("FROM base\nLABEL a=b");
    let name = format!("{}/team/app", server.host());
    let output = format!("type=image,name={name},push=true,push-by-digest=true");
    rig.build(&["-o", &output, "--metadata-file", "metadata.json"])
        .succeeds();
    assert!(server.manifest("team/app", "latest").is_none());
    let metadata = json(&fs::read(rig.path("metadata.json")).unwrap());
    let digest = metadata["containerimage.digest"].as_str().unwrap();
    let bytes = server.manifest("team/app", digest).unwrap();
    assert_eq!(digest_of(&bytes), digest);
    rig.build(&["-o", &format!("type=registry,name={name}:v3")])
        .succeeds();
    assert!(server.manifest("team/app", "v3").is_some());
    rig.build(&["--push"]).exits_with(2).says(&["needs a name"]);
}

#[test]
fn images_for_two_platforms_are_joined_and_pushed() {
    let server = Faulty::start();
    let rig = Rig::new();
    rig.dockerfile("FROM scratch\nCOPY Dockerfile /");
    let name = |tag: &str| format!("{}/team/app:{tag}", server.host());
    for arch in ["amd64", "arm64"] {
        let platform = format!("--platform=linux/{arch}");
        rig.build(&[&platform, "-t", &name(arch)]).succeeds();
    }
    rig.rbuild(["push", &name("arm64")]).succeeds();
    let other = Rig::empty();
    other.dockerfile("FROM scratch\nCOPY Dockerfile /");
    other
        .build(&["--platform=linux/amd64", "-t", &name("amd64")])
        .succeeds();
    let joined = other.rbuild([
        "manifest",
        "create",
        &name("all"),
        &name("amd64"),
        &name("arm64"),
    ]);
    let joined = joined.succeeds();
    let pushed = other.rbuild(["manifest", "push", &name("all")]).succeeds();
    assert_eq!(joined.stdout, pushed.stdout);
    let index = json(&server.manifest("team/app", "all").unwrap());
    let platforms: Vec<&str> = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["platform"]["architecture"].as_str().unwrap())
        .collect();
    assert_eq!(platforms, ["amd64", "arm64"]);
    let third = Rig::empty();
    third
        .rbuild(["pull", "--platform=linux/arm64", &name("all")])
        .succeeds();
    other
        .rbuild(["manifest", "create", "x", &name("all"), &name("amd64")])
        .exits_with(1)
        .says(&["is the second image for linux/amd64"]);
}

#[test]
fn credentials_come_from_a_helper_and_from_podmans_file() {
    use std::os::unix::fs::PermissionsExt as _;
    let server = Faulty::start();
    let rig = Rig::new();
    let name = format!("{}/team/app:v1", server.host());
    rig.dockerfile("FROM base\nLABEL a=b");
    rig.build(&["-t", &name]).succeeds();
    server.fail(
        |heard| match heard.headers.get("authorization").map(String::as_str) {
            // user:password
            Some("Basic dXNlcjpwYXNzd29yZA==") => crate::rig::faulty::Act::Serve,
            _ => crate::rig::faulty::Act::Answer(
                401,
                vec![("WWW-Authenticate".into(), "Basic realm=\"r\"".into())],
                Vec::new(),
            ),
        },
    );
    rig.rbuild(["push", &name])
        .exits_with(1)
        .says(&["refuses access"]);
    let file = rig.path("auth.json");
    let auth = format!(
        r#"{{"auths":{{"{}/team":{{"auth":"dXNlcjpwYXNzd29yZA=="}}}}}}"#,
        server.host()
    );
    fs::write(&file, auth).unwrap();
    Outcome::of(
        rig.command(["push", &name])
            .env("REGISTRY_AUTH_FILE", &file),
    )
    .succeeds();

    let programs = rig.path("bin");
    fs::create_dir(&programs).unwrap();
    fs::create_dir_all(rig.path("docker-config")).unwrap();
    fs::write(
        rig.path("docker-config/config.json"),
        r#"{"credsStore":"test"}"#,
    )
    .unwrap();
    let helper = programs.join("docker-credential-test");
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    for (script, code, words) in [
        (
            "echo '{\"Username\":\"user\",\"Secret\":\"password\"}'",
            0,
            "Pushed",
        ),
        (
            "echo 'credentials not found in native keychain'; exit 1",
            1,
            "refuses access",
        ),
        ("echo hunter2; exit 1", 1, "docker-credential-test failed"),
        ("echo hunter2", 1, "answered in an unknown way"),
    ] {
        fs::write(&helper, format!("#!/bin/sh\ncat >/dev/null\n{script}\n")).unwrap();
        fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
        let outcome = Outcome::of(rig.command(["push", &name]).env("PATH", &path)).exits_with(code);
        if code != 0 {
            let outcome = outcome.says(&[words]);
            assert!(!outcome.stderr.contains("hunter2"), "{}", outcome.stderr);
        }
    }
}
