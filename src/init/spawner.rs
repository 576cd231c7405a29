//! What `rbuild-init` is until a sandbox is wanted, see [`crate::sandbox`]'s spawner: a process that knows
//! nothing of any sandbox and forks.

use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use nix::unistd::{ForkResult, Pid, dup2_stderr, dup2_stdin, dup2_stdout, setpgid};

use crate::sandbox::wire;
use crate::sys::process;

/// Forks for every three descriptors that come over `control`, until the parent is gone. Returns true in the
/// forks, with those as standard input, output and error, and `control` closed.
pub(super) fn serve(control: UnixStream) -> io::Result<bool> {
    know_processor();
    loop {
        let Some(standard) = receive(&control)? else {
            return Ok(false);
        };
        match process::fork_sibling() {
            Ok(ForkResult::Child) => {
                drop(control);
                setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
                let [stdin, stdout, stderr] = standard;
                dup2_stdin(stdin)?;
                dup2_stdout(stdout)?;
                dup2_stderr(stderr)?;
                return Ok(true);
            }
            Ok(ForkResult::Parent { child }) => {
                drop(standard);
                (&control).write_all(&child.as_raw().to_le_bytes())?;
            }
            Err(error) => {
                let failed = -(error.errno as i32);
                (&control).write_all(&failed.to_le_bytes())?;
            }
        }
    }
}

fn receive(control: &UnixStream) -> io::Result<Option<[OwnedFd; 3]>> {
    let mut standard = Vec::with_capacity(3);
    while standard.len() < 3 {
        match wire::receive_standard(control)? {
            Some(fd) => standard.push(fd),
            None => return Ok(None),
        }
    }
    Ok(standard.try_into().ok())
}

/// What the library finds out once per process is known to the forks.
fn know_processor() {
    #[cfg(target_arch = "x86_64")]
    let _ = std::arch::is_x86_feature_detected!("avx2");
}
