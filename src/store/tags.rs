//! Tags: the `index.json` of the store's OCI layout (image-spec image-layout.md).
//!
//! One file, replaced as a whole under a lock. Each tag is a descriptor whose
//! `org.opencontainers.image.ref.name` is the full name, so `skopeo inspect
//! oci:ROOT/oci:docker.io/library/NAME:TAG` reads it in place.

use std::fs::{self, File};
use std::path::Path;

use super::{Durable, Error, Store, write_atomically};
use crate::oci::{Descriptor, Index, Reference, media_type, to_json};

/// The annotation that names a manifest in a layout (image-spec annotations.md).
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The file that says that a directory is an OCI layout.
pub(super) const OCI_LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

impl Store {
    /// The manifest that `reference` names in this store.
    pub(crate) fn find_tag(&self, reference: &Reference) -> Result<Option<Descriptor>, Error> {
        let name = reference.whole();
        let index = self.read_index()?;
        Ok(index
            .manifests
            .into_iter()
            .find(|entry| entry.annotations.get(REF_NAME) == Some(&name)))
    }

    /// Every name in this store, with its manifest or index.
    pub(crate) fn named_manifests(&self) -> Result<Vec<(String, Descriptor)>, Error> {
        let manifests = self.read_index()?.manifests.into_iter();
        let named = |entry: Descriptor| Some((entry.annotations.get(REF_NAME)?.clone(), entry));
        Ok(manifests.filter_map(named).collect())
    }

    /// Whether all of `references` name `manifest` already; without any, whether it is listed at all.
    pub(crate) fn has_tags(
        &self,
        references: &[Reference],
        manifest: &Descriptor,
    ) -> Result<bool, Error> {
        let index = self.read_index()?;
        let names = |entry: &Descriptor, name: &str| {
            entry
                .annotations
                .get(REF_NAME)
                .is_some_and(|there| there == name)
        };
        let mut ours = index
            .manifests
            .iter()
            .filter(|entry| entry.digest == manifest.digest);
        if references.is_empty() {
            return Ok(ours.next().is_some());
        }
        let ours: Vec<&Descriptor> = ours.collect();
        Ok(references
            .iter()
            .all(|name| ours.iter().any(|entry| names(entry, &name.whole()))))
    }

    /// Points all of `references` at `manifest` in one step; without any, lists it unnamed. The blobs
    /// it needs must be flushed: after this call the tags survive a power cut.
    pub(crate) fn set_tags(
        &self,
        references: &[Reference],
        manifest: &Descriptor,
    ) -> Result<(), Error> {
        change_index(&self.root, |index| point(index, references, manifest))
    }

    fn read_index(&self) -> Result<Index, Error> {
        read_index(&self.root)
    }
}

/// Points `references` at `manifest`, or lists it. An image that loses its last name stays listed without
/// one, as docker keeps it.
pub(super) fn point(index: &mut Index, references: &[Reference], manifest: &Descriptor) {
    let mut displaced = Vec::new();
    for reference in references {
        let name = reference.whole();
        let mut entry = manifest.clone();
        entry.annotations.insert(REF_NAME.to_owned(), name.clone());
        let named = |entry: &&mut Descriptor| entry.annotations.get(REF_NAME) == Some(&name);
        match index.manifests.iter_mut().find(named) {
            Some(there) => displaced.push(std::mem::replace(there, entry)),
            None => index.manifests.push(entry),
        }
    }
    if references.is_empty() {
        displaced.push(manifest.clone());
    } else {
        // The name that it has now takes the place of none.
        index.manifests.retain(|entry| {
            entry.digest != manifest.digest || entry.annotations.contains_key(REF_NAME)
        });
    }
    for mut entry in displaced {
        if index
            .manifests
            .iter()
            .all(|there| there.digest != entry.digest)
        {
            entry.annotations.remove(REF_NAME);
            index.manifests.push(entry);
        }
    }
}

/// [`super::View::change_index`]
pub(super) fn change_index<T>(
    root: &Path,
    change: impl FnOnce(&mut Index) -> T,
) -> Result<T, Error> {
    let _lock = lock_index(root)?;
    let before = read_index(root)?;
    let mut index = before.clone();
    let result = change(&mut index);
    if index != before {
        write_atomically(&root.join("oci/index.json"), &to_json(&index), Durable::Yes)?;
    }
    Ok(result)
}

/// Keeps others from changing the list of tags until it is dropped.
pub(super) fn lock_index(root: &Path) -> Result<File, Error> {
    let path = root.join("index.lock");
    let lock = File::create(&path).map_err(Error::io("open for writing", &path))?;
    lock.lock().map_err(Error::io("lock", &path))?;
    Ok(lock)
}

pub(super) fn read_index(root: &Path) -> Result<Index, Error> {
    let path = root.join("oci/index.json");
    let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
    serde_json::from_slice(&bytes).map_err(|source| Error::Damaged { path, source })
}

/// Makes the files of an empty OCI layout.
pub(super) fn create_layout(path: &Path) -> Result<(), Error> {
    let index = Index {
        schema_version: 2,
        media_type: Some(media_type::INDEX.to_owned()),
        manifests: Vec::new(),
        annotations: std::collections::BTreeMap::new(),
    };
    write_atomically(&path.join("index.json"), &to_json(&index), Durable::Yes)?;
    write_atomically(&path.join("oci-layout"), OCI_LAYOUT, Durable::Yes)
}
