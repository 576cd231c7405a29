//! `rbuild import`: a root file system becomes a base image.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;

use super::epoch;
use super::report::{Report, causes_of, chain, print, print_error};
use super::{Exit, failure, session};
use crate::build;
use crate::progress::Mode;

#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// Tar archive of a root file system (plain, gzip, zstd, xz or bzip2), or - for stdin
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Name of the image, NAME[:TAG]
    #[arg(value_name = "NAME")]
    name: String,
}

/// Runs `rbuild import`; the last line of stdout is the image's id.
pub(super) fn run(arguments: &ImportArgs, root: &Path) -> Exit {
    let name = match build::parse_reference(&arguments.name) {
        Ok(name) if name.digest().is_none() => name,
        Ok(_) => {
            print_error(&format!(
                "{:?} names a digest, which import cannot choose",
                arguments.name
            ));
            return Exit::Usage;
        }
        Err(error) => {
            print_error(&chain(&error));
            return Exit::Usage;
        }
    };
    let epoch = match epoch::of_environment() {
        Ok(epoch) => epoch,
        Err(message) => {
            print_error(&message);
            return Exit::Usage;
        }
    };
    let shown = arguments.file.display().to_string();
    let mut tar: Box<dyn Read> = if shown == "-" {
        Box::new(io::stdin().lock())
    } else {
        match File::open(&arguments.file) {
            Ok(file) => Box::new(file),
            Err(error) => {
                print_error(&format!("cannot open {shown}: {error}"));
                return Exit::Failed;
            }
        }
    };
    let session = match session::start(root, Mode::Quiet) {
        Ok(session) => session,
        Err(exit) => return exit,
    };
    let imported = build::import::import(&session.store, &mut tar, &shown, &name, epoch);
    let single_reason = session.single_reason.clone();
    session.finish();
    session::exit(match imported {
        Ok(id) if writeln!(io::stdout(), "{id}").is_ok() => Exit::Success,
        Ok(_) => Exit::Failed,
        Err(error) => {
            let title = format!("cannot import {shown}: {error}");
            let (help, exit) = failure::advise(&error, single_reason.as_deref());
            print(&Report {
                title,
                causes: causes_of(&error),
                help,
                ..Report::default()
            });
            exit
        }
    })
}
