//! What `pull`, `push` and `manifest` have in common: a name, a view of what is under way, an end.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;

use super::report::{Report, causes_of, chain, print, print_error};
use super::session::{self, Session};
use super::{Exit, failure};
use crate::build::{self, StepError};
use crate::oci::Reference;
use crate::progress::Mode;

/// Runs `work`, which `title` names (`Pulling`), with an open store. The live view is for terminals; elsewhere the lines that the
/// command prints at its end say what was done.
pub(super) fn run<T>(
    root: &Path,
    title: &'static str,
    quiet: bool,
    work: impl FnOnce(&Session) -> Result<T, StepError>,
    done: impl FnOnce(&T) -> Exit,
) -> Exit {
    let live = !quiet && std::io::stderr().is_terminal();
    let mode = match Mode::parse("auto") {
        Ok(Mode::Tty(_)) if live => Mode::Tty(title),
        Ok(mode) if live => mode,
        _ => Mode::Quiet,
    };
    let session = match session::start(root, mode) {
        Ok(session) => session,
        Err(exit) => return exit,
    };
    let result = work(&session);
    let single_reason = session.single_reason.clone();
    session.finish();
    session::exit(match result {
        Ok(value) => done(&value),
        Err(error) => {
            let (help, exit) = failure::advise(&error, single_reason.as_deref());
            print(&Report {
                title: error.to_string(),
                causes: causes_of(&error),
                help,
                ..Report::default()
            });
            exit
        }
    })
}

/// An image's name, or the error that says why it is none.
pub(super) fn parse_name(text: &str) -> Result<Reference, Exit> {
    build::parse_reference(text).map_err(|error| {
        print_error(&chain(&error));
        Exit::Usage
    })
}

/// Prints a result on standard output.
pub(super) fn print_result(line: &str) -> Exit {
    if writeln!(std::io::stdout(), "{line}").is_ok() {
        Exit::Success
    } else {
        Exit::Failed
    }
}

/// Prints a line about what was done. That stderr was closed fails nothing.
pub(super) fn say(line: &str) {
    drop(writeln!(std::io::stderr(), "{line}"));
}
