//! What a Dockerfile offers its user: build arguments, secrets, stages.

use super::Subject;
use super::variables::globals;
use crate::dockerfile::{Instruction, RunInstruction, RunMount, Span, Spanned, Statement, expand};

/// A thing with the lines of the instruction that it comes from, counted from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) description: String,
    /// Of an argument: its value, when it has one.
    pub(crate) value: String,
    /// Of a secret or an agent: the build fails without it.
    pub(crate) required: bool,
    pub(crate) lines: (usize, usize),
}

/// Everything that the stages of a target take.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Outline {
    /// The target's name; empty when it has none.
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) args: Vec<Entry>,
    pub(crate) secrets: Vec<Entry>,
    pub(crate) ssh: Vec<Entry>,
    /// Cache mounts, by their id.
    pub(crate) cache: Vec<Entry>,
}

/// A stage that can be built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) base: String,
    pub(crate) platform: String,
    /// Built when no target is given.
    pub(crate) default: bool,
    pub(crate) lines: (usize, usize),
}

/// The outline of stage `target`; of other stages those count that `subject` checks.
pub(crate) fn outline(subject: &Subject<'_>, target: usize) -> Outline {
    let stage = &subject.dockerfile.stages[target];
    let name = stage.name.as_ref().map(|name| name.value.clone());
    let name = name.unwrap_or_default();
    let mut outline = Outline {
        description: description(&name, &stage.from.comments),
        name,
        ..Outline::default()
    };
    let escape = subject.dockerfile.directives.escape;
    let values = globals(subject, subject.build_args);
    for statement in &subject.dockerfile.global_args {
        push_arguments(subject, &mut outline, statement, &values);
    }
    for stage in &subject.dockerfile.stages {
        if !subject.stages.get(stage.index).copied().unwrap_or(true) {
            continue;
        }
        for statement in &stage.statements {
            push_arguments(subject, &mut outline, statement, &values);
            if let Instruction::Run(run) = &statement.instruction {
                push_mounts(subject, &mut outline, statement, run, escape, &values);
            }
        }
    }
    outline
}

type Values = std::collections::BTreeMap<String, String>;

fn push_arguments(
    subject: &Subject<'_>,
    outline: &mut Outline,
    statement: &Statement,
    globals: &Values,
) {
    let Instruction::Arg(declarations) = &statement.instruction else {
        return;
    };
    for declaration in declarations {
        let name = &declaration.name.value;
        let mut given = subject.build_args.iter().rev();
        let given = given.find(|(given, _)| given == name);
        let default = declaration.default.as_ref().map(|default| {
            expand(
                &default.value,
                subject.dockerfile.directives.escape,
                globals,
            )
            .map_or_else(|_| default.value.clone(), |expanded| expanded.value)
        });
        let value = given
            .map(|(_, value)| value.clone())
            .or(default)
            .or_else(|| globals.get(name).cloned());
        let entry = Entry {
            name: name.clone(),
            description: description(name, &statement.comments),
            value: value.unwrap_or_default(),
            required: false,
            lines: lines(subject, statement.line, statement.span),
        };
        match outline.args.iter_mut().find(|there| there.name == *name) {
            // What a stage takes over from the global scope is described there.
            Some(there) if declaration.default.is_none() => {
                if there.description.is_empty() {
                    there.description = entry.description;
                }
            }
            Some(there) => *there = entry,
            None => outline.args.push(entry),
        }
    }
}

fn push_mounts(
    subject: &Subject<'_>,
    outline: &mut Outline,
    statement: &Statement,
    run: &RunInstruction,
    escape: char,
    globals: &Values,
) {
    let mut expanded = |word: &str| expand(word, escape, globals).map(|word| word.value);
    for mount in &run.mounts {
        let Ok(mount) = mount.resolve(&mut expanded) else {
            continue;
        };
        let (list, name, required) = match mount {
            RunMount::Secret(secret) => (&mut outline.secrets, secret.id, secret.required),
            RunMount::Ssh(ssh) => (&mut outline.ssh, ssh.id, ssh.required),
            RunMount::Cache(cache) => (&mut outline.cache, cache.id.unwrap_or(cache.target), false),
            RunMount::Bind(_) | RunMount::Tmpfs(_) => continue,
        };
        match list.iter_mut().find(|there| there.name == name) {
            Some(there) => there.required |= required,
            None => list.push(Entry {
                name,
                description: String::new(),
                value: String::new(),
                required,
                lines: lines(subject, statement.line, statement.span),
            }),
        }
    }
}

/// Every stage of the file. BuildKit lists those without a name too.
pub(crate) fn targets(subject: &Subject<'_>) -> Vec<Target> {
    let stages = &subject.dockerfile.stages;
    stages
        .iter()
        .map(|stage| {
            let name = stage.name.as_ref().map(|name| name.value.clone());
            let name = name.unwrap_or_default();
            Target {
                description: description(&name, &stage.from.comments),
                name,
                base: stage.base.value.clone(),
                platform: stage
                    .platform
                    .as_ref()
                    .map(|platform| platform.value.clone())
                    .unwrap_or_default(),
                default: stage.index + 1 == stages.len(),
                lines: lines(subject, stage.from.line, stage.from.span),
            }
        })
        .collect()
}

fn lines(subject: &Subject<'_>, first: usize, span: Span) -> (usize, usize) {
    let text = &subject.source[span.start..span.end];
    (first, first + text.matches('\n').count())
}

/// What stands behind the name in the comment directly above that begins with it.
fn description(name: &str, comments: &[Spanned<String>]) -> String {
    if name.is_empty() {
        return String::new();
    }
    comments
        .iter()
        .filter_map(|comment| comment.value.strip_prefix(name))
        .find_map(|rest| rest.strip_prefix(' '))
        .map_or_else(String::new, |rest| rest.trim().to_owned())
}
