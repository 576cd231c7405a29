//! `rbuild save`, `rbuild image save`.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use clap::Args;

use super::report::print_error;
use super::{Exit, stored};
use crate::build::export::{self, ImageBlobs};
use crate::build::request::Destination;
use crate::image::{self, Image};
use crate::oci::{Reference, parse_reference};

#[derive(Debug, Args)]
pub(super) struct SaveArgs {
    /// Names or ids of images
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
    /// Write to a file, not to standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Runs `rbuild save`: one archive, an OCI layout that docker reads as its own too.
pub(super) fn run(arguments: &SaveArgs, root: &Path) -> Exit {
    let destination = match &arguments.output {
        Some(path) => Destination::File(path.clone()),
        None if std::io::stdout().is_terminal() => {
            print_error("cowardly refusing to save to a terminal. Use the -o flag or redirect");
            return Exit::Failed;
        }
        None => Destination::Stdout,
    };
    let (view, images) = match stored::images(root) {
        Ok(found) => found,
        Err(exit) => return exit,
    };
    let mut chosen: Vec<(ImageBlobs, Vec<Reference>)> = Vec::new();
    for text in &arguments.images {
        let image = match (image::find(&images, text), &view) {
            (Ok(image), Some(view)) => image.meant_by(view, text),
            (Ok(_), None) => return Exit::Failed,
            (Err(error), _) => Err(error),
        };
        match image {
            Ok(image) => add(&mut chosen, &image, text),
            Err(error) => return stored::fail(&error),
        }
    }
    let Some(view) = view else {
        return Exit::Failed;
    };
    let open = &|digest: &_| view.open_blob(digest);
    let written = export::to_destination(&destination, |out| {
        export::archive(open, &chosen, out, &mut |_| {})
            .map_err(|source| export::Error::of_archive(&destination, source))
    });
    match written {
        Ok(()) => Exit::Success,
        Err(error) => stored::fail(&error),
    }
}

/// An image that is asked for by a name is saved with that one, one by its id without.
fn add(chosen: &mut Vec<(ImageBlobs, Vec<Reference>)>, image: &Image, text: &str) {
    let wanted = parse_reference(text).ok().filter(|wanted| {
        let whole = wanted.whole();
        image.names.iter().any(|name| name.whole == whole)
    });
    let there = chosen
        .iter_mut()
        .find(|(blobs, _)| blobs.manifest.digest == image.manifest.digest);
    match there {
        Some((_, names)) => {
            names.extend(wanted.filter(|wanted| !names.contains(wanted)));
        }
        None => chosen.push((
            ImageBlobs {
                manifest: image.manifest.clone(),
                config: image.config_descriptor.clone(),
                layers: image.layers.clone(),
            },
            wanted.into_iter().collect(),
        )),
    }
}
