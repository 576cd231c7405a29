//! Images: every name leads to documents and layers that are there.

use std::collections::{HashMap, HashSet};

use super::blobs::Blobs;
use super::{Level, Remedy, Survey};
use crate::oci::{Descriptor, DiffId, Digest, ImageConfig, Index, Manifest, media_type};
use crate::store::{Error, REF_NAME, tags};

/// An index may point at indexes; deeper ones than this are not followed.
const LEVELS: usize = 4;

/// Blobs larger than this are no documents (distribution-spec: registries may refuse manifests of more
/// than 4 MiB).
const LARGEST: u64 = 4 << 20;

/// The blobs that hold layers, as images say.
pub(super) type Held = HashMap<DiffId, Descriptor>;

/// What is seen where an entry leads.
#[derive(Default)]
struct Seen {
    held: Held,
    /// Images of an index that are there in part: the platform, the manifest and what is wrong.
    parts: Vec<(String, Digest, String)>,
}

impl Survey<'_> {
    /// Follows every name; which blobs hold which layers.
    pub(super) fn images(&mut self, blobs: &Blobs) -> Result<Held, Error> {
        let mut seen = Seen::default();
        let index = match tags::read_index(&self.view.root) {
            Ok(index) => index,
            Err(error) => {
                let problem = match &error {
                    Error::Damaged { source, .. } => source.to_string(),
                    Error::Io { source, .. } => source.to_string(),
                    other => other.to_string(),
                };
                let remedy = Remedy::Index(self.unnamed(blobs, &mut seen));
                let place = "oci/index.json";
                self.report(Level::Damage, "index", place, problem, remedy);
                return Ok(seen.held);
            }
        };
        for entry in index.manifests {
            self.counts.images += 1;
            let name = match entry.annotations.get(REF_NAME) {
                Some(name) => name.clone(),
                None => entry.digest.to_string(),
            };
            let problem = self.tree(blobs, &entry, LEVELS, &mut seen).err();
            let parts = std::mem::take(&mut seen.parts);
            if let Some(problem) = problem {
                let remedy = Remedy::Untag(entry);
                self.report(Level::Damage, "image", name, problem, remedy);
                continue;
            }
            for (platform, digest, problem) in parts {
                let place = format!("{name} ({platform})");
                let remedy = Remedy::Blob(digest);
                self.report(Level::Damage, "image", place, problem, remedy);
            }
        }
        Ok(seen.held)
    }

    /// Follows `descriptor`. The images of an index may be missing, but not all of them.
    fn tree(
        &self,
        blobs: &Blobs,
        descriptor: &Descriptor,
        levels: usize,
        seen: &mut Seen,
    ) -> Result<(), String> {
        if let Some(problem) = blobs.objection(descriptor) {
            return Err(format!("its manifest {problem}"));
        }
        let is_index = matches!(
            descriptor.media_type.as_str(),
            media_type::INDEX | media_type::DOCKER_INDEX
        );
        if !is_index {
            let is_manifest = matches!(
                descriptor.media_type.as_str(),
                media_type::MANIFEST | media_type::DOCKER_MANIFEST
            );
            // What else a layout may name has a form of its own.
            return match is_manifest {
                true => self.manifest(blobs, descriptor, &mut seen.held),
                false => Ok(()),
            };
        }
        let Some(levels) = levels.checked_sub(1) else {
            return Ok(());
        };
        let index: Index = self.document(&descriptor.digest)?;
        let mut any = index.manifests.is_empty();
        for inner in &index.manifests {
            if !blobs.is_there(&inner.digest) {
                continue;
            }
            match self.tree(blobs, inner, levels, seen) {
                Ok(()) => any = true,
                Err(problem) => {
                    let platform = inner.platform.as_ref().map(ToString::to_string);
                    let platform = platform.unwrap_or_else(|| inner.digest.short().to_owned());
                    seen.parts.push((platform, inner.digest.clone(), problem));
                }
            }
        }
        match seen.parts.first() {
            _ if any => Ok(()),
            Some((platform, _, problem)) => Err(format!("{platform}: {problem}")),
            None => Err("none of its images is there".to_owned()),
        }
    }

    fn manifest(
        &self,
        blobs: &Blobs,
        descriptor: &Descriptor,
        held: &mut Held,
    ) -> Result<(), String> {
        let manifest: Manifest = self.document(&descriptor.digest)?;
        if let Some(problem) = blobs.objection(&manifest.config) {
            return Err(format!("its configuration {problem}"));
        }
        for layer in &manifest.layers {
            if let Some(problem) = blobs.objection(layer) {
                return Err(format!("its layer {problem}"));
            }
        }
        let is_image = matches!(
            manifest.config.media_type.as_str(),
            media_type::CONFIG | media_type::DOCKER_CONFIG
        );
        if is_image {
            let config: ImageConfig = self.document(&manifest.config.digest)?;
            let (layers, diff_ids) = (manifest.layers.len(), config.rootfs.diff_ids.len());
            // What describes an image (an attestation) has a configuration without layers of its own.
            if layers != diff_ids && diff_ids != 0 {
                return Err(format!(
                    "it has {layers} layers, and its configuration says {diff_ids}"
                ));
            }
            held.extend(config.rootfs.diff_ids.into_iter().zip(manifest.layers));
        }
        Ok(())
    }

    fn document<T: serde::de::DeserializeOwned>(&self, digest: &Digest) -> Result<T, String> {
        let bytes = self.view.read_blob(digest).map_err(|e| e.to_string())?;
        serde_json::from_slice(&bytes).map_err(|error| format!("its document {digest}: {error}"))
    }

    /// Entries for the images that are whole, each once, for a list of tags that is lost.
    fn unnamed(&self, blobs: &Blobs, seen: &mut Seen) -> Vec<Descriptor> {
        let mut inner: HashSet<Digest> = HashSet::new();
        let mut tops = Vec::new();
        for (digest, size) in blobs.whole().filter(|(_, size)| *size <= LARGEST) {
            let Ok(bytes) = self.view.read_blob(digest) else {
                continue;
            };
            let own_type = |fallback: &str, own: Option<String>| {
                let media_type = own.unwrap_or_else(|| fallback.to_owned());
                Descriptor::new(&media_type, digest.clone(), size)
            };
            let entry = if let Ok(index) = serde_json::from_slice::<Index>(&bytes) {
                inner.extend(index.manifests.into_iter().map(|entry| entry.digest));
                own_type(media_type::INDEX, index.media_type)
            } else if let Ok(manifest) = serde_json::from_slice::<Manifest>(&bytes) {
                own_type(media_type::MANIFEST, manifest.media_type)
            } else {
                continue;
            };
            if self.tree(blobs, &entry, LEVELS, seen).is_ok() {
                tops.push(entry);
            }
        }
        tops.retain(|entry| !inner.contains(&entry.digest));
        tops.sort_by(|a, b| a.digest.cmp(&b.digest));
        tops
    }
}
