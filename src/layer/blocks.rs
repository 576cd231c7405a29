//! A writer that compresses blocks in parallel and whose bytes do not depend on how many threads there
//! are.
//!
//! A block ends, within bounds, where the tar has a header whose name hashes to a certain number, so two
//! tars with the same members have the same blocks soon after a place where they differ. Such a block is
//! compressed once: a layer takes it from the [blob](EarlierBlob) of one before it.

use std::io::{self, Write};
use std::ops::{Deref, DerefMut};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::block_index::{BlockIndex, BlockKey, EarlierBlob, IndexedBlock};
use super::codec::{Codec, Compressor};
use super::header::BLOCK as TAR_BLOCK;
use crate::sys;

/// More workers than this would hold more memory than they are worth.
const MAX_THREADS: usize = 32;

/// Bytes of a compressed block that is worth keeping in case the next is the same.
const TINY: usize = 4 << 10;

/// One header in so many may begin a block.
const RARE: u32 = 8;

/// A block on its way to a worker: what precedes it in the stream, and itself.
pub(super) struct Block {
    pub(super) previous: Arc<Buffer>,
    pub(super) bytes: Arc<Buffer>,
    pub(super) is_last: bool,
}

/// A compressed block.
#[derive(Clone)]
struct Pressed {
    bytes: Buffer,
    crc: crc32fast::Hasher,
    /// At offset 0; `None` where it takes less time to compress it than to find it.
    indexed: Option<IndexedBlock>,
}

/// Bytes of one block, compressed or not, in memory that the next one gets: blocks are made in one thread
/// and freed in another, which leaves an allocator with three times what is in use.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Buffer(Vec<u8>);

static SPARE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());
/// Of spare buffers, and what they may hold together.
const MOST: usize = 16;
const MOST_BYTES: usize = 24 << 20;
/// Smaller ones are not kept.
const LEAST: usize = 256 << 10;

impl Buffer {
    /// An empty one, with room for so many bytes.
    pub(super) fn take(room: usize) -> Self {
        let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
        let fitting = spare.iter().position(|spare| spare.capacity() >= room);
        let found = fitting.map(|at| spare.swap_remove(at));
        Self(found.unwrap_or_else(|| Vec::with_capacity(room)))
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.0);
        if bytes.capacity() < LEAST {
            return;
        }
        let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
        let kept: usize = spare.iter().map(Vec::capacity).sum();
        if spare.len() < MOST && kept + bytes.capacity() <= MOST_BYTES {
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

/// A thread that compresses; block `i` goes to worker `i % workers`, so order needs no bookkeeping.
struct Worker {
    blocks: SyncSender<Block>,
    results: Receiver<io::Result<Pressed>>,
    thread: JoinHandle<()>,
}

/// Writes one compressed stream to `out`.
pub(super) struct Writer<W: Write> {
    out: W,
    codec: Codec,
    threads: usize,
    earlier: Option<Arc<EarlierBlob>>,
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
    /// Bytes written to `out`.
    offset: u64,
    index: BlockIndex,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(mut out: W, codec: Codec, threads: usize) -> io::Result<Self> {
        out.write_all(codec.head())?;
        Ok(Self {
            out,
            codec,
            threads: threads.clamp(1, MAX_THREADS),
            earlier: None,
            share: 2,
            is_behind: false,
            workers: Vec::new(),
            sent: 0,
            written: 0,
            filling: Buffer::default(),
            previous: Arc::default(),
            crc: crc32fast::Hasher::new(),
            offset: codec.head().len() as u64,
            index: BlockIndex::default(),
        })
    }

    /// Before the first write: blocks that are in `earlier`, which this format and level made, are taken
    /// from there.
    pub(super) fn take_from(&mut self, earlier: Arc<EarlierBlob>) {
        self.earlier = Some(earlier);
    }

    /// Before the first write: about this many bytes may wait for workers, which run at a low priority.
    pub(super) fn stay_behind(&mut self, bytes: usize) {
        let (_, most) = self.codec.sizes();
        self.share = (bytes / most).div_ceil(self.threads).max(2);
        self.is_behind = true;
    }

    /// Whether the next `bytes`, at most as many as the smallest block has, would wait for a worker.
    pub(super) fn is_full(&mut self, bytes: usize) -> io::Result<bool> {
        let (_, most) = self.codec.sizes();
        let needs_room = self.filling.len() + bytes > most;
        if !needs_room || self.has_room() {
            return Ok(false);
        }
        match self.next_worker().results.try_recv() {
            Ok(pressed) => {
                self.written += 1;
                self.take(&pressed?)?;
                Ok(false)
            }
            Err(TryRecvError::Empty) => Ok(true),
            Err(TryRecvError::Disconnected) => Err(gone()),
        }
    }

    /// Ends the stream. The index tells where in it the blocks are.
    pub(super) fn finish(mut self) -> io::Result<(W, BlockIndex)> {
        if self.sent == 0 {
            let only = Block {
                previous: Arc::default(),
                bytes: Arc::new(std::mem::take(&mut self.filling)),
                is_last: true,
            };
            let mut press = Press::new(self.codec, None)?;
            self.take(&press.press(only)?)?;
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
        self.out.write_all(&self.codec.tail(self.crc))?;
        Ok((self.out, self.index))
    }

    fn send_block(&mut self, is_last: bool) -> io::Result<()> {
        while self.workers.len() < self.threads {
            let press = Press::new(self.codec, self.earlier.clone())?;
            let worker = Worker::start(press, self.share, self.is_behind)?;
            self.workers.push(worker);
        }
        if !self.has_room() {
            self.write_next()?;
        }
        let next = if is_last {
            Buffer::default()
        } else {
            let (_, most) = self.codec.sizes();
            let mut next = Buffer::take(most);
            let end = end_of_block(&self.filling, self.codec);
            next.extend_from_slice(&self.filling[end..]);
            self.filling.truncate(end);
            next
        };
        let bytes = Arc::new(std::mem::replace(&mut self.filling, next));
        let seen = match self.codec.window() {
            0 => Arc::default(),
            _ => Arc::clone(&bytes),
        };
        let previous = std::mem::replace(&mut self.previous, seen);
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
        let pressed = self.next_worker().results.recv().map_err(|_| gone())??;
        self.written += 1;
        self.take(&pressed)
    }

    fn take(&mut self, pressed: &Pressed) -> io::Result<()> {
        self.crc.combine(&pressed.crc);
        self.out.write_all(&pressed.bytes)?;
        if let Some(block) = pressed.indexed {
            let offset = self.offset;
            self.index.push(IndexedBlock { offset, ..block });
        }
        self.offset += pressed.bytes.len() as u64;
        Ok(())
    }
}

impl<W: Write> Write for Writer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (_, most) = self.codec.sizes();
        if self.filling.len() == most {
            self.send_block(false)?;
        }
        let count = bytes.len().min(most - self.filling.len());
        self.filling.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    /// Flushes what was compressed so far; cutting the block short would change the bytes.
    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Where the block that fills `bytes` ends: at the first header from the least size on that may begin
/// one, else after all of it. Bytes that only look like a header are as good as one.
fn end_of_block(bytes: &[u8], codec: Codec) -> usize {
    const MAGIC: std::ops::Range<usize> = 257..262;
    const NAME: std::ops::Range<usize> = 0..100;
    let (least, _) = codec.sizes();
    let begins = |at: &usize| {
        let header = bytes[*at..].first_chunk::<TAR_BLOCK>();
        header.is_some_and(|header| {
            header[MAGIC] == *b"ustar" && crc32fast::hash(&header[NAME]).is_multiple_of(RARE)
        })
    };
    let mut places = (least..bytes.len()).step_by(TAR_BLOCK);
    places.find(begins).unwrap_or(bytes.len())
}

/// What a worker compresses with.
struct Press {
    codec: Codec,
    compressor: Compressor,
    earlier: Option<Arc<EarlierBlob>>,
    /// The last block that became next to nothing, and what it became: zeros come in long runs.
    tiny: Option<(Block, Pressed)>,
}

impl Press {
    fn new(codec: Codec, earlier: Option<Arc<EarlierBlob>>) -> io::Result<Self> {
        Ok(Self {
            codec,
            compressor: codec.compressor()?,
            earlier,
            tiny: None,
        })
    }

    fn press(&mut self, block: Block) -> io::Result<Pressed> {
        if let Some((known, pressed)) = &self.tiny
            && self.is_same(known, &block)
        {
            return Ok(pressed.clone());
        }
        let pressed = self.press_new(&block)?;
        if pressed.bytes.len() <= TINY {
            self.tiny = Some((block, pressed.clone()));
        }
        Ok(pressed)
    }

    /// Whether both become the same.
    fn is_same(&self, one: &Block, other: &Block) -> bool {
        one.is_last == other.is_last
            && one.bytes == other.bytes
            && self.before(one) == self.before(other)
    }

    /// What before the block decides what becomes of it.
    fn before<'b>(&self, block: &'b Block) -> &'b [u8] {
        let window = self.codec.window();
        &block.previous[block.previous.len().saturating_sub(window)..]
    }

    fn press_new(&mut self, block: &Block) -> io::Result<Pressed> {
        let mut key = None;
        if let Some(earlier) = &self.earlier
            && let Some((bytes, found)) = earlier.block(key.insert(self.key(block)))
        {
            return Ok(Pressed {
                bytes,
                crc: crc32fast::Hasher::new_with_initial_len(found.crc, found.size.into()),
                indexed: Some(found),
            });
        }
        let mut crc = crc32fast::Hasher::new();
        if let Codec::Gzip(_) = self.codec {
            crc.update(&block.bytes);
        }
        let bytes = self.compressor.compress(block)?;
        let size = block.bytes.len();
        let is_worth_finding = bytes.len() < size - size / 16;
        let indexed = is_worth_finding.then(|| IndexedBlock {
            key: key.unwrap_or_else(|| self.key(block)),
            offset: 0,
            length: short(bytes.len()),
            checksum: crc32fast::hash(&bytes),
            size: short(size),
            crc: crc.clone().finalize(),
        });
        Ok(Pressed {
            bytes,
            crc,
            indexed,
        })
    }

    fn key(&self, block: &Block) -> BlockKey {
        let before = self.before(block);
        let ends_stream = block.is_last && matches!(self.codec, Codec::Gzip(_));
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[ends_stream.into()]);
        hasher.update(&(before.len() as u64).to_le_bytes());
        hasher.update(before);
        hasher.update(&block.bytes);
        hasher.finalize().into()
    }
}

fn short(length: usize) -> u32 {
    u32::try_from(length).expect("a block is small")
}

impl Worker {
    /// At most `share` blocks are with it at a time.
    fn start(mut press: Press, share: usize, is_behind: bool) -> io::Result<Self> {
        let (blocks, incoming) = sync_channel::<Block>(share - 1);
        let (outgoing, results) = sync_channel(share);
        let thread = std::thread::Builder::new()
            .name("compress".into())
            .spawn(move || {
                if is_behind {
                    sys::process::lower_priority();
                }
                for block in incoming {
                    // A closed channel means that the writer was given up.
                    if outgoing.send(press.press(block)).is_err() {
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

fn gone() -> io::Error {
    io::Error::other("a compressing thread ended early")
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write as _;

    use super::*;
    use crate::layer::{Compression, Encoder};

    /// A tar of files whose content compresses; `changed` has more of it than the others.
    fn archive(files: u32, changed: u32) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        for number in 0..files {
            let length = if number == changed { 5000 } else { 900 };
            let lines = (number * 7..).map(|line| format!("line {line} of {number}\n"));
            let content: Vec<u8> = lines.flat_map(String::into_bytes).take(length).collect();
            let mut header = tar::Header::new_ustar();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            archive
                .append_data(&mut header, format!("files/{number}"), &content[..])
                .unwrap();
        }
        archive.into_inner().unwrap()
    }

    fn compressed(
        tar: &[u8],
        compression: Compression,
        threads: usize,
        earlier: Option<Arc<EarlierBlob>>,
    ) -> (Vec<u8>, BlockIndex) {
        let mut encoder = Encoder::new(Vec::new(), compression, None, threads).unwrap();
        if let Some(earlier) = earlier {
            encoder.take_from(earlier);
        }
        encoder.write_all(tar).unwrap();
        encoder.finish_indexed().unwrap()
    }

    fn earlier(blob: &[u8], index: BlockIndex) -> Arc<EarlierBlob> {
        let mut file: File = tempfile::tempfile().unwrap();
        file.write_all(blob).unwrap();
        EarlierBlob::new(file, index)
    }

    const FORMATS: [(Compression, u32); 2] =
        [(Compression::Gzip, 6000), (Compression::Zstd, 20_000)];

    #[test]
    fn an_earlier_blob_changes_no_byte_and_has_most_blocks_of_a_tar_with_one_other_file() {
        for (compression, files) in FORMATS {
            let (first, second) = (archive(files, u32::MAX), archive(files, files / 4));
            let (blob, index) = compressed(&first, compression, 2, None);
            let (whole, expected) = compressed(&second, compression, 2, None);
            let known = index.keys();
            let shared = expected.keys().intersection(&known).count();
            assert!(known.len() > 5, "{compression:?} {}", known.len());
            assert!(shared * 2 > known.len(), "{compression:?} {shared}");
            for threads in [1, 3] {
                let (_, index) = compressed(&first, compression, 1, None);
                let from = earlier(&blob, index);
                let (taken, index) = compressed(&second, compression, threads, Some(from));
                assert!(taken == whole, "{compression:?}");
                assert_eq!(index, expected);
            }
        }
    }

    #[test]
    fn blocks_come_from_the_earlier_blob_unless_it_is_damaged() {
        for (compression, files) in FORMATS {
            let tar = archive(files, 0);
            let (blob, _) = compressed(&tar, compression, 1, None);
            let index = || compressed(&tar, compression, 1, None).1;
            let mut damaged = blob.clone();
            let middle = damaged.len() / 2;
            damaged[middle] ^= 1;
            for damaged in [&damaged[..], &blob[..middle], &[]] {
                let from = earlier(damaged, index());
                let (mended, _) = compressed(&tar, compression, 2, Some(from));
                assert!(mended == blob, "{compression:?}");
            }
            // Another content that is said to be right is what comes out.
            let from = earlier(&damaged, index().with_sums_of(&damaged));
            let (taken, _) = compressed(&tar, compression, 2, Some(from));
            assert!(taken == damaged, "{compression:?}");
        }
    }

    #[test]
    fn a_block_ends_within_its_bounds_at_a_header_or_where_it_is_full() {
        let codec = Codec::Gzip(5);
        let (least, most) = codec.sizes();
        let tar = archive(2000, 0);
        let end = end_of_block(&tar[..most], codec);
        assert!((least..most).contains(&end));
        assert_eq!(tar[end + 257..end + 262], *b"ustar");
        // The same header, wherever the block began.
        let later = end_of_block(&tar[5 * TAR_BLOCK..][..most], codec);
        assert!(later + 5 * TAR_BLOCK >= end);
        assert_eq!(end_of_block(&vec![b'u'; most], codec), most);
    }
}
