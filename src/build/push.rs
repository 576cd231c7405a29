//! Images on their way to a registry: from the store, a layout or an archive.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use super::downloads::{Meter, at_once, options, or_canceled};
use super::error::StepError;
use super::event::{EventSender, VertexId};
use super::pull::watched;
use crate::oci::{
    Descriptor, Digest, ImageConfig, Index, Manifest, Platform, Reference, media_type,
};
use crate::sandbox::Cancel;
use crate::store::Store;
use crate::transport::{self, Location, Repository, ResolvedIndex, Sent, Source};

/// The vertex of a push by itself.
const VERTEX: VertexId = VertexId(0);

/// An index may point at one more level of indexes.
const INDEXES: u32 = 1;

/// How many other repositories are offered to the registry as places that have a blob.
const MOUNTS: usize = 8;

/// What a push came to.
#[derive(Debug)]
pub(crate) struct Pushed {
    /// Of the manifest or index, and how many bytes it has.
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    /// How each layer came there.
    pub(crate) layers: Vec<(Digest, Sent)>,
}

/// An image whose documents are at hand.
struct Package<'a> {
    /// Configurations and layers, each once.
    blobs: Vec<Descriptor>,
    configs: BTreeSet<Digest>,
    /// What an index holds, before it, each once.
    manifests: Vec<(String, Vec<u8>)>,
    top: (String, Vec<u8>),
    origin: Origin<'a>,
}

enum Origin<'a> {
    Store(&'a Store),
    Source(Box<dyn Source>),
}

impl Package<'_> {
    fn new<'a>(media_type: String, bytes: Vec<u8>, origin: Origin<'a>) -> Package<'a> {
        Package {
            blobs: Vec::new(),
            configs: BTreeSet::new(),
            manifests: Vec::new(),
            top: (media_type, bytes),
            origin,
        }
    }

    fn add(&mut self, manifest: &Manifest) {
        self.configs.insert(manifest.config.digest.clone());
        for blob in manifest.layers.iter().chain([&manifest.config]) {
            if !self.blobs.iter().any(|there| there.digest == blob.digest) {
                self.blobs.push(blob.clone());
            }
        }
    }

    /// Adds what an index of the store holds, of nested indexes too.
    fn add_index(&mut self, store: &Store, index: &Index, levels: u32) -> Result<(), StepError> {
        for entry in &index.manifests {
            if !store.has_blob(entry) {
                return Err(incomplete(entry));
            }
            let bytes = store.read_blob(&entry.digest)?;
            if is_index(entry) {
                if levels > 0 {
                    self.add_index(store, &parse(&bytes)?, levels - 1)?;
                }
            } else {
                self.add(&parse(&bytes)?);
            }
            self.add_manifest(&entry.media_type, bytes);
        }
        Ok(())
    }

    fn add_manifest(&mut self, media_type: &str, bytes: Vec<u8>) {
        if !self.manifests.iter().any(|(_, there)| *there == bytes) {
            self.manifests.push((media_type.to_owned(), bytes));
        }
    }

    fn open(&self, blob: &Descriptor) -> Result<Box<dyn Read + Send>, transport::Error> {
        match &self.origin {
            Origin::Source(source) => source.open_blob(blob),
            Origin::Store(store) => {
                let file = store.open_blob(&blob.digest);
                let file = file.map_err(|error| transport::Error::Read {
                    path: blob.digest.to_string().into(),
                    cause: std::io::Error::other(error),
                })?;
                Ok(Box::new(file))
            }
        }
    }
}

/// Pushes the image or index that the store has as `name`, to where the name says; with `platform`
/// that image of it alone.
pub(crate) fn push(
    store: &Store,
    name: &Reference,
    to: &Reference,
    platform: Option<&Platform>,
    events: &EventSender,
    cancel: &Cancel,
) -> Result<Pushed, StepError> {
    watched(events, format!("pushing {}", to.whole()), || {
        let Some(descriptor) = store.find_tag(name)? else {
            return Err(StepError::NotStored { name: name.whole() });
        };
        let descriptor = match platform {
            None => descriptor,
            Some(platform) => of_platform(store, descriptor, &name.whole(), platform)?,
        };
        push_stored(store, &descriptor, to, false, events, VERTEX, cancel)
    })
}

/// The image for `platform` of what `name` is in the store.
fn of_platform(
    store: &Store,
    top: Descriptor,
    name: &str,
    platform: &Platform,
) -> Result<Descriptor, StepError> {
    if is_index(&top) {
        let index: Index = parse(&store.read_blob(&top.digest)?)?;
        let chosen = transport::choose(name, &index.manifests, platform);
        let chosen = chosen.map_err(|source| StepError::Base {
            name: name.to_owned(),
            source: Box::new(source),
        })?;
        return Ok(chosen.clone());
    }
    let manifest: Manifest = parse(&store.read_blob(&top.digest)?)?;
    let config: ImageConfig = parse(&store.read_blob(&manifest.config.digest)?)?;
    let own = Platform::new(&config.os, &config.architecture, config.variant.as_deref());
    if own.satisfies(platform) {
        Ok(top)
    } else {
        Err(StepError::Value {
            message: format!("{name} has no image for {platform}; there is {own}"),
        })
    }
}

/// Pushes what a layout or an archive has: an index with all that is in it, or the image for `platform`
/// of it.
pub(crate) fn push_from(
    store: &Store,
    from: &Location,
    to: &Reference,
    platform: Option<&Platform>,
    events: &EventSender,
    cancel: &Cancel,
) -> Result<Pushed, StepError> {
    watched(events, format!("pushing {}", to.whole()), || {
        let failed = |source| StepError::Push {
            name: to.whole(),
            source: Box::new(source),
        };
        let source = from.open(&options(cancel)).map_err(failed)?;
        if platform.is_none()
            && let Some(index) = source.index().map_err(failed)?
        {
            let package = package_of(index, source)?;
            return send(store, &package, to, false, events, VERTEX, cancel);
        }
        let host = Platform::host();
        let resolved = source.resolve(platform.unwrap_or(&host)).map_err(failed)?;
        let of_type = resolved.manifest.media_type.clone();
        let mut package = Package::new(
            of_type.unwrap_or_else(|| media_type::MANIFEST.to_owned()),
            resolved.manifest_bytes,
            Origin::Source(source),
        );
        package.add(&resolved.manifest);
        send(store, &package, to, false, events, VERTEX, cancel)
    })
}

/// Pushes the manifest or index `descriptor` of the store; `by_digest` gives it no tag.
pub(super) fn push_stored(
    store: &Store,
    descriptor: &Descriptor,
    to: &Reference,
    by_digest: bool,
    events: &EventSender,
    id: VertexId,
    cancel: &Cancel,
) -> Result<Pushed, StepError> {
    let bytes = store.read_blob(&descriptor.digest)?;
    let of_type = descriptor.media_type.clone();
    let mut package = Package::new(of_type, bytes, Origin::Store(store));
    if is_index(descriptor) {
        let index: Index = parse(&package.top.1)?;
        package.add_index(store, &index, INDEXES)?;
    } else {
        let manifest: Manifest = parse(&package.top.1)?;
        package.add(&manifest);
    }
    send(store, &package, to, by_digest, events, id, cancel)
}

/// What a registry would refuse: an index one of whose images is not at hand.
fn incomplete(entry: &Descriptor) -> StepError {
    let platform = entry.platform.as_ref().map(ToString::to_string);
    let image = platform.unwrap_or_else(|| entry.digest.short().to_owned());
    StepError::Value {
        message: format!(
            "the index names an image for {image} that is not here; --platform pushes one image"
        ),
    }
}

/// An index of a layout or an archive, images before what names them.
fn package_of(
    index: ResolvedIndex,
    source: Box<dyn Source>,
) -> Result<Package<'static>, StepError> {
    if let Some(missing) = index.missing.first() {
        return Err(incomplete(missing));
    }
    let (top, bytes) = index.top;
    let mut package = Package::new(top.media_type, bytes, Origin::Source(source));
    for (entry, image) in index.images {
        package.add(&image.manifest);
        package.add_manifest(&entry.media_type, image.manifest_bytes);
    }
    for (entry, bytes, manifest) in index.others {
        package.add(&manifest);
        package.add_manifest(&entry.media_type, bytes);
    }
    // The innermost index was found last.
    for (entry, bytes) in index.indexes.into_iter().rev() {
        package.add_manifest(&entry.media_type, bytes);
    }
    Ok(package)
}

/// Whether a descriptor names a choice of manifests.
pub(super) fn is_index(descriptor: &Descriptor) -> bool {
    matches!(
        descriptor.media_type.as_str(),
        media_type::INDEX | media_type::DOCKER_INDEX
    )
}

fn parse<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, StepError> {
    serde_json::from_slice(bytes).map_err(|error| StepError::Value {
        message: format!("a document in the store is damaged: {error}"),
    })
}

/// Sends the package, until the end is wanted.
fn send(
    store: &Store,
    package: &Package<'_>,
    to: &Reference,
    by_digest: bool,
    events: &EventSender,
    id: VertexId,
    cancel: &Cancel,
) -> Result<Pushed, StepError> {
    let sent = send_or_fail(store, package, to, by_digest, events, id, cancel);
    or_canceled(cancel, sent)
}

/// Blobs first, several at once; then the manifests; then the name.
fn send_or_fail(
    store: &Store,
    package: &Package<'_>,
    to: &Reference,
    by_digest: bool,
    events: &EventSender,
    id: VertexId,
    cancel: &Cancel,
) -> Result<Pushed, StepError> {
    let failed = |source| StepError::Push {
        name: to.whole(),
        source: Box::new(source),
    };
    let mounts = mounts(store, to)?;
    let others: BTreeSet<String> = package
        .blobs
        .iter()
        .filter_map(|blob| mounts.get(&blob.digest).cloned())
        .take(MOUNTS)
        .collect();
    let others: Vec<String> = others.into_iter().collect();
    let repository = Repository::open(to, &others, &options(cancel)).map_err(failed)?;
    let total = package.blobs.iter().map(|blob| blob.size).sum();
    let meter = Meter::new(events, id, total);
    let results = at_once(&package.blobs, &AtomicBool::new(false), |blob| {
        if cancel.is_canceled() {
            return Err(StepError::Canceled);
        }
        let (before, began) = (AtomicU64::new(0), Instant::now());
        let progress = |done| meter.advance(blob, before.swap(done, Ordering::Relaxed), done);
        let mount = mounts.get(&blob.digest).map(String::as_str);
        let mount = mount.filter(|from| others.iter().any(|other| other == from));
        let sent = repository
            .send_blob(blob, mount, &|| package.open(blob), &progress)
            .map_err(failed)?;
        meter.finish(blob, began.elapsed());
        Ok(sent)
    });
    let mut layers = Vec::new();
    for (index, sent) in results {
        let digest = &package.blobs[index].digest;
        let sent = sent?;
        if !package.configs.contains(digest) {
            layers.push((digest.clone(), sent));
        }
    }
    if cancel.is_canceled() {
        return Err(StepError::Canceled);
    }
    for (of_type, bytes) in &package.manifests {
        let name = Digest::of(bytes).to_string();
        repository
            .send_manifest(&name, of_type, bytes)
            .map_err(failed)?;
    }
    let (of_type, bytes) = &package.top;
    let digest = Digest::of(bytes);
    let name = match to.tag() {
        Some(tag) if !by_digest => tag,
        _ => digest.as_str(),
    };
    repository
        .send_manifest(name, of_type, bytes)
        .map_err(failed)?;
    Ok(Pushed {
        digest,
        size: bytes.len() as u64,
        layers,
    })
}

/// Which other repositories of `to`'s registry have which layers, as far as the store's names tell.
fn mounts(store: &Store, to: &Reference) -> Result<BTreeMap<Digest, String>, StepError> {
    let mut found = BTreeMap::new();
    for (name, descriptor) in store.named_manifests()? {
        let Ok(name) = crate::oci::parse_reference(&name) else {
            continue;
        };
        if name.registry() != to.registry() || name.repository() == to.repository() {
            continue;
        }
        let Ok(bytes) = store.read_blob(&descriptor.digest) else {
            continue;
        };
        let Ok(manifest) = serde_json::from_slice::<Manifest>(&bytes) else {
            continue;
        };
        for layer in manifest.layers {
            found.insert(layer.digest, name.repository().to_owned());
        }
    }
    Ok(found)
}
