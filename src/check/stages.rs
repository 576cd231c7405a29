//! FROM: names, base images and platforms of stages.

use std::collections::{BTreeMap, BTreeSet};

use super::rule::{
    FROM_PLATFORM_FLAG_CONST_DISALLOWED, INVALID_DEFAULT_ARG_IN_FROM, REDUNDANT_TARGET_PLATFORM,
    RESERVED_STAGE_NAME, UNDEFINED_ARG_IN_FROM, UNREACHABLE_STAGE,
};
use super::variables::{ARGUMENTS_OF_PLATFORM, globals};
use super::{Check, Subject};
use crate::dockerfile::{
    Diagnostic, Dockerfile, Instruction, Span, Spanned, Stage, Statement, expand, nearest,
};
use crate::oci::parse_reference;

pub(super) fn check(check: &mut Check<'_>) {
    let defaults = globals(check.subject, &[]);
    let given = globals(check.subject, check.subject.build_args);
    let declared = declared(check);
    let elsewhere = declarations_of_stages(check);
    let numbers = numbers_read(check.subject.dockerfile);
    for stage in &check.subject.dockerfile.stages {
        reserved(check, stage);
        undeclared(check, stage, &given, &declared, &elsewhere);
        default_base(check, stage, &defaults);
        platform(check, stage, &given);
        unreachable(check, stage, &numbers);
    }
}

/// Per stage, the earlier one that it is made from.
pub(super) fn bases(subject: &Subject<'_>) -> Vec<Option<usize>> {
    let globals = globals(subject, subject.build_args);
    let escape = subject.dockerfile.directives.escape;
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    let mut bases = Vec::with_capacity(subject.dockerfile.stages.len());
    for stage in &subject.dockerfile.stages {
        let base = expand(&stage.base.value, escape, &globals).ok();
        bases.push(base.and_then(|base| names.get(base.value.as_str()).copied()));
        if let Some(name) = &stage.name {
            names.insert(&name.value, stage.index);
        }
    }
    bases
}

fn reserved(check: &mut Check<'_>, stage: &Stage) {
    let Some(name) = &stage.name else {
        return;
    };
    if !matches!(name.value.as_str(), "scratch" | "context") {
        return;
    }
    let message = format!(
        "Stage name should not use the same name as reserved stage {:?}",
        name.value
    );
    let place = check.place_of_from(stage.index);
    check.report(
        &RESERVED_STAGE_NAME,
        Diagnostic::new(name.span, message),
        Some(place),
    );
}

/// The names of the arguments before the first FROM.
fn declared(check: &Check<'_>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for statement in &check.subject.dockerfile.global_args {
        if let Instruction::Arg(declarations) = &statement.instruction {
            names.extend(declarations.iter().map(|d| d.name.value.clone()));
        }
    }
    names.extend(ARGUMENTS_OF_PLATFORM.map(str::to_owned));
    names
}

/// The ARG lines of the stages by name.
fn declarations_of_stages<'a>(check: &Check<'a>) -> BTreeMap<&'a str, Span> {
    let mut found = BTreeMap::new();
    for statement in check.statements() {
        if let Instruction::Arg(declarations) = &statement.instruction {
            for declaration in declarations {
                found
                    .entry(declaration.name.value.as_str())
                    .or_insert(statement.span);
            }
        }
    }
    found
}

fn undeclared(
    check: &mut Check<'_>,
    stage: &Stage,
    globals: &BTreeMap<String, String>,
    names: &[String],
    elsewhere: &BTreeMap<&str, Span>,
) {
    let escape = check.subject.dockerfile.directives.escape;
    for word in std::iter::once(&stage.base).chain(&stage.platform) {
        let Ok(expanded) = expand(&word.value, escape, globals) else {
            continue;
        };
        for unset in expanded.unset.iter().filter(|name| !names.contains(*name)) {
            let mut message = format!("FROM argument '{unset}' is not declared");
            let near = nearest(unset, names.iter().map(String::as_str));
            let mut help = format!("declare it with ARG {unset} before the first FROM");
            if let Some(near) = near {
                message.push_str(&format!(" (did you mean {near}?)"));
                help = format!("write {near}");
            }
            let mut diagnostic = Diagnostic::new(word.span, message).with_help(help);
            if let Some(declaration) = elsewhere.get(unset.as_str()) {
                diagnostic = diagnostic.with_related(
                    *declaration,
                    "this ARG belongs to its stage and is out of scope in FROM",
                );
            }
            let place = check.place_of_from(stage.index);
            check.report(&UNDEFINED_ARG_IN_FROM, diagnostic, Some(place));
        }
    }
}

fn declares(statement: &Statement, name: &str) -> bool {
    matches!(&statement.instruction, Instruction::Arg(declarations)
        if declarations.iter().any(|declaration| declaration.name.value == name))
}

/// A file that builds only with `--build-arg`.
fn default_base(check: &mut Check<'_>, stage: &Stage, defaults: &BTreeMap<String, String>) {
    let escape = check.subject.dockerfile.directives.escape;
    let Ok(base) = expand(&stage.base.value, escape, defaults) else {
        return;
    };
    if !stage.base.value.contains('$') || parse_reference(&base.value).is_ok() {
        return;
    }
    let message = format!(
        "Default value for ARG {} results in empty or invalid base image name",
        stage.base.value
    );
    let mut diagnostic = Diagnostic::new(stage.base.span, message);
    let global_args = &check.subject.dockerfile.global_args;
    for name in base.unset.iter().chain(&base.used) {
        if let Some(declaration) = global_args.iter().find(|global| declares(global, name)) {
            diagnostic = diagnostic
                .with_related(declaration.span, "declared here")
                .with_help(format!("give {name} a default: ARG {name}=…"));
            break;
        }
    }
    let place = check.place_of_from(stage.index);
    check.report(&INVALID_DEFAULT_ARG_IN_FROM, diagnostic, Some(place));
}

fn platform(check: &mut Check<'_>, stage: &Stage, globals: &BTreeMap<String, String>) {
    let Some(platform) = &stage.platform else {
        return;
    };
    let escape = check.subject.dockerfile.directives.escape;
    let Ok(expanded) = expand(&platform.value, escape, globals) else {
        return;
    };
    let place = check.place_of_from(stage.index);
    let target = globals.get("TARGETPLATFORM");
    if expanded.used == ["TARGETPLATFORM"]
        && expanded.unset.is_empty()
        && Some(&expanded.value) == target
    {
        let message = format!(
            "Setting platform to predefined {} in FROM is redundant as this is the default \
             behavior",
            platform.value
        );
        let diagnostic = Diagnostic::new(platform.span, message).with_help("remove --platform");
        check.report(&REDUNDANT_TARGET_PLATFORM, diagnostic, Some(place));
        return;
    }
    if expanded.used.is_empty() && expanded.unset.is_empty() {
        constant(check, stage, platform, &expanded.value);
    }
}

fn constant(check: &mut Check<'_>, stage: &Stage, platform: &Spanned<String>, value: &str) {
    // Who names a stage after its platform has several of them and means it.
    let name = stage.name.as_ref().map_or("", |name| name.value.as_str());
    if value.is_empty() || value.split('/').take(2).any(|part| name.contains(part)) {
        return;
    }
    let message = format!("FROM --platform flag should not use constant value {value:?}");
    let diagnostic = Diagnostic::new(platform.span, message)
        .with_help("leave the platform to the build, or write $BUILDPLATFORM");
    let place = check.place_of_from(stage.index);
    check.report(
        &FROM_PLATFORM_FLAG_CONST_DISALLOWED,
        diagnostic,
        Some(place),
    );
}

/// A stage without a name that no later one reads by its number.
fn unreachable(check: &mut Check<'_>, stage: &Stage, numbers: &BTreeSet<String>) {
    let number = stage.index.to_string();
    let is_last = stage.index + 1 == check.subject.dockerfile.stages.len();
    let is_target = check.subject.target == Some(number.as_str());
    if stage.name.is_some() || is_last || is_target || numbers.contains(&number) {
        return;
    }
    let message = format!("Stage {number} has no name and no other stage reads it");
    let diagnostic = Diagnostic::new(stage.from.span, message)
        .with_label("never built")
        .with_help("give it a name with AS, or remove it");
    let place = check.place_of_from(stage.index);
    check.report(&UNREACHABLE_STAGE, diagnostic, Some(place));
}

/// The numbers of stages that some instruction reads.
fn numbers_read(dockerfile: &Dockerfile) -> BTreeSet<String> {
    let mut numbers = BTreeSet::new();
    for statement in dockerfile.stages.iter().flat_map(|stage| &stage.statements) {
        collect_sources(statement, &mut numbers);
    }
    numbers.retain(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    numbers
}

fn collect_sources(statement: &Statement, found: &mut BTreeSet<String>) {
    let mut push = |from: &Option<Spanned<String>>| {
        found.extend(from.iter().map(|from| from.value.clone()));
    };
    match &statement.instruction {
        Instruction::Copy(copy) => push(&copy.from),
        Instruction::Run(run) => run.mounts.iter().for_each(|mount| push(&mount.from)),
        Instruction::Onbuild(onbuild) => collect_sources(&onbuild.parsed, found),
        _ => {}
    }
}
