//! The images of a store, and the one that a text means.

use std::path::Path;

use jiff::Timestamp;

use super::{Error, Tree};
use crate::oci::{
    self, Descriptor, Digest, ImageConfig, Index, Manifest, Platform, Reference, media_type,
};
use crate::store::{REF_NAME, View};
use crate::transport::{self, Location};

/// A name of an image, with the manifest that it names.
#[derive(Debug, Clone)]
pub(crate) struct Name {
    /// As the store writes it: `docker.io/library/app:1`.
    pub(crate) whole: String,
    pub(crate) manifest: Descriptor,
}

/// An image: its documents, and what names it.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    /// The digest of the configuration.
    pub(crate) id: Digest,
    /// Empty for a dangling image.
    pub(crate) names: Vec<Name>,
    /// The manifest of the first name, or the unnamed one.
    pub(crate) manifest: Descriptor,
    /// The index that the first name means, where it means one.
    pub(crate) index: Option<Descriptor>,
    pub(crate) config: ImageConfig,
    pub(crate) layers: Vec<Descriptor>,
    /// Bytes of each layer's tar, bottom first; of its blob where the store has not seen the tar.
    pub(crate) layer_sizes: Vec<u64>,
}

impl Image {
    /// Bytes of all layers.
    pub(crate) fn size(&self) -> u64 {
        self.layer_sizes.iter().sum()
    }

    /// The digests of the indexes that name it, which are what a build for several platforms prints.
    fn indexes(&self) -> impl Iterator<Item = &Digest> {
        let named = self.names.iter().map(|name| &name.manifest);
        let all = named.chain(&self.index);
        all.filter(|one| is_index(one)).map(|one| &one.digest)
    }

    pub(crate) fn created(&self) -> Option<Timestamp> {
        self.config.created.as_deref()?.parse().ok()
    }

    /// The manifest or index that `text`, by which this image was found, means.
    pub(crate) fn meant(&self, text: &str) -> &Descriptor {
        let reference = oci::parse_reference(text).ok();
        let is_it = |name: &&Name| {
            let reference = reference.as_ref();
            reference.is_some_and(|reference| is_meant(name, reference))
        };
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        let has_digest = |name: &&Name| name.manifest.digest.hex().starts_with(digits);
        let named = self.names.iter().find(is_it);
        match named.or_else(|| self.names.iter().find(has_digest)) {
            Some(name) => &name.manifest,
            None => self.index.as_ref().unwrap_or(&self.manifest),
        }
    }
}

/// A name as docker shows it: without the default registry and the `library/` of its images.
pub(crate) fn familiar(whole: &str) -> &str {
    let short = whole.strip_prefix("docker.io/").unwrap_or(whole);
    short.strip_prefix("library/").unwrap_or(short)
}

/// Every image of the store, newest first. An entry whose documents are not all there is left out.
pub(crate) fn list(view: &View) -> Result<Vec<Image>, Error> {
    let mut images: Vec<Image> = Vec::new();
    let mut by_id = std::collections::HashMap::new();
    for entry in view.index()?.manifests {
        let Ok(mut image) = read(view, &entry) else {
            continue;
        };
        if let Some(whole) = entry.annotations.get(REF_NAME) {
            image.names.push(Name {
                whole: whole.clone(),
                manifest: image
                    .index
                    .clone()
                    .unwrap_or_else(|| image.manifest.clone()),
            });
        }
        match by_id.get(&image.id) {
            Some(&there) => {
                let there: &mut Image = &mut images[there];
                if there.names.is_empty() {
                    there.manifest = image.manifest;
                    there.index = image.index;
                    there.layers = image.layers;
                }
                there.names.extend(image.names);
            }
            None => {
                by_id.insert(image.id.clone(), images.len());
                images.push(image);
            }
        }
    }
    for image in &mut images {
        image.names.sort_by(|a, b| a.whole.cmp(&b.whole));
    }
    let key = |image: &Image| {
        let name = image.names.first().map(|name| name.whole.clone());
        (std::cmp::Reverse(image.created()), name)
    };
    images.sort_by_cached_key(key);
    Ok(images)
}

/// The image that an entry of the index lists, without names; of an index that for this machine, else
/// the first that is here.
pub(super) fn read(view: &View, entry: &Descriptor) -> Result<Image, Error> {
    read_chosen(view, entry, |index| choose(view, index))
}

fn read_chosen(
    view: &View,
    entry: &Descriptor,
    choose: impl FnOnce(&Index) -> Option<Descriptor>,
) -> Result<Image, Error> {
    let damaged = |source| Error::Damaged {
        name: entry.digest.short().to_owned(),
        source,
    };
    let mut index = None;
    let mut descriptor = entry.clone();
    descriptor.annotations.remove(REF_NAME);
    if is_index(&descriptor) {
        let bytes = view.read_blob(&descriptor.digest)?;
        let choice: Index = serde_json::from_slice(&bytes).map_err(damaged)?;
        let chosen = choose(&choice).ok_or_else(|| Error::Empty {
            name: entry.digest.short().to_owned(),
        })?;
        index = Some(std::mem::replace(&mut descriptor, chosen));
    }
    let bytes = view.read_blob(&descriptor.digest)?;
    let manifest: Manifest = serde_json::from_slice(&bytes).map_err(damaged)?;
    let bytes = view.read_blob(&manifest.config.digest)?;
    let config: ImageConfig = serde_json::from_slice(&bytes).map_err(damaged)?;
    let layer_sizes = manifest
        .layers
        .iter()
        .zip(&config.rootfs.diff_ids)
        .map(|(layer, diff_id)| view.layer_size(diff_id).unwrap_or(layer.size))
        .collect();
    Ok(Image {
        id: manifest.config.digest.clone(),
        names: Vec::new(),
        manifest: descriptor,
        index,
        config,
        layers: manifest.layers,
        layer_sizes,
    })
}

pub(super) fn is_index(descriptor: &Descriptor) -> bool {
    matches!(
        descriptor.media_type.as_str(),
        media_type::INDEX | media_type::DOCKER_INDEX
    )
}

/// The manifest for this machine, else the first that is here.
fn choose(view: &View, index: &Index) -> Option<Descriptor> {
    let host = Platform::host();
    let here = |descriptor: &&Descriptor| !is_index(descriptor) && view.has_blob(descriptor);
    let distance = |descriptor: &&Descriptor| {
        let platform = descriptor.platform.as_ref();
        let distance = platform.and_then(|platform| platform.distance(&host));
        (distance.is_none(), distance)
    };
    index
        .manifests
        .iter()
        .filter(here)
        .min_by_key(distance)
        .cloned()
}

/// [`find`], then of the manifest or index that `text` means the image for `platform`.
pub(crate) fn find_for(
    view: &View,
    images: &[Image],
    text: &str,
    platform: Option<&Platform>,
) -> Result<Image, Error> {
    let found = find(images, text)?;
    match platform {
        Some(platform) => found.for_platform(view, text, platform),
        None => Ok(found),
    }
}

impl Image {
    /// Of the manifest or index that `text`, by which this image was found, means the image for
    /// `platform`.
    pub(crate) fn for_platform(
        self,
        view: &View,
        text: &str,
        platform: &Platform,
    ) -> Result<Self, Error> {
        let tree = Tree::read(view, self.meant(text))?;
        let chosen = tree.choose(text, platform)?.manifest.clone();
        let image = read_chosen(view, &tree.top, |_| Some(chosen))?;
        Ok(Self {
            names: self.names,
            ..image
        })
    }
}

/// The image whose id is `text` or begins with it, or whose index has that digest; `None` where there
/// is none, or `text` can be no id.
pub(crate) fn find_by_id(images: &[Image], text: &str) -> Result<Option<Image>, Error> {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if hex.is_empty() || hex.len() > 64 || !hex.bytes().all(is_hex) {
        return Ok(None);
    }
    let mut found = images.iter().filter(|image| {
        let mut indexes = image.indexes();
        image.id.hex().starts_with(hex)
            || image.manifest.digest.hex() == hex
            || indexes.any(|index| index.hex().starts_with(hex))
    });
    match (found.next(), found.next()) {
        (Some(_), Some(_)) => Err(Error::Ambiguous {
            text: text.to_owned(),
        }),
        (only, _) => Ok(only.cloned()),
    }
}

/// The image that `text` means: a name, `name@digest`, an id or the beginning of one.
pub(crate) fn find(images: &[Image], text: &str) -> Result<Image, Error> {
    let by_id = || find_by_id(images, text);
    let missing = || Error::NotFound(shown(text));
    let reference = match oci::parse_reference(text) {
        Ok(reference) if !text.starts_with("sha256:") => reference,
        Ok(_) | Err(oci::ReferenceError::Identifier) => return by_id()?.ok_or_else(missing),
        Err(source) => {
            return Err(Error::Reference {
                text: text.to_owned(),
                source,
            });
        }
    };
    let named = images
        .iter()
        .find(|image| image.names.iter().any(|name| is_meant(name, &reference)));
    match named {
        Some(image) => Ok(image.clone()),
        None => by_id()?.ok_or_else(missing),
    }
}

/// Whether the text, or the name and the digest in it, mean this name.
pub(super) fn is_meant(name: &Name, reference: &Reference) -> bool {
    match reference.digest() {
        None => name.whole == reference.whole(),
        Some(digest) => {
            let repository = format!("{}/{}", reference.registry(), reference.repository());
            name.manifest.digest.as_str() == digest && repository_of(&name.whole) == repository
        }
    }
}

/// `docker.io/library/app` of `docker.io/library/app:1`.
pub(crate) fn repository_of(whole: &str) -> &str {
    let end = whole.find('@').unwrap_or(whole.len());
    let name = &whole[..end];
    match name.rfind(':') {
        Some(colon) if !name[colon..].contains('/') => &name[..colon],
        _ => name,
    }
}

/// What a missing image is called: as docker does, with the tag that was meant.
fn shown(text: &str) -> String {
    match oci::parse_reference(text) {
        Ok(reference) if !text.starts_with("sha256:") => familiar(&reference.whole()).to_owned(),
        _ => text.to_owned(),
    }
}

/// The image in the layout or archive that `text` names by its path or as a `--build-context` does;
/// `None` when it names neither. Of an index it is the image for `platform`, by default this
/// machine's.
pub(crate) fn open(text: &str, platform: Option<&Platform>) -> Result<Option<Image>, Error> {
    let source_error = |source| Error::Source {
        name: text.to_owned(),
        source: Box::new(source),
    };
    let options = transport::Options::default();
    let path = Path::new(text);
    let source = match Location::parse(text).map_err(source_error)? {
        Some(Location::Image(_)) => return Ok(None),
        Some(location) => location.open(&options).map_err(source_error)?,
        None if path.join("oci-layout").is_file() => Location::OciLayout {
            dir: path.to_owned(),
            selector: None,
        }
        .open(&options)
        .map_err(source_error)?,
        None if path.is_file() => {
            let archived = transport::archived(path).map_err(source_error)?;
            let [only] = archived.as_slice() else {
                return Err(Error::Several {
                    name: text.to_owned(),
                    count: archived.len(),
                });
            };
            only.location.open(&options).map_err(source_error)?
        }
        None => return Ok(None),
    };
    let host = Platform::host();
    let found = source
        .resolve(platform.unwrap_or(&host))
        .map_err(source_error)?;
    let config = &found.config;
    let own = Platform::new(&config.os, &config.architecture, config.variant.as_deref());
    if let Some(wanted) = platform.filter(|wanted| !own.satisfies(wanted)) {
        return Err(Error::Platform {
            name: text.to_owned(),
            platform: wanted.to_string(),
        });
    }
    let manifest_type = found.manifest.media_type.as_deref();
    let layers = found.manifest.layers;
    Ok(Some(Image {
        id: found.manifest.config.digest.clone(),
        names: Vec::new(),
        manifest: Descriptor::new(
            manifest_type.unwrap_or(media_type::MANIFEST),
            found.manifest_digest,
            found.manifest_bytes.len() as u64,
        ),
        index: None,
        config: found.config,
        layer_sizes: layers.iter().map(|layer| layer.size).collect(),
        layers,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_a_name_without_its_tag() {
        for (whole, expected) in [
            ("docker.io/library/app:1", "docker.io/library/app"),
            ("localhost:5000/app:1", "localhost:5000/app"),
            ("localhost:5000/app", "localhost:5000/app"),
            ("localhost:5000/app@sha256:00", "localhost:5000/app"),
        ] {
            assert_eq!(repository_of(whole), expected);
        }
        assert_eq!(familiar("docker.io/library/app:1"), "app:1");
        assert_eq!(familiar("docker.io/me/app:1"), "me/app:1");
        assert_eq!(familiar("localhost:5000/app:1"), "localhost:5000/app:1");
    }
}
