//! Sizes and times as docker and BuildKit write them.

use std::time::Duration;

/// `227B`, `5.24MB`, `28.23MB`: decimal units, two digits after the point.
pub(crate) fn size(bytes: u64) -> String {
    if bytes < 1000 {
        return format!("{bytes}B");
    }
    let mut unit = 1000;
    let mut names = ["kB", "MB", "GB", "TB", "PB"].into_iter();
    loop {
        let hundredths = (u128::from(bytes) * 100 + unit / 2) / unit;
        match names.next() {
            Some(_) if hundredths >= 100_000 => unit *= 1000,
            name => {
                let name = name.unwrap_or("EB");
                return format!("{}.{:02}{name}", hundredths / 100, hundredths % 100);
            }
        }
    }
}

/// `1.2s`.
pub(crate) fn seconds(time: Duration) -> String {
    format!("{:.1}s", time.as_secs_f64())
}

/// `5.24MB / 28.23MB`, or `5.24MB` while the total is unknown.
pub(crate) fn amount(done: u64, total: Option<u64>) -> String {
    match total {
        Some(total) => format!("{} / {}", size(done), size(total)),
        None => size(done),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_decimal_with_two_digits() {
        for (bytes, expected) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1.00kB"),
            (5_240_000, "5.24MB"),
            (28_230_001, "28.23MB"),
            (999_999, "1.00MB"),
            (u64::MAX, "18.45EB"),
        ] {
            assert_eq!(size(bytes), expected);
        }
    }

    #[test]
    fn times_have_one_digit() {
        assert_eq!(seconds(Duration::from_millis(1249)), "1.2s");
        assert_eq!(seconds(Duration::ZERO), "0.0s");
    }
}
