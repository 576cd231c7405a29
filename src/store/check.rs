//! The check of a store: what is wrong in it, and what would mend it.
//!
//! Every blob is read once, in pieces; what is kept in memory are names. Two kinds of findings exist.
//! Damage is what no run of rbuild leaves, wherever it is killed: a file that something else changed, a
//! disk that lost something, an earlier version. Leftovers are what a killed run does leave (beginnings
//! of files, markers); they harm nothing, and the next build or the next clean-up removes them.
//!
//! Who only checks holds the store's lock with the builds that run. A repair holds it alone, and removes
//! things in the order of [`Exclusive`]: each before what it depends on.

mod blobs;
mod deep;
mod images;
mod layout;
mod mounts;
mod records;
mod repair;
mod snapshots;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::exclusive::{Exclusive, kinds_of, lock_alone};
use super::snapshots::Packing;
use super::view::View;
use super::{Error, VERSION};
use crate::oci::{ChainId, Descriptor, DiffId, Digest};
use crate::ownership::Ownership;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// Something is lost, wrong, or in a way that no run leaves it.
    Damage,
    /// Harmless, and removed by the next build or clean-up.
    Leftover,
}

/// One thing that is wrong.
#[derive(Debug, Clone)]
pub(crate) struct Finding {
    pub(crate) level: Level,
    /// What it is: `blob`, `image`, `snapshot`, `record` and the like, for programs.
    pub(crate) kind: &'static str,
    /// The name of an image, or a path in the store.
    pub(crate) place: String,
    /// What is wrong with it, a fragment.
    pub(crate) problem: String,
    pub(super) remedy: Remedy,
}

impl Finding {
    /// What a repair does about it, a fragment in the imperative.
    pub(crate) fn repair(&self) -> String {
        self.remedy.to_string()
    }

    /// Whether a repair does anything about it.
    pub(crate) fn is_mendable(&self) -> bool {
        !matches!(self.remedy, Remedy::Nothing(_))
    }
}

/// What mends a finding, in the order in which a repair does it.
#[derive(Debug, Clone)]
pub(super) enum Remedy {
    /// Makes a directory that is missing.
    Directory(PathBuf),
    /// Writes a list of tags anew, with these.
    Index(Vec<Descriptor>),
    /// Takes an entry out of the list of tags.
    Untag(Descriptor),
    /// Writes anew which blob holds a layer.
    Holder(DiffId, Descriptor),
    /// Removes a record.
    Record(PathBuf),
    /// Removes a snapshot with so many below it.
    Snapshot(PathBuf, usize),
    Blob(Digest),
    /// Removes a file or directory that nothing depends on.
    Remove(PathBuf),
    /// Makes a file of the layout anew.
    Remake(Part),
    /// Does nothing, and this is why.
    Nothing(&'static str),
}

/// What has a fixed place in every store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Version,
    Mode,
    OciLayout,
    Stub,
    Reserve,
}

impl std::fmt::Display for Remedy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Index(entries) => write!(
                f,
                "write it anew with the {} images that are whole, without their names",
                entries.len()
            ),
            Self::Untag(_) => f.write_str("take it out of the list of images"),
            Self::Record(_) | Self::Snapshot(..) | Self::Blob(_) | Self::Remove(_) => {
                f.write_str("remove it")
            }
            Self::Remake(Part::Mode) => f.write_str("make it private"),
            Self::Holder(..) | Self::Remake(_) | Self::Directory(_) => f.write_str("make it anew"),
            Self::Nothing(why) => f.write_str(why),
        }
    }
}

/// What a check looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) blobs: usize,
    /// Bytes of all blobs.
    pub(crate) bytes: u64,
    pub(crate) images: usize,
    pub(crate) snapshots: usize,
    pub(crate) records: usize,
    /// Snapshots that were packed again.
    pub(crate) packed: usize,
    /// Snapshots of layers that came from elsewhere, whose tar only their maker can write.
    pub(crate) foreign: usize,
}

/// How a store is checked.
pub(crate) struct Depth<'a> {
    /// Pack every own snapshot again and unpack every blob, and compare.
    pub(crate) deep: bool,
    /// Whether a file has the form of the stat records of a context.
    pub(crate) is_memo: &'a dyn Fn(&Path) -> bool,
}

/// A store that is looked at, also where it is damaged.
#[derive(Debug)]
pub(crate) struct Checkup {
    held: Held,
    ownership: Ownership,
}

#[derive(Debug)]
enum Held {
    Shared(View),
    Alone(Exclusive),
}

impl Checkup {
    /// The store at `root`; `None` where there is none. For a `repair` it is held alone, which fails with
    /// [`Error::Busy`] when somebody else has it for longer than `patience`. Must be called inside the
    /// build's user namespace. Snapshots that need more ids than `ownership` has are not looked at.
    pub(crate) fn open(
        root: &Path,
        ownership: Ownership,
        repair: bool,
        patience: Duration,
    ) -> Result<Option<Self>, Error> {
        let root = std::path::absolute(root).map_err(Error::io("make absolute", root))?;
        if !["version", "oci", "lock"]
            .iter()
            .any(|name| root.join(name).exists())
        {
            return Ok(None);
        }
        let path = root.join("lock");
        let lock = File::open(&path)
            .or_else(|_| {
                let mut options = File::options();
                options.create(true).truncate(false).write(true).open(&path)
            })
            .map_err(Error::io("open", &path))?;
        let kinds = kinds_of(&ownership);
        let held = if repair {
            lock_alone(&lock, &root, patience)?;
            Held::Alone(Exclusive::of(View::with_lock(root, lock, kinds)))
        } else {
            lock.lock_shared().map_err(Error::io("lock", &path))?;
            Held::Shared(View::with_lock(root, lock, kinds))
        };
        Ok(Some(Self { held, ownership }))
    }

    fn view(&self) -> &View {
        match &self.held {
            Held::Shared(view) => view,
            Held::Alone(store) => store.view(),
        }
    }

    /// Looks at everything, and gives each finding to `found` as it comes.
    pub(crate) fn look(
        &self,
        depth: &Depth<'_>,
        found: &mut dyn FnMut(Finding),
    ) -> Result<Counts, Error> {
        let view = self.view();
        let mut survey = Survey {
            view,
            found,
            counts: Counts::default(),
            // Who repairs is alone; otherwise what is half written may be another's at work.
            is_quiet: matches!(self.held, Held::Alone(_)) || !is_anybody_at_work(&view.root),
        };
        if !survey.version()? {
            return Ok(survey.counts);
        }
        survey.layout()?;
        let blobs = survey.blobs()?;
        let held = survey.images(&blobs)?;
        let mut snapshots = survey.snapshots()?;
        survey.layers(&blobs, &snapshots, &held, depth.deep)?;
        if depth.deep {
            survey.contents(&mut snapshots, &self.ownership);
        }
        survey.records(&blobs, &snapshots)?;
        survey.mounts()?;
        survey.memos(depth.is_memo)?;
        survey.block_indexes()?;
        survey.partials()?;
        Ok(survey.counts)
    }

    /// Mends what can be mended of `findings`, which are all of this store; how many were. After an
    /// error, or a kill, the store is at least as good as it was. Without the store held alone nothing is
    /// done.
    pub(crate) fn repair(&self, findings: &[Finding]) -> Result<usize, Error> {
        match &self.held {
            Held::Shared(_) => Ok(0),
            Held::Alone(store) => repair::carry_out(store, findings),
        }
    }
}

/// A check under way.
struct Survey<'a> {
    view: &'a View,
    found: &'a mut dyn FnMut(Finding),
    counts: Counts,
    /// Nobody else is writing.
    is_quiet: bool,
}

/// The snapshots, by the directory of `snapshots` they are in.
type Snapshots = HashMap<&'static str, Stacks>;

/// The snapshots that keep owners in one way.
#[derive(Debug, Default)]
struct Stacks {
    directory: PathBuf,
    whole: BTreeMap<ChainId, Layer>,
    wrong: BTreeSet<ChainId>,
}

/// What a whole snapshot says of itself.
#[derive(Debug, Clone)]
struct Layer {
    parent: Option<ChainId>,
    content: Option<ChainId>,
    diff_id: DiffId,
    packed: Option<Packing>,
}

impl Survey<'_> {
    fn report(
        &mut self,
        level: Level,
        kind: &'static str,
        place: impl Into<String>,
        problem: impl Into<String>,
        remedy: Remedy,
    ) {
        (self.found)(Finding {
            level,
            kind,
            place: place.into(),
            problem: problem.into(),
            remedy,
        });
    }

    /// The path as it is shown: from the store's root.
    fn shown(&self, path: &Path) -> String {
        let short = path.strip_prefix(&self.view.root).unwrap_or(path);
        short.display().to_string()
    }

    /// Reports something in a directory of the store that does not belong there.
    fn stray(&mut self, path: &Path) {
        let place = self.shown(path);
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        if name.starts_with(b".new-") || name.starts_with(b".tmp") {
            if self.is_quiet {
                let problem = "the beginning of a file whose writer was killed";
                let remedy = Remedy::Remove(path.to_owned());
                self.report(Level::Leftover, "leftover", place, problem, remedy);
            }
        } else {
            let remedy = Remedy::Nothing("left alone, whoever put it there may want it");
            self.report(Level::Leftover, "stray", place, "not rbuild's", remedy);
        }
    }
}

/// Whether another process has the store open: its directory below `tmp` is locked.
fn is_anybody_at_work(root: &Path) -> bool {
    let entries = fs::read_dir(root.join("tmp")).into_iter().flatten();
    entries.flatten().any(|entry| {
        let is_lock = entry.path().extension().is_some_and(|ext| ext == "lock");
        is_lock && is_locked(&entry.path())
    })
}

fn is_locked(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

/// The digest that a file name of 64 digits stands for.
fn digest_of(hex: &str) -> Option<Digest> {
    (hex.len() == 64)
        .then(|| format!("sha256:{hex}").parse().ok())
        .flatten()
}
