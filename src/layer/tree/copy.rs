//! One file from a tree or a layer to another, with everything that a layer keeps of it.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{FileStat, SFlag};
use nix::unistd::Whence;

use super::Error;
use crate::layer::attributes::{self, Attributes, View};
use crate::layer::unpack::Form;
use crate::ownership::record::Device;
use crate::ownership::{Owners, Ownership};
use crate::sys;
use crate::sys::fs::Kind;

/// The device and inode of a file with several names.
type Identity = (u64, u64);

/// Copies files below one root to files below another.
pub(super) struct Copier<'a> {
    /// Whose the files of the source are.
    pub(super) owners: &'a Owners,
    /// How owners are set in the destination.
    ownership: &'a Ownership,
    /// How the source stores attributes, and how the destination does.
    pub(super) from: View,
    pub(super) to: Form,
    /// The root of the destination.
    root: BorrowedFd<'a>,
    /// The first copy of every file that has several names.
    linked: HashMap<Identity, PathBuf>,
    buffer: Vec<u8>,
}

/// A name in an open directory, and its path for messages and links.
#[derive(Clone, Copy)]
pub(super) struct Named<'a> {
    pub(super) directory: BorrowedFd<'a>,
    pub(super) name: &'a OsStr,
    /// From the root.
    pub(super) path: &'a Path,
}

impl<'a> Copier<'a> {
    pub(super) fn new(
        owners: &'a Owners,
        (from, to): (View, Form),
        root: BorrowedFd<'a>,
        ownership: &'a Ownership,
    ) -> Self {
        Self {
            owners,
            ownership,
            from,
            to,
            root,
            linked: HashMap::new(),
            buffer: vec![0; 256 << 10],
        }
    }

    /// Copies `source`, which is no directory and looks like `stat`, to the same name in `to`, where
    /// nothing is. Names of one file stay names of one file.
    pub(super) fn file(
        &mut self,
        source: Named<'_>,
        stat: &FileStat,
        to: BorrowedFd<'_>,
    ) -> Result<(), Error> {
        let fail = || Error::copy(source.path);
        let name = source.name;
        let identity = (stat.st_dev, stat.st_ino);
        if stat.st_nlink > 1 {
            if let Some(first) = self.linked.get(&identity) {
                return sys::fs::hard_link_at(self.root, first.as_os_str(), to, name)
                    .map_err(fail());
            }
            self.linked.insert(identity, source.path.to_owned());
        }
        let (stat, attributes) = self.look(source, *stat)?;
        match Kind::of(&stat) {
            Kind::Regular => self.data(source, to)?,
            Kind::Symlink => {
                let text = sys::fs::read_link_at(source.directory, name).map_err(fail())?;
                sys::fs::symlink_at(&text, to, name).map_err(fail())?;
            }
            Kind::CharDevice | Kind::BlockDevice => self.device(source, &stat, to)?,
            Kind::Fifo | Kind::Socket | Kind::Directory => {
                let bits = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
                sys::fs::make_node_at(to, name, bits, 0o600, 0).map_err(fail())?;
            }
        }
        self.finish(source, &stat, &attributes, to)
    }

    /// Gives the copy in `to` the owner, attributes, mode and times of `source`.
    pub(super) fn metadata(
        &self,
        source: Named<'_>,
        stat: &FileStat,
        to: BorrowedFd<'_>,
    ) -> Result<(), Error> {
        let (stat, attributes) = self.look(source, *stat)?;
        self.finish(source, &stat, &attributes, to)
    }

    /// What the file is, with what is recorded of it.
    fn look(&self, source: Named<'_>, mut stat: FileStat) -> Result<(FileStat, Attributes), Error> {
        let (attributes, record) = attributes::read(source.directory, source.name, self.from)
            .map_err(Error::copy(source.path))?;
        self.owners
            .apply(record, source.directory, source.name, &mut stat)
            .map_err(Error::owner(source.path))?;
        Ok((stat, attributes))
    }

    /// Attributes come before a mode that may forbid them, and after a change of the owner, which takes
    /// capabilities away.
    fn finish(
        &self,
        source: Named<'_>,
        stat: &FileStat,
        attributes: &Attributes,
        to: BorrowedFd<'_>,
    ) -> Result<(), Error> {
        let fail = || Error::copy(source.path);
        let name = source.name;
        self.ownership
            .set_at(to, name, stat.st_uid, stat.st_gid)
            .map_err(Error::owner(source.path))?;
        for (attribute, value) in attributes {
            if let Some(stored) = attributes::stored_name(attribute, self.to) {
                sys::xattr::set_at(to, name, &stored, value).map_err(fail())?;
            }
        }
        if Kind::of(stat) != Kind::Symlink {
            let mode = sys::fs::permissions(stat);
            self.ownership.set_mode_at(to, name, mode).map_err(fail())?;
        }
        sys::fs::set_mtime_at(to, name, stat.st_mtime, stat.st_mtime_nsec).map_err(fail())
    }

    /// A device, or what stands for one where nobody may make any.
    fn device(&self, source: Named<'_>, stat: &FileStat, to: BorrowedFd<'_>) -> Result<(), Error> {
        let bits = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
        match sys::fs::make_node_at(to, source.name, bits, 0o600, stat.st_rdev) {
            Err(error) if error.errno == Errno::EPERM => {
                let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
                let file = sys::fs::open_at(to, source.name, flags, 0o600)
                    .map_err(Error::copy(source.path))?;
                let device = Device::of(stat.st_mode, stat.st_rdev);
                self.ownership
                    .set_device(file, device, stat.st_uid, stat.st_gid)
                    .map_err(Error::owner(source.path))
            }
            other => other.map_err(Error::copy(source.path)),
        }
    }

    fn data(&mut self, source: Named<'_>, to: BorrowedFd<'_>) -> Result<(), Error> {
        let fail = || Error::copy(source.path);
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let from = sys::fs::open_at(source.directory, source.name, flags, 0).map_err(fail())?;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
        let into = sys::fs::open_at(to, source.name, flags, 0o600).map_err(fail())?;
        copy_data(
            &mut File::from(from),
            &mut File::from(into),
            &mut self.buffer,
        )
        .map_err(|error| Error::Data {
            path: source.path.to_owned(),
            source: error,
        })
    }
}

/// Copies the parts that hold data; what is a hole stays one. Blocks are shared where the file system
/// does it (copy_file_range(2)): those are copied when somebody writes to them.
fn copy_data(from: &mut File, to: &mut File, buffer: &mut [u8]) -> io::Result<()> {
    let size = from.metadata()?.len();
    if size <= buffer.len() as u64 {
        return copy_small(from, to, buffer);
    }
    let mut at = 0;
    while at < size {
        let (start, end) = match next_data(from, at) {
            Ok(part) => part,
            // Nothing but a hole is left.
            Err(Errno::ENXIO) => break,
            // Not every file system tells.
            Err(Errno::EINVAL) => (at, size),
            Err(errno) => return Err(errno.into()),
        };
        from.seek(SeekFrom::Start(start))?;
        to.seek(SeekFrom::Start(start))?;
        io::copy(&mut (&*from).take(end - start), to)?;
        at = end;
    }
    to.set_len(size)
}

fn copy_small(from: &mut File, to: &mut File, buffer: &mut [u8]) -> io::Result<()> {
    loop {
        match from.read(buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => to.write_all(&buffer[..length])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Where the next data begins and ends.
fn next_data(file: &File, at: u64) -> nix::Result<(u64, u64)> {
    let offset = |at: u64| i64::try_from(at).map_err(|_| Errno::EOVERFLOW);
    let seek = |at, whence| {
        let found = nix::unistd::lseek(file.as_fd(), at, whence)?;
        u64::try_from(found).map_err(|_| Errno::EOVERFLOW)
    };
    let start = seek(offset(at)?, Whence::SeekData)?;
    let end = seek(offset(start)?, Whence::SeekHole)?;
    Ok((start, end))
}
