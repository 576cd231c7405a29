//! Tar files that are read in place: where each member's bytes are.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use tar::EntryType;

use super::Error;

const MEMBERS: usize = 100_000;
const LINKS: usize = 8;

/// A tar's members by name.
pub(super) struct Archive {
    path: PathBuf,
    members: BTreeMap<PathBuf, Member>,
}

enum Member {
    File(Section),
    Link(PathBuf),
}

/// A member's bytes, read without moving the file's position.
#[derive(Clone)]
pub(super) struct Section {
    file: Arc<File>,
    position: u64,
    end: u64,
}

impl Archive {
    /// Reads the headers of the tar `path`. A compressed file is refused.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let read = |cause| Error::Read {
            path: path.to_owned(),
            cause,
        };
        let mut file = File::open(path).map_err(read)?;
        if !file.metadata().map_err(read)?.is_file() {
            return Err(bad(path, "is not a regular file"));
        }
        let mut magic = [0; 6];
        let count = file.read_at(&mut magic, 0).map_err(read)?;
        if let Some(program) = compression(&magic[..count]) {
            let why = format!("is compressed; decompress it first ({program} -d)");
            return Err(bad(path, &why));
        }
        file.seek(SeekFrom::Start(0)).map_err(read)?;
        Ok(Self {
            path: path.to_owned(),
            members: list(path, file)?,
        })
    }

    /// The bytes of the member `name`, through links inside the archive; `None` when there is none.
    pub(super) fn member(&self, name: &str) -> Option<Section> {
        let mut name = normalize(Path::new(name));
        for _ in 0..LINKS {
            match self.members.get(&name)? {
                Member::File(section) => return Some(section.clone()),
                Member::Link(target) => name.clone_from(target),
            }
        }
        None
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Section {
    pub(super) fn size(&self) -> u64 {
        self.end - self.position
    }
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.position).unwrap_or(usize::MAX);
        let most = buffer.len().min(left);
        let count = self.file.read_at(&mut buffer[..most], self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

fn list(path: &Path, file: File) -> Result<BTreeMap<PathBuf, Member>, Error> {
    let read = |cause| Error::Read {
        path: path.to_owned(),
        cause,
    };
    let length = file.metadata().map_err(read)?.len();
    let shared = Arc::new(file.try_clone().map_err(read)?);
    let mut archive = tar::Archive::new(file);
    let mut members = BTreeMap::new();
    for entry in archive.entries_with_seek().map_err(read)? {
        let entry = entry.map_err(read)?;
        let name = entry.path().map_err(read)?.into_owned();
        let kind = entry.header().entry_type();
        let member = match kind {
            EntryType::Regular | EntryType::Continuous => {
                let position = entry.raw_file_position();
                let end = position.saturating_add(entry.size());
                if end > length {
                    return Err(bad(path, &format!("ends inside {}", name.display())));
                }
                Member::File(Section {
                    file: Arc::clone(&shared),
                    position,
                    end,
                })
            }
            EntryType::Symlink | EntryType::Link => {
                let target = entry.link_name().map_err(read)?.unwrap_or_default();
                let base = match (kind, name.parent()) {
                    (EntryType::Symlink, Some(parent)) => parent,
                    _ => Path::new(""),
                };
                Member::Link(normalize(&base.join(target)))
            }
            EntryType::Directory => continue,
            _ => {
                let why = format!("holds {}, which is no plain file", name.display());
                return Err(bad(path, &why));
            }
        };
        members.insert(normalize(&name), member);
        if members.len() > MEMBERS {
            return Err(bad(path, &format!("holds more than {MEMBERS} members")));
        }
    }
    Ok(members)
}

/// A name relative to the archive's root; `..` does not leave it.
fn normalize(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => normal.push(part),
            Component::ParentDir => drop(normal.pop()),
            _ => {}
        }
    }
    normal
}

/// The program whose files begin so.
fn compression(magic: &[u8]) -> Option<&'static str> {
    match magic {
        [0x1f, 0x8b, ..] => Some("gzip"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some("zstd"),
        [b'B', b'Z', b'h', ..] => Some("bzip2"),
        [0xfd, b'7', b'z', b'X', b'Z', ..] => Some("xz"),
        _ => None,
    }
}

fn bad(path: &Path, why: &str) -> Error {
    Error::BadDocument {
        name: path.display().to_string(),
        what: "the archive".to_owned(),
        why: why.to_owned(),
    }
}
