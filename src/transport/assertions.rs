//! What holds for every document of an image, however odd; the fuzz target asks it.

use std::io::Read;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::document::{self, Documents};
use super::{Error, Location, Resolved, Source};
use crate::oci::{Descriptor, Digest, ImageConfig, Index, Manifest, Platform, to_json};

/// The line that is between the documents.
const BORDER: &[u8] = b"\n--\n";

/// A source that has a few documents; the first is what it names.
struct Canned<'a> {
    documents: Vec<&'a [u8]>,
}

impl Canned<'_> {
    /// The document with the digest, or a wrong one, as a hostile source would send it.
    fn at(&self, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
        let mut all = self.documents.iter();
        let found = all.find(|bytes| Digest::of(bytes) == descriptor.digest);
        Ok(found.unwrap_or(&self.documents[0]).to_vec())
    }
}

impl Source for Canned<'_> {
    fn resolve(&self, platform: &Platform) -> Result<Resolved, Error> {
        let bytes = self.documents[0].to_vec();
        document::resolve_bytes(self, Digest::of(&bytes), bytes, platform)
    }

    fn open_blob(&self, _: &Descriptor) -> Result<Box<dyn Read + Send>, Error> {
        Ok(Box::new(std::io::empty()))
    }

    fn name(&self) -> String {
        "canned".to_owned()
    }
}

impl Documents for Canned<'_> {
    fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
        self.at(descriptor)
    }

    fn config(&self, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
        self.at(descriptor)
    }
}

/// What a source sends first is an image or an index or an error, never two of them; what is taken
/// over from a document is written the same once and again; what comes out whole agrees with itself.
pub(crate) fn documents_hold(data: &[u8]) {
    let mut documents = Vec::new();
    let mut rest = data;
    while let Some(at) = rest.windows(BORDER.len()).position(|found| found == BORDER) {
        documents.push(&rest[..at]);
        rest = &rest[at + BORDER.len()..];
    }
    documents.push(rest);
    for bytes in &documents {
        round_trip::<Manifest>(bytes);
        round_trip::<Index>(bytes);
        round_trip::<ImageConfig>(bytes);
        round_trip::<Descriptor>(bytes);
        let is_image = document::is_image(bytes);
        if let Ok(is_image) = is_image {
            let value: serde_json::Value = serde_json::from_slice(bytes).expect("it was parsed");
            assert_eq!(is_image, value.get("manifests").is_none());
            assert_eq!(is_image, value.get("layers").is_some());
        }
    }
    let linked = linked(&documents);
    let documents = linked.iter().map(Vec::as_slice).collect();
    let source = Canned { documents };
    for platform in [
        Platform::new("linux", "amd64", None),
        Platform::new("linux", "arm", Some("v7")),
    ] {
        if let Ok(image) = source.resolve(&platform) {
            assert_eq!(
                image.manifest.layers.len(),
                image.config.rootfs.diff_ids.len()
            );
            assert_eq!(Digest::of(&image.manifest_bytes), image.manifest_digest);
            assert_eq!(
                Digest::of(&image.config_bytes),
                image.manifest.config.digest
            );
        }
    }
    let first = source.documents[0];
    let top = Descriptor::new("", Digest::of(first), first.len() as u64);
    if let Ok(Some(index)) = document::resolve_index(&source, &top) {
        assert_eq!(Digest::of(&index.top.1), top.digest);
        for (descriptor, image) in &index.images {
            assert_eq!(descriptor.digest, image.manifest_digest);
        }
    }
}

/// The documents with the words `@1` to `@9` replaced by the descriptor fields of a later document.
fn linked(documents: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut linked: Vec<Vec<u8>> = Vec::new();
    for bytes in documents.iter().rev() {
        let mut text = String::from_utf8_lossy(bytes).into_owned();
        for (back, later) in linked.iter().rev().enumerate().take(9) {
            let fields = format!(
                "\"digest\":\"{}\",\"size\":{}",
                Digest::of(later),
                later.len()
            );
            text = text.replace(&format!("@{}", back + 1), &fields);
        }
        linked.push(text.into_bytes());
    }
    linked.reverse();
    linked
}

fn round_trip<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    if let Ok(document) = serde_json::from_slice::<T>(bytes) {
        let written = to_json(&document);
        let again: T = serde_json::from_slice(&written).expect("what was written can be read");
        assert_eq!(to_json(&again), written);
    }
}

/// A location that is understood has a path or a name.
pub(crate) fn location_holds(text: &str) {
    if let Ok(Some(location)) = Location::parse(text) {
        match location {
            Location::Image(reference) => assert!(!reference.repository().is_empty()),
            Location::OciLayout { dir: path, .. }
            | Location::OciArchive { file: path, .. }
            | Location::DockerArchive { file: path, .. } => {
                assert!(!path.as_os_str().is_empty());
            }
        }
    }
}
