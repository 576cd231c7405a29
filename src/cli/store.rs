//! `rbuild store check`: what is wrong in the store, and its repair.

use std::path::Path;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::{Exit, human, stored};
use crate::context::digest::is_memo;
use crate::store::{Checkup, Counts, Depth, Finding, Level};

/// How long a repair waits for a build to end.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, Subcommand)]
pub(super) enum StoreCommand {
    /// Look for damage in images, layers and the cache
    Check(CheckArgs),
}

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Remove what is damaged and what needs it, and make anew what can be made
    #[arg(long)]
    repair: bool,
    /// Also compare the files of each layer that was built here, and what each blob unpacks to
    #[arg(long)]
    deep: bool,
    /// text, or json: an object on each line, the summary last
    #[arg(long, value_enum, default_value = "text", value_name = "FORMAT")]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// Runs `rbuild store check`. Leftovers of killed runs are listed and are no failure: every store has
/// them some time. Repaired damage is none either.
pub(super) fn run(arguments: &CheckArgs, root: &Path) -> Exit {
    let ownership = match stored::enter() {
        Ok(ownership) => ownership,
        Err(exit) => return exit,
    };
    let checkup = match Checkup::open(root, ownership, arguments.repair, PATIENCE) {
        Ok(Some(checkup)) => checkup,
        Ok(None) => {
            stored::note(&format!("there is no store at {}", root.display()));
            return Exit::Success;
        }
        Err(error) => return stored::fail(&error),
    };
    let depth = Depth {
        deep: arguments.deep,
        is_memo: &is_memo,
    };
    let mut printed = Exit::Success;
    let mut tally = Tally::default();
    let mut mendable = Vec::new();
    let looked = checkup.look(&depth, &mut |finding| {
        tally.add(&finding);
        if stored::print(&line(&finding, arguments)) != Exit::Success {
            printed = Exit::Failed;
        }
        if arguments.repair {
            mendable.push(finding);
        }
    });
    let counts = match looked {
        Ok(counts) => counts,
        Err(error) => return stored::fail(&error),
    };
    match checkup.repair(&mendable) {
        Ok(mended) => tally.mended = mended,
        Err(error) => return stored::fail(&error),
    }
    if printed != Exit::Success
        || stored::print(&summary(&counts, &tally, arguments)) != Exit::Success
    {
        return Exit::Failed;
    }
    let stays = if arguments.repair {
        tally.beyond_repair
    } else {
        tally.damages
    };
    if stays == 0 {
        Exit::Success
    } else {
        Exit::Failed
    }
}

#[derive(Debug, Default)]
struct Tally {
    damages: usize,
    leftovers: usize,
    /// Damages that no repair mends.
    beyond_repair: usize,
    mended: usize,
}

impl Tally {
    fn add(&mut self, finding: &Finding) {
        match finding.level {
            Level::Damage => {
                self.damages += 1;
                self.beyond_repair += usize::from(!finding.is_mendable());
            }
            Level::Leftover => self.leftovers += 1,
        }
    }
}

fn line(finding: &Finding, arguments: &CheckArgs) -> String {
    let level = match finding.level {
        Level::Damage => "damage",
        Level::Leftover => "leftover",
    };
    let (kind, place, problem) = (finding.kind, &finding.place, &finding.problem);
    let repair = finding.repair();
    if arguments.format == Format::Json {
        let object = json!({
            "level": level,
            "kind": kind,
            "place": place,
            "problem": problem,
            "repair": repair,
            "mendable": finding.is_mendable(),
        });
        return format!("{object}\n");
    }
    let verb = match (finding.is_mendable(), arguments.repair) {
        (false, _) => "",
        (true, true) => "repair: ",
        (true, false) => "--repair: ",
    };
    format!("{level}: {kind} {place}: {problem} ({verb}{repair})\n")
}

fn summary(counts: &Counts, tally: &Tally, arguments: &CheckArgs) -> String {
    if arguments.format == Format::Json {
        let object = json!({
            "summary": {
                "blobs": counts.blobs,
                "bytes": counts.bytes,
                "images": counts.images,
                "snapshots": counts.snapshots,
                "packed": counts.packed,
                "foreign": counts.foreign,
                "records": counts.records,
                "damages": tally.damages,
                "leftovers": tally.leftovers,
                "repaired": tally.mended,
            }
        });
        return format!("{object}\n");
    }
    let mut text = format!(
        "{} blobs ({}), {} images, {} layers, {} cache records",
        counts.blobs,
        human::size(counts.bytes),
        counts.images,
        counts.snapshots,
        counts.records
    );
    if arguments.deep {
        let foreign = counts.foreign;
        text.push_str(&format!(
            "; files of {} layers compared, {foreign} came from elsewhere",
            counts.packed
        ));
    }
    text.push_str(&match (tally.damages, tally.leftovers) {
        (0, 0) => ": nothing is wrong".to_owned(),
        (0, leftovers) => {
            format!(": nothing is damaged; {leftovers} leftovers harm nothing")
        }
        (damages, leftovers) => format!(": {damages} damages, {leftovers} leftovers"),
    });
    if arguments.repair && tally.mended > 0 {
        text.push_str(&format!("; {} repaired", tally.mended));
    }
    text.push('\n');
    text
}
