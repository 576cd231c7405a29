//! `rbuild manifest create`: images for several platforms under one name.

use std::collections::BTreeMap;

use super::error::StepError;
use super::event::EventSender;
use super::pull::{pull_quietly, watched};
use super::push::is_index;
use crate::oci::{
    Descriptor, Digest, ImageConfig, Index, Manifest, Platform, Reference, media_type, to_json,
};
use crate::sandbox::Cancel;
use crate::store::Store;

/// Makes the index `name` of `images`, in their order, and returns its digest. An image that the store
/// does not have is pulled. An index among them gives all that it holds where it is in the store, and
/// this machine's image where it is in a registry.
pub(crate) fn create(
    store: &Store,
    name: &Reference,
    images: &[Reference],
    events: &EventSender,
    cancel: &Cancel,
) -> Result<Digest, StepError> {
    watched(events, format!("joining {}", name.whole()), || {
        let mut manifests: Vec<Descriptor> = Vec::new();
        for image in images {
            let found = match store.find_tag(image)? {
                Some(found) => found,
                None => pull_quietly(store, image, &Platform::host(), events, cancel)?.manifest,
            };
            for entry in entries(store, &found)? {
                let platform = entry.platform.as_ref().map(ToString::to_string);
                if let Some(platform) = platform
                    && manifests
                        .iter()
                        .any(|there| there.platform == entry.platform)
                {
                    return Err(StepError::Value {
                        message: format!("{} is the second image for {platform}", image.whole()),
                    });
                }
                manifests.push(entry);
            }
        }
        let index = Index {
            schema_version: 2,
            media_type: Some(media_type::INDEX.to_owned()),
            manifests,
            annotations: BTreeMap::new(),
        };
        let descriptor = store.put_blob(media_type::INDEX, &to_json(&index))?;
        store.sync_blobs([&descriptor.digest])?;
        store.set_tags(std::slice::from_ref(name), &descriptor)?;
        Ok(descriptor.digest)
    })
}

/// The manifests that `found` stands for, with their platforms.
fn entries(store: &Store, found: &Descriptor) -> Result<Vec<Descriptor>, StepError> {
    let bytes = store.read_blob(&found.digest)?;
    if is_index(found) {
        return Ok(parse::<Index>(&bytes)?.manifests);
    }
    let manifest: Manifest = parse(&bytes)?;
    let config: ImageConfig = parse(&store.read_blob(&manifest.config.digest)?)?;
    let mut entry = Descriptor::new(&found.media_type, found.digest.clone(), found.size);
    let variant = config.variant.as_deref();
    entry.platform = Some(Platform::new(&config.os, &config.architecture, variant));
    Ok(vec![entry])
}

fn parse<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, StepError> {
    serde_json::from_slice(bytes).map_err(|error| StepError::Value {
        message: format!("a document in the store is damaged: {error}"),
    })
}
