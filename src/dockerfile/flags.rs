//! The `--name=value` flags between a keyword and its arguments.

use super::{
    diagnostic::Diagnostic,
    nearest::nearest,
    span::{Span, Spanned},
    text::{Mapped, Text},
};

/// One flag as written, quotes and escapes removed.
#[derive(Debug)]
pub(crate) struct Flag {
    pub(crate) name: Spanned<String>,
    /// What stands behind `=`; `None` without one.
    pub(crate) value: Option<Mapped>,
    pub(crate) span: Span,
}

/// What values a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// None, `true` or `false`.
    Switch,
    Value,
    /// A value; the flag may be repeated.
    Values,
}

/// Splits `text` into the flags at its start and the rest.
///
/// A lone `--` ends the flags and is dropped.
pub(crate) fn split(text: Text<'_>, escape: char) -> (Vec<Flag>, Text<'_>) {
    let mut flags = Vec::new();
    let mut rest = text.trim();
    while rest.as_str().starts_with("--") {
        let (word, length) = read_word(rest, escape);
        let span = rest.slice(0, length).span();
        rest = rest.from(length).trim();
        if word.as_str() == "--" {
            break;
        }
        let content = word.all().from(2);
        let equals = content.as_str().find('=');
        let name = content.slice(0, equals.unwrap_or(content.as_str().len()));
        let value = equals.map(|index| {
            let text = content.from(index + 1);
            let mut value = Mapped::default();
            for (index, character) in text.as_str().char_indices() {
                let part = text.slice(index, index + character.len_utf8());
                value.push(part.as_str(), part.span().start);
            }
            if text.is_empty() {
                value.push("", span.end);
            }
            value
        });
        flags.push(Flag {
            name: name.to_spanned(),
            value,
            span,
        });
    }
    (flags, rest)
}

/// Reads to the first unquoted white space; the word without quotes and its length in the text.
fn read_word(text: Text<'_>, escape: char) -> (Mapped, usize) {
    let mut word = Mapped::default();
    let mut quote = None;
    let mut characters = text.as_str().char_indices();
    while let Some((index, character)) = characters.next() {
        let mut literal = (index, character);
        if quote == Some(character) {
            quote = None;
            continue;
        } else if quote.is_none() && character.is_whitespace() {
            return (word, index);
        } else if quote.is_none() && (character == '\'' || character == '"') {
            quote = Some(character);
            continue;
        } else if character == escape {
            let Some(next) = characters.next() else { break };
            literal = next;
        }
        let (index, character) = literal;
        let part = text.slice(index, index + character.len_utf8());
        word.push(part.as_str(), part.span().start);
    }
    (word, text.as_str().len())
}

/// The flags of an instruction, checked against those that it knows.
#[derive(Debug)]
pub(crate) struct Flags(Vec<Flag>);

impl Flags {
    /// Reports unknown and repeated flags and those whose value is missing or no boolean; they
    /// are left out of the result.
    pub(crate) fn check(
        flags: Vec<Flag>,
        known: &[(&str, Kind)],
        errors: &mut Vec<Diagnostic>,
    ) -> Self {
        let mut checked: Vec<Flag> = Vec::new();
        for flag in flags {
            let name = flag.name.value.as_str();
            let Some(&(_, kind)) = known.iter().find(|(other, _)| *other == name) else {
                errors.push(unknown_flag(&flag, known));
                continue;
            };
            let earlier = checked.iter().find(|other| other.name.value == name);
            if let Some(earlier) = earlier.filter(|_| kind != Kind::Values) {
                let message = format!("duplicate flag specified: --{name}");
                errors.push(
                    Diagnostic::new(flag.span, message)
                        .with_related(earlier.span, "first given here"),
                );
                continue;
            }
            match (kind, &flag.value) {
                (Kind::Switch, None) | (Kind::Value | Kind::Values, Some(_)) => {}
                (Kind::Switch, Some(value)) if !value.as_str().is_empty() => {
                    if parse_boolean(value.as_str()).is_none() {
                        let message = format!(
                            "expecting boolean value for flag --{name}, not: {}",
                            value.as_str()
                        );
                        errors.push(
                            Diagnostic::new(value.all().span(), message)
                                .with_help("write `true` or `false`"),
                        );
                        continue;
                    }
                }
                _ => {
                    let message = format!("missing a value on flag: --{name}");
                    errors.push(Diagnostic::new(flag.span, message));
                    continue;
                }
            }
            checked.push(flag);
        }
        Self(checked)
    }

    fn find(&self, name: &str) -> Option<&Flag> {
        self.0.iter().find(|flag| flag.name.value == name)
    }

    /// The value of a flag; nothing behind `=` counts as not given.
    pub(crate) fn value(&self, name: &str) -> Option<Spanned<String>> {
        let value = self.find(name)?.value.as_ref()?;
        (!value.as_str().is_empty()).then(|| value.to_spanned())
    }

    /// `None` when the flag is absent.
    pub(crate) fn switch(&self, name: &str) -> Option<bool> {
        self.find(name).map(|flag| {
            flag.value
                .as_ref()
                .is_none_or(|value| parse_boolean(value.as_str()) == Some(true))
        })
    }

    /// Every occurrence of a flag.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &Flag> {
        self.0.iter().filter(move |flag| flag.name.value == name)
    }

    pub(crate) fn values(&self, name: &str) -> Vec<Spanned<String>> {
        self.all(name)
            .filter_map(|flag| flag.value.as_ref())
            .map(Mapped::to_spanned)
            .collect()
    }
}

fn parse_boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

fn unknown_flag(flag: &Flag, known: &[(&str, Kind)]) -> Diagnostic {
    let name = &flag.name.value;
    let mut message = format!("unknown flag: --{name}");
    if let Some(candidate) = nearest(name, known.iter().map(|(name, _)| *name)) {
        message.push_str(&format!(" (did you mean {candidate}?)"));
    }
    let diagnostic = Diagnostic::new(flag.span, message);
    if known.is_empty() {
        return diagnostic.with_label("this instruction has no flags");
    }
    let names: Vec<String> = known.iter().map(|(name, _)| format!("--{name}")).collect();
    diagnostic.with_help(format!("known flags: {}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split_text(text: &str, escape: char) -> (Vec<(String, Option<String>)>, String) {
        let mut mapped = Mapped::default();
        mapped.push(text, 0);
        let (flags, rest) = split(mapped.all(), escape);
        let flags = flags
            .into_iter()
            .map(|flag| {
                (
                    flag.name.value,
                    flag.value.map(|value| value.as_str().to_owned()),
                )
            })
            .collect();
        (flags, rest.as_str().to_owned())
    }

    #[test]
    fn flags_stand_before_the_first_other_word() {
        for (text, flags, rest) in [
            ("a b", &[][..], "a b"),
            ("--x a --y b", &[("x", None)], "a --y b"),
            ("--x=1 --y  a", &[("x", Some("1")), ("y", None)], "a"),
            ("--x= a", &[("x", Some(""))], "a"),
            ("--x=a=b c", &[("x", Some("a=b"))], "c"),
            ("--x -- --y a", &[("x", None)], "--y a"),
            ("-- a", &[], "a"),
            ("--", &[], ""),
            ("-x a", &[], "-x a"),
            ("--x='a b' c", &[("x", Some("a b"))], "c"),
            ("--x=\"a 'b'\" c", &[("x", Some("a 'b'"))], "c"),
            ("--x=a\\ b c", &[("x", Some("a b"))], "c"),
            ("--x=a\\", &[("x", Some("a"))], ""),
            ("--x='a b", &[("x", Some("a b"))], ""),
            ("--x=$y\ta", &[("x", Some("$y"))], "a"),
        ] {
            let flags: Vec<_> = flags
                .iter()
                .map(|&(name, value)| (name.to_owned(), value.map(str::to_owned)))
                .collect();
            assert_eq!(split_text(text, '\\'), (flags, rest.to_owned()), "{text}");
        }
        let (flags, _) = split_text("--x=c:\\a` b", '`');
        assert_eq!(flags, [("x".to_owned(), Some("c:\\a b".to_owned()))]);
    }

    #[test]
    fn flags_are_checked_against_the_known_ones() {
        let known = [
            ("from", Kind::Value),
            ("link", Kind::Switch),
            ("mount", Kind::Values),
        ];
        for (text, messages) in [
            ("--from=a --link --mount=a --mount=b x", &[][..]),
            ("--link=TRUE x", &[]),
            ("--form=a x", &["unknown flag: --form (did you mean from?)"]),
            ("--boo x", &["unknown flag: --boo"]),
            ("--from x", &["missing a value on flag: --from"]),
            ("--link= x", &["missing a value on flag: --link"]),
            ("--mount x", &["missing a value on flag: --mount"]),
            (
                "--link=yes x",
                &["expecting boolean value for flag --link, not: yes"],
            ),
            ("--from=a --from=b x", &["duplicate flag specified: --from"]),
            (
                "--link --link=false x",
                &["duplicate flag specified: --link"],
            ),
            (
                "--a --from x",
                &["unknown flag: --a", "missing a value on flag: --from"],
            ),
        ] {
            let mut mapped = Mapped::default();
            mapped.push(text, 0);
            let mut errors = Vec::new();
            Flags::check(split(mapped.all(), '\\').0, &known, &mut errors);
            let found: Vec<_> = errors.iter().map(|error| error.message.as_str()).collect();
            assert_eq!(found, messages, "{text}");
        }
    }

    #[test]
    fn a_flag_value_knows_its_place_behind_quotes() {
        let mut mapped = Mapped::default();
        mapped.push("--from='abc' x", 100);
        let (flags, _) = split(mapped.all(), '\\');
        assert_eq!(flags[0].span, Span::new(100, 112));
        let value = flags[0].value.as_ref().unwrap().to_spanned();
        assert_eq!(value.span, Span::new(108, 111));
        let flags = Flags::check(flags, &[("from", Kind::Value)], &mut Vec::new());
        assert_eq!(flags.value("from").unwrap().value, "abc");
    }
}
