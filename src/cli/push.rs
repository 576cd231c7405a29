//! `rbuild push`: an image to a registry.

use std::path::{Path, PathBuf};

use clap::Args;

use super::report::print_error;
use super::transfer::{self, print_result, say};
use super::{Exit, platform};
use crate::build::StepError;
use crate::build::push::{Pushed, push, push_from};
use crate::oci::{Platform, Reference, parse_reference};
use crate::transport::{Location, Sent};

#[derive(Debug, Args)]
pub(super) struct PushArgs {
    /// The image in the store, NAME[:TAG]; or oci:DIR[:TAG], oci-archive:FILE[:TAG] or
    /// docker-archive:FILE[:NAME], followed by the name to push it as
    #[arg(value_name = "[SOURCE] NAME", num_args = 1..=2, required = true)]
    names: Vec<String>,
    /// Push every tag of the repository NAME that the store has
    #[arg(short, long)]
    all_tags: bool,
    /// The one image of an index to push [default: the index with all of them]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
    /// Write the digest of what was pushed to a file
    #[arg(long, value_name = "FILE")]
    digestfile: Option<PathBuf>,
    /// Show nothing but the image's name, or the error
    #[arg(short, long)]
    quiet: bool,
}

/// What to push: from where, or the store, and under which name.
struct Wanted {
    from: Option<Location>,
    to: Reference,
    platform: Option<Platform>,
}

/// Runs `rbuild push`.
pub(super) fn run(arguments: &PushArgs, root: &Path) -> Exit {
    let wanted = match arguments.wanted() {
        Ok(wanted) => wanted,
        Err(message) => {
            print_error(&message);
            return Exit::Usage;
        }
    };
    let Wanted { from, to, platform } = &wanted;
    if !arguments.quiet {
        let repository = format!("{}/{}", to.registry(), to.repository());
        say(&format!("The push refers to repository [{repository}]"));
    }
    transfer::run(
        root,
        "Pushing",
        arguments.quiet,
        |session| {
            let (store, events, cancel) = (&session.store, &session.events, &session.cancel);
            if let Some(from) = from {
                let pushed = push_from(store, from, to, platform.as_ref(), events, cancel)?;
                return Ok(vec![(to.clone(), pushed)]);
            }
            let names = if arguments.all_tags {
                tags_of(store, to)?
            } else {
                vec![to.clone()]
            };
            let mut all = Vec::new();
            for name in names {
                let pushed = push(store, &name, &name, platform.as_ref(), events, cancel)?;
                all.push((name, pushed));
            }
            Ok(all)
        },
        |all| finish(arguments, all),
    )
}

impl PushArgs {
    fn wanted(&self) -> Result<Wanted, String> {
        let (from, to) = match self.names.as_slice() {
            [name] => (None, name),
            [from, name] => {
                let text = match from.strip_prefix("oci:") {
                    Some(rest) => format!("oci-layout://{rest}"),
                    None => from.clone(),
                };
                let location = Location::parse(&text).map_err(|error| error.to_string())?;
                match location {
                    Some(location) if !matches!(location, Location::Image(_)) => {
                        (Some(location), name)
                    }
                    _ => {
                        return Err(format!(
                            "{from:?} is neither oci:DIR, oci-archive:FILE nor docker-archive:FILE"
                        ));
                    }
                }
            }
            _ => return Err("one name, or a source and a name".to_owned()),
        };
        let to = to.strip_prefix("docker://").unwrap_or(to);
        let name = parse_reference(to).map_err(|error| format!("{to:?}: {error}"))?;
        if name.digest().is_some() {
            return Err(format!(
                "{to:?}: an image is pushed to a tag, not to a digest"
            ));
        }
        if self.all_tags && from.is_some() {
            return Err("--all-tags is for images in the store".to_owned());
        }
        if self.all_tags && self.digestfile.is_some() {
            return Err("--digestfile is for one image, --all-tags for several".to_owned());
        }
        if self.all_tags && self.platform.is_some() {
            return Err("--platform is for one image, --all-tags for several".to_owned());
        }
        let last = to.rsplit('/').next().unwrap_or(to);
        if self.all_tags && last.contains(':') {
            return Err("--all-tags takes a name without a tag".to_owned());
        }
        let platform = self.platform.as_deref().map(platform::parse).transpose()?;
        Ok(Wanted {
            from,
            to: name,
            platform,
        })
    }
}

/// The store's names in the repository of `to`.
fn tags_of(store: &crate::store::Store, to: &Reference) -> Result<Vec<Reference>, StepError> {
    let named = store.named_manifests()?;
    let names: Vec<Reference> = named
        .iter()
        .filter_map(|(name, _)| parse_reference(name).ok())
        .filter(|name| name.registry() == to.registry() && name.repository() == to.repository())
        .filter(|name| name.digest().is_none())
        .collect();
    if names.is_empty() {
        return Err(StepError::NotStored { name: to.whole() });
    }
    Ok(names)
}

/// The lines that docker prints; the last of each image is the result.
fn finish(arguments: &PushArgs, all: &[(Reference, Pushed)]) -> Exit {
    for (name, pushed) in all {
        if let Some(path) = &arguments.digestfile
            && let Err(error) = std::fs::write(path, pushed.digest.to_string())
        {
            print_error(&format!("cannot write {}: {error}", path.display()));
            return Exit::Failed;
        }
        let line = if arguments.quiet {
            name.whole()
        } else {
            summarize(pushed);
            let tag = name.tag().unwrap_or("latest");
            format!("{tag}: digest: {} size: {}", pushed.digest, pushed.size)
        };
        if print_result(&line) != Exit::Success {
            return Exit::Failed;
        }
    }
    Exit::Success
}

fn summarize(pushed: &Pushed) {
    for (digest, sent) in &pushed.layers {
        let what = match sent {
            Sent::Existed => "Layer already exists".to_owned(),
            Sent::Mounted(from) => format!("Mounted from {from}"),
            Sent::Pushed => "Pushed".to_owned(),
        };
        say(&format!("{}: {what}", digest.short()));
    }
}
