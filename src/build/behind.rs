//! What steps leave to compress, done by one thread while the next steps run.
//!
//! The thread is started by the first step that leaves something, and takes one layer after the other:
//! the compressors have threads of their own. Most builds have nothing large enough to be left.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::commit::Left;
use super::engine::lock;
use super::error::{Error, StepError};
use super::event::{Event, EventSender, Phase, Spent, VertexId};
use super::stage::timed;
use crate::dockerfile::Span;
use crate::sandbox::Cancel;
use crate::store::Store;

/// Layers that are left at a time; a step that would leave one more compresses its own.
const MOST: usize = 2;
/// Bytes of a layer that may wait for its compressor in memory.
const AHEAD: usize = 1 << 20;

/// A layer that a step left, and where to say what became of it.
pub(super) struct Job {
    pub(super) id: VertexId,
    pub(super) step: String,
    pub(super) location: Span,
    pub(super) left: Left,
}

/// The way from the steps to the thread, and back to who waits for it.
#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    is_working: bool,
    is_started: bool,
    /// Nobody wants what is still there.
    is_closed: bool,
    /// The build was ended before all of it was done.
    is_given_up: bool,
    failure: Option<Error>,
}

impl State {
    fn in_flight(&self) -> usize {
        self.jobs.len() + usize::from(self.is_working)
    }

    fn fail(&mut self, step: String, location: Span, source: StepError) {
        self.jobs.clear();
        self.failure = Some(Error::Step {
            step,
            location,
            source: Box::new(source),
        });
    }
}

impl Queue {
    fn wait<'l>(&self, state: MutexGuard<'l, State>) -> MutexGuard<'l, State> {
        let woken = self.changed.wait(state);
        woken.unwrap_or_else(PoisonError::into_inner)
    }

    /// What the thread does: one job after the other, until nobody wants more.
    fn work(&self, store: &Store, events: &EventSender, cancel: &Cancel) {
        let is_stopped = || lock(&self.state).is_closed || cancel.is_canceled();
        while let Some(job) = self.next() {
            let Job { id, left, .. } = job;
            let (made, took) = timed(|| left.finish(store, &is_stopped));
            let mut state = lock(&self.state);
            state.is_working = false;
            match made {
                Ok(blob) => events.send(Event::Spent {
                    id: Some(id),
                    spent: Spent {
                        bytes: Some(blob.size),
                        ..Spent::new(Phase::Behind, took)
                    },
                }),
                // What ends the build otherwise is its error.
                Err(_) if state.is_closed || cancel.is_canceled() => state.is_given_up = true,
                Err(source) => {
                    state.fail(job.step, job.location, source);
                    cancel.cancel();
                }
            }
            drop(state);
            self.changed.notify_all();
        }
    }

    /// The next job; `None` once the queue is closed.
    fn next(&self) -> Option<Job> {
        let mut state = lock(&self.state);
        loop {
            if state.is_closed {
                state.jobs.clear();
                return None;
            }
            if let Some(job) = state.jobs.pop_front() {
                state.is_working = true;
                return Some(job);
            }
            state = self.wait(state);
        }
    }
}

/// Where the steps of a build leave their layers.
#[derive(Clone, Copy)]
pub(crate) struct Behind<'a> {
    queue: &'a Queue,
    start: &'a (dyn Fn() -> io::Result<()> + Sync),
}

impl fmt::Debug for Behind<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Behind").finish_non_exhaustive()
    }
}

impl Behind<'_> {
    /// How many bytes of a layer to be left now may be in memory; `None` when there are too many layers.
    pub(super) fn room(self) -> Option<usize> {
        let has_room = lock(&self.queue.state).in_flight() < MOST;
        has_room.then_some(AHEAD)
    }

    /// Leaves a layer. What goes wrong with it cancels the build.
    pub(super) fn leave(self, job: Job) -> io::Result<()> {
        let mut state = lock(&self.queue.state);
        if !state.is_started {
            (self.start)()?;
            state.is_started = true;
        }
        state.jobs.push_back(job);
        drop(state);
        self.queue.changed.notify_all();
        Ok(())
    }

    /// Waits until the blobs of all layers that were left are there. The error is that of a step.
    pub(super) fn finish(self) -> Result<(), Error> {
        let mut state = lock(&self.queue.state);
        while state.in_flight() > 0 {
            state = self.queue.wait(state);
        }
        match state.failure.take() {
            Some(failure) => Err(failure),
            None if state.is_given_up => Err(Error::Canceled),
            None => Ok(()),
        }
    }

    /// Why the build was canceled, if it was for a layer that was left.
    pub(super) fn cause(self, error: Error) -> Error {
        match error {
            Error::Canceled => lock(&self.queue.state).failure.take().unwrap_or(error),
            error => error,
        }
    }
}

/// Lets `build` leave layers behind. When it returns, what is left of them is given up.
pub(super) fn beside<T>(
    store: &Store,
    events: &EventSender,
    cancel: &Cancel,
    build: impl FnOnce(Behind<'_>) -> T,
) -> T {
    /// Also when the build panics: the thread is waited for.
    struct Closing<'a>(&'a Queue);

    impl Drop for Closing<'_> {
        fn drop(&mut self) {
            lock(&self.0.state).is_closed = true;
            self.0.changed.notify_all();
        }
    }

    let queue = &Queue::default();
    std::thread::scope(|scope| {
        let start = || {
            std::thread::Builder::new()
                .name("behind".into())
                .spawn_scoped(scope, || queue.work(store, events, cancel))
                .map(drop)
        };
        let _closing = Closing(queue);
        let start = &start;
        build(Behind { queue, start })
    })
}
