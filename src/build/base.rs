//! Base images: found in the store or at a source, verified, unpacked into snapshots.

use std::io::{self, Read};
use std::os::fd::AsFd as _;

use super::error::StepError;
use super::event::{Event, EventSender, VertexId};
use super::request::{NamedSource, Request};
use crate::layer::{Decoder, Form, Limits, unpack};
use crate::oci::{
    self, ChainId, Descriptor, DiffId, Digest, Hasher, ImageConfig, Manifest, Platform, Reference,
    media_type,
};
use crate::store::{LayerBlob, Snapshot, StagedBlob, StagedSnapshot, Store};
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

/// Finds the image `text` for the request's platform: in the store, else in its registry. With
/// `--pull` the registry is asked first.
pub(crate) fn find_image(store: &Store, text: &str, request: &Request) -> Result<Base, StepError> {
    let reference = parse_reference(text)?;
    if (!request.pull || reference.digest().is_some())
        && let Some(base) = find_stored(store, &reference, text)?
    {
        return Ok(base);
    }
    let options = transport::Options::default();
    let source: Box<dyn Source> = Box::new(transport::registry(reference.clone(), &options));
    resolve(source, text, Some(reference), &request.platform)
}

/// Opens what a named context names; `None` when it is a directory.
pub(crate) fn find_named(
    store: &Store,
    source: &NamedSource,
    name: &str,
    request: &Request,
) -> Result<Option<Base>, StepError> {
    let NamedSource::Image(location) = source else {
        return Ok(None);
    };
    if let transport::Location::Image(reference) = location {
        return find_image(store, &reference.whole(), request).map(Some);
    }
    let base_error = |source| StepError::Base {
        name: name.to_owned(),
        source: Box::new(source),
    };
    let opened = location
        .open(&transport::Options::default())
        .map_err(base_error)?;
    resolve(opened, name, None, &request.platform).map(Some)
}

fn find_stored(
    store: &Store,
    reference: &Reference,
    name: &str,
) -> Result<Option<Base>, StepError> {
    let Some(descriptor) = store.find_tag(reference)? else {
        return Ok(None);
    };
    let read = |descriptor: &Descriptor| store.read_blob(&descriptor.digest);
    let manifest: Manifest = parse(&read(&descriptor)?)?;
    let config: ImageConfig = parse(&read(&manifest.config)?)?;
    Ok(Some(Base {
        name: name.to_owned(),
        config,
        digest: descriptor.digest,
        manifest,
        remote: None,
    }))
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
        let complete = self.remote.is_none()
            && self
                .manifest
                .layers
                .iter()
                .all(|layer| store.has_blob(layer))
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
    ) -> Result<Snapshot, StepError> {
        let diff_ids = &self.config.rootfs.diff_ids;
        if diff_ids.len() != self.manifest.layers.len() {
            return Err(StepError::Value {
                message: format!("{} has another number of layers than diff_ids", self.name),
            });
        }
        let mut fetch = Fetch {
            base: self,
            store,
            events,
            id,
            staged: Vec::new(),
        };
        let snapshot = fetch.layers(diff_ids)?;
        let staged = fetch.staged;
        for (diff_id, descriptor, blob) in staged {
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
        if let Some(Remote {
            resolved,
            tag: Some(tag),
            ..
        }) = &self.remote
        {
            keep(store, resolved, tag)?;
        }
        Ok(snapshot)
    }
}

/// Keeps a pulled image under its name, so that the next build finds it here.
fn keep(store: &Store, resolved: &Resolved, tag: &Reference) -> Result<(), StepError> {
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
    Ok(())
}

struct Fetch<'a> {
    base: &'a Base,
    store: &'a Store,
    events: &'a EventSender,
    id: VertexId,
    staged: Vec<(DiffId, Descriptor, Option<StagedBlob>)>,
}

impl Fetch<'_> {
    /// Unpacks the layers that the store lacks, and publishes their snapshots bottom first. A layer
    /// can only be put on a published one, so all blobs are read before the first is published.
    fn layers(&mut self, diff_ids: &[DiffId]) -> Result<Snapshot, StepError> {
        let mut snapshot = Snapshot::default();
        let mut waiting: Vec<(DiffId, Unpacked)> = Vec::new();
        for (diff_id, descriptor) in diff_ids.iter().zip(&self.base.manifest.layers) {
            let known = waiting.is_empty().then(|| {
                let chain = ChainId::on(snapshot.chain_id(), diff_id);
                self.store
                    .has_snapshot(&chain)
                    .then(|| self.store.snapshot(Some(&chain)))
            });
            if let Some(Some(found)) = known
                && self.store.has_blob(descriptor)
            {
                snapshot = found?;
                continue;
            }
            waiting.push((diff_id.clone(), self.layer(diff_id, descriptor)?));
        }
        for (diff_id, unpacked) in waiting {
            snapshot = unpacked.publish(self.store, &snapshot, diff_id)?;
        }
        Ok(snapshot)
    }

    fn layer(&mut self, diff_id: &DiffId, descriptor: &Descriptor) -> Result<Unpacked, StepError> {
        let (reader, blob) = if self.store.has_blob(descriptor) {
            let file = self.store.open_blob(&descriptor.digest)?;
            (Box::new(file) as Box<dyn Read + Send>, None)
        } else {
            let Some(remote) = &self.base.remote else {
                let missing = crate::store::Error::MissingBlob(descriptor.digest.clone());
                return Err(self.verify(missing));
            };
            let name = self.base.name.clone();
            let reader = remote
                .source
                .open_blob(descriptor)
                .map_err(|source| StepError::Base {
                    name,
                    source: Box::new(source),
                })?;
            (reader, Some(self.store.blob_writer(Some(descriptor))?))
        };
        let origin = self
            .base
            .remote
            .as_ref()
            .map_or_else(|| "the store".into(), |r| r.source.name());
        let mut tee = Tee {
            reader,
            blob,
            read: 0,
            progress: self.progress(descriptor),
        };
        let unpacked = unpack_layer(self.store, &mut tee, diff_id)
            .map_err(|error| error.into_step(&self.base.name, &origin))?;
        // Padding after the end of the archive belongs to the blob too.
        io::copy(&mut tee, &mut io::sink()).map_err(|source| StepError::Blob {
            name: self.base.name.clone(),
            origin,
            source,
        })?;
        let staged = match tee.blob {
            Some(blob) => Some(blob.finish().map_err(|source| self.verify(source))?),
            None => None,
        };
        self.staged
            .push((diff_id.clone(), descriptor.clone(), staged));
        Ok(unpacked)
    }

    fn verify(&self, source: crate::store::Error) -> StepError {
        StepError::Verify {
            name: self.base.name.clone(),
            source,
        }
    }

    fn progress(&self, descriptor: &Descriptor) -> impl FnMut(u64) + use<> {
        let (events, id) = (self.events.clone(), self.id);
        let (label, total) = (descriptor.digest.to_string(), descriptor.size);
        move |done| {
            let total = Some(total);
            events.send(Event::Progress {
                id,
                label: label.clone(),
                done,
                total,
            });
        }
    }
}

/// Copies what is read into a blob, and counts it.
struct Tee<F> {
    reader: Box<dyn Read + Send>,
    blob: Option<crate::store::BlobWriter>,
    read: u64,
    progress: F,
}

impl<F: FnMut(u64)> Read for Tee<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.reader.read(buffer)?;
        if let Some(blob) = &mut self.blob {
            io::Write::write_all(blob, &buffer[..length])?;
        }
        self.read += length as u64;
        (self.progress)(self.read);
        Ok(length)
    }
}

/// A layer's directory, complete, that stands on nothing yet.
#[derive(Debug)]
pub(crate) struct Unpacked {
    active: crate::store::Active,
}

impl Unpacked {
    /// Puts the layer on `parent`.
    pub(crate) fn publish(
        self,
        store: &Store,
        parent: &Snapshot,
        diff_id: DiffId,
    ) -> Result<Snapshot, StepError> {
        let active = store.rebase(self.active, parent)?;
        let staged: StagedSnapshot = store.stage(active, diff_id);
        Ok(store.publish_snapshot(staged)?)
    }
}

/// Why a layer could not be unpacked.
#[derive(Debug)]
pub(crate) enum UnpackFailure {
    Store(crate::store::Error),
    Decode(io::Error),
    Unpack(crate::layer::UnpackError),
    DiffId { expected: DiffId, actual: DiffId },
    Open(crate::sys::Error),
}

impl UnpackFailure {
    pub(crate) fn into_step(self, name: &str, origin: &str) -> StepError {
        let name = name.to_owned();
        match self {
            Self::Store(source) => StepError::Store { source },
            Self::Decode(source) => StepError::Blob {
                name,
                origin: origin.to_owned(),
                source,
            },
            Self::Unpack(source) => StepError::Unpack { name, source },
            Self::DiffId { expected, actual } => StepError::DiffId {
                name,
                expected,
                actual,
            },
            Self::Open(source) => StepError::Directory { path: name, source },
        }
    }
}

/// Unpacks a compressed layer into a new directory and checks that its tar is `expected`.
fn unpack_layer(
    store: &Store,
    blob: &mut dyn Read,
    expected: &DiffId,
) -> Result<Unpacked, UnpackFailure> {
    let (unpacked, actual) = unpack_blob(store, blob)?;
    if actual == *expected {
        Ok(unpacked)
    } else {
        Err(UnpackFailure::DiffId {
            expected: expected.clone(),
            actual,
        })
    }
}

/// Unpacks a compressed layer into a new directory and says which one it is.
pub(crate) fn unpack_blob(
    store: &Store,
    blob: &mut dyn Read,
) -> Result<(Unpacked, DiffId), UnpackFailure> {
    let active = store
        .prepare(&Snapshot::default())
        .map_err(UnpackFailure::Store)?;
    let root = crate::sys::fs::open_directory(&active.upper()).map_err(UnpackFailure::Open)?;
    let mut tar = Hashing {
        reader: Decoder::detect(blob).map_err(UnpackFailure::Decode)?,
        hasher: Hasher::new(),
    };
    unpack(
        &mut tar,
        root.as_fd(),
        store.ownership(),
        Form::Overlay,
        &Limits::default(),
    )
    .map_err(UnpackFailure::Unpack)?;
    io::copy(&mut tar, &mut io::sink()).map_err(UnpackFailure::Decode)?;
    Ok((Unpacked { active }, DiffId(tar.hasher.finish())))
}

struct Hashing<R> {
    reader: R,
    hasher: Hasher,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.reader.read(buffer)?;
        self.hasher.update(&buffer[..length]);
        Ok(length)
    }
}
