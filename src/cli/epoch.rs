//! `SOURCE_DATE_EPOCH` (reproducible-builds.org): the time that replaces the time of a build.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::build::request::ContextSource;

const NAME: &str = "SOURCE_DATE_EPOCH";

/// The epoch of the environment, in seconds since 1970.
pub(super) fn of_environment() -> Result<Option<i64>, String> {
    match std::env::var(NAME) {
        Ok(text) if !text.is_empty() => seconds(&text).map(Some),
        _ => Ok(None),
    }
}

/// The epoch of a build: the build argument, else the environment. `context` is the time of the
/// commit that the context is a checkout of. A stage that declares the argument sees the number.
pub(super) fn of_build(
    build_args: &mut Vec<(String, String)>,
    context: &ContextSource,
) -> Result<Option<i64>, String> {
    let given = build_args.iter().rev().find(|(name, _)| name == NAME);
    let text = match given {
        Some((_, text)) => text.clone(),
        None => std::env::var(NAME).unwrap_or_default(),
    };
    let epoch = match text.as_str() {
        "" => return Ok(None),
        "context" => of_context(context)?,
        text => seconds(text)?,
    };
    build_args.push((NAME.to_owned(), epoch.to_string()));
    Ok(Some(epoch))
}

fn seconds(text: &str) -> Result<i64, String> {
    match text.parse() {
        Ok(seconds) if jiff::Timestamp::from_second(seconds).is_ok() => Ok(seconds),
        _ => Err(format!(
            "{NAME}={text} is not a number of seconds since 1970"
        )),
    }
}

fn of_context(context: &ContextSource) -> Result<i64, String> {
    let refused = |why: &str| Err(format!("{NAME}=context: {why}"));
    let ContextSource::Directory(path) = context else {
        return refused("a context without a history has no time of its own");
    };
    match commit_time(path) {
        Some(text) => seconds(&text),
        None => refused(&format!(
            "{} is not the top of a git checkout with a commit, so it has no time of its own",
            path.display()
        )),
    }
}

/// What git says of the checkout whose top is `path`. A directory somewhere below is none: its
/// files need not be what was committed.
fn commit_time(path: &Path) -> Option<String> {
    if !path.join(".git").exists() {
        return None;
    }
    // Plumbing: no setting of the checkout makes it run another program.
    let output = Command::new("git")
        .arg("-C")
        .arg(path)
        .args(["cat-file", "commit", "HEAD"])
        .stdin(Stdio::null())
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let commit = String::from_utf8_lossy(&output.stdout);
    let committer = commit
        .lines()
        .take_while(|line| !line.is_empty())
        .find_map(|line| line.strip_prefix("committer "))?;
    // NAME <ADDRESS> SECONDS ZONE
    let (_, time) = committer.rsplit_once("> ")?;
    Some(time.split(' ').next()?.to_owned())
}
