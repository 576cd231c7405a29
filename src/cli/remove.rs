//! `rbuild rmi`, `rbuild image rm`.

use std::path::Path;

use clap::Args;

use super::{Exit, stored};
use crate::image::{self, Action};
use crate::store::{self, View};

#[derive(Debug, Args)]
pub(super) struct RemoveArgs {
    /// Names or ids of images
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
    /// Also an image with several names by its id; what is missing is no failure
    #[arg(short, long)]
    force: bool,
}

/// Runs `rbuild rmi`. While a build runs, names are taken away and the bytes stay.
pub(super) fn run(arguments: &RemoveArgs, root: &Path) -> Exit {
    let ownership = match stored::enter() {
        Ok(ownership) => ownership,
        Err(exit) => return exit,
    };
    let mut shared = None;
    let exclusive = match stored::exclusive(root, &ownership) {
        Ok(exclusive) => exclusive,
        Err(store::Error::Busy { .. }) => {
            shared = match View::open(root) {
                Ok(view) => view,
                Err(error) => return stored::fail(&error),
            };
            None
        }
        Err(error) => return stored::fail(&error),
    };
    let view = exclusive.as_ref().map(store::Exclusive::view);
    let view = view.or(shared.as_ref());
    let mut exit = Exit::Success;
    for text in &arguments.images {
        let removed = match view {
            Some(view) => image::remove(view, exclusive.as_ref(), text, arguments.force),
            None => image::find(&[], text).map(|_| (Vec::new(), 0)),
        };
        match removed {
            Ok((actions, _)) => {
                let lines: String = actions.iter().map(line).collect();
                if stored::print(&lines) != Exit::Success {
                    return Exit::Failed;
                }
            }
            Err(error) => {
                let is_missing = matches!(error, image::Error::NotFound(_));
                let failed = stored::fail(&error);
                if !(is_missing && arguments.force) {
                    exit = failed;
                }
            }
        }
    }
    if shared.is_some() && exit == Exit::Success {
        stored::note(
            "a build is running: what only these images used is removed by the next rmi or \
             image prune",
        );
    }
    exit
}

fn line(action: &Action) -> String {
    match action {
        Action::Untagged(name) => format!("Untagged: {name}\n"),
        Action::Deleted(digest) => format!("Deleted: {digest}\n"),
    }
}
