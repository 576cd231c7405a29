//! What the builds for the platforms of one request have in common.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use super::engine::{ContextPlace, lock};
use super::event::VertexId;
use super::remote_context::FetchedContexts;
use super::secret_scan::Patterns;
use super::source_tree::OpenContext;
use super::turns::Turns;
use crate::context::digest::Memo;
use crate::oci::Digest;
use crate::sandbox::Reserve;

/// The context, which is opened once, the numbers of vertices, and what was made so far.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(super) place: ContextPlace,
    absolute: OnceLock<PathBuf>,
    pub(super) context: OnceLock<Arc<OpenContext>>,
    pub(super) fetched: FetchedContexts,
    pub(super) turns: Turns,
    pub(super) reserve: Reserve,
    /// The secrets that no step may leave behind.
    pub(super) scan: Option<Patterns>,
    next_vertex: AtomicU32,
    made: Mutex<BTreeSet<Digest>>,
}

impl Shared {
    pub(crate) fn new(place: ContextPlace) -> Self {
        let context = OnceLock::new();
        let place = match place {
            ContextPlace::Archive(archive) => {
                let open = OpenContext {
                    context: archive,
                    memo: Memo::none(),
                };
                context.get_or_init(|| Arc::new(open));
                ContextPlace::Empty
            }
            place => place,
        };
        Self {
            place,
            absolute: OnceLock::new(),
            context,
            fetched: FetchedContexts::default(),
            turns: Turns::default(),
            reserve: Reserve::default(),
            scan: None,
            next_vertex: AtomicU32::new(0),
            made: Mutex::default(),
        }
    }

    /// Where the context is, which tells builds apart; empty when it is no directory.
    pub(super) fn absolute_context(&self) -> &Path {
        self.absolute.get_or_init(|| match &self.place {
            ContextPlace::Directory { path, .. } => {
                std::path::absolute(path).unwrap_or_else(|_| path.clone())
            }
            _ => PathBuf::new(),
        })
    }

    pub(super) fn next_vertex(&self) -> VertexId {
        VertexId(self.next_vertex.fetch_add(1, Ordering::Relaxed))
    }

    /// Notes that this build, for whichever platform, carried out the step with this key.
    pub(super) fn note_made(&self, key: &Digest) {
        lock(&self.made).insert(key.clone());
    }

    /// Whether it did: then the step's result is no old one, which `--no-cache` forbids.
    pub(super) fn was_made(&self, key: &Digest) -> bool {
        lock(&self.made).contains(key)
    }

    /// Keeps the stat records of the context for the next build.
    pub(crate) fn save_memo(&self) {
        if let Some(open) = self.context.get() {
            // Without the records the next build reads the files again; nothing else is lost.
            drop(open.memo.save());
        }
    }
}
