//! Tables of owners: the file `owners` beside the `diff` of a snapshot.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::record::{Entry, FileId};
use crate::sys;

/// The name of a table, beside the directory whose files are in it.
pub(crate) const TABLE: &str = "owners";

/// Where the owners of one layer's symbolic links, FIFOs and sockets are written while it is made.
///
/// Entries are appended, each in one write, so several processes can do it; none is lost but the last
/// ones in a crash. The default has no file, and forgets: it is for directories that are no layers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table(Option<Arc<Writer>>);

#[derive(Debug)]
struct Writer {
    path: PathBuf,
    /// Opened for the first entry: most layers have none.
    file: Mutex<Option<File>>,
    /// There are entries of files that could not have the attribute.
    stands_for_attributes: AtomicBool,
}

impl Table {
    /// The table of the files in `diff`.
    pub(crate) fn of(diff: &Path) -> Self {
        Self(Some(Arc::new(Writer {
            path: diff.with_file_name(TABLE),
            file: Mutex::new(None),
            stands_for_attributes: AtomicBool::new(false),
        })))
    }

    /// Whether entries are kept.
    pub(super) fn is_kept(&self) -> bool {
        self.0.is_some()
    }

    /// [`Table::append`] for a file that may get the attribute later.
    pub(super) fn append_for_attribute(
        &self,
        dir: impl AsFd,
        name: &OsStr,
        uid: u32,
        gid: u32,
    ) -> Result<(), super::Error> {
        if let Some(writer) = &self.0 {
            writer.stands_for_attributes.store(true, Ordering::Relaxed);
        }
        self.append(dir, name, uid, gid)
    }

    /// Whether something in the table may have to be taken back for a file without the attribute.
    pub(super) fn stands_for_attributes(&self) -> bool {
        let writer = self.0.as_ref();
        writer.is_some_and(|writer| writer.stands_for_attributes.load(Ordering::Relaxed))
    }

    /// Appends that `uid` and `gid` own `name` in `dir`; an empty name is `dir` itself.
    pub(super) fn append(
        &self,
        dir: impl AsFd,
        name: &OsStr,
        uid: u32,
        gid: u32,
    ) -> Result<(), super::Error> {
        let Some(writer) = &self.0 else {
            return Ok(());
        };
        let file = id_of(dir, name)?;
        writer
            .append(Entry { file, uid, gid })
            .map_err(|source| super::Error::Table {
                path: writer.path.clone(),
                source,
            })
    }
}

impl Writer {
    fn append(&self, entry: Entry) -> io::Result<()> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let file = match &mut *file {
            Some(file) => file,
            closed => closed.insert(File::options().append(true).create(true).open(&self.path)?),
        };
        file.write_all(&entry.encode())
    }
}

/// What the tables of a stack of layers say, read when it is first asked for.
#[derive(Debug, Default)]
pub(super) struct Tables {
    /// Topmost layer first.
    paths: Vec<PathBuf>,
    owners: OnceLock<HashMap<u64, Vec<Entry>>>,
}

impl Tables {
    /// The tables of the layers whose files are in `diffs`, topmost first.
    pub(super) fn of(diffs: &[PathBuf]) -> Self {
        Self {
            paths: diffs
                .iter()
                .map(|diff| diff.with_file_name(TABLE))
                .collect(),
            owners: OnceLock::new(),
        }
    }

    /// The owner of `name` in `dir`, whose inode is `inode`, if a table has one.
    pub(super) fn owner(
        &self,
        dir: impl AsFd,
        name: &OsStr,
        inode: u64,
    ) -> Result<Option<(u32, u32)>, super::Error> {
        let owners = match self.owners.get() {
            Some(owners) => owners,
            None => {
                let read = self.read()?;
                self.owners.get_or_init(|| read)
            }
        };
        let Some(entries) = owners.get(&inode) else {
            return Ok(None);
        };
        let file = id_of(dir, name)?;
        let found = entries.iter().find(|entry| entry.file == file);
        Ok(found.map(|entry| (entry.uid, entry.gid)))
    }

    /// The entries by inode; the one that counts is the first of its file.
    fn read(&self) -> Result<HashMap<u64, Vec<Entry>>, super::Error> {
        let mut owners: HashMap<u64, Vec<Entry>> = HashMap::new();
        for path in &self.paths {
            let table = match std::fs::read(path) {
                Ok(table) => table,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(source) => {
                    let path = path.clone();
                    return Err(super::Error::Table { path, source });
                }
            };
            let mut last: HashMap<FileId, Entry> = HashMap::new();
            for entry in Entry::decode_all(&table) {
                last.insert(entry.file, entry);
            }
            for entry in last.into_values() {
                owners.entry(entry.file.inode).or_default().push(entry);
            }
        }
        Ok(owners)
    }
}

fn id_of(dir: impl AsFd, name: &OsStr) -> sys::Result<FileId> {
    Ok(sys::statx::birth_at(dir, name)?.into())
}
