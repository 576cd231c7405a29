//! What holds for every ignore file and every memo, however odd; the fuzz targets ask it.

use std::path::Path;

use super::digest;
use super::glob::{DoubleStar, Glob};
use super::ignore::{Ignore, clean};
use super::records;

/// Texts up to here, with so many stars, are compared with matchers that try everything.
const SHORT: usize = 24;
const STARS: usize = 5;

fn is_short(pattern: &str) -> bool {
    pattern.len() <= SHORT && pattern.matches('*').count() <= STARS
}

/// Every pattern matches as its definition says, the last rule that matches decides, and what is left
/// out whole has nothing in it that the rules show.
pub(crate) fn ignore_holds(path: &str, rules: &str) {
    for pattern in rules.lines() {
        for double_star in [DoubleStar::Directories, DoubleStar::Star] {
            pattern_holds(pattern, path, double_star);
        }
    }
    let Ok(ignore) = Ignore::parse(".dockerignore", rules) else {
        return;
    };
    let matched = ignore.matched(Path::new(path));
    if ignore.verdict_of(&matched).ignored {
        let rule = ignore.verdict_of(&matched).rule.expect("a rule ignored it");
        assert!(rules.contains(rule.text.as_str()));
    }
    let clean = clean(path);
    if clean.starts_with(['/', '.']) {
        return;
    }
    let shown = !ignore
        .verdict_of(&ignore.matched(Path::new(&clean)))
        .ignored;
    if let Some(parent) = Path::new(&clean).parent()
        && shown
    {
        let above = ignore.matched(parent);
        if ignore.verdict_of(&above).ignored {
            assert!(ignore.may_show_below(&above, parent.as_os_str()));
        }
    }
    if clean.len() <= SHORT && rules.split('\n').all(is_short) {
        assert_eq!(shown, !naively_ignored(rules, &clean), "{clean:?}");
    }
}

fn pattern_holds(pattern: &str, text: &str, double_star: DoubleStar) {
    let Ok(glob) = Glob::parse(pattern, double_star) else {
        return;
    };
    let matches = glob.matches(text.as_bytes());
    if matches {
        for (end, _) in text.char_indices().take(SHORT) {
            assert!(glob.matches_below(&text.as_bytes()[..end]));
        }
    }
    if is_short(pattern) && text.len() <= SHORT {
        let (pattern, text) = (chars(pattern), chars(text));
        let directories = double_star == DoubleStar::Directories;
        assert_eq!(matches, naively_matches(&pattern, &text, directories));
    }
}

fn chars(text: &str) -> Vec<char> {
    text.chars().collect()
}

/// The definition of a pattern that is well formed, by trying everything.
fn naively_matches(pattern: &[char], text: &[char], directories: bool) -> bool {
    match (pattern, text) {
        (['*', '*'] | ['*', '*', '/'], _) if directories => true,
        (['*', '*', rest @ ..], _) if directories => {
            let rest = rest.strip_prefix(&['/']).unwrap_or(rest);
            let mut below = (0..text.len()).filter(|at| text[*at] == '/');
            naively_matches(rest, text, true)
                || below.any(|at| naively_matches(rest, &text[at + 1..], true))
        }
        (['*', rest @ ..], _) => {
            let within = text.iter().take_while(|char| **char != '/').count();
            (0..=within).any(|at| naively_matches(rest, &text[at..], directories))
        }
        (['?', rest @ ..], [first, tail @ ..]) => {
            *first != '/' && naively_matches(rest, tail, directories)
        }
        (['[', class @ ..], [first, tail @ ..]) => {
            let (holds, rest) = in_class(class, *first);
            holds && naively_matches(rest, tail, directories)
        }
        (['\\', char, rest @ ..], [first, tail @ ..]) | ([char, rest @ ..], [first, tail @ ..]) => {
            char == first && naively_matches(rest, tail, directories)
        }
        ([], []) => true,
        _ => false,
    }
}

/// Whether the class behind a `[` holds `char`, and what is behind its `]`.
fn in_class(class: &[char], char: char) -> (bool, &[char]) {
    fn bound(class: &[char]) -> (char, &[char]) {
        match class {
            ['\\', char, rest @ ..] | [char, rest @ ..] => (*char, rest),
            [] => ('\0', class),
        }
    }
    let (negated, mut rest) = match class {
        ['^', rest @ ..] => (true, rest),
        _ => (false, class),
    };
    let (mut holds, mut count) = (false, 0);
    while !rest.is_empty() && (count == 0 || rest[0] != ']') {
        let (low, mut after) = bound(rest);
        let mut high = low;
        if let ['-', behind @ ..] = after {
            (high, after) = bound(behind);
        }
        holds |= (low..=high).contains(&char);
        (rest, count) = (after, count + 1);
    }
    (holds != negated, rest.get(1..).unwrap_or_default())
}

/// `MatchesUsingParentResults` of moby/patternmatcher, for one clean path and rules that are right.
fn naively_ignored(rules: &str, path: &str) -> bool {
    let text = rules.strip_prefix('\u{feff}').unwrap_or(rules);
    let rules: Vec<(bool, String)> = text
        .split('\n')
        .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
        .map(|line| match line.trim().strip_prefix('!') {
            Some(pattern) => (true, clean(pattern.trim())),
            None => (false, clean(line.trim())),
        })
        .map(|(exception, pattern)| match pattern.strip_prefix('/') {
            Some(relative) if !relative.is_empty() => (exception, relative.to_owned()),
            _ => (exception, pattern),
        })
        .collect();
    let mut above = vec![false; rules.len()];
    let mut ignored = false;
    let ends = path.match_indices('/').map(|(at, _)| at);
    for end in ends.chain([path.len()]) {
        ignored = false;
        let mut here = vec![false; rules.len()];
        for (index, (exception, pattern)) in rules.iter().enumerate() {
            let asked = *exception == ignored;
            if above[index] || asked && naive_rule(pattern, &path[..end]) {
                here[index] = true;
                ignored = !exception;
            }
        }
        above = here;
    }
    ignored
}

fn naive_rule(pattern: &str, path: &str) -> bool {
    let special = |text: &str| text.contains(['*', '?', '[', ']', '\\']);
    // patternmatcher compares the ends of texts here, so the match may begin inside of a name.
    match pattern.strip_prefix("**") {
        Some(end) if !special(end) => {
            path.ends_with(end) || end.strip_prefix('/').is_some_and(|name| path == name)
        }
        _ => naively_matches(&chars(pattern), &chars(path), true),
    }
}

/// A memo of any bytes is read without a panic, and its records are no more than have room in it.
pub(crate) fn memo_holds(body: &[u8]) {
    let checksum = crc32fast::hash(body).to_be_bytes();
    let whole = [records::MAGIC.as_slice(), &checksum, body].concat();
    for memo in [body, &whole] {
        if let Some(records) = digest::records_of(memo) {
            assert!(records <= memo.len() / records::RECORD);
        }
    }
}
