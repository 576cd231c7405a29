//! What the command reads from and writes to.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout};

use crate::sandbox::passwd::Identity;
use crate::sandbox::spec;
use crate::sandbox::wire::{self, Message};
use crate::sys::{self, fs, process, terminal};

/// [`spec::Console`], opened.
#[derive(Debug)]
pub(super) enum Console {
    /// The pipes that init was started with, and /dev/null to read.
    Captured,
    /// The same pipes, and this one to read.
    Input(OwnedFd),
    /// The command's side of a terminal of this sandbox.
    Terminal(OwnedFd),
}

impl Console {
    /// Opens what `wanted` says, in the root of this process. The other side of a terminal is with the
    /// parent only when this returns.
    pub(super) fn open(
        wanted: spec::Console,
        socket: &UnixStream,
        input: Option<OwnedFd>,
    ) -> sys::Result<Self> {
        let spec::Console::Terminal { columns, rows } = wanted else {
            return Ok(input.map_or(Self::Captured, Self::Input));
        };
        let root = fs::open_directory(Path::new("/"))?;
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY;
        let master = fs::open_in_root(root, Path::new("/dev/pts/ptmx"), flags, 0)?;
        terminal::unlock(&master)?;
        let own = terminal::peer(&master)?;
        if (columns, rows) != (0, 0) {
            terminal::set_size(&own, columns, rows)?;
        }
        wire::send(socket, &Message::Terminal(master))?;
        Ok(Self::Terminal(own))
    }

    /// What pid 1 does with its side once the command is forked: the parent learns of the command if
    /// it watches one, and a terminal stays open, because it hangs up when nobody has it.
    pub(super) fn keep_alive(
        self,
        wanted: spec::Console,
        command: Pid,
        socket: &UnixStream,
    ) -> sys::Result<Option<OwnedFd>> {
        if wanted != spec::Console::Captured {
            wire::send(socket, &Message::Command(process::pidfd_open(command)?))?;
        }
        Ok(match self {
            Self::Terminal(own) => Some(own),
            Self::Captured | Self::Input(_) => None,
        })
    }

    /// Makes it the standard input, output and error of this process, which leads a session.
    pub(super) fn connect(&self, identity: &Identity) -> sys::Result<()> {
        let failed = |errno: Errno| sys::Error::new("dup2", "0", errno);
        match self {
            Self::Captured => {
                let root = fs::open_directory(Path::new("/"))?;
                let null = fs::open_in_root(root, Path::new("/dev/null"), OFlag::O_RDWR, 0)?;
                dup2_stdin(&null).map_err(failed)?;
            }
            Self::Input(input) => {
                dup2_stdin(input).map_err(failed)?;
                drop(fs::chown(input, identity.uid, identity.gid));
            }
            Self::Terminal(own) => {
                terminal::make_controlling(own)?;
                dup2_stdin(own).map_err(failed)?;
                dup2_stdout(own).map_err(failed)?;
                dup2_stderr(own).map_err(failed)?;
                // Its group is that of terminals.
                let group = fs::stat(own)?.st_gid;
                drop(fs::chown(own.as_fd(), identity.uid, group));
                return Ok(());
            }
        }
        // /dev/stdout opens the pipe anew, with a look at its owner. Not every kernel lets it be changed.
        drop(fs::chown(io::stdout(), identity.uid, identity.gid));
        drop(fs::chown(io::stderr(), identity.uid, identity.gid));
        Ok(())
    }
}
