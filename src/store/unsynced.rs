//! Which snapshots may not have reached the disk.
//!
//! Nothing of a snapshot is flushed when it gets its place. Its record names the run that made it, and a
//! run that makes one has a marker in `unsynced`, with the id of the machine's boot, that is flushed
//! before. A marker of this boot goes when its run has ended and everything was flushed since; one of an
//! earlier boot means that the machine stopped before that, and the snapshots of its run are dropped.
//! Losing the removal of a marker costs snapshots that were whole, never the other way round.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::contents::{list, name_of};
use super::exclusive::kinds_of;
use super::snapshots::Record;
use super::{Error, Store, sync_directory, tags, tmp};
use crate::oci::ChainId;
use crate::sys;

/// Whether this run has its marker.
#[derive(Debug, Default)]
pub(super) struct Marker(Mutex<bool>);

impl Store {
    /// The name of this run. When it returns the run's marker is on the disk, and new enough for a
    /// snapshot that gets its place next.
    pub(super) fn mark_run(&self) -> Result<String, Error> {
        let name = self.tmp.name();
        let directory = self.root.join("unsynced");
        let marker = directory.join(name);
        let mut is_marked = self.marker.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *is_marked {
            super::records::touch(&marker);
        } else {
            // Another run takes one without the boot's id for one of an earlier boot.
            let made = self.tmp.path().join("marker");
            let write = || -> std::io::Result<()> {
                let mut file = File::create(&made)?;
                file.write_all(boot_id().as_bytes())?;
                file.sync_all()?;
                fs::rename(&made, &marker)
            };
            write().map_err(Error::io("write", &marker))?;
            sync_directory(&directory)?;
            *is_marked = true;
        }
        Ok(name.to_owned())
    }

    /// Drops the snapshots that a power cut may have taken files of, and flushes those that are old
    /// enough to be on disk anyway for good.
    pub(super) fn settle_snapshots(&self) -> Result<(), Error> {
        let directory = self.root.join("unsynced");
        let boot = boot_id();
        let is_lost = |marker: &PathBuf| fs::read_to_string(marker).is_ok_and(|text| text != boot);
        let markers = list(&directory)?;
        if markers.iter().any(is_lost) {
            // Who comes second must not drop what the first has made since.
            let _lock = tags::lock_index(&self.root)?;
            let lost: Vec<PathBuf> = list(&directory)?.into_iter().filter(is_lost).collect();
            self.drop_lost(&lost)?;
        }
        let mut aged = markers;
        aged.retain(|marker| is_aged(marker) && !self.is_alive(marker));
        if !aged.is_empty() {
            let root = sys::fs::open_directory(&self.root)
                .map_err(|error| Error::io("open", &self.root)(error.into()))?;
            sys::fs::sync_file_system(&root)
                .map_err(|error| Error::io("sync", &self.root)(error.into()))?;
            for marker in aged {
                drop(fs::remove_file(marker));
            }
        }
        Ok(())
    }

    /// Whether the run of a marker goes on, and may make more snapshots.
    fn is_alive(&self, marker: &Path) -> bool {
        let name = marker.file_name().unwrap_or_default();
        let lock = self.root.join("tmp").join(name).with_extension("lock");
        File::open(lock).is_ok_and(|lock| lock.try_lock_shared().is_err())
    }

    /// Drops the snapshots of the markers' runs, those that cannot be read, and those that stand on
    /// what is not there; then the markers.
    fn drop_lost(&self, markers: &[PathBuf]) -> Result<(), Error> {
        let names: BTreeSet<&str> = markers
            .iter()
            .filter_map(|marker| name_of(marker))
            .collect();
        let mut is_rest = false;
        for kind in super::KINDS {
            let directory = self.root.join("snapshots").join(kind);
            let mut whole = BTreeMap::new();
            let mut lost = BTreeSet::new();
            for path in list(&directory)? {
                let hex = name_of(&path).unwrap_or_default();
                let chain_id = format!("sha256:{hex}").parse().map(ChainId);
                let record = fs::read(path.join("snapshot.json")).ok();
                let record = record.and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok());
                match (chain_id, record) {
                    (Err(_), _) => {}
                    (Ok(chain_id), Some(record)) if !is_of(&record, &chain_id, &names) => {
                        whole.insert(chain_id, (path, record));
                    }
                    _ => drop(lost.insert(path)),
                }
            }
            loop {
                let has = |id: &ChainId| {
                    // Another run may make snapshots meanwhile.
                    let path = directory.join(id.0.hex());
                    whole.contains_key(id)
                        || (!lost.contains(&path) && path.join("snapshot.json").exists())
                };
                let dangling: Vec<ChainId> = whole
                    .iter()
                    .filter(|(_, (_, record))| {
                        let mut below = record.parent.iter().chain(&record.content);
                        !below.all(has)
                    })
                    .map(|(chain_id, _)| chain_id.clone())
                    .collect();
                if dangling.is_empty() {
                    break;
                }
                let removed = dangling.iter().filter_map(|id| whole.remove(id));
                lost.extend(removed.map(|(path, _)| path));
            }
            if kinds_of(&self.ownership).contains(&kind) {
                lost.iter().try_for_each(|path| tmp::remove_tree(path))?;
            } else {
                // Only a run with more ids can remove them.
                is_rest |= !lost.is_empty();
            }
        }
        if !is_rest {
            markers
                .iter()
                .for_each(|marker| drop(fs::remove_file(marker)));
        }
        Ok(())
    }
}

/// Whether one of the markers `names` is of the snapshot: of its run, or, as earlier versions marked them,
/// of itself.
fn is_of(record: &Record, chain_id: &ChainId, names: &BTreeSet<&str>) -> bool {
    let run = record.run.as_deref();
    names.contains(chain_id.0.hex()) || run.is_some_and(|run| names.contains(run))
}

/// Written back by the kernel on its own: twice the default `vm.dirty_expire_centisecs`.
fn is_aged(marker: &Path) -> bool {
    let time = fs::metadata(marker).and_then(|metadata| metadata.modified());
    let age = time.ok().and_then(|time| time.elapsed().ok());
    age.is_some_and(|age| age.as_secs() >= 60)
}

/// Names this run of the kernel; empty where /proc does not tell, which never equals itself later
/// only by chance.
pub(super) fn boot_id() -> String {
    fs::read_to_string(Path::new("/proc/sys/kernel/random/boot_id")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::oci::{DiffId, Digest};
    use crate::ownership::{Ownership, Table};
    use crate::store::Snapshot;

    fn open(root: &Path) -> Store {
        Store::open(root, Ownership::Recorded(Table::default())).unwrap()
    }

    /// Publishes a layer with nothing in it.
    fn layer(store: &Store, parent: &Snapshot, text: &str) -> Snapshot {
        let active = store.prepare(parent).unwrap();
        let diff_id = DiffId(Digest::of(text.as_bytes()));
        store
            .publish_snapshot(store.stage(active, diff_id, None))
            .unwrap()
    }

    fn markers(root: &Path) -> Vec<PathBuf> {
        list(&root.join("unsynced")).unwrap()
    }

    fn is_there(store: &Store, snapshot: &Snapshot) -> bool {
        store.has_snapshot(snapshot.chain_id().unwrap())
    }

    #[test]
    fn the_snapshots_of_a_run_before_the_power_cut_go_with_what_stands_on_them() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("store");
        let first = open(&root);
        let settled = layer(&first, &Snapshot::default(), "settled");
        drop(first);
        fs::remove_file(&markers(&root)[0]).unwrap();
        let second = open(&root);
        let lost = layer(&second, &settled, "lost");
        let other = layer(&second, &Snapshot::default(), "other");
        drop(second);
        let [marker] = &markers(&root)[..] else {
            panic!("one marker for a run");
        };
        fs::write(marker, "another boot").unwrap();
        let third = open(&root);
        assert!(is_there(&third, &settled));
        assert!(!is_there(&third, &lost) && !is_there(&third, &other));
        assert!(markers(&root).is_empty());
        // Of another run, which has been flushed, on one that has not.
        let below = layer(&third, &settled, "below");
        drop(third);
        let [marker] = &markers(&root)[..] else {
            panic!("one marker for a run");
        };
        let fourth = open(&root);
        let above = layer(&fourth, &below, "above");
        drop(fourth);
        fs::write(marker, "").unwrap();
        let fifth = open(&root);
        assert!(!is_there(&fifth, &below) && !is_there(&fifth, &above));
        assert!(is_there(&fifth, &settled));
    }

    #[test]
    fn a_snapshot_without_a_record_that_can_be_read_gives_its_place_up() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("store");
        let store = open(&root);
        let one = layer(&store, &Snapshot::default(), "one");
        let two = layer(&store, &Snapshot::default(), "two");
        let place = |snapshot: &Snapshot| {
            let hex = snapshot.chain_id().unwrap().0.hex();
            root.join("snapshots/recorded").join(hex)
        };
        fs::write(place(&one).join("snapshot.json"), "").unwrap();
        fs::remove_file(place(&two).join("snapshot.json")).unwrap();
        drop(store);
        fs::write(&markers(&root)[0], "another boot").unwrap();
        let store = open(&root);
        for text in ["one", "two"] {
            let again = layer(&store, &Snapshot::default(), text);
            assert!(is_there(&store, &again));
        }
    }

    #[test]
    fn a_marker_goes_when_its_run_has_ended_and_everything_was_flushed() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("store");
        let alive = open(&root);
        layer(&alive, &Snapshot::default(), "text");
        let [marker] = &markers(&root)[..] else {
            panic!("one marker for a run");
        };
        let set = |time: SystemTime| {
            let file = File::options().write(true).open(marker).unwrap();
            file.set_modified(time).unwrap();
        };
        let past = SystemTime::now() - Duration::from_secs(3600);
        set(past);
        drop(open(&root));
        assert!(marker.exists(), "its run goes on");
        drop(alive);
        // A clock that went back: its age is not known.
        set(SystemTime::now() + Duration::from_secs(3600));
        drop(open(&root));
        assert!(marker.exists());
        set(past);
        drop(open(&root));
        assert!(!marker.exists());
    }

    #[test]
    fn a_marker_of_one_snapshot_is_still_understood() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("store");
        let store = open(&root);
        let snapshot = layer(&store, &Snapshot::default(), "text");
        drop(store);
        fs::remove_file(&markers(&root)[0]).unwrap();
        let hex = snapshot.chain_id().unwrap().0.hex().to_owned();
        fs::write(root.join("unsynced").join(hex), "another boot").unwrap();
        let store = open(&root);
        assert!(!is_there(&store, &snapshot) && markers(&root).is_empty());
    }
}
