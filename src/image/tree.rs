//! What a name of the store stands for: one image, or an index of several.

use super::Error;
use super::list::is_index;
use crate::oci::{Descriptor, ImageConfig, Index, Manifest, Platform, media_type};
use crate::store::View;

/// An index may point at one more level of indexes.
const LEVELS: usize = 2;

/// A manifest with what it names, all of it in the store.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    /// Says the platform in any case.
    pub(crate) manifest: Descriptor,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

/// A manifest or an index, and what of it is in the store.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    pub(crate) top: Descriptor,
    /// Indexes in the index.
    pub(crate) indexes: Vec<Descriptor>,
    /// In the order of the index.
    pub(crate) parts: Vec<Part>,
    /// The platforms that the index has and the store does not.
    pub(crate) missing: Vec<String>,
}

impl Tree {
    /// Reads what `top` stands for.
    pub(crate) fn read(view: &View, top: &Descriptor) -> Result<Self, Error> {
        let mut tree = Self {
            top: top.clone(),
            indexes: Vec::new(),
            parts: Vec::new(),
            missing: Vec::new(),
        };
        tree.add(view, top, LEVELS)?;
        Ok(tree)
    }

    fn add(&mut self, view: &View, descriptor: &Descriptor, levels: usize) -> Result<(), Error> {
        if !is_index(descriptor) {
            match part(view, descriptor)? {
                Some(part) => self.parts.push(part),
                None => {
                    let platform = descriptor.platform.as_ref();
                    let shown = platform.map(ToString::to_string);
                    let shown = shown.unwrap_or_else(|| descriptor.digest.short().to_owned());
                    self.missing.push(shown);
                }
            }
            return Ok(());
        }
        if levels == 0 || !view.has_blob(descriptor) {
            return Ok(());
        }
        if descriptor.digest != self.top.digest {
            self.indexes.push(descriptor.clone());
        }
        let bytes = view.read_blob(&descriptor.digest)?;
        let index: Index = parse(descriptor, &bytes)?;
        for entry in &index.manifests {
            self.add(view, entry, levels - 1)?;
        }
        Ok(())
    }

    /// The image that is nearest to `platform` among those that satisfy it.
    pub(crate) fn nearest(&self, platform: &Platform) -> Option<&Part> {
        let distance = |part: &&Part| part.manifest.platform.as_ref()?.distance(platform);
        let fitting = self.parts.iter().filter(|part| distance(part).is_some());
        fitting.min_by_key(distance)
    }

    /// The image that was asked for with `--platform`, of what `text` names.
    pub(crate) fn choose(&self, text: &str, platform: &Platform) -> Result<&Part, Error> {
        self.nearest(platform).ok_or_else(|| Error::Platform {
            name: text.to_owned(),
            platform: platform.to_string(),
        })
    }
}

/// `None` when something of it is not in the store.
fn part(view: &View, descriptor: &Descriptor) -> Result<Option<Part>, Error> {
    let is_manifest = matches!(
        descriptor.media_type.as_str(),
        media_type::MANIFEST | media_type::DOCKER_MANIFEST
    );
    if !is_manifest || !view.has_blob(descriptor) {
        return Ok(None);
    }
    let manifest: Manifest = parse(descriptor, &view.read_blob(&descriptor.digest)?)?;
    let is_here = |blob: &Descriptor| view.has_blob(blob);
    if !manifest.layers.iter().all(is_here) || !is_here(&manifest.config) {
        return Ok(None);
    }
    let mut own = descriptor.clone();
    if own.platform.is_none() {
        let config = view.read_blob(&manifest.config.digest)?;
        let config: ImageConfig = parse(descriptor, &config)?;
        let variant = config.variant.as_deref();
        own.platform = Some(Platform::new(&config.os, &config.architecture, variant));
    }
    Ok(Some(Part {
        manifest: own,
        config: manifest.config,
        layers: manifest.layers,
    }))
}

fn parse<T: serde::de::DeserializeOwned>(of: &Descriptor, bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|source| Error::Damaged {
        name: of.digest.short().to_owned(),
        source,
    })
}
