//! `rbuild doctor`: what this host allows, which rung that is, and what would lead higher.
//!
//! `--json` prints one object:
//!
//! | field | |
//! |---|---|
//! | `version` | 1; fields are only added |
//! | `rung` | `mapped`, `recorded`, `chroot` or `copy-only`: the best that this host reaches |
//! | `price` | what that rung costs, a sentence |
//! | `opt_in` | the variable that the rung wants and that is not set, or null |
//! | `store` | `path`, or null when there is no place, with `error`; `moved`, why it is not the usual one, or null; `kind` of its file system |
//! | `probes` | each with `name`, `ok`, `found` and `why` |
//! | `lacks` | for each better rung, the nearest first: `rung`, `missing` fragments, and `remedies`, each with a `place` (`host`, `docker`, `podman`, `kubernetes`) and a `line` |
//! | `advice` | remedies that make this rung better |

mod definitions;

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::place::{self, Chosen};
use super::stored::print;
use super::table::align;
use super::{Exit, report};
use crate::sandbox::probe::{self, Host, Lack, Place, Remedy};
use crate::sandbox::rung::Rung;
use crate::store::place::{self as fitness, Fit};
use definitions::Definition;

#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// End with exit code 3 when this host does not reach mapped, recorded, chroot or copy-only
    #[arg(long, value_name = "RUNG")]
    require: Option<Rung>,
    /// Print the smallest job definition that works there: k8s, gitlab, github, docker, tekton; or what
    /// an administrator installs for it: seccomp, apparmor
    #[arg(long = "for", value_name = "PLACE", conflicts_with_all = ["json", "require"])]
    definition: Option<Definition>,
}

/// Runs `rbuild doctor`. `named` is the store that the caller named, if any.
pub(super) fn run(arguments: &DoctorArgs, named: Option<PathBuf>) -> Exit {
    if let Some(definition) = arguments.definition {
        return print(definition.text());
    }
    let store = place::choose(named);
    let root = store.as_ref().map(|chosen| chosen.root.as_path());
    let host = match &root {
        Ok(root) => probe::examine(&|| hold_overlay(root), fitness::existing_above(root)),
        Err(error) => {
            let error = error.to_string();
            probe::examine(&|| Err(error.clone()), Path::new("/tmp"))
        }
    };
    let text = if arguments.json {
        json(&host, store.as_ref()) + "\n"
    } else {
        human(&host, store.as_ref())
    };
    let printed = print(&text);
    match arguments.require {
        _ if printed != Exit::Success => printed,
        Some(required) if host.rung() > required => {
            report::print_error(&format!(
                "this host reaches {}, and {required} is required",
                host.rung()
            ));
            Exit::Host
        }
        _ => Exit::Success,
    }
}

/// Whether overlay layers can be at `root`, and on what; to be asked in a user namespace.
fn hold_overlay(root: &Path) -> Result<String, String> {
    match fitness::examine(root) {
        Ok(Fit::Known | Fit::Untried) => fitness::try_overlay(root),
        Err(unfit) => Err(unfit),
    }
    .map_err(|unfit| unfit.to_string())?;
    let kind = fitness::kind_at(root).unwrap_or_else(|| "a file system".to_owned());
    Ok(format!("works on {kind}"))
}

fn price(rung: Rung) -> &'static str {
    match rung {
        Rung::Mapped => "nothing is missing, and owners cost nothing extra",
        Rung::Recorded => {
            "images are the same, and a call in a RUN that names or shows an owner costs a few \
             microseconds more"
        }
        Rung::Chroot => {
            "images are the same, but a RUN is confined by the container alone and sees its \
             processes, and each step copies and compares files"
        }
        Rung::CopyOnly => "FROM, COPY, ADD and metadata work, and a RUN is refused",
    }
}

type Store<'a> = Result<&'a Chosen, &'a place::Error>;

fn json(host: &Host, store: Store<'_>) -> String {
    let store = match store {
        Ok(chosen) => json!({
            "path": chosen.root.to_string_lossy(),
            "moved": chosen.moved,
            "kind": fitness::kind_at(&chosen.root),
        }),
        Err(error) => json!({"path": null, "error": error.to_string()}),
    };
    json!({
        "version": 1,
        "rung": host.rung().name(),
        "price": price(host.rung()),
        "opt_in": host.opt_in(),
        "store": store,
        "probes": host.findings,
        "lacks": host.lacks(),
        "advice": host.advice(),
    })
    .to_string()
}

fn human(host: &Host, store: Store<'_>) -> String {
    let mut lines = vec!["PROBE\tOK\tFOUND\tNEEDED FOR".to_owned()];
    lines.extend(host.findings.iter().map(|finding| {
        let ok = if finding.ok { "yes" } else { "no" };
        // A report of the kernel may have several lines.
        let found = finding.found.replace('\n', " ");
        format!("{}\t{ok}\t{found}\t{}", finding.name, finding.why)
    }));
    let mut text = align(&lines);
    let line = |text: &mut String, name: &str, value: &str| {
        text.push_str(&format!("{name:<8}{value}\n"));
    };
    text.push('\n');
    line(&mut text, "rung:", host.rung().name());
    line(&mut text, "price:", price(host.rung()));
    if let Some(variable) = host.opt_in() {
        line(
            &mut text,
            "wants:",
            &format!("{variable} in the environment"),
        );
    }
    match store {
        Ok(Chosen { root, moved }) => {
            line(&mut text, "store:", &root.display().to_string());
            if let Some(reason) = moved {
                line(&mut text, "", &format!("because {reason}"));
            }
        }
        Err(error) => line(&mut text, "store:", &error.to_string()),
    }
    for lack in host.lacks() {
        text.push_str(&lacking(&lack, host.place()));
    }
    let advice = host.advice();
    if !advice.is_empty() {
        text.push_str(&format!("\nto make {} better:\n", host.rung()));
        text.push_str(&remedies(&advice, host.place()));
    }
    text
}

fn lacking(lack: &Lack, place: Place) -> String {
    let mut text = format!("\nfor {} this is missing:\n", lack.rung);
    for missing in &lack.missing {
        text.push_str(&format!("  - {}\n", missing.replace('\n', " ")));
    }
    text.push_str("  one of these gives it, or all lines of one:\n");
    text + &remedies(&lack.remedies, place)
}

/// What can be done from where rbuild runs: the options that its container was started with, and what
/// root does on the machine or in the image.
fn remedies(all: &[Remedy], place: Place) -> String {
    let mut text = String::new();
    for remedy in all {
        if remedy.place == Place::Host || remedy.place == place {
            text.push_str(&format!(
                "  {:<13}{}\n",
                remedy.place.heading(),
                remedy.line
            ));
        }
    }
    text
}
