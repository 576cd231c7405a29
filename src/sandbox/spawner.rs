//! The process that every init is a fork of.
//!
//! To execute this program takes milliseconds before it does anything: it is linked and relocated, its pages
//! are mapped one fault at a time, and the C library asks for features of the processor, each question of
//! which leaves a virtual machine. So that is done once, for the first sandbox. The spawner never sees the
//! orders of a sandbox: they go to the fork, and nothing of one sandbox is in the memory of the next.
//!
//! A fork is the child of this process (`CLONE_PARENT`), whichever of its threads waits for it, and dies with
//! the thread that made the spawner, which therefore lives as long as the process.

use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::spec::INIT_NAME;
use super::wire;
use crate::sys::process::{self, Ended};

/// The spawner of this process, once there has been a sandbox.
static SPAWNER: Mutex<Option<Spawner>> = Mutex::new(None);

#[derive(Debug)]
struct Spawner {
    control: UnixStream,
}

/// A started init. It is not ended or waited for when this is dropped.
#[derive(Debug)]
pub(super) struct Child(Pid);

impl Child {
    /// Its process id.
    pub(super) fn id(&self) -> u32 {
        self.0.as_raw().unsigned_abs()
    }

    /// To be called before [`Child::wait`].
    pub(super) fn kill(&self) -> io::Result<()> {
        Ok(kill(self.0, Signal::SIGKILL)?)
    }

    /// To be called once.
    pub(super) fn wait(&self) -> io::Result<ExitStatus> {
        let (_, ended) = process::wait(Some(self.0))?;
        Ok(ExitStatus::from_raw(match ended {
            Ended::Code(code) => code << 8,
            Ended::Signal(signal) => signal,
        }))
    }
}

/// Starts an init with these for standard input, output and error. Out of reach of what a terminal sends to
/// this process's own group.
pub(super) fn spawn(standard: &[OwnedFd; 3]) -> io::Result<Child> {
    let mut spawner = SPAWNER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(running) = &*spawner {
        match running.fork(standard) {
            // It is gone, for instance because memory ran out.
            Err(error) if is_gone(&error) => {}
            answer => return answer,
        }
    }
    spawner.insert(Spawner::start()?).fork(standard)
}

fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

impl Spawner {
    fn start() -> io::Result<Self> {
        let (control, theirs) = UnixStream::pair()?;
        let (tell, told) = mpsc::sync_channel(1);
        std::thread::Builder::new()
            .name("spawner".to_owned())
            .spawn(move || {
                let spawned = Command::new("/proc/self/exe")
                    .arg0(INIT_NAME)
                    .env_clear()
                    .current_dir("/")
                    .process_group(0)
                    .stdin(Stdio::from(OwnedFd::from(theirs)))
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn();
                let child = spawned.map(|mut child| move || drop(child.wait()));
                let (answer, wait) = match child {
                    Ok(wait) => (Ok(()), Some(wait)),
                    Err(error) => (Err(error), None),
                };
                drop(tell.send(answer));
                let Some(mut wait) = wait else { return };
                wait();
                // There may be forks of it.
                loop {
                    std::thread::park();
                }
            })?;
        told.recv()
            .map_err(|_| io::Error::from(io::ErrorKind::UnexpectedEof))??;
        Ok(Self { control })
    }

    fn fork(&self, standard: &[OwnedFd; 3]) -> io::Result<Child> {
        for fd in standard {
            wire::send_standard(&self.control, fd.as_fd())?;
        }
        let mut answer = [0; 4];
        (&self.control).read_exact(&mut answer)?;
        match i32::from_le_bytes(answer) {
            pid if pid > 0 => Ok(Child(Pid::from_raw(pid))),
            failed => Err(Errno::from_raw(failed.saturating_neg()).into()),
        }
    }
}
