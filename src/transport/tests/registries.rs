use std::io::Read as _;

use super::image::{Image, amd64, arm64, index};
use super::rig::{Access, Answer, Registry, blob_path};
use crate::oci::{Descriptor, Digest, Platform, media_type, parse_reference, to_json};
use crate::transport::error::Credentials;
use crate::transport::{Error, Options, Resolved, Source, body, registry};

const BASIC: &str = "Basic dXNlcjpwYXNz";

/// A registry that serves `image` as `app:v1`.
fn serve(image: &Image) -> Registry {
    let server = Registry::start();
    serve_as(&server, image, "v1");
    server
}

fn serve_as(server: &Registry, image: &Image, name: &str) {
    server.set_manifest("app", name, media_type::MANIFEST, &image.manifest);
    server.set_blob("app", Digest::of(&image.config).as_str(), &image.config);
    server.set_blob("app", Digest::of(&image.layer).as_str(), &image.layer);
}

fn source(
    server: &Registry,
    rest: &str,
    config: Option<&str>,
) -> (Box<dyn Source>, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    if let Some(config) = config {
        std::fs::write(dir.path().join("config.json"), config).unwrap();
    }
    let options = Options {
        docker_config: Some(dir.path().to_owned()),
        ..Options::default()
    };
    let reference = parse_reference(&format!("{}/app{rest}", server.host())).unwrap();
    (Box::new(registry(reference, &options)), dir)
}

fn resolve(server: &Registry, rest: &str, platform: &Platform) -> Result<Resolved, Error> {
    source(server, rest, None).0.resolve(platform)
}

fn download(server: &Registry, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let mut blob = source(server, ":v1", None).0.open_blob(descriptor)?;
    blob.read_to_end(&mut bytes)
        .map_err(|error| body::error_of(error, "image", "blob"))?;
    Ok(bytes)
}

fn login(server: &Registry) -> String {
    format!(
        r#"{{"auths":{{"{}":{{"auth":"dXNlcjpwYXNz"}}}}}}"#,
        server.host()
    )
}

#[test]
fn an_image_is_resolved_and_its_layer_streams() {
    let image = Image::new(&amd64(), &"long ".repeat(1 << 20));
    let server = serve(&image);
    let found = resolve(&server, ":v1", &amd64()).unwrap();
    assert_eq!(found.manifest_bytes, image.manifest);
    assert_eq!(found.manifest_digest, image.descriptor().digest);
    assert_eq!(found.config_bytes, image.config);
    assert!(download(&server, &found.manifest.layers[0]).unwrap() == image.layer);
}

#[test]
fn an_index_gives_the_image_of_the_platform() {
    let (amd, arm) = (Image::new(&amd64(), "amd"), Image::new(&arm64(), "arm"));
    let server = Registry::start();
    let mut entries = Vec::new();
    for (image, platform) in [(&amd, amd64()), (&arm, arm64())] {
        let mut descriptor = image.descriptor();
        serve_as(&server, image, descriptor.digest.as_str());
        descriptor.platform = Some(platform);
        entries.push(descriptor);
    }
    let inner = index(entries);
    let nested = index(vec![Descriptor::new(
        media_type::INDEX,
        Digest::of(&inner),
        inner.len() as u64,
    )]);
    server.set_manifest(
        "app",
        Digest::of(&inner).as_str(),
        media_type::INDEX,
        &inner,
    );
    server.set_manifest("app", "v1", media_type::INDEX, &inner);
    server.set_manifest("app", "nested", media_type::INDEX, &nested);
    for tag in [":v1", ":nested"] {
        let found = resolve(&server, tag, &arm64()).unwrap();
        assert_eq!(found.manifest_bytes, arm.manifest, "{tag}");
    }
    let error = resolve(&server, ":v1", &Platform::new("linux", "s390x", None)).unwrap_err();
    let message = error.to_string();
    assert!(message.ends_with("no image for linux/s390x; there is linux/amd64, linux/arm64"));
}

#[test]
fn an_unknown_tag_is_not_found() {
    let server = Registry::start();
    let error = resolve(&server, ":v1", &amd64()).unwrap_err();
    let expected = format!("{}/app:v1: no such image", server.host());
    assert_eq!(error.to_string(), expected);
    assert!(error.hint().is_some());
}

#[test]
fn a_registry_that_wants_a_password_gets_dockers() {
    let image = Image::new(&amd64(), "private");
    let server = serve(&image);
    let token = |header: Option<&str>| Access::Token {
        token: "opaque".to_owned(),
        header: header.map(str::to_owned),
    };
    for access in [Access::Basic(BASIC.to_owned()), token(Some(BASIC))] {
        server.set_access(access);
        let error = resolve(&server, ":v1", &amd64()).unwrap_err();
        let Error::Unauthorized { credentials, .. } = &error else {
            panic!("{error}");
        };
        assert_eq!(*credentials, Credentials::NotFound);
        let (source, _dir) = source(&server, ":v1", Some(&login(&server)));
        let layer = source.resolve(&amd64()).unwrap().manifest.layers.remove(0);
        let mut bytes = Vec::new();
        source
            .open_blob(&layer)
            .unwrap()
            .read_to_end(&mut bytes)
            .unwrap();
        assert_eq!(bytes, image.layer);
    }
    server.set_access(token(None));
    assert!(resolve(&server, ":v1", &amd64()).is_ok());
}

#[test]
fn a_blob_can_be_the_first_thing_that_is_asked_for() {
    let image = Image::new(&amd64(), "private");
    let server = serve(&image);
    server.set_access(Access::Basic(BASIC.to_owned()));
    let (source, _dir) = source(&server, ":v1", Some(&login(&server)));
    let mut bytes = Vec::new();
    let mut blob = source.open_blob(&image.layer_descriptor()).unwrap();
    blob.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, image.layer);
}

#[test]
fn wrong_credentials_are_told_from_missing_ones() {
    let server = serve(&Image::new(&amd64(), "private"));
    server.set_access(Access::Basic("Basic other".to_owned()));
    let (source, _dir) = source(&server, ":v1", Some(&login(&server)));
    let error = source.resolve(&amd64()).unwrap_err();
    let found = Credentials::Found;
    assert!(matches!(error, Error::Unauthorized { credentials, .. } if credentials == found));
}

#[test]
fn bytes_that_have_another_digest_are_refused() {
    let image = Image::new(&amd64(), "good");
    let other = Image::new(&amd64(), "evil");
    let server = serve(&image);
    let digest = image.descriptor().digest;
    serve_as(&server, &other, digest.as_str());
    let error = resolve(&server, &format!("@{digest}"), &amd64()).unwrap_err();
    assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");

    let config = Digest::of(&image.config);
    let mut lie = image.config.clone();
    lie[2] ^= 1;
    server.set_blob("app", config.as_str(), &lie);
    let error = resolve(&server, ":v1", &amd64()).unwrap_err();
    assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
}

#[test]
fn a_blob_that_is_not_as_described_never_ends_well() {
    let image = Image::new(&amd64(), "good");
    let server = serve(&image);
    let layer = image.layer_descriptor();
    let path = blob_path("app", layer.digest.as_str());

    let mut lie = image.layer.clone();
    lie[0] ^= 1;
    server.set(&path, Answer::ok(&lie));
    // Who stores it compares the digest.
    assert_ne!(download(&server, &layer).unwrap(), image.layer);

    let mut long = image.layer.clone();
    long.extend_from_slice(&[0; 4096]);
    server.set(&path, Answer::ok(&long));
    let bytes = download(&server, &layer).unwrap();
    assert_eq!(bytes.len(), image.layer.len() + 1);

    let short = &image.layer[..100];
    let cases = [
        ("an honest short body", Answer::ok(short)),
        (
            "a cut body",
            Answer {
                cut: Some(100),
                ..Answer::ok(&image.layer)
            },
        ),
        (
            "too long a length",
            Answer {
                length: Some(image.layer.len()),
                ..Answer::ok(short)
            },
        ),
    ];
    for (what, answer) in cases {
        server.set(&path, answer);
        let error = download(&server, &layer).unwrap_err();
        assert!(
            matches!(error, Error::Truncated { got: 100, .. }),
            "{what}: {error}"
        );
    }
    server.set(
        &path,
        Answer {
            length: Some(image.layer.len() + 9),
            ..Answer::ok(&image.layer)
        },
    );
    assert!(download(&server, &layer).is_err());
}

#[test]
fn a_cut_blob_is_continued_where_it_broke_off() {
    let image = Image::new(&amd64(), "good");
    let server = serve(&image);
    let layer = image.layer_descriptor();
    let path = blob_path("app", layer.digest.as_str());
    server.set(
        &path,
        Answer {
            cut: Some(700),
            ranges: true,
            ..Answer::ok(&image.layer)
        },
    );
    assert_eq!(download(&server, &layer).unwrap(), image.layer);
    let ranges = server
        .requests()
        .into_iter()
        .filter_map(|request| request.range);
    assert_eq!(ranges.collect::<Vec<_>>(), [700]);
}

#[test]
fn a_busy_registry_is_asked_four_times() {
    let image = Image::new(&amd64(), "good");
    let server = serve(&image);
    let path = "/v2/app/manifests/v1";
    server.set(
        path,
        Answer {
            busy: 3,
            ..Answer::ok(&image.manifest)
        },
    );
    assert!(resolve(&server, ":v1", &amd64()).is_ok());
    server.set(
        path,
        Answer {
            busy: 4,
            ..Answer::ok(&image.manifest)
        },
    );
    let error = resolve(&server, ":v1", &amd64()).unwrap_err();
    assert!(
        error.to_string().ends_with("answered: status 503"),
        "{error}"
    );
}

#[test]
fn documents_that_are_no_image_are_refused() {
    let image = Image::new(&amd64(), "good");
    let server = serve(&image);
    let mut two_layers = serde_json::from_slice::<serde_json::Value>(&image.manifest).unwrap();
    let layer = two_layers["layers"][0].clone();
    two_layers["layers"].as_array_mut().unwrap().push(layer);
    let mut artifact = serde_json::from_slice::<serde_json::Value>(&image.manifest).unwrap();
    artifact["config"]["mediaType"] = "application/vnd.cncf.helm.config.v1+json".into();
    let cases = [
        (vec![b' '; (4 << 20) + 1], "more than the 4194304"),
        (
            br#"{"schemaVersion":1,"fsLayers":[]}"#.to_vec(),
            "has schema version 1",
        ),
        (
            to_json(&two_layers),
            "lists 1 layers where the manifest lists 2",
        ),
        (to_json(&artifact), "is not of a container image"),
    ];
    for (bytes, why) in cases {
        server.set_manifest("app", "v1", media_type::MANIFEST, &bytes);
        let error = resolve(&server, ":v1", &amd64()).unwrap_err();
        assert!(matches!(error, Error::BadDocument { .. }), "{error}");
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[test]
fn a_redirect_to_another_host_carries_no_credentials() {
    let image = Image::new(&amd64(), "good");
    let server = serve(&image);
    let storage = Registry::start();
    storage.set("/signed?key=secret", Answer::ok(&image.layer));
    let layer = image.layer_descriptor();
    let location = format!("http://{}/signed?key=secret", storage.host());
    let path = blob_path("app", layer.digest.as_str());
    server.set(&path, Answer::status(307).header("Location", &location));
    server.set_access(Access::Basic(BASIC.to_owned()));
    let (source, _dir) = source(&server, ":v1", Some(&login(&server)));
    let mut bytes = Vec::new();
    source
        .open_blob(&layer)
        .unwrap()
        .read_to_end(&mut bytes)
        .unwrap();
    assert_eq!(bytes, image.layer);
    let requests = storage.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].authorization, None);
}

#[test]
fn a_registry_that_is_not_there_is_unreachable() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let reference = format!("{}/app:v1", listener.local_addr().unwrap());
    drop(listener);
    let options = Options {
        docker_config: Some("/nonexistent".into()),
        ..Options::default()
    };
    let error = registry(parse_reference(&reference).unwrap(), &options).resolve(&amd64());
    assert!(matches!(error, Err(Error::Unreachable { .. })));
}
