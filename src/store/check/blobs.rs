//! Blobs: each has the bytes that its name says.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use super::{Level, Remedy, Survey, digest_of};
use crate::oci::{Descriptor, Digest, Hasher};
use crate::store::Error;
use crate::store::contents::{list, name_of};

/// Bytes read at once.
const BUFFER: usize = 256 * 1024;

/// What is known of the blobs: sizes of those that are right, `None` for those that are not.
pub(super) struct Blobs(HashMap<Digest, Option<u64>>);

impl Blobs {
    /// What stands against using the blob as `descriptor` says; `None` when nothing does.
    pub(super) fn objection(&self, descriptor: &Descriptor) -> Option<String> {
        let digest = &descriptor.digest;
        match self.0.get(digest) {
            None => Some(format!("{digest} is missing")),
            Some(None) => Some(format!("{digest} is damaged")),
            Some(Some(size)) if *size != descriptor.size => Some(format!(
                "{digest} has {size} bytes, and {} are expected",
                descriptor.size
            )),
            Some(Some(_)) => None,
        }
    }

    pub(super) fn is_there(&self, digest: &Digest) -> bool {
        self.0.contains_key(digest)
    }

    /// The blobs that are right, with their sizes.
    pub(super) fn whole(&self) -> impl Iterator<Item = (&Digest, u64)> {
        let all = self.0.iter();
        all.filter_map(|(digest, size)| Some((digest, (*size)?)))
    }
}

impl Survey<'_> {
    /// Reads every blob.
    pub(super) fn blobs(&mut self) -> Result<Blobs, Error> {
        let mut known = HashMap::new();
        let mut buffer = vec![0; BUFFER];
        for path in list(&self.view.root.join("oci/blobs/sha256"))? {
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
        Ok(Blobs(known))
    }
}

fn hash(path: &Path, buffer: &mut [u8]) -> io::Result<(Digest, u64)> {
    // A name that is no file may block or never end.
    if !fs::symlink_metadata(path)?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut file = File::open(path)?;
    let mut hasher = Hasher::new();
    loop {
        match file.read(buffer) {
            Ok(0) => break,
            Ok(length) => hasher.update(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let size = hasher.length();
    Ok((hasher.finish(), size))
}
