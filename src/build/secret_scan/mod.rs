//! `--secret-scan`: whether what a step leaves has the bytes of a secret in it.
//!
//! A secret is looked for as it is, in base64 (both alphabets, wherever it begins in what is encoded, and
//! wrapped into lines) and in hexadecimal digits: in everything that a layer's tar has, which are contents,
//! names, links and attributes of files, and in the image's configuration with its history. What is compressed or
//! encrypted is not looked into. Of a long secret the middle is looked for.

mod layer;
mod steps;

use std::collections::BTreeSet;
use std::fmt;

use aho_corasick::AhoCorasick;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde_json::Value;

pub(crate) use layer::LayerScan;

use super::secret::{self, Secret};
use crate::oci::ImageConfig;

/// Shorter values stand in files by chance.
pub(crate) const SHORTEST: usize = 8;
/// Of what is longer so many bytes of the middle are looked for: the beginnings of keys are all alike.
const LONGEST: usize = 48;

/// What is done about a secret that was found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum SecretScan {
    #[default]
    Off,
    Warn,
    /// The step fails, and nothing of it is kept.
    Fail,
}

/// How a secret was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Form {
    Plain,
    Base64,
    Hexadecimal,
}

/// A secret that was found. It is shown without the secret's value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Leak {
    id: String,
    form: Form,
    place: String,
}

impl fmt::Display for Leak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let form = match self.form {
            Form::Plain => "",
            Form::Base64 => " in base64",
            Form::Hexadecimal => " in hexadecimal digits",
        };
        write!(f, "the secret {:?} is{form} in {}", self.id, self.place)
    }
}

/// Leaks on one line, the first of many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leaks(pub(crate) Vec<Leak>);

impl fmt::Display for Leaks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 5;
        for (index, leak) in self.0.iter().take(SHOWN).enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{leak}")?;
        }
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

/// What is looked for.
pub(crate) struct Patterns {
    /// In the bytes as they are.
    plain: Automaton,
    /// In the bytes without line ends.
    encoded: Automaton,
    ids: Vec<String>,
    /// The ids of secrets that are too short to be looked for.
    pub(crate) short: Vec<String>,
    pub(crate) action: SecretScan,
}

impl fmt::Debug for Patterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Patterns")
            .field("ids", &self.ids)
            .finish_non_exhaustive()
    }
}

struct Automaton {
    search: AhoCorasick,
    /// Of each pattern: which secret, and how it is written.
    meanings: Vec<(usize, Form)>,
    longest: usize,
}

impl Automaton {
    fn new(patterns: Vec<(Vec<u8>, usize, Form)>) -> Self {
        let search = AhoCorasick::new(patterns.iter().map(|(bytes, ..)| bytes))
            .expect("a few thousand short patterns");
        Self {
            search,
            longest: patterns
                .iter()
                .map(|(bytes, ..)| bytes.len())
                .max()
                .unwrap_or(0),
            meanings: patterns
                .into_iter()
                .map(|(_, id, form)| (id, form))
                .collect(),
        }
    }
}

/// What was found: which secret, and how it is written.
type Found = BTreeSet<(usize, Form)>;

/// Looks for patterns in bytes that come in pieces.
#[derive(Debug, Default)]
struct Search {
    /// The end of what has come, which may be the beginning of a pattern.
    tail: Vec<u8>,
}

impl Search {
    fn push(&mut self, automaton: &Automaton, bytes: &[u8], found: &mut Found) {
        self.tail.extend_from_slice(bytes);
        for hit in automaton.search.find_overlapping_iter(&self.tail) {
            found.insert(automaton.meanings[hit.pattern().as_usize()]);
        }
        let kept = automaton.longest.saturating_sub(1).min(self.tail.len());
        self.tail.drain(..self.tail.len() - kept);
    }
}

impl Patterns {
    /// Reads the secrets; nothing is looked for when there are none, or nothing is asked for.
    pub(crate) fn read(
        secrets: &[Secret],
        action: SecretScan,
    ) -> Result<Option<Self>, secret::Error> {
        if action == SecretScan::Off || secrets.is_empty() {
            return Ok(None);
        }
        let values = secrets
            .iter()
            .map(|secret| Ok((secret.id.clone(), secret.read()?)));
        let values = values.collect::<Result<Vec<_>, secret::Error>>()?;
        Ok(Some(Self::new(values, action)))
    }

    fn new(values: Vec<(String, Vec<u8>)>, action: SecretScan) -> Self {
        let (mut plain, mut encoded) = (Vec::new(), Vec::new());
        let (mut ids, mut short) = (Vec::new(), Vec::new());
        for (id, value) in values {
            let value = value.trim_ascii();
            if value.len() < SHORTEST {
                short.push(id);
                continue;
            }
            let skipped = value.len().saturating_sub(LONGEST) / 2;
            let value = &value[skipped..][..value.len().min(LONGEST)];
            let index = ids.len();
            ids.push(id);
            plain.push((value.to_vec(), index, Form::Plain));
            for text in in_base64(value) {
                encoded.push((text, index, Form::Base64));
            }
            let hex: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
            encoded.push((hex.to_uppercase().into_bytes(), index, Form::Hexadecimal));
            encoded.push((hex.into_bytes(), index, Form::Hexadecimal));
        }
        Self {
            plain: Automaton::new(plain),
            encoded: Automaton::new(encoded),
            ids,
            short,
            action,
        }
    }

    fn leak(&self, (id, form): (usize, Form), place: String) -> Leak {
        Leak {
            id: self.ids[id].clone(),
            form,
            place,
        }
    }

    /// What of `bytes` can be shown: names may have secrets in them too.
    fn shown(&self, bytes: &[u8]) -> String {
        let mut masked = bytes.to_vec();
        for automaton in [&self.plain, &self.encoded] {
            let masks = vec!["***"; automaton.meanings.len()];
            masked = automaton.search.replace_all_bytes(&masked, &masks);
        }
        super::log_lines::shown(&masked)
    }

    fn in_text(&self, text: &str) -> Found {
        let mut found = Found::new();
        Search::default().push(&self.plain, text.as_bytes(), &mut found);
        let joined: Vec<u8> = text.bytes().filter(|byte| !is_line_end(*byte)).collect();
        Search::default().push(&self.encoded, &joined, &mut found);
        found
    }

    /// What an image's configuration and history have.
    pub(crate) fn in_config(&self, config: &ImageConfig) -> Vec<Leak> {
        let mut leaks = Vec::new();
        let value = serde_json::to_value(config).expect("a configuration is JSON");
        self.walk(&value, "the image's configuration", &mut leaks);
        leaks
    }

    fn walk(&self, value: &Value, place: &str, leaks: &mut Vec<Leak>) {
        match value {
            Value::String(text) => self.note(text, place, leaks),
            Value::Array(values) => {
                for (index, value) in values.iter().enumerate() {
                    self.walk(value, &format!("{place}[{index}]"), leaks);
                }
            }
            Value::Object(fields) => {
                for (name, value) in fields {
                    let place = format!("{place}, {}", self.shown(name.as_bytes()));
                    self.note(name, &place, leaks);
                    self.walk(value, &place, leaks);
                }
            }
            _ => {}
        }
    }

    fn note(&self, text: &str, place: &str, leaks: &mut Vec<Leak>) {
        let found = self.in_text(text).into_iter();
        leaks.extend(found.map(|found| self.leak(found, place.to_owned())));
    }
}

fn is_line_end(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

/// What of the encodings of anything with `value` in it depends on `value` alone: for each of the three
/// places where it may begin in a group of three bytes, in both alphabets (RFC 4648).
pub(super) fn in_base64(value: &[u8]) -> BTreeSet<Vec<u8>> {
    let mut texts = BTreeSet::new();
    for before in 0..3 {
        let bytes = [&[0; 2][..before], value].concat();
        let encoded = STANDARD_NO_PAD.encode(&bytes).into_bytes();
        // A character stands for six bits.
        let from = (before * 8).div_ceil(6);
        let text = &encoded[from..bytes.len() * 8 / 6];
        texts.insert(text.to_vec());
        let url = text.iter().map(|byte| match byte {
            b'+' => b'-',
            b'/' => b'_',
            byte => *byte,
        });
        texts.insert(url.collect());
    }
    texts
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"hunter2+hunter2?~\xff";

    pub(super) fn patterns(value: &[u8]) -> Patterns {
        Patterns::new(vec![("token".to_owned(), value.to_vec())], SecretScan::Fail)
    }

    fn finds(patterns: &Patterns, text: &[u8], step: usize) -> bool {
        let mut found = Found::new();
        let (mut plain, mut encoded) = (Search::default(), Search::default());
        for piece in text.chunks(step) {
            plain.push(&patterns.plain, piece, &mut found);
            let joined: Vec<u8> = piece
                .iter()
                .copied()
                .filter(|byte| !is_line_end(*byte))
                .collect();
            encoded.push(&patterns.encoded, &joined, &mut found);
        }
        !found.is_empty()
    }

    #[test]
    fn a_secret_is_found_in_each_form_wherever_it_begins_and_however_it_is_cut() {
        let patterns = patterns(SECRET);
        let url = base64::engine::general_purpose::URL_SAFE;
        let standard = base64::engine::general_purpose::STANDARD;
        for before in 0..7 {
            let mut bytes = vec![b'x'; before];
            bytes.extend_from_slice(SECRET);
            bytes.extend_from_slice(b"tail");
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let wrapped: String = standard
                .encode(&bytes)
                .as_bytes()
                .chunks(10)
                .map(|line| String::from_utf8(line.to_vec()).unwrap() + "\r\n")
                .collect();
            for text in [
                bytes.clone(),
                standard.encode(&bytes).into_bytes(),
                url.encode(&bytes).into_bytes(),
                hex.to_uppercase().into_bytes(),
                hex.into_bytes(),
                wrapped.into_bytes(),
            ] {
                for step in [1, 3, 1000] {
                    let shown = String::from_utf8_lossy(&text);
                    assert!(finds(&patterns, &text, step), "{shown} in steps of {step}");
                }
            }
        }
        for other in [&b"hunter2 hunter2"[..], b"aHVudGVyMg==", b""] {
            assert!(!finds(&patterns, other, 1000));
        }
    }

    #[test]
    fn of_a_long_secret_the_middle_is_enough_and_of_a_short_one_nothing() {
        let mut state = 1_u32;
        let long: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_103_515_245).wrapping_add(12_345);
            state.to_le_bytes()[2]
        })
        .filter(u8::is_ascii_alphanumeric)
        .take(5000)
        .collect();
        let all = patterns(&long);
        assert!(finds(
            &all,
            &[b"before", long.as_slice(), b"after"].concat(),
            100
        ));
        assert!(!finds(&all, &long[..1000], 100));
        let short = patterns(b"seven77");
        assert_eq!(short.short, ["token"]);
        assert!(!finds(&short, b"seven77", 100));
    }

    #[test]
    fn what_is_shown_has_no_secret_in_it() {
        let patterns = patterns(b"hunter2-hunter2");
        let hidden = patterns.shown(b"/a/hunter2-hunter2/b");
        assert_eq!(hidden, "/a/***/b");
        let leak = Leak {
            id: "token".to_owned(),
            form: Form::Base64,
            place: hidden,
        };
        assert_eq!(
            leak.to_string(),
            "the secret \"token\" is in base64 in /a/***/b"
        );
    }
}
