//! What a packer writes: headers, and the contents of files.

use std::ffi::OsStr;
use std::io::Write as _;
use std::os::fd::{BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::FileStat;
use tar::EntryType;

use super::{Error, Packer, inspect, opened, shown};
use crate::layer::attributes::Attributes;
use crate::layer::header::{BLOCK, Member};
use crate::sys;

impl Packer<'_> {
    /// Packs the regular file `name` that was looked at, `seen` and as a member.
    pub(super) fn pack_file(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &OsStr,
        seen: &FileStat,
        mut member: Member,
    ) -> Result<(), Error> {
        let path = member.path.clone();
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let file = sys::fs::open_at(dir, name, flags, 0).map_err(|source| opened(&path, source))?;
        let stat = sys::fs::stat(&file).map_err(|source| inspect(&path, source))?;
        if (stat.st_dev, stat.st_ino, stat.st_mode) != (seen.st_dev, seen.st_ino, seen.st_mode) {
            return Err(Error::Changed { path: shown(&path) });
        }
        let size = u64::try_from(seen.st_size).expect("the size of a file is not negative");
        member.size = size;
        self.emit(member)?;
        self.copy_data(&file, size, &path)
    }

    /// Copies exactly `size` bytes; a file that has more or fewer has changed.
    pub(super) fn copy_data(
        &mut self,
        file: &OwnedFd,
        size: u64,
        path: &[u8],
    ) -> Result<(), Error> {
        let mut copied = 0;
        loop {
            let count = match nix::unistd::read(file, &mut self.buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(Errno::EINTR) => continue,
                Err(errno) => {
                    return Err(Error::Read {
                        path: shown(path),
                        source: errno.into(),
                    });
                }
            };
            copied += count as u64;
            if copied > size {
                break;
            }
            self.out
                .write_all(&self.buffer[..count])
                .map_err(Error::Write)?;
        }
        if copied != size {
            return Err(Error::Changed { path: shown(path) });
        }
        let padding = usize::try_from(size.wrapping_neg() % BLOCK as u64).expect("below a block");
        self.out
            .write_all(&[0; BLOCK][..padding])
            .map_err(Error::Write)
    }

    pub(super) fn member(
        &self,
        path: Vec<u8>,
        kind: EntryType,
        stat: &FileStat,
        attributes: Attributes,
    ) -> Result<Member, Error> {
        if let Some((name, _)) = attributes.iter().find(|(name, _)| name.contains(&b'=')) {
            return Err(Error::Attribute {
                path: shown(&path),
                name: shown(name),
            });
        }
        let mtime = match self.options.clamp_mtime {
            Some(latest) if stat.st_mtime >= latest => (latest, 0),
            _ => (stat.st_mtime, stat.st_mtime_nsec),
        };
        Ok(Member {
            path,
            link: Vec::new(),
            kind,
            mode: sys::fs::permissions(stat),
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: 0,
            mtime,
            device: (0, 0),
            attributes,
        })
    }

    /// An empty file that stands for a removal; it has no owner, mode or time worth keeping.
    pub(super) fn emit_removal(&mut self, path: Vec<u8>) -> Result<(), Error> {
        self.emit(Member {
            path,
            link: Vec::new(),
            kind: EntryType::Regular,
            mode: 0,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: (0, 0),
            device: (0, 0),
            attributes: Attributes::new(),
        })
    }

    /// Writes a header, after those of the directories that it is in and that wait.
    #[expect(clippy::needless_pass_by_value, reason = "a member is written once")]
    pub(super) fn emit(&mut self, member: Member) -> Result<(), Error> {
        for waiting in std::mem::take(&mut self.unwritten) {
            self.write_header(&waiting)?;
        }
        self.write_header(&member)
    }

    pub(super) fn write_header(&mut self, member: &Member) -> Result<(), Error> {
        self.header.clear();
        member.encode(&mut self.header);
        self.entries += 1;
        self.out.write_all(&self.header).map_err(Error::Write)
    }
}
