//! Secrets that a command prints do not reach the log.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::secret_scan::{SHORTEST as SHORTEST_ENCODED, in_base64};

/// What shorter values would blank is more often not the secret.
const SHORTEST: usize = 4;
/// Where base64(1) and openssl(1) break the lines of what they encode.
const WIDTHS: [usize; 2] = [76, 64];
/// Secrets of more lines are masked as a whole only: every byte of a log is held against every value.
const MOST_LINES: usize = 64;
const MASK: &[u8] = b"***";

/// Replaces secret values in a stream that comes in pieces.
#[derive(Debug, Default)]
pub(crate) struct Redactor {
    /// Longest first, so that of two that begin alike the longer one goes.
    values: Vec<Vec<u8>>,
    /// The end of what has come, which may be the beginning of a value.
    held: Vec<u8>,
}

impl Redactor {
    /// For these secrets: each as a whole without the line end of its file, line by line, and in base64.
    pub(crate) fn new<'a>(secrets: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let whole: Vec<&[u8]> = secrets.into_iter().collect();
        let mut values: Vec<Vec<u8>> = whole
            .iter()
            .copied()
            .flat_map(|secret| {
                let lines: Vec<&[u8]> = secret.split(|byte| *byte == b'\n').collect();
                let few = lines.len() <= MOST_LINES;
                std::iter::once(secret).chain(lines.into_iter().filter(move |_| few))
            })
            .map(|value| value.trim_ascii().to_vec())
            .filter(|value| value.len() >= SHORTEST)
            .collect();
        let encoded: Vec<Vec<u8>> = whole.into_iter().flat_map(encodings).collect();
        values.extend(encoded);
        values.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        values.dedup();
        Self {
            values,
            held: Vec::new(),
        }
    }

    /// What can be shown now that `bytes` have come.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        if self.values.is_empty() {
            return bytes.to_vec();
        }
        self.held.extend_from_slice(bytes);
        self.take(false)
    }

    /// What was held back, when nothing more comes: the beginning of a value at the most.
    pub(crate) fn finish(&mut self) -> Vec<u8> {
        self.take(true)
    }

    fn take(&mut self, at_end: bool) -> Vec<u8> {
        let mut shown = Vec::with_capacity(self.held.len());
        let mut rest = self.held.as_slice();
        let may_begin = |rest: &[u8]| {
            let mut values = self.values.iter();
            values.any(|value| value.len() > rest.len() && value.starts_with(rest))
        };
        while let Some(first) = rest.first() {
            if !at_end && may_begin(rest) {
                break;
            }
            match self.values.iter().find(|value| rest.starts_with(value)) {
                Some(value) => {
                    shown.extend_from_slice(MASK);
                    rest = &rest[value.len()..];
                }
                None => {
                    shown.push(*first);
                    rest = &rest[1..];
                }
            }
        }
        self.held = rest.to_vec();
        shown
    }
}

/// How a secret that is encoded, alone or as a part of something, looks in a log.
fn encodings(secret: &[u8]) -> Vec<Vec<u8>> {
    let value = secret.trim_ascii();
    if value.len() < SHORTEST_ENCODED {
        return Vec::new();
    }
    let text = STANDARD.encode(secret);
    let lines = WIDTHS.iter().flat_map(|width| {
        let lines = text.as_bytes().chunks(*width);
        let few = lines.len() <= MOST_LINES;
        lines.filter(move |line| few && line.len() >= SHORTEST_ENCODED)
    });
    let lines: Vec<Vec<u8>> = lines.map(<[u8]>::to_vec).collect();
    in_base64(value).into_iter().chain(lines).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The stream in every cut into two pieces.
    fn redacted(secrets: &[&str], stream: &str) -> String {
        let mut results = Vec::new();
        for cut in 0..=stream.len() {
            let mut redactor = Redactor::new(secrets.iter().map(|secret| secret.as_bytes()));
            let mut shown = redactor.push(&stream.as_bytes()[..cut]);
            shown.extend(redactor.push(&stream.as_bytes()[cut..]));
            shown.extend(redactor.finish());
            results.push(String::from_utf8(shown).unwrap());
        }
        results.dedup();
        assert_eq!(results.len(), 1, "{results:?}");
        results.remove(0)
    }

    #[test]
    fn values_are_masked_however_the_stream_is_cut() {
        for (secrets, stream, expected) in [
            (&["hunter2"][..], "a hunter2 b hunter2", "a *** b ***"),
            (&["hunter2\n"], "hunter2\n", "***\n"),
            (&["hunter2"], "hunterhunter2 hunter", "hunter*** hunter"),
            (&["aaab"], "aaaab aaa", "a*** aaa"),
            (
                &["pass", "password"],
                "password pass passwor",
                "*** *** ***wor",
            ),
            (&["first line\nsecond line\n"], "second line", "***"),
            (
                &["first line\nsecond line"],
                "first line\nsecond line",
                "***",
            ),
            (&["hunter2-hunter2"], "aHVudGVyMi1odW50ZXIy", "***"),
            (&["hunter2-hunter2\n"], "aHVudGVyMi1odW50ZXIyCg==", "***"),
            (
                &["hunter2-hunter2"],
                "x dTpodW50ZXIyLWh1bnRlcjI= y",
                "x dTp***I= y",
            ),
            (&["hunter"], "aHVudGVy", "aHVudGVy"),
            (&["abc", ""], "abc", "abc"),
            (&[], "anything", "anything"),
        ] {
            assert_eq!(
                redacted(secrets, stream),
                expected,
                "{secrets:?} in {stream:?}"
            );
        }
    }

    #[test]
    fn what_begins_no_value_is_shown_at_once() {
        let mut redactor = Redactor::new([b"hunter2".as_slice()]);
        assert_eq!(redactor.push(b"Password? "), b"Password? ");
        assert_eq!(redactor.push(b"hunt"), b"");
        assert_eq!(redactor.push(b"ing"), b"hunting");
    }
}
