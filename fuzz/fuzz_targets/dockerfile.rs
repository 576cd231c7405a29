//! Dockerfiles, words and ignore files as a stranger may write them.
//!
//! The first byte chooses what the rest is taken for, so that one corpus serves all of them. What is
//! asserted stands in `src/dockerfile/assertions.rs`, where the property tests find it too.

#![no_main]
#![allow(dead_code, unused_imports, reason = "the program is included in part")]

mod context;
#[path = "../../src/dockerfile/mod.rs"]
mod dockerfile;

use std::path::Path;

use context::glob::{DoubleStar, Glob};
use context::ignore::Ignore;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((kind, rest)) = data.split_first() else {
        return;
    };
    let Ok(text) = std::str::from_utf8(rest) else {
        return;
    };
    match kind % 4 {
        0 => dockerfile::assertions::word_holds(text),
        1 => ignore_holds(text),
        _ => dockerfile::assertions::dockerfile_holds(text),
    }
});

/// The first line is a path, the others are an ignore file.
fn ignore_holds(text: &str) {
    let (path, rules) = text.split_once('\n').unwrap_or((text, ""));
    for rule in rules.lines() {
        if let Ok(glob) = Glob::parse(rule, DoubleStar::Directories)
            && glob.matches(path.as_bytes())
        {
            let half = path.floor_char_boundary(path.len() / 2);
            assert!(glob.matches_below(&path.as_bytes()[..half]));
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
    // Leaving a directory out whole hides nothing that the rules show.
    let clean = context::ignore::clean(path);
    if let Some(parent) = Path::new(&clean).parent()
        && !clean.starts_with(['/', '.'])
        && !ignore.verdict_of(&ignore.matched(Path::new(&clean))).ignored
    {
        let above = ignore.matched(parent);
        if ignore.verdict_of(&above).ignored {
            assert!(ignore.may_show_below(&above, parent.as_os_str()));
        }
    }
}
