//! Durations as Go writes them, such as `1m30s`.

/// Nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Duration(pub(crate) i64);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DurationError {
    #[error("invalid duration {0:?}")]
    Invalid(String),
    #[error("missing unit in duration {0:?}")]
    MissingUnit(String),
    #[error("unknown unit {unit:?} in duration {text:?}")]
    UnknownUnit { unit: String, text: String },
}

impl Duration {
    pub(crate) const MILLISECOND: Self = Self(1_000_000);

    /// Parses a signed sequence of decimal numbers, each with a fraction if wished and a unit:
    /// `300ms`, `-1.5h`, `2h45m` (the format of time.ParseDuration in Go's library).
    pub(crate) fn parse(text: &str) -> Result<Self, DurationError> {
        let invalid = || DurationError::Invalid(text.to_owned());
        let (negative, mut rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        if rest == "0" {
            return Ok(Self(0));
        }
        if rest.is_empty() {
            return Err(invalid());
        }
        let mut total: i64 = 0;
        while !rest.is_empty() {
            let number_end = rest
                .find(|character: char| !character.is_ascii_digit() && character != '.')
                .unwrap_or(rest.len());
            let (number, after) = rest.split_at(number_end);
            let unit_end = after
                .find(|character: char| character.is_ascii_digit() || character == '.')
                .unwrap_or(after.len());
            let (unit, next) = after.split_at(unit_end);
            if !is_decimal(number) {
                return Err(invalid());
            }
            if unit.is_empty() {
                return Err(DurationError::MissingUnit(text.to_owned()));
            }
            let scale = nanoseconds(unit).ok_or_else(|| DurationError::UnknownUnit {
                unit: unit.to_owned(),
                text: text.to_owned(),
            })?;
            let part = scaled(number, scale).ok_or_else(invalid)?;
            total = total.checked_add(part).ok_or_else(invalid)?;
            rest = next;
        }
        Ok(Self(if negative { -total } else { total }))
    }
}

fn is_decimal(number: &str) -> bool {
    number.bytes().any(|byte| byte.is_ascii_digit())
        && number.bytes().filter(|&byte| byte == b'.').count() <= 1
}

fn nanoseconds(unit: &str) -> Option<i64> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60 * 1_000_000_000,
        "h" => 3_600 * 1_000_000_000,
        _ => return None,
    })
}

/// `number * scale`, the fraction cut off below a nanosecond; `None` when it does not fit.
fn scaled(number: &str, scale: i64) -> Option<i64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: i64 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    // Fifteen digits are finer than a nanosecond of an hour.
    let fraction = &fraction[..fraction.len().min(15)];
    let mut part: i128 = 0;
    let mut unit: i128 = 1;
    for digit in fraction.bytes() {
        part = part * 10 + i128::from(digit - b'0');
        unit *= 10;
    }
    let scale = i128::from(scale);
    let nanoseconds = i128::from(whole) * scale + part * scale / unit;
    i64::try_from(nanoseconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_of_go_are_read() {
        for (text, expected) in [
            ("0", 0),
            ("0s", 0),
            ("5s", 5_000_000_000),
            ("+5s", 5_000_000_000),
            ("-5s", -5_000_000_000),
            ("30s", 30_000_000_000),
            ("1m30s", 90_000_000_000),
            ("1h1m1s1ms1us1ns", 3_661_001_001_001),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("3µs", 3_000),
            ("50ns", 50),
            ("0.25ms", 250_000),
            ("0.123456789s", 123_456_789),
        ] {
            assert_eq!(Duration::parse(text), Ok(Duration(expected)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for (text, expected) in [
            ("", "invalid duration \"\""),
            ("-", "invalid duration \"-\""),
            ("s", "invalid duration \"s\""),
            (".s", "invalid duration \".s\""),
            ("1.2.3s", "invalid duration \"1.2.3s\""),
            ("5", "missing unit in duration \"5\""),
            ("5s3", "missing unit in duration \"5s3\""),
            ("5d", "unknown unit \"d\" in duration \"5d\""),
            ("99999999999h", "invalid duration \"99999999999h\""),
            (
                "99999999999999999999s",
                "invalid duration \"99999999999999999999s\"",
            ),
        ] {
            let error = Duration::parse(text).unwrap_err();
            assert_eq!(error.to_string(), expected, "{text}");
        }
    }
}
