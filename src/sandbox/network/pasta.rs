//! pasta(1): passes on what leaves a network namespace, with ordinary sockets of the invoking user.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, ExitStatus};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::Signal;

use super::{OUT, OUT_DEVICE, PASTA, PREFIX, RESOLVER};
use crate::sandbox::userns;

/// The argv[0] with which this program becomes pasta, after it has seen to it that it dies with its
/// parent.
pub(crate) const PASTA_NAME: &str = "rbuild-pasta";

/// How long pasta may take to begin, in milliseconds; it takes some tens of them.
const PATIENCE: u16 = 20_000;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("pasta is not installed (it is in the package passt)")]
    NotInstalled,
    #[error("pasta cannot make a network device: /dev/net/tun")]
    Tun(#[source] io::Error),
    #[error("cannot start pasta")]
    Start(#[source] io::Error),
    #[error("pasta did not begin within {} seconds{}", PATIENCE / 1000, after(said))]
    Slow { said: String },
    #[error("pasta ended before the network was there ({status}){}", after(said))]
    NotReady { status: ExitStatus, said: String },
    #[error("pasta ended before the command did ({status}){}", after(said))]
    Gone { status: ExitStatus, said: String },
}

fn after(text: &str) -> String {
    match text.trim() {
        "" => String::new(),
        text => format!(": {}", text.replace('\n', "; ")),
    }
}

/// Why there can be no isolated network here, without trying it.
pub(crate) fn obstacle() -> Option<Error> {
    if userns::find_helper("pasta").is_none() {
        return Some(Error::NotInstalled);
    }
    let tun = File::options().read(true).write(true).open("/dev/net/tun");
    tun.err().map(Error::Tun)
}

/// What pasta is told. Each option that lets something in or maps an address of the host is off.
fn options() -> Vec<String> {
    let fixed = [
        "--foreground",
        "--quiet",
        "--ipv4-only",
        // Addresses and routes are set, not served.
        "--config-net",
        "--no-dhcp",
        "--no-dhcpv6",
        "--no-ndp",
        "--no-ra",
        // The gateway's address is otherwise another name of the host's loopback.
        "--no-map-gw",
        // No port of the host leads in, and none of the namespace to the host's loopback.
        "--tcp-ports",
        "none",
        "--udp-ports",
        "none",
        "--tcp-ns",
        "none",
        "--udp-ns",
        "none",
        "--no-netns-quit",
        // The only descriptors that every version leaves open are the first three.
        "--netns",
        "/proc/self/fd/0",
        "--pid",
        "/proc/self/fd/1",
        "--ns-ifname",
        OUT_DEVICE,
    ];
    let chosen = [
        ("--address", OUT.to_string()),
        ("--netmask", PREFIX.to_string()),
        ("--gateway", PASTA.to_string()),
        ("--dns-forward", RESOLVER.to_string()),
    ];
    let chosen = chosen
        .into_iter()
        .flat_map(|(name, value)| [name.to_owned(), value]);
    fixed.map(str::to_owned).into_iter().chain(chosen).collect()
}

/// A pasta that has begun.
#[derive(Debug)]
pub(super) struct Pasta {
    child: Child,
    complaints: File,
}

impl Pasta {
    /// Starts pasta for the network namespace `namespace` and waits until its device is there.
    pub(super) fn start(namespace: &File) -> Result<Self, Error> {
        let program = userns::find_helper("pasta").ok_or(Error::NotInstalled)?;
        let (ready, is_ready) = io::pipe().map_err(Error::Start)?;
        let (complaints, complains) = io::pipe().map_err(Error::Start)?;
        // Nobody reads before the end, and it must not wait for that.
        fcntl(&complains, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
            .map_err(|errno| Error::Start(errno.into()))?;
        let child = Command::new("/proc/self/exe")
            .arg0(PASTA_NAME)
            .arg(program)
            .args(options())
            .env_clear()
            .current_dir("/")
            .process_group(0)
            .stdin(namespace.try_clone().map_err(Error::Start)?)
            .stdout(is_ready)
            .stderr(complains)
            .spawn()
            .map_err(Error::Start)?;
        let mut pasta = Self {
            child,
            complaints: File::from(OwnedFd::from(complaints)),
        };
        pasta.wait(File::from(OwnedFd::from(ready)))?;
        Ok(pasta)
    }

    /// Waits for the process id, which pasta writes when everything is set up.
    fn wait(&mut self, mut ready: File) -> Result<(), Error> {
        let mut polled = [PollFd::new(ready.as_fd(), PollFlags::POLLIN)];
        let count = loop {
            match poll(&mut polled, PollTimeout::from(PATIENCE)) {
                Err(nix::errno::Errno::EINTR) => {}
                other => break other.map_err(|errno| Error::Start(errno.into()))?,
            }
        };
        if count == 0 {
            let said = self.kill().map_err(Error::Start)?.1;
            return Err(Error::Slow { said });
        }
        let mut text = [0; 32];
        let length = ready.read(&mut text).map_err(Error::Start)?;
        if text[..length].first().is_some_and(u8::is_ascii_digit) {
            return Ok(());
        }
        if length == 0 {
            // It has closed its end by ending.
            self.child.wait().map_err(Error::Start)?;
        }
        let (status, said) = self.kill().map_err(Error::Start)?;
        Err(Error::NotReady { status, said })
    }

    /// Ends pasta; an error if it had ended before.
    pub(super) fn end(&mut self) -> Result<(), Error> {
        let gone = self.child.try_wait().map_err(Error::Start)?;
        let (_, said) = self.kill().map_err(Error::Start)?;
        match gone {
            None => Ok(()),
            Some(status) => Err(Error::Gone { status, said }),
        }
    }

    /// Kills it if it still runs; how it ended, and what it had to say.
    fn kill(&mut self) -> io::Result<(ExitStatus, String)> {
        self.child.kill()?;
        let status = self.child.wait()?;
        let mut said = Vec::new();
        (&self.complaints).take(4096).read_to_end(&mut said)?;
        Ok((status, String::from_utf8_lossy(&said).into_owned()))
    }
}

impl Drop for Pasta {
    fn drop(&mut self) {
        // Both fail only when it is gone.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Becomes the program that `arguments` begin with, which dies with the thread that started this one.
pub(crate) fn main(mut arguments: impl Iterator<Item = std::ffi::OsString>) -> ExitCode {
    let Some(program) = arguments.next().map(PathBuf::from) else {
        return ExitCode::FAILURE;
    };
    if prctl::set_pdeathsig(Signal::SIGKILL).is_err() {
        return ExitCode::FAILURE;
    }
    // It tells by its name whether it is passt or pasta. What comes back is why it was not executed.
    drop(Command::new(program).arg0("pasta").args(arguments).exec());
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_let_in_and_nothing_of_the_host_is_mapped() {
        let options = options().join(" ");
        for wanted in [
            "--no-map-gw",
            "--tcp-ports none",
            "--udp-ports none",
            "--tcp-ns none",
            "--udp-ns none",
            "--ipv4-only",
        ] {
            assert!(options.contains(wanted), "{wanted}");
        }
    }

    #[test]
    fn what_pasta_says_is_one_line() {
        assert_eq!(after("a\nb\n"), ": a; b");
        assert_eq!(after(" \n"), "");
    }
}
