//! A finished stage as an image: configuration, manifest, blobs, tags.

use super::commit::layer_blob;
use super::error::StepError;
use super::export::ImageBlobs;
use super::request::{Encoding, Request};
use super::state::StageState;
use crate::layer::Compression;
use crate::oci::{Descriptor, Digest, ImageConfig, Manifest, Reference, media_type, to_json};
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
    let created = epoch.or(state.created.as_deref()).unwrap_or(NO_TIME);
    config.created = Some(created.to_owned());
    config
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
    manifest.platform = Some(crate::oci::Platform::new(
        &config.os,
        &config.architecture,
        config.variant.as_deref(),
    ));
    Ok(ImageBlobs {
        manifest,
        config: config_descriptor,
        layers,
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
    image: &ImageBlobs,
    tags: &[Reference],
) -> Result<(), crate::store::Error> {
    if store.has_tags(tags, &image.manifest)? {
        return Ok(());
    }
    let parts: Vec<&Descriptor> = image
        .layers
        .iter()
        .chain([&image.config, &image.manifest])
        .collect();
    store.sync_blobs(parts.iter().map(|part| &part.digest))?;
    store.set_tags(tags, &image.manifest)
}
