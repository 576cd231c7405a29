//! `rbuild tag`, `rbuild image tag`.

use std::path::Path;

use clap::Args;

use super::report::chain;
use super::{Exit, stored};
use crate::{build, image};

#[derive(Debug, Args)]
pub(super) struct TagArgs {
    /// Name or id of an image
    #[arg(value_name = "IMAGE")]
    source: String,
    /// Its new name, NAME[:TAG]
    #[arg(value_name = "NAME")]
    target: String,
}

/// Runs `rbuild tag`; says nothing when it is done.
pub(super) fn run(arguments: &TagArgs, root: &Path) -> Exit {
    let target = match build::parse_reference(&arguments.target) {
        Ok(target) if target.digest().is_none() => target,
        Ok(_) => return stored::usage("refusing to create a tag with a digest reference"),
        Err(error) => return stored::usage(&chain(&error)),
    };
    let (view, images) = match stored::images(root) {
        Ok(found) => found,
        Err(exit) => return exit,
    };
    let found = image::find(&images, &arguments.source);
    let (image, view) = match (found, view) {
        (Ok(image), Some(view)) => (image, view),
        (Err(error), _) => return stored::fail(&error),
        (Ok(_), None) => return Exit::Failed,
    };
    match view.set_tags(&[target], image.meant(&arguments.source)) {
        Ok(()) => Exit::Success,
        Err(error) => stored::fail(&error),
    }
}
