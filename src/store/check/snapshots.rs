//! Snapshots: each is named by what it says, and stands on others that are whole.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use super::{Layer, Level, Remedy, Snapshots, Stacks, Survey, digest_of};
use crate::oci::ChainId;
use crate::store::contents::{list, name_of};
use crate::store::snapshots::{DIFF, Record};
use crate::store::tmp::RUN_PREFIX;
use crate::store::unsynced::boot_id;
use crate::store::{Error, KINDS};

impl Survey<'_> {
    /// Looks at every snapshot and marker; those that are whole.
    pub(super) fn snapshots(&mut self) -> Result<Snapshots, Error> {
        let snapshots = self.view.root.join("snapshots");
        self.old_kinds(&snapshots)?;
        let mut all = Snapshots::new();
        for &kind in self.view.kinds {
            let mut stacks = Stacks {
                directory: snapshots.join(kind),
                ..Stacks::default()
            };
            let mut wrong = BTreeMap::new();
            for path in list(&stacks.directory)? {
                let Some(digest) = name_of(&path).and_then(digest_of) else {
                    self.stray(&path);
                    continue;
                };
                self.counts.snapshots += 1;
                let chain_id = ChainId(digest);
                match read(&path, &chain_id) {
                    Ok(Some(layer)) => drop(stacks.whole.insert(chain_id, layer)),
                    Ok(None) => {}
                    Err(problem) => drop(wrong.insert(chain_id, (0, problem))),
                }
            }
            self.standing(&mut stacks, wrong);
            all.insert(kind, stacks);
        }
        self.markers()?;
        Ok(all)
    }

    /// Reports the snapshots that are `wrong`, and those that stand on them or name them: none of them is
    /// whole. The number with a problem is how far above the first wrong one it is.
    pub(super) fn standing(
        &mut self,
        stacks: &mut Stacks,
        mut wrong: BTreeMap<ChainId, (usize, String)>,
    ) {
        for depth in 1.. {
            for chain_id in wrong.keys() {
                stacks.whole.remove(chain_id);
                stacks.wrong.insert(chain_id.clone());
            }
            let needs = |layer: &Layer| {
                let mut needed = layer.parent.iter().chain(&layer.content);
                needed.find(|needed| !stacks.has(needed)).cloned()
            };
            let above: Vec<(ChainId, ChainId)> = stacks
                .whole
                .iter()
                .filter_map(|(chain_id, layer)| Some((chain_id.clone(), needs(layer)?)))
                .collect();
            if above.is_empty() {
                break;
            }
            for (chain_id, gone) in above {
                let how = if wrong.contains_key(&gone) {
                    "not whole"
                } else {
                    "not there"
                };
                wrong.insert(
                    chain_id,
                    (depth, format!("it needs {gone}, which is {how}")),
                );
            }
        }
        for (chain_id, (depth, problem)) in wrong {
            let path = stacks.directory.join(chain_id.0.hex());
            let place = self.shown(&path);
            let remedy = Remedy::Snapshot(path, depth);
            self.report(Level::Damage, "snapshot", place, problem, remedy);
        }
    }

    /// Directories that earlier versions kept owners in.
    pub(super) fn old_kinds(&mut self, directory: &Path) -> Result<(), Error> {
        for path in list(directory)? {
            if !name_of(&path).is_some_and(|name| KINDS.contains(&name)) {
                let place = self.shown(&path);
                let problem = "a directory of an earlier version, which nothing reads any more";
                let remedy = Remedy::Remove(path);
                self.report(Level::Damage, "old", place, problem, remedy);
            }
        }
        Ok(())
    }

    fn markers(&mut self) -> Result<(), Error> {
        let boot = boot_id();
        for path in list(&self.view.root.join("unsynced"))? {
            let same_boot = fs::read_to_string(&path).is_ok_and(|text| text == boot);
            let Some(digest) = name_of(&path).and_then(digest_of) else {
                self.run_marker(&path, same_boot);
                continue;
            };
            // One snapshot, as earlier versions marked them.
            let mut places = KINDS
                .iter()
                .map(|kind| self.view.root.join("snapshots").join(kind));
            let is_there = places.any(|place| place.join(digest.hex()).exists());
            let problem = match (is_there, same_boot) {
                (true, true) => continue,
                (false, _) => "it marks a snapshot that is not there",
                (true, false) => {
                    "it marks a snapshot that may not have reached the disk before the machine stopped; \
                     the next build drops both"
                }
            };
            let place = self.shown(&path);
            let remedy = if is_there {
                Remedy::Nothing("left to the next build")
            } else {
                Remedy::Remove(path)
            };
            self.report(Level::Leftover, "marker", place, problem, remedy);
        }
        Ok(())
    }

    fn run_marker(&mut self, path: &Path, same_boot: bool) {
        if !name_of(path).is_some_and(|name| name.starts_with(RUN_PREFIX)) {
            self.stray(path);
        } else if !same_boot {
            let place = self.shown(path);
            let problem = "it marks snapshots that may not have reached the disk before the machine \
                stopped; the next build drops them";
            let remedy = Remedy::Nothing("left to the next build");
            self.report(Level::Leftover, "marker", place, problem, remedy);
        }
    }
}

impl Stacks {
    /// Whether the snapshot is whole, also one that a build made since all were read.
    pub(super) fn has(&self, chain_id: &ChainId) -> bool {
        let path = self.directory.join(chain_id.0.hex());
        self.whole.contains_key(chain_id)
            || (!self.wrong.contains(chain_id) && matches!(read(&path, chain_id), Ok(Some(_))))
    }
}

/// What the snapshot in `path` says; `None` when another process removed it meanwhile.
fn read(path: &Path, chain_id: &ChainId) -> Result<Option<Layer>, String> {
    let file = path.join("snapshot.json");
    let bytes = match fs::read(&file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !path.exists() => return Ok(None),
        Err(error) => return Err(format!("snapshot.json: {error}")),
    };
    let record: Record =
        serde_json::from_slice(&bytes).map_err(|error| format!("snapshot.json: {error}"))?;
    if ChainId::on(record.parent.as_ref(), &record.diff_id) != *chain_id {
        return Err("snapshot.json describes another snapshot".to_owned());
    }
    if record.content.as_ref() == Some(chain_id) {
        return Err("it names itself as what has its files".to_owned());
    }
    match fs::symlink_metadata(path.join(DIFF)) {
        Ok(metadata) if metadata.is_dir() => Ok(Some(Layer {
            parent: record.parent,
            content: record.content,
            diff_id: record.diff_id,
            packed: record.packed,
        })),
        Ok(_) => Err("diff is no directory".to_owned()),
        Err(error) => Err(format!("diff: {error}")),
    }
}
