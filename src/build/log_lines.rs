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
        let _ = (stream, bytes);
        todo!()
    }

    /// Gives the last lines, which no line feed ended.
    pub(crate) fn finish(&mut self) -> Vec<String> {
        todo!()
    }
}

/// `text` without anything that acts on a terminal: colour sequences are dropped, every other
/// control character but the tab is spelled out (`\x1b`, `\u{9b}`), and so are the characters that
/// reorder text.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    let _ = text;
    todo!()
}
