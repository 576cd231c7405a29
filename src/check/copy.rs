//! COPY and ADD.

use std::collections::BTreeMap;
use std::path::Path;

use super::rule::{ADD_FOR_PLAIN_FILE, CHOWN_AFTER_COPY, COPY_DOT_BEFORE_DEPS, COPY_IGNORED_FILE};
use super::{Check, is_ignored};
use crate::context::ignore;
use crate::dockerfile::{
    CopyInstruction, Diagnostic, Instruction, ShellOrExec, Source, Span, Stage, Statement,
};

/// Commands that install what a project depends on, and read only its lists of dependencies.
const INSTALLERS: [&str; 11] = [
    "npm ci",
    "npm install",
    "yarn install",
    "pnpm install",
    "pip install -r",
    "pip3 install -r",
    "poetry install",
    "bundle install",
    "composer install",
    "go mod download",
    "cargo fetch",
];

/// Endings of files that ADD unpacks.
const ARCHIVES: [&str; 9] = [
    ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".gz",
];

pub(super) fn check(check: &mut Check<'_>) {
    for statement in check.statements() {
        match &statement.instruction {
            Instruction::Copy(copy) if copy.from.is_none() => {
                ignored(check, statement, copy, "Copy");
            }
            Instruction::Add(add) => {
                ignored(check, statement, &add.copy, "Add");
                plain_add(check, statement, &add.copy);
            }
            _ => {}
        }
    }
    for stage in &check.subject.dockerfile.stages {
        if check
            .subject
            .stages
            .get(stage.index)
            .copied()
            .unwrap_or(true)
        {
            dot_before_dependencies(check, stage);
            chown_after_copy(check, stage);
        }
    }
}

fn is_remote(source: &str) -> bool {
    source.contains("://") || source.starts_with("git@")
}

fn ignored(check: &mut Check<'_>, statement: &Statement, copy: &CopyInstruction, command: &str) {
    let Some(ignore) = check.subject.ignore else {
        return;
    };
    for source in &copy.sources {
        let Source::Path(path) = source else { continue };
        // Patterns and variables are left alone: some of what they name may be there.
        if is_remote(&path.value) || path.value.contains(['$', '*', '?', '[', '\\', '"', '\'']) {
            continue;
        }
        let clean = ignore::clean(&path.value);
        let relative = clean.trim_start_matches('/');
        if relative.is_empty() || relative == "." || !is_ignored(ignore, Path::new(relative)) {
            continue;
        }
        let message =
            format!("Attempting to {command} file {clean:?} that is excluded by .dockerignore");
        let mut diagnostic = Diagnostic::new(path.span, message);
        let matched = ignore.matched(Path::new(relative));
        if let Some(rule) = ignore.verdict_of(&matched).rule {
            let file = ignore.file();
            diagnostic = diagnostic.with_help(format!(
                "line {} of {file} hides it: {}",
                rule.line, rule.text
            ));
        }
        let place = check.place(statement);
        check.report(&COPY_IGNORED_FILE, diagnostic, Some(place));
    }
}

fn plain_add(check: &mut Check<'_>, statement: &Statement, copy: &CopyInstruction) {
    let needs_add = |source: &Source| match source {
        Source::Path(path) => {
            is_remote(&path.value)
                || path.value.contains(['$', '*', '?'])
                || ARCHIVES.iter().any(|ending| path.value.ends_with(ending))
        }
        Source::Heredoc(_) => false,
    };
    if copy.sources.iter().any(needs_add) {
        return;
    }
    let diagnostic = Diagnostic::new(
        statement.keyword_span,
        "ADD only copies here, which COPY says more clearly",
    )
    .with_help("write COPY");
    let place = check.place(statement);
    check.report(&ADD_FOR_PLAIN_FILE, diagnostic, Some(place));
}

fn shell_text(statement: &Statement) -> Option<&str> {
    match &statement.instruction {
        Instruction::Run(run) => match &run.command {
            ShellOrExec::Shell(text) => Some(&text.value),
            ShellOrExec::Exec(_) => None,
        },
        _ => None,
    }
}

fn dot_before_dependencies(check: &mut Check<'_>, stage: &Stage) {
    let installs = |statement: &&Statement| {
        shell_text(statement)
            .is_some_and(|text| INSTALLERS.iter().any(|command| text.contains(command)))
    };
    let Some(position) = stage.statements.iter().position(|statement| {
        matches!(&statement.instruction, Instruction::Copy(copy)
            if copy.from.is_none() && copy.sources.iter().any(is_everything))
    }) else {
        return;
    };
    let (before, after) = stage.statements.split_at(position);
    if before.iter().any(|statement| installs(&statement)) {
        return;
    }
    let Some(install) = after.iter().find(installs) else {
        return;
    };
    let diagnostic = Diagnostic::new(
        stage.statements[position].span,
        "Every change of a file repeats the installation of the dependencies",
    )
    .with_related(install.span, "they are installed here")
    .with_help("copy the lists of dependencies first, install, then copy the rest");
    let place = check.place(&stage.statements[position]);
    check.report(&COPY_DOT_BEFORE_DEPS, diagnostic, Some(place));
}

fn is_everything(source: &Source) -> bool {
    matches!(source, Source::Path(path) if matches!(path.value.as_str(), "." | "./"))
}

fn chown_after_copy(check: &mut Check<'_>, stage: &Stage) {
    // Where the files were copied to, by the path without a slash at its end.
    let mut copied: BTreeMap<&str, Span> = BTreeMap::new();
    for statement in &stage.statements {
        if let Instruction::Copy(copy) = &statement.instruction
            && copy.chown.is_none()
        {
            let destination = copy.destination.value.trim_end_matches('/');
            copied.insert(destination, statement.span);
        }
        let commands = shell_text(statement)
            .into_iter()
            .flat_map(|text| text.split(['&', ';', '|', '\n']));
        let changed = commands
            .map(str::trim)
            .filter(|command| command.starts_with("chown "))
            .flat_map(|command| command.split_whitespace().skip(2))
            .find_map(|path| copied.get(path.trim_end_matches('/')));
        if let Some(copy) = changed {
            let diagnostic = Diagnostic::new(
                statement.span,
                "The files are in two layers, with and without the new owner",
            )
            .with_related(*copy, "copied here")
            .with_help("write COPY --chown=… instead");
            let place = check.place(statement);
            check.report(&CHOWN_AFTER_COPY, diagnostic, Some(place));
        }
    }
}
