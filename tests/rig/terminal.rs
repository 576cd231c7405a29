//! A terminal with rbuild in its foreground, and the test at its keys.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{Winsize, openpty};

/// Nothing that a test waits for takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Terminal {
    master: File,
    /// Kept open, so that the modes of the terminal can be asked for at any time.
    slave: File,
    child: Child,
    pub(crate) screen: String,
}

/// `program ARGUMENTS COMMAND`: `command` started by another program.
pub(crate) fn started_by(program: &[&str], command: &Command) -> Command {
    let mut outer = Command::new(program[0]);
    outer
        .args(&program[1..])
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    if let Some(directory) = command.get_current_dir() {
        outer.current_dir(directory);
    }
    outer
}

/// `command`, ended after two minutes.
pub(crate) fn bounded(command: &Command) -> Command {
    started_by(&["timeout", "-k", "5", "120"], command)
}

impl Terminal {
    /// Starts `command` as the leader of a session with a new terminal.
    pub(crate) fn start(command: &Command, columns: u16, rows: u16) -> Self {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = openpty(&size, None).unwrap();
        let slave = File::from(pty.slave);
        let stdio = || Stdio::from(slave.try_clone().unwrap());
        let child = started_by(&["setsid", "-c", "-w"], command)
            .stdin(stdio())
            .stdout(stdio())
            .stderr(stdio())
            .spawn()
            .unwrap();
        Self {
            master: File::from(pty.master),
            slave,
            child,
            screen: String::new(),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn type_keys(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    /// Reads the screen until `text` is on it.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.screen.contains(text) {
            if Instant::now() > deadline {
                drop(self.child.kill());
                panic!("{text:?} did not come:\n{}", self.screen);
            }
            self.read();
        }
    }

    /// Forgets what is on the screen.
    pub(crate) fn clear(&mut self) {
        self.screen.clear();
    }

    /// Waits for the end of the command; its exit code, `None` when a signal ended it.
    #[track_caller]
    pub(crate) fn end(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.read();
            if let Some(status) = self.child.try_wait().unwrap() {
                self.read();
                return status.code();
            }
            if Instant::now() > deadline {
                drop(self.child.kill());
                panic!("the command did not end:\n{}", self.screen);
            }
        }
    }

    /// What stty(1) does with this terminal.
    pub(crate) fn stty(&self, arguments: &[&str]) -> String {
        let path = nix::unistd::ttyname(&self.slave).unwrap();
        let output = Command::new("stty")
            .arg("-F")
            .arg(path)
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn read(&mut self) {
        let mut polled = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
        if poll(&mut polled, PollTimeout::from(100u8)).unwrap_or(0) == 0 {
            return;
        }
        let mut buffer = [0; 4096];
        if let Ok(length) = self.master.read(&mut buffer) {
            self.screen
                .push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
