//! Trying things in a child that is thrown away.

use std::io::{Read as _, Write as _};

use nix::sched::CloneFlags;
use nix::unistd::ForkResult;

use crate::sandbox::userns;
use crate::sys::process;

/// What `work` returns, when it is done in a forked child; `None` when the child could not be made or
/// died. Must be called while the process has one thread.
pub(crate) fn in_child(work: impl FnOnce() -> Vec<u8>) -> Option<Vec<u8>> {
    let (mut reader, mut writer) = std::io::pipe().ok()?;
    match process::fork().ok()? {
        ForkResult::Child => {
            drop(reader);
            let written = writer.write_all(&work());
            process::exit_now(i32::from(written.is_err()))
        }
        ForkResult::Parent { child } => {
            drop(writer);
            let mut answer = Vec::new();
            let read = reader.read_to_end(&mut answer);
            let (_, ended) = process::wait(Some(child)).ok()?;
            (read.is_ok() && ended == process::Ended::Code(0)).then_some(answer)
        }
    }
}

/// What `work` answers inside a new user and mount namespace with one id; `None` where there can be
/// none in which to mount. Must be called while the process has one thread.
pub(crate) fn in_namespace(work: impl FnOnce() -> bool) -> Option<bool> {
    let answer = in_child(|| match userns::enter_single() {
        Ok(()) => vec![u8::from(work())],
        Err(_) => Vec::new(),
    })?;
    answer.first().map(|byte| *byte != 0)
}

/// Whether `work` succeeds in a forked child with a pid namespace of its own, where it is not the first
/// process but that one's parent's child: what `CLONE_NEWPID` gives to children only.
pub(super) fn in_pid_namespace(work: impl FnOnce() -> Vec<u8>) -> Option<Vec<u8>> {
    in_child(|| {
        if nix::sched::unshare(CloneFlags::CLONE_NEWPID).is_err() {
            return Vec::new();
        }
        in_child(work).unwrap_or_default()
    })
}
