//! SHA-256 beside the work that makes the bytes.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::{Digest, Hasher};

/// Bytes from which a thread pays for itself.
const MUCH: u64 = 2 << 20;
/// Bytes handed over at a time.
const CHUNK: usize = 256 << 10;
/// Chunks that may wait.
const QUEUE: usize = 2;

/// A [`Hasher`] that goes on in a thread of its own once there is much to hash, so that compressing and
/// writing need not wait for it. Dropped, its thread ends.
#[derive(Debug)]
pub(crate) struct StreamHasher {
    length: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    Here(Hasher),
    Beside(Beside),
}

#[derive(Debug)]
struct Beside {
    filling: Vec<u8>,
    full: SyncSender<Vec<u8>>,
    emptied: Receiver<Vec<u8>>,
    thread: JoinHandle<Hasher>,
}

impl From<Hasher> for StreamHasher {
    /// Goes on where `hasher` is.
    fn from(hasher: Hasher) -> Self {
        Self {
            length: hasher.length(),
            state: State::Here(hasher),
        }
    }
}

impl StreamHasher {
    pub(crate) fn new() -> Self {
        Hasher::new().into()
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        match &mut self.state {
            State::Here(hasher) => {
                hasher.update(bytes);
                if self.length >= MUCH
                    && let Some(beside) = Beside::start(hasher)
                {
                    self.state = State::Beside(beside);
                }
            }
            State::Beside(beside) => beside.update(bytes),
        }
    }

    /// How many bytes were hashed, or will be.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    pub(crate) fn finish(self) -> Digest {
        match self.state {
            State::Here(hasher) => hasher.finish(),
            State::Beside(beside) => beside.finish(),
        }
    }
}

impl Beside {
    /// `None` where a thread would gain nothing or there is none to be had.
    fn start(hasher: &Hasher) -> Option<Self> {
        if std::thread::available_parallelism().map_or(1, std::num::NonZero::get) == 1 {
            return None;
        }
        let (full, incoming) = sync_channel::<Vec<u8>>(QUEUE);
        let (outgoing, emptied) = sync_channel(QUEUE + 2);
        let mut hasher = hasher.clone();
        let run = move || {
            for mut chunk in incoming {
                hasher.update(&chunk);
                chunk.clear();
                // There is room for all chunks there are; who takes none back has ended.
                drop(outgoing.try_send(chunk));
            }
            hasher
        };
        let thread = std::thread::Builder::new().name("sha256".into()).spawn(run);
        Some(Self {
            filling: Vec::with_capacity(CHUNK),
            full,
            emptied,
            thread: thread.ok()?,
        })
    }

    fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.filling.len() == CHUNK {
                self.send();
            }
            let (part, rest) = bytes.split_at(bytes.len().min(CHUNK - self.filling.len()));
            self.filling.extend_from_slice(part);
            bytes = rest;
        }
    }

    fn send(&mut self) {
        let emptied = self.emptied.try_recv();
        let next = emptied.unwrap_or_else(|_| Vec::with_capacity(CHUNK));
        let chunk = std::mem::replace(&mut self.filling, next);
        self.full
            .send(chunk)
            .expect("the thread hashes until this end is gone");
    }

    fn finish(mut self) -> Digest {
        self.send();
        drop(self.full);
        let hasher = self.thread.join();
        hasher.expect("hashing does not panic").finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_does_not_depend_on_where_the_bytes_are_hashed() {
        let bytes: Vec<u8> = (0..6_000_001_u32)
            .map(|number| (number >> 5).to_le_bytes()[0])
            .collect();
        for length in [0, 1, 2 << 20, (2 << 20) + 1, (2 << 20) + CHUNK, bytes.len()] {
            for step in [CHUNK, 777_777, 10_000] {
                let mut hasher = StreamHasher::new();
                bytes[..length]
                    .chunks(step)
                    .for_each(|part| hasher.update(part));
                assert_eq!(hasher.length(), length as u64);
                assert_eq!(
                    hasher.finish(),
                    Digest::of(&bytes[..length]),
                    "{length} by {step}"
                );
            }
        }
    }

    #[test]
    fn a_hasher_that_is_given_up_leaves_no_thread_waiting() {
        let mut hasher = StreamHasher::new();
        hasher.update(&vec![0; 3 << 20]);
        let State::Beside(beside) = hasher.state else {
            // One processor.
            return;
        };
        let Beside { full, thread, .. } = beside;
        drop(full);
        assert_eq!(thread.join().unwrap().length(), 3 << 20);
    }

    #[test]
    fn a_beginning_that_was_hashed_counts() {
        let mut begun = Hasher::new();
        begun.update(b"begin");
        let mut hasher = StreamHasher::from(begun);
        hasher.update(b"ning");
        assert_eq!(hasher.length(), 9);
        assert_eq!(hasher.finish(), Digest::of(b"beginning"));
    }
}
