//! Which files below a source `--parents` and `--exclude` leave over.

use std::ffi::OsStr;
use std::path::Path;

use crate::context::ignore::{Ignore, Matched, Problem};

/// The rules of one source, about paths relative to it. The default chooses everything.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    /// The pattern of a `--parents` source; `None` takes everything.
    include: Option<Ignore>,
    exclude: Ignore,
}

/// What the rules say of one path, and so of what is in it.
#[derive(Debug, Clone, Default)]
pub(super) struct Judged {
    include: Matched,
    exclude: Matched,
    pub(super) is_chosen: bool,
}

impl Filter {
    /// The rules of `--exclude`.
    pub(crate) fn excluding(patterns: &[String]) -> Result<Self, Problem> {
        let rules = Ignore::of_patterns("--exclude", patterns);
        Ok(Self {
            include: None,
            exclude: rules.map_err(|error| error.problem)?,
        })
    }

    /// The same rules for what `pattern` matches only; an empty one matches everything.
    pub(super) fn including(&self, pattern: &str) -> Result<Self, Problem> {
        let include = match pattern {
            "" => None,
            pattern => {
                let rules = Ignore::of_patterns("--parents", &[pattern]);
                Some(rules.map_err(|error| error.problem)?)
            }
        };
        Ok(Self {
            include,
            exclude: self.exclude.clone(),
        })
    }

    /// Judges `path`, whose parent directory was judged to be `parent`.
    pub(super) fn judge(&self, parent: &Judged, path: &OsStr) -> Judged {
        let include = match &self.include {
            None => Matched::default(),
            Some(include) => include.enter(&parent.include, path),
        };
        let is_included = self
            .include
            .as_ref()
            .is_none_or(|rules| rules.hides(&include));
        if self.exclude.is_empty() {
            return Judged {
                include,
                exclude: Matched::default(),
                is_chosen: is_included,
            };
        }
        let exclude = self.exclude.enter(&parent.exclude, path);
        Judged {
            is_chosen: is_included && !self.exclude.hides(&exclude),
            include,
            exclude,
        }
    }

    /// Whether something below the directory `path`, which is not chosen itself, may be.
    pub(super) fn may_choose_below(&self, judged: &Judged, path: &OsStr) -> bool {
        let may_include = self
            .include
            .as_ref()
            .is_none_or(|rules| rules.hides(&judged.include) || rules.may_match_below(path));
        let may_escape = !self.exclude.hides(&judged.exclude)
            || self.exclude.may_show_below(&judged.exclude, path);
        may_include && may_escape
    }

    pub(super) fn has_excludes(&self) -> bool {
        !self.exclude.is_empty()
    }

    /// Whether `--exclude` names `name`.
    pub(super) fn excludes(&self, name: &OsStr) -> bool {
        self.exclude.hides(&self.exclude.matched(Path::new(name)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The judgements of `path` and of the directories it is in, outermost first.
    fn judgements(filter: &Filter, path: &str) -> Vec<(String, Judged)> {
        let mut all: Vec<(String, Judged)> = Vec::new();
        for name in path.split('/') {
            let (whole, parent) = match all.last() {
                None => (name.to_owned(), Judged::default()),
                Some((above, judged)) => (format!("{above}/{name}"), judged.clone()),
            };
            let judged = filter.judge(&parent, OsStr::new(&whole));
            all.push((whole, judged));
        }
        all
    }

    fn chooses(include: &str, excludes: &[&str], path: &str) -> bool {
        let excludes: Vec<String> = excludes.iter().map(|text| (*text).to_owned()).collect();
        let filter = Filter::excluding(&excludes).unwrap();
        let filter = filter.including(include).unwrap();
        judgements(&filter, path).pop().unwrap().1.is_chosen
    }

    #[test]
    fn what_is_included_and_not_excluded_is_chosen() {
        for (include, excludes, path, expected) in [
            ("", &[][..], "a/b", true),
            ("a", &[], "a/b", true),
            ("a/b", &[], "a", false),
            ("a/*", &[], "a/b/c", true),
            ("**/c", &[], "a/b/c", true),
            ("**/c", &[], "a/b/d", false),
            ("a", &["a/b"], "a/b", false),
            ("a", &["a/b", "!a/b/c"], "a/b/c", true),
            ("", &["*"], "a/b", false),
        ] {
            let found = chooses(include, excludes, path);
            assert_eq!(found, expected, "{include} {excludes:?} {path}");
        }
    }

    proptest! {
        #[test]
        fn nothing_that_is_chosen_is_below_what_is_not_entered(
            include in "[ab*]{0,2}(/[ab*]{1,2}){0,2}",
            excludes in proptest::collection::vec("!?[ab*]{1,2}(/[ab*]{1,2}){0,2}", 0..3),
            path in "[ab](/[ab]{1,2}){0,3}",
        ) {
            let filter = Filter::excluding(&excludes).unwrap().including(&include).unwrap();
            let all = judgements(&filter, &path);
            let (leaf, above) = all.split_last().unwrap();
            if leaf.1.is_chosen {
                for (path, judged) in above {
                    prop_assert!(
                        judged.is_chosen || filter.may_choose_below(judged, OsStr::new(path)),
                        "{} hides {}", path, leaf.0
                    );
                }
            }
        }
    }
}
