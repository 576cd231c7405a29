//! A small image.

use std::collections::BTreeMap;

use crate::oci::{
    Descriptor, DiffId, Digest, ImageConfig, Index, Manifest, Platform, media_type, to_json,
};

/// The bytes of an image with one layer.
pub(super) struct Image {
    pub(super) layer: Vec<u8>,
    pub(super) config: Vec<u8>,
    pub(super) manifest: Vec<u8>,
}

impl Image {
    /// The image for `platform`; `text` makes it another one.
    pub(super) fn new(platform: &Platform, text: &str) -> Self {
        let layer = tar(&[("file", text.as_bytes())]);
        let mut config = ImageConfig {
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            ..ImageConfig::default()
        };
        config.rootfs.diff_ids = vec![DiffId(Digest::of(&layer))];
        let config = to_json(&config);
        let describe = |media_type, bytes: &[u8]| {
            Descriptor::new(media_type, Digest::of(bytes), bytes.len() as u64)
        };
        let manifest = to_json(&Manifest {
            schema_version: 2,
            media_type: Some(media_type::MANIFEST.to_owned()),
            config: describe(media_type::CONFIG, &config),
            layers: vec![describe(media_type::LAYER, &layer)],
            annotations: BTreeMap::new(),
        });
        Self {
            layer,
            config,
            manifest,
        }
    }

    pub(super) fn descriptor(&self) -> Descriptor {
        let digest = Digest::of(&self.manifest);
        Descriptor::new(media_type::MANIFEST, digest, self.manifest.len() as u64)
    }

    pub(super) fn layer_descriptor(&self) -> Descriptor {
        let digest = Digest::of(&self.layer);
        Descriptor::new(media_type::LAYER, digest, self.layer.len() as u64)
    }
}

pub(super) fn index(manifests: Vec<Descriptor>) -> Vec<u8> {
    to_json(&Index {
        schema_version: 2,
        media_type: Some(media_type::INDEX.to_owned()),
        manifests,
        annotations: BTreeMap::new(),
    })
}

/// A tar of plain files; a name that ends in `@` is a link to the bytes' path.
pub(super) fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        if let Some(name) = name.strip_suffix('@') {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            let target = std::str::from_utf8(bytes).unwrap();
            builder.append_link(&mut header, name, target).unwrap();
        } else {
            header.set_size(bytes.len() as u64);
            builder.append_data(&mut header, name, *bytes).unwrap();
        }
    }
    builder.into_inner().unwrap()
}

pub(super) fn amd64() -> Platform {
    Platform::new("linux", "amd64", None)
}

pub(super) fn arm64() -> Platform {
    Platform::new("linux", "arm64", None)
}
