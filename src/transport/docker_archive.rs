//! A tar as `docker save` writes it: `manifest.json`, configurations and layers.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Mutex;

use serde::Deserialize;

use crate::oci::{
    Descriptor, DiffId, Digest, Hasher, ImageConfig, Manifest, Platform, media_type,
    parse_reference, to_json,
};

use super::archive::{Archive, Section};
use super::body::Body;
use super::document;
use super::{Error, Resolved, Source};

struct DockerArchive {
    archive: Archive,
    wanted: Option<String>,
    /// The layers by the digests that `resolve` gave them.
    layers: Mutex<BTreeMap<Digest, Section>>,
}

/// An entry of `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Image {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// The image `name` (`NAME:TAG`, or `@N` by its place) in the archive, or the only one. Its manifest is made up, since the
/// format has none; the same archive gives the same manifest.
///
/// [`Source::open_blob`] knows the layers after [`Source::resolve`].
pub(crate) fn docker_archive(
    file: &Path,
    name: Option<&str>,
) -> Result<impl Source + use<>, Error> {
    Ok(DockerArchive {
        archive: Archive::open(file)?,
        wanted: name.map(str::to_owned),
        layers: Mutex::new(BTreeMap::new()),
    })
}

impl DockerArchive {
    fn read_member(&self, member: &str) -> Result<Vec<u8>, Error> {
        let section = self.section(member)?;
        let descriptor = Descriptor::new("", Digest::of(b""), section.size());
        document::read(section, &self.name(), member, &descriptor)
    }

    fn section(&self, member: &str) -> Result<Section, Error> {
        self.archive
            .member(member)
            .ok_or_else(|| self.bad(member, "is missing".to_owned()))
    }

    fn bad(&self, what: &str, why: String) -> Error {
        Error::BadDocument {
            name: self.name(),
            what: what.to_owned(),
            why,
        }
    }

    fn image(&self) -> Result<Image, Error> {
        let bytes = self.read_member("manifest.json")?;
        let mut images: Vec<Image> = document::parse_json(&self.name(), "manifest.json", &bytes)?;
        let number = self.wanted.as_ref().and_then(|name| name.strip_prefix('@'));
        if let Some(number) = number {
            let found = number
                .parse()
                .ok()
                .and_then(|at: usize| images.into_iter().nth(at));
            return found.ok_or_else(|| Error::NotFound { name: self.name() });
        }
        if let Some(wanted) = &self.wanted {
            let position = images
                .iter()
                .position(|image| image.tags().any(|tag| same_name(tag, wanted)))
                .ok_or_else(|| Error::NotFound { name: self.name() })?;
            return Ok(images.swap_remove(position));
        }
        match (images.pop(), images.len()) {
            (Some(only), 0) => Ok(only),
            (None, _) => Err(self.bad("manifest.json", "lists no image".to_owned())),
            (Some(last), rest) => Err(Error::Ambiguous {
                name: self.name(),
                count: rest + 1,
                names: images
                    .iter()
                    .chain([&last])
                    .flat_map(|image| image.tags().map(str::to_owned))
                    .collect(),
            }),
        }
    }

    /// Describes a layer; a compressed one is read once for its digest.
    fn layer(&self, member: &str, diff_id: &DiffId) -> Result<Descriptor, Error> {
        let section = self.section(member)?;
        let read = |cause| Error::Read {
            path: self.archive.path().join(member),
            cause,
        };
        let mut magic = Vec::new();
        section
            .clone()
            .take(4)
            .read_to_end(&mut magic)
            .map_err(read)?;
        let media_type = match magic.as_slice() {
            [0x1f, 0x8b, ..] => media_type::DOCKER_LAYER_GZIP,
            [0x28, 0xb5, 0x2f, 0xfd] => media_type::DOCKER_LAYER_ZSTD,
            _ => media_type::DOCKER_LAYER,
        };
        // The digest of an uncompressed layer is its diff_id; the store checks it while it reads.
        let digest = if media_type == media_type::DOCKER_LAYER {
            diff_id.0.clone()
        } else {
            let mut hasher = Hasher::new();
            io::copy(&mut section.clone(), &mut hasher).map_err(read)?;
            hasher.finish()
        };
        let descriptor = Descriptor::new(media_type, digest.clone(), section.size());
        self.layers
            .lock()
            .expect("no holder of this lock panics")
            .insert(digest, section);
        Ok(descriptor)
    }
}

impl Source for DockerArchive {
    fn resolve(&self, _platform: &Platform) -> Result<Resolved, Error> {
        let image = self.image()?;
        let config_bytes = self.read_member(&image.config)?;
        let config: ImageConfig = document::parse_json(&self.name(), &image.config, &config_bytes)?;
        let diff_ids = &config.rootfs.diff_ids;
        if diff_ids.len() != image.layers.len() {
            let (ids, layers) = (diff_ids.len(), image.layers.len());
            let why = format!("lists {ids} layers where manifest.json lists {layers}");
            return Err(self.bad(&image.config, why));
        }
        let layers = image.layers.iter().zip(diff_ids);
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(media_type::DOCKER_MANIFEST.to_owned()),
            config: Descriptor::new(
                media_type::DOCKER_CONFIG,
                Digest::of(&config_bytes),
                config_bytes.len() as u64,
            ),
            layers: layers
                .map(|(member, diff_id)| self.layer(member, diff_id))
                .collect::<Result<_, _>>()?,
            annotations: BTreeMap::new(),
        };
        let manifest_bytes = to_json(&manifest);
        Ok(Resolved {
            manifest_digest: Digest::of(&manifest_bytes),
            manifest_bytes,
            manifest,
            config_bytes,
            config,
        })
    }

    fn open_blob(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send>, Error> {
        let layers = self.layers.lock().expect("no holder of this lock panics");
        let Some(section) = layers.get(&descriptor.digest) else {
            return Err(Error::NotFound {
                name: format!("{}: layer {}", self.name(), descriptor.digest),
            });
        };
        Ok(Box::new(Body::new(
            section.clone(),
            &self.name(),
            descriptor,
            0,
        )))
    }

    fn name(&self) -> String {
        let path = self.archive.path().display();
        match &self.wanted {
            None => path.to_string(),
            Some(wanted) => format!("{path}:{wanted}"),
        }
    }
}

impl Image {
    fn tags(&self) -> impl Iterator<Item = &str> {
        self.repo_tags.iter().flatten().map(String::as_str)
    }
}

/// Whether two names mean the same image once docker's defaults are filled in.
fn same_name(a: &str, b: &str) -> bool {
    let full = |name: &str| parse_reference(name).map(|name| name.whole());
    a == b || matches!((full(a), full(b)), (Ok(a), Ok(b)) if a == b)
}
