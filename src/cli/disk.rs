//! `rbuild du`, `rbuild system df`: what the store takes.

use std::path::Path;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::table::Format;
use super::{Exit, human, stored};
use crate::image::{self, Usage};
use crate::store::View;

#[derive(Debug, Subcommand)]
pub(super) enum SystemCommand {
    /// Show what the store takes
    Df(DiskArgs),
    /// Remove images without a name and what the cache does not need
    Prune(super::prune::SystemPruneArgs),
}

#[derive(Debug, Args, Default)]
pub(super) struct DiskArgs {
    /// table, json, or a Go template; "table TEMPLATE" adds headings
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
}

const HEADINGS: [(&str, &str); 5] = [
    ("Type", "TYPE"),
    ("TotalCount", "TOTAL"),
    ("Active", "ACTIVE"),
    ("Size", "SIZE"),
    ("Reclaimable", "RECLAIMABLE"),
];
const TABLE: &str = "{{.Type}}\\t{{.TotalCount}}\\t{{.Active}}\\t{{.Size}}\\t{{.Reclaimable}}";

/// Runs `rbuild du`. Only in the user namespace every layer can be read.
pub(super) fn run(arguments: &DiskArgs, root: &Path) -> Exit {
    let format = match Format::parse(arguments.format.as_deref(), TABLE) {
        Ok(format) => format,
        Err(error) => return stored::usage(&error.to_string()),
    };
    if let Err(exit) = stored::enter() {
        return exit;
    }
    let usage = match View::open(root) {
        Ok(Some(view)) => image::usage(&view),
        Ok(None) => Ok(Vec::new()),
        Err(error) => return stored::fail(&error),
    };
    let rows: Vec<Value> = match usage {
        Ok(usage) => usage.iter().map(row).collect(),
        Err(error) => return stored::fail(&error),
    };
    match format.print(&HEADINGS, &rows) {
        Ok(text) => stored::print(&text),
        Err(error) => stored::usage(&error.to_string()),
    }
}

fn row(usage: &Usage) -> Value {
    let percent = (usage.reclaimable * 100)
        .checked_div(usage.bytes)
        .unwrap_or_default();
    let reclaimable = human::size(usage.reclaimable);
    json!({
        "Type": usage.kind,
        "TotalCount": usage.count.to_string(),
        "Active": usage.active.to_string(),
        "Size": human::size(usage.bytes),
        "Reclaimable": format!("{reclaimable} ({percent}%)"),
    })
}
