//! The forms in which instructions take their arguments.

use super::{
    diagnostic::Diagnostic,
    flags::{self, Flag, Flags, Kind},
    instruction::{KeyValues, ShellOrExec},
    span::Spanned,
    text::Text,
};

/// Where findings go, and what the directives at the top of the file decided.
pub(crate) struct Context<'a> {
    pub(crate) escape: char,
    pub(crate) errors: &'a mut Vec<Diagnostic>,
    pub(crate) warnings: &'a mut Vec<Diagnostic>,
}

impl Context<'_> {
    pub(crate) fn error(&mut self, diagnostic: Diagnostic) {
        self.errors.push(diagnostic);
    }
}

/// An instruction's line cut into its parts.
#[derive(Debug)]
pub(crate) struct Head<'t> {
    pub(crate) keyword: Text<'t>,
    pub(crate) flags: Vec<Flag>,
    /// Without white space around.
    pub(crate) arguments: Text<'t>,
}

impl<'t> Head<'t> {
    pub(crate) fn split(line: Text<'t>, escape: char) -> Self {
        let line = line.trim();
        let (keyword, rest) = line.split_blank();
        let rest = rest.unwrap_or_else(|| line.from(line.as_str().len()));
        let (flags, arguments) = flags::split(rest, escape);
        Self {
            keyword,
            flags,
            arguments,
        }
    }

    /// The keyword in upper case.
    pub(crate) fn name(&self) -> String {
        self.keyword.as_str().to_uppercase()
    }

    pub(crate) fn flags(&mut self, known: &[(&str, Kind)], cx: &mut Context<'_>) -> Flags {
        Flags::check(std::mem::take(&mut self.flags), known, cx.errors)
    }

    /// Reports that arguments are missing.
    pub(crate) fn missing(&self, what: &str, cx: &mut Context<'_>) {
        let message = format!("{} requires {what}", self.name());
        cx.error(Diagnostic::new(self.keyword.span(), message));
    }

    /// The arguments as one text.
    pub(crate) fn one(&self, cx: &mut Context<'_>) -> Option<Spanned<String>> {
        if self.arguments.is_empty() {
            self.missing("exactly one argument", cx);
            return None;
        }
        Some(self.arguments.to_spanned())
    }

    /// The arguments as words or as a JSON array.
    pub(crate) fn list(&self, cx: &mut Context<'_>) -> Option<Vec<Spanned<String>>> {
        match json_form(self.arguments, cx)? {
            Some(list) => Some(list),
            None => Some(
                self.arguments
                    .words()
                    .into_iter()
                    .map(Text::to_spanned)
                    .collect(),
            ),
        }
    }
}

/// Whether `text` is a JSON array, of whatever elements.
pub(crate) fn is_json(text: Text<'_>) -> bool {
    parse_json(text).is_some()
}

fn parse_json(text: Text<'_>) -> Option<Vec<serde_json::Value>> {
    let text = text.as_str();
    if !text.starts_with('[') {
        return None;
    }
    serde_json::from_str(text).ok()
}

/// The elements of a JSON array; `Some(None)` when `text` is none, `None` when it is one but
/// holds something else than strings, which gets reported.
fn json_form(text: Text<'_>, cx: &mut Context<'_>) -> Option<Option<Vec<Spanned<String>>>> {
    let Some(values) = parse_json(text) else {
        if looks_like_json(text.as_str()) {
            cx.warnings.push(
                Diagnostic::new(text.span(), "looks like a JSON array but is not valid JSON")
                    .with_rule("BrokenJSONForm")
                    .with_label("taken as plain text")
                    .with_help("JSON strings stand in double quotes and are separated by commas"),
            );
        }
        return Some(None);
    };
    let strings: Vec<String> = values
        .iter()
        .filter_map(|value| value.as_str().map(str::to_owned))
        .collect();
    if strings.len() < values.len() {
        let message = "when using JSON array syntax, arrays must be comprised of strings only";
        cx.error(Diagnostic::new(text.span(), message));
        return None;
    }
    let places = json_strings(text);
    Some(Some(
        strings
            .into_iter()
            .zip(places)
            .map(|(value, place)| Spanned::new(value, place.span()))
            .collect(),
    ))
}

/// The string literals of a valid JSON array of strings, without their quotes.
fn json_strings(text: Text<'_>) -> Vec<Text<'_>> {
    let mut strings = Vec::new();
    let mut start = None;
    let mut bytes = text.as_str().bytes().enumerate();
    while let Some((index, byte)) = bytes.next() {
        match (byte, start) {
            (b'"', None) => start = Some(index + 1),
            (b'"', Some(begin)) => {
                strings.push(text.slice(begin, index));
                start = None;
            }
            (b'\\', Some(_)) => {
                bytes.next();
            }
            _ => {}
        }
    }
    strings
}

/// Whether someone meant a JSON array: brackets around text that starts and ends with a quote
/// and, for a single item, holds no other one. The shell's `[ "$a" = "b" ]` is left alone.
fn looks_like_json(text: &str) -> bool {
    let inner = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let Some(inner) = inner.map(|inner| inner.trim().trim_end_matches(',').trim_end()) else {
        return false;
    };
    let is_quote = |c: char| matches!(c, '\'' | '"' | '\u{201c}' | '\u{201d}' | '\u{201e}');
    if inner.len() < 2 || !inner.starts_with(is_quote) || !inner.ends_with(is_quote) {
        return false;
    }
    let quotes = inner
        .chars()
        .filter(|&character| is_quote(character))
        .count();
    quotes == 2
        || inner.match_indices(',').any(|(index, _)| {
            inner[..index].trim_end().ends_with(is_quote)
                || inner[index + 1..].trim_start().starts_with(is_quote)
        })
}

/// Reads a command line; `None` when it was reported as wrong.
pub(crate) fn command(text: Text<'_>, cx: &mut Context<'_>) -> Option<ShellOrExec> {
    let command = match json_form(text, cx)? {
        Some(list) => {
            let values = list.into_iter().map(|item| item.value).collect();
            ShellOrExec::Exec(Spanned::new(values, text.span()))
        }
        None => ShellOrExec::Shell(text.to_spanned()),
    };
    Some(command)
}

/// Splits at white space outside quotes; quotes and escapes stay in the words. An escape
/// character at the very end is dropped.
pub(crate) fn quoted_words(text: Text<'_>, escape: char) -> Vec<Text<'_>> {
    let mut words = Vec::new();
    let mut start = None;
    let mut quote = None;
    let mut end = text.as_str().len();
    let mut characters = text.as_str().char_indices();
    while let Some((index, character)) = characters.next() {
        if quote.is_none() && character.is_whitespace() {
            if let Some(start) = start.take() {
                words.push(text.slice(start, index));
            }
            continue;
        }
        if quote == Some(character) {
            quote = None;
        } else if character == escape && quote != Some('\'') {
            if characters.next().is_none() {
                end = index;
                break;
            }
        } else if quote.is_none() && (character == '\'' || character == '"') {
            quote = Some(character);
        }
        start.get_or_insert(index);
    }
    if let Some(start) = start.filter(|&start| start < end) {
        words.push(text.slice(start, end));
    }
    words
}

/// Reads `key=value ...` or `key value` of ENV and LABEL.
pub(crate) fn key_values(head: &Head<'_>, cx: &mut Context<'_>) -> Option<KeyValues> {
    let keyword = head.name();
    let words = quoted_words(head.arguments, cx.escape);
    let Some(first) = words.first() else {
        head.missing("at least one argument", cx);
        return None;
    };
    if !first.as_str().contains('=') {
        let (key, value) = head.arguments.split_blank();
        let Some(value) = value.filter(|value| !value.is_empty()) else {
            let message = format!("{keyword} must have two arguments");
            cx.error(
                Diagnostic::new(key.span(), message)
                    .with_help(format!("write `{keyword} {}=value`", key.as_str())),
            );
            return None;
        };
        let pairs = vec![(key.to_spanned(), value.to_spanned())];
        return Some(KeyValues {
            pairs,
            legacy: true,
        });
    }
    let mut pairs = Vec::new();
    for word in &words {
        let Some((key, value)) = split_equals(*word) else {
            let message = format!(
                "Syntax error - can't find = in {:?}. Must be of the form: name=value",
                word.as_str()
            );
            cx.error(
                Diagnostic::new(word.span(), message)
                    .with_help("a value with blanks stands in quotes: `name=\"a b\"`"),
            );
            continue;
        };
        if key.is_empty() {
            cx.error(Diagnostic::new(
                word.span(),
                format!("{keyword} names can not be blank"),
            ));
            continue;
        }
        pairs.push((key.to_spanned(), value.to_spanned()));
    }
    (pairs.len() == words.len()).then_some(KeyValues {
        pairs,
        legacy: false,
    })
}

pub(crate) fn split_equals(word: Text<'_>) -> Option<(Text<'_>, Text<'_>)> {
    let index = word.as_str().find('=')?;
    Some((word.slice(0, index), word.from(index + 1)))
}

/// Whether expansion leaves `word` as it is, so that its value can be checked early.
pub(crate) fn is_literal(word: &str, escape: char) -> bool {
    !word.contains(['$', '\'', '"', '\\', escape])
}
