//! What the names of a Dockerfile mean: stages, named contexts, images, targets.

use super::named;
use super::plan::{CopyFrom, PlannedBase};
use super::request::Request;
use crate::dockerfile::{
    Diagnostic, Dockerfile, Expanded, Instruction, MountFlag, Span, Spanned, Stage, Statement,
    nearest,
};
use crate::oci::Platform;

/// The stage to build: by name, else by number, else the last.
pub(super) fn find_target(
    dockerfile: &Dockerfile,
    target: Option<&str>,
) -> Result<usize, Vec<Diagnostic>> {
    let last = dockerfile.stages.len() - 1;
    let Some(target) = target else {
        return Ok(last);
    };
    let lower = target.to_lowercase();
    let names = || {
        dockerfile
            .stages
            .iter()
            .filter_map(|stage| stage.name.as_ref())
    };
    let by_name = dockerfile
        .stages
        .iter()
        .rposition(|stage| stage.name.as_ref().is_some_and(|name| name.value == lower));
    let by_index = || target.parse().ok().filter(|index| *index <= last);
    by_name.or_else(by_index).ok_or_else(|| {
        let span = dockerfile.stages[last].from.span;
        let mut message = format!("target stage \"{target}\" could not be found");
        if let Some(near) = nearest(&lower, names().map(|name| name.value.as_str())) {
            message.push_str(&format!(" (did you mean {near}?)"));
        }
        let mut error = Diagnostic::new(span, message);
        let known: Vec<&str> = names().map(|name| name.value.as_str()).collect();
        if !known.is_empty() {
            error = error.with_help(format!("the file has the stages {}", known.join(", ")));
        }
        vec![error]
    })
}

/// The name after FROM, which has to be one.
pub(super) fn named_base(base: Expanded, written: &Spanned<String>) -> Result<String, Diagnostic> {
    if !base.value.is_empty() {
        return Ok(base.value);
    }
    let message = format!("base name ({}) should not be blank", written.value);
    let error = Diagnostic::new(written.span, message);
    Err(match base.unset.first() {
        Some(unset) => error.with_help(format!(
            "{unset} has no value: declare it with ARG {unset}=… before the first FROM, or give \
             --build-arg {unset}=…"
        )),
        None => error,
    })
}

/// An earlier stage by its exact name, else nothing, else a named context, else an image.
pub(super) fn plan_base(
    base: &str,
    stage: &Stage,
    platform: &Platform,
    dockerfile: &Dockerfile,
    request: &Request,
) -> PlannedBase {
    let earlier = &dockerfile.stages[..stage.index];
    let is_named = |stage: &Stage| stage.name.as_ref().is_some_and(|name| name.value == base);
    if let Some(index) = earlier.iter().rposition(is_named) {
        return PlannedBase::Stage(index);
    }
    if base == "scratch" {
        return PlannedBase::Scratch;
    }
    match named::find(base, platform, request) {
        Some(index) => PlannedBase::Named(index),
        None => PlannedBase::Image(base.to_owned()),
    }
}

/// Resolves the `--from` of COPY: a stage by name or number, else a named context, else an image.
pub(super) fn plan_from(
    statement: &Statement,
    location: Span,
    dockerfile: &Dockerfile,
    request: &Request,
) -> Result<Option<CopyFrom>, Diagnostic> {
    let Instruction::Copy(copy) = &statement.instruction else {
        return Ok(None);
    };
    let Some(from) = &copy.from else {
        return Ok(None);
    };
    // A trigger of the base image has no text here: its place is the FROM line.
    let span = if statement.span == location {
        from.span
    } else {
        location
    };
    find_source(&from.value, span, dockerfile, request).map(Some)
}

/// Resolves `from=` of each mount of a RUN, as [`plan_from`] does, but for numbers of stages: mounts
/// know names only.
pub(super) fn plan_mounts(
    statement: &Statement,
    location: Span,
    dockerfile: &Dockerfile,
    request: &Request,
) -> Result<Vec<Option<CopyFrom>>, Diagnostic> {
    let Instruction::Run(run) = &statement.instruction else {
        return Ok(Vec::new());
    };
    let own = statement.span == location;
    let resolve = |mount: &MountFlag| {
        let Some(from) = mount.from.as_ref().filter(|from| !from.value.is_empty()) else {
            return Ok(None);
        };
        let span = if own { from.span } else { location };
        if from.value.parse::<i64>().is_ok() {
            let message = format!("a mount cannot name the stage {} by its number", from.value);
            return Err(Diagnostic::new(span, message).with_help("give the stage a name with AS"));
        }
        Ok(Some(
            match find_source(&from.value, span, dockerfile, request)? {
                CopyFrom::Image(name) if name == "scratch" => CopyFrom::Scratch,
                source => source,
            },
        ))
    };
    run.mounts.iter().map(resolve).collect()
}

/// What `name` means as the source of files: a stage by name or number, else a named context, else
/// an image.
pub(crate) fn find_source(
    name: &str,
    span: Span,
    dockerfile: &Dockerfile,
    request: &Request,
) -> Result<CopyFrom, Diagnostic> {
    let lower = name.to_lowercase();
    let is_named = |stage: &Stage| stage.name.as_ref().is_some_and(|name| name.value == lower);
    let stage = match name.parse::<i64>() {
        Ok(number) => {
            let index = usize::try_from(number).ok();
            let index = index.filter(|index| *index < dockerfile.stages.len());
            let count = dockerfile.stages.len();
            Some(index.ok_or_else(|| {
                Diagnostic::new(span, format!("invalid stage index {number}"))
                    .with_help(format!("the file has {count} stages, counted from 0"))
            })?)
        }
        Err(_) => dockerfile.stages.iter().rposition(is_named),
    };
    let context = |name: &str| named::find(name, &request.platform, request);
    let Some(index) = stage else {
        return Ok(match context(name) {
            Some(index) => CopyFrom::Named(index),
            None => CopyFrom::Image(name.to_owned()),
        });
    };
    let stage_name = dockerfile.stages[index].name.as_ref();
    let taken_over = stage_name.and_then(|name| context(&name.value));
    Ok(match taken_over {
        // Its files are read where they are, without a copy of all of them first.
        Some(context) if named::is_files(context, request) => CopyFrom::Named(context),
        _ => CopyFrom::Stage(index),
    })
}
