//! What RUN says to the shell.

use super::Check;
use super::rule::{
    APT_LISTS_NOT_REMOVED, RUN_CD_USELESS, RUN_EXPORT_USELESS, SECRET_IN_RUN_TEXT, SUDO_IN_RUN,
};
use crate::dockerfile::{Diagnostic, Instruction, RunInstruction, ShellOrExec, Span, Statement};

pub(super) fn check(check: &mut Check<'_>) {
    for statement in check.statements() {
        secrets(check, statement);
        if let Instruction::Run(run) = &statement.instruction
            && let ShellOrExec::Shell(text) = &run.command
        {
            lost(check, statement, &text.value);
            sudo(check, statement);
            apt(check, statement, run);
        }
    }
}

/// A RUN that does nothing but what ends with its shell.
fn lost(check: &mut Check<'_>, statement: &Statement, text: &str) {
    let place = Some(check.place(statement));
    let Some((command, argument)) = text.trim().split_once(char::is_whitespace) else {
        return;
    };
    if argument.contains(['&', ';', '|', '\n', '(', '`', '<', '>']) || argument.contains("$(") {
        return;
    }
    match command {
        "cd" => {
            let message = "The directory is forgotten when this RUN ends";
            let diagnostic = Diagnostic::new(statement.span, message)
                .with_help(format!("write WORKDIR {}", argument.trim()));
            check.report(&RUN_CD_USELESS, diagnostic, place);
        }
        "export" if argument.contains('=') => {
            let message = "The variable is forgotten when this RUN ends";
            let diagnostic = Diagnostic::new(statement.span, message)
                .with_help(format!("write ENV {}", argument.trim()));
            check.report(&RUN_EXPORT_USELESS, diagnostic, place);
        }
        _ => {}
    }
}

/// The offsets of `program` where a command starts in a shell text.
fn commands<'a>(text: &'a str, program: &'a str) -> impl Iterator<Item = usize> + 'a {
    text.match_indices(program)
        .map(|(at, _)| at)
        .filter(move |at| {
            let before = text[..*at].trim_end_matches([' ', '\t', '\\', '\n', '\r']);
            let starts = before.is_empty()
                || before.ends_with(['&', '|', ';', '(', '{', '`'])
                || before.ends_with("RUN")
                || ["then", "do", "else"]
                    .iter()
                    .any(|word| before.ends_with(word));
            let touches =
                text[..*at].ends_with(|c: char| c.is_alphanumeric() || "-_/.".contains(c));
            starts && !touches && text[*at + program.len()..].starts_with(char::is_whitespace)
        })
}

fn sudo(check: &mut Check<'_>, statement: &Statement) {
    let source = check.subject.source;
    let text = &source[statement.span.start..statement.span.end];
    if let Some(at) = commands(text, "sudo").next() {
        let start = statement.span.start + at;
        let diagnostic = Diagnostic::new(
            Span::new(start, start + "sudo".len()),
            "sudo is not needed: use USER to change who runs the commands",
        );
        let place = check.place(statement);
        check.report(&SUDO_IN_RUN, diagnostic, Some(place));
    }
}

fn apt(check: &mut Check<'_>, statement: &Statement, run: &RunInstruction) {
    let source = check.subject.source;
    let text = &source[statement.span.start..statement.span.end];
    let mounted = run
        .mounts
        .iter()
        .any(|mount| source[mount.span.start..mount.span.end].contains("/var/lib/apt"));
    if mounted || text.contains("/var/lib/apt/lists") {
        return;
    }
    let Some(at) = ["apt-get update", "apt update"]
        .iter()
        .find_map(|command| text.find(command))
    else {
        return;
    };
    let start = statement.span.start + at;
    let end = start
        + text[at..]
            .find("update")
            .map_or(0, |update| update + "update".len());
    let diagnostic = Diagnostic::new(Span::new(start, end), "The package lists stay in the layer")
        .with_help("end the RUN with && rm -rf /var/lib/apt/lists/*");
    let place = check.place(statement);
    check.report(&APT_LISTS_NOT_REMOVED, diagnostic, Some(place));
}

fn secrets(check: &mut Check<'_>, statement: &Statement) {
    let source = check.subject.source;
    let text = &source[statement.span.start..statement.span.end];
    let Some((start, end, what)) = find_secret(text) else {
        return;
    };
    let span = Span::new(statement.span.start + start, statement.span.start + end);
    let message = format!("The instruction holds {what}, which everyone with the image can read");
    let diagnostic = Diagnostic::new(span, message)
        .with_help("replace it, and give it to the step with RUN --mount=type=secret");
    let place = check.place(statement);
    check.report(&SECRET_IN_RUN_TEXT, diagnostic, Some(place));
}

/// The formats of tokens that cannot be anything else: prefix, characters that follow, name.
const TOKENS: [(&str, usize, &str); 8] = [
    ("AKIA", 16, "an AWS access key"),
    ("ghp_", 36, "a GitHub token"),
    ("gho_", 36, "a GitHub token"),
    ("ghs_", 36, "a GitHub token"),
    ("github_pat_", 60, "a GitHub token"),
    ("glpat-", 20, "a GitLab token"),
    ("npm_", 36, "an npm token"),
    ("dckr_pat_", 27, "a Docker Hub token"),
];

fn find_secret(text: &str) -> Option<(usize, usize, &'static str)> {
    for (prefix, length, what) in TOKENS {
        for (at, _) in text.match_indices(prefix) {
            let rest = &text[at + prefix.len()..];
            let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
            let found = rest.find(|c| !word(c)).unwrap_or(rest.len());
            let alone = !text[..at].ends_with(word);
            // Examples are written with x; documentation of AWS uses one key everywhere.
            let example =
                rest[..found].to_lowercase().contains("xxxx") || rest[..found].contains("EXAMPLE");
            if alone && found >= length && !example {
                return Some((at, at + prefix.len() + found, what));
            }
        }
    }
    if let Some(at) = text.find("-----BEGIN ")
        && let Some(length) = text[at..].find("PRIVATE KEY-----")
        && !text[at..at + length].contains('\n')
    {
        return Some((at, at + length + "PRIVATE KEY-----".len(), "a private key"));
    }
    password_in_url(text)
}

fn password_in_url(text: &str) -> Option<(usize, usize, &'static str)> {
    for scheme in ["https://", "http://"] {
        for (at, _) in text.match_indices(scheme) {
            let rest = &text[at + scheme.len()..];
            let end = rest
                .find(|c: char| c.is_whitespace() || "/\"'?#".contains(c))
                .unwrap_or(rest.len());
            let Some((user, host)) = rest[..end].rsplit_once('@') else {
                continue;
            };
            let Some((_, password)) = user.split_once(':') else {
                continue;
            };
            let literal = !password.is_empty() && !password.contains(['$', '<', '{', '*', '%']);
            let local = ["localhost", "127.", "example."]
                .iter()
                .any(|name| host.contains(name));
            if literal && !local && !password.to_lowercase().contains("pass") {
                let end = at + scheme.len() + user.len();
                return Some((at, end, "a password in a URL"));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_by_their_format() {
        let token = format!("ghp_{}", "a1B2".repeat(9));
        for (text, found) in [
            (format!("curl -H 'Authorization: token {token}'"), true),
            (format!("x{token}"), false),
            ("ghp_short".to_owned(), false),
            (format!("ghp_{}", "x".repeat(36)), false),
            ("AKIAIOSFODNN7ABCDEFG".to_owned(), true),
            ("AKIAIOSFODNN7EXAMPLE".to_owned(), false),
            ("echo -----BEGIN RSA PRIVATE KEY-----".to_owned(), true),
            ("-----BEGIN CERTIFICATE-----".to_owned(), false),
            ("git clone https://me:hunter2@git.corp/x".to_owned(), true),
            ("git clone https://me:$TOKEN@git.corp/x".to_owned(), false),
            ("git clone https://git@git.corp/x:y".to_owned(), false),
            ("curl http://a:b@localhost/".to_owned(), false),
        ] {
            assert_eq!(find_secret(&text).is_some(), found, "{text}");
        }
    }

    #[test]
    fn a_command_is_seen_only_where_commands_start() {
        for (text, count) in [
            ("RUN sudo apt install x", 1),
            ("RUN a && sudo b; sudo c", 2),
            ("RUN apt install sudo vim", 0),
            ("RUN echo sudo x", 0),
            ("RUN a && \\\n  sudo b", 1),
            ("RUN /usr/bin/sudo x", 0),
        ] {
            assert_eq!(commands(text, "sudo").count(), count, "{text}");
        }
    }
}
