//! `rbuild save`, `rbuild image save`.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use clap::Args;

use super::report::print_error;
use super::{Exit, platform, stored};
use crate::build::archive;
use crate::build::export::{self, Bundle, ImageBlobs};
use crate::build::request::Destination;
use crate::image::{self, Image, Tree};
use crate::oci::{Platform, Reference, parse_reference};
use crate::store::{REF_NAME, View};

#[derive(Debug, Args)]
pub(super) struct SaveArgs {
    /// Names or ids of images
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
    /// Save only these platforms of an index, OS/ARCH[/VARIANT] with commas between them; repeatable
    #[arg(long = "platform", value_name = "PLATFORM")]
    platforms: Vec<String>,
    /// Write to a file, not to standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Runs `rbuild save`: one archive, an OCI layout that docker reads as its own too.
pub(super) fn run(arguments: &SaveArgs, root: &Path) -> Exit {
    let platforms = match platform::parse_several(&arguments.platforms) {
        Ok(platforms) => platforms,
        Err(message) => return stored::usage(&message),
    };
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
    let Some(view) = view else {
        return match image::find(&[], &arguments.images[0]) {
            Err(error) => stored::fail(&error),
            Ok(_) => Exit::Failed,
        };
    };
    let mut chosen: Vec<(Bundle, Vec<Reference>)> = Vec::new();
    for text in &arguments.images {
        let found = image::find(&images, text).and_then(|image| {
            let bundle = bundle(&view, &image, text, &platforms)?;
            Ok((bundle, image))
        });
        match found {
            Ok((bundle, image)) => add(&mut chosen, bundle, &image, text),
            Err(error) => return stored::fail(&error),
        }
    }
    let open = &|digest: &_| view.open_blob(digest);
    let written = export::to_destination(&destination, |out| {
        archive::write(open, &chosen, out, &mut |_| {})
            .map_err(|source| export::Error::of_archive(&destination, source))
    });
    match written {
        Ok(()) => Exit::Success,
        Err(error) => stored::fail(&error),
    }
}

/// What is saved of `text`: all of an index that the store has, or with one of `platforms` that image,
/// or with several the index with those.
fn bundle(
    view: &View,
    image: &Image,
    text: &str,
    platforms: &[Platform],
) -> Result<Bundle, image::Error> {
    let mut tree = Tree::read(view, image.meant(text))?;
    match platforms {
        [] if tree.parts.is_empty() => {
            return Err(image::Error::Incomplete {
                name: text.to_owned(),
            });
        }
        [] => {}
        [only] => {
            let part = tree.choose(text, only)?.clone();
            tree.top = part.manifest.clone();
            tree.indexes.clear();
            tree.parts = vec![part];
        }
        several => {
            let chosen = several.iter().map(|one| tree.choose(text, one).cloned());
            tree.parts = chosen.collect::<Result<_, _>>()?;
        }
    }
    let blobs = |part: image::Part| ImageBlobs {
        manifest: part.manifest,
        config: part.config,
        layers: part.layers,
    };
    Ok(Bundle {
        top: tree.top,
        indexes: tree.indexes,
        images: tree.parts.into_iter().map(blobs).collect(),
    })
}

/// An image that is asked for by a name is saved with that one, one by its id without; and so is the one
/// image that was pulled of an index by the index's digest, which is not its own.
fn add(chosen: &mut Vec<(Bundle, Vec<Reference>)>, mut bundle: Bundle, image: &Image, text: &str) {
    let wanted = parse_reference(text).ok().filter(|wanted| {
        let whole = wanted.whole();
        let digest = wanted.digest();
        digest.is_none_or(|digest| digest == bundle.top.digest.as_str())
            && image.names.iter().any(|name| name.whole == whole)
    });
    // The name in the store says nothing to who loads it.
    bundle.top.annotations.remove(REF_NAME);
    let there = chosen
        .iter_mut()
        .find(|(there, _)| there.top.digest == bundle.top.digest);
    match there {
        Some((_, names)) => {
            names.extend(wanted.filter(|wanted| !names.contains(wanted)));
        }
        None => chosen.push((bundle, wanted.into_iter().collect())),
    }
}
