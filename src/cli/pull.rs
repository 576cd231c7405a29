//! `rbuild pull`: an image from a registry.

use std::path::Path;

use clap::Args;

use super::transfer::{self, parse_name, print_result, say};
use super::{Exit, platform};
use crate::build::export::familiar;
use crate::build::pull::{Pulled, pull};
use crate::oci::{Platform, Reference};

#[derive(Debug, Args)]
pub(super) struct PullArgs {
    /// The image, NAME[:TAG|@DIGEST]
    #[arg(value_name = "NAME")]
    name: String,
    /// The platform of the image: OS/ARCH[/VARIANT], or local [default: this machine's]
    #[arg(long, value_name = "PLATFORM", env = "DOCKER_DEFAULT_PLATFORM")]
    platform: Option<String>,
    /// Show nothing but the image's name, or the error
    #[arg(short, long)]
    quiet: bool,
}

/// Runs `rbuild pull`; stdout is the image's full name.
pub(super) fn run(arguments: &PullArgs, root: &Path) -> Exit {
    let name = match parse_name(&arguments.name) {
        Ok(name) => name,
        Err(exit) => return exit,
    };
    let platform = match arguments
        .platform
        .as_deref()
        .map(platform::parse)
        .transpose()
    {
        Ok(platform) => platform.unwrap_or_else(Platform::host),
        Err(message) => {
            super::report::print_error(&message);
            return Exit::Usage;
        }
    };
    if !arguments.quiet {
        if has_default_tag(&arguments.name) {
            say("Using default tag: latest");
        }
        let what = name.tag().or(name.digest()).unwrap_or("latest");
        say(&format!("{what}: Pulling from {}", name.repository()));
    }
    transfer::run(
        root,
        "Pulling",
        arguments.quiet,
        |session| {
            pull(
                &session.store,
                &name,
                &platform,
                &session.events,
                &session.cancel,
            )
        },
        |pulled| {
            if !arguments.quiet {
                summarize(&name, pulled);
            }
            print_result(&name.whole())
        },
    )
}

fn has_default_tag(text: &str) -> bool {
    let last = text.rsplit('/').next().unwrap_or(text);
    !text.contains('@') && !last.contains(':')
}

/// The lines that docker prints.
fn summarize(name: &Reference, pulled: &Pulled) {
    for (digest, was_there) in &pulled.layers {
        let what = if *was_there {
            "Already exists"
        } else {
            "Pull complete"
        };
        say(&format!("{}: {what}", digest.short()));
    }
    say(&format!("Digest: {}", pulled.manifest.digest));
    let name = familiar(name);
    say(&if pulled.changed {
        format!("Status: Downloaded newer image for {name}")
    } else {
        format!("Status: Image is up to date for {name}")
    });
}

#[cfg(test)]
mod tests {
    use super::has_default_tag;

    #[test]
    fn a_name_without_tag_and_digest_has_the_default_one() {
        for (name, expected) in [
            ("debian", true),
            ("localhost:5000/app", true),
            ("localhost:5000/app:1", false),
            ("debian@sha256:00", false),
        ] {
            assert_eq!(has_default_tag(name), expected, "{name}");
        }
    }
}
