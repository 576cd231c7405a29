//! From the first document of an image to its manifest and configuration.

use std::io::Read;

use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest as _, Sha512};

use crate::oci::{Descriptor, Digest, ImageConfig, Index, Manifest, Platform, media_type};

use super::body::{Body, error_of};
use super::{Error, Resolved, ResolvedIndex, Source};

/// The largest manifest, index or configuration that is read, in bytes; registries accept no larger
/// manifests (distribution-spec, "Pushing Manifests").
pub(super) const LIMIT: u64 = 4 << 20;
const MANIFESTS_IN_INDEX: usize = 1000;
/// An index may point at one more level of indexes.
const INDEXES: u32 = 2;

/// How a source hands out the bytes of documents. They are verified here.
pub(super) trait Documents: Source {
    fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>, Error>;
    fn config(&self, descriptor: &Descriptor) -> Result<Vec<u8>, Error>;
}

/// What the bytes at a manifest's place are.
#[derive(Debug)]
enum Document {
    Manifest(Box<Manifest>),
    Index(Index),
}

/// Resolves the document that `top` names. A manifest that was asked for by name is taken whatever it
/// runs on; `platform` only chooses from an index.
pub(super) fn resolve(
    source: &impl Documents,
    top: &Descriptor,
    platform: &Platform,
) -> Result<Resolved, Error> {
    let bytes = fetch_manifest(source, top)?;
    resolve_bytes(source, top.digest.clone(), bytes, platform)
}

/// [`resolve`] of a document that is at hand and has the digest `digest`.
pub(super) fn resolve_bytes(
    source: &impl Documents,
    mut digest: Digest,
    mut bytes: Vec<u8>,
    platform: &Platform,
) -> Result<Resolved, Error> {
    for _ in 0..=INDEXES {
        match parse(&source.name(), &bytes)? {
            Document::Manifest(manifest) => return finish(source, digest, bytes, *manifest),
            Document::Index(index) => {
                let chosen = choose(&source.name(), &index.manifests, platform)?;
                bytes = fetch_manifest(source, chosen)?;
                digest = chosen.digest.clone();
            }
        }
    }
    Err(Error::BadDocument {
        name: source.name(),
        what: "the index".to_owned(),
        why: "holds indexes of indexes".to_owned(),
    })
}

/// All of the index that `top` names; `None` where it names an image.
pub(super) fn resolve_index(
    source: &impl Documents,
    top: &Descriptor,
) -> Result<Option<ResolvedIndex>, Error> {
    let bytes = fetch_manifest(source, top)?;
    let Document::Index(index) = parse(&source.name(), &bytes)? else {
        return Ok(None);
    };
    let mut top = top.clone();
    // Whoever chose it by its digest alone could not know.
    top.media_type = index
        .media_type
        .clone()
        .unwrap_or_else(|| media_type::INDEX.to_owned());
    let mut whole = ResolvedIndex {
        top: (top, bytes),
        indexes: Vec::new(),
        images: Vec::new(),
        others: Vec::new(),
        missing: Vec::new(),
    };
    add_entries(source, &index, INDEXES, &mut whole)?;
    Ok(Some(whole))
}

fn add_entries(
    source: &impl Documents,
    index: &Index,
    levels: u32,
    whole: &mut ResolvedIndex,
) -> Result<(), Error> {
    for entry in &index.manifests {
        if !is_manifest(entry) {
            return Err(Error::BadDocument {
                name: source.name(),
                what: "the index".to_owned(),
                why: format!("lists a {:?}, which is no image", entry.media_type),
            });
        }
        let bytes = match fetch_manifest(source, entry) {
            Ok(bytes) => bytes,
            Err(Error::NotFound { .. }) => {
                whole.missing.push(entry.clone());
                continue;
            }
            Err(error) => return Err(error),
        };
        let runs_nowhere = entry.platform.as_ref().is_some_and(|p| p.os == "unknown");
        match parse(&source.name(), &bytes)? {
            Document::Index(inner) if levels > 0 => {
                whole.indexes.push((entry.clone(), bytes));
                add_entries(source, &inner, levels - 1, whole)?;
            }
            Document::Index(_) => {
                return Err(Error::BadDocument {
                    name: source.name(),
                    what: "the index".to_owned(),
                    why: "holds indexes of indexes".to_owned(),
                });
            }
            Document::Manifest(manifest) if runs_nowhere => {
                whole.others.push((entry.clone(), bytes, *manifest));
            }
            Document::Manifest(manifest) => {
                let image = finish(source, entry.digest.clone(), bytes, *manifest)?;
                whole.images.push((entry.clone(), image));
            }
        }
    }
    Ok(())
}

/// The first of `candidates` among those that are nearest to `platform`.
pub(crate) fn choose<'a>(
    name: &str,
    candidates: &'a [Descriptor],
    platform: &Platform,
) -> Result<&'a Descriptor, Error> {
    let distance = |descriptor: &Descriptor| {
        let found = descriptor.platform.as_ref()?;
        found.distance(platform).filter(|_| is_manifest(descriptor))
    };
    let fitting = candidates
        .iter()
        .filter_map(|descriptor| Some((distance(descriptor)?, descriptor)));
    if let Some((_, chosen)) = fitting.min_by_key(|(distance, _)| *distance) {
        return Ok(chosen);
    }
    // An index of one manifest that says nothing of its platform leaves nothing to choose.
    if let [only] = candidates
        && only.platform.is_none()
        && is_manifest(only)
    {
        return Ok(only);
    }
    Err(Error::NoPlatform {
        name: name.to_owned(),
        wanted: platform.to_string(),
        available: candidates
            .iter()
            .filter_map(|descriptor| descriptor.platform.as_ref())
            // BuildKit's attestations run nowhere.
            .filter(|platform| platform.os != "unknown")
            .map(Platform::to_string)
            .collect(),
    })
}

fn is_manifest(descriptor: &Descriptor) -> bool {
    matches!(
        descriptor.media_type.as_str(),
        media_type::MANIFEST
            | media_type::INDEX
            | media_type::DOCKER_MANIFEST
            | media_type::DOCKER_INDEX
    )
}

fn fetch_manifest(source: &impl Documents, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
    let what = format!("manifest {}", descriptor.digest.short());
    check_limit(&source.name(), &what, descriptor.size)?;
    let bytes = source.manifest(descriptor)?;
    verify(&source.name(), &what, descriptor, &bytes)?;
    Ok(bytes)
}

fn finish(
    source: &impl Documents,
    manifest_digest: Digest,
    manifest_bytes: Vec<u8>,
    manifest: Manifest,
) -> Result<Resolved, Error> {
    let name = source.name();
    let bad = |what: &str, why: String| Error::BadDocument {
        name: name.clone(),
        what: what.to_owned(),
        why,
    };
    if !matches!(
        manifest.config.media_type.as_str(),
        media_type::CONFIG | media_type::DOCKER_CONFIG
    ) {
        let why = format!(
            "is not of a container image: its config is {:?}",
            manifest.config.media_type
        );
        return Err(bad("the manifest", why));
    }
    check_limit(&name, "the config", manifest.config.size)?;
    let config_bytes = source.config(&manifest.config)?;
    verify(&name, "the config", &manifest.config, &config_bytes)?;
    let config: ImageConfig = parse_json(&name, "the config", &config_bytes)?;
    let (diff_ids, layers) = (config.rootfs.diff_ids.len(), manifest.layers.len());
    if diff_ids != layers {
        let why = format!("lists {diff_ids} layers where the manifest lists {layers}");
        return Err(bad("the config", why));
    }
    Ok(Resolved {
        manifest_digest,
        manifest_bytes,
        manifest,
        config_bytes,
        config,
    })
}

/// Parses a manifest or an index. A document that could be read as both is neither (CVE-2021-41190).
fn parse(name: &str, bytes: &[u8]) -> Result<Document, Error> {
    let bad = |why: String| Error::BadDocument {
        name: name.to_owned(),
        what: "the manifest".to_owned(),
        why,
    };
    let value: Value = parse_json(name, "the manifest", bytes)?;
    match value.get("schemaVersion").and_then(Value::as_u64) {
        Some(2) => {}
        Some(1) => {
            return Err(bad(
                "has schema version 1, which registries gave up; push the image again with a \
                 current tool"
                    .to_owned(),
            ));
        }
        _ => return Err(bad("has no schema version 2".to_owned())),
    }
    let is_index = value.get("manifests").is_some();
    let is_image = value.get("layers").is_some() || value.get("config").is_some();
    let types: &[&str] = match (is_index, is_image) {
        (true, true) => return Err(bad("has both layers and manifests".to_owned())),
        (false, false) => return Err(bad("has neither layers nor manifests".to_owned())),
        (true, false) => &[media_type::INDEX, media_type::DOCKER_INDEX],
        (false, true) => &[media_type::MANIFEST, media_type::DOCKER_MANIFEST],
    };
    if let Some(found) = value.get("mediaType")
        && !found.as_str().is_some_and(|found| types.contains(&found))
    {
        return Err(bad(format!("contradicts its media type {found}")));
    }
    if is_image {
        return Ok(Document::Manifest(parse_json(name, "the manifest", bytes)?));
    }
    Ok(Document::Index(parse_index(name, "the index", bytes)?))
}

/// Whether `bytes` are taken for an image, not an index.
#[cfg(any(test, fuzzing))]
pub(super) fn is_image(bytes: &[u8]) -> Result<bool, Error> {
    Ok(matches!(parse("fuzz", bytes)?, Document::Manifest(_)))
}

/// Parses an index and bounds its length.
pub(super) fn parse_index(name: &str, what: &str, bytes: &[u8]) -> Result<Index, Error> {
    let index: Index = parse_json(name, what, bytes)?;
    if index.manifests.len() > MANIFESTS_IN_INDEX {
        return Err(Error::BadDocument {
            name: name.to_owned(),
            what: what.to_owned(),
            why: format!("lists more than {MANIFESTS_IN_INDEX} manifests"),
        });
    }
    Ok(index)
}

pub(super) fn parse_json<T: DeserializeOwned>(
    name: &str,
    what: &str,
    bytes: &[u8],
) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|error| Error::BadDocument {
        name: name.to_owned(),
        what: what.to_owned(),
        why: format!("is not valid: {error}"),
    })
}

/// Refuses a document that is larger than [`LIMIT`].
pub(super) fn check_limit(name: &str, what: &str, size: u64) -> Result<(), Error> {
    if size <= LIMIT {
        return Ok(());
    }
    Err(Error::BadDocument {
        name: name.to_owned(),
        what: what.to_owned(),
        why: format!("has {size} bytes, more than the {LIMIT} that are accepted"),
    })
}

/// Reads a whole document of `descriptor.size` bytes from its blob.
pub(super) fn read(
    blob: impl Read,
    name: &str,
    what: &str,
    descriptor: &Descriptor,
) -> Result<Vec<u8>, Error> {
    check_limit(name, what, descriptor.size)?;
    let mut bytes = Vec::new();
    Body::new(blob, name, descriptor, 0)
        .read_to_end(&mut bytes)
        .map_err(|error| error_of(error, name, what))?;
    Ok(bytes)
}

/// Checks size and digest of `bytes`.
fn verify(name: &str, what: &str, descriptor: &Descriptor, bytes: &[u8]) -> Result<(), Error> {
    if bytes.len() as u64 != descriptor.size {
        return Err(Error::BadDocument {
            name: name.to_owned(),
            what: what.to_owned(),
            why: format!("has another size than the {} announced", descriptor.size),
        });
    }
    verify_digest(name, what, &descriptor.digest, bytes)
}

/// Checks the digest of `bytes`.
pub(super) fn verify_digest(
    name: &str,
    what: &str,
    expected: &Digest,
    bytes: &[u8],
) -> Result<(), Error> {
    let actual = match expected.algorithm() {
        "sha512" => {
            let hex: String = Sha512::digest(bytes)
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            format!("sha512:{hex}")
        }
        _ => Digest::of(bytes).to_string(),
    };
    if actual == expected.as_str() {
        return Ok(());
    }
    Err(Error::DigestMismatch {
        name: name.to_owned(),
        what: what.to_owned(),
        expected: expected.to_string(),
        actual,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_that_are_no_image_are_refused_with_a_reason() {
        let cases = [
            ("{}", "has no schema version 2"),
            (r#"{"schemaVersion":1}"#, "has schema version 1"),
            (r#"{"schemaVersion":2}"#, "has neither layers nor manifests"),
            (
                r#"{"schemaVersion":2,"layers":[],"manifests":[]}"#,
                "has both layers and manifests",
            ),
            (
                r#"{"schemaVersion":2,"manifests":[],"mediaType":"application/vnd.oci.image.manifest.v1+json"}"#,
                "contradicts its media type",
            ),
            ("[", "is not valid"),
        ];
        for (text, why) in cases {
            let message = parse("image", text.as_bytes()).unwrap_err().to_string();
            assert!(message.starts_with("image: the manifest "), "{message}");
            assert!(message.contains(why), "{message}");
        }
    }

    #[test]
    fn the_variant_that_was_asked_for_comes_first() {
        let of = |variant: Option<&str>| {
            let digest = Digest::of(variant.unwrap_or("").as_bytes());
            let mut descriptor = Descriptor::new(media_type::MANIFEST, digest, 1);
            descriptor.platform = Some(Platform::new("linux", "arm", variant));
            descriptor
        };
        let candidates = [of(Some("v6")), of(Some("v5")), of(None)];
        let pick = |variant| {
            let wanted = Platform::new("linux", "arm", variant);
            choose("image", &candidates, &wanted).unwrap().clone()
        };
        assert_eq!(pick(Some("v7")), candidates[2]);
        assert_eq!(pick(None), candidates[2]);
        assert_eq!(pick(Some("v6")), candidates[0]);
        assert_eq!(pick(Some("v5")), candidates[1]);
        assert_eq!(pick(Some("v8")), candidates[2]);
        let error = choose("image", &candidates, &Platform::new("linux", "s390x", None));
        assert_eq!(
            error.unwrap_err().to_string(),
            "image: no image for linux/s390x; there is linux/arm/v6, linux/arm/v5, linux/arm"
        );
    }
}
