//! execve(2): who a process is when it is another program.

use std::ffi::OsStr;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;

use nix::fcntl::{AT_FDCWD, AtFlags, OFlag};
use nix::sys::stat::Mode;
use nix::sys::statvfs::{FsFlags, statvfs};

use super::caller::{Caller, Lookup, Target};
use super::{Reply, Supervisor};
use crate::sys::fs::Kind;

/// Interpreters of interpreters that the kernel goes through (linux/fs/exec.c).
const MAX_INTERPRETERS: usize = 5;
/// BINPRM_BUF_SIZE of linux/binfmts.h: what the kernel looks at of a program.
const MAX_HEAD: usize = 256;

/// The owners that the set-id bits of a program give.
#[derive(Debug, Clone, Copy, Default)]
struct SetIds {
    user: Option<u32>,
    group: Option<u32>,
}

impl Supervisor {
    /// The kernel carries the call out; here is said who the process is afterwards. A program that the
    /// kernel refuses leaves the process who it is, where that can be known before.
    pub(super) fn execute(
        &mut self,
        caller: &Caller<'_>,
        directory: i32,
        address: u64,
        lookup: Lookup,
    ) -> nix::Result<Reply> {
        let program = caller.target_at(directory, address, lookup)?;
        let set = match program {
            Some(program) => self.set_ids_of(caller, program),
            None => Some(SetIds::default()),
        };
        let Some(set) = set else {
            return Ok(Reply::Continue);
        };
        self.change(caller, |credentials| {
            credentials.execute(set.user, set.group);
            Ok(0)
        })?;
        Ok(Reply::Continue)
    }

    /// What the program, or the interpreter of a script, gives. `None` where nothing will be executed.
    fn set_ids_of(&self, caller: &Caller<'_>, mut program: Target) -> Option<SetIds> {
        for _ in 0..MAX_INTERPRETERS {
            let mut flags = AtFlags::empty();
            flags.set(AtFlags::AT_SYMLINK_NOFOLLOW, !program.follow);
            let stat = nix::sys::stat::fstatat(AT_FDCWD, program.path.as_c_str(), flags).ok()?;
            let mode = Mode::from_bits_truncate(stat.st_mode);
            let executable = Mode::S_IXUSR | Mode::S_IXGRP | Mode::S_IXOTH;
            if Kind::of(&stat) != Kind::Regular || !mode.intersects(executable) {
                return None;
            }
            match head(&program)? {
                Head::Interpreter(path) => {
                    let lookup = Lookup::default();
                    program = caller.target(libc::AT_FDCWD, &path, lookup).ok()??;
                }
                Head::Program => return Some(self.set_ids_by(caller, &program, mode)),
            }
        }
        None
    }

    fn set_ids_by(&self, caller: &Caller<'_>, program: &Target, mode: Mode) -> SetIds {
        let has_bits = mode.intersects(Mode::S_ISUID | Mode::S_ISGID);
        let is_ignored = || {
            let flags = statvfs(OsStr::from_bytes(program.path.as_bytes()))
                .map_or(FsFlags::empty(), |of| of.flags());
            flags.contains(FsFlags::ST_NOSUID) || caller.gains_nothing()
        };
        if !has_bits || is_ignored() {
            return SetIds::default();
        }
        let owner = self.records.find(program).unwrap_or_default();
        // Without the right to execute the bit means mandatory locking, chmod(2).
        let sets_group = mode.contains(Mode::S_ISGID | Mode::S_IXGRP);
        SetIds {
            user: mode.contains(Mode::S_ISUID).then_some(owner.uid),
            group: sets_group.then_some(owner.gid),
        }
    }
}

enum Head {
    Program,
    /// Of a script, whose own set-id bits mean nothing (execve(2), "Interpreter scripts").
    Interpreter(Vec<u8>),
}

fn head(program: &Target) -> Option<Head> {
    // It may be something else by now that makes who opens it wait.
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let file = nix::fcntl::open(program.path.as_c_str(), flags, Mode::empty()).ok()?;
    let mut head = Vec::with_capacity(MAX_HEAD);
    std::fs::File::from(file)
        .take(MAX_HEAD as u64)
        .read_to_end(&mut head)
        .ok()?;
    if head.starts_with(b"\x7fELF") {
        return Some(Head::Program);
    }
    let line = head.strip_prefix(b"#!")?;
    let line = line.split(|byte| *byte == b'\n').next()?;
    let path = line
        .split(|byte| matches!(byte, b' ' | b'\t' | 0))
        .find(|word| !word.is_empty())?;
    Some(Head::Interpreter(path.to_vec()))
}
