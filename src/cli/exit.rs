//! What the exit code of rbuild says.

use std::process::ExitCode;

/// Why rbuild ends. The numbers are part of its interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Everything asked for was done.
    Success,
    /// The build, or another operation, failed.
    Failed,
    /// The command line cannot be understood; clap uses the same number.
    Usage,
    /// This host lacks something that rbuild needs, which the message names.
    Host,
    /// The user interrupted: 128 + SIGINT, as shells report it.
    Interrupted,
    /// What the command of `rbuild run` ended with, or 125 to 127 as docker has them.
    Command(u8),
}

impl Exit {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Host => 3,
            Self::Interrupted => 130,
            Self::Command(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
