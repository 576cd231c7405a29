//! Base images: found in the store or at a source, verified, unpacked into snapshots.

mod layers;

use std::collections::BTreeMap;

use layers::Fetch;

use super::downloads::{options, or_canceled};
use super::error::StepError;
use super::event::{EventSender, VertexId};
use super::push::is_index;
use super::request::{NamedSource, Request};
use crate::oci::{
    self, ChainId, Descriptor, Digest, ImageConfig, Index, Manifest, Platform, Reference,
    media_type,
};
use crate::sandbox::Cancel;
use crate::store::{LayerBlob, MAX_LAYERS, Snapshot, Store};
use crate::transport::{self, Resolved, Source};

/// A base image whose documents are known. Its layers may still be elsewhere.
pub(crate) struct Base {
    /// How messages call it.
    pub(crate) name: String,
    pub(crate) config: ImageConfig,
    /// Of the manifest.
    digest: Digest,
    manifest: Manifest,
    /// `None` when all of it is in the store already.
    remote: Option<Remote>,
}

struct Remote {
    source: Box<dyn Source>,
    resolved: Resolved,
    /// The name under which the image is kept; none for an archive or a layout.
    tag: Option<Reference>,
}

impl std::fmt::Debug for Base {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Base")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Parses an image name the way docker completes it.
pub(crate) fn parse_reference(text: &str) -> Result<Reference, StepError> {
    oci::parse_reference(text).map_err(|source| StepError::Reference {
        text: text.to_owned(),
        source,
    })
}

/// Finds the image `text` for `platform`: in the store, else in its registry. With `--pull` the
/// registry is asked first. A name that the store has for another platform is no answer; a digest
/// is, as it is in a registry.
pub(crate) fn find_image(
    store: &Store,
    text: &str,
    platform: &Platform,
    request: &Request,
    cancel: &Cancel,
) -> Result<Base, StepError> {
    find_by_name(store, text, platform, request.pull, cancel)
}

/// [`find_image`] outside of a build; with `pull` the registry is asked first.
pub(super) fn find_by_name(
    store: &Store,
    text: &str,
    platform: &Platform,
    pull: bool,
    cancel: &Cancel,
) -> Result<Base, StepError> {
    let reference = parse_reference(text)?;
    let by_digest = reference.digest().is_some();
    let mut other = None;
    if (!pull || by_digest)
        && let Some(base) = find_stored(store, &reference, text, platform)?
    {
        if by_digest || base.is_for(platform) {
            return Ok(base);
        }
        other = Some(base.platform());
    }
    store.require_growth()?;
    let registry = transport::registry(reference.clone(), &options(cancel));
    let found = resolve(Box::new(registry), text, Some(reference), platform);
    let found = or_canceled(cancel, found);
    found.map_err(|source| match other {
        None => source,
        Some(stored) => StepError::OtherPlatform {
            name: text.to_owned(),
            stored: stored.to_string(),
            wanted: platform.to_string(),
            source: Box::new(source),
        },
    })
}

/// Opens the image that a named context names; only called for contexts that are one.
pub(crate) fn find_named(
    store: &Store,
    source: &NamedSource,
    name: &str,
    platform: &Platform,
    request: &Request,
    cancel: &Cancel,
) -> Result<Base, StepError> {
    let NamedSource::Image(location) = source else {
        let message = format!("the context {name} holds files, not an image");
        return Err(StepError::Value { message });
    };
    if let transport::Location::Image(reference) = location {
        return find_image(store, &reference.whole(), platform, request, cancel);
    }
    let base_error = |source| StepError::Base {
        name: name.to_owned(),
        source: Box::new(source),
    };
    store.require_growth()?;
    let opened = location.open(&options(cancel)).map_err(base_error)?;
    resolve(opened, name, None, platform)
}

pub(super) fn find_stored(
    store: &Store,
    reference: &Reference,
    name: &str,
    platform: &Platform,
) -> Result<Option<Base>, StepError> {
    let Some(mut descriptor) = store.find_tag(reference)? else {
        return Ok(None);
    };
    if is_index(&descriptor) {
        let index: Index = parse(&store.read_blob(&descriptor.digest)?)?;
        let chosen = transport::choose(name, &index.manifests, platform);
        descriptor = match chosen {
            Ok(chosen) if store.has_blob(chosen) => chosen.clone(),
            _ => return Ok(None),
        };
    }
    read_stored(store, descriptor, name).map(Some)
}

/// The image of a manifest in the store.
pub(super) fn read_stored(
    store: &Store,
    descriptor: Descriptor,
    name: &str,
) -> Result<Base, StepError> {
    let read = |descriptor: &Descriptor| store.read_blob(&descriptor.digest);
    let manifest: Manifest = parse(&read(&descriptor)?)?;
    let config: ImageConfig = parse(&read(&manifest.config)?)?;
    Ok(Base {
        name: name.to_owned(),
        config,
        digest: descriptor.digest,
        manifest,
        remote: None,
    })
}

fn parse<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, StepError> {
    serde_json::from_slice(bytes).map_err(|error| StepError::Value {
        message: format!("a document in the store is damaged: {error}"),
    })
}

fn resolve(
    source: Box<dyn Source>,
    name: &str,
    tag: Option<Reference>,
    platform: &Platform,
) -> Result<Base, StepError> {
    let resolved = source.resolve(platform).map_err(|source| StepError::Base {
        name: name.to_owned(),
        source: Box::new(source),
    })?;
    Ok(Base {
        name: name.to_owned(),
        config: resolved.config.clone(),
        digest: resolved.manifest_digest.clone(),
        manifest: resolved.manifest.clone(),
        remote: Some(Remote {
            source,
            resolved,
            tag,
        }),
    })
}

impl Base {
    /// What the image says it runs on.
    pub(crate) fn platform(&self) -> Platform {
        let config = &self.config;
        let variant = config.variant.as_deref();
        Platform::new(&config.os, &config.architecture, variant).normalized()
    }

    /// The digest of the configuration, which is how docker names an image.
    pub(super) fn id(&self) -> &Digest {
        &self.manifest.config.digest
    }

    /// Whether a stored image answers the wish for one for `platform`.
    pub(super) fn is_for(&self, platform: &Platform) -> bool {
        let own = self.platform();
        own.same_machine(platform) && (platform.variant.is_none() || own.satisfies(platform))
    }

    /// The name with the digest of what was found under it.
    pub(crate) fn pinned(&self) -> String {
        if self.name.contains('@') {
            self.name.clone()
        } else {
            format!("{}@{}", self.name, self.digest)
        }
    }

    /// The image's files when nothing of it has to be read or kept any more.
    pub(crate) fn stored(&self, store: &Store) -> Result<Option<Snapshot>, StepError> {
        let chain = self
            .config
            .rootfs
            .diff_ids
            .iter()
            .fold(None, |below, diff_id| {
                Some(ChainId::on(below.as_ref(), diff_id))
            });
        let layers = &self.manifest.layers;
        let mut held = self.config.rootfs.diff_ids.iter().zip(layers);
        // A layer whose blob is not known to hold it would be packed again for an output.
        let complete = self.remote.is_none()
            && layers.len() == self.config.rootfs.diff_ids.len()
            && held.all(|(diff_id, layer)| {
                let mut blobs = store.layer_blobs(diff_id).into_iter();
                blobs.any(|blob| blob.descriptor.digest == layer.digest)
            })
            && chain.as_ref().is_none_or(|chain| store.has_snapshot(chain));
        if complete {
            Ok(Some(store.snapshot(chain.as_ref())?))
        } else {
            Ok(None)
        }
    }

    /// Brings all layers into the store and returns their stack. Nothing is published before every
    /// layer is complete and has the size, the digest and the content that the image says.
    pub(crate) fn fetch(
        &self,
        store: &Store,
        events: &EventSender,
        id: VertexId,
        cancel: &Cancel,
    ) -> Result<Snapshot, StepError> {
        or_canceled(cancel, self.fetch_or_fail(store, events, id, cancel))
    }

    fn fetch_or_fail(
        &self,
        store: &Store,
        events: &EventSender,
        id: VertexId,
        cancel: &Cancel,
    ) -> Result<Snapshot, StepError> {
        store.require_growth()?;
        let diff_ids = &self.config.rootfs.diff_ids;
        if diff_ids.len() != self.manifest.layers.len() {
            return Err(StepError::Value {
                message: format!("{} has another number of layers than diff_ids", self.name),
            });
        }
        if diff_ids.len() > MAX_LAYERS {
            let source = crate::store::Error::Layers {
                count: diff_ids.len(),
                limit: MAX_LAYERS,
            };
            return Err(source.into());
        }
        let mut fetch = Fetch {
            base: self,
            store,
            events,
            id,
            cancel,
            staged: Vec::new(),
            downloaded: BTreeMap::new(),
        };
        fetch.download()?;
        let (snapshot, waiting) = fetch.layers(diff_ids)?;
        // What holds a layer is known before its snapshot is there, whenever this ends.
        for (diff_id, descriptor, blob) in fetch.staged {
            if let Some(blob) = blob {
                store.publish_blob(blob)?;
            }
            store.add_layer_blob(
                &diff_id,
                LayerBlob {
                    descriptor,
                    encoding: None,
                },
            )?;
        }
        let snapshot = waiting
            .into_iter()
            .try_fold(snapshot, |below, (diff_id, unpacked)| {
                unpacked.publish(store, &below, diff_id)
            })?;
        if let Some(Remote {
            resolved,
            tag: Some(tag),
            ..
        }) = &self.remote
            // A name in the store is this machine's image; that for another platform is looked up
            // again, its layers are here.
            && self.is_for(&Platform::host())
        {
            keep(store, resolved, tag)?;
        }
        Ok(snapshot)
    }
}

/// Keeps a pulled image under its name, so that the next build finds it here.
pub(super) fn keep(
    store: &Store,
    resolved: &Resolved,
    tag: &Reference,
) -> Result<Descriptor, StepError> {
    store.put_blob(&resolved.manifest.config.media_type, &resolved.config_bytes)?;
    let media_type = resolved
        .manifest
        .media_type
        .as_deref()
        .unwrap_or(media_type::MANIFEST);
    let descriptor = store.put_blob(media_type, &resolved.manifest_bytes)?;
    let blobs = resolved
        .manifest
        .layers
        .iter()
        .chain([&resolved.manifest.config, &descriptor]);
    store.sync_blobs(blobs.map(|blob| &blob.digest))?;
    store.set_tags(std::slice::from_ref(tag), &descriptor)?;
    Ok(descriptor)
}
