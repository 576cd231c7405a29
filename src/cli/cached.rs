//! A build of which every step is in the cache, answered from the store alone.
//!
//! Such a build runs no command and writes no layer, so it needs no user namespace: all that it reads and
//! writes are files of the caller's own. It is tried before one is entered, with a store that cannot grow
//! ([`Store::open_complete`]) and without any thread, since the first step that is not in the cache makes this
//! process call unshare(2), which refuses user namespaces to a process with several. Content is not read
//! either: a file that the context's memo does not know ends the attempt, so nothing long is done twice.
//!
//! An attempt that does not succeed has said and changed nothing, whatever it met. The build then begins
//! again inside of the namespace, and it is that one whose errors and refusals count. Where the guess how
//! owners will be kept is wrong, nothing is found and no more is lost. Not tried is what could be refused
//! for the walls alone (`--sandbox`, limits), and what has to look elsewhere than at the store.
//!
//! The alternatives: a namespace for each step is one for each layer, several writers of which share files;
//! a helper process inside of one would have to do everything that writes, on the orders of this one; and
//! to look at the first step alone says nothing about the others.

use std::path::Path;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use crate::build::event::{Event, EventSender, Phase, Spent};
use crate::build::limits::Limits;
use crate::build::request::{ContextSource, Destination, DockerfileSource, OutputForm, Request};
use crate::build::secret_scan::SecretScan;
use crate::build::{self, Built, DockerfileText, Input};
use crate::check::Finding;
use crate::sandbox::{Cancel, Walls, userns};
use crate::store::Store;

/// What a build gave without a session.
pub(super) struct Answer {
    pub(super) text: DockerfileText,
    pub(super) built: Built,
    /// All that happened, for the progress view.
    pub(super) events: Receiver<Event>,
}

/// Carries the build out if everything is in the cache of the store at `root`. Must be called while the
/// process has one thread.
pub(super) fn build(
    request: &Request,
    limits: &Limits,
    root: &Path,
    elapsed: impl FnOnce() -> Duration,
    tell: impl FnOnce(&[Finding], &EventSender),
) -> Option<Answer> {
    if !super::session::sandbox_is_automatic() || *limits != Limits::default() || !is_local(request)
    {
        return None;
    }
    let store = Store::open_complete(root, userns::likely_ownership())?;
    let request = Request {
        walls: Walls::Namespaces(None),
        ..request.clone()
    };
    let Input::Loaded(loaded) = build::load(&request).ok()? else {
        return None;
    };
    let cancel = Cancel::new().ok()?;
    let (sender, events) = mpsc::channel();
    let sender = EventSender::new(sender);
    sender.send(Event::Spent {
        id: None,
        spent: Spent::new(Phase::Start, elapsed()),
    });
    let text = loaded.text.clone();
    let built = build::run(*loaded, &store, &sender, &cancel).ok()?;
    tell(&built.checked.findings, &sender);
    Some(Answer {
        text,
        built,
        events,
    })
}

/// Whether the request is about nothing but directories here and the store, and can begin again.
fn is_local(request: &Request) -> bool {
    let is_kept = |form: &OutputForm| match form {
        OutputForm::OciArchive(to) | OutputForm::DockerArchive(to) => *to != Destination::Stdout,
        OutputForm::OciLayout(_) | OutputForm::CacheOnly => true,
        OutputForm::Image(image) => !image.push,
        OutputForm::Tar(_) | OutputForm::Local(_) => false,
    };
    matches!(request.context, ContextSource::Directory(_))
        && matches!(
            request.dockerfile,
            DockerfileSource::Default | DockerfileSource::Path(_)
        )
        && request.named_contexts.is_empty()
        && !request.no_cache
        && !request.pull
        && request.secret_scan == SecretScan::Off
        && request.outputs.iter().all(|output| is_kept(&output.form))
}
