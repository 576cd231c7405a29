//! From the source to logical lines: directives, comments, continuations, heredoc bodies.

use super::{
    Directives,
    diagnostic::Diagnostic,
    heredoc::Marker,
    instruction::Heredoc,
    span::{Span, Spanned},
    text::Mapped,
};

/// An instruction's line with its continuations joined.
#[derive(Debug)]
pub(crate) struct LogicalLine {
    pub(crate) text: Mapped,
    /// The 1-based line that it starts on.
    pub(crate) number: usize,
    /// The comment lines directly above, without `#`.
    pub(crate) comments: Vec<Spanned<String>>,
}

/// Reads the source line by line.
pub(crate) struct Lines<'s> {
    source: &'s str,
    position: usize,
    /// How many lines were read.
    count: usize,
    pub(crate) directives: Directives,
    /// Directives are still possible: nothing but directives was read.
    in_directives: bool,
    escape_seen: bool,
    comments: Vec<Spanned<String>>,
    pub(crate) errors: Vec<Diagnostic>,
    pub(crate) warnings: Vec<Diagnostic>,
}

/// A line of the file, without its line end.
#[derive(Clone, Copy)]
struct PhysicalLine<'s> {
    text: &'s str,
    start: usize,
}

impl<'s> Lines<'s> {
    pub(crate) fn new(source: &'s str) -> Self {
        let mut lines = Self {
            source,
            position: if source.starts_with('\u{feff}') {
                '\u{feff}'.len_utf8()
            } else {
                0
            },
            count: 0,
            directives: Directives {
                syntax: None,
                escape: '\\',
                check: None,
            },
            in_directives: true,
            escape_seen: false,
            comments: Vec::new(),
            errors: Vec::new(),
            warnings: Vec::new(),
        };
        if source[lines.position..].starts_with("#!") {
            lines.next_physical();
        }
        lines
    }

    /// The whole file, for errors that have no better place.
    pub(crate) fn whole(&self) -> Span {
        Span::new(0, self.source.len())
    }

    fn next_physical(&mut self) -> Option<PhysicalLine<'s>> {
        let rest = &self.source[self.position..];
        if rest.is_empty() {
            return None;
        }
        let length = rest.find('\n').map_or(rest.len(), |index| index + 1);
        let line = PhysicalLine {
            text: rest[..length].trim_end_matches(['\r', '\n']),
            start: self.position,
        };
        self.position += length;
        self.count += 1;
        Some(line)
    }

    /// The next instruction's line, which is not blank.
    pub(crate) fn next_logical(&mut self) -> Option<LogicalLine> {
        loop {
            let line = self.next_physical()?;
            let text = line.text.trim_start();
            let offset = line.start + (line.text.len() - text.len());
            let directive = self.in_directives && self.read_directive(text, offset);
            self.in_directives &= directive;
            if text.starts_with('#') {
                if !directive {
                    self.remember_comment(text, offset);
                }
                continue;
            }
            if text.is_empty() {
                continue;
            }
            let logical = self.join(text, offset);
            if !logical.text.as_str().trim().is_empty() {
                return Some(logical);
            }
        }
    }

    fn remember_comment(&mut self, text: &str, offset: usize) {
        let comment = text[1..].trim();
        if comment.is_empty() {
            self.comments.clear();
            return;
        }
        let start = offset + 1 + (text[1..].len() - text[1..].trim_start().len());
        let span = Span::new(start, start + comment.len());
        self.comments.push(Spanned::new(comment.to_owned(), span));
    }

    /// Joins a line with those that continue it.
    fn join(&mut self, first: &str, offset: usize) -> LogicalLine {
        let number = self.count;
        let mut text = Mapped::default();
        let (piece, mut continued) = self.cut_continuation(first);
        text.push(piece, offset);
        let mut empty_line = None;
        while continued {
            let Some(line) = self.next_physical() else {
                break;
            };
            let trimmed = line.text.trim_start();
            if trimmed.starts_with('#') {
                continue;
            }
            if trimmed.is_empty() {
                empty_line.get_or_insert(Span::new(line.start, line.start + line.text.len()));
                continue;
            }
            let piece;
            (piece, continued) = self.cut_continuation(line.text);
            text.push(piece, line.start);
        }
        if let Some(span) = empty_line {
            self.warnings.push(
                Diagnostic::new(span, "Empty continuation line")
                    .with_rule("NoEmptyContinuation")
                    .with_label("this blank line is inside an instruction")
                    .with_related(text.all().trim().span(), "the instruction continues here")
                    .with_help("remove the blank line, or start it with `#`"),
            );
        }
        LogicalLine {
            text,
            number,
            comments: std::mem::take(&mut self.comments),
        }
    }

    /// The line without its continuation mark, and whether there was one: the escape character
    /// last on the line, blanks aside, unless another one stands before it.
    fn cut_continuation<'t>(&self, line: &'t str) -> (&'t str, bool) {
        let escape = self.directives.escape;
        match line.trim_end_matches([' ', '\t']).strip_suffix(escape) {
            Some(rest) if !rest.ends_with(escape) => (rest, true),
            _ => (line, false),
        }
    }

    /// Reads `# key=value` at the top of the file; whether it was a directive.
    fn read_directive(&mut self, text: &str, offset: usize) -> bool {
        let Some((key, value)) = text.strip_prefix('#').and_then(|rest| rest.split_once('='))
        else {
            return false;
        };
        let (key, value) = (key.trim().to_ascii_lowercase(), value.trim());
        if value.is_empty() || !matches!(key.as_str(), "syntax" | "escape" | "check") {
            return false;
        }
        let after_equals = text.find('=').map_or(0, |index| index + 1);
        let blanks = text[after_equals..].len() - text[after_equals..].trim_start().len();
        let start = offset + after_equals + blanks;
        let value = Spanned::new(value.to_owned(), Span::new(start, start + value.len()));
        let line = Span::new(offset, offset + text.trim_end().len());
        let repeated = match key.as_str() {
            "syntax" => self.directives.syntax.replace(value).is_some(),
            "check" => self.directives.check.replace(value).is_some(),
            _ => {
                self.set_escape(&value);
                std::mem::replace(&mut self.escape_seen, true)
            }
        };
        if repeated {
            let message = format!("only one {key} parser directive can be used");
            self.errors.push(Diagnostic::new(line, message));
        }
        true
    }

    fn set_escape(&mut self, value: &Spanned<String>) {
        match value.value.as_str() {
            "\\" => self.directives.escape = '\\',
            "`" => self.directives.escape = '`',
            other => {
                let message = format!("invalid escape token '{other}' does not match ` or \\");
                self.errors.push(Diagnostic::new(value.span, message));
            }
        }
    }

    /// Reads the bodies that follow an instruction's line. When one of them has no end, the rest
    /// of the file is used up and its marker's index returned.
    pub(crate) fn read_heredocs(&mut self, markers: &[Marker]) -> Result<Vec<Heredoc>, usize> {
        let mut heredocs = Vec::new();
        for (index, marker) in markers.iter().enumerate() {
            heredocs.push(self.read_heredoc(marker).ok_or(index)?);
        }
        Ok(heredocs)
    }

    fn read_heredoc(&mut self, marker: &Marker) -> Option<Heredoc> {
        let start = self.position;
        loop {
            let line = self.next_physical()?;
            let mut text = line.text;
            if marker.strip_tabs {
                text = text.trim_start_matches('\t');
            }
            if text == marker.name {
                return Some(Heredoc {
                    name: marker.name.clone(),
                    expand: marker.expand,
                    strip_tabs: marker.strip_tabs,
                    fd: marker.fd,
                    body: self.source[start..line.start].to_owned(),
                    body_span: Span::new(start, line.start),
                    terminator: Span::new(line.start, line.start + line.text.len()),
                });
            }
        }
    }

    /// Where reading stands, to return to with `rewind`.
    pub(crate) fn mark(&self) -> (usize, usize) {
        (self.position, self.count)
    }

    pub(crate) fn rewind(&mut self, mark: (usize, usize)) {
        (self.position, self.count) = mark;
    }
}

#[cfg(test)]
#[path = "lines_tests.rs"]
mod tests;
