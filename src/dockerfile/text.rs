//! Text that was put together from pieces of the source and still knows where each came from.

use super::span::{Span, Spanned};

/// A string whose bytes stem from the source, possibly with gaps between them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Mapped {
    text: String,
    /// Starts of the gapless pieces: offset in `text`, offset in the source.
    pieces: Vec<(usize, usize)>,
}

impl Mapped {
    /// Appends `piece`, which stands at `offset` in the source.
    pub(crate) fn push(&mut self, piece: &str, offset: usize) {
        if piece.is_empty() && !self.pieces.is_empty() {
            return;
        }
        if self.pieces.is_empty() || self.source_offset(self.text.len()) != offset {
            self.pieces.push((self.text.len(), offset));
        }
        self.text.push_str(piece);
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn all(&self) -> Text<'_> {
        Text {
            mapped: self,
            start: 0,
            end: self.text.len(),
        }
    }

    pub(crate) fn to_spanned(&self) -> Spanned<String> {
        self.all().to_spanned()
    }

    fn source_offset(&self, offset: usize) -> usize {
        let index = self.pieces.partition_point(|&(start, _)| start <= offset);
        match index
            .checked_sub(1)
            .and_then(|index| self.pieces.get(index))
        {
            Some(&(start, source)) => source + (offset - start),
            None => 0,
        }
    }
}

/// A part of a `Mapped`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Text<'a> {
    mapped: &'a Mapped,
    start: usize,
    end: usize,
}

impl<'a> Text<'a> {
    pub(crate) fn as_str(self) -> &'a str {
        &self.mapped.text[self.start..self.end]
    }

    pub(crate) fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// Where this text starts in the text it was cut from.
    pub(crate) fn start(self) -> usize {
        self.start
    }

    pub(crate) fn span(self) -> Span {
        let start = self.mapped.source_offset(self.start);
        if self.is_empty() {
            return Span::new(start, start);
        }
        // The last byte is looked up rather than the end: behind it a gap may follow.
        Span::new(start, self.mapped.source_offset(self.end - 1) + 1)
    }

    pub(crate) fn to_spanned(self) -> Spanned<String> {
        Spanned::new(self.as_str().to_owned(), self.span())
    }

    /// The bytes `start..end` of this text.
    pub(crate) fn slice(self, start: usize, end: usize) -> Self {
        Self {
            mapped: self.mapped,
            start: self.start + start,
            end: self.start + end,
        }
    }

    pub(crate) fn from(self, start: usize) -> Self {
        Self {
            start: self.start + start,
            ..self
        }
    }

    pub(crate) fn trim(self) -> Self {
        let text = self.as_str();
        let start = text.len() - text.trim_start().len();
        self.slice(start, start + text.trim().len())
    }

    /// Splits at the first run of blanks; the second part is `None` without one.
    pub(crate) fn split_blank(self) -> (Self, Option<Self>) {
        let text = self.as_str();
        let Some(first) = text.find(is_blank) else {
            return (self, None);
        };
        let rest = text[first..].trim_start_matches(is_blank);
        (
            self.slice(0, first),
            Some(self.from(text.len() - rest.len())),
        )
    }

    /// The words between runs of blanks.
    pub(crate) fn words(self) -> Vec<Self> {
        let mut words = Vec::new();
        let mut rest = Some(self);
        while let Some(text) = rest {
            let (word, next) = text.split_blank();
            if !word.is_empty() {
                words.push(word);
            }
            rest = next;
        }
        words
    }
}

/// The characters that separate words. Other white space of Unicode does not.
pub(crate) fn is_blank(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\x0b' | '\x0c' | '\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_point_into_the_source_across_gaps() {
        let mut mapped = Mapped::default();
        mapped.push("RUN a ", 10);
        mapped.push("bc", 20);
        mapped.push(" d", 22);
        let words = mapped.all().words();
        let spans: Vec<_> = words
            .iter()
            .map(|word| (word.as_str(), word.span()))
            .collect();
        assert_eq!(
            spans,
            [
                ("RUN", Span::new(10, 13)),
                ("a", Span::new(14, 15)),
                ("bc", Span::new(20, 22)),
                ("d", Span::new(23, 24)),
            ]
        );
        assert_eq!(mapped.all().slice(4, 8).span(), Span::new(14, 22));
    }

    #[test]
    fn an_empty_text_has_an_empty_span() {
        let mut mapped = Mapped::default();
        mapped.push("abc", 5);
        assert_eq!(mapped.all().from(3).span(), Span::new(8, 8));
    }
}
