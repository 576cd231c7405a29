//! Writing files, links and directories into a directory, with their owners, modes and times.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{FileStat, SFlag};

use super::digest::{attributes, unreadable};
use super::error::Error;
use super::sink::{
    Sink, Source, Target, check_unchanged, chmod_open, copy_small, create, replacing,
};
use super::walk::Node;
use super::{ChmodSpec, Copied, Origin, Skipped};
use crate::ownership::Ownership;
use crate::ownership::record::Device;
use crate::sys;
use crate::sys::fs::Kind;

/// Files up to this size are read and written; larger ones are left to `copy_file_range(2)`, which
/// shares extents where the file system can, and costs more for small ones (measured on ext4).
const BUFFER: usize = 1 << 20;

/// What becomes of owners and of what only the host may have.
#[derive(Debug, Clone, Copy)]
pub(super) enum Rules<'a> {
    /// Into the root of an image.
    Image {
        ownership: &'a Ownership,
        /// `--chown`.
        owner: Option<(u32, u32)>,
    },
    /// Into a directory of the invoking user: whatever is made is the user's, devices stay behind.
    Host,
}

/// What decides how a [`Writer`] writes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Like<'a> {
    rules: Rules<'a>,
    mode: Option<&'a ChmodSpec>,
}

impl<'a> Like<'a> {
    pub(super) fn writer(self) -> Writer<'a> {
        Writer {
            like: self,
            buffer: vec![0; BUFFER],
            linked: HashMap::new(),
            has_replaced: false,
            copied: Copied::default(),
        }
    }
}

/// Writes entries and counts them.
#[derive(Debug)]
pub(super) struct Writer<'a> {
    like: Like<'a>,
    buffer: Vec<u8>,
    /// Where in the target the first name of a file with several was written. Kept for one source only,
    /// as by BuildKit: another one could replace what was written.
    linked: HashMap<(u64, u64), PathBuf>,
    /// Something that was there, perhaps written by an earlier source, is gone.
    has_replaced: bool,
    pub(super) copied: Copied,
}

impl<'a> Writer<'a> {
    pub(super) fn new(rules: Rules<'a>, mode: Option<&'a ChmodSpec>) -> Self {
        Like { rules, mode }.writer()
    }

    /// What another writer has to be made with to write the same.
    pub(super) fn like(&self) -> Like<'a> {
        self.like
    }

    /// Another source begins: its files are not names of those before.
    pub(super) fn forget_links(&mut self) {
        self.linked.clear();
    }

    /// Gives the directory of `source` and `sink`, which is open and perhaps new, its owner, mode and
    /// time, now that nothing more is written there. One that `is_implied` is only on the way.
    pub(super) fn leave(
        &mut self,
        source: &Source<'_>,
        sink: &Sink<'_>,
        (made, is_new): (BorrowedFd<'_>, bool),
        is_implied: bool,
    ) -> Result<(), Error> {
        if is_implied && !is_new {
            // Of a directory that is only on the way, BuildKit changes the mode alone, to the source's.
            let mode = source.node.permissions();
            let set = self.ownership().set_mode(made, mode);
            return set.map_err(sink.failed());
        }
        let mut stat = sys::fs::stat(made).map_err(sink.failed())?;
        if let Rules::Image { ownership, .. } = self.like.rules {
            let seen = ownership.seen(made, &mut stat);
            seen.map_err(|source| Error::Owner {
                path: sink.path(),
                source,
            })?;
        }
        self.finish_open(source, sink, made, &stat)
    }

    /// Writes the single file `real_name` of `directory` as `name` of `target`.
    pub(super) fn file(
        &mut self,
        origin: Origin,
        directory: BorrowedFd<'_>,
        real_name: &OsStr,
        node: &Node,
        target: &Target,
        name: &OsStr,
    ) -> Result<(), Error> {
        self.forget_links();
        let source = Source {
            origin,
            directory,
            name: real_name,
            node,
            link: None,
        };
        let sink = Sink {
            directory: target.directory.as_fd(),
            name,
            top: target,
            between: None,
        };
        self.entry(&source, &sink)
    }

    /// Writes a heredoc: 0644, root's.
    pub(super) fn inline(
        &mut self,
        bytes: &[u8],
        target: &Target,
        name: &OsStr,
    ) -> Result<(), Error> {
        let sink = Sink {
            directory: target.directory.as_fd(),
            name,
            top: target,
            between: None,
        };
        let mode = self.mode_of(0o644, false);
        let (mut file, has_replaced) = create(&sink, mode)?;
        self.has_replaced |= has_replaced;
        file.write_all(bytes)
            .map_err(|source| Error::WriteContent {
                path: sink.path(),
                source,
            })?;
        let mut stat = sys::fs::stat(&file).map_err(sink.failed())?;
        self.ownership().made(&mut stat);
        self.own_open(&sink, file.as_fd(), &stat, (0, 0))?;
        chmod_open(&sink, file.as_fd(), &stat, (self.ownership(), mode))?;
        self.copied.files += 1;
        self.copied.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Writes anything but a directory.
    pub(super) fn entry(&mut self, source: &Source<'_>, sink: &Sink<'_>) -> Result<(), Error> {
        match source.node.kind() {
            Kind::Regular => self.regular(source, sink)?,
            Kind::Symlink => self.link(source, sink)?,
            Kind::CharDevice | Kind::BlockDevice if matches!(self.like.rules, Rules::Host) => {
                self.copied
                    .skipped
                    .push(Skipped::Device { path: sink.path() });
                return Ok(());
            }
            _ => self.special(source, sink)?,
        }
        self.copied.files += 1;
        Ok(())
    }

    fn regular(&mut self, source: &Source<'_>, sink: &Sink<'_>) -> Result<(), Error> {
        let inode = (source.node.stamp.device, source.node.stamp.inode);
        if source.node.is_linked && self.hard_link(inode, sink)? {
            return Ok(());
        }
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
        let from = sys::fs::open_at(source.directory, source.name, flags, 0)
            .map_err(|error| unreadable(&sink.below_top(), error))?;
        let mut from = File::from(from);
        check_unchanged(&from, source, sink)?;
        let mode = self.mode_of(source.node.permissions(), false);
        let (mut to, has_replaced) = create(sink, mode)?;
        self.has_replaced |= has_replaced;
        self.content(source, sink, &mut from, &mut to)?;
        check_unchanged(&from, source, sink)?;
        let mut stat = sys::fs::stat(&to).map_err(sink.failed())?;
        self.ownership().made(&mut stat);
        self.finish_open(source, sink, to.as_fd(), &stat)?;
        if source.node.is_linked {
            self.linked.insert(inode, sink.below_top());
        }
        Ok(())
    }

    fn content(
        &mut self,
        source: &Source<'_>,
        sink: &Sink<'_>,
        from: &mut File,
        to: &mut File,
    ) -> Result<(), Error> {
        let size = u64::try_from(source.node.stamp.size).unwrap_or(0);
        let copied = if size > BUFFER as u64 {
            io::copy(&mut from.take(size), to)
        } else {
            copy_small(
                from,
                to,
                &mut self.buffer[..usize::try_from(size).unwrap_or(0)],
            )
        };
        let copied = copied.map_err(|source| Error::WriteContent {
            path: sink.path(),
            source,
        })?;
        self.copied.bytes += copied;
        Ok(())
    }

    /// Makes `sink` another name of what was written for `inode`, if anything was.
    fn hard_link(&mut self, inode: (u64, u64), sink: &Sink<'_>) -> Result<bool, Error> {
        let Some(path) = self.linked.get(&inode) else {
            return Ok(false);
        };
        let ((), has_replaced) = replacing(sink, || {
            let top = &sink.top.directory;
            sys::fs::hard_link_at(top, path.as_os_str(), sink.directory, sink.name)
        })?;
        self.has_replaced |= has_replaced;
        Ok(true)
    }

    fn link(&mut self, source: &Source<'_>, sink: &Sink<'_>) -> Result<(), Error> {
        let target = source.link.expect("links were read when selected");
        let ((), has_replaced) = replacing(sink, || {
            sys::fs::symlink_at(target, sink.directory, sink.name)
        })?;
        self.has_replaced |= has_replaced;
        self.finish_name(source, sink)
    }

    fn special(&mut self, source: &Source<'_>, sink: &Sink<'_>) -> Result<(), Error> {
        if matches!(source.node.kind(), Kind::CharDevice | Kind::BlockDevice) {
            return self.device(source, sink);
        }
        let kind = SFlag::from_bits_truncate(source.node.stamp.mode) & SFlag::S_IFMT;
        let ((), has_replaced) = replacing(sink, || {
            sys::fs::make_node_at(sink.directory, sink.name, kind, 0o600, 0)
        })?;
        self.has_replaced |= has_replaced;
        self.finish_name(source, sink)
    }

    /// Makes an empty file that is recorded to be the device.
    fn device(&mut self, source: &Source<'_>, sink: &Sink<'_>) -> Result<(), Error> {
        let Rules::Image { ownership, owner } = self.like.rules else {
            return Ok(());
        };
        let device = Device::of(source.node.stamp.mode, source.node.device);
        if !device.exists() {
            let source = sys::Error::on("mknodat", sink.name, Errno::EPERM);
            return Err(Error::Device {
                path: sink.path(),
                source,
            });
        }
        let (file, has_replaced) = create(sink, 0o600)?;
        self.has_replaced |= has_replaced;
        let (uid, gid) = wanted_owner(source, owner);
        ownership
            .set_device(&file, device, uid, gid)
            .map_err(|error| Error::Owner {
                path: sink.path(),
                source: error,
            })?;
        let mode = self.mode_of(source.node.permissions(), false);
        ownership.set_mode(&file, mode).map_err(sink.failed())?;
        self.attributes(source, sink)?;
        let (seconds, nanoseconds) = source.node.stamp.modified;
        sys::fs::set_mtime(&file, seconds, nanoseconds).map_err(sink.failed())
    }

    /// Owner, mode and time of what cannot be opened.
    fn finish_name(&mut self, source: &Source<'_>, sink: &Sink<'_>) -> Result<(), Error> {
        let mut stat = sys::fs::stat_at(sink.directory, sink.name).map_err(sink.failed())?;
        self.ownership().made(&mut stat);
        if let Rules::Image { ownership, owner } = self.like.rules {
            let (uid, gid) = wanted_owner(source, owner);
            // A new file may have the inode of one that is gone, and with it an owner that was recorded.
            if self.has_replaced || (stat.st_uid, stat.st_gid) != (uid, gid) {
                ownership
                    .set_at(sink.directory, sink.name, uid, gid)
                    .map_err(|source| Error::Owner {
                        path: sink.path(),
                        source,
                    })?;
            }
        }
        if source.node.kind() != Kind::Symlink {
            let mode = self.mode_of(source.node.permissions(), false);
            sys::fs::chmod_at(sink.directory, sink.name, mode).map_err(sink.failed())?;
        }
        self.attributes(source, sink)?;
        let (seconds, nanoseconds) = source.node.stamp.modified;
        sys::fs::set_mtime_at(sink.directory, sink.name, seconds, nanoseconds)
            .map_err(sink.failed())
    }

    /// Owner, mode, attributes and time of an open file or directory that is as `stat` says.
    fn finish_open(
        &mut self,
        source: &Source<'_>,
        sink: &Sink<'_>,
        fd: BorrowedFd<'_>,
        stat: &FileStat,
    ) -> Result<(), Error> {
        if let Rules::Image { owner, .. } = self.like.rules {
            self.own_open(sink, fd, stat, wanted_owner(source, owner))?;
        }
        let is_directory = source.node.kind() == Kind::Directory;
        let mode = self.mode_of(source.node.permissions(), is_directory);
        chmod_open(sink, fd, stat, (self.ownership(), mode))?;
        self.attributes(source, sink)?;
        let (seconds, nanoseconds) = source.node.stamp.modified;
        sys::fs::set_mtime(fd, seconds, nanoseconds).map_err(sink.failed())
    }

    /// How owners and modes are set.
    fn ownership(&self) -> &'a Ownership {
        match self.like.rules {
            Rules::Image { ownership, .. } => ownership,
            Rules::Host => &Ownership::Discarded,
        }
    }

    /// `default` is the owner without `--chown`.
    fn own_open(
        &self,
        sink: &Sink<'_>,
        fd: BorrowedFd<'_>,
        stat: &FileStat,
        default: (u32, u32),
    ) -> Result<(), Error> {
        let Rules::Image { ownership, owner } = self.like.rules else {
            return Ok(());
        };
        let (uid, gid) = owner.unwrap_or(default);
        if (stat.st_uid, stat.st_gid) == (uid, gid) {
            return Ok(());
        }
        ownership.set(fd, uid, gid).map_err(|source| Error::Owner {
            path: sink.path(),
            source,
        })
    }

    fn attributes(&mut self, source: &Source<'_>, sink: &Sink<'_>) -> Result<(), Error> {
        if source.origin == Origin::Context || matches!(self.like.rules, Rules::Host) {
            return Ok(());
        }
        let attributes = attributes(source.directory, source.name, source.node)
            .map_err(|error| unreadable(&sink.below_top(), error))?;
        for (attribute, value) in attributes {
            match sys::xattr::set_at(sink.directory, sink.name, &attribute, &value) {
                Ok(()) => {}
                // Refused by the file system or for lack of privilege; the file is of use without.
                Err(error) if matches!(error.errno, Errno::EPERM | Errno::ENOTSUP) => {
                    self.copied.skipped.push(Skipped::Attribute {
                        path: sink.path(),
                        name: attribute.to_string_lossy().into_owned(),
                    });
                }
                Err(error) => return Err(sink.failed()(error)),
            }
        }
        Ok(())
    }

    fn mode_of(&self, mode: u32, is_directory: bool) -> u32 {
        self.like
            .mode
            .map_or(mode, |spec| spec.apply(mode, is_directory))
    }
}

fn wanted_owner(source: &Source<'_>, chosen: Option<(u32, u32)>) -> (u32, u32) {
    chosen.unwrap_or(match source.origin {
        Origin::Context => (0, 0),
        Origin::Rootfs => source.node.owner,
    })
}
