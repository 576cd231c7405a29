//! Lines out of the bytes that a RUN wrote, and text that is safe to show on a terminal.
//!
//! Bytes arrive cut anywhere; lines leave whole. What a build prints is not trusted: no control
//! character of it may reach a terminal, where it could move the cursor, set the title or answer a
//! question in the user's name.

use std::borrow::Cow;

use super::event::Stream;

/// Where a line without an end is cut, in bytes; what follows becomes another line.
pub(crate) const LINE_LIMIT: usize = 16 * 1024;

/// Assembles the lines of one vertex, its two streams apart.
#[derive(Debug, Default)]
pub(crate) struct LogLines {
    stdout: Partial,
    stderr: Partial,
}

#[derive(Debug, Default)]
struct Partial {
    bytes: Vec<u8>,
    /// A carriage return was last: whatever comes, except a line feed, overwrites the line.
    returned: bool,
}

impl LogLines {
    /// Takes what `stream` wrote and gives the lines that are now complete, made [`visible`].
    ///
    /// As on a terminal, text before a carriage return is overwritten by the text after it, so that a
    /// progress bar becomes its last state.
    pub(crate) fn push(&mut self, stream: Stream, bytes: &[u8]) -> Vec<String> {
        let partial = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let mut lines = Vec::new();
        partial.push(bytes, &mut lines);
        lines
    }

    /// Gives the last lines, which no line feed ended.
    pub(crate) fn finish(&mut self) -> Vec<String> {
        [&mut self.stdout, &mut self.stderr]
            .into_iter()
            .filter(|partial| !partial.bytes.is_empty())
            .map(Partial::take)
            .collect()
    }
}

impl Partial {
    fn push(&mut self, mut bytes: &[u8], lines: &mut Vec<String>) {
        while let Some(&first) = bytes.first() {
            match first {
                b'\n' => {
                    lines.push(self.take());
                    bytes = &bytes[1..];
                }
                b'\r' => {
                    self.returned = true;
                    bytes = &bytes[1..];
                }
                _ => {
                    if self.returned {
                        self.bytes.clear();
                        self.returned = false;
                    }
                    let text = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
                    let room = LINE_LIMIT - self.bytes.len();
                    let (text, rest) = bytes.split_at(text.unwrap_or(bytes.len()).min(room));
                    self.bytes.extend_from_slice(text);
                    bytes = rest;
                    if self.bytes.len() == LINE_LIMIT {
                        lines.push(self.take_whole_characters());
                    }
                }
            }
        }
    }

    fn take(&mut self) -> String {
        let line = shown(&self.bytes);
        self.bytes.clear();
        self.returned = false;
        line
    }

    /// Takes a line that is cut at the limit, and keeps the beginning of a character that the limit
    /// cut in two.
    fn take_whole_characters(&mut self) -> String {
        let rest = self
            .bytes
            .split_off(self.bytes.len() - cut_character(&self.bytes));
        let line = shown(&self.bytes);
        self.bytes = rest;
        line
    }
}

/// Bytes as text that is safe to show.
pub(super) fn shown(bytes: &[u8]) -> String {
    visible(&String::from_utf8_lossy(bytes)).into_owned()
}

/// How many bytes at the end of `bytes` begin a UTF-8 character without finishing it: at most three.
pub(crate) fn cut_character(bytes: &[u8]) -> usize {
    let tail = &bytes[bytes.len().saturating_sub(3)..];
    for (start, byte) in tail.iter().enumerate() {
        if matches!(byte, 0xc2..=0xf4) {
            let incomplete = std::str::from_utf8(&tail[start..])
                .is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none());
            if incomplete {
                return tail.len() - start;
            }
        }
    }
    0
}

/// `text` without anything that acts on a terminal: colour sequences are dropped, every other
/// control character but the tab is spelled out (`\x1b`, `\u{9b}`), and so are the characters that
/// reorder text.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    if !text.contains(acts_on_terminal) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(acts_on_terminal) {
        shown.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = after_colour_sequence(rest) {
            rest = after;
            continue;
        }
        let mut characters = rest.chars();
        match characters.next() {
            Some(character) if character.is_ascii() => {
                shown.push_str(&format!("\\x{:02x}", u32::from(character)));
            }
            Some(character) => shown.push_str(&format!("\\u{{{:x}}}", u32::from(character))),
            None => {}
        }
        rest = characters.as_str();
    }
    shown.push_str(rest);
    Cow::Owned(shown)
}

/// `json` with everything spelled out that acts on a terminal: JSON has the controls of ASCII escaped, but
/// not the others.
pub(crate) fn visible_json(json: String) -> String {
    if !json.contains(acts_on_terminal) {
        return json;
    }
    let mut shown = String::with_capacity(json.len());
    for character in json.chars() {
        // All of them are inside texts, where an escape means the same; none is beyond four digits.
        match acts_on_terminal(character) {
            true => shown.push_str(&format!("\\u{:04x}", u32::from(character))),
            false => shown.push(character),
        }
    }
    shown
}

/// Control characters of ASCII and Latin-1 (ECMA-48) but the tab, and Unicode's bidirectional marks.
pub(crate) fn acts_on_terminal(character: char) -> bool {
    (character.is_control() && character != '\t')
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// What follows the colour sequence (ECMA-48, SGR: `ESC [ digits and separators m`) that `text`
/// begins with, if it begins with one.
fn after_colour_sequence(text: &str) -> Option<&str> {
    text.strip_prefix("\u{1b}[")?
        .trim_start_matches(|c: char| c.is_ascii_digit() || matches!(c, ';' | ':'))
        .strip_prefix('m')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(chunks: &[&[u8]]) -> Vec<String> {
        let mut log = LogLines::default();
        let mut lines = Vec::new();
        for chunk in chunks {
            lines.extend(log.push(Stream::Stdout, chunk));
        }
        lines.extend(log.finish());
        lines
    }

    #[test]
    fn lines_are_whole_however_the_bytes_are_cut() {
        let text = "one\r\ntwo\n\n10%\r20%\r30%\nü€😀\nend";
        let expected = ["one", "two", "", "30%", "ü€😀", "end"];
        for size in 1..=text.len() {
            let chunks: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
            assert_eq!(lines_of(&chunks), expected, "cut every {size} bytes");
        }
    }

    #[test]
    fn json_with_characters_spelled_out_means_the_same() {
        let text = "a\u{1b}\u{9b}\u{202e}\u{7f}\"ü😀";
        let json = serde_json::to_string(text).unwrap();
        let shown = visible_json(json);
        assert!(!shown.contains(acts_on_terminal), "{shown}");
        assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), text);
    }

    #[test]
    fn the_two_streams_do_not_mix_in_one_line() {
        let mut log = LogLines::default();
        assert!(log.push(Stream::Stdout, b"out").is_empty());
        assert!(log.push(Stream::Stderr, b"err").is_empty());
        assert_eq!(log.push(Stream::Stdout, b"put\n"), ["output"]);
        assert_eq!(log.finish(), ["err"]);
    }

    #[test]
    fn a_line_without_end_is_cut_between_characters() {
        let text = format!("{}€{}", "x".repeat(LINE_LIMIT - 1), "y".repeat(9));
        let lines = lines_of(&[text.as_bytes()]);
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].len(), LINE_LIMIT - 1);
        assert_eq!(lines[1], "€yyyyyyyyy");
    }

    #[test]
    fn nothing_that_acts_on_a_terminal_stays() {
        for (text, expected) in [
            ("plain\ttext", "plain\ttext"),
            ("\u{1b}[1;31mred\u{1b}[0m", "red"),
            ("\u{1b}]0;title\u{7}", "\\x1b]0;title\\x07"),
            ("\u{1b}[2J", "\\x1b[2J"),
            ("\u{9b}2J\u{7f}", "\\u{9b}2J\\x7f"),
            ("a\u{202e}b\nc", "a\\u{202e}b\\x0ac"),
            ("\u{1b}[31", "\\x1b[31"),
        ] {
            assert_eq!(visible(text), expected);
        }
    }

    #[test]
    fn bytes_that_are_not_utf8_are_replaced() {
        assert_eq!(lines_of(&[b"a\xff\xe2\x82\n"]), ["a\u{fffd}\u{fffd}"]);
    }

    #[test]
    fn only_an_unfinished_character_counts_as_cut() {
        for (bytes, expected) in [
            (&b"abc"[..], 0),
            ("€".as_bytes(), 0),
            (&"€".as_bytes()[..2], 2),
            (&"a😀".as_bytes()[..4], 3),
            (b"\xff", 0),
            (b"", 0),
        ] {
            assert_eq!(cut_character(bytes), expected, "{bytes:?}");
        }
    }
}
