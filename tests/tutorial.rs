//! A tutorial on Docker images, typed line by line with `docker` meaning rbuild.

use std::fs;
use std::process::Command;

use crate::rig::faulty::Faulty;
use crate::rig::{Rig, host};

/// What makes the `python:3.9` of the session: programs that say how they were called.
const PYTHON: &str = "\
FROM base
RUN for name in python pip; do \
    printf '#!/bin/sh\\necho \"%s $*\"\\n' $name > /bin/$name && chmod 755 /bin/$name; done
ENV PYTHON_VERSION=3.9.1
CMD [\"python\"]
";

/// Every image has this time, so that ages are "12 years ago" or more for a long time.
const EPOCH: &str = "1400000000";

#[test]
fn the_lines_of_a_tutorial_say_what_the_tutorial_shows() {
    if !host::tool("bash") {
        return;
    }
    let rig = Rig::new();
    rig.dockerfile(PYTHON);
    let mut python = rig.build_command(&["-t", "python:3.9"]);
    host::stdout_of(python.env("SOURCE_DATE_EPOCH", EPOCH));
    let registry = Faulty::start();
    let session = rig.path("session");
    let programs = rig.path("programs");
    fs::create_dir(&session).unwrap();
    fs::create_dir(&programs).unwrap();
    std::os::unix::fs::symlink(host::binary(), programs.join("rbuild")).unwrap();
    let path = std::env::var("PATH").unwrap();

    let mut command = Command::new("timeout");
    command
        .args(["-k", "5", "240", "bash"])
        .arg(host::source().join("tests/tutorial.sh"))
        .current_dir(&session)
        .env_clear()
        .env("PATH", format!("{}:{path}", programs.display()))
        .env("HOME", rig.path(""))
        .env("RBUILD_ROOT", rig.store())
        .env("SOURCE_DATE_EPOCH", EPOCH)
        .env("REGISTRY", registry.host())
        .stdin(std::process::Stdio::null());
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let shown = masked(&said, &registry.host());
    assert!(output.status.success(), "{}:\n{said}", output.status);

    let golden = host::source().join("tests/tutorial.expected");
    let expected = fs::read_to_string(&golden).unwrap();
    if shown != expected {
        let actual = rig.path("actual");
        fs::write(&actual, &shown).unwrap();
        let mut diff = Command::new("diff");
        let diff = diff.arg("-u").arg(&golden).arg(&actual).output().unwrap();
        panic!(
            "not what {} has; with RBUILD_KEEP=1 {} stays:\n{}",
            golden.display(),
            actual.display(),
            String::from_utf8_lossy(&diff.stdout)
        );
    }
}

/// The session without what differs between machines and runs. What is in columns stays as wide.
fn masked(session: &str, registry: &str) -> String {
    let (_, port) = registry.split_once(':').unwrap();
    let session = session.replace(
        &format!(":{port}/"),
        &format!(":{}/", "p".repeat(port.len())),
    );
    session
        .lines()
        .map(|line| masked_line(line) + "\n")
        .collect()
}

fn masked_line(line: &str) -> String {
    let mut masked = String::new();
    let mut rest = line;
    while !rest.is_empty() {
        let is_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '.';
        let end = match rest.find(|letter| !is_word(letter)) {
            Some(0) => {
                let (other, after) = rest.split_at(rest.find(is_word).unwrap_or(rest.len()));
                masked.push_str(other);
                rest = after;
                continue;
            }
            end => end.unwrap_or(rest.len()),
        };
        let (word, after) = rest.split_at(end);
        let mask = mask_of(word, &masked, after);
        masked.push_str(mask.as_deref().unwrap_or(word));
        // A number that is shorter has more blanks behind it, up to the next column.
        let blanks = after.len() - after.trim_start_matches(' ').len();
        let short = word
            .len()
            .saturating_sub(mask.map_or(word.len(), |mask| mask.len()));
        if blanks > 1 {
            masked.push_str(&" ".repeat(short));
        }
        rest = after;
    }
    masked
}

/// What stands for a word of a line: an id or digest, an age, a size, a time, an architecture.
fn mask_of(word: &str, before: &str, after: &str) -> Option<String> {
    let is_number = |text: &str| text.parse::<f64>().is_ok();
    let is_hexadecimal = word
        .bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if word.len() >= 12 && is_hexadecimal {
        return Some("x".repeat(word.len()));
    }
    let of_unit = |unit: &str| word.strip_suffix(unit).is_some_and(is_number);
    let is_time = before.starts_with('#')
        && before.ends_with(' ')
        && (word.contains('.') && is_number(word) || of_unit("s"));
    let fixed = match word {
        "amd64" | "arm64" => "arch",
        _ if is_number(word) && after.starts_with(" years ago") => "NN",
        _ if is_number(word) && (before.ends_with("ize: ") || before.ends_with("ize\": ")) => "N",
        _ if of_unit("kB") || of_unit("MB") => "SIZE",
        _ if is_time => "T",
        _ => return None,
    };
    Some(fixed.to_owned())
}
