//! A finished stage as an image: configuration, manifest, blobs, tags.

use super::commit::layer_blob;
use super::error::StepError;
use super::export::{Bundle, ImageBlobs, index_of};
use super::request::{Encoding, Request};
use super::state::StageState;
use crate::layer::Compression;
use crate::oci::{
    Digest, History, ImageConfig, Manifest, Platform, Reference, media_type, to_json,
};
use crate::store::Store;

/// The time of an image none of whose parts has one.
const NO_TIME: &str = "1970-01-01T00:00:00Z";

/// Whose media types a manifest is written with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Oci,
    Docker,
}

/// The configuration of the image that `state` is, with the request's labels.
pub(crate) fn configuration(
    state: &StageState,
    request: &Request,
    epoch: Option<&str>,
) -> ImageConfig {
    let mut config = state.config.clone();
    for (name, value) in &request.labels {
        config.config.labels.insert(name.clone(), value.clone());
    }
    if request.platform_given {
        set_platform(&mut config, &request.platform);
    }
    let normal = Platform::new(&config.os, &config.architecture, config.variant.as_deref());
    let normal = normal.normalized();
    (config.os, config.architecture, config.variant) =
        (normal.os, normal.architecture, normal.variant);
    set_times(&mut config.history, epoch);
    let last = config
        .history
        .iter()
        .rev()
        .find_map(|row| row.created.clone());
    let created = epoch.map(str::to_owned).or(last);
    config.created = Some(created.unwrap_or_else(|| NO_TIME.to_owned()));
    config
}

/// The platform of the command line is the image's, whatever its base says. Without one the image
/// keeps the platform of its base.
fn set_platform(config: &mut ImageConfig, platform: &Platform) {
    let base = Platform::new(&config.os, &config.architecture, None);
    let same = base.same_machine(platform);
    config.os.clone_from(&platform.os);
    config.architecture.clone_from(&platform.architecture);
    if platform.variant.is_some() || !same {
        config.variant.clone_from(&platform.variant);
    }
    if let Some(version) = &platform.os_version {
        let version = version.clone().into();
        config.other.insert("os.version".to_owned(), version);
    } else if !same {
        config.other.remove("os.version");
    }
}

/// Gives times to the rows that have none: that of the first new layer to those before it, that of
/// the layer before to the others. With an epoch no row is later than it.
fn set_times(history: &mut [History], epoch: Option<&str>) {
    let first_without = history.iter().position(|row| row.created.is_none());
    let mut created = first_without.and_then(|first| {
        let (before, after) = history.split_at(first);
        let next = after.iter().find_map(|row| row.created.clone());
        next.or_else(|| before.last().and_then(|row| row.created.clone()))
    });
    for row in &mut history[first_without.unwrap_or_default()..] {
        if row.created.is_some() {
            created.clone_from(&row.created);
        } else {
            row.created.clone_from(&created);
        }
    }
    let Some(epoch) = epoch else { return };
    let limit = epoch.parse::<jiff::Timestamp>().ok();
    for row in history {
        let own = row.created.as_deref().map(str::parse::<jiff::Timestamp>);
        if !matches!(own, Some(Ok(own)) if limit.is_some_and(|limit| own <= limit)) {
            row.created = Some(epoch.to_owned());
        }
    }
}

/// The image's id, as docker calls it: the digest of its configuration.
pub(crate) fn image_id(config: &ImageConfig) -> Digest {
    Digest::of(&to_json(config))
}

/// Puts every blob of the image into the store, layers in `encoding`.
pub(crate) fn assemble(
    store: &Store,
    state: &StageState,
    config: &ImageConfig,
    encoding: Encoding,
    dialect: Dialect,
    clamp_mtime: Option<i64>,
) -> Result<ImageBlobs, StepError> {
    let mut layers = Vec::with_capacity(config.rootfs.diff_ids.len());
    for (index, diff_id) in config.rootfs.diff_ids.iter().enumerate() {
        let snapshot = state.snapshot.lowest(index + 1);
        let mut layer = layer_blob(store, &snapshot, diff_id, encoding, clamp_mtime)?;
        layer.media_type = translate(&layer.media_type, dialect).to_owned();
        layers.push(layer);
    }
    let (config_type, manifest_type) = match dialect {
        Dialect::Oci => (media_type::CONFIG, media_type::MANIFEST),
        Dialect::Docker => (media_type::DOCKER_CONFIG, media_type::DOCKER_MANIFEST),
    };
    let config_descriptor = store.put_blob(config_type, &to_json(config))?;
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(manifest_type.to_owned()),
        config: config_descriptor.clone(),
        layers: layers.clone(),
        annotations: std::collections::BTreeMap::new(),
    };
    let mut manifest = store.put_blob(manifest_type, &to_json(&manifest))?;
    let mut platform = Platform::new(&config.os, &config.architecture, config.variant.as_deref());
    let version = config.other.get("os.version");
    platform.os_version = version.and_then(|version| version.as_str().map(str::to_owned));
    manifest.platform = Some(platform);
    Ok(ImageBlobs {
        manifest,
        config: config_descriptor,
        layers,
    })
}

/// Joins images, which differ in their platforms, under one index.
pub(crate) fn join(
    store: &Store,
    images: Vec<ImageBlobs>,
    dialect: Dialect,
) -> Result<Bundle, crate::store::Error> {
    let of_type = match dialect {
        Dialect::Oci => media_type::INDEX,
        Dialect::Docker => media_type::DOCKER_INDEX,
    };
    let mut index = index_of(images.iter().map(|image| image.manifest.clone()).collect());
    index.media_type = Some(of_type.to_owned());
    Ok(Bundle {
        top: store.put_blob(of_type, &to_json(&index))?,
        indexes: Vec::new(),
        images,
    })
}

/// The same layer in the other dialect's words; a type of neither stays.
fn translate(layer: &str, dialect: Dialect) -> &str {
    let compression = match layer {
        media_type::LAYER | media_type::DOCKER_LAYER => Compression::Uncompressed,
        media_type::LAYER_GZIP | media_type::DOCKER_LAYER_GZIP => Compression::Gzip,
        media_type::LAYER_ZSTD | media_type::DOCKER_LAYER_ZSTD => Compression::Zstd,
        _ => return layer,
    };
    match (compression, dialect) {
        (Compression::Uncompressed, Dialect::Oci) => media_type::LAYER,
        (Compression::Gzip, Dialect::Oci) => media_type::LAYER_GZIP,
        (Compression::Zstd, Dialect::Oci) => media_type::LAYER_ZSTD,
        (Compression::Uncompressed, Dialect::Docker) => media_type::DOCKER_LAYER,
        (Compression::Gzip, Dialect::Docker) => media_type::DOCKER_LAYER_GZIP,
        (Compression::Zstd, Dialect::Docker) => media_type::DOCKER_LAYER_ZSTD,
    }
}

/// Points the tags at the image once all of it is on disk. Without tags the image is kept unnamed.
pub(crate) fn publish(
    store: &Store,
    image: &Bundle,
    tags: &[Reference],
) -> Result<(), crate::store::Error> {
    if store.has_tags(tags, &image.top)? {
        return Ok(());
    }
    store.sync_blobs(image.parts().map(|part| &part.digest))?;
    store.set_tags(tags, &image.top)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_without_a_time_get_that_of_the_layers_around_them() {
        let (a, b, c) = (
            Some("2001-01-01T00:00:00Z"),
            Some("2002-01-01T00:00:00Z"),
            Some("2003-01-01T00:00:00Z"),
        );
        for (rows, epoch, expected) in [
            (&[a, None, b, None][..], None, &[a, b, b, b][..]),
            (&[a, None, b, None, c, None], None, &[a, b, b, b, c, c]),
            (&[a, None], None, &[a, a]),
            (&[None, None], None, &[None, None]),
            (&[a, b], None, &[a, b]),
            (&[a, c, None], b, &[a, b, b]),
        ] {
            let mut history: Vec<History> = rows
                .iter()
                .map(|created| History {
                    created: created.map(str::to_owned),
                    ..History::default()
                })
                .collect();
            set_times(&mut history, epoch);
            let times: Vec<_> = history.iter().map(|row| row.created.as_deref()).collect();
            assert_eq!(times, expected, "{rows:?}");
        }
    }
}
