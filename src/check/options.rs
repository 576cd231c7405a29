//! `# check=skip=A,B|all;error=true;experimental=A|all`.

use super::rule::{self, Rule};
use crate::dockerfile::{Diagnostic, Span, nearest};

/// Which rules are asked, and whether what they find fails the build.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Options {
    skip: Names,
    experimental: Names,
    pub(crate) error: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Names {
    all: bool,
    names: Vec<String>,
}

impl Names {
    fn parse(text: &str) -> Self {
        let text = text.trim();
        if text == "all" {
            return Self {
                all: true,
                names: Vec::new(),
            };
        }
        Self {
            all: false,
            names: text.split(',').map(|name| name.trim().to_owned()).collect(),
        }
    }

    fn has(&self, rule: &Rule) -> bool {
        self.all || self.names.iter().any(|name| name == rule.name)
    }
}

impl Options {
    /// Reads the value of the directive, or of `BUILDKIT_DOCKERFILE_CHECK`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut options = Self::default();
        if text.trim().is_empty() {
            return Ok(options);
        }
        for part in text.split(';') {
            let Some((key, value)) = part.split_once('=') else {
                return Err(format!("invalid check option {part:?}"));
            };
            match key.trim() {
                "skip" => options.skip = Names::parse(value),
                "experimental" => options.experimental = Names::parse(value),
                "error" => {
                    options.error = parse_boolean(value.trim())
                        .ok_or_else(|| format!("failed to parse check option {part:?}"))?;
                }
                other => return Err(format!("invalid check option {other:?}")),
            }
        }
        Ok(options)
    }

    /// Whether `rule` is asked. Skipping does not reach the experimental rules, as in BuildKit: they
    /// are asked exactly when they are named.
    pub(crate) fn asks(&self, rule: &Rule) -> bool {
        if rule.experimental {
            self.experimental.has(rule)
        } else {
            !self.skip.has(rule)
        }
    }

    /// These options for an instruction that has its own in the comment above it.
    pub(crate) fn asks_here(&self, own: &Self, rule: &Rule) -> bool {
        !own.skip.has(rule)
            && (self.asks(rule) || (rule.experimental && own.experimental.has(rule)))
    }

    /// Names that are nearly those of a rule. Others may be rules of another tool or version.
    pub(crate) fn misspelt(&self, span: Span) -> Vec<Diagnostic> {
        self.skip
            .names
            .iter()
            .chain(&self.experimental.names)
            .filter(|name| rule::find(name).is_none())
            .filter_map(|name| {
                let near = nearest(name, rule::ALL.iter().map(|rule| rule.name)).or_else(|| {
                    // The suggestion of another case is equal to it.
                    let mut known = rule::ALL.iter().map(|rule| rule.name);
                    known.find(|known| known.eq_ignore_ascii_case(name))
                })?;
                let message = format!("No rule is called '{name}' (did you mean {near}?)");
                Some(Diagnostic::new(span, message).with_help(format!("write {near}")))
            })
            .collect()
    }
}

/// The spellings of Go's `strconv.ParseBool`.
fn parse_boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_choose_rules() {
        let parsed = |text| Options::parse(text).unwrap();
        let (usual, rare) = (&rule::STAGE_NAME_CASING, &rule::SUDO_IN_RUN);
        for (text, asks_usual, asks_rare, error) in [
            ("", true, false, false),
            ("skip=all", false, false, false),
            ("skip=StageNameCasing", false, false, false),
            (
                " skip = JSONArgsRecommended , StageNameCasing ",
                false,
                false,
                false,
            ),
            ("skip=JSONArgsRecommended;error=true", true, false, true),
            ("experimental=all", true, true, false),
            ("experimental=SudoInRun;skip=all;error=1", false, true, true),
            ("error=false", true, false, false),
        ] {
            let options = parsed(text);
            assert_eq!(options.asks(usual), asks_usual, "{text}");
            assert_eq!(options.asks(rare), asks_rare, "{text}");
            assert_eq!(options.error, error, "{text}");
        }
        let own = parsed("skip=all");
        assert!(!parsed("experimental=all").asks_here(&own, rare));
        assert!(Options::default().asks_here(&parsed("experimental=SudoInRun"), rare));
    }

    #[test]
    fn unknown_options_are_refused_in_buildkits_words() {
        for (text, expected) in [
            ("skip", "invalid check option \"skip\""),
            ("skip=a;what=b", "invalid check option \"what\""),
            (
                "error=maybe",
                "failed to parse check option \"error=maybe\"",
            ),
        ] {
            assert_eq!(Options::parse(text).unwrap_err(), expected);
        }
    }

    #[test]
    fn rules_have_different_names_and_pages() {
        for (index, rule) in rule::ALL.iter().enumerate() {
            assert!(
                rule::ALL[..index]
                    .iter()
                    .all(|other| other.name != rule.name)
            );
            assert_eq!(rule::find(rule.name), Some(*rule));
        }
        assert_eq!(
            rule::JSON_ARGS_RECOMMENDED.url().unwrap(),
            "https://docs.docker.com/go/dockerfile/rule/json-args-recommended/"
        );
        assert_eq!(rule::INVALID_BASE_IMAGE_PLATFORM.url(), None);
        assert_eq!(rule::SUDO_IN_RUN.url(), None);
    }
}
