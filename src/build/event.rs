//! What a build tells whoever watches it. The build sends, `progress` shows; nothing comes back.

use std::time::Duration;

use crate::oci::Digest;

/// A line of work that progress numbers `#N`: a step, a pull, the export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct VertexId(pub(crate) u32);

/// One thing that happened. Sent from any thread, in order per vertex.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// A vertex begins. `name` is BuildKit's: `[build 2/5] RUN make`, `[internal] load .dockerignore`.
    Started { id: VertexId, name: String },
    /// The vertex was not executed: its result was in the cache.
    Cached { id: VertexId },
    /// Bytes that a RUN wrote, as they came; lines may be cut anywhere.
    Log {
        id: VertexId,
        stream: Stream,
        bytes: Vec<u8>,
    },
    /// How far a part of the vertex is (a blob, the export): `label` names it, `total` when known.
    Progress {
        id: VertexId,
        label: String,
        done: u64,
        total: Option<u64>,
    },
    /// A part is over (`exporting layers`, `sha256:…`).
    Finished {
        id: VertexId,
        label: String,
        took: Duration,
    },
    /// Something worth saying that fails nothing.
    Warning {
        id: Option<VertexId>,
        message: String,
    },
    /// The vertex is done.
    Done { id: VertexId },
    /// The vertex failed; the message is one line.
    Failed { id: VertexId, message: String },
    /// The vertex was ended because another failed or the user interrupted.
    Canceled { id: VertexId },
    /// The whole build succeeded.
    Built { image_id: Option<Digest> },
}

/// Which of its two outputs a RUN wrote to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// Where events go; cheap to clone, usable from any thread.
#[derive(Debug, Clone)]
pub(crate) struct EventSender(std::sync::mpsc::Sender<Event>);

impl EventSender {
    pub(crate) fn new(sender: std::sync::mpsc::Sender<Event>) -> Self {
        Self(sender)
    }

    /// Sends `event`. That nobody listens any more fails no build.
    pub(crate) fn send(&self, event: Event) {
        drop(self.0.send(event));
    }
}
