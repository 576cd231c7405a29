//! What an archive says it holds.

use std::path::Path;

use serde::Deserialize;

use super::archive::Archive;
use super::document;
use super::{Error, Location};
use crate::oci::{Descriptor, Digest};

/// An image in an archive: where it is, and its full names, if the archive has any.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Archived {
    pub(crate) location: Location,
    pub(crate) names: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    repo_tags: Option<Vec<String>>,
}

/// Every image of the archive `file`, which is read as a layout where it is one: of the two forms that
/// docker writes into one file, it has the manifests. A layout's entry whose name is only a tag
/// (image-spec annotations.md allows that) has no full name.
pub(crate) fn archived(file: &Path) -> Result<Vec<Archived>, Error> {
    let archive = Archive::open(file)?;
    let name = file.display().to_string();
    let read = |member: &str| -> Result<Option<Vec<u8>>, Error> {
        let Some(section) = archive.member(member) else {
            return Ok(None);
        };
        let descriptor = Descriptor::new("", Digest::of(b""), section.size());
        document::read(section, &name, member, &descriptor).map(Some)
    };
    if let (Some(bytes), Some(_)) = (read("index.json")?, read("oci-layout")?) {
        let index = document::parse_index(&name, "index.json", &bytes)?;
        let mut found: Vec<(Digest, Vec<String>)> = Vec::new();
        for entry in &index.manifests {
            let full = full_name(entry);
            match found.iter_mut().find(|(digest, _)| *digest == entry.digest) {
                Some((_, names)) => names.extend(full),
                None => found.push((entry.digest.clone(), full.into_iter().collect())),
            }
        }
        let found = found.into_iter().map(|(digest, names)| Archived {
            location: Location::OciArchive {
                file: file.to_owned(),
                selector: Some(format!("@{digest}")),
            },
            names,
        });
        return Ok(found.collect());
    }
    let Some(bytes) = read("manifest.json")? else {
        return Err(Error::BadDocument {
            name,
            what: "the archive".to_owned(),
            why: "has neither an index.json nor a manifest.json".to_owned(),
        });
    };
    let images: Vec<DockerImage> = document::parse_json(&name, "manifest.json", &bytes)?;
    let found = images.into_iter().enumerate().map(|(at, image)| Archived {
        location: Location::DockerArchive {
            file: file.to_owned(),
            name: Some(format!("@{at}")),
        },
        names: image.repo_tags.unwrap_or_default(),
    });
    Ok(found.collect())
}

fn full_name(entry: &Descriptor) -> Option<String> {
    let annotation = |name: &str| entry.annotations.get(name).cloned();
    annotation("io.containerd.image.name").or_else(|| {
        annotation("org.opencontainers.image.ref.name").filter(|name| name.contains([':', '/']))
    })
}
