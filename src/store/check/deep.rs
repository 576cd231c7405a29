//! The files of snapshots: an own layer that is packed again has the DiffId that it had.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use super::{Layer, Snapshots, Stacks, Survey};
use crate::layer::{Decoder, Lower, PackOptions, pack};
use crate::oci::{ChainId, Digest, Hasher};
use crate::ownership::{Owners, Ownership};
use crate::store::snapshots::{DIFF, Packing};
use crate::sys;

/// The digest of what a blob holds, decompressed.
pub(super) fn unpacked(blob: File) -> io::Result<Digest> {
    let mut hasher = Hasher::new();
    io::copy(&mut Decoder::detect(blob)?, &mut hasher)?;
    Ok(hasher.finish())
}

impl Survey<'_> {
    /// Packs what steps made, and finds what has other files than it had. Layers that came from elsewhere are counted only: their tars may say the same in
    /// another order.
    pub(super) fn contents(&mut self, snapshots: &mut Snapshots, ownership: &Ownership) {
        // Those of flat stores keep owners in the same ways.
        for (_, stacks) in snapshots
            .iter_mut()
            .filter(|(kind, _)| kind.ends_with(ownership.directory()))
        {
            self.stacks(stacks, ownership);
        }
    }

    fn stacks(&mut self, stacks: &mut Stacks, ownership: &Ownership) {
        let mut wrong = BTreeMap::new();
        for (chain_id, layer) in &stacks.whole {
            // The files of a linked layer are another snapshot's.
            if layer.content.is_some() {
                continue;
            }
            let Some(packing) = layer.packed else {
                self.counts.foreign += 1;
                continue;
            };
            self.counts.packed += 1;
            let paths = stack(&stacks.whole, chain_id, &stacks.directory);
            let first = packed(&paths, ownership, packing);
            if first.as_ref() == Ok(&layer.diff_id.0) {
                continue;
            }
            let problem = match first {
                Ok(actual) => format!("its files make the layer {actual}, not {}", layer.diff_id),
                Err(error) => format!("it cannot be packed: {error}"),
            };
            wrong.insert(chain_id.clone(), (0, problem));
        }
        self.standing(stacks, wrong);
    }
}

/// The directories of a stack, topmost first, each once.
fn stack(layers: &BTreeMap<ChainId, Layer>, top: &ChainId, kind: &Path) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    let mut next = Some(top);
    while let Some(chain_id) = next {
        let layer = layers.get(chain_id);
        let content = layer.and_then(|layer| layer.content.as_ref());
        for one in std::iter::once(chain_id).chain(content) {
            let path = kind.join(one.0.hex()).join(DIFF);
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
        next = layer.and_then(|layer| layer.parent.as_ref());
    }
    paths
}

fn packed(paths: &[PathBuf], ownership: &Ownership, packing: Packing) -> Result<Digest, String> {
    let (top, below) = paths.split_first().ok_or("it has no files")?;
    let top = sys::fs::open_directory(top).map_err(|error| error.to_string())?;
    let lowers: Vec<Lower> = below.iter().cloned().map(Lower::new).collect();
    let options = PackOptions {
        clamp_mtime: packing.clamp_mtime,
        include_parents: true,
        ..PackOptions::default()
    };
    let mut hasher = Hasher::new();
    let owners = Owners::new(ownership, paths);
    pack(top.as_fd(), &lowers, &owners, &options, &mut hasher).map_err(|e| e.to_string())?;
    Ok(hasher.finish())
}
