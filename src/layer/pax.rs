//! Records of PAX extended headers (pax(1), "pax Extended Header").

/// The start of the key that holds an extended attribute, as star and GNU tar write it.
pub(super) const XATTR: &[u8] = b"SCHILY.xattr.";

/// The start of the keys that GNU tar describes sparse files with.
pub(super) const SPARSE: &[u8] = b"GNU.sparse.";

/// Appends the record `LENGTH KEY=VALUE\n`, whose length counts its own digits.
pub(super) fn append(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    out.extend_from_slice(length.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// The records of a body, in order; `None` if it is malformed. Values may hold any byte.
pub(super) fn parse(mut body: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let mut records = Vec::new();
    while !body.is_empty() {
        // Some writers pad the body with NULs.
        if body.iter().all(|byte| *byte == 0) {
            break;
        }
        let space = body.iter().position(|byte| *byte == b' ')?;
        let digits = &body[..space];
        if digits.is_empty() || digits.len() > 7 || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let length: usize = std::str::from_utf8(digits).ok()?.parse().ok()?;
        let record = body.get(space + 1..length)?.strip_suffix(b"\n")?;
        let equals = record.iter().position(|byte| *byte == b'=')?;
        if equals == 0 {
            return None;
        }
        records.push((&record[..equals], &record[equals + 1..]));
        body = &body[length..];
    }
    Some(records)
}

/// Seconds and nanoseconds as a decimal number without superfluous zeros. The nanoseconds count
/// forward from the second, as in `struct timespec`.
pub(super) fn format_time(seconds: i64, nanoseconds: i64) -> String {
    if nanoseconds == 0 {
        return seconds.to_string();
    }
    let (sign, whole, fraction) = if seconds < 0 {
        (
            "-",
            (seconds + 1).unsigned_abs(),
            1_000_000_000 - nanoseconds,
        )
    } else {
        ("", seconds.unsigned_abs(), nanoseconds)
    };
    let digits = format!("{fraction:09}");
    format!("{sign}{whole}.{}", digits.trim_end_matches('0'))
}

/// The inverse of [`format_time`]; digits beyond the nanosecond are cut.
pub(super) fn parse_time(text: &[u8]) -> Option<(i64, i64)> {
    let text = std::str::from_utf8(text).ok()?;
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let whole: i64 = whole.parse().ok()?;
    let digits: String = fraction
        .chars()
        .chain("000000000".chars())
        .take(9)
        .collect();
    let nanoseconds: i64 = digits.parse().ok()?;
    Some(match (negative, nanoseconds) {
        (false, _) => (whole, nanoseconds),
        (true, 0) => (-whole, 0),
        (true, _) => (-whole - 1, 1_000_000_000 - nanoseconds),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_the_digits_of_its_own_length() {
        for (value, length) in [
            (&b""[..], 5),
            (b"12", 7),
            (&[b'x'; 5], 11),
            (&[b'\n'; 94], 101),
        ] {
            let mut body = Vec::new();
            append(&mut body, b"k", value);
            assert_eq!(body.len(), length, "{value:?}");
            append(&mut body, b"other", b"1");
            assert_eq!(
                parse(&body).unwrap(),
                [(&b"k"[..], value), (b"other", b"1")]
            );
        }
    }

    #[test]
    fn malformed_records_are_refused() {
        for body in [
            &b"5 a=\nx"[..],
            b"9 a=b\n",
            b"0 a=b\n",
            b"6 a=bb\n",
            b" a=b\n",
            b"-6 a=b\n",
            b"5 =b\n",
            b"99999999999999999999 a=b\n",
            b"6 abb\n",
            b"3 \n",
        ] {
            assert_eq!(parse(body), None, "{:?}", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn times_keep_their_nanoseconds_before_and_after_1970() {
        for (time, text) in [
            ((0, 0), "0"),
            ((1, 500_000_000), "1.5"),
            ((1, 1), "1.000000001"),
            ((-2, 500_000_000), "-1.5"),
            ((-1, 999_999_999), "-0.000000001"),
            ((-7, 0), "-7"),
        ] {
            assert_eq!(format_time(time.0, time.1), text);
            assert_eq!(parse_time(text.as_bytes()), Some(time));
        }
        for text in ["", ".", "1e3", "--1", "99999999999999999999", "1.-2"] {
            assert_eq!(parse_time(text.as_bytes()), None, "{text}");
        }
    }
}
