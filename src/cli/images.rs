//! `rbuild images`, `rbuild image ls`.

use std::path::Path;

use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::table::Format;
use super::{Exit, human, stored};
use crate::image::{self, Filter, Image, Name, familiar};

#[derive(Debug, Args)]
pub(super) struct ImagesArgs {
    /// Show only images of this name, NAME[:TAG]; * and ? stand for characters of it
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// Accepted for docker's sake: there are no intermediate images to show
    #[arg(short, long)]
    all: bool,
    /// Show nothing but ids
    #[arg(short, long)]
    quiet: bool,
    /// Show the digests of manifests
    #[arg(long)]
    digests: bool,
    /// Show ids in full
    #[arg(long)]
    no_trunc: bool,
    /// dangling=, label=, before=, since=, until=, reference=; repeatable
    #[arg(short, long = "filter", value_name = "FILTER")]
    filters: Vec<String>,
    /// table, json, or a Go template; "table TEMPLATE" adds headings
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
}

const HEADINGS: [(&str, &str); 11] = [
    ("ID", "IMAGE ID"),
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
    ("Containers", "CONTAINERS"),
    ("VirtualSize", "SIZE"),
    ("SharedSize", "SHARED SIZE"),
    ("UniqueSize", "UNIQUE SIZE"),
];
const TABLE: &str = "{{.Repository}}\\t{{.Tag}}\\t{{.ID}}\\t{{.CreatedSince}}\\t{{.Size}}";
const TABLE_WITH_DIGESTS: &str =
    "{{.Repository}}\\t{{.Tag}}\\t{{.Digest}}\\t{{.ID}}\\t{{.CreatedSince}}\\t{{.Size}}";
const FILTERS: &str = "dangling, label, before, since, until, reference";

/// Runs `rbuild images`.
pub(super) fn run(arguments: &ImagesArgs, root: &Path) -> Exit {
    let now = Timestamp::now();
    let mut filters = match stored::filters(&arguments.filters, FILTERS, now) {
        Ok(filters) => filters,
        Err(exit) => return exit,
    };
    filters.extend(arguments.name.clone().map(Filter::Reference));
    let default = if arguments.digests {
        TABLE_WITH_DIGESTS
    } else {
        TABLE
    };
    let format = match Format::parse(arguments.format.as_deref(), default) {
        Ok(format) => format,
        Err(error) => return stored::usage(&error.to_string()),
    };
    let images = match stored::images(root) {
        Ok((_, images)) => images,
        Err(exit) => return exit,
    };
    let images = match Filter::apply(&filters, &images) {
        Ok(images) => images,
        Err(error) => return stored::fail(&error),
    };
    if arguments.quiet && arguments.format.is_none() {
        let ids = images.iter().flat_map(|image| {
            let count = image.names.len().max(1);
            std::iter::repeat_n(shown_id(image, arguments.no_trunc) + "\n", count)
        });
        return stored::print(&ids.collect::<String>());
    }
    let rows: Vec<Value> = images
        .iter()
        .flat_map(|image| rows(image, arguments.no_trunc, now))
        .collect();
    match format.print(&HEADINGS, &rows) {
        Ok(text) => stored::print(&text),
        Err(error) => stored::usage(&error.to_string()),
    }
}

fn shown_id(image: &Image, whole: bool) -> String {
    if whole {
        image.id.to_string()
    } else {
        image.id.short().to_owned()
    }
}

/// A row for each name; one for an image without names.
fn rows(image: &Image, whole: bool, now: Timestamp) -> Vec<Value> {
    let row = |name: Option<&Name>| {
        let shown = name.map(|name| familiar(&name.whole));
        let (repository, tag) = match shown {
            None => ("<none>", "<none>"),
            Some(name) => match (image::repository_of(name), name.contains('@')) {
                (repository, true) => (repository, "<none>"),
                (repository, false) => {
                    (repository, name[repository.len()..].trim_start_matches(':'))
                }
            },
        };
        let manifest = name.map_or(&image.manifest, |name| &name.manifest);
        let size = human::size(image.size());
        json!({
            "ID": shown_id(image, whole),
            "Repository": repository,
            "Tag": tag,
            "Digest": manifest.digest,
            "CreatedSince": human::since(image.created(), now),
            "CreatedAt": human::at(image.created()),
            "Size": size,
            "VirtualSize": size,
            "Containers": "N/A",
            "SharedSize": "N/A",
            "UniqueSize": "N/A",
        })
    };
    if image.names.is_empty() {
        return vec![row(None)];
    }
    image.names.iter().map(|name| row(Some(name))).collect()
}
