//! Where the sources of a COPY, or of a mount, are.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use super::copy::{Origin, Tree};
use super::error::StepError;
use crate::context::Context;
use crate::context::digest::Memo;
use crate::oci::ChainId;
use crate::ownership::Owners;
use crate::store::{Snapshot, Store};

/// A context, or a root file system.
#[derive(Debug, Clone)]
pub(crate) enum SourceTree {
    Context(Arc<OpenContext>),
    /// A stage's or an image's file system: immutable, so content is digested once per snapshot.
    Rootfs {
        view: Arc<OwnedFd>,
        owners: Owners,
        chain: Option<ChainId>,
    },
}

/// A context with its stat records.
#[derive(Debug)]
pub(crate) struct OpenContext {
    pub(crate) context: Context,
    pub(crate) memo: Memo,
}

impl SourceTree {
    /// The view of a stage's or an image's snapshot.
    pub(crate) fn rootfs(store: &Store, snapshot: &Snapshot) -> Result<Self, StepError> {
        let view = store.shared_view(snapshot)?;
        Ok(Self::Rootfs {
            view,
            owners: store.owners(snapshot),
            chain: snapshot.chain_id().cloned(),
        })
    }

    /// What can be copied from.
    pub(super) fn tree(&self) -> Tree<'_> {
        match self {
            Self::Context(open) => Tree {
                root: open.context.root(),
                owners: &Owners::NONE,
                origin: Origin::Context,
                ignore: Some(open.context.ignore()),
            },
            Self::Rootfs { view, owners, .. } => Tree {
                root: view.as_fd(),
                owners,
                origin: Origin::Rootfs,
                ignore: None,
            },
        }
    }
}
