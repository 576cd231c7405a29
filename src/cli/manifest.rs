//! `rbuild manifest`: images for several platforms under one name.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::Exit;
use super::report::print_error;
use super::transfer::{self, parse_name, print_result};
use crate::build::{joined, push};
use crate::oci::Reference;

#[derive(Debug, Args)]
pub(super) struct ManifestArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make an index of images that are in the store or in registries
    Create {
        /// Name of the index, NAME[:TAG]
        name: String,
        /// The images, one for each platform
        #[arg(required = true)]
        images: Vec<String>,
    },
    /// Push an index and all of its images
    Push {
        /// Name of the index in the store
        name: String,
        /// Where to push it [default: to its name]
        destination: Option<String>,
        /// Write the index's digest to a file
        #[arg(long, value_name = "FILE")]
        digestfile: Option<PathBuf>,
    },
}

/// Runs `rbuild manifest`; the last line of stdout is the index's digest.
pub(super) fn run(arguments: &ManifestArgs, root: &Path) -> Exit {
    let done = match &arguments.command {
        Command::Create { name, images } => create(name, images, root),
        Command::Push {
            name,
            destination,
            digestfile,
        } => push(name, destination.as_deref(), digestfile.as_deref(), root),
    };
    done.unwrap_or_else(|exit| exit)
}

fn create(name: &str, images: &[String], root: &Path) -> Result<Exit, Exit> {
    let name = tagged(name)?;
    let images: Vec<Reference> = images
        .iter()
        .map(|image| parse_name(image))
        .collect::<Result<_, _>>()?;
    Ok(transfer::run(
        root,
        "Joining",
        false,
        |session| {
            joined::create(
                &session.store,
                &name,
                &images,
                &session.events,
                &session.cancel,
            )
        },
        |digest| print_result(digest.as_str()),
    ))
}

fn push(
    name: &str,
    destination: Option<&str>,
    digestfile: Option<&Path>,
    root: &Path,
) -> Result<Exit, Exit> {
    let name = parse_name(name)?;
    let to = match destination {
        Some(text) => tagged(text.strip_prefix("docker://").unwrap_or(text))?,
        None => name.clone(),
    };
    Ok(transfer::run(
        root,
        "Pushing",
        false,
        |session| {
            push::push(
                &session.store,
                &name,
                &to,
                None,
                &session.events,
                &session.cancel,
            )
        },
        |pushed| {
            if let Some(path) = digestfile
                && let Err(error) = std::fs::write(path, pushed.digest.to_string())
            {
                print_error(&format!("cannot write {}: {error}", path.display()));
                return Exit::Failed;
            }
            print_result(pushed.digest.as_str())
        },
    ))
}

fn tagged(text: &str) -> Result<Reference, Exit> {
    let name = parse_name(text)?;
    if name.digest().is_some() {
        print_error(&format!("{text:?} names a digest, which cannot be chosen"));
        return Err(Exit::Usage);
    }
    Ok(name)
}
