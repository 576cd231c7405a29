//! Blobs: each has the bytes that its name says.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::{Level, Remedy, Survey, digest_of};
use crate::oci::{Descriptor, Digest, Hasher};
use crate::store::Error;
use crate::store::contents::{list, name_of};

/// Bytes read at once.
const BUFFER: usize = 256 * 1024;

/// What is known of the blobs: sizes of those that are right, `None` for those that are not.
pub(super) struct Blobs {
    known: HashMap<Digest, Option<u64>>,
    directory: PathBuf,
}

impl Blobs {
    /// What stands against using the blob as `descriptor` says; `None` when nothing does.
    pub(super) fn objection(&self, descriptor: &Descriptor) -> Option<String> {
        let digest = &descriptor.digest;
        let Some(known) = self.size(digest) else {
            return Some(format!("{digest} is missing"));
        };
        match known {
            None => Some(format!("{digest} is damaged")),
            Some(size) if size != descriptor.size => Some(format!(
                "{digest} has {size} bytes, and {} are expected",
                descriptor.size
            )),
            Some(_) => None,
        }
    }

    pub(super) fn is_there(&self, digest: &Digest) -> bool {
        self.size(digest).is_some()
    }

    /// The size of a blob, or that it is damaged; `None` of one that is not there. A build may have
    /// brought it since all were read: then it was verified just now.
    fn size(&self, digest: &Digest) -> Option<Option<u64>> {
        self.known.get(digest).copied().or_else(|| {
            let metadata = fs::metadata(self.directory.join(digest.hex())).ok()?;
            Some(Some(metadata.len()))
        })
    }

    /// The blobs that are right, with their sizes.
    pub(super) fn whole(&self) -> impl Iterator<Item = (&Digest, u64)> {
        let all = self.known.iter();
        all.filter_map(|(digest, size)| Some((digest, (*size)?)))
    }
}

impl Survey<'_> {
    /// Reads every blob.
    pub(super) fn blobs(&mut self) -> Result<Blobs, Error> {
        let mut known = HashMap::new();
        let mut buffer = vec![0; BUFFER];
        let directory = self.view.root.join("oci/blobs/sha256");
        for path in list(&directory)? {
            let Some(digest) = name_of(&path).and_then(digest_of) else {
                self.stray(&path);
                continue;
            };
            self.counts.blobs += 1;
            let problem = match hash(&path, &mut buffer) {
                Ok((actual, size)) if actual == digest => {
                    self.counts.bytes += size;
                    known.insert(digest, Some(size));
                    continue;
                }
                Ok((actual, size)) => format!("its {size} bytes have the digest {actual}"),
                // Another process removed it meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => format!("cannot be read: {error}"),
            };
            let place = self.shown(&path);
            let remedy = Remedy::Blob(digest.clone());
            self.report(Level::Damage, "blob", place, problem, remedy);
            known.insert(digest, None);
        }
        Ok(Blobs { known, directory })
    }
}

fn hash(path: &Path, buffer: &mut [u8]) -> io::Result<(Digest, u64)> {
    // A name that is no file may block or never end.
    if !fs::symlink_metadata(path)?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut file = File::open(path)?;
    let mut hasher = Hasher::new();
    hasher.update_from(&mut file, buffer)?;
    let size = hasher.length();
    Ok((hasher.finish(), size))
}
