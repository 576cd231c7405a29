//! Sizes with units, as the options of tmpfs mounts have them.

/// Bytes of `64m`, `1.5 GB` or `10KiB`; every unit is a power of 1024.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let text = text.to_ascii_lowercase();
    let number_end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(number_end);
    let unit = unit.strip_prefix(' ').unwrap_or(unit);
    let shift = match unit {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        "p" | "pb" | "pib" => 50,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let fraction = &fraction[..fraction.len().min(9)];
    let whole = u128::from(whole.parse::<u64>().ok()?) << shift;
    let part = u128::from(fraction.parse::<u64>().ok()?) << shift;
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    u64::try_from(whole + part / scale).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_numbers_with_binary_units() {
        for (text, expected) in [
            ("0", Some(0)),
            ("1024", Some(1024)),
            ("1b", Some(1)),
            ("1k", Some(1 << 10)),
            ("1.5 GB", Some(3 << 29)),
            ("10KiB", Some(10 << 10)),
            ("2T", Some(2 << 40)),
            ("1p", Some(1 << 50)),
            ("16384p", None),
            ("", None),
            ("k", None),
            ("-1", None),
            ("1x", None),
            ("1.2.3k", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(parse_size(text), expected, "{text:?}");
        }
    }
}
