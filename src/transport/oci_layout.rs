//! A directory in the image layout (image-spec, image-layout.md).

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use crate::oci::{Descriptor, Digest, Index, Platform, media_type};
use crate::sys;

use super::body::Body;
use super::document::{self, Documents};
use super::{Error, Resolved, ResolvedIndex, Source};

/// An open file of a layout.
pub(super) struct LayoutFile {
    pub(super) bytes: Box<dyn Read + Send>,
    pub(super) size: u64,
}

/// A layout's files, wherever they are.
pub(super) trait Files: Send + Sync {
    /// Opens `name`, a path below the layout; `None` when it is not there.
    fn open(&self, name: &str) -> Result<Option<LayoutFile>, Error>;
}

/// The image that a selector chooses from a layout.
pub(super) struct Layout<F> {
    files: F,
    name: String,
    selector: Selector,
}

enum Selector {
    Only,
    Tag(String),
    Digest(Digest),
}

struct Directory {
    fd: OwnedFd,
    path: PathBuf,
}

/// The image in the layout `dir` that `selector` names: a tag, `@` and a digest, or `None` where the
/// layout holds one image. Links inside the directory never lead out of it.
pub(crate) fn oci_layout(dir: &Path, selector: Option<&str>) -> Result<impl Source + use<>, Error> {
    let fd = sys::fs::open_directory(dir).map_err(|error| Error::Read {
        path: dir.to_owned(),
        cause: error.into(),
    })?;
    let files = Directory {
        fd,
        path: dir.to_owned(),
    };
    Layout::open(files, dir, selector)
}

impl<F: Files> Layout<F> {
    /// Checks that the files are a layout of the one version there is.
    pub(super) fn open(files: F, path: &Path, selector: Option<&str>) -> Result<Self, Error> {
        let name = path.display().to_string();
        let selector = match selector {
            None => Selector::Only,
            Some(text) => match text.strip_prefix('@') {
                None => Selector::Tag(text.to_owned()),
                Some(digest) => {
                    Selector::Digest(digest.parse().map_err(|error| Error::BadLocation {
                        text: format!("{name}{text}"),
                        why: format!("{error}"),
                    })?)
                }
            },
        };
        let layout = Self {
            files,
            name,
            selector,
        };
        let marker: serde_json::Value = layout.read_json("oci-layout")?;
        if marker["imageLayoutVersion"] != "1.0.0" {
            return Err(Error::BadDocument {
                name: layout.name,
                what: "oci-layout".to_owned(),
                why: "does not say version 1.0.0".to_owned(),
            });
        }
        Ok(layout)
    }

    fn read_json<T: serde::de::DeserializeOwned>(&self, file: &str) -> Result<T, Error> {
        document::parse_json(&self.name, file, &self.read_file(file)?)
    }

    fn read_file(&self, file: &str) -> Result<Vec<u8>, Error> {
        let Some(LayoutFile { bytes, size }) = self.files.open(file)? else {
            return Err(Error::BadDocument {
                name: self.name.clone(),
                what: file.to_owned(),
                why: "is missing, so this is no image layout".to_owned(),
            });
        };
        let descriptor = Descriptor::new("", Digest::of(b""), size);
        document::read(bytes, &self.name, file, &descriptor)
    }

    fn index_json(&self) -> Result<Index, Error> {
        let bytes = self.read_file("index.json")?;
        document::parse_index(&self.name, "index.json", &bytes)
    }

    /// What the selector names.
    fn matching(&self) -> Result<Vec<Descriptor>, Error> {
        let index = self.index_json()?;
        Ok(match &self.selector {
            Selector::Only => index.manifests,
            Selector::Tag(tag) => named(&index, tag),
            Selector::Digest(digest) => vec![self.by_digest(&index, digest)?],
        })
    }

    /// The descriptor of the image's manifest or index.
    fn top(&self, platform: &Platform) -> Result<Descriptor, Error> {
        let index = self.index_json()?;
        let matching = self.matching()?;
        match (&self.selector, matching.as_slice()) {
            (_, [only]) => Ok(only.clone()),
            (Selector::Only, [_, _, ..])
                if index.manifests.iter().any(|d| !names(d).is_empty()) =>
            {
                Err(Error::Ambiguous {
                    name: self.name.clone(),
                    count: index.manifests.len(),
                    names: index.manifests.iter().flat_map(names).collect(),
                })
            }
            (_, []) => Err(Error::NotFound { name: self.name() }),
            (_, several) => document::choose(&self.name, several, platform).cloned(),
        }
    }

    fn by_digest(&self, index: &Index, digest: &Digest) -> Result<Descriptor, Error> {
        if let Some(found) = index.manifests.iter().find(|one| one.digest == *digest) {
            return Ok(found.clone());
        }
        let Some(LayoutFile { size, .. }) = self.files.open(&blob_path(digest))? else {
            return Err(Error::NotFound { name: self.name() });
        };
        Ok(Descriptor::new(media_type::MANIFEST, digest.clone(), size))
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<Body<Box<dyn Read + Send>>, Error> {
        let Some(file) = self.files.open(&blob_path(&descriptor.digest))? else {
            return Err(Error::NotFound {
                name: format!("{}: blob {}", self.name, descriptor.digest),
            });
        };
        Ok(Body::new(file.bytes, &self.name, descriptor, 0))
    }
}

impl<F: Files> Documents for Layout<F> {
    fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
        document::read(
            self.blob(descriptor)?,
            &self.name,
            "the manifest",
            descriptor,
        )
    }

    fn config(&self, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
        document::read(self.blob(descriptor)?, &self.name, "the config", descriptor)
    }
}

impl<F: Files> Source for Layout<F> {
    fn resolve(&self, platform: &Platform) -> Result<Resolved, Error> {
        document::resolve(self, &self.top(platform)?, platform)
    }

    fn index(&self) -> Result<Option<ResolvedIndex>, Error> {
        let matching = self.matching()?;
        match matching.as_slice() {
            [only] => document::resolve_index(self, only),
            _ => Ok(None),
        }
    }

    fn open_blob(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send>, Error> {
        Ok(Box::new(self.blob(descriptor)?))
    }

    fn name(&self) -> String {
        match &self.selector {
            Selector::Only => self.name.clone(),
            Selector::Tag(tag) => format!("{}:{tag}", self.name),
            Selector::Digest(digest) => format!("{}@{digest}", self.name),
        }
    }
}

impl Files for Directory {
    fn open(&self, name: &str) -> Result<Option<LayoutFile>, Error> {
        let read = |cause| Error::Read {
            path: self.path.join(name),
            cause,
        };
        // O_NONBLOCK: a FIFO in the layout would keep the open waiting for a writer.
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let fd = match sys::fs::open_in_root(&self.fd, Path::new(name), flags, 0) {
            Ok(fd) => fd,
            Err(error) if error.errno == nix::errno::Errno::ENOENT => return Ok(None),
            Err(error) => return Err(read(error.into())),
        };
        let file = File::from(fd);
        let metadata = file.metadata().map_err(read)?;
        if !metadata.is_file() {
            return Err(Error::BadDocument {
                name: self.path.display().to_string(),
                what: name.to_owned(),
                why: "is not a regular file".to_owned(),
            });
        }
        Ok(Some(LayoutFile {
            bytes: Box::new(file),
            size: metadata.len(),
        }))
    }
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}

/// What an entry of `index.json` is called (image-spec annotations.md; the second is containerd's).
fn names(descriptor: &Descriptor) -> Vec<String> {
    [
        "org.opencontainers.image.ref.name",
        "io.containerd.image.name",
    ]
    .iter()
    .filter_map(|key| descriptor.annotations.get(*key).cloned())
    .collect()
}

fn named(index: &Index, name: &str) -> Vec<Descriptor> {
    let manifests = index.manifests.iter();
    manifests
        .filter(|descriptor| names(descriptor).iter().any(|found| found == name))
        .cloned()
        .collect()
}
