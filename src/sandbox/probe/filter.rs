//! What the supervisor of the recorded rung needs: a seccomp listener and the memory of a child.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;

use nix::unistd::{ForkResult, Pid};

use super::Answer;
use crate::sys::{notify, process};

/// A filter of one instruction, `BPF_RET | BPF_K` with `SECCOMP_RET_ALLOW`, in the form that
/// [`process::install_filter`] takes.
const ALLOW: [u64; 1] = [0x0006_0000_7fff_0000];

/// Installs a filter; to be called in a child, which keeps it.
pub(super) fn install() -> Answer {
    process::install_filter(&ALLOW)
        .map(|()| "can be installed".to_owned())
        .map_err(|error| error.to_string())
}

/// Installs a filter with a listener; to be called in a child, which keeps it.
pub(super) fn listen() -> Answer {
    match notify::install(&ALLOW) {
        Ok(_) => Ok("can be installed".to_owned()),
        Err(error) if error.errno == nix::errno::Errno::EBUSY => Err(
            "EBUSY: a supervisor outside (LXD, sydbox, another rbuild) has the only listener"
                .to_owned(),
        ),
        Err(error) => Err(error.to_string()),
    }
}

/// What the child has at the same address.
static MARK: [u8; 8] = *b"rbuild!\n";

/// Reads the memory of a child as the supervisor does, by process_vm_readv(2) or `/proc/PID/mem`.
pub(super) fn try_memory() -> Answer {
    let (mut wait, go) = std::io::pipe().map_err(|error| error.to_string())?;
    match process::fork().map_err(|error| error.to_string())? {
        ForkResult::Child => {
            drop(go);
            // Ends when the parent drops its side.
            drop(wait.read(&mut [0]));
            process::exit_now(0)
        }
        ForkResult::Parent { child } => {
            drop(wait);
            let answer = read_mark(child);
            drop(go);
            drop(process::wait(Some(child)));
            answer
        }
    }
}

fn read_mark(child: Pid) -> Answer {
    let base = MARK.as_ptr().addr();
    let mut buffer = [0; MARK.len()];
    let direct = notify::read_memory(child.as_raw(), base as u64, &mut buffer);
    let errno = match direct {
        Ok(_) if buffer == MARK => return Ok("process_vm_readv".to_owned()),
        Ok(_) => nix::errno::Errno::EIO,
        Err(errno) => errno,
    };
    let refused = format!("process_vm_readv: {}", errno.desc());
    let read = File::open(format!("/proc/{child}/mem"))
        .and_then(|memory| memory.read_exact_at(&mut buffer, base as u64));
    match read {
        Ok(()) if buffer == MARK => Ok(format!("/proc/PID/mem ({refused})")),
        Ok(()) => Err(refused),
        Err(error) => Err(format!("{refused}; /proc/PID/mem: {error}")),
    }
}
