//! Layers and other archives to files.
//!
//! An archive is input from strangers. Every name is resolved inside the root; what is at the last
//! name is replaced, not followed; owners, modes, attributes and times are set on what this code made
//! or on a directory that it found.

mod members;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::fd::BorrowedFd;
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use tar::EntryType;

use super::MAX_PATH;
use super::archive::{self, Archive};
use super::header::Member;
use super::place::{EntryPath, Place};
use crate::ownership::record::Device;
use crate::ownership::{self, Ownership};
use crate::sys;

/// What the names of an archive mean and what they are unpacked into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// A layer, into an empty directory that becomes a snapshot: `.wh.` names become whiteouts.
    Overlay,
    /// Any archive, into a file system that exists: `.wh.` names are names.
    Plain,
    /// The same, into a directory that becomes a snapshot without having been seen by overlayfs.
    PlainUpper,
}

/// The most that one archive may ask for.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    pub(crate) entries: u64,
    /// Bytes of one file.
    pub(crate) file_bytes: u64,
    /// Bytes of the whole tar, and of all files with their holes.
    pub(crate) total_bytes: u64,
    /// Directories whose times are kept until the end, so that an archive of many does not fill memory.
    pub(crate) directory_times: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 10_000_000,
            file_bytes: 64 << 30,
            total_bytes: 100 << 30,
            directory_times: 1 << 14,
        }
    }
}

/// What the user allows archives; set before any is read.
static IN_FORCE: OnceLock<Limits> = OnceLock::new();

/// From now on [`Limits::in_force`] are `limits`. The first call counts.
pub(crate) fn restrict(limits: Limits) {
    // A second one would be of the same command line.
    drop(IN_FORCE.set(limits));
}

impl Limits {
    /// Those of [`restrict`], else the default ones.
    pub(crate) fn in_force() -> Self {
        IN_FORCE.get().cloned().unwrap_or_default()
    }
}

/// The attributes of one file; ext4 has room for fewer.
pub(super) const MAX_ATTRIBUTES: usize = 256;
/// `XATTR_SIZE_MAX` and `XATTR_NAME_MAX` of xattr(7).
const MAX_ATTRIBUTE_VALUE: usize = 65_536;
const MAX_ATTRIBUTE_NAME: usize = 255;

/// What was unpacked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Unpacked {
    /// Members of the archive.
    pub(crate) entries: u64,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Archive(#[from] archive::Error),
    #[error("the archive's member {path:?} has a path that no file can have")]
    Path { path: String },
    #[error("the archive's root is not a directory")]
    Root,
    #[error("the archive's member {path:?} is no valid whiteout")]
    Whiteout { path: String },
    #[error("the archive's member {path:?} is a device 0:0, which would hide other files")]
    WhiteoutDevice { path: String },
    #[error("the archive's member {path:?} is a device {major}:{minor}, which Linux cannot have")]
    Device {
        path: String,
        major: u32,
        minor: u32,
    },
    #[error("the archive's member {path:?} is a hard link to {target:?}, which is no file of it")]
    LinkTarget { path: String, target: String },
    #[error("the archive's member {path:?} has too many or too large extended attributes")]
    Attributes { path: String },
    #[error("the archive exceeds the limit of {limit} {of} at {path:?}")]
    Limit {
        path: String,
        limit: u64,
        of: &'static str,
    },
    #[error("{path:?} cannot get its owner")]
    Owner {
        path: String,
        #[source]
        source: ownership::Error,
    },
    #[error("{path:?} cannot get the extended attribute {name:?}")]
    SetAttribute {
        path: String,
        name: String,
        #[source]
        source: sys::Error,
    },
    #[error("{path:?} cannot be unpacked")]
    Unpack {
        path: String,
        #[source]
        source: sys::Error,
    },
    #[error("the data of {path:?} cannot be written")]
    Write {
        path: String,
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// The name of the limit that the archive does not keep, as users set it.
    pub(crate) fn exceeded(&self) -> Option<&'static str> {
        match self {
            Self::Archive(archive::Error::TooLarge { .. }) => Some("unpack-bytes"),
            Self::Limit { of: "entries", .. } => Some("unpack-files"),
            Self::Limit { .. } => Some("unpack-bytes"),
            _ => None,
        }
    }
}

/// Unpacks `tar` below `root` and reads it to its very end. An archive without members, even without
/// a byte, is valid.
///
/// Members replace what is at their path (a directory and a directory become one) and the last of
/// several wins. Missing directories are made, 0755 of 0:0. In [`Form::Overlay`] a removal applies to
/// the layers below only, wherever in the archive it is. A device becomes an empty file that is
/// recorded to be one; where owners are discarded it is left out. After an error part of the archive is there:
/// the caller throws the root away.
pub(crate) fn unpack(
    tar: &mut dyn Read,
    root: BorrowedFd<'_>,
    ownership: &Ownership,
    form: Form,
    limits: &Limits,
) -> Result<Unpacked, Error> {
    unpack_as(tar, root, ownership, form, None, limits)
}

/// [`unpack`], with `owner` (uid and gid) as the owner of every member instead of its own.
pub(crate) fn unpack_as(
    tar: &mut dyn Read,
    root: BorrowedFd<'_>,
    ownership: &Ownership,
    form: Form,
    owner: Option<(u32, u32)>,
    limits: &Limits,
) -> Result<Unpacked, Error> {
    let mut unpacker = Unpacker {
        archive: Archive::new(tar, limits.total_bytes),
        place: Place::new(root, form),
        root,
        ownership,
        form,
        limits,
        directory_times: BTreeMap::new(),
        has_settled: false,
        has_removed: false,
        bytes: 0,
        buffer: vec![0; 256 << 10],
        unpacked: Unpacked::default(),
    };
    while let Some(mut member) = unpacker.archive.next_member()? {
        unpacker.unpacked.entries += 1;
        if let Some(owner) = owner {
            (member.uid, member.gid) = owner;
        }
        unpacker.unpack_member(&member)?;
    }
    unpacker
        .set_directory_times()
        .map_err(|source| Subject(b"/").unpack(source))?;
    Ok(unpacker.unpacked)
}

struct Unpacker<'a> {
    archive: Archive<'a>,
    place: Place<'a>,
    root: BorrowedFd<'a>,
    ownership: &'a Ownership,
    form: Form,
    limits: &'a Limits,
    /// Times of the directories of the archive, set last because files made in them change them.
    directory_times: BTreeMap<OsString, (i64, i64)>,
    /// There were so many that some were set before the end.
    has_settled: bool,
    /// A member took the place of another.
    has_removed: bool,
    /// What the files so far have, holes included.
    bytes: u64,
    buffer: Vec<u8>,
    unpacked: Unpacked,
}

impl Unpacker<'_> {
    fn unpack_member(&mut self, member: &Member) -> Result<(), Error> {
        let at = Subject(&member.path);
        self.check(member)?;
        let path =
            EntryPath::clean(&member.path).ok_or_else(|| Error::Path { path: at.shown() })?;
        let Some((parent, name)) = path.split() else {
            return match member.kind {
                EntryType::Directory => self.set_directory(self.root, OsString::new(), member),
                _ => Err(Error::Root),
            };
        };
        if self.form == Form::Overlay && path.names_removal() {
            return self.unpack_removal(member, &path);
        }
        self.bound_times(&parent)
            .map_err(|source| at.unpack(source))?;
        match member.kind {
            EntryType::Directory => self.unpack_directory(member, &parent, name, path.joined()),
            EntryType::Regular => self.unpack_file(member, &parent, name, &path),
            EntryType::Link => self.unpack_link(member, &parent, name, &path),
            EntryType::Char | EntryType::Block => self.unpack_device(member, &parent, name, &path),
            _ => self.unpack_special(member, &parent, name, &path),
        }
    }

    /// What can be said against a member without looking at the file system.
    fn check(&mut self, member: &Member) -> Result<(), Error> {
        let at = Subject(&member.path);
        let limit = |limit, of| {
            Err(Error::Limit {
                path: at.shown(),
                limit,
                of,
            })
        };
        if self.unpacked.entries > self.limits.entries {
            return limit(self.limits.entries, "entries");
        }
        if member.size > self.limits.file_bytes {
            return limit(self.limits.file_bytes, "bytes in a file");
        }
        // The tar is counted as it is read, but holes are in no tar, and whoever copies the file reads
        // them.
        self.bytes = self.bytes.saturating_add(member.size);
        if self.bytes > self.limits.total_bytes {
            return limit(self.limits.total_bytes, "bytes");
        }
        if member.link.len() > MAX_PATH
            || (member.kind == EntryType::Symlink && member.link.is_empty())
        {
            return Err(Error::Path { path: at.shown() });
        }
        if member.kind == EntryType::Char && member.device == (0, 0) {
            return Err(Error::WhiteoutDevice { path: at.shown() });
        }
        if device_of(member).is_some_and(|device| !device.exists()) {
            let (major, minor) = member.device;
            return Err(Error::Device {
                path: at.shown(),
                major,
                minor,
            });
        }
        let fits = |(name, value): &(Vec<u8>, Vec<u8>)| {
            name.len() <= MAX_ATTRIBUTE_NAME && value.len() <= MAX_ATTRIBUTE_VALUE
        };
        if member.attributes.len() > MAX_ATTRIBUTES || !member.attributes.iter().all(fits) {
            return Err(Error::Attributes { path: at.shown() });
        }
        Ok(())
    }

    /// Sets the times of the directories so far when they are too many to be remembered. A member that
    /// is put into one of them afterwards must not change its time: it is remembered again.
    fn bound_times(&mut self, parent: &OsStr) -> sys::Result<()> {
        if self.directory_times.len() >= self.limits.directory_times {
            self.set_directory_times()?;
            self.has_settled = true;
        }
        if self.has_settled && !self.directory_times.contains_key(parent) {
            let stat = sys::fs::stat(self.place.directory(parent)?)?;
            let time = (stat.st_mtime, stat.st_mtime_nsec);
            self.directory_times.insert(parent.to_os_string(), time);
        }
        Ok(())
    }

    fn set_directory_times(&mut self) -> sys::Result<()> {
        for (path, (seconds, nanoseconds)) in std::mem::take(&mut self.directory_times) {
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
            let set = sys::fs::open_in_root(self.root, path.as_ref(), flags, 0)
                .and_then(|dir| sys::fs::set_mtime(dir, seconds, nanoseconds));
            match set {
                // A later member put something else there.
                Err(error) if matches!(error.errno, Errno::ENOENT | Errno::ENOTDIR) => {}
                other => other?,
            }
        }
        Ok(())
    }
}

/// The device that a member is.
fn device_of(member: &Member) -> Option<Device> {
    let (major, minor) = member.device;
    let is_block = match member.kind {
        EntryType::Block => true,
        EntryType::Char => false,
        _ => return None,
    };
    Some(Device {
        is_block,
        major,
        minor,
    })
}

/// The path that an error is about, as the archive has it.
#[derive(Clone, Copy)]
struct Subject<'a>(&'a [u8]);

impl Subject<'_> {
    fn shown(self) -> String {
        String::from_utf8_lossy(self.0).into_owned()
    }

    fn unpack(self, source: sys::Error) -> Error {
        Error::Unpack {
            path: self.shown(),
            source,
        }
    }
}

#[cfg(test)]
mod tests;
