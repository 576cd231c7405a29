//! The init room: entered by exec with argv[0] [`NAME`], builds a sandbox from a `Spec` and runs one
//! command in it. It interprets, it decides nothing.

use std::process::ExitCode;

/// The argv[0] that leads here.
pub(crate) const NAME: &str = "rbuild-init";

/// Reads the `Spec` from standard input, runs its command and reports on the same socket.
pub(crate) fn main() -> ExitCode {
    todo!()
}
