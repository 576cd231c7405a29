//! Layers and other archives to files.
//!
//! An archive is input from strangers. Every name is resolved inside the root; what is at the last
//! name is replaced, not followed; owners, modes, attributes and times are set on what this code made
//! or on a directory that it found.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::SFlag;
use tar::EntryType;

use super::archive::{self, Archive};
use super::header::Member;
use super::place::{self, EntryPath, Place};
use super::{MAX_PATH, OPAQUE_NAME, WHITEOUT_PREFIX, attributes};
use crate::ownership::{self, Ownership};
use crate::sys;
use crate::sys::fs::Kind;

/// What the names of an archive mean and what they are unpacked into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// A layer, into an empty directory that becomes a snapshot: `.wh.` names become whiteouts.
    Overlay,
    /// Any archive, into a file system that exists: `.wh.` names are names.
    Plain,
}

/// The most that one archive may ask for.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    pub(crate) entries: u64,
    /// Bytes of one file.
    pub(crate) file_bytes: u64,
    /// Bytes of the whole tar.
    pub(crate) total_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 10_000_000,
            file_bytes: 64 << 30,
            total_bytes: 100 << 30,
        }
    }
}

/// The attributes of one file; ext4 has room for fewer.
const MAX_ATTRIBUTES: usize = 256;
/// `XATTR_SIZE_MAX` and `XATTR_NAME_MAX` of xattr(7).
const MAX_ATTRIBUTE_VALUE: usize = 65_536;
const MAX_ATTRIBUTE_NAME: usize = 255;
/// Real images hold a few dozen; each costs memory until the archive ends.
const MAX_DEVICES: usize = 100_000;

/// What was unpacked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Unpacked {
    /// Members of the archive.
    pub(crate) entries: u64,
    /// Device nodes, which no user namespace can make; they are left out.
    pub(crate) devices_skipped: Vec<PathBuf>,
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

/// Unpacks `tar` below `root` and reads it to its very end. An archive without members, even without
/// a byte, is valid.
///
/// Members replace what is at their path (a directory and a directory become one) and the last of
/// several wins. Missing directories are made, 0755 of 0:0. In [`Form::Overlay`] a removal applies to
/// the layers below only, wherever in the archive it is. After an error part of the archive is there:
/// the caller throws the root away.
pub(crate) fn unpack(
    tar: &mut dyn Read,
    root: BorrowedFd<'_>,
    ownership: &Ownership,
    form: Form,
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
        buffer: vec![0; 256 << 10],
        unpacked: Unpacked::default(),
    };
    while let Some(member) = unpacker.archive.next_member()? {
        unpacker.unpacked.entries += 1;
        unpacker.unpack_member(&member)?;
    }
    unpacker.set_directory_times()?;
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
        if self.form == Form::Overlay && path.names().any(|name| name.starts_with(WHITEOUT_PREFIX))
        {
            return self.unpack_removal(member, &path);
        }
        match member.kind {
            EntryType::Directory => self.unpack_directory(member, &parent, name, path.joined()),
            EntryType::Regular => self.unpack_file(member, &parent, name, &path),
            EntryType::Link => self.unpack_link(member, &parent, name, &path),
            EntryType::Char | EntryType::Block => {
                if self.unpacked.devices_skipped.len() >= MAX_DEVICES {
                    let limit = MAX_DEVICES as u64;
                    return Err(Error::Limit {
                        path: at.shown(),
                        limit,
                        of: "devices",
                    });
                }
                self.unpacked.devices_skipped.push(path.joined().into());
                Ok(())
            }
            _ => self.unpack_special(member, &parent, name, &path),
        }
    }

    /// What can be said against a member without looking at the file system.
    fn check(&self, member: &Member) -> Result<(), Error> {
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
        if member.link.len() > MAX_PATH
            || (member.kind == EntryType::Symlink && member.link.is_empty())
        {
            return Err(Error::Path { path: at.shown() });
        }
        if member.kind == EntryType::Char && member.device == (0, 0) {
            return Err(Error::WhiteoutDevice { path: at.shown() });
        }
        let fits = |(name, value): &(Vec<u8>, Vec<u8>)| {
            name.len() <= MAX_ATTRIBUTE_NAME && value.len() <= MAX_ATTRIBUTE_VALUE
        };
        if member.attributes.len() > MAX_ATTRIBUTES || !member.attributes.iter().all(fits) {
            return Err(Error::Attributes { path: at.shown() });
        }
        Ok(())
    }

    fn unpack_directory(
        &mut self,
        member: &Member,
        parent: &OsStr,
        name: &OsStr,
        path: OsString,
    ) -> Result<(), Error> {
        let at = Subject(&member.path);
        let form = self.form;
        let dir = self
            .place
            .directory(parent)
            .map_err(|source| at.unpack(source))?;
        let make = || -> sys::Result<_> {
            match sys::fs::make_directory_at(dir, name, 0o700) {
                Err(error) if error.errno == Errno::EEXIST => {
                    let found = place::found_at(dir, name)?.map(|(kind, _)| kind);
                    if found != Some(Kind::Directory) {
                        sys::fs::unlink_at(dir, name)?;
                        sys::fs::make_directory_at(dir, name, 0o700)?;
                        // What was there hid the directory below; so must what replaces it.
                        if form == Form::Overlay {
                            attributes::set_opaque(dir, name)?;
                        }
                    }
                }
                other => other?,
            }
            sys::fs::open_directory_at(dir, name)
        };
        let made = make().map_err(|source| at.unpack(source))?;
        self.set_directory(made.as_fd(), path, member)?;
        // The directory of the last member may be this one under its old mode.
        self.place.forget();
        Ok(())
    }

    fn set_directory(
        &mut self,
        dir: BorrowedFd<'_>,
        path: OsString,
        member: &Member,
    ) -> Result<(), Error> {
        let at = Subject(&member.path);
        self.ownership
            .set(dir, member.uid, member.gid)
            .map_err(|source| Error::Owner {
                path: at.shown(),
                source,
            })?;
        sys::fs::chmod(dir, member.mode).map_err(|source| at.unpack(source))?;
        set_attributes(dir, OsStr::new("."), member, self.form)?;
        self.directory_times.insert(path, member.mtime);
        Ok(())
    }

    fn unpack_file(
        &mut self,
        member: &Member,
        parent: &OsStr,
        name: &OsStr,
        path: &EntryPath,
    ) -> Result<(), Error> {
        let at = Subject(&member.path);
        let dir = self
            .place
            .directory(parent)
            .map_err(|source| at.unpack(source))?;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
        let (file, replaced) =
            place::replace(dir, name, || sys::fs::open_at(dir, name, flags, 0o600))
                .map_err(|source| at.unpack(source))?;
        let mut file = std::fs::File::from(file);
        loop {
            let count = self.archive.read_data(&mut self.buffer)?;
            if count == 0 {
                break;
            }
            file.write_all(&self.buffer[..count])
                .map_err(|source| Error::Write {
                    path: at.shown(),
                    source,
                })?;
        }
        if self.must_set_owner(member) {
            self.ownership
                .set(&file, member.uid, member.gid)
                .map_err(|source| Error::Owner {
                    path: at.shown(),
                    source,
                })?;
        }
        if member.mode != 0o600 {
            sys::fs::chmod(&file, member.mode).map_err(|source| at.unpack(source))?;
        }
        if !member.attributes.is_empty() {
            let dir = self
                .place
                .directory(parent)
                .map_err(|source| at.unpack(source))?;
            set_attributes(dir, name, member, self.form)?;
        }
        let (seconds, nanoseconds) = member.mtime;
        sys::fs::set_mtime(&file, seconds, nanoseconds).map_err(|source| at.unpack(source))?;
        self.forget_replaced(replaced, path);
        Ok(())
    }

    fn unpack_special(
        &mut self,
        member: &Member,
        parent: &OsStr,
        name: &OsStr,
        path: &EntryPath,
    ) -> Result<(), Error> {
        let at = Subject(&member.path);
        let dir = self
            .place
            .directory(parent)
            .map_err(|source| at.unpack(source))?;
        let is_link = member.kind == EntryType::Symlink;
        let ((), replaced) = place::replace(dir, name, || {
            if is_link {
                sys::fs::symlink_at(OsStr::from_bytes(&member.link), dir, name)
            } else {
                sys::fs::make_node_at(dir, name, SFlag::S_IFIFO, 0o600, 0)
            }
        })
        .map_err(|source| at.unpack(source))?;
        let must_set_owner = self.must_set_owner(member);
        let dir = self
            .place
            .directory(parent)
            .map_err(|source| at.unpack(source))?;
        if must_set_owner {
            self.ownership
                .set_at(dir, name, member.uid, member.gid)
                .map_err(|source| Error::Owner {
                    path: at.shown(),
                    source,
                })?;
        }
        if !is_link {
            sys::fs::chmod_at(dir, name, member.mode).map_err(|source| at.unpack(source))?;
        }
        set_attributes(dir, name, member, self.form)?;
        let (seconds, nanoseconds) = member.mtime;
        sys::fs::set_mtime_at(dir, name, seconds, nanoseconds)
            .map_err(|source| at.unpack(source))?;
        self.forget_replaced(replaced, path);
        Ok(())
    }

    /// Gives the file that an earlier member made another name. The file itself is not touched: what
    /// the header of a hard link says of it was said before.
    fn unpack_link(
        &mut self,
        member: &Member,
        parent: &OsStr,
        name: &OsStr,
        path: &EntryPath,
    ) -> Result<(), Error> {
        let at = Subject(&member.path);
        let no_target = || Error::LinkTarget {
            path: at.shown(),
            target: String::from_utf8_lossy(&member.link).into_owned(),
        };
        let target = EntryPath::clean(&member.link).ok_or_else(no_target)?;
        let (target_parent, target_name) = target.split().ok_or_else(no_target)?;
        let target_dir = match self.place.open(&target_parent) {
            Err(error) if matches!(error.errno, Errno::ENOENT | Errno::ENOTDIR) => {
                return Err(no_target());
            }
            other => other.map_err(|source| at.unpack(source))?,
        };
        let found = place::found_at(target_dir.as_fd(), target_name)
            .map_err(|source| at.unpack(source))?
            .filter(|(kind, _)| {
                !matches!(kind, Kind::Directory | Kind::CharDevice | Kind::BlockDevice)
            });
        let Some((_, target_stat)) = found else {
            return Err(no_target());
        };
        let dir = self
            .place
            .directory(parent)
            .map_err(|source| at.unpack(source))?;
        // A second name that is there already must not be removed: it may be the only one.
        if let Some((_, stat)) = place::found_at(dir, name).map_err(|source| at.unpack(source))?
            && (stat.st_dev, stat.st_ino) == (target_stat.st_dev, target_stat.st_ino)
        {
            return Ok(());
        }
        let ((), replaced) = place::replace(dir, name, || {
            sys::fs::hard_link_at(&target_dir, target_name, dir, name)
        })
        .map_err(|source| at.unpack(source))?;
        self.forget_replaced(replaced, path);
        Ok(())
    }

    /// Unpacks a member of a layer one of whose names starts with `.wh.`.
    fn unpack_removal(&mut self, member: &Member, path: &EntryPath) -> Result<(), Error> {
        let at = Subject(&member.path);
        let whiteout = || Error::Whiteout { path: at.shown() };
        let (parent, name) = path.split().ok_or_else(whiteout)?;
        let is_opaque = name.as_bytes() == OPAQUE_NAME;
        // aufs kept its own records under these names, and early images have them.
        let is_record = |name: &[u8]| name.starts_with(b".wh..wh.") && name != OPAQUE_NAME;
        if path.names().any(is_record) {
            return Ok(());
        }
        let prefixed = path
            .names()
            .filter(|name| name.starts_with(WHITEOUT_PREFIX))
            .count();
        let hidden = name.as_bytes().strip_prefix(WHITEOUT_PREFIX);
        let hidden = hidden.filter(|_| prefixed == 1).ok_or_else(whiteout)?;
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(whiteout());
        }
        if is_opaque {
            let dir = self
                .place
                .directory(&parent)
                .map_err(|source| at.unpack(source))?;
            return attributes::set_opaque(dir, OsStr::new("."))
                .map_err(|source| at.unpack(source));
        }
        let hidden = OsStr::from_bytes(hidden);
        let dir = self
            .place
            .directory(&parent)
            .map_err(|source| at.unpack(source))?;
        let hide = || match place::found_at(dir, hidden)? {
            None => sys::fs::make_node_at(dir, hidden, SFlag::S_IFCHR, 0, 0),
            // What this layer has at the name stays, and hides what is below.
            Some((Kind::Directory, _)) => attributes::set_opaque(dir, hidden),
            Some(_) => Ok(()),
        };
        hide().map_err(|source| at.unpack(source))
    }

    /// Files are made by 0:0; only a directory that hands on its group makes that untrue.
    fn must_set_owner(&self, member: &Member) -> bool {
        (member.uid, member.gid) != (0, 0) || self.place.gives_group()
    }

    /// After a directory was replaced by something else, nothing is known of what was in it.
    fn forget_replaced(&mut self, replaced: Option<Kind>, path: &EntryPath) {
        if !matches!(replaced, Some(Kind::Directory | Kind::Symlink)) {
            return;
        }
        self.place.forget();
        let path = path.joined();
        let mut inside = path.clone();
        inside.push("/");
        let gone: Vec<OsString> = self
            .directory_times
            .range(inside.clone()..)
            .map(|(known, _)| known.clone())
            .take_while(|known| known.as_bytes().starts_with(inside.as_bytes()))
            .chain([path])
            .collect();
        for path in gone {
            self.directory_times.remove(&path);
        }
    }

    fn set_directory_times(&mut self) -> Result<(), Error> {
        for (path, (seconds, nanoseconds)) in std::mem::take(&mut self.directory_times) {
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
            let set = sys::fs::open_in_root(self.root, path.as_ref(), flags, 0)
                .and_then(|dir| sys::fs::set_mtime(dir, seconds, nanoseconds));
            match set {
                // A later member put something else there.
                Err(error) if matches!(error.errno, Errno::ENOENT | Errno::ENOTDIR) => {}
                other => other.map_err(|source| Subject(path.as_bytes()).unpack(source))?,
            }
        }
        Ok(())
    }
}

/// Sets what the archive gives; what it may not give (labels of a host, marks of overlayfs) is dropped.
fn set_attributes(
    dir: BorrowedFd<'_>,
    name: &OsStr,
    member: &Member,
    form: Form,
) -> Result<(), Error> {
    for (attribute, value) in &member.attributes {
        let Some(stored) = attributes::stored_name(attribute, form) else {
            continue;
        };
        sys::xattr::set_at(dir, name, &stored, value).map_err(|source| Error::SetAttribute {
            path: Subject(&member.path).shown(),
            name: String::from_utf8_lossy(attribute).into_owned(),
            source,
        })?;
    }
    Ok(())
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
