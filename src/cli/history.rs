//! `rbuild history`, `rbuild image history`.

use std::path::Path;

use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::table::Format;
use super::{Exit, human, platform, stored};
use crate::image::Image;
use crate::oci::Platform;

#[derive(Debug, Args)]
pub(super) struct HistoryArgs {
    /// Name or id of an image, or path of an OCI layout or an archive
    #[arg(value_name = "IMAGE")]
    image: String,
    /// The image to take from an index [default: this machine's]
    #[arg(long, value_name = "PLATFORM", value_parser = platform::parse)]
    platform: Option<Platform>,
    /// Sizes and dates for people [default]; =false for bytes and RFC 3339
    #[arg(short = 'H', long, default_value_t = true, action = clap::ArgAction::Set,
          num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    human: bool,
    /// Cut nothing off
    #[arg(long)]
    no_trunc: bool,
    /// Show nothing but ids
    #[arg(short, long)]
    quiet: bool,
    /// table, json, or a Go template; "table TEMPLATE" adds headings
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
}

const HEADINGS: [(&str, &str); 6] = [
    ("ID", "IMAGE"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedBy", "CREATED BY"),
    ("Size", "SIZE"),
    ("Comment", "COMMENT"),
];
const TABLE: &str = "{{.ID}}\\t{{.CreatedSince}}\\t{{.CreatedBy}}\\t{{.Size}}\\t{{.Comment}}";
const TABLE_OF_BYTES: &str = "{{.ID}}\\t{{.CreatedAt}}\\t{{.CreatedBy}}\\t{{.Size}}\\t{{.Comment}}";
/// Characters of `CREATED BY`.
const WIDTH: usize = 45;
/// 2000-01-01: what is older has no time.
const FIRST_TIME: i64 = 946_684_800;

/// Runs `rbuild history`.
pub(super) fn run(arguments: &HistoryArgs, root: &Path) -> Exit {
    let default = if arguments.human {
        TABLE
    } else {
        TABLE_OF_BYTES
    };
    let format = match Format::parse(arguments.format.as_deref(), default) {
        Ok(format) => format,
        Err(error) => return stored::usage(&error.to_string()),
    };
    let images = match stored::images(root) {
        Ok(images) => images,
        Err(exit) => return exit,
    };
    let image = match stored::find(&images, &arguments.image, arguments.platform.as_ref()) {
        Ok(image) => image,
        Err(error) => return stored::fail(&error),
    };
    let rows = rows(&image, arguments, Timestamp::now());
    if arguments.quiet {
        let ids = rows.iter().filter_map(|row| row["ID"].as_str());
        return stored::print(&ids.map(|id| format!("{id}\n")).collect::<String>());
    }
    match format.print(&HEADINGS, &rows) {
        Ok(text) => stored::print(&text),
        Err(error) => stored::usage(&error.to_string()),
    }
}

/// The newest row first; only that one is an image that has a name.
fn rows(image: &Image, arguments: &HistoryArgs, now: Timestamp) -> Vec<Value> {
    let mut sizes = image.layer_sizes.iter();
    let history = &image.config.history;
    let last = history.len().saturating_sub(1);
    let rows = history.iter().enumerate().map(|(at, row)| {
        let size = match row.empty_layer {
            true => 0,
            false => sizes.next().copied().unwrap_or_default(),
        };
        let id = match (at == last, arguments.no_trunc) {
            (false, _) => "<missing>".to_owned(),
            (true, true) => image.id.to_string(),
            (true, false) => image.id.short().to_owned(),
        };
        let created: Option<Timestamp> = row.created.as_deref().and_then(|text| text.parse().ok());
        let known = created.filter(|time| time.as_second() >= FIRST_TIME);
        // A tab would end the cell.
        let command = row.created_by.as_deref().unwrap_or_default();
        let command = command.replace(['\t', '\n'], " ");
        json!({
            "ID": id,
            "CreatedSince": human::since(known, now),
            "CreatedAt": known.map_or_else(|| "N/A".to_owned(), |time| {
                time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
            }),
            "CreatedBy": if arguments.no_trunc { command } else { cut(&command) },
            "Size": if arguments.human { human::size(size) } else { size.to_string() },
            "Comment": row.comment.as_deref().unwrap_or_default(),
        })
    });
    let mut rows: Vec<Value> = rows.collect();
    rows.reverse();
    rows
}

fn cut(text: &str) -> String {
    if text.chars().count() <= WIDTH {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(WIDTH - 1).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_commands_are_cut_to_their_column() {
        assert_eq!(cut("RUN make"), "RUN make");
        let long = "x".repeat(46);
        assert_eq!(cut(&long), "x".repeat(44) + "…");
        assert_eq!(cut(&long[1..]), long[1..]);
    }
}
