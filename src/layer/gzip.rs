//! A gzip writer that compresses blocks in parallel and whose bytes do not depend on how many threads
//! there are.
//!
//! The input is cut into blocks of one size. Each is deflated on its own with the end of the block
//! before it as dictionary, and ends at a byte boundary, so the results joined are one deflate stream
//! (RFC 1951) in one member (RFC 1952) that every reader of gzip takes.

use std::io::{self, Write};
use std::ops::{Deref, DerefMut};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use flate2::{Compress, Compression, FlushCompress, Status};

use crate::sys;

/// Large enough that cutting costs next to no size, small enough that a few in flight cost little.
const BLOCK: usize = 512 << 10;
/// As far as deflate can look back.
const WINDOW: usize = 32 << 10;

/// What [`is_incompressible`] looks at.
const SAMPLES: usize = 8;
const SAMPLE: usize = 4 << 10;
/// The length of a stored block has 16 bits.
const MAX_STORED: usize = 0xffff;

/// More workers than this would hold more memory than they are worth.
const MAX_THREADS: usize = 32;

/// A block on its way to a worker: what precedes it in the stream, and itself.
struct Block {
    previous: Arc<Buffer>,
    bytes: Arc<Buffer>,
    is_last: bool,
}

struct Deflated {
    bytes: Buffer,
    crc: crc32fast::Hasher,
}

/// Bytes of one block, deflated or not, in memory that the next one gets: blocks are made in one thread and
/// freed in another, which leaves an allocator with three times what is in use.
#[derive(Default)]
struct Buffer(Vec<u8>);

static SPARE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());
/// Of spare buffers.
const MOST: usize = 16;
/// A block that is stored, with its headers.
const ROOM: usize = BLOCK + 5 * (BLOCK / MAX_STORED + 1);

impl Buffer {
    /// An empty one, with room for a block.
    fn take() -> Self {
        let spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Self(spare.unwrap_or_else(|| Vec::with_capacity(ROOM)))
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.0);
        let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
        if bytes.capacity() >= ROOM && spare.len() < MOST {
            bytes.clear();
            spare.push(bytes);
        }
    }
}

impl Deref for Buffer {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

/// A thread that deflates; block `i` goes to worker `i % workers`, so order needs no bookkeeping.
struct Worker {
    blocks: SyncSender<Block>,
    results: Receiver<io::Result<Deflated>>,
    thread: JoinHandle<()>,
}

/// Writes one gzip member to `out`.
pub(super) struct Writer<W: Write> {
    out: W,
    level: u32,
    threads: usize,
    /// Blocks that each worker may have, in hand and waiting.
    share: usize,
    /// Who has work to do that somebody waits for goes before the workers.
    is_behind: bool,
    /// Started when the first block is full: most layers are smaller than one.
    workers: Vec<Worker>,
    /// Blocks handed out and blocks written.
    sent: usize,
    written: usize,
    filling: Buffer,
    previous: Arc<Buffer>,
    crc: crc32fast::Hasher,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(mut out: W, level: u32, threads: usize) -> io::Result<Self> {
        // Deflate, no flags, no time, no hint of the level, an unknown system.
        out.write_all(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255])?;
        Ok(Self {
            out,
            level,
            threads: threads.clamp(1, MAX_THREADS),
            share: 2,
            is_behind: false,
            workers: Vec::new(),
            sent: 0,
            written: 0,
            filling: Buffer::default(),
            previous: Arc::default(),
            crc: crc32fast::Hasher::new(),
        })
    }

    /// Before the first write: about this many bytes may wait for workers, which run at a low priority.
    pub(super) fn stay_behind(&mut self, bytes: usize) {
        self.share = (bytes / BLOCK).div_ceil(self.threads).max(2);
        self.is_behind = true;
    }

    /// Whether the next `bytes`, at most a block, would wait for a worker.
    pub(super) fn is_full(&mut self, bytes: usize) -> io::Result<bool> {
        let needs_room = self.filling.len() + bytes > BLOCK;
        if !needs_room || self.has_room() {
            return Ok(false);
        }
        match self.next_worker().results.try_recv() {
            Ok(deflated) => {
                self.written += 1;
                self.take(&deflated?)?;
                Ok(false)
            }
            Err(TryRecvError::Empty) => Ok(true),
            Err(TryRecvError::Disconnected) => Err(gone()),
        }
    }

    pub(super) fn finish(mut self) -> io::Result<W> {
        if self.sent == 0 {
            let only = Block {
                previous: Arc::default(),
                bytes: Arc::new(std::mem::take(&mut self.filling)),
                is_last: true,
            };
            self.take(&deflate(Compression::new(self.level), &only)?)?;
        } else {
            self.send_block(true)?;
        }
        while self.written < self.sent {
            self.write_next()?;
        }
        for worker in self.workers {
            drop(worker.blocks);
            worker.thread.join().map_err(|_| gone())?;
        }
        // RFC 1952: the size modulo 2^32.
        let size = self.crc.total_len().to_le_bytes();
        self.out.write_all(&self.crc.finalize().to_le_bytes())?;
        self.out.write_all(&size[..4])?;
        Ok(self.out)
    }

    fn send_block(&mut self, is_last: bool) -> io::Result<()> {
        while self.workers.len() < self.threads {
            let worker = Worker::start(self.level, self.share, self.is_behind)?;
            self.workers.push(worker);
        }
        if !self.has_room() {
            self.write_next()?;
        }
        let next = if is_last {
            Buffer::default()
        } else {
            Buffer::take()
        };
        let bytes = Arc::new(std::mem::replace(&mut self.filling, next));
        let previous = std::mem::replace(&mut self.previous, Arc::clone(&bytes));
        let worker = &self.workers[self.sent % self.workers.len()];
        let block = Block {
            previous,
            bytes,
            is_last,
        };
        worker.blocks.send(block).map_err(|_| gone())?;
        self.sent += 1;
        Ok(())
    }

    fn has_room(&self) -> bool {
        self.sent - self.written < self.share * self.threads
    }

    /// The one that has the next block of the stream; there is none before the first is sent.
    fn next_worker(&self) -> &Worker {
        &self.workers[self.written % self.workers.len()]
    }

    fn write_next(&mut self) -> io::Result<()> {
        let deflated = self.next_worker().results.recv().map_err(|_| gone())??;
        self.written += 1;
        self.take(&deflated)
    }

    fn take(&mut self, deflated: &Deflated) -> io::Result<()> {
        self.crc.combine(&deflated.crc);
        self.out.write_all(&deflated.bytes)
    }
}

impl<W: Write> Write for Writer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.filling.len() == BLOCK {
            self.send_block(false)?;
        }
        let count = bytes.len().min(BLOCK - self.filling.len());
        self.filling.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    /// Flushes what was compressed so far; cutting the block short would change the bytes.
    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Worker {
    /// At most `share` blocks are with it at a time.
    fn start(level: u32, share: usize, is_behind: bool) -> io::Result<Self> {
        let level = Compression::new(level);
        let (blocks, incoming) = sync_channel::<Block>(share - 1);
        let (outgoing, results) = sync_channel(share);
        let thread = std::thread::Builder::new()
            .name("gzip".into())
            .spawn(move || {
                if is_behind {
                    sys::process::lower_priority();
                }
                for block in incoming {
                    // A closed channel means that the writer was given up.
                    if outgoing.send(deflate(level, &block)).is_err() {
                        break;
                    }
                }
            })?;
        Ok(Self {
            blocks,
            results,
            thread,
        })
    }
}

fn deflate(level: Compression, block: &Block) -> io::Result<Deflated> {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&block.bytes);
    if is_incompressible(&block.bytes)? {
        let bytes = stored(&block.bytes, block.is_last);
        return Ok(Deflated { bytes, crc });
    }
    // A state that is reset instead remembers enough of the last block to choose other matches.
    let mut compress = Compress::new(level, false);
    let dictionary = &block.previous[block.previous.len().saturating_sub(WINDOW)..];
    if !dictionary.is_empty() {
        compress
            .set_dictionary(dictionary)
            .map_err(io::Error::other)?;
    }
    let mut bytes = Buffer::take();
    loop {
        let done = usize::try_from(compress.total_in()).map_err(io::Error::other)?;
        let (rest, flush) = match block.is_last {
            true => (&block.bytes[done..], FlushCompress::Finish),
            false => (&block.bytes[done..], FlushCompress::Sync),
        };
        let status = compress
            .compress_vec(rest, &mut bytes, flush)
            .map_err(io::Error::other)?;
        // Room that is left over means that everything came out, the end of the block included.
        let is_done =
            status == Status::StreamEnd || (!block.is_last && bytes.len() < bytes.capacity());
        if is_done {
            break;
        }
        bytes.reserve(BLOCK / 2);
    }
    Ok(Deflated { bytes, crc })
}

/// Whether deflate would gain next to nothing, judged by a few samples. Media and archives are so, and
/// trying them costs most of the time that a layer of them takes.
fn is_incompressible(block: &[u8]) -> io::Result<bool> {
    if block.len() < SAMPLES * SAMPLE {
        return Ok(false);
    }
    let mut room = Vec::with_capacity(SAMPLE + SAMPLE / 8);
    for sample in 0..SAMPLES {
        let begin = (block.len() - SAMPLE) / (SAMPLES - 1) * sample;
        room.clear();
        let mut compress = Compress::new(Compression::fast(), false);
        compress
            .compress_vec(
                &block[begin..begin + SAMPLE],
                &mut room,
                FlushCompress::Finish,
            )
            .map_err(io::Error::other)?;
        // One part that gives in is worth the whole.
        if room.len() < SAMPLE - SAMPLE / 32 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// `bytes` as they are, in blocks of deflate's first type (RFC 1951, 3.2.4), which begin and end at byte
/// boundaries.
fn stored(bytes: &[u8], is_last: bool) -> Buffer {
    let mut out = Buffer::take();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (part, after) = rest.split_at(rest.len().min(MAX_STORED));
        let length = u16::try_from(part.len()).expect("not more than fits");
        out.push(u8::from(is_last && after.is_empty()));
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(part);
        rest = after;
    }
    out
}

fn gone() -> io::Error {
    io::Error::other("a compressing thread ended early")
}
