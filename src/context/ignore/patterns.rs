//! Rules that come from an instruction instead of a file: `--exclude` and the sources of `--parents`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use super::{Error, Ignore, Matched, Rule};

impl Ignore {
    /// The rules of `patterns`, in their order, which messages call `name`. No pattern is a comment.
    /// A leading slash stands for the directory that paths are relative to, as in an ignore file;
    /// BuildKit's `--exclude` never matches such a pattern.
    pub(crate) fn of_patterns<T: AsRef<str>>(name: &str, patterns: &[T]) -> Result<Self, Error> {
        let mut rules = Vec::with_capacity(patterns.len());
        for (index, pattern) in patterns.iter().enumerate() {
            rules.extend(Rule::of_text(index + 1, pattern.as_ref().trim())?);
        }
        Ok(Self {
            file: name.to_owned(),
            rules,
        })
    }

    /// Whether a rule that is no exception could match something below the directory `path`.
    pub(crate) fn may_match_below(&self, path: &OsStr) -> bool {
        let mut prefix = path.as_bytes().to_vec();
        prefix.push(b'/');
        self.rules
            .iter()
            .any(|rule| !rule.exception && rule.pattern.matches_below(&prefix))
    }

    /// Whether the rules hide `path` for itself or for a directory it is in.
    pub(crate) fn hides(&self, matched: &Matched) -> bool {
        self.verdict_of(matched).ignored
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn patterns_of_an_instruction_are_no_comments_and_are_anchored() {
        for (patterns, path, expected) in [
            (&["#a"][..], "#a", true),
            (&["/a"], "a/b", true),
            (&["*.o"], "sub/x.o", false),
            (&["**/*.o"], "sub/x.o", true),
            (&["a", "!a/keep"], "a/keep", false),
            (&["a", "!a/keep"], "a/other", true),
            (&[""], "a", false),
        ] {
            let rules = Ignore::of_patterns("--exclude", patterns).unwrap();
            let hidden = rules.hides(&rules.matched(Path::new(path)));
            assert_eq!(hidden, expected, "{patterns:?} {path}");
        }
        assert!(Ignore::of_patterns("--exclude", &["[a"]).is_err());
        assert!(Ignore::of_patterns("--exclude", &["!"]).is_err());
    }

    #[test]
    fn a_rule_may_match_below_a_prefix_of_its_pattern_only() {
        let rules = Ignore::of_patterns("--parents", &["a/*/c"]).unwrap();
        for (path, expected) in [("a", true), ("a/x", true), ("b", false), ("a/x/d", false)] {
            assert_eq!(rules.may_match_below(OsStr::new(path)), expected, "{path}");
        }
    }
}
