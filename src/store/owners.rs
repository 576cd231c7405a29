//! Whose the files of snapshots are.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::snapshots::DIFF;
use super::stack::Layer;
use super::{Snapshot, Store};
use crate::ownership::{Owners, Ownership, TABLE};

impl Store {
    /// Whose the files in the layers' directories `diffs` are, topmost first, and those in a merged view
    /// of them.
    pub(crate) fn owners_of(&self, diffs: &[PathBuf]) -> Owners {
        Owners::new(&self.ownership, diffs)
    }

    /// Whose the files of the snapshot are, in its layers and in a [view](Store::view).
    pub(crate) fn owners(&self, snapshot: &Snapshot) -> Owners {
        match self.viewed(snapshot) {
            Some(tree) => self.owners_of(&[tree]),
            None => self.owners_on(None, snapshot),
        }
    }

    /// Whose the files in the layers of `snapshot` are, and those in the directory `upper` above them.
    pub(crate) fn owners_on(&self, upper: Option<PathBuf>, snapshot: &Snapshot) -> Owners {
        let layers = self.with_tables(snapshot);
        self.owners_of(&upper.into_iter().chain(layers).collect::<Vec<_>>())
    }

    /// The directories of the layers whose tables of owners have entries, topmost first; none where the
    /// file system has the owners. Every step with a supervisor leaves a table, most of them empty.
    pub(crate) fn with_tables(&self, snapshot: &Snapshot) -> Vec<PathBuf> {
        if !matches!(self.ownership, Ownership::Recorded(_)) {
            return Vec::new();
        }
        let has_entries = |diff: &PathBuf| match diff.with_file_name(TABLE).metadata() {
            Ok(table) => table.len() > 0,
            // Who reads it says what is wrong with it.
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        };
        let of_layer = |layer: &Arc<Layer>| {
            let with_tables = layer.with_tables.get_or_init(|| {
                let paths = layer
                    .directories()
                    .map(|it| self.snapshot_path(&it.chain_id).join(DIFF));
                paths.filter(has_entries).collect()
            });
            with_tables.clone()
        };
        snapshot.chain.iter().flat_map(of_layer).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{DiffId, Digest};
    use crate::ownership::Table;

    #[test]
    fn only_tables_with_entries_are_read_again() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("store");
        let store = Store::open(&root, Ownership::Recorded(Table::default())).unwrap();
        let mut below = Snapshot::default();
        for (layer, table) in [("none", None), ("empty", Some("")), ("one", Some("entry"))] {
            let active = store.prepare(&below).unwrap();
            if let Some(content) = table {
                std::fs::write(active.upper().with_file_name(TABLE), content).unwrap();
            }
            let diff_id = DiffId(Digest::of(layer.as_bytes()));
            let staged = store.stage(active, diff_id, None);
            below = store.publish_snapshot(staged).unwrap();
        }
        let all = store.layer_paths(&below);
        assert_eq!(store.with_tables(&below), all[..1]);
        assert!(store.with_tables(&below.below()).is_empty());
        let again = store.snapshot(below.chain_id()).unwrap();
        assert_eq!(store.with_tables(&again), all[..1]);
    }
}
