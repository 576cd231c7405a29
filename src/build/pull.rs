//! `rbuild pull`: an image comes from its registry into the store.

use std::collections::BTreeSet;

use super::base;
use super::downloads::{Downloads, options, or_canceled};
use super::error::StepError;
use super::event::{EventSender, VertexId};
use crate::oci::{Descriptor, Digest, Manifest, Platform, Reference};
use crate::sandbox::Cancel;
use crate::store::Store;
use crate::transport::{self, Source as _};

const VERTEX: VertexId = VertexId(0);

/// What a pull came to.
#[derive(Debug)]
pub(crate) struct Pulled {
    /// The manifest, in the store.
    pub(crate) manifest: Descriptor,
    /// The layers, and whether each was there before.
    pub(crate) layers: Vec<(Digest, bool)>,
    /// The name stood for another image before, or for none.
    pub(crate) changed: bool,
}

/// Brings the image `name` for `platform` into the store under its name. The layers are kept as they
/// come; what unpacks them compares them with their DiffIds. Nothing is published before every blob is
/// complete and has the size and the digest that the manifest says.
pub(crate) fn pull(
    store: &Store,
    name: &Reference,
    platform: &Platform,
    events: &EventSender,
    cancel: &Cancel,
) -> Result<Pulled, StepError> {
    watched(events, format!("pulling {}", name.whole()), || {
        pull_quietly(store, name, platform, events, cancel)
    })
}

/// Runs `work` as the one vertex of its command.
pub(super) fn watched<T>(
    events: &EventSender,
    name: String,
    work: impl FnOnce() -> Result<T, StepError>,
) -> Result<T, StepError> {
    events.as_vertex(VERTEX, name, work)
}

/// [`pull`] without a vertex of its own.
pub(super) fn pull_quietly(
    store: &Store,
    name: &Reference,
    platform: &Platform,
    events: &EventSender,
    cancel: &Cancel,
) -> Result<Pulled, StepError> {
    or_canceled(cancel, pull_or_fail(store, name, platform, events, cancel))
}

fn pull_or_fail(
    store: &Store,
    name: &Reference,
    platform: &Platform,
    events: &EventSender,
    cancel: &Cancel,
) -> Result<Pulled, StepError> {
    let source = transport::registry(name.clone(), &options(cancel));
    let whole = name.whole();
    let resolved = source.resolve(platform).map_err(|source| StepError::Pull {
        name: whole.clone(),
        source: Box::new(source),
    })?;
    let before = store.find_tag(name)?;
    let layers = layers_of(store, &resolved.manifest);
    let mut seen = BTreeSet::new();
    let missing: Vec<Descriptor> = resolved
        .manifest
        .layers
        .iter()
        .filter(|layer| !store.has_blob(layer) && seen.insert(&layer.digest))
        .cloned()
        .collect();
    let downloads = Downloads {
        store,
        source: &source,
        name: &whole,
        events,
        id: VERTEX,
        cancel,
    };
    for staged in downloads.stage(&missing)? {
        store.publish_blob(staged)?;
    }
    let manifest = base::keep(store, &resolved, name)?;
    Ok(Pulled {
        changed: before.is_none_or(|before| before.digest != manifest.digest),
        manifest,
        layers,
    })
}

fn layers_of(store: &Store, manifest: &Manifest) -> Vec<(Digest, bool)> {
    let layers = manifest.layers.iter();
    layers
        .map(|layer| (layer.digest.clone(), store.has_blob(layer)))
        .collect()
}
