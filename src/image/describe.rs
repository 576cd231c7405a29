//! An image as `docker image inspect` describes it.

use serde_json::{Value, json};

use super::list::repository_of;
use super::{Image, familiar};

/// The object that docker prints. Everything is there in every image, empty where the image has
/// nothing, so that templates may name it.
pub(crate) fn describe(image: &Image) -> Value {
    let config = &image.config;
    let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
    let mut container = serde_json::to_value(&config.config).unwrap_or_default();
    if let Value::Object(fields) = &mut container {
        for (name, empty) in [
            ("Hostname", json!("")),
            ("Domainname", json!("")),
            ("User", json!("")),
            ("AttachStdin", json!(false)),
            ("AttachStdout", json!(false)),
            ("AttachStderr", json!(false)),
            ("Tty", json!(false)),
            ("OpenStdin", json!(false)),
            ("StdinOnce", json!(false)),
            ("Env", Value::Null),
            ("Cmd", Value::Null),
            ("Image", json!("")),
            ("Volumes", Value::Null),
            ("WorkingDir", json!("")),
            ("Entrypoint", Value::Null),
            ("ExposedPorts", Value::Null),
            ("Healthcheck", Value::Null),
            ("StopSignal", json!("")),
            ("OnBuild", Value::Null),
            ("Labels", Value::Null),
            ("Shell", Value::Null),
        ] {
            fields.entry(name).or_insert(empty);
        }
    }
    let tags: Vec<&str> = image
        .names
        .iter()
        .map(|name| familiar(&name.whole))
        .collect();
    let mut digests: Vec<String> = image
        .names
        .iter()
        .map(|name| {
            let repository = repository_of(familiar(&name.whole));
            format!("{repository}@{}", name.manifest.digest)
        })
        .collect();
    digests.dedup();
    let comment = config.history.last().and_then(|row| row.comment.as_deref());
    let other = |name: &str| text(config.other.get(name).and_then(Value::as_str));
    json!({
        "Id": image.id,
        "RepoTags": tags,
        "RepoDigests": digests,
        "Parent": "",
        "Comment": text(comment),
        "Created": text(config.created.as_deref()),
        "DockerVersion": other("docker_version"),
        "Author": text(config.author.as_deref()),
        "Config": container,
        "Architecture": config.architecture,
        "Variant": text(config.variant.as_deref()),
        "Os": config.os,
        "OsVersion": other("os.version"),
        "Size": image.size(),
        "RootFS": {
            "Type": config.rootfs.kind,
            "Layers": config.rootfs.diff_ids,
        },
        "Metadata": { "LastTagTime": "0001-01-01T00:00:00Z" },
        "Descriptor": image.index.as_ref().unwrap_or(&image.manifest),
    })
}
