//! `rbuild import`: a root file system becomes a base image.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::Path;

use clap::Args;

use super::report::{Report, causes_of, chain, print, print_error};
use super::{Exit, epoch, failure, platform, session};
use crate::build::changes::Changes;
use crate::build::import::{self, Options};
use crate::build::{self, StepError};
use crate::oci::Platform;
use crate::progress::Mode;
use crate::remote::{Address, HttpAddress};

#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// Tar archive of a root file system (plain, gzip, zstd, xz or bzip2), its http(s):// address, or
    /// - for stdin
    #[arg(value_name = "FILE")]
    file: String,
    /// Name of the image, NAME[:TAG] [default: it has none]
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// A Dockerfile instruction for the image's configuration, such as CMD or ENV; repeatable
    #[arg(short, long = "change", value_name = "INSTRUCTION")]
    changes: Vec<String>,
    /// Comment in the image's history
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// What the image is for, OS/ARCH[/VARIANT] [default: this machine]
    #[arg(long, env = "DOCKER_DEFAULT_PLATFORM", value_name = "PLATFORM",
          value_parser = platform::parse)]
    platform: Option<Platform>,
}

enum Source {
    Stream(Box<dyn Read>),
    Address(HttpAddress),
}

impl ImportArgs {
    fn options(&self) -> Result<Options, String> {
        let name = match self.name.as_deref().map(build::parse_reference).transpose() {
            Ok(name) => name,
            Err(error) => return Err(chain(&error)),
        };
        if let Some(name) = &name
            && name.digest().is_some()
        {
            let name = name.whole();
            return Err(format!(
                "{name:?} names a digest, which import cannot choose"
            ));
        }
        let changes = Changes::parse(&self.changes).map_err(|error| error.to_string())?;
        Ok(Options {
            name,
            epoch: epoch::of_environment()?,
            platform: self.platform.clone().unwrap_or_else(Platform::host),
            changes,
            message: self.message.clone(),
        })
    }

    /// The archive, opened where it is here.
    fn source(&self) -> Result<Source, (Exit, String)> {
        if self.file == "-" {
            return Ok(Source::Stream(Box::new(io::stdin().lock())));
        }
        let text = Some(self.file.as_str()).filter(|text| text.contains("://"));
        match text.map(Address::parse).transpose() {
            Ok(Some(Some(Address::Http(address)))) => return Ok(Source::Address(address)),
            Ok(_) => {}
            Err(error) => return Err((Exit::Usage, error.to_string())),
        }
        match File::open(&self.file) {
            Ok(file) => Ok(Source::Stream(Box::new(file))),
            Err(error) => Err((Exit::Failed, format!("cannot open {}: {error}", self.file))),
        }
    }
}

/// Runs `rbuild import`; the last line of stdout is the image's id.
pub(super) fn run(arguments: &ImportArgs, root: &Path) -> Exit {
    let options = match arguments.options() {
        Ok(options) => options,
        Err(message) => {
            print_error(&message);
            return Exit::Usage;
        }
    };
    let source = match arguments.source() {
        Ok(source) => source,
        Err((exit, message)) => {
            print_error(&message);
            return exit;
        }
    };
    let session = match session::start(root, Mode::Quiet) {
        Ok(session) => session,
        Err(exit) => return exit,
    };
    let shown = match &source {
        Source::Stream(_) => arguments.file.clone(),
        Source::Address(address) => address.shown(),
    };
    let store = &session.store;
    let archive: Result<Box<dyn Read>, StepError> = match source {
        Source::Stream(stream) => Ok(stream),
        Source::Address(address) => import::fetch(store, &address, &session.cancel)
            .map(|file| Box::new(file) as Box<dyn Read>),
    };
    let imported = archive.and_then(|mut tar| import::import(store, &mut tar, &shown, &options));
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
