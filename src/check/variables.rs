//! Variables that are not defined where they are used.

use std::collections::{BTreeMap, BTreeSet};

use super::rule::{UNDEFINED_VAR, WORKDIR_RELATIVE_PATH};
use super::{Check, Subject};
use crate::dockerfile::{
    ArgDeclaration, CopyInstruction, Diagnostic, Expanded, Instruction, MAX_TOTAL, Source, Span,
    Spanned, Statement, WordError, expand, expand_heredoc, nearest,
};
use crate::oci::Platform;

/// The arguments that have a value without anybody giving one.
pub(super) const ARGUMENTS_OF_PLATFORM: [&str; 11] = [
    "BUILDPLATFORM",
    "BUILDOS",
    "BUILDOSVERSION",
    "BUILDARCH",
    "BUILDVARIANT",
    "TARGETPLATFORM",
    "TARGETOS",
    "TARGETOSVERSION",
    "TARGETARCH",
    "TARGETVARIANT",
    "TARGETSTAGE",
];

/// The values of the arguments that FROM sees, with `build_args` given.
pub(super) fn globals(
    subject: &Subject<'_>,
    build_args: &[(String, String)],
) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    for (prefix, platform) in [("BUILD", &Platform::host()), ("TARGET", subject.platform)] {
        let variant = platform.variant.clone().unwrap_or_default();
        values.insert(format!("{prefix}PLATFORM"), platform.to_string());
        values.insert(format!("{prefix}OS"), platform.os.clone());
        values.insert(format!("{prefix}OSVERSION"), String::new());
        values.insert(format!("{prefix}ARCH"), platform.architecture.clone());
        values.insert(format!("{prefix}VARIANT"), variant);
    }
    let target = subject.target.unwrap_or("default").to_owned();
    values.insert("TARGETSTAGE".to_owned(), target);
    let escape = subject.dockerfile.directives.escape;
    let mut length = 0;
    for statement in &subject.dockerfile.global_args {
        let Instruction::Arg(declarations) = &statement.instruction else {
            continue;
        };
        for declaration in declarations {
            let name = &declaration.name.value;
            if let Some(value) = value_of(declaration, build_args, escape, &values) {
                length += value.len();
                if length > MAX_TOTAL {
                    return values;
                }
                values.insert(name.clone(), value);
            }
        }
    }
    values
}

fn value_of(
    declaration: &ArgDeclaration,
    build_args: &[(String, String)],
    escape: char,
    values: &BTreeMap<String, String>,
) -> Option<String> {
    let name = &declaration.name.value;
    let mut given = build_args.iter().rev();
    if let Some((_, value)) = given.find(|(given, _)| given == name) {
        return Some(value.clone());
    }
    let default = declaration.default.as_ref()?;
    expand(&default.value, escape, values)
        .ok()
        .map(|expanded| expanded.value)
}

/// A suggestion is looked for among so many names; a file with more was written by a program.
const MOST_COMPARED: usize = 1000;

impl Variables {
    /// A build of a file that says more than [`MAX_TOTAL`] fails there, so the rest is not looked at.
    fn set(&mut self, name: String, value: String) {
        self.length += value.len();
        if self.length <= MAX_TOTAL {
            self.values.insert(name, value);
        }
    }
}

/// Words are expanded to so many bytes in all before the rest of the file is left unchecked.
const MOST_EXPANDED: usize = 32 << 20;

/// What is known of the variables at one point of a stage.
#[derive(Debug, Clone, Default)]
struct Variables {
    values: BTreeMap<String, String>,
    /// Declared with ARG, perhaps without a value.
    declared: BTreeSet<String>,
    /// Nothing else is set: the stage goes back to `scratch`. What other bases set is in their
    /// images, which checking does not fetch.
    complete: bool,
    /// A WORKDIR was seen.
    workdir: bool,
    /// Bytes of all values that were ever set.
    length: usize,
}

pub(super) fn check(check: &mut Check<'_>) {
    let stages = &check.subject.dockerfile.stages;
    let globals = globals(check.subject, check.subject.build_args);
    let of_globals = positions(&check.subject.dockerfile.global_args);
    let mut left = MOST_EXPANDED;
    let mut ends: Vec<Variables> = Vec::with_capacity(stages.len());
    for stage in stages {
        let mut variables = match check.bases[stage.index] {
            Some(base) => ends[base].clone(),
            None => Variables {
                complete: stage.base.value == "scratch",
                // Every stage has a PATH; a later one may be of any length.
                values: BTreeMap::from([("PATH".to_owned(), "/usr/bin".to_owned())]),
                ..Variables::default()
            },
        };
        let checked = check.subject.stages.get(stage.index).copied();
        let places = Declarations {
            globals: &of_globals,
            stage: positions(&stage.statements),
        };
        for statement in &stage.statements {
            if checked.unwrap_or(true) {
                undefined(check, statement, &variables, &places, &mut left);
                relative(check, statement, &variables);
            }
            let before = variables.length;
            take(check, statement, &mut variables, &globals);
            left = left.saturating_sub(variables.length - before);
            if left == 0 {
                return;
            }
        }
        ends.push(variables);
    }
}

/// Adds what a statement sets.
fn take(
    check: &Check<'_>,
    statement: &Statement,
    variables: &mut Variables,
    globals: &BTreeMap<String, String>,
) {
    let escape = check.subject.dockerfile.directives.escape;
    match &statement.instruction {
        Instruction::Arg(declarations) => {
            for declaration in declarations {
                let name = &declaration.name.value;
                let build_args = check.subject.build_args;
                let value = value_of(declaration, build_args, escape, &variables.values)
                    .or_else(|| globals.get(name).cloned());
                variables.declared.insert(name.clone());
                if let Some(value) = value {
                    variables.set(name.clone(), value);
                }
            }
        }
        Instruction::Env(pairs) => {
            let expanded = |word: &Spanned<String>| {
                expand(&word.value, escape, &variables.values).map(|word| word.value)
            };
            // All values are those from before the instruction.
            let set: Vec<(String, String)> = pairs
                .pairs
                .iter()
                .filter_map(|(key, value)| Some((expanded(key).ok()?, expanded(value).ok()?)))
                .collect();
            for (name, value) in set {
                variables.set(name, value);
            }
        }
        Instruction::Workdir(_) => variables.workdir = true,
        _ => {}
    }
}

fn undefined(
    check: &mut Check<'_>,
    statement: &Statement,
    variables: &Variables,
    places: &Declarations<'_>,
    left: &mut usize,
) {
    let escape = check.subject.dockerfile.directives.escape;
    let mut seen = BTreeSet::new();
    for word in words_of(statement, check.subject.source) {
        let Ok(expanded) = word.expand(escape, &variables.values) else {
            continue;
        };
        *left = left.saturating_sub(expanded.value.len());
        if *left == 0 {
            return;
        }
        for name in expanded.unset {
            if variables.declared.contains(&name) || !seen.insert(name.clone()) {
                continue;
            }
            let known = || {
                variables
                    .values
                    .keys()
                    .map(String::as_str)
                    .take(MOST_COMPARED)
            };
            let near = if variables.complete {
                nearest(&name, known())
            } else {
                known().find(|known| is_slip(&name, known))
            };
            let elsewhere = places.find(&name, statement);
            let of_platform = ARGUMENTS_OF_PLATFORM.contains(&name.as_str());
            if near.is_none() && elsewhere.is_none() && !of_platform && !variables.complete {
                continue;
            }
            let span = place_of(check.subject.source, word.span, &name);
            let mut message = format!("Usage of undefined variable '${name}'");
            let mut help = format!("declare it with ARG {name} or ENV {name}=… above");
            if let Some(near) = near {
                message.push_str(&format!(" (did you mean ${near}?)"));
                help = format!("write ${near}");
            }
            let mut diagnostic = Diagnostic::new(span, message);
            if let Some((declared, why)) = elsewhere {
                diagnostic = diagnostic.with_related(declared, why);
                help = format!("add ARG {name} above this instruction");
            } else if of_platform {
                help = format!("add ARG {name} above this instruction");
            }
            let place = check.place(statement);
            check.report(&UNDEFINED_VAR, diagnostic.with_help(help), Some(place));
        }
    }
}

/// Where ARG lines declare their names.
struct Declarations<'a> {
    globals: &'a BTreeMap<&'a str, Span>,
    stage: BTreeMap<&'a str, Span>,
}

impl Declarations<'_> {
    /// Where the file declares `name` so that `statement` does not see it.
    fn find(&self, name: &str, statement: &Statement) -> Option<(Span, &'static str)> {
        if let Some(span) = self.globals.get(name) {
            return Some((*span, "declared here, outside of the stage"));
        }
        let later = self.stage.get(name)?;
        (later.start > statement.span.start).then_some((*later, "declared only here"))
    }
}

/// The last ARG line of each name.
fn positions(statements: &[Statement]) -> BTreeMap<&str, Span> {
    let mut found = BTreeMap::new();
    for statement in statements {
        if let Instruction::Arg(declarations) = &statement.instruction {
            for declaration in declarations {
                found.insert(declaration.name.value.as_str(), statement.span);
            }
        }
    }
    found
}

/// Whether one slip of a finger makes `known` of `name`: two letters swapped, one replaced, one too
/// many or missing, but not in front, where `GOPATH` is another thing than `PATH`.
fn is_slip(name: &str, known: &str) -> bool {
    let (name, known): (Vec<char>, Vec<char>) = (name.chars().collect(), known.chars().collect());
    if known.len() < 3 || name.len().abs_diff(known.len()) > 1 || name == known {
        return false;
    }
    let same = name.iter().zip(&known).take_while(|(a, b)| a == b).count();
    if same == 0 {
        return false;
    }
    let (left, right) = (&name[same..], &known[same..]);
    match (left, right) {
        ([a, b, left @ ..], [c, d, right @ ..]) if a == d && b == c => left == right,
        // Short names with one letter changed are as often other names.
        ([a, left @ ..], [b, right @ ..]) if left == right => {
            known.len() > 4 && !a.is_ascii_digit() && !b.is_ascii_digit()
        }
        ([a, left @ ..], right) if left == right => !a.is_ascii_digit() && *a != '_',
        (left, [b, right @ ..]) if left == right => !b.is_ascii_digit() && *b != '_',
        _ => false,
    }
}

/// The place of a variable in a word; the word's own when it is not found as it was read.
fn place_of(source: &str, word: Span, name: &str) -> Span {
    let text = &source[word.start..word.end];
    for prefix in ["$", "${"] {
        let needle = format!("{prefix}{name}");
        for (at, _) in text.match_indices(&needle) {
            let end = at + needle.len();
            let goes_on = |c: char| c.is_alphanumeric() || c == '_';
            if text[end..].starts_with(goes_on) {
                continue;
            }
            let end = match (prefix, text[end..].find('}')) {
                ("${", Some(brace)) => end + brace + 1,
                _ => end,
            };
            return Span::new(word.start + at, word.start + end);
        }
    }
    word
}

/// A text whose variables the builder expands.
struct Word<'a> {
    text: &'a str,
    span: Span,
    heredoc: bool,
}

impl Word<'_> {
    fn expand(
        &self,
        escape: char,
        values: &BTreeMap<String, String>,
    ) -> Result<Expanded, WordError> {
        if self.heredoc {
            expand_heredoc(self.text, values)
        } else {
            expand(self.text, escape, values)
        }
    }
}

fn words_of<'a>(statement: &'a Statement, source: &'a str) -> Vec<Word<'a>> {
    let word = |spanned: &'a Spanned<String>| Word {
        text: &spanned.value,
        span: spanned.span,
        heredoc: false,
    };
    match &statement.instruction {
        Instruction::Add(add) => words_of_copy(&add.copy)
            .into_iter()
            .chain(add.checksum.iter().map(word))
            .collect(),
        Instruction::Copy(copy) => words_of_copy(copy),
        Instruction::Arg(declarations) => declarations
            .iter()
            .filter_map(|declaration| declaration.default.as_ref())
            .map(word)
            .collect(),
        Instruction::Env(values) | Instruction::Label(values) => values
            .pairs
            .iter()
            .flat_map(|(key, value)| [word(key), word(value)])
            .collect(),
        Instruction::Expose(words) | Instruction::Volume(words) => words.iter().map(word).collect(),
        Instruction::Stopsignal(value) | Instruction::User(value) | Instruction::Workdir(value) => {
            vec![word(value)]
        }
        Instruction::Run(run) => run
            .mounts
            .iter()
            .map(|mount| Word {
                text: &source[mount.span.start..mount.span.end],
                span: mount.span,
                heredoc: false,
            })
            .collect(),
        _ => Vec::new(),
    }
}

fn words_of_copy(copy: &CopyInstruction) -> Vec<Word<'_>> {
    let word = |spanned: &'_ Spanned<String>| -> (Span, bool) { (spanned.span, false) };
    let mut words = Vec::new();
    for source in &copy.sources {
        match source {
            Source::Path(path) => words.push((path.value.as_str(), word(path))),
            Source::Heredoc(document) if document.expand => {
                words.push((document.body.as_str(), (document.body_span, true)));
            }
            Source::Heredoc(_) => {}
        }
    }
    let others = std::iter::once(&copy.destination)
        .chain(&copy.chown)
        .chain(&copy.chmod)
        .chain(&copy.excludes);
    words.extend(others.map(|other| (other.value.as_str(), word(other))));
    words
        .into_iter()
        .map(|(text, (span, heredoc))| Word {
            text,
            span,
            heredoc,
        })
        .collect()
}

fn relative(check: &mut Check<'_>, statement: &Statement, variables: &Variables) {
    let Instruction::Workdir(path) = &statement.instruction else {
        return;
    };
    let escape = check.subject.dockerfile.directives.escape;
    let Ok(expanded) = expand(&path.value, escape, &variables.values) else {
        return;
    };
    if variables.workdir || !expanded.unset.is_empty() || expanded.value.starts_with('/') {
        return;
    }
    let message = format!(
        "Relative workdir {:?} can have unexpected results if the base image changes",
        expanded.value
    );
    let diagnostic = Diagnostic::new(path.span, message)
        .with_help("write an absolute path in the first WORKDIR of the stage");
    let place = check.place(statement);
    check.report(&WORKDIR_RELATIVE_PATH, diagnostic, Some(place));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_told_from_other_names() {
        for (name, known) in [
            ("PAHT", "PATH"),
            ("PATHS", "PATH"),
            ("fo", "foo"),
            ("VERSIN", "VERSION"),
        ] {
            assert!(is_slip(name, known), "{name}");
        }
        for (name, known) in [
            ("GOPATH", "PATH"),
            ("CPATH", "PATH"),
            ("PATH", "PATH"),
            ("V1", "V2"),
            ("src", "srv"),
            ("UID", "GID"),
            ("NODE_18", "NODE_20"),
            ("APP_1", "APP_2"),
            ("TARGETOS", "TARGETARCH"),
        ] {
            assert!(!is_slip(name, known), "{name}");
        }
    }
}
