//! `--filter` of the commands that list and prune images.

use jiff::{Timestamp, ToSpan as _};

use super::list::{find, repository_of};
use super::{Error, Image, familiar, pattern};

/// A condition on images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Filter {
    Dangling(bool),
    /// `label=K` or `label=K=V`.
    Label(String, Option<String>),
    /// `label!=K` or `label!=K=V`.
    NotLabel(String, Option<String>),
    /// Older than the image.
    Before(String),
    /// Newer than the image.
    Since(String),
    /// Made before this time.
    Until(Timestamp),
    Reference(String),
}

/// A text that is no filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FilterError {
    #[error("{0:?} is not NAME=VALUE")]
    Form(String),
    #[error("invalid filter {0:?} ({1})")]
    Unknown(String, &'static str),
    #[error("dangling is {0:?}, not true or false")]
    Dangling(String),
    #[error("{0:?} is neither a time nor a duration such as 24h")]
    Time(String),
}

impl Filter {
    /// Parses what docker accepts. `allowed` are the names that the command knows.
    pub(crate) fn parse(
        text: &str,
        allowed: &'static str,
        now: Timestamp,
    ) -> Result<Self, FilterError> {
        let (name, value) = text
            .split_once('=')
            .ok_or_else(|| FilterError::Form(text.to_owned()))?;
        let label = |value: &str| match value.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (value.to_owned(), None),
        };
        let is_allowed = |name: &str| allowed.split(", ").any(|allowed| allowed == name);
        if !is_allowed(name) {
            return Err(FilterError::Unknown(name.to_owned(), allowed));
        }
        Ok(match name {
            "dangling" => Self::Dangling(match value {
                "true" | "1" => true,
                "false" | "0" => false,
                _ => return Err(FilterError::Dangling(value.to_owned())),
            }),
            "label" => {
                let (name, value) = label(value);
                Self::Label(name, value)
            }
            "label!" => {
                let (name, value) = label(value);
                Self::NotLabel(name, value)
            }
            "before" => Self::Before(value.to_owned()),
            "since" => Self::Since(value.to_owned()),
            "until" => Self::Until(parse_time(value, now)?),
            "reference" => Self::Reference(value.to_owned()),
            _ => return Err(FilterError::Unknown(name.to_owned(), allowed)),
        })
    }

    /// Keeps of `images` those that satisfy every filter, and of their names those that satisfy one of
    /// the references. Images that filters name are looked for among all of them.
    pub(crate) fn apply(filters: &[Self], images: &[Image]) -> Result<Vec<Image>, Error> {
        let mut kept = images.to_vec();
        let references: Vec<&str> = filters
            .iter()
            .filter_map(|filter| match filter {
                Self::Reference(reference) => Some(reference.as_str()),
                _ => None,
            })
            .collect();
        if !references.is_empty() {
            for image in &mut kept {
                image.names.retain(|name| {
                    references.iter().any(|wanted| {
                        let shown = familiar(&name.whole);
                        pattern::matches(wanted, shown)
                            || pattern::matches(wanted, repository_of(shown))
                            || pattern::matches(wanted, &name.whole)
                            || pattern::matches(wanted, repository_of(&name.whole))
                    })
                });
            }
            kept.retain(|image| !image.names.is_empty());
        }
        for filter in filters {
            let other = match filter {
                Self::Before(other) | Self::Since(other) => find(images, other)?.created(),
                _ => None,
            };
            kept.retain(|image| filter.holds(image, other));
        }
        Ok(kept)
    }

    fn holds(&self, image: &Image, other: Option<Timestamp>) -> bool {
        let labels = &image.config.config.labels;
        let has = |name: &str, value: &Option<String>| {
            let found = labels.get(name);
            found.is_some_and(|found| value.as_ref().is_none_or(|value| value == found))
        };
        match self {
            Self::Dangling(wanted) => image.names.is_empty() == *wanted,
            Self::Label(name, value) => has(name, value),
            Self::NotLabel(name, value) => !has(name, value),
            Self::Before(_) => image.created() < other,
            Self::Since(_) => image.created() > other,
            Self::Until(time) => image.created().is_none_or(|created| created < *time),
            Self::Reference(_) => true,
        }
    }
}

/// A time as docker's `until` has it: seconds since 1970, RFC 3339, a date, or a duration before now.
pub(crate) fn parse_time(text: &str, now: Timestamp) -> Result<Timestamp, FilterError> {
    let bad = || FilterError::Time(text.to_owned());
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let seconds = text.parse().map_err(|_| bad())?;
        return Timestamp::from_second(seconds).map_err(|_| bad());
    }
    if let Some(seconds) = seconds_of(text) {
        return now.checked_sub(seconds.seconds()).map_err(|_| bad());
    }
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    for suffix in ["Z", "T00:00:00Z", ":00Z"] {
        if let Ok(time) = format!("{text}{suffix}").parse() {
            return Ok(time);
        }
    }
    Err(bad())
}

/// Whole seconds of a Go duration (`1h30m`).
fn seconds_of(text: &str) -> Option<i64> {
    let mut rest = text;
    let mut total = 0_i64;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: i64 = rest[..end].parse().ok()?;
        let after = &rest[end..];
        let unit_end = after
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(after.len());
        let factor = match &after[..unit_end] {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return None,
        };
        total = total.checked_add(number.checked_mul(factor)?)?;
        rest = &after[unit_end..];
    }
    // Longer than all times there are is no duration that can be taken from one.
    (!text.is_empty() && total < 1 << 35).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_given_as_docker_has_them() {
        let now: Timestamp = "2024-05-02T12:00:00Z".parse().unwrap();
        for (text, expected) in [
            ("24h", Some("2024-05-01T12:00:00Z")),
            ("1h30m", Some("2024-05-02T10:30:00Z")),
            ("10", Some("1970-01-01T00:00:10Z")),
            ("2024-01-01T00:00:00Z", Some("2024-01-01T00:00:00Z")),
            ("2024-01-01T10:00", Some("2024-01-01T10:00:00Z")),
            ("2024-01-01", Some("2024-01-01T00:00:00Z")),
            ("yesterday", None),
            ("24", Some("1970-01-01T00:00:24Z")),
            ("24d", None),
            ("h", None),
            ("", None),
            ("99999999999999h", None),
        ] {
            let expected = expected.map(|text| text.parse::<Timestamp>().unwrap());
            assert_eq!(parse_time(text, now).ok(), expected, "{text}");
        }
    }

    #[test]
    fn filters_are_names_with_values() {
        let now = Timestamp::UNIX_EPOCH;
        let all = "dangling, label, label!, before, reference";
        let label = |name: &str, value: Option<&str>| {
            Filter::Label(name.to_owned(), value.map(str::to_owned))
        };
        for (text, expected) in [
            ("dangling=true", Some(Filter::Dangling(true))),
            ("dangling=0", Some(Filter::Dangling(false))),
            ("dangling=maybe", None),
            ("label=a", Some(label("a", None))),
            ("label=a=b=c", Some(label("a", Some("b=c")))),
            ("label!=a", Some(Filter::NotLabel("a".to_owned(), None))),
            ("until=24h", None),
            ("reference=a:*", Some(Filter::Reference("a:*".to_owned()))),
            ("colour=red", None),
            ("dangling", None),
        ] {
            assert_eq!(Filter::parse(text, all, now).ok(), expected, "{text}");
        }
    }
}
