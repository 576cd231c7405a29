//! Sizes and times as docker shows them (go-units).

use jiff::Timestamp;

/// Decimal units, three significant digits: `1.04GB`.
pub(super) fn size(bytes: u64) -> String {
    let mut unit = 0;
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut value = bytes as f64;
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    // 999.5 would be shown with four digits.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let decimals = match value {
        value if unit == 0 || value >= 99.95 => 0,
        value if value >= 9.995 => 1,
        _ => 2,
    };
    let mut text = format!("{value:.decimals$}");
    if text.contains('.') {
        text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
    }
    text + UNITS[unit]
}

/// `8 days ago`; `N/A` for a time before containers, which stands for none.
pub(super) fn since(time: Option<Timestamp>, now: Timestamp) -> String {
    match time {
        Some(time) if time.as_second() > 0 => {
            format!("{} ago", duration(now.as_second() - time.as_second()))
        }
        _ => "N/A".to_owned(),
    }
}

fn duration(seconds: i64) -> String {
    let minutes = seconds / 60;
    // Rounded to the nearest hour.
    let hours = (seconds + 1800) / 3600;
    match () {
        () if seconds < 1 => "Less than a second".to_owned(),
        () if seconds == 1 => "1 second".to_owned(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

/// As Go prints a time, in UTC.
pub(super) fn at(time: Option<Timestamp>) -> String {
    match time {
        Some(time) => time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string(),
        None => "N/A".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits_and_decimal_units() {
        for (bytes, expected) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (1234, "1.23kB"),
            (12_345, "12.3kB"),
            (123_456, "123kB"),
            (999_499, "999kB"),
            (999_500, "1MB"),
            (124_000_000, "124MB"),
            (1_040_000_000, "1.04GB"),
            (9_996_000, "10MB"),
            (99_960_000, "100MB"),
            (u64::MAX, "18.4EB"),
        ] {
            assert_eq!(size(bytes), expected, "{bytes}");
        }
    }

    #[test]
    fn ages_are_rounded_as_go_units_rounds_them() {
        const HOUR: i64 = 3600;
        const DAY: i64 = 24 * HOUR;
        for (seconds, expected) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (120, "2 minutes"),
            (59 * 60, "59 minutes"),
            (HOUR, "About an hour"),
            (89 * 60, "About an hour"),
            (91 * 60, "2 hours"),
            (47 * HOUR, "47 hours"),
            (2 * DAY, "2 days"),
            (8 * DAY, "8 days"),
            (14 * DAY, "2 weeks"),
            (60 * DAY, "2 months"),
            (400 * DAY, "13 months"),
            (730 * DAY, "2 years"),
        ] {
            assert_eq!(duration(seconds), expected, "{seconds}");
        }
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        assert_eq!(since(None, now), "N/A");
        assert_eq!(since(Some(Timestamp::UNIX_EPOCH), now), "N/A");
        let day = Timestamp::from_second(1_700_000_000 - 2 * DAY).unwrap();
        assert_eq!(since(Some(day), now), "2 days ago");
        assert_eq!(
            at(Some(Timestamp::UNIX_EPOCH)),
            "1970-01-01 00:00:00 +0000 UTC"
        );
    }
}
