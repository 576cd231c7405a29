//! The repair: only removals, except for a few files of the layout.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::{Finding, Part, Remedy};
use crate::oci::{Descriptor, Index, media_type, to_json};
use crate::store::exclusive::Exclusive;
use crate::store::records::LayerBlob;
use crate::store::tags::{self, OCI_LAYOUT};
use crate::store::{
    Durable, Error, RESERVE, VERSION, create_private, create_stub, write_atomically,
};

/// Carries out the remedies in an order that leaves nothing without what it depends on; how many.
pub(super) fn carry_out(store: &Exclusive, findings: &[Finding]) -> Result<usize, Error> {
    let mut remedies: Vec<&Remedy> = findings.iter().map(|finding| &finding.remedy).collect();
    remedies.retain(|remedy| !matches!(remedy, Remedy::Nothing(_)));
    remedies.sort_by_key(|remedy| rank(remedy));
    for remedy in &remedies {
        match mend(store, remedy) {
            // Whatever is written is small: the reserve has the space.
            Err(error) if error.is_full() => {
                store.release_reserve()?;
                mend(store, remedy)?;
            }
            result => result?,
        }
    }
    Ok(remedies.len())
}

/// What goes first has the least rank.
fn rank(remedy: &Remedy) -> (u8, usize) {
    match remedy {
        Remedy::Remake(Part::Mode) | Remedy::Directory(_) => (0, 0),
        Remedy::Index(_) | Remedy::Untag(_) | Remedy::Holder(..) => (1, 0),
        Remedy::Record(_) => (2, 0),
        Remedy::Snapshot(_, depth) => (3, usize::MAX - depth),
        Remedy::Blob(_) => (4, 0),
        Remedy::Remove(_) => (5, 0),
        Remedy::Remake(_) | Remedy::Nothing(_) => (6, 0),
    }
}

fn mend(store: &Exclusive, remedy: &Remedy) -> Result<(), Error> {
    let root = store.view().root();
    match remedy {
        Remedy::Directory(path) => create_private(path),
        Remedy::Index(entries) => {
            let index = Index {
                schema_version: 2,
                media_type: Some(media_type::INDEX.to_owned()),
                manifests: entries.clone(),
                annotations: std::collections::BTreeMap::new(),
            };
            write_atomically(&root.join("oci/index.json"), &to_json(&index), Durable::Yes)
        }
        Remedy::Untag(entry) => tags::change_index(root, |index| {
            index.manifests.retain(|there| there != entry);
        }),
        Remedy::Holder(diff_id, descriptor) => {
            let holder = LayerBlob {
                descriptor: Descriptor {
                    annotations: std::collections::BTreeMap::new(),
                    ..descriptor.clone()
                },
                // Whoever wrote it, it is what the image names.
                encoding: None,
            };
            let path = root
                .join("layers")
                .join(format!("{}.json", diff_id.0.hex()));
            write_atomically(&path, &to_json(&[holder]), Durable::No)
        }
        Remedy::Record(path) | Remedy::Remove(path) => store.remove(path),
        Remedy::Snapshot(path, _) => {
            store.remove(path)?;
            match path.file_name() {
                Some(hex) => store.remove(&root.join("unsynced").join(hex)),
                None => Ok(()),
            }
        }
        Remedy::Blob(digest) => store.remove(&store.view().blob_path(digest)),
        Remedy::Remake(part) => remake(store, root, *part),
        Remedy::Nothing(_) => Ok(()),
    }
}

fn remake(store: &Exclusive, root: &Path, part: Part) -> Result<(), Error> {
    match part {
        Part::Version => write_atomically(&root.join("version"), VERSION.as_bytes(), Durable::Yes),
        Part::OciLayout => write_atomically(&root.join("oci/oci-layout"), OCI_LAYOUT, Durable::Yes),
        Part::Mode => fs::set_permissions(root, fs::Permissions::from_mode(0o700))
            .map_err(Error::io("make private", root)),
        Part::Stub => {
            store.remove(&root.join("stub"))?;
            create_stub(&root.join("stub"))
        }
        // The end of the repair takes the space again.
        Part::Reserve => store.remove(&root.join(RESERVE)),
    }
}
