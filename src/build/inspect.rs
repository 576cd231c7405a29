//! A Dockerfile that is looked at and not built: checks, outline, targets.
//!
//! Nothing here touches the store, the network or a namespace.

use super::engine::{ContextPlace, Engine};
use super::error::Error;
use super::plan::{self, Plan, PlannedBase};
use super::request::{ContextSource, DockerfileSource, Request};
use super::{DockerfileText, Failure, input, support};
use crate::check::outline::{Outline, Target, outline, targets};
use crate::check::{Checked, Subject, base_platform, check};
use crate::context::ignore::Ignore;
use crate::context::read_ignore_file;
use crate::dockerfile::{Diagnostic, Dockerfile, parse};

/// A Dockerfile that parses, with what a build of it would know before any work.
#[derive(Debug)]
pub(crate) struct Inspection {
    pub(crate) text: DockerfileText,
    dockerfile: Dockerfile,
    ignore: Option<Ignore>,
    /// Per stage, whether the target needs it; empty when that cannot be told.
    needed: Vec<bool>,
    /// `None` when the file cannot be planned at all.
    target: Option<usize>,
    /// Why it would not be built all the same.
    pub(crate) refused: Vec<Diagnostic>,
}

/// Reads what `request` names. A context archive is not looked into.
pub(crate) fn inspect(request: &Request) -> Result<Inspection, Box<Failure>> {
    let bare = |error| {
        Box::new(Failure {
            error,
            dockerfile: None,
        })
    };
    let from_stdin =
        request.context == ContextSource::Stdin && request.dockerfile != DockerfileSource::Stdin;
    let (text, context) = if from_stdin {
        match input::read_stdin().map_err(bare)? {
            input::Stdin::Dockerfile(text) => (text, ContextPlace::Empty),
            input::Stdin::Archive(_) => return Err(bare(Error::InspectArchive)),
        }
    } else {
        let text = input::read_dockerfile(request).map_err(bare)?;
        let context = place(&text, request).map_err(bare)?;
        (text, context)
    };
    let fail = |error, text: &DockerfileText| {
        Box::new(Failure {
            error,
            dockerfile: Some(text.clone()),
        })
    };
    let dockerfile = support::check_frontend(&text.text, request)
        .map_err(|foreign| vec![foreign])
        .and_then(|()| parse(&text.text))
        .map_err(|diagnostics| fail(Error::Dockerfile { diagnostics }, &text))?;
    let ignore = ignore_of(&context).map_err(|error| fail(error, &text))?;
    let (needed, target, refused) = match plan::arrange(&dockerfile, request) {
        Ok(plan) => (needed(&plan), Some(plan.target), plan.unsupported(request)),
        Err(refused) => (Vec::new(), None, refused),
    };
    Ok(Inspection {
        text,
        dockerfile,
        ignore,
        needed,
        target,
        refused,
    })
}

/// Where the files of a build from a directory, or from none, are.
pub(crate) fn place(text: &DockerfileText, request: &Request) -> Result<ContextPlace, Error> {
    if let ContextSource::Directory(path) = &request.context {
        input::check_directory(path)?;
    }
    Ok(ContextPlace::beside(request, text))
}

fn needed(plan: &Plan) -> Vec<bool> {
    plan.stages.iter().map(|stage| stage.needed).collect()
}

/// The rules of the context's ignore file, when there are any.
fn ignore_of(context: &ContextPlace) -> Result<Option<Ignore>, Error> {
    let ContextPlace::Directory { path, dockerfile } = context else {
        return Ok(None);
    };
    let (ignore, _) = read_ignore_file(path, dockerfile.as_deref())
        .map_err(|source| Error::ReadContext { source })?;
    Ok(Some(ignore).filter(|ignore| !ignore.is_empty()))
}

impl Inspection {
    /// What the rules find: in what the target needs, or everywhere when no target was named.
    pub(crate) fn check(&self, request: &Request) -> Result<Checked, Diagnostic> {
        let stages = match request.target {
            Some(_) => self.needed.clone(),
            None => Vec::new(),
        };
        check(&self.subject(request, stages))
    }

    /// What the target takes; `None` when there is no such target.
    pub(crate) fn outline(&self, request: &Request) -> Option<Outline> {
        let subject = self.subject(request, self.needed.clone());
        self.target.map(|target| outline(&subject, target))
    }

    pub(crate) fn targets(&self, request: &Request) -> Vec<Target> {
        targets(&self.subject(request, Vec::new()))
    }

    fn subject<'a>(&'a self, request: &'a Request, stages: Vec<bool>) -> Subject<'a> {
        Subject {
            stages,
            ..subject(&self.text, &self.dockerfile, request, self.ignore.as_ref())
        }
    }
}

fn subject<'a>(
    text: &'a DockerfileText,
    dockerfile: &'a Dockerfile,
    request: &'a Request,
    ignore: Option<&'a Ignore>,
) -> Subject<'a> {
    Subject {
        source: &text.text,
        dockerfile,
        build_args: &request.build_args,
        platform: &request.platform,
        target: request.target.as_deref(),
        ignore,
        stages: Vec::new(),
    }
}

/// Checks what is about to be built: findings that are errors end it here.
pub(crate) fn check_planned(
    text: &DockerfileText,
    dockerfile: &Dockerfile,
    plan: &Plan,
    request: &Request,
    context: &ContextPlace,
) -> Result<Checked, Error> {
    // A bad ignore file is reported by the step that needs it, with its line.
    let ignore = ignore_of(context).unwrap_or_default();
    let checked = check(&Subject {
        stages: needed(plan),
        ..subject(text, dockerfile, request, ignore.as_ref())
    })
    .map_err(|diagnostic| Error::Dockerfile {
        diagnostics: vec![diagnostic],
    })?;
    match checked.violation() {
        Some(message) => Err(Error::Checks {
            message,
            findings: checked.findings,
        }),
        None => Ok(checked),
    }
}

/// Finds the base images that are for another platform than their stage. The engine has found every
/// image.
pub(crate) fn check_platforms(engine: &Engine<'_>, dockerfile: &Dockerfile, checked: &mut Checked) {
    for stage in engine.plan.stages.iter().filter(|stage| stage.needed) {
        let name = match &stage.base {
            PlannedBase::Image(name) => name,
            PlannedBase::Named(index) if engine.is_image(*index) => {
                &engine.request.named_contexts[*index].name
            }
            _ => continue,
        };
        let actual = engine.image_of_base(stage).base.platform();
        let from = &dockerfile.stages[stage.index].from;
        let finding = base_platform(name, from, &stage.platform, &actual);
        finding.into_iter().for_each(|finding| checked.add(finding));
    }
}
