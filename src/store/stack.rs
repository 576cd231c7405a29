//! Stacks of layers, as values: which snapshots they are, and what has been learned of them.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use crate::layer::Outline;
use crate::oci::ChainId;

/// A committed stack of layers; the default is the empty one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshot {
    /// Topmost first. Shared, because every step of a long build has a stack of its own.
    pub(super) chain: Vec<Arc<Layer>>,
}

/// One layer of a stack.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) own: Directory,
    /// The snapshot that holds the files, where this one only puts them on another parent.
    pub(super) content: Option<Directory>,
    /// Its directories that have entries in their tables of owners, once somebody has asked.
    pub(super) with_tables: OnceLock<Vec<PathBuf>>,
}

/// The directory of a snapshot as a part of stacks.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) chain_id: ChainId,
    pub(super) outline: Arc<Outline>,
}

impl From<ChainId> for Directory {
    fn from(chain_id: ChainId) -> Self {
        Self {
            chain_id,
            outline: Arc::default(),
        }
    }
}

impl Layer {
    pub(super) fn new(chain_id: ChainId, content: Option<ChainId>) -> Arc<Self> {
        Arc::new(Self {
            own: chain_id.into(),
            content: content.map(Directory::from),
            with_tables: OnceLock::new(),
        })
    }

    /// The snapshots whose directories it adds to a stack.
    pub(super) fn directories(&self) -> impl Iterator<Item = &Directory> {
        std::iter::once(&self.own).chain(&self.content)
    }
}

impl Snapshot {
    /// The stack's identity; `None` for the empty stack.
    pub(crate) fn chain_id(&self) -> Option<&ChainId> {
        self.chain.first().map(|layer| &layer.own.chain_id)
    }

    /// The snapshots whose directories make the stack, topmost first. A linked layer has two: the one
    /// that looks like the root below it, and the files. An overlay takes no directory twice, and needs
    /// it only once: what a linked layer holds is the same, and hides nothing, wherever it is in the
    /// stack.
    pub(super) fn directories(&self) -> impl Iterator<Item = &Directory> {
        let mut seen = HashSet::new();
        // No layer is in a stack twice but as what a linked one holds.
        let has_links = self.chain.iter().any(|layer| layer.content.is_some());
        self.chain
            .iter()
            .flat_map(|layer| layer.directories())
            .filter(move |directory| !has_links || seen.insert(&directory.chain_id))
    }

    /// The lowest `depth` layers of the stack.
    pub(crate) fn lowest(&self, depth: usize) -> Self {
        Self {
            chain: self.chain[self.chain.len() - depth..].to_vec(),
        }
    }

    /// The stack without its topmost layer.
    pub(crate) fn below(&self) -> Self {
        Self {
            chain: self.chain.get(1..).unwrap_or_default().to_vec(),
        }
    }
}
