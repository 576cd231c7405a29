//! What each kind of member becomes.

use std::ffi::{OsStr, OsString};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::SFlag;
use tar::EntryType;

use super::{Error, Form, Subject, Unpacker, device_of};
use crate::layer::header::Member;
use crate::layer::place::{self, EntryPath};
use crate::layer::{OPAQUE_NAME, WHITEOUT_PREFIX, attributes};
use crate::ownership::Ownership;
use crate::sys;
use crate::sys::fs::Kind;

impl Unpacker<'_> {
    pub(super) fn unpack_directory(
        &mut self,
        member: &Member,
        parent: &OsStr,
        name: &OsStr,
        path: OsString,
    ) -> Result<(), Error> {
        let at = Subject(&member.path);
        let form = self.form;
        let mut removed = false;
        let dir = self
            .place
            .directory(parent)
            .map_err(|source| at.unpack(source))?;
        let mut make = || -> sys::Result<_> {
            match sys::fs::make_directory_at(dir, name, 0o700) {
                Err(error) if error.errno == Errno::EEXIST => {
                    let found = place::found_at(dir, name)?.map(|(kind, _)| kind);
                    if found != Some(Kind::Directory) {
                        sys::fs::unlink_at(dir, name)?;
                        removed = true;
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
        self.has_removed |= removed;
        self.set_directory(made.as_fd(), path, member)?;
        // The directory of the last member may be this one under its old mode.
        self.place.forget();
        Ok(())
    }

    pub(super) fn set_directory(
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
        self.ownership
            .set_mode(dir, member.mode)
            .map_err(|source| at.unpack(source))?;
        set_attributes(dir, OsStr::new("."), member, self.form)?;
        self.directory_times.insert(path, member.mtime);
        Ok(())
    }

    /// Makes an empty file, 0600, in the place of what is there; the file, and what it replaced.
    fn new_file(
        &mut self,
        parent: &OsStr,
        name: &OsStr,
        at: Subject<'_>,
    ) -> Result<(OwnedFd, Option<Kind>), Error> {
        let dir = self
            .place
            .directory(parent)
            .map_err(|source| at.unpack(source))?;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
        place::replace(dir, name, || sys::fs::open_at(dir, name, flags, 0o600))
            .map_err(|source| at.unpack(source))
    }

    pub(super) fn unpack_file(
        &mut self,
        member: &Member,
        parent: &OsStr,
        name: &OsStr,
        path: &EntryPath,
    ) -> Result<(), Error> {
        let at = Subject(&member.path);
        let (file, replaced) = self.new_file(parent, name, at)?;
        let mut file = std::fs::File::from(file);
        match self.archive.take_sparse() {
            None => self.write_data(&mut file, u64::MAX, at)?,
            Some(map) => {
                let failed = |source| Error::Write {
                    path: at.shown(),
                    source,
                };
                for (offset, length) in map.parts {
                    file.seek(SeekFrom::Start(offset)).map_err(failed)?;
                    self.write_data(&mut file, length, at)?;
                }
                file.set_len(map.size).map_err(failed)?;
            }
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
            self.ownership
                .set_mode(&file, member.mode)
                .map_err(|source| at.unpack(source))?;
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

    /// Writes the member's next `length` bytes, or as many as there are.
    fn write_data(
        &mut self,
        file: &mut std::fs::File,
        length: u64,
        at: Subject<'_>,
    ) -> Result<(), Error> {
        let mut left = length;
        while left > 0 {
            let most =
                usize::try_from(left).map_or(self.buffer.len(), |n| n.min(self.buffer.len()));
            let count = self.archive.read_data(&mut self.buffer[..most])?;
            if count == 0 {
                break;
            }
            file.write_all(&self.buffer[..count])
                .map_err(|source| Error::Write {
                    path: at.shown(),
                    source,
                })?;
            left -= count as u64;
        }
        Ok(())
    }

    pub(super) fn unpack_special(
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
        self.has_removed |= replaced.is_some();
        // The file system may give the inode of what was removed to this one, at the same time by its
        // clock: then an owner that is recorded of the one counts for the other.
        let must_set_owner = self.must_set_owner(member) || self.has_removed;
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

    pub(super) fn unpack_device(
        &mut self,
        member: &Member,
        parent: &OsStr,
        name: &OsStr,
        path: &EntryPath,
    ) -> Result<(), Error> {
        let at = Subject(&member.path);
        let Some(device) = device_of(member) else {
            return Ok(());
        };
        if matches!(self.ownership, Ownership::Discarded) {
            return Ok(());
        }
        let (file, replaced) = self.new_file(parent, name, at)?;
        self.ownership
            .set_device(&file, device, member.uid, member.gid)
            .map_err(|source| Error::Owner {
                path: at.shown(),
                source,
            })?;
        self.ownership
            .set_mode(&file, member.mode)
            .map_err(|source| at.unpack(source))?;
        let dir = self
            .place
            .directory(parent)
            .map_err(|source| at.unpack(source))?;
        set_attributes(dir, name, member, self.form)?;
        let (seconds, nanoseconds) = member.mtime;
        sys::fs::set_mtime(&file, seconds, nanoseconds).map_err(|source| at.unpack(source))?;
        self.forget_replaced(replaced, path);
        Ok(())
    }

    /// Gives the file that an earlier member made another name. The file itself is not touched: what
    /// the header of a hard link says of it was said before.
    pub(super) fn unpack_link(
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
    pub(super) fn unpack_removal(
        &mut self,
        member: &Member,
        path: &EntryPath,
    ) -> Result<(), Error> {
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
            None => attributes::set_whiteout(dir, hidden),
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
        self.has_removed |= replaced.is_some();
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
