//! `rbuild import`: a root file system's tar becomes an image of one layer.

use std::fs::File;
use std::io::{self, Read, Seek as _};
use std::path::Path;

use super::changes::Changes;
use super::error::StepError;
use super::export::ImageBlobs;
use super::image;
use super::stage::{now, rfc3339};
use super::unpacked::{UnpackFailure, unpack_blob};
use crate::layer::{Compression, Encoder};
use crate::oci::{
    Digest, History, ImageConfig, Manifest, Platform, Reference, RootFs, media_type, to_json,
};
use crate::remote::{self, HttpAddress, Watch};
use crate::sandbox::Cancel;
use crate::store::{BlobWriter, LayerBlob, Snapshot, Store};

/// What the image is beside its files.
#[derive(Debug)]
pub(crate) struct Options {
    /// Without one the image is kept unnamed.
    pub(crate) name: Option<Reference>,
    /// Replaces the current time, seconds since 1970.
    pub(crate) epoch: Option<i64>,
    pub(crate) platform: Platform,
    pub(crate) changes: Changes,
    /// The comment of its history; by default it tells the source.
    pub(crate) message: Option<String>,
}

/// Fetches the archive at `address` into a file without a name.
pub(crate) fn fetch(
    store: &Store,
    address: &HttpAddress,
    cancel: &Cancel,
) -> Result<File, StepError> {
    let mut file = store.loose_file()?.into_file();
    let request = remote::Request {
        address,
        authorization: None,
        known: None,
    };
    let mut watch = Watch {
        progress: &mut |_, _| {},
        stop: &|| cancel.is_canceled(),
    };
    remote::fetch(&request, &mut file, &mut watch)?;
    file.rewind().map_err(|source| StepError::Blob {
        name: address.shown(),
        origin: "the store".to_owned(),
        source,
    })?;
    Ok(file)
}

/// Makes an image from `tar`, which may be compressed. The tar becomes the layer as it is: its digest is
/// the layer's DiffId. Returns the image's id.
///
/// The archive is read once: unpacked, hashed, and compressed again on its way into the store.
/// Nothing is published before all of it was good.
pub(crate) fn import(
    store: &Store,
    tar: &mut dyn Read,
    source: &str,
    options: &Options,
) -> Result<Digest, StepError> {
    let shown = options
        .name
        .as_ref()
        .map_or_else(|| "the image".to_owned(), Reference::whole);
    let threads = crate::sys::process::processors();
    let encoder = Encoder::new(store.blob_writer(None)?, Compression::Gzip, None, threads)
        .map_err(|source| StepError::Compress { source })?;
    let decoder = crate::layer::Decoder::detect(tar).map_err(|error| StepError::Blob {
        name: shown.clone(),
        origin: source.to_owned(),
        source: error,
    })?;
    let mut tee = Tee {
        reader: decoder,
        encoder,
        read: 0,
    };
    let (unpacked, diff_id) = unpack_blob(store, &mut tee)
        .map_err(|error: UnpackFailure| error.into_step(&shown, source))?;
    if tee.read == 0 {
        return Err(StepError::Value {
            message: format!("{source} is empty"),
        });
    }
    let blob = tee
        .encoder
        .finish()
        .map_err(|source| StepError::Compress { source })?
        .finish()?;
    let layer = crate::oci::Descriptor::new(media_type::LAYER_GZIP, blob.digest.clone(), blob.size);
    if !store.has_blob(&layer) {
        store.publish_blob(blob)?;
    }
    let record = LayerBlob {
        descriptor: layer.clone(),
        encoding: None,
    };
    // What holds a layer is known before its snapshot is there, whenever this ends.
    store.add_layer_blob(&diff_id, record)?;
    unpacked.publish(store, &Snapshot::default(), diff_id.clone())?;

    let platform = options.platform.clone();
    let created = Some(options.epoch.map_or_else(now, rfc3339));
    // The directories of this machine are nobody else's business.
    let file = Path::new(source)
        .file_name()
        .unwrap_or_default()
        .to_string_lossy();
    let message = options.message.clone();
    let mut config = ImageConfig {
        created: created.clone(),
        architecture: platform.architecture.clone(),
        os: platform.os.clone(),
        variant: platform.variant.clone(),
        rootfs: RootFs {
            diff_ids: vec![diff_id],
            ..RootFs::default()
        },
        history: vec![History {
            created,
            comment: Some(message.unwrap_or_else(|| format!("Imported from {file}"))),
            ..History::default()
        }],
        ..ImageConfig::default()
    };
    options.changes.apply(&mut config)?;
    let config_descriptor = store.put_blob(media_type::CONFIG, &to_json(&config))?;
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media_type::MANIFEST.to_owned()),
        config: config_descriptor.clone(),
        layers: vec![layer.clone()],
        annotations: std::collections::BTreeMap::new(),
    };
    let mut manifest = store.put_blob(media_type::MANIFEST, &to_json(&manifest))?;
    manifest.platform = Some(platform);
    let blobs = ImageBlobs {
        manifest,
        config: config_descriptor.clone(),
        layers: vec![layer],
    };
    image::publish(store, &blobs.into(), options.name.as_slice())?;
    Ok(config_descriptor.digest)
}

/// Compresses what is read.
struct Tee<R> {
    reader: R,
    encoder: Encoder<BlobWriter>,
    read: u64,
}

impl<R: Read> Read for Tee<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.reader.read(buffer)?;
        io::Write::write_all(&mut self.encoder, &buffer[..length])?;
        self.read += length as u64;
        Ok(length)
    }
}
