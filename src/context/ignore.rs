//! `.dockerignore`: which paths of a context a build does not see.
//!
//! The rules are moby/patternmatcher's (`MatchesUsingParentResults`): the last rule that matches a path
//! decides, and a rule that matched a directory matches everything below it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path};

use super::glob::{BadPattern, DoubleStar, Glob};

mod patterns;

/// The rules of one ignore file, in its order. The default hides nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ignore {
    /// How messages call the file.
    file: String,
    rules: Vec<Rule>,
}

/// One line of an ignore file.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    /// Counted from 1.
    pub(crate) line: usize,
    /// As written, without the blanks around it.
    pub(crate) text: String,
    /// Written with `!`: what matches is not ignored after all.
    exception: bool,
    pattern: Pattern,
}

#[derive(Debug, Clone)]
enum Pattern {
    Exact(String),
    /// `text**`.
    Prefix(String),
    /// `**text`; a leading slash of the text may be missing in the path.
    Suffix(String),
    Glob(Glob),
}

/// Every file of a context is compared with every rule.
const MOST_RULES: usize = 10_000;

/// A line that is no rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub(crate) struct Error {
    pub(crate) line: usize,
    pub(crate) problem: Problem,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Problem {
    #[error("illegal exclusion pattern: \"!\"")]
    LoneException,
    #[error("more than {MOST_RULES} patterns")]
    TooMany,
    #[error(transparent)]
    BadPattern(#[from] BadPattern),
}

/// What the rules say of one path.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Verdict<'a> {
    pub(crate) ignored: bool,
    /// The rule that decided; `None` when none matched.
    pub(crate) rule: Option<&'a Rule>,
}

/// Which rules matched a directory, and so match what is in it. The default is the context's root.
#[derive(Debug, Clone, Default)]
pub(crate) struct Matched {
    rules: Vec<bool>,
    decided_by: Option<usize>,
}

impl Ignore {
    /// Parses the text of an ignore file, which messages call `file`.
    pub(crate) fn parse(file: &str, text: &str) -> Result<Self, Error> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut rules = Vec::new();
        for (index, line) in text.split('\n').enumerate() {
            if let Some(rule) = Rule::parse(index + 1, line)? {
                rules.push(rule);
            }
            if rules.len() > MOST_RULES {
                return Err(Error {
                    line: index + 1,
                    problem: Problem::TooMany,
                });
            }
        }
        Ok(Self {
            file: file.to_owned(),
            rules,
        })
    }

    /// How messages call the file that the rules came from.
    pub(crate) fn file(&self) -> &str {
        &self.file
    }

    /// Whether no path can be ignored.
    pub(crate) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether a rule is written with `!`.
    pub(crate) fn has_exceptions(&self) -> bool {
        self.rules.iter().any(|rule| rule.exception)
    }

    /// What the rules say of `path`, relative to the context's root and clean.
    #[cfg(test)]
    pub(crate) fn verdict(&self, path: &Path) -> Verdict<'_> {
        let matched = self.matched(path);
        self.verdict_of(&matched)
    }

    /// [`Self::enter`] for every component of `path`.
    pub(crate) fn matched(&self, path: &Path) -> Matched {
        let mut matched = Matched::default();
        let mut so_far = Vec::new();
        for component in path.components() {
            if let Component::Normal(name) = component {
                if !so_far.is_empty() {
                    so_far.push(b'/');
                }
                so_far.extend_from_slice(name.as_bytes());
                matched = self.enter(&matched, OsStr::from_bytes(&so_far));
            }
        }
        matched
    }

    /// Judges `path`, whose parent directory was judged to be `parent`.
    pub(crate) fn enter(&self, parent: &Matched, path: &OsStr) -> Matched {
        let mut ignored = false;
        let mut result = Matched {
            rules: vec![false; self.rules.len()],
            decided_by: None,
        };
        for (index, rule) in self.rules.iter().enumerate() {
            let inherited = parent.rules.get(index).copied().unwrap_or(false);
            // A rule that could change nothing is not asked, and then counts as not matched for what is
            // below the path: patternmatcher does the same, and it can be seen in the result.
            let matches =
                inherited || (rule.exception == ignored && rule.pattern.matches(path.as_bytes()));
            if matches {
                result.rules[index] = true;
                result.decided_by = Some(index);
                ignored = !rule.exception;
            }
        }
        result
    }

    pub(crate) fn verdict_of(&self, matched: &Matched) -> Verdict<'_> {
        let rule = matched.decided_by.map(|index| &self.rules[index]);
        Verdict {
            ignored: rule.is_some_and(|rule| !rule.exception),
            rule,
        }
    }

    /// Whether something below the ignored directory `path` may not be ignored: a later exception could
    /// match there.
    pub(crate) fn may_show_below(&self, matched: &Matched, path: &OsStr) -> bool {
        let later = matched.decided_by.map_or(0, |index| index + 1);
        let mut prefix = path.as_bytes().to_vec();
        prefix.push(b'/');
        self.rules[later..]
            .iter()
            .any(|rule| rule.exception && rule.pattern.matches_below(&prefix))
    }
}

impl Rule {
    fn parse(number: usize, line: &str) -> Result<Option<Self>, Error> {
        if line.starts_with('#') {
            return Ok(None);
        }
        Self::of_text(number, line.trim())
    }

    fn of_text(number: usize, text: &str) -> Result<Option<Self>, Error> {
        if text.is_empty() {
            return Ok(None);
        }
        let error = |problem| Error {
            line: number,
            problem,
        };
        let (exception, pattern) = match text.strip_prefix('!') {
            Some(pattern) => (true, pattern.trim()),
            None => (false, text),
        };
        let cleaned = clean(pattern);
        if exception && (pattern.is_empty() || cleaned == "/") {
            return Err(error(Problem::LoneException));
        }
        let cleaned = match cleaned.strip_prefix('/') {
            Some(relative) if !relative.is_empty() => relative,
            _ => &cleaned,
        };
        Ok(Some(Self {
            line: number,
            text: text.to_owned(),
            exception,
            pattern: Pattern::parse(cleaned).map_err(|bad| error(bad.into()))?,
        }))
    }
}

impl Pattern {
    fn parse(pattern: &str) -> Result<Self, BadPattern> {
        let glob = Glob::parse(pattern, DoubleStar::Directories)?;
        let special = |text: &str| text.contains(['*', '?', '[', ']', '\\']);
        Ok(if !special(pattern) {
            Self::Exact(pattern.to_owned())
        } else if let Some(suffix) = pattern.strip_prefix("**").filter(|text| !special(text)) {
            Self::Suffix(suffix.to_owned())
        } else if let Some(prefix) = pattern.strip_suffix("**").filter(|text| !special(text)) {
            Self::Prefix(prefix.to_owned())
        } else {
            Self::Glob(glob)
        })
    }

    fn matches(&self, path: &[u8]) -> bool {
        match self {
            Self::Exact(text) => path == text.as_bytes(),
            Self::Prefix(text) => path.starts_with(text.as_bytes()),
            Self::Suffix(text) => {
                path.ends_with(text.as_bytes())
                    || text
                        .strip_prefix('/')
                        .is_some_and(|name| path == name.as_bytes())
            }
            Self::Glob(glob) => glob.matches(path),
        }
    }

    fn matches_below(&self, prefix: &[u8]) -> bool {
        match self {
            Self::Exact(text) => text.as_bytes().starts_with(prefix),
            Self::Prefix(text) => {
                text.as_bytes().starts_with(prefix) || prefix.starts_with(text.as_bytes())
            }
            Self::Suffix(_) => true,
            Self::Glob(glob) => glob.matches_below(prefix),
        }
    }
}

/// Go's `path.Clean`: no empty and no `.` components, `..` resolved by text.
pub(crate) fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => match parts.last() {
                Some(&last) if last != ".." => drop(parts.pop()),
                None if rooted => {}
                _ => parts.push(part),
            },
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ignored(rules: &str, path: &str) -> bool {
        Ignore::parse(".dockerignore", rules)
            .unwrap()
            .verdict(Path::new(path))
            .ignored
    }

    #[test]
    fn single_rules_match_as_in_patternmatcher() {
        for (rule, path, expected) in [
            ("**", "file", true),
            ("**/", "dir/file", true),
            ("**/**", "dir/file", true),
            ("dir/**", "dir/dir2/file", true),
            ("**/dir", "dir", true),
            ("**/dir", "dir/file", true),
            ("**/dir2/*", "dir/dir2/file", true),
            ("**/dir2/**", "dir/dir2/dir3/file", true),
            ("**file", "dir/dir/file", true),
            ("**file", "dir/myfile", true),
            ("**/file*txt", "dir/dir/file.txt", true),
            ("**/**/*.txt", "file.txt", true),
            ("**/**/*.txt2", "dir/dir/file.txt", false),
            ("a**/*.txt", "a/dir/dir/file.txt", true),
            ("a/*.txt", "a/dir/file.txt", false),
            ("a/*.txt**", "a/file.txt", true),
            ("a[b-d]e", "ace", true),
            ("a[b-d]e", "aae", false),
            (".*", "foo", false),
            ("abc.def", "abcZdef", false),
            ("abc?def", "abcZdef", true),
            ("**/foo/bar", "dir/dir2/foo/bar", true),
            ("abc/**", "abc", false),
            ("abc/**", "abc/def/ghi", true),
            ("**/.foo", "bar.foo", false),
            ("a(b)c/def", "a(b)c/def", true),
            ("a.|)$(}+{bc", "a.|)$(}+{bc", true),
            ("a\\*b", "a*b", true),
            ("/abc", "abc", true),
            ("./abc/../def/", "def/x", true),
            ("  abc\t", "abc", true),
            ("#abc", "#abc", false),
            (" #abc", "#abc", true),
            ("\u{feff}abc\r", "abc", true),
            (".", "abc", false),
            ("/", "abc", false),
            ("../abc", "abc", false),
        ] {
            assert_eq!(ignored(rule, path), expected, "{rule:?} {path}");
        }
    }

    #[test]
    fn the_last_rule_that_matches_decides() {
        for (rules, path, expected) in [
            ("docs\n!docs/README.md", "docs/README.md", false),
            ("docs/*\n!docs/README.md", "docs/other", true),
            ("!a.go\n*.go", "a.go", true),
            ("**\n!util/docker/web", "util/docker/web/foo", false),
            (
                "**\n!util/docker/web\nutil/docker/web/foo",
                "util/docker/web/foo",
                true,
            ),
            // A rule that was not asked for the directory is not inherited from it.
            ("a\n!a/b\na", "a/b", false),
            ("! docs", "docs", false),
        ] {
            assert_eq!(ignored(rules, path), expected, "{rules:?} {path}");
        }
    }

    #[test]
    fn the_verdict_names_the_line() {
        let ignore = Ignore::parse(
            ".dockerignore",
            "# first\n\nnode_modules\n!node_modules/keep\n",
        )
        .unwrap();
        let rule = ignore.verdict(Path::new("node_modules/x/y")).rule.unwrap();
        assert_eq!((rule.line, rule.text.as_str()), (3, "node_modules"));
        let kept = ignore.verdict(Path::new("node_modules/keep/y"));
        assert!(!kept.ignored);
        assert_eq!(kept.rule.unwrap().line, 4);
        assert!(ignore.verdict(Path::new("src")).rule.is_none());
    }

    #[test]
    fn what_is_no_rule_is_refused_with_its_line() {
        for (text, line) in [
            ("a\n!", 2),
            ("!/", 1),
            ("\n\n! ", 3),
            ("a\nb[", 2),
            ("!\\", 1),
        ] {
            assert_eq!(
                Ignore::parse(".dockerignore", text).unwrap_err().line,
                line,
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_directory_is_left_out_whole_unless_an_exception_may_match_below() {
        for (rules, directory, expected) in [
            ("node_modules\n!README.md", "node_modules", false),
            ("node_modules\n!node_modules/keep", "node_modules", true),
            ("node_modules\n!*/keep", "node_modules", true),
            ("node_modules\n!*/keep", "node_modules/keep/a/b", false),
            ("node_modules\n!**/keep", "node_modules", true),
            ("!node_modules/keep\nnode_modules", "node_modules", false),
            ("a\n!a/b/**", "a/b", true),
        ] {
            let ignore = Ignore::parse(".dockerignore", rules).unwrap();
            let matched = ignore.matched(Path::new(directory));
            assert_eq!(
                ignore.may_show_below(&matched, OsStr::new(directory)),
                expected,
                "{rules:?} {directory}"
            );
        }
    }

    #[test]
    fn paths_are_cleaned_as_go_does() {
        for (path, expected) in [
            ("", "."),
            ("a//b/./c/", "a/b/c"),
            ("a/../../b", "../b"),
            ("/../a", "/a"),
            ("..", ".."),
            ("a/..", "."),
        ] {
            assert_eq!(clean(path), expected, "{path}");
        }
    }

    proptest! {
        /// The shortcuts for exact, prefix and suffix patterns say what the general matcher says, but
        /// for `**x`, which patternmatcher lets match in the middle of a name.
        #[test]
        fn shortcuts_agree_with_the_matcher(pattern in "[ab/]{1,3}(\\*\\*)?|\\*\\*(/[ab/]{1,3})?", path in "[ab]{1,2}(/[ab]{1,2}){0,3}") {
            let pattern = clean(&pattern);
            let glob = Glob::parse(&pattern, DoubleStar::Directories).unwrap();
            prop_assert_eq!(
                Pattern::parse(&pattern).unwrap().matches(path.as_bytes()),
                glob.matches(path.as_bytes())
            );
        }

        /// Leaving a directory out whole hides nothing that the rules show.
        #[test]
        fn nothing_shown_is_below_a_pruned_directory(
            rules in "(!?[ab*]{1,2}(/[ab*]{1,2}){0,2}\n){1,4}", path in "[ab](/[ab]){1,3}",
        ) {
            let ignore = Ignore::parse(".dockerignore", &rules).unwrap();
            if !ignore.verdict(Path::new(&path)).ignored {
                let parent = Path::new(&path).parent().unwrap();
                let matched = ignore.matched(parent);
                if ignore.verdict_of(&matched).ignored {
                    prop_assert!(ignore.may_show_below(&matched, parent.as_os_str()));
                }
            }
        }
    }
}
