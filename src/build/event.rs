//! What a build tells whoever watches it. The build sends, `progress` shows; nothing comes back.

use std::time::Duration;

use super::error::StepError;
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
    /// What a phase of the vertex took, or of the command as a whole. A phase may come several times; the
    /// sum counts.
    Spent { id: Option<VertexId>, spent: Spent },
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

/// What a vertex does, in the order in which it does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Of the command: reading the Dockerfile, entering the namespace, opening the store.
    Start,
    /// Bytes of a base come from where they are.
    Pull,
    /// They become files; decompressed and hashed on the way.
    Unpack,
    /// The cache key is made, content read for it included, and looked up.
    Key,
    /// A sandbox is made, up to the command's execve(2).
    Sandbox,
    /// The command runs.
    Command,
    /// The sandbox is taken down.
    Teardown,
    /// COPY, ADD or WORKDIR writes its files.
    Write,
    /// The changed files are found, read, packed and hashed.
    Capture,
    /// What capturing waits for the compressor, which may have threads of its own, and for its blob to be
    /// written. One that is not compressed is hashed here.
    Compress,
    /// The layer and its records are put in the store.
    Publish,
    /// The rest of the blob is made while the next steps run: no part of the vertex's own time, and told
    /// after its end.
    Behind,
}

impl Phase {
    pub(crate) const ALL: [Self; 12] = [
        Self::Start,
        Self::Pull,
        Self::Unpack,
        Self::Key,
        Self::Sandbox,
        Self::Command,
        Self::Teardown,
        Self::Write,
        Self::Capture,
        Self::Compress,
        Self::Publish,
        Self::Behind,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Pull => "pull",
            Self::Unpack => "unpack",
            Self::Key => "key",
            Self::Sandbox => "sandbox",
            Self::Command => "command",
            Self::Teardown => "teardown",
            Self::Write => "write",
            Self::Capture => "capture",
            Self::Compress => "compress",
            Self::Publish => "publish",
            Self::Behind => "behind",
        }
    }
}

/// What a phase took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spent {
    pub(crate) phase: Phase,
    pub(crate) took: Duration,
    /// What it went through, where that is known.
    pub(crate) bytes: Option<u64>,
    pub(crate) files: Option<u64>,
}

impl Spent {
    pub(crate) fn new(phase: Phase, took: Duration) -> Self {
        Self {
            phase,
            took,
            bytes: None,
            files: None,
        }
    }
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

    /// Does `work` as the vertex `id`.
    pub(super) fn as_vertex<T>(
        &self,
        id: VertexId,
        name: String,
        work: impl FnOnce() -> Result<T, StepError>,
    ) -> Result<T, StepError> {
        self.send(Event::Started { id, name });
        let result = work();
        self.send(match &result {
            Ok(_) => Event::Done { id },
            Err(StepError::Canceled) => Event::Canceled { id },
            Err(error) => Event::Failed {
                id,
                message: error.to_string(),
            },
        });
        result
    }
}
