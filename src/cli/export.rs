//! `rbuild export`: the root file system of an image.

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};

use clap::Args;

use super::report::{self, Report, causes_of};
use super::session::{self, Session};
use super::{Exit, failure, platform, run};
use crate::build::container::{self, Pull};
use crate::build::request::Destination;
use crate::build::{Error, StepError, flat};
use crate::oci::Platform;
use crate::progress::Mode;

#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// Where to: a directory, a file whose name ends in .tar, or - for an archive on standard output
    #[arg(short, long, value_name = "PATH", default_value = "-")]
    output: PathBuf,
    /// The image to take from an index [default: this machine's]
    #[arg(long, value_name = "PLATFORM", value_parser = platform::parse)]
    platform: Option<Platform>,
    /// A name, an id or the beginning of one; pulled if it is not in the store
    #[arg(value_name = "IMAGE")]
    image: String,
}

#[derive(Debug, PartialEq, Eq)]
enum Place {
    Tar(Destination),
    Directory(PathBuf),
}

/// What `-o` means; `is_file` and `is_terminal` say what is there.
fn place(path: &Path, is_file: bool, is_terminal: bool) -> Result<Place, String> {
    if path.as_os_str() == "-" {
        if is_terminal {
            return Err(
                "an archive is not written to a terminal: -o names a file or a directory"
                    .to_owned(),
            );
        }
        return Ok(Place::Tar(Destination::Stdout));
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if name.ends_with(".tar") && !path.is_dir() {
        return Ok(Place::Tar(Destination::File(path.to_owned())));
    }
    let compressed = [".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".tar.bz2"];
    if compressed.iter().any(|suffix| name.ends_with(suffix)) {
        return Err(format!(
            "{}: the archive is not compressed; its name ends in .tar, or -o - goes to a program",
            path.display()
        ));
    }
    if is_file {
        return Err(format!(
            "{} is a file, and the name of an archive ends in .tar",
            path.display()
        ));
    }
    Ok(Place::Directory(path.to_owned()))
}

/// Runs `rbuild export`.
pub(super) fn run(arguments: &ExportArgs, root: &Path) -> Exit {
    let is_file = arguments.output.is_file();
    let place = match place(&arguments.output, is_file, io::stdout().is_terminal()) {
        Ok(place) => place,
        Err(message) => {
            report::print_error(&message);
            return Exit::Usage;
        }
    };
    let session = match session::start(root, Mode::Quiet) {
        Ok(session) => session,
        Err(exit) => return exit,
    };
    let exported = export(&session, arguments, &place);
    let single_reason = session.single_reason.clone();
    session.finish();
    session::exit(match exported {
        Ok(()) => Exit::Success,
        Err(error) => {
            let (help, exit) = match &error {
                Failure::Image(error) => failure::advise(error, single_reason.as_deref()),
                Failure::Write(_) => (None, Exit::Failed),
            };
            report::print(&Report {
                title: format!("cannot export {}: {error}", arguments.image),
                causes: causes_of(&error),
                help,
                ..Report::default()
            });
            exit
        }
    })
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Image(#[from] StepError),
    #[error(transparent)]
    Write(#[from] Error),
}

fn export(session: &Session, arguments: &ExportArgs, place: &Place) -> Result<(), Failure> {
    let store = &session.store;
    let host = Platform::host();
    let platform = arguments.platform.as_ref().unwrap_or(&host);
    let image = &arguments.image;
    let found = container::find(store, image, Pull::Missing, platform, &session.cancel)?;
    let snapshot = run::files(session, &found, false)?;
    match place {
        Place::Tar(destination) => flat::tar(store, &snapshot, destination, None)?,
        Place::Directory(path) => flat::directory(store, &snapshot, path)?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_says_what_is_written() {
        let named = |text: &str| place(Path::new(text), false, false);
        let file = |text: &str| Ok(Place::Tar(Destination::File(text.into())));
        assert_eq!(named("-"), Ok(Place::Tar(Destination::Stdout)));
        assert_eq!(named("/no/a.tar"), file("/no/a.tar"));
        assert_eq!(named("/no/a"), Ok(Place::Directory("/no/a".into())));
        assert!(named("/no/a.tar.gz").is_err());
        assert!(place(Path::new("-"), false, true).is_err());
        assert!(place(Path::new("a"), true, false).is_err());
    }
}
