//! Images from archives, as `docker save` and other tools write them.

use std::io::{self, Read};
use std::path::Path;

use super::{Error, familiar};
use crate::layer::Decoder;
use crate::oci::{self, Descriptor, DiffId, Digest, Hasher, Platform, Reference, media_type};
use crate::store::{LayerBlob, Store};
use crate::transport::{self, Resolved, ResolvedIndex, Source};

/// An image that was loaded: a name as docker shows it, or the id of an image without one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Loaded {
    Named(String),
    Unnamed(Digest),
}

/// Puts every image of the archive `file` into the store and names them as the archive does. Each layer's
/// blob and content have the digests that the image says, and so has the manifest or index where a name of
/// it has one, or nothing of that image is kept. Layers are unpacked by the first build that needs them.
///
/// An index is kept as it is, with those of its images that the archive has, or with those for
/// `platforms` unless that is empty.
pub(crate) fn load(
    store: &Store,
    file: &Path,
    platforms: &[Platform],
) -> Result<Vec<Loaded>, Error> {
    let shown = file.display().to_string();
    let source_error = |source| Error::Source {
        name: shown.clone(),
        source: Box::new(source),
    };
    let mut loaded = Vec::new();
    for archived in transport::archived(file).map_err(source_error)? {
        let options = transport::Options::default();
        let source = archived.location.open(&options).map_err(source_error)?;
        let names = archived.names.iter().map(|text| {
            oci::parse_reference(text).map_err(|source| Error::Reference {
                text: text.clone(),
                source,
            })
        });
        let names = names.collect::<Result<Vec<Reference>, _>>()?;
        let id = match source.index().map_err(source_error)? {
            Some(index) => {
                check_names(&names, &index.top.0.digest, &shown)?;
                keep_index(store, source.as_ref(), &index, &names, platforms, &shown)?
            }
            None => {
                let host = Platform::host();
                let wanted = platforms.first().unwrap_or(&host);
                let image = source.resolve(wanted).map_err(source_error)?;
                check_names(&names, &Digest::of(&image.manifest_bytes), &shown)?;
                check_platform(&image, platforms, &shown)?;
                let manifest = keep(store, source.as_ref(), &image, &shown)?;
                store.set_tags(&names, &manifest)?;
                image.manifest.config.digest
            }
        };
        if names.is_empty() {
            loaded.push(Loaded::Unnamed(id));
        }
        let shown = names.iter().map(|name| familiar(&name.whole()).to_owned());
        loaded.extend(shown.map(Loaded::Named));
    }
    if loaded.is_empty() {
        return Err(Error::Empty { name: shown });
    }
    Ok(loaded)
}

/// A plain copy of an archive that comes from a pipe or is compressed, gone with the value.
pub(crate) fn spool(
    store: &Store,
    archive: &mut dyn Read,
    name: &str,
) -> Result<tempfile::NamedTempFile, Error> {
    let read = |source| Error::Layer {
        name: name.to_owned(),
        source,
    };
    let mut file = store.loose_file()?;
    let mut decoder = Decoder::detect(archive).map_err(read)?;
    io::copy(&mut decoder, file.as_file_mut()).map_err(read)?;
    Ok(file)
}

fn platform_of(image: &Resolved) -> Platform {
    let config = &image.config;
    Platform::new(&config.os, &config.architecture, config.variant.as_deref())
}

/// What is built on `name@digest` trusts that the image of this name has that digest.
fn check_names(names: &[Reference], actual: &Digest, archive: &str) -> Result<(), Error> {
    let is_false = |name: &&Reference| {
        name.digest()
            .is_some_and(|claimed| claimed != actual.as_str())
    };
    match names.iter().find(is_false) {
        None => Ok(()),
        Some(name) => Err(Error::OtherDigest {
            name: archive.to_owned(),
            claimed: name.whole(),
            actual: actual.clone(),
        }),
    }
}

/// An archive that names one image has to have the one that was asked for.
fn check_platform(image: &Resolved, wanted: &[Platform], archive: &str) -> Result<(), Error> {
    let own = platform_of(image);
    match wanted {
        [first, ..] if !wanted.iter().any(|wanted| own.satisfies(wanted)) => Err(Error::Platform {
            name: archive.to_owned(),
            platform: first.to_string(),
        }),
        _ => Ok(()),
    }
}

/// Brings an index and its images into the store and names it; its digest.
fn keep_index(
    store: &Store,
    source: &dyn Source,
    index: &ResolvedIndex,
    names: &[Reference],
    platforms: &[Platform],
    archive: &str,
) -> Result<Digest, Error> {
    let is_wanted = |(entry, image): &&(Descriptor, Resolved)| {
        let own = entry.platform.clone().unwrap_or_else(|| platform_of(image));
        platforms.is_empty() || platforms.iter().any(|wanted| own.satisfies(wanted))
    };
    let images: Vec<_> = index.images.iter().filter(is_wanted).collect();
    if images.is_empty() {
        return Err(match platforms.first() {
            Some(platform) => Error::Platform {
                name: archive.to_owned(),
                platform: platform.to_string(),
            },
            None => Error::Empty {
                name: archive.to_owned(),
            },
        });
    }
    for (_, image) in images {
        keep(store, source, image, archive)?;
    }
    let others = index.others.iter().filter(|_| platforms.is_empty());
    for (entry, bytes, manifest) in others {
        for blob in manifest.layers.iter().chain([&manifest.config]) {
            copy(store, source, blob, archive)?;
        }
        store.put_blob(&entry.media_type, bytes)?;
        store.sync_blobs([&entry.digest])?;
    }
    for (entry, bytes) in index.indexes.iter().chain([&index.top]) {
        store.put_blob(&entry.media_type, bytes)?;
        store.sync_blobs([&entry.digest])?;
    }
    let (top, bytes) = &index.top;
    let descriptor = Descriptor::new(&top.media_type, top.digest.clone(), bytes.len() as u64);
    store.set_tags(names, &descriptor)?;
    Ok(top.digest.clone())
}

/// Copies a blob that is no layer of files.
fn copy(
    store: &Store,
    source: &dyn Source,
    descriptor: &Descriptor,
    archive: &str,
) -> Result<(), Error> {
    if store.has_blob(descriptor) {
        return Ok(());
    }
    let mut blob = source
        .open_blob(descriptor)
        .map_err(|source| Error::Source {
            name: archive.to_owned(),
            source: Box::new(source),
        })?;
    let mut writer = store.blob_writer(Some(descriptor))?;
    io::copy(&mut blob, &mut writer).map_err(|source| Error::Layer {
        name: archive.to_owned(),
        source,
    })?;
    store.publish_blob(writer.finish()?)?;
    Ok(store.sync_blobs([&descriptor.digest])?)
}

/// Brings one image's blobs into the store, flushed to disk; its manifest.
fn keep(
    store: &Store,
    source: &dyn Source,
    image: &Resolved,
    archive: &str,
) -> Result<Descriptor, Error> {
    let diff_ids = &image.config.rootfs.diff_ids;
    let mut staged = Vec::new();
    for (descriptor, diff_id) in image.manifest.layers.iter().zip(diff_ids) {
        let known = store.layer_blobs(diff_id);
        if known
            .iter()
            .any(|blob| blob.descriptor.digest == descriptor.digest)
        {
            continue;
        }
        staged.push((
            descriptor,
            diff_id,
            layer(store, source, descriptor, diff_id, archive)?,
        ));
    }
    for (descriptor, diff_id, (blob, size)) in staged {
        store.publish_blob(blob)?;
        let record = LayerBlob {
            descriptor: descriptor.clone(),
            encoding: None,
        };
        store.add_layer_blob(diff_id, record)?;
        store.remember_layer_size(diff_id, size)?;
    }
    store.put_blob(&image.manifest.config.media_type, &image.config_bytes)?;
    let manifest_type = image.manifest.media_type.as_deref();
    let manifest_type = manifest_type.unwrap_or(media_type::MANIFEST);
    let mut manifest = store.put_blob(manifest_type, &image.manifest_bytes)?;
    manifest.platform = Some(platform_of(image));
    let parts = image.manifest.layers.iter();
    let parts = parts.chain([&image.manifest.config, &manifest]);
    store.sync_blobs(parts.map(|part| &part.digest))?;
    Ok(manifest)
}

/// Copies a layer's blob, and takes the digest and the size of its tar on the way.
fn layer(
    store: &Store,
    source: &dyn Source,
    descriptor: &Descriptor,
    diff_id: &DiffId,
    archive: &str,
) -> Result<(crate::store::StagedBlob, u64), Error> {
    let read = |source| Error::Layer {
        name: archive.to_owned(),
        source,
    };
    let blob = source
        .open_blob(descriptor)
        .map_err(|source| Error::Source {
            name: archive.to_owned(),
            source: Box::new(source),
        })?;
    let mut tee = Tee {
        blob,
        writer: store.blob_writer(Some(descriptor))?,
    };
    let mut hasher = Hasher::new();
    {
        let mut tar = Decoder::detect(&mut tee).map_err(read)?;
        io::copy(&mut tar, &mut hasher).map_err(read)?;
    }
    io::copy(&mut tee, &mut io::sink()).map_err(read)?;
    let size = hasher.length();
    let actual = DiffId(hasher.finish());
    if actual != *diff_id {
        return Err(Error::DiffId {
            name: archive.to_owned(),
            expected: diff_id.clone(),
            actual,
        });
    }
    Ok((tee.writer.finish()?, size))
}

struct Tee<R, W> {
    blob: R,
    writer: W,
}

impl<R: Read, W: io::Write> Read for Tee<R, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.blob.read(buffer)?;
        self.writer.write_all(&buffer[..length])?;
        Ok(length)
    }
}
