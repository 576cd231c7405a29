//! A failed build as the message the user sees, and the exit code it means.

use super::Exit;
use super::check;
use super::limits;
use super::report::{self, Excerpt, FailedStep, Report};
use crate::build::{Error, Failure, StepError};
use crate::dockerfile::{Diagnostic, Span};
use crate::layer::UnpackError;
use crate::sandbox::{self, Step};

/// Prints why the build failed. `single_reason` says why the build had only one id, when it had.
pub(super) fn report(failure: &Failure, single_reason: Option<&str>) -> Exit {
    let excerpt = |span: Span| {
        failure.dockerfile.as_ref().map(|dockerfile| Excerpt {
            name: &dockerfile.name,
            source: &dockerfile.text,
            span: span.start..span.end,
        })
    };
    match &failure.error {
        Error::Dockerfile { diagnostics } => {
            for diagnostic in diagnostics {
                report::print(&of_diagnostic(diagnostic, excerpt(diagnostic.span)));
            }
            if diagnostics.iter().all(|diagnostic| diagnostic.of_host) {
                Exit::Host
            } else {
                Exit::Failed
            }
        }
        Error::Checks { message, findings } => {
            if let Some(dockerfile) = &failure.dockerfile {
                check::print_findings(dockerfile, findings);
            }
            report::print(&Report {
                title: message.clone(),
                code: Some("Checks"),
                help: Some("the Dockerfile asks for this with check=error=true".to_owned()),
                ..Report::default()
            });
            Exit::Failed
        }
        Error::Canceled => {
            report::print_error(&failure.error.to_string());
            Exit::Failed
        }
        Error::Step {
            step,
            location,
            source,
        } => {
            let log = match source.as_ref() {
                StepError::Run { log, .. } => log.clone(),
                _ => Vec::new(),
            };
            let (help, exit) = advise(source, single_reason);
            report::print(&Report {
                title: source.to_string(),
                excerpt: excerpt(*location),
                causes: report::causes_of(source.as_ref()),
                failed_step: Some(FailedStep {
                    name: step.clone(),
                    log,
                }),
                help,
                code: Some("Step"),
                ..Report::default()
            });
            exit
        }
        Error::Trigger { location, .. } => {
            report::print(&Report {
                title: failure.error.to_string(),
                excerpt: excerpt(*location),
                code: Some("Trigger"),
                ..Report::default()
            });
            Exit::Failed
        }
        Error::Push { source } => {
            report::print(&Report {
                title: source.to_string(),
                causes: report::causes_of(source.as_ref()),
                help: help_of(source, false, None),
                code: Some("Build"),
                ..Report::default()
            });
            Exit::Failed
        }
        other => {
            report::print(&Report {
                title: other.to_string(),
                causes: report::causes_of(other),
                help: help_of_build(other),
                code: Some("Build"),
                ..Report::default()
            });
            Exit::Failed
        }
    }
}

pub(super) fn of_diagnostic<'a>(
    diagnostic: &Diagnostic,
    excerpt: Option<Excerpt<'a>>,
) -> Report<'a> {
    Report {
        title: diagnostic.message.clone(),
        excerpt,
        label: diagnostic.label.as_deref().map(str::to_owned),
        related: diagnostic
            .related
            .iter()
            .map(|(span, text)| (span.start..span.end, text.clone()))
            .collect(),
        help: diagnostic.help.as_deref().map(str::to_owned),
        code: Some("Dockerfile"),
        ..Report::default()
    }
}

/// What to do about a failed step, and the exit code it means. `single_reason` as for [`report`].
pub(super) fn advise(error: &StepError, single_reason: Option<&str>) -> (Option<String>, Exit) {
    let unmapped = is_unmapped(error);
    let exit = if unmapped || is_host(error) {
        Exit::Host
    } else {
        Exit::Failed
    };
    (help_of(error, unmapped, single_reason), exit)
}

/// Whether the failure goes back to an id that the host does not give the build.
fn is_unmapped(error: &StepError) -> bool {
    if let StepError::Sandbox {
        source: sandbox::Error::Setup(failure),
    } = error
        && failure.step == Step::User
        && failure.errno == nix::errno::Errno::EINVAL as i32
    {
        return true;
    }
    let mut next: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = next {
        if let Some(crate::ownership::Error::Unmapped { .. }) = error.downcast_ref() {
            return true;
        }
        next = error.source();
    }
    false
}

/// Whether this host, not the build, is why the step failed.
fn is_host(error: &StepError) -> bool {
    let StepError::Sandbox { source } = error else {
        return false;
    };
    match source {
        // Where /proc has to be, the image has a link or a file.
        sandbox::Error::Setup(failure)
            if [nix::errno::Errno::ENOTDIR, nix::errno::Errno::ELOOP]
                .iter()
                .any(|errno| *errno as i32 == failure.errno) =>
        {
            false
        }
        sandbox::Error::Setup(failure) => !matches!(
            failure.step,
            Step::Rootfs
                | Step::Generated
                | Step::Mounts
                | Step::User
                | Step::Workdir
                | Step::FindProgram
                | Step::Supervisor
                | Step::Execute
        ),
        sandbox::Error::Start(_) | sandbox::Error::Network(_) => true,
        _ => false,
    }
}

fn help_of(error: &StepError, unmapped: bool, single_reason: Option<&str>) -> Option<String> {
    if unmapped {
        let reason = single_reason.unwrap_or("the range is too small");
        return Some(format!(
            "images with other owners than root need subordinate ids ({reason}); an administrator \
             adds them with: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER"
        ));
    }
    match error {
        StepError::Base { source, .. }
        | StepError::Pull { source, .. }
        | StepError::Push { source, .. } => source.hint(),
        StepError::Store { source } if source.is_full() => Some(full()),
        StepError::Remote { source } if source.is_full() => Some(full()),
        StepError::Remote { source } => source.hint(),
        StepError::Limit { source } => Some(limits::advice(source.name)),
        StepError::Run {
            limit: Some(limit), ..
        } => Some(limits::advice(limit.name)),
        other => limit_of_archive(other).map(limits::advice),
    }
}

/// The limit that an archive does not keep.
fn limit_of_archive(error: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    let mut next = Some(error);
    while let Some(error) = next {
        let exceeded = error.downcast_ref().and_then(UnpackError::exceeded);
        if exceeded.is_some() {
            return exceeded;
        }
        next = error.source();
    }
    None
}

fn help_of_build(error: &Error) -> Option<String> {
    match error {
        Error::NoDockerfile { .. } => Some("-f PATH names another file".to_owned()),
        Error::Store { source } if source.is_full() => Some(full()),
        Error::Fetch { source } | Error::FetchDockerfile { source } => help_of(source, false, None),
        Error::ContextNotADirectory { .. } => {
            Some("the last argument is the directory to build from; -f names the file".to_owned())
        }
        _ => None,
    }
}

fn full() -> String {
    "the disk of the store is full; --root DIR or RBUILD_ROOT puts it elsewhere".to_owned()
}
