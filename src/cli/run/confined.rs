//! What `rbuild run` cannot give a command without namespaces: refused before the image is looked for.

use super::RunArgs;
use crate::cli::report::{self, Report};
use crate::cli::{Exit, session};
use crate::sandbox::walls::NOT_ISOLATED;
use crate::sandbox::{Mount, Network, Walls};

/// Says itself what cannot be had.
pub(super) fn check(arguments: &RunArgs, network: Network) -> Result<(), Exit> {
    let (title, help) = match session::walls()? {
        Walls::Namespaces(_) => return Ok(()),
        Walls::None { reason, help } => (
            format!("cannot run {}: {reason}", arguments.image),
            Some(help.clone()),
        ),
        Walls::Chroot => match impossible_in_chroot(arguments, network) {
            Some((option, why)) => (format!("{option} cannot be had in a chroot: {why}"), None),
            None => {
                report::print(&Report {
                    title: NOT_ISOLATED.to_owned(),
                    warning: true,
                    ..Report::default()
                });
                return Ok(());
            }
        },
    };
    report::print(&Report {
        title,
        help,
        ..Report::default()
    });
    Err(super::OWN_FAILURE)
}

fn impossible_in_chroot(
    arguments: &RunArgs,
    network: Network,
) -> Option<(&'static str, &'static str)> {
    let has_size = |mount: &Mount| matches!(mount, Mount::Tmpfs { size: Some(_), .. });
    let refused = [
        (arguments.tty, "--tty", "terminals take a mount"),
        (
            !arguments.volume.is_empty(),
            "--volume",
            "nothing can be mounted",
        ),
        (
            arguments.tmpfs.iter().any(has_size),
            "--tmpfs with a size",
            "it is a plain directory, without a limit",
        ),
        (
            network == Network::Isolated,
            "--network isolated",
            "the network is the container's",
        ),
        (
            network == Network::None,
            "--network none",
            "the network is the container's",
        ),
        (
            arguments.read_only,
            "--read-only",
            "nothing can be write-protected",
        ),
        (
            arguments.hostname.is_some(),
            "--hostname",
            "the host name is the container's",
        ),
        (
            arguments.shm_size.is_some(),
            "--shm-size",
            "/dev/shm is a plain directory",
        ),
    ];
    refused
        .into_iter()
        .find_map(|(is_asked_for, option, why)| is_asked_for.then_some((option, why)))
}
