//! From a directory that a step wrote to, to a layer: one pass that packs, hashes, compresses. The next
//! step needs the hash and not the blob, which is [left](Left) where it would make that step wait.

use std::io::{self, Write};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::archive_ahead::NextLayer;
use super::error::StepError;
use super::event::{Phase, Spent};
use super::key::KeyBuilder;
use super::request::Encoding;
use super::secret_scan::{LayerScan, Leak};
use super::tar_sink::{self, Begun, EndedBlob, LayerFile, Scanned};
use crate::layer::{
    BlockIndex, Compression, Decoder, Devices, EarlierBlob, PackOptions, encoding_name, pack,
};
use crate::oci::{Descriptor, DiffId, Digest, Platform, media_type};
use crate::ownership::{Ownership, record};
use crate::store::{Active, LayerBlob, Packing, Snapshot, Store};
use crate::sys;

/// How a build writes its layers.
#[derive(Debug, Clone, Default)]
pub(crate) struct LayerOptions {
    /// Seconds since 1970 that no time in a layer may be later than.
    pub(crate) clamp_mtime: Option<i64>,
    /// The blob to write while the layer is packed; `None` where no output needs one.
    pub(crate) blob: Option<Encoding>,
    /// Somebody finishes the blob of a layer that is not small, of which so many bytes may be in memory.
    pub(crate) ahead: Option<usize>,
    /// A command of the image wrote the layer, not rbuild itself.
    pub(crate) is_commands: bool,
    /// What the layer is likely to have much in common with, in the encoding of `blob`.
    pub(crate) lineage: Option<Lineage>,
}

/// The layers that one instruction made from one build to the next, in one encoding: the key of the blocks
/// of the last one's blob.
#[derive(Debug, Clone)]
pub(crate) struct Lineage(Digest);

impl Lineage {
    /// Of the `instruction`, as it is written, of builds with this context for `platform`. Two instructions
    /// of one lineage do no harm: they find less.
    pub(crate) fn new(
        instruction: &str,
        context: &Path,
        platform: &Platform,
        encoding: Encoding,
    ) -> Self {
        let mut key = KeyBuilder::new("blocks", None, platform);
        // Another version may compress to other bytes.
        key.field("rbuild", env!("CARGO_PKG_VERSION"))
            .field("instruction", instruction)
            .field("context", context.as_os_str().as_bytes())
            .field(
                "encoding",
                encoding_name(encoding.compression, encoding.level),
            );
        Self(key.finish())
    }

    /// The last one's blob, if it is still there.
    fn last(&self, store: &Store) -> Option<Arc<EarlierBlob>> {
        let (digest, index) = store.block_index(&self.0)?;
        let blob = store.open_blob(&digest).ok()?;
        Some(EarlierBlob::new(blob, index))
    }

    /// Notes a blob as the last. Without the note the next one is compressed whole; nothing else is lost.
    fn note(&self, store: &Store, blob: &Digest, index: &BlockIndex) {
        if !index.is_small() {
            drop(store.keep_block_index(&self.0, blob, index));
        }
    }
}

/// What became of a directory.
pub(crate) struct Committed {
    pub(crate) snapshot: Snapshot,
    /// `None` when nothing had changed.
    pub(crate) diff_id: Option<DiffId>,
    /// Secrets in it that are only warned of.
    pub(crate) leaks: Vec<Leak>,
    pub(crate) spent: Vec<Spent>,
    /// The layer's blob is still to be made.
    pub(super) left: Option<Left>,
}

/// A committed layer whose blob is not complete. Dropped, it is as a layer that no output needed so far.
pub(super) struct Left {
    snapshot: Snapshot,
    diff_id: DiffId,
    /// Of the tar.
    length: u64,
    options: LayerOptions,
    encoding: Encoding,
    begun: Box<Begun>,
}

/// Commits what `active` holds. Without a change there is no layer, and the parent is returned as it
/// is. Nothing of the step may be running any more. A secret that `scan` finds is an error, of which
/// nothing stays, or is returned.
pub(crate) fn commit(
    store: &Store,
    active: Active,
    options: LayerOptions,
    scan: Option<LayerScan<'_>>,
    archive: Option<NextLayer<'_>>,
) -> Result<Committed, StepError> {
    let began = Instant::now();
    store.settle(&active)?;
    let upper = open(&active.upper())?;
    let lowers = store.lowers(active.parent());
    let owners = store.owners_on(Some(active.upper()), active.parent());
    let earlier = options.lineage.as_ref();
    let earlier = earlier.and_then(|lineage| lineage.last(store));
    let mut sink = Scanned {
        tar: tar_sink::begin(store, options.blob, earlier, options.ahead, archive)?,
        scan,
    };
    let is_unguarded = matches!(store.ownership(), Ownership::Mapped);
    let pack_options = PackOptions {
        clamp_mtime: options.clamp_mtime,
        include_parents: true,
        devices: match options.is_commands && is_unguarded {
            true => Devices::FromBelow,
            false => Devices::Recorded,
        },
    };
    let packed = pack(upper.as_fd(), &lowers, &owners, &pack_options, &mut sink)
        .map_err(|source| StepError::Pack { source })?;
    let waited = sink.tar.waited();
    let mut captured = Spent {
        files: Some(packed.entries),
        ..Spent::new(Phase::Capture, began.elapsed().saturating_sub(waited))
    };
    for path in &packed.forged {
        sys::xattr::remove_at(&upper, path, record::ATTRIBUTE.as_ref()).map_err(|source| {
            let path = path.display().to_string();
            StepError::Directory { path, source }
        })?;
    }
    if packed.entries == 0 {
        let parent = active.parent().clone();
        store.abandon(active);
        return Ok(Committed {
            snapshot: parent,
            diff_id: None,
            leaks: Vec::new(),
            spent: vec![captured],
            left: None,
        });
    }
    let leaks = sink.scan.take().map(LayerScan::finish).transpose();
    let leaks = match leaks {
        Ok(leaks) => leaks.unwrap_or_default(),
        Err(leak) => {
            store.abandon(active);
            return Err(leak);
        }
    };
    let began = Instant::now();
    let tar = sink.tar.end()?;
    captured.bytes = Some(tar.length);
    let mut compressed = Spent::new(Phase::Compress, waited + began.elapsed());
    let began = Instant::now();
    let diff_id = tar.diff_id;
    store.remember_layer_size(&diff_id, tar.length)?;
    let mut begun = None;
    if let Some(encoding) = options.blob {
        match tar.blob {
            EndedBlob::Unwanted => {}
            EndedBlob::Complete(file) => {
                compressed.bytes = Some(file.blob.size);
                publish(store, file, encoding, &diff_id, options.lineage.as_ref())?;
            }
            EndedBlob::Begun(blob) => begun = Some((blob, encoding)),
        }
    }
    let packing = Packing {
        clamp_mtime: options.clamp_mtime,
    };
    let staged = store.stage(active, diff_id.clone(), Some(packing));
    let snapshot = store.publish_snapshot(staged)?;
    let mut spent = vec![captured];
    spent.extend(options.blob.map(|_| compressed));
    spent.push(Spent::new(Phase::Publish, began.elapsed()));
    let left = begun.map(|(begun, encoding)| Left {
        snapshot: snapshot.clone(),
        diff_id: diff_id.clone(),
        length: tar.length,
        options,
        encoding,
        begun,
    });
    Ok(Committed {
        snapshot,
        diff_id: Some(diff_id),
        leaks,
        spent,
        left,
    })
}

fn open(path: &Path) -> Result<OwnedFd, StepError> {
    sys::fs::open_directory(path).map_err(|source| StepError::Directory {
        path: path.display().to_string(),
        source,
    })
}

/// Puts the blob in the store and remembers which layer it holds.
fn publish(
    store: &Store,
    file: LayerFile,
    encoding: Encoding,
    diff_id: &DiffId,
    lineage: Option<&Lineage>,
) -> Result<Descriptor, StepError> {
    let LayerFile {
        blob: staged,
        index,
    } = file;
    let descriptor = Descriptor::new(
        media_type_of(encoding.compression),
        staged.digest.clone(),
        staged.size,
    );
    if !store.has_blob(&descriptor) {
        store.publish_blob(staged)?;
    }
    let blob = LayerBlob {
        descriptor: descriptor.clone(),
        encoding: Some(encoding_name(encoding.compression, encoding.level)),
    };
    store.add_layer_blob(diff_id, blob)?;
    if let Some(lineage) = lineage {
        lineage.note(store, &descriptor.digest, &index);
    }
    Ok(descriptor)
}

fn media_type_of(compression: Compression) -> &'static str {
    match compression {
        Compression::Uncompressed => media_type::LAYER,
        Compression::Gzip => media_type::LAYER_GZIP,
        Compression::Zstd => media_type::LAYER_ZSTD,
    }
}

/// The blob of the topmost layer of `snapshot` for an output: a layer that came from elsewhere as it
/// came, an own one in `encoding`, made now when it is not there.
pub(crate) fn layer_blob(
    store: &Store,
    snapshot: &Snapshot,
    diff_id: &DiffId,
    encoding: Encoding,
    clamp_mtime: Option<i64>,
) -> Result<Descriptor, StepError> {
    if let Some(found) = known_blob(store, diff_id, encoding) {
        return Ok(found);
    }
    let mut sink = tar_sink::begin(store, Some(encoding), None, None, None)?;
    read_layer(store, snapshot, diff_id, clamp_mtime, &mut sink)?;
    let tar = sink.end()?;
    is_of(&tar.diff_id, diff_id)?;
    let EndedBlob::Complete(file) = tar.blob else {
        unreachable!("the sink was made with an encoding, and stays with it");
    };
    publish(store, file, encoding, diff_id, None)
}

/// A blob that an output takes for the layer.
pub(super) fn known_blob(
    store: &Store,
    diff_id: &DiffId,
    encoding: Encoding,
) -> Option<Descriptor> {
    let there = store.layer_blobs(diff_id);
    let wanted = encoding_name(encoding.compression, encoding.level);
    let found = there
        .iter()
        .find(|blob| blob.encoding.is_none())
        .or_else(|| {
            there
                .iter()
                .find(|blob| blob.encoding.as_ref() == Some(&wanted))
        });
    found.map(|blob| blob.descriptor.clone())
}

fn is_of(actual: &DiffId, expected: &DiffId) -> Result<(), StepError> {
    if actual == expected {
        return Ok(());
    }
    Err(StepError::DiffId {
        name: "the store".to_owned(),
        expected: expected.clone(),
        actual: actual.clone(),
    })
}

impl Left {
    /// Makes the blob, unless there is one by now; `is_stopped` gives it up.
    pub(super) fn finish(
        self,
        store: &Store,
        is_stopped: &dyn Fn() -> bool,
    ) -> Result<Descriptor, StepError> {
        if is_stopped() {
            return Err(StepError::Canceled);
        }
        if let Some(found) = known_blob(store, &self.diff_id, self.encoding) {
            return Ok(found);
        }
        let file = if self.begun.length() == self.length {
            self.begun.end()?
        } else {
            let mut sink = self.begun.resume(is_stopped);
            let clamp = self.options.clamp_mtime;
            read_layer(store, &self.snapshot, &self.diff_id, clamp, &mut sink)?;
            let (diff_id, file) = sink.end()?;
            is_of(&diff_id, &self.diff_id)?;
            file
        };
        let lineage = self.options.lineage.as_ref();
        publish(store, file, self.encoding, &self.diff_id, lineage)
    }
}

/// Writes the tar of the topmost layer of `snapshot`, from a blob of it or from its files.
pub(crate) fn read_layer(
    store: &Store,
    snapshot: &Snapshot,
    diff_id: &DiffId,
    clamp_mtime: Option<i64>,
    out: &mut dyn Write,
) -> Result<(), StepError> {
    match store.layer_blobs(diff_id).first() {
        Some(blob) => {
            let blob = store.open_blob(&blob.descriptor.digest)?;
            Decoder::detect(blob)
                .and_then(|mut tar| io::copy(&mut tar, out))
                .map_err(|source| StepError::Compress { source })?;
        }
        None => {
            let (top, lowers) = match store.linked_files(snapshot) {
                Some(path) => (path, Vec::new()),
                None => {
                    let top = store.layer_paths(snapshot).into_iter().next();
                    let top = top.expect("a snapshot with a layer has a path");
                    (top, store.lowers(&snapshot.below()))
                }
            };
            let options = PackOptions {
                clamp_mtime,
                include_parents: true,
                ..PackOptions::default()
            };
            let upper = open(&top)?;
            let owners = store.owners_on(None, snapshot);
            pack(upper.as_fd(), &lowers, &owners, &options, out)
                .map_err(|source| StepError::Pack { source })?;
        }
    }
    Ok(())
}
