//! What ARG and ENV define: secrets, and defaults that hide what the builder knows.

use super::Check;
use super::rule::{PLATFORM_ARG_REDEFINED, SECRETS_USED_IN_ARG_OR_ENV};
use super::variables::ARGUMENTS_OF_PLATFORM;
use crate::dockerfile::{Diagnostic, Instruction, Spanned, Statement};

/// The words of a name that make it that of a secret, and those that take this back (BuildKit's).
const SECRET_WORDS: [&str; 10] = [
    "apikey",
    "auth",
    "credential",
    "credentials",
    "key",
    "password",
    "pword",
    "passwd",
    "secret",
    "token",
];
const PUBLIC_WORDS: [&str; 3] = ["public", "file", "version"];

pub(super) fn check(check: &mut Check<'_>) {
    for statement in &check.subject.dockerfile.global_args {
        redefined(check, statement);
    }
    for statement in check.statements() {
        redefined(check, statement);
        secrets(check, statement);
    }
}

fn redefined(check: &mut Check<'_>, statement: &Statement) {
    let Instruction::Arg(declarations) = &statement.instruction else {
        return;
    };
    for declaration in declarations {
        let name = declaration.name.value.as_str();
        if declaration.default.is_some() && ARGUMENTS_OF_PLATFORM.contains(&name) {
            let message =
                format!("The default of {name} hides the value that the builder gives it");
            let diagnostic = Diagnostic::new(statement.span, message)
                .with_help(format!("write ARG {name} without a default"));
            let place = check.place(statement);
            check.report(&PLATFORM_ARG_REDEFINED, diagnostic, Some(place));
        }
    }
}

fn secrets(check: &mut Check<'_>, statement: &Statement) {
    let (instruction, names): (_, Vec<&Spanned<String>>) = match &statement.instruction {
        Instruction::Arg(declarations) => ("ARG", declarations.iter().map(|d| &d.name).collect()),
        Instruction::Env(values) => ("ENV", values.pairs.iter().map(|(key, _)| key).collect()),
        _ => return,
    };
    for name in names.into_iter().filter(|name| is_secret(&name.value)) {
        let message = format!(
            "Do not use ARG or ENV instructions for sensitive data ({instruction} {:?})",
            name.value
        );
        let diagnostic = Diagnostic::new(name.span, message)
            .with_help("give it to the step that needs it with RUN --mount=type=secret");
        let place = check.place(statement);
        check.report(&SECRETS_USED_IN_ARG_OR_ENV, diagnostic, Some(place));
    }
}

fn is_secret(name: &str) -> bool {
    let name = name.to_lowercase();
    let has = |words: &[&str]| name.split('_').any(|part| words.contains(&part));
    has(&SECRET_WORDS) && !has(&PUBLIC_WORDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets_are_seen_by_their_words() {
        for name in [
            "API_KEY",
            "auth",
            "GITHUB_TOKEN",
            "secret_MESSAGE",
            "MY_APIKEY",
        ] {
            assert!(is_secret(name), "{name}");
        }
        for name in [
            "KEYBOARD",
            "TOKENIZER",
            "PUBLIC_KEY",
            "KEY_FILE",
            "AUTHOR",
            "PASSWORDS",
        ] {
            assert!(!is_secret(name), "{name}");
        }
    }
}
