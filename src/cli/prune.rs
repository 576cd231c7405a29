//! `rbuild image prune` and `rbuild builder prune`.

use std::path::Path;
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};
use jiff::Timestamp;

use super::{Exit, human, stored};
use crate::dockerfile::parse_size;
use crate::image::{self, Action, CacheLimits};
use crate::store::Exclusive;

#[derive(Debug, Args)]
pub(super) struct PruneArgs {
    /// Every image, not only those without a name
    #[arg(short, long)]
    all: bool,
    /// Ask nothing
    #[arg(short, long)]
    force: bool,
    /// until=TIME or DURATION, label=, label!=; repeatable
    #[arg(long = "filter", value_name = "FILTER")]
    filters: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct SystemPruneArgs {
    /// Every image, and all of the cache
    #[arg(short, long)]
    all: bool,
    /// Ask nothing
    #[arg(short, long)]
    force: bool,
    /// until=TIME or DURATION; repeatable
    #[arg(long = "filter", value_name = "FILTER")]
    filters: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(super) enum BuilderCommand {
    /// Remove from the cache, the least recently used first
    Prune(CachePruneArgs),
    /// Show what the store takes
    Du,
    /// Build an image from a Dockerfile
    Build(Box<super::build::BuildArgs>),
}

#[derive(Debug, Args)]
pub(super) struct CachePruneArgs {
    /// Also the unpacked layers of images, which are unpacked again when they are needed
    #[arg(short, long)]
    all: bool,
    /// Ask nothing
    #[arg(short, long)]
    force: bool,
    /// Bytes that may stay, as in 10GB
    #[arg(
        long,
        visible_aliases = ["max-used-space", "reserved-space"],
        value_name = "SIZE",
        value_parser = parse_bytes
    )]
    keep_storage: Option<u64>,
    /// until=DURATION: only what was not used for so long
    #[arg(long = "filter", value_name = "FILTER")]
    filters: Vec<String>,
}

fn parse_bytes(text: &str) -> Result<u64, String> {
    parse_size(text).ok_or_else(|| format!("{text:?} is not a size such as 10GB"))
}

/// Runs `rbuild image prune`.
pub(super) fn run(arguments: &PruneArgs, root: &Path) -> Exit {
    let now = Timestamp::now();
    let filters = match stored::filters(&arguments.filters, "until, label, label!", now) {
        Ok(filters) => filters,
        Err(exit) => return exit,
    };
    let warning = if arguments.all {
        "This will remove all images"
    } else {
        "This will remove all dangling images"
    };
    let pruned = match open(root, arguments.force, warning) {
        Ok(Some(store)) => image::prune(&store, arguments.all, &filters),
        Ok(None) => Ok((Vec::new(), 0)),
        Err(exit) => return exit,
    };
    match pruned {
        Ok((actions, freed)) => {
            let lines: Vec<String> = actions.iter().map(line).collect();
            summary(&[("Deleted Images", &lines)], freed)
        }
        Err(error) => stored::fail(&error),
    }
}

/// The store for removing, `None` when there is none, once the user agrees. `Err` holds the end of the
/// command, which is a success when the user does not.
fn open(root: &Path, force: bool, warning: &str) -> Result<Option<Exclusive>, Exit> {
    if !stored::confirm(force, warning)? {
        return Err(Exit::Success);
    }
    let ownership = stored::enter()?;
    stored::exclusive(root, &ownership).map_err(|error| stored::fail(&error))
}

/// Runs `rbuild system prune`: of what docker's has, images and the cache. Volumes, containers and
/// networks do not exist.
pub(super) fn run_system(arguments: &SystemPruneArgs, root: &Path) -> Exit {
    let now = Timestamp::now();
    let filters = match stored::filters(&arguments.filters, "until", now) {
        Ok(filters) => filters,
        Err(exit) => return exit,
    };
    let mut limits = CacheLimits {
        all: arguments.all,
        ..CacheLimits::default()
    };
    for text in &arguments.filters {
        let value = text.split_once('=').map_or("", |(_, value)| value);
        limits.unused_since = match unused_since(value, now) {
            Ok(time) => Some(time),
            Err(exit) => return exit,
        };
    }
    let what = if arguments.all {
        ["all images", "all build cache"]
    } else {
        ["all dangling images", "unused build cache"]
    };
    let warning = format!("This will remove:\n  - {}\n  - {}\n", what[0], what[1]);
    let done = match open(root, arguments.force, &warning) {
        Ok(Some(store)) => {
            image::prune(&store, arguments.all, &filters).and_then(|(actions, freed)| {
                let cache = image::prune_cache(&store, &limits)?;
                Ok((actions, cache.names, freed + cache.bytes))
            })
        }
        Ok(None) => Ok((Vec::new(), Vec::new(), 0)),
        Err(exit) => return exit,
    };
    match done {
        Ok((actions, cache, freed)) => {
            let images: Vec<String> = actions.iter().map(line).collect();
            let parts = [
                ("Deleted Images", images.as_slice()),
                ("Deleted build cache objects", &cache),
            ];
            summary(&parts, freed)
        }
        Err(error) => stored::fail(&error),
    }
}

fn unused_since(value: &str, now: Timestamp) -> Result<SystemTime, Exit> {
    let time = image::parse_time(value, now).map_err(|error| stored::usage(&error.to_string()))?;
    let seconds = u64::try_from(time.as_second()).unwrap_or_default();
    Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

fn line(action: &Action) -> String {
    match action {
        Action::Untagged(name) => format!("untagged: {name}"),
        Action::Deleted(digest) => format!("deleted: {digest}"),
    }
}

fn summary(parts: &[(&str, &[String])], freed: u64) -> Exit {
    let mut text = String::new();
    for (title, lines) in parts.iter().filter(|(_, lines)| !lines.is_empty()) {
        text.push_str(&format!("{title}:\n{}\n\n", lines.join("\n")));
    }
    text.push_str(&format!("Total reclaimed space: {}\n", human::size(freed)));
    stored::print(&text)
}

/// Runs `rbuild builder prune`.
pub(super) fn run_cache(arguments: &CachePruneArgs, root: &Path) -> Exit {
    let mut limits = CacheLimits {
        all: arguments.all,
        keep: arguments.keep_storage,
        unused_since: None,
    };
    for text in &arguments.filters {
        let time = match text.split_once('=') {
            Some(("until" | "unused-for", value)) => unused_since(value, Timestamp::now()),
            _ => return stored::usage(&format!("invalid filter {text:?} (until)")),
        };
        limits.unused_since = match time {
            Ok(time) => Some(time),
            Err(exit) => return exit,
        };
    }
    let warning = if arguments.all {
        "This will remove all build cache"
    } else {
        "This will remove all dangling build cache"
    };
    let freed = match open(root, arguments.force, warning) {
        Ok(Some(store)) => image::prune_cache(&store, &limits),
        Ok(None) => Ok(image::Freed::default()),
        Err(exit) => return exit,
    };
    match freed {
        Ok(freed) => summary(
            &[("Deleted build cache objects", &freed.names)],
            freed.bytes,
        ),
        Err(error) => stored::fail(&error),
    }
}
