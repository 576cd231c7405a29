//! An archive that is begun while its last large layer is still compressed, so that at the end of the build
//! little of it is left to write.
//!
//! What is begun has no name: when the build fails or is killed, nothing of it stays. When anything about it
//! goes wrong it is dropped, and the archive is written as if there had been none.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::archive::{self, Archive, Unfinished};
use super::commit::known_blob;
use super::engine::lock;
use super::export::{Bundle, directory_of};
use super::request::{Destination, Encoding, OutputForm, Request};
use crate::oci::{Descriptor, DiffId, Digest, Reference};
use crate::store::{self, Store};
use crate::sys;

/// Bytes of a tar from which on its blob is followed: a small one is copied in no time.
pub(super) const LARGE: u64 = 16 << 20;
/// How often a growing blob is looked at, at first and when nothing comes.
const PAUSE: Duration = Duration::from_millis(4);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// The one archive of a build.
#[derive(Debug)]
pub(super) struct ArchiveAhead {
    encoding: Encoding,
    /// Where it will be.
    directory: PathBuf,
    follower: Mutex<Option<Follower>>,
}

/// The thread that follows a blob.
#[derive(Debug)]
struct Follower {
    over: Arc<Over>,
    thread: JoinHandle<io::Result<Unfinished>>,
}

/// Nobody waits for more of the blob.
#[derive(Debug, Default)]
struct Over {
    is_over: Mutex<bool>,
    changed: Condvar,
    /// Nobody wants the archive.
    is_given_up: AtomicBool,
}

/// The layer that a step is about to write.
#[derive(Debug, Clone, Copy)]
pub(super) struct NextLayer<'a> {
    pub(super) ahead: &'a ArchiveAhead,
    pub(super) store: &'a Store,
    /// The layers below it.
    pub(super) below: &'a [DiffId],
}

impl ArchiveAhead {
    /// For a build whose only output is an archive in a file, of one image.
    pub(super) fn of(request: &Request) -> Option<Self> {
        let [output] = &request.outputs[..] else {
            return None;
        };
        let (OutputForm::OciArchive(destination) | OutputForm::DockerArchive(destination)) =
            &output.form
        else {
            return None;
        };
        let Destination::File(path) = destination else {
            return None;
        };
        (!request.makes_index()).then(|| Self {
            encoding: output.encoding,
            directory: directory_of(path).to_owned(),
            follower: Mutex::new(None),
        })
    }

    fn start(&self, store: &Store, below: &[DiffId], blob: &Path) -> io::Result<()> {
        let mut follower = lock(&self.follower);
        let layers = below
            .iter()
            .map(|diff_id| known_blob(store, diff_id, self.encoding))
            .collect::<Option<Vec<_>>>();
        // Another layer of this build is still on its way.
        let Some(layers) = layers else {
            return Ok(());
        };
        let files = layers
            .iter()
            .map(|layer| store.open_blob(&layer.digest).map_err(io::Error::other))
            .collect::<io::Result<Vec<_>>>()?;
        let source = File::open(blob)?;
        let layers: Vec<_> = layers.into_iter().zip(files).collect();
        let before = follower.take();
        let over = Arc::<Over>::default();
        let directory = self.directory.clone();
        let work = {
            let over = Arc::clone(&over);
            move || {
                let before = before.and_then(|follower| follower.end(&layers).ok());
                let mut archive = match before {
                    Some(archive) => archive,
                    None => Archive::begin(BufWriter::new(nameless(&directory)?))?,
                };
                for (layer, file) in &layers {
                    if over.is_given_up.load(Ordering::Relaxed) {
                        return Err(io::ErrorKind::Interrupted.into());
                    }
                    if !archive.has(&layer.digest) {
                        archive.add(layer, file, &mut |_| {})?;
                    }
                }
                over.follow(Unfinished::begin(archive, source)?)
            }
        };
        let thread = std::thread::Builder::new()
            .name("archive".into())
            .spawn(work)?;
        *follower = Some(Follower { over, thread });
        Ok(())
    }

    /// The archive of `bundle`, if it was begun and what is in it belongs there, complete at `path`; `None` if it
    /// has to be written.
    pub(super) fn finish(
        &self,
        open: &dyn Fn(&Digest) -> Result<File, store::Error>,
        images: &[(Bundle, Vec<Reference>)],
        path: &Path,
        progress: &mut dyn FnMut(u64),
    ) -> Option<()> {
        let follower = lock(&self.follower).take()?;
        let [(bundle, _)] = images else { return None };
        let [only] = &bundle.images[..] else {
            return None;
        };
        let finish = || -> io::Result<()> {
            let layers = only.layers.iter().map(|layer| {
                let file = open(&layer.digest).map_err(io::Error::other)?;
                Ok((layer.clone(), file))
            });
            let archive = follower.end(&layers.collect::<io::Result<Vec<_>>>()?)?;
            let out = archive::go_on(archive, open, images, progress)?;
            let file = out.into_inner()?;
            let named = tempfile::Builder::new()
                .prefix(".rbuild-")
                .make_in(&self.directory, |path| Ok(sys::fs::link_open(&file, path)?))?;
            named.persist(path)?;
            Ok(())
        };
        finish().ok()
    }
}

impl Drop for ArchiveAhead {
    fn drop(&mut self) {
        let follower = self.follower.get_mut();
        if let Some(follower) = follower.unwrap_or_else(PoisonError::into_inner).take() {
            follower.over.is_given_up.store(true, Ordering::Relaxed);
            drop(follower.stop());
        }
    }
}

impl NextLayer<'_> {
    /// Follows the layer's blob, which is being written to `blob`.
    pub(super) fn follow(self, blob: &Path) {
        // Without it the archive is written at the end; nothing else is lost.
        drop(self.ahead.start(self.store, self.below, blob));
    }
}

impl Follower {
    fn stop(self) -> io::Result<Unfinished> {
        *lock(&self.over.is_over) = true;
        self.over.changed.notify_all();
        let ended = self.thread.join();
        ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// The archive, which has the first of `layers` now. An error if it has something else, for instance
    /// because another build made the same layer and its blob was taken.
    fn end(self, layers: &[(Descriptor, File)]) -> io::Result<Archive<BufWriter<File>>> {
        let unfinished = self.stop()?;
        let mut first = BTreeSet::new();
        for (layer, blob) in layers {
            if unfinished.archive.has(&layer.digest) {
                first.insert(&layer.digest);
                continue;
            }
            let identity = |file: &File| file.metadata().map(|of| (of.dev(), of.ino()));
            let is_followed = identity(blob)? == identity(&unfinished.source)?;
            if !is_followed || first.len() != unfinished.archive.len() {
                break;
            }
            return unfinished.end(layer);
        }
        Err(io::ErrorKind::NotFound.into())
    }
}

impl Over {
    /// Copies what grows until it is over.
    fn follow(&self, mut unfinished: Unfinished) -> io::Result<Unfinished> {
        let mut pause = PAUSE;
        loop {
            pause = match unfinished.follow()? {
                0 => LONGEST_PAUSE.min(2 * pause),
                _ => PAUSE,
            };
            let is_over = lock(&self.is_over);
            let waited = self
                .changed
                .wait_timeout_while(is_over, pause, |is_over| !*is_over);
            let (is_over, _) = waited.unwrap_or_else(PoisonError::into_inner);
            if *is_over {
                return Ok(unfinished);
            }
        }
    }
}

/// A file with the mode of a shell's `>`, which is gone with its descriptor (`O_TMPFILE`, open(2)).
fn nameless(directory: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o666);
    options.custom_flags(libc::O_TMPFILE).open(directory)
}
