//! What RUN cannot have without namespaces: refused with its place, before any work.

use super::request::{Network, Request};
use crate::dockerfile::{Diagnostic, RunInstruction, RunMount, RunNetwork, RunSecurity, Span};
use crate::sandbox::{Walls, network};

/// The part of `run`, which is at `location`, that a chroot cannot give, where there is only that.
pub(super) fn check(
    run: &RunInstruction,
    location: Span,
    at: &dyn Fn(Span) -> Span,
    request: &Request,
) -> Option<Diagnostic> {
    match &request.walls {
        Walls::Chroot => check_chroot(run, location, at, request),
        Walls::Namespaces(_) => check_isolated(run, location, at, request),
        // One refusal is enough for a stage.
        Walls::None { .. } => None,
    }
}

/// Refuses the host's network where RUN is to be kept from it, and a network that cannot be made.
fn check_isolated(
    run: &RunInstruction,
    location: Span,
    at: &dyn Fn(Span) -> Span,
    request: &Request,
) -> Option<Diagnostic> {
    if request.network != Network::Isolated {
        return None;
    }
    match &run.network {
        Some(network) if network.value == RunNetwork::None => None,
        Some(network) if network.value == RunNetwork::Host => {
            if request.run.allow_host_network {
                return None;
            }
            let message = "network.host is not allowed with --network=isolated";
            Some(
                Diagnostic::new(at(network.span), message)
                    .with_help("--allow network.host on the command line allows it"),
            )
        }
        _ => {
            let obstacle = network::pasta::obstacle()?;
            let why = match std::error::Error::source(&obstacle) {
                Some(cause) => format!("{obstacle}: {cause}"),
                None => obstacle.to_string(),
            };
            Some(
                Diagnostic::new(
                    location,
                    format!("RUN cannot have an isolated network: {why}"),
                )
                .with_help("--network=none gives it none, and --network=host the host's")
                .of_host(),
            )
        }
    }
}

/// Refuses a stage whose first RUN is at `location` where no command can run.
pub(super) fn check_stage(location: Span, request: &Request) -> Option<Diagnostic> {
    let Walls::None { reason, help } = &request.walls else {
        return None;
    };
    let message = format!("RUN cannot be carried out: {reason}");
    Some(
        Diagnostic::new(location, message)
            .with_label("commands need a sandbox")
            .with_help(format!(
                "{help}; a Dockerfile without RUN can be built here"
            ))
            .of_host(),
    )
}

fn check_chroot(
    run: &RunInstruction,
    location: Span,
    at: &dyn Fn(Span) -> Span,
    request: &Request,
) -> Option<Diagnostic> {
    let refuse = |span: Span, what: &str, why: &str| {
        let message = format!("{what} cannot be had in a chroot");
        Some(
            Diagnostic::new(span, message)
                .with_label(why)
                .with_help("it takes namespaces, which this host does not allow")
                .of_host(),
        )
    };
    match &run.network {
        Some(network) if network.value == RunNetwork::None => {
            return refuse(
                at(network.span),
                "RUN --network=none",
                "the network is shared",
            );
        }
        None | Some(_) if request.network == Network::None => {
            return refuse(location, "--network=none", "the network is shared");
        }
        None | Some(_) if request.network == Network::Isolated => {
            return refuse(location, "--network=isolated", "the network is shared");
        }
        _ => {}
    }
    if request.run.shm_size.is_some() {
        return refuse(location, "--shm-size", "/dev/shm is a plain directory");
    }
    if let Some(security) = &run.security
        && security.value == RunSecurity::Insecure
    {
        let why = "a container's root has no more to give";
        return refuse(at(security.span), "RUN --security=insecure", why);
    }
    for flag in &run.mounts {
        let span = at(flag.span);
        match flag.resolve(&mut |word: &str| Ok(word.to_owned())) {
            Ok(RunMount::Secret(secret)) if secret.target.is_some() || secret.env.is_none() => {
                let why = "the file would be on the disk; env=NAME alone gives a variable";
                return refuse(span, "RUN --mount=type=secret with a file", why);
            }
            Ok(RunMount::Tmpfs(tmpfs)) if tmpfs.size.is_some() => {
                let why = "it is a plain directory, without a limit";
                return refuse(span, "RUN --mount=type=tmpfs with a size", why);
            }
            // What is wrong with a flag, the step says.
            _ => {}
        }
    }
    None
}
