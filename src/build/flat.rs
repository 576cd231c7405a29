//! The root file system of an image, without its layers.

use std::os::fd::AsFd as _;
use std::path::Path;

use super::copy;
use super::error::Error;
use super::export;
use super::request::Destination;
use crate::layer::{NamedTree, PackOptions, pack_tree, pack_trees};
use crate::store::{Snapshot, Store};

/// Writes it as a tar archive. No time in it is later than `clamp`, seconds since 1970.
pub(crate) fn tar(
    store: &Store,
    snapshot: &Snapshot,
    destination: &Destination,
    clamp: Option<i64>,
) -> Result<(), Error> {
    let (view, owners) = (store.view(snapshot)?, store.owners(snapshot));
    let options = PackOptions {
        clamp_mtime: clamp,
        ..PackOptions::default()
    };
    export::to_destination::<Error>(destination, |out| {
        pack_tree(view.as_fd(), &owners, &options, out)
            .map(drop)
            .map_err(|source| Error::ExportTree {
                source: Box::new(source),
            })
    })
}

/// Writes several as one tar archive, each below the directory with its name.
pub(crate) fn tar_of_several(
    store: &Store,
    trees: &[(String, &Snapshot)],
    destination: &Destination,
    clamp: Option<i64>,
) -> Result<(), Error> {
    let views = trees
        .iter()
        .map(|(name, snapshot)| Ok((name, store.view(snapshot)?, store.owners(snapshot))))
        .collect::<Result<Vec<_>, Error>>()?;
    let trees: Vec<NamedTree<'_>> = views
        .iter()
        .map(|(name, view, owners)| NamedTree {
            name,
            root: view.as_fd(),
            owners,
        })
        .collect();
    let options = PackOptions {
        clamp_mtime: clamp,
        ..PackOptions::default()
    };
    export::to_destination::<Error>(destination, |out| {
        pack_trees(&trees, &options, out)
            .map(drop)
            .map_err(|source| Error::ExportTree {
                source: Box::new(source),
            })
    })
}

/// Writes its files below the directory `path`, which is made if it is missing.
pub(crate) fn directory(store: &Store, snapshot: &Snapshot, path: &Path) -> Result<(), Error> {
    let (view, owners) = (store.view(snapshot)?, store.owners(snapshot));
    std::fs::create_dir_all(path).map_err(|source| export::Error::Write {
        path: path.to_owned(),
        source,
    })?;
    copy::copy_tree_to_host(view.as_fd(), &owners, path)
        .map(drop)
        .map_err(|source| Error::ExportTree {
            source: Box::new(source),
        })
}
