//! The program `git`, run so that neither the user's configuration nor a repository steers it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::authorization::Authorization;
use crate::reach;

/// More than git says in an error or lists of a reference.
const MOST_OUTPUT: usize = 1 << 20;
const LONGEST_MESSAGE: usize = 1000;

/// Settings for every command. Hooks, monitors and helpers are programs; attribute files and line ends
/// of the host would change what is checked out; a server that sends nothing is given up.
const SETTINGS: [(&str, &str); 11] = [
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.attributesFile", "/dev/null"),
    ("core.autocrlf", "false"),
    ("core.symlinks", "true"),
    ("credential.helper", ""),
    ("init.defaultBranch", "master"),
    ("advice.detachedHead", "false"),
    ("gc.auto", "0"),
    ("http.lowSpeedLimit", "1"),
    ("http.lowSpeedTime", "60"),
];

/// What of rbuild's own environment git needs: where programs are, and the way to servers.
const INHERITED: [&str; 14] = [
    "PATH",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "GIT_SSL_CAINFO",
    "GIT_SSL_CAPATH",
    "TMPDIR",
];

/// How one repository's commands are run.
pub(super) struct Program<'a> {
    /// An empty directory that stands for the user's home.
    pub(super) home: PathBuf,
    /// Settings besides [`SETTINGS`]; they reach git through its environment, which only this user
    /// can read, and no file.
    pub(super) settings: Vec<(String, String)>,
    /// What must not appear in a message.
    pub(super) secret: Option<Authorization>,
    /// Whether ssh may ask the user's agent.
    pub(super) agent: bool,
    /// Ends the commands when it is hung up.
    pub(super) stop: BorrowedFd<'a>,
}

/// Why a command gave nothing.
#[derive(Debug)]
pub(super) enum Failure {
    Start(io::Error),
    Stopped,
    /// It ended with an error and said this.
    Failed(String),
}

/// Whether there is a `git` in `PATH`.
pub(crate) fn is_installed() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| {
        let program = directory.join("git");
        nix::unistd::access(&program, nix::unistd::AccessFlags::X_OK).is_ok() && program.is_file()
    })
}

impl Program<'_> {
    /// Runs `git ARGUMENTS` in `directory` and returns what it printed. Transports but `protocols`
    /// (`https:ssh`) are off, those that name a program or a file of the host among them.
    pub(super) fn run(
        &self,
        directory: &Path,
        protocols: &str,
        arguments: &[&str],
    ) -> Result<String, Failure> {
        let mut child = self
            .command(directory, protocols, arguments)
            .spawn()
            .map_err(Failure::Start)?;
        let gathered = gather(&mut child, self.stop);
        if gathered.is_err() {
            // Its helpers are in its group.
            let group = i32::try_from(child.id()).expect("process ids are positive ints");
            let _has_ended = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
        let status = child.wait().map_err(Failure::Start)?;
        let (out, err) = gathered?;
        if status.success() {
            Ok(String::from_utf8_lossy(&out).into_owned())
        } else {
            Err(Failure::Failed(
                self.message(&String::from_utf8_lossy(&err), status),
            ))
        }
    }

    fn command(&self, directory: &Path, protocols: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("git");
        command
            .args(arguments)
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .env_clear();
        for name in INHERITED {
            // What goes around a proxy goes around the check of addresses.
            if reach::is_restricted() && name.eq_ignore_ascii_case("NO_PROXY") {
                continue;
            }
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        // No repository above the scratch space is found by accident.
        let ceiling = self.home.parent().unwrap_or(&self.home);
        command
            .env("HOME", &self.home)
            .env("XDG_CONFIG_HOME", &self.home)
            .env("LC_ALL", "C")
            .env("GIT_CEILING_DIRECTORIES", ceiling)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ALLOW_PROTOCOL", protocols)
            .env("GIT_SSH_VARIANT", "ssh")
            .env("GIT_SSH_COMMAND", ssh_command());
        if let Some(socket) = std::env::var_os("SSH_AUTH_SOCK").filter(|_| self.agent) {
            command.env("SSH_AUTH_SOCK", socket);
        }
        let own = self.settings.iter().map(|(k, v)| (k.as_str(), v.as_str()));
        let mut count = 0;
        for (key, value) in SETTINGS.into_iter().chain(own) {
            command.env(format!("GIT_CONFIG_KEY_{count}"), key);
            command.env(format!("GIT_CONFIG_VALUE_{count}"), value);
            count += 1;
        }
        command.env("GIT_CONFIG_COUNT", count.to_string());
        command
    }

    /// What git complained about, on one line and without what a terminal would act upon.
    fn message(&self, text: &str, status: std::process::ExitStatus) -> String {
        let is_complaint = |line: &&str| {
            [
                "fatal: ",
                "error: ",
                "remote: ",
                "ssh: ",
                "Host key",
                "Permission denied",
            ]
            .iter()
            .any(|start| line.starts_with(start))
        };
        let mut lines: Vec<&str> = text.lines().filter(is_complaint).collect();
        if lines.is_empty() {
            lines.extend(text.lines().rfind(|line| !line.trim().is_empty()));
        }
        let mut message = lines.join("; ").replace("fatal: ", "");
        if let Some(secret) = &self.secret {
            message = secret.redact(&message);
        }
        message.retain(|char| !char.is_control());
        if message.is_empty() {
            message = status.to_string();
        }
        message.chars().take(LONGEST_MESSAGE).collect()
    }
}

/// ssh without the configuration of anybody, which here could not be read anyway: root of the build's
/// user namespace owns the process, so that ssh takes `/root` for the user's home. Servers must be
/// known to the user.
fn ssh_command() -> OsString {
    let mut command = OsString::from(
        "ssh -F none -o BatchMode=yes -o StrictHostKeyChecking=yes -o ConnectTimeout=30",
    );
    if let Some(home) = std::env::var_os("HOME").filter(|home| is_plain(home)) {
        command.push(" -o UserKnownHostsFile=");
        command.push(home);
        command.push("/.ssh/known_hosts");
    }
    command
}

/// Whether neither a shell nor ssh finds anything to interpret in the path.
fn is_plain(path: &OsStr) -> bool {
    path.as_encoded_bytes()
        .iter()
        .all(|byte| byte.is_ascii_alphanumeric() || b"/._-".contains(byte))
}

/// Reads both outputs to their ends.
fn gather(child: &mut Child, stop: BorrowedFd<'_>) -> Result<(Vec<u8>, Vec<u8>), Failure> {
    let mut out = child.stdout.take();
    let mut err = child.stderr.take();
    let (mut out_bytes, mut err_bytes) = (Vec::new(), Vec::new());
    let mut buffer = [0; 8192];
    loop {
        let mut fds = vec![PollFd::new(stop, PollFlags::empty())];
        let sources: Vec<BorrowedFd<'_>> =
            [out.as_ref().map(AsFd::as_fd), err.as_ref().map(AsFd::as_fd)]
                .into_iter()
                .flatten()
                .collect();
        if sources.is_empty() {
            return Ok((out_bytes, err_bytes));
        }
        fds.extend(sources.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)));
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(Failure::Start(errno.into())),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect();
        if ready[0] {
            return Err(Failure::Stopped);
        }
        let mut ready = ready[1..].iter().copied();
        if out.is_some() && ready.next() == Some(true) {
            read_some(&mut out, &mut out_bytes, &mut buffer)?;
        }
        if err.is_some() && ready.next() == Some(true) {
            read_some(&mut err, &mut err_bytes, &mut buffer)?;
        }
    }
}

/// Keeps the first [`MOST_OUTPUT`] bytes; closes `source` at its end.
fn read_some<R: io::Read>(
    source: &mut Option<R>,
    bytes: &mut Vec<u8>,
    buffer: &mut [u8],
) -> Result<(), Failure> {
    let Some(open) = source else { return Ok(()) };
    match open.read(buffer) {
        Ok(0) => *source = None,
        Ok(count) => {
            let room = MOST_OUTPUT.saturating_sub(bytes.len());
            bytes.extend_from_slice(&buffer[..count.min(room)]);
        }
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
        Err(error) => return Err(Failure::Start(error)),
    }
    Ok(())
}
