//! Outputs: a built image as an archive, a layout directory or a plain file system.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use super::archive::Out;
use crate::build::request::Destination;
use crate::oci::{Descriptor, Digest, Index, Platform, Reference, media_type, to_json};
use crate::store::{self, Store};

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot write the archive to standard output")]
    Stdout { source: io::Error },
    #[error("cannot read the image back from the store")]
    Store { source: store::Error },
    #[error("{} is not an OCI image layout", path.display())]
    NotALayout {
        path: PathBuf,
        source: serde_json::Error,
    },
}

impl Error {
    /// The failure of writing an archive to `destination`.
    pub(crate) fn of_archive(destination: &Destination, source: io::Error) -> Self {
        match destination {
            Destination::File(path) => Self::Write {
                path: path.clone(),
                source,
            },
            Destination::Stdout => Self::Stdout { source },
        }
    }
}

/// A manifest and all that it needs, every blob of it in the store.
#[derive(Debug, Clone)]
pub(crate) struct ImageBlobs {
    pub(crate) manifest: Descriptor,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

/// What a name stands for: an image, or an index with those of its images that are in the store.
#[derive(Debug, Clone)]
pub(crate) struct Bundle {
    /// The image's manifest, or the index.
    pub(crate) top: Descriptor,
    /// Indexes in the index.
    pub(crate) indexes: Vec<Descriptor>,
    pub(crate) images: Vec<ImageBlobs>,
}

impl ImageBlobs {
    fn parts(&self) -> impl Iterator<Item = &Descriptor> {
        [&self.manifest, &self.config]
            .into_iter()
            .chain(&self.layers)
    }
}

impl From<ImageBlobs> for Bundle {
    fn from(image: ImageBlobs) -> Self {
        Self {
            top: image.manifest.clone(),
            indexes: Vec::new(),
            images: vec![image],
        }
    }
}

impl Bundle {
    /// Every blob, some of them several times.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &Descriptor> {
        std::iter::once(&self.top)
            .chain(&self.indexes)
            .chain(self.images.iter().flat_map(ImageBlobs::parts))
    }

    /// Every blob, some of them several times: the layers from the lowest, as they are made, then what tells
    /// of them.
    pub(super) fn in_order(&self) -> impl Iterator<Item = &Descriptor> {
        let layers = self.images.iter().flat_map(|image| &image.layers);
        let documents = self
            .images
            .iter()
            .flat_map(|image| [&image.config, &image.manifest]);
        layers
            .chain(documents)
            .chain(&self.indexes)
            .chain([&self.top])
    }

    /// Each blob once.
    fn blobs(&self) -> BTreeMap<&Digest, u64> {
        self.parts()
            .map(|descriptor| (&descriptor.digest, descriptor.size))
            .collect()
    }

    /// Bytes of all blobs.
    pub(crate) fn size(&self) -> u64 {
        self.blobs().values().sum()
    }

    /// What the layout's index lists: a descriptor per name, or one without a name.
    pub(super) fn entries(&self, names: &[Reference]) -> Vec<Descriptor> {
        let mut manifests: Vec<Descriptor> = names.iter().map(|name| self.named(name)).collect();
        if manifests.is_empty() {
            manifests.push(self.top.clone());
        }
        manifests
    }

    /// containerd reads the full name from its own annotation and the tag from the specified one.
    fn named(&self, name: &Reference) -> Descriptor {
        let mut descriptor = self.top.clone();
        let annotations = &mut descriptor.annotations;
        annotations.insert("io.containerd.image.name".to_owned(), name.whole());
        annotations.insert(
            "org.opencontainers.image.ref.name".to_owned(),
            name.tag().unwrap_or("latest").to_owned(),
        );
        descriptor
    }

    /// The image in docker's own list of what is in the archive, which knows no indexes: of several
    /// images it has the one for this machine, or else the first.
    pub(super) fn docker_manifest(&self, names: &[Reference]) -> Option<serde_json::Value> {
        let path = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
        let host = Platform::host();
        let distance = |image: &&ImageBlobs| {
            let platform = image.manifest.platform.as_ref();
            let distance = platform.and_then(|platform| platform.distance(&host));
            (distance.is_none(), distance)
        };
        let runs = |image: &&ImageBlobs| {
            let platform = image.manifest.platform.as_ref();
            platform.is_none_or(|platform| platform.os != "unknown")
        };
        let image = self.images.iter().filter(runs).min_by_key(distance)?;
        let layers: Vec<String> = image
            .layers
            .iter()
            .map(|layer| path(&layer.digest))
            .collect();
        let names: Vec<String> = names.iter().map(familiar).collect();
        Some(serde_json::json!({
            "Config": path(&image.config.digest),
            "RepoTags": names,
            "Layers": layers,
        }))
    }
}

pub(crate) fn index_of(manifests: Vec<Descriptor>) -> Index {
    Index {
        schema_version: 2,
        media_type: Some(media_type::INDEX.to_owned()),
        manifests,
        annotations: BTreeMap::new(),
    }
}

/// A name as docker shows it: without the default registry and the `library/` of its images.
pub(crate) fn familiar(name: &Reference) -> String {
    let whole = name.whole();
    let short = whole.strip_prefix("docker.io/").unwrap_or(&whole);
    short.strip_prefix("library/").unwrap_or(short).to_owned()
}

/// Writes to `destination`: a file appears under its name only when it is complete and flushed.
pub(crate) fn to_destination<E>(
    destination: &Destination,
    write: impl FnOnce(&mut dyn Out) -> Result<(), E>,
) -> Result<(), E>
where
    E: From<Error>,
{
    match destination {
        Destination::Stdout => {
            let mut out = BufWriter::with_capacity(1 << 18, io::stdout().lock());
            write(&mut out)?;
            out.flush()
                .map_err(|source| Error::Stdout { source }.into())
        }
        Destination::File(path) => {
            let fail = |source| Error::Write {
                path: path.clone(),
                source,
            };
            let file = tempfile::Builder::new()
                .prefix(".rbuild-")
                .permissions(file_permissions())
                .tempfile_in(directory_of(path))
                .map_err(fail)?;
            let own = file.as_file().try_clone().map_err(fail)?;
            let mut out = BufWriter::with_capacity(1 << 18, own);
            write(&mut out)?;
            out.flush().map_err(fail)?;
            drop(out);
            file.persist(path).map_err(|error| fail(error.error))?;
            Ok(())
        }
    }
}

/// The directory of a file that is to be written.
pub(super) fn directory_of(path: &Path) -> &Path {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or_else(|| Path::new("."))
}

/// What a shell's `>` would give; the umask applies.
fn file_permissions() -> fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o666)
}

/// Writes the image into the layout at `path`, which is made when it is not there. Names that the
/// layout has already are moved to the new image; its other images stay.
pub(crate) fn layout(
    store: &Store,
    image: &Bundle,
    names: &[Reference],
    path: &Path,
) -> Result<(), Error> {
    let fail = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Write { path, source }
    };
    let blobs = path.join("blobs/sha256");
    fs::create_dir_all(&blobs).map_err(fail(&blobs))?;
    for (digest, size) in image.blobs() {
        let place = blobs.join(digest.hex());
        if place
            .metadata()
            .is_ok_and(|metadata| metadata.len() == size)
        {
            continue;
        }
        let mut blob = store
            .open_blob(digest)
            .map_err(|source| Error::Store { source })?;
        let mut file = tempfile::Builder::new()
            .prefix(".rbuild-")
            .permissions(file_permissions())
            .tempfile_in(&blobs)
            .map_err(fail(&place))?;
        io::copy(&mut blob, file.as_file_mut()).map_err(fail(&place))?;
        file.persist(&place)
            .map_err(|error| fail(&place)(error.error))?;
    }
    let index_path = path.join("index.json");
    let mut index = index_of(image.entries(names));
    match File::open(&index_path) {
        Ok(file) => {
            let there: Index =
                serde_json::from_reader(io::BufReader::new(file)).map_err(|source| {
                    Error::NotALayout {
                        path: path.to_owned(),
                        source,
                    }
                })?;
            index.manifests = merge(there.manifests, index.manifests);
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(fail(&index_path)(source)),
    }
    for (name, bytes) in [
        ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
        ("index.json", to_json(&index)),
    ] {
        to_destination(&Destination::File(path.join(name)), |out| {
            out.write_all(&bytes).map_err(fail(&path.join(name)))
        })?;
    }
    Ok(())
}

/// The old entries that the new ones do not replace (by name, or as the same manifest), then these.
fn merge(old: Vec<Descriptor>, new: Vec<Descriptor>) -> Vec<Descriptor> {
    let key = |entry: &Descriptor| {
        let annotation = |name: &str| entry.annotations.get(name).cloned();
        annotation("io.containerd.image.name")
            .or_else(|| annotation("org.opencontainers.image.ref.name"))
    };
    let names: BTreeSet<_> = new.iter().map(key).collect();
    let digests: BTreeSet<_> = new.iter().map(|entry| entry.digest.clone()).collect();
    let replaced = |entry: &Descriptor| match key(entry) {
        None => digests.contains(&entry.digest),
        name => names.contains(&name),
    };
    old.into_iter()
        .filter(|entry| !replaced(entry))
        .chain(new)
        .collect()
}
