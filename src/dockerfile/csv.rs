//! One comma-separated record, as the values of `--mount` and `--device` are written.

use super::{
    diagnostic::Diagnostic,
    span::{Span, Spanned},
    text::Mapped,
};

/// A field `key=value` or a bare `key`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field {
    /// In lower case.
    pub(crate) key: String,
    /// `None` without `=`.
    pub(crate) value: Option<Spanned<String>>,
    /// The field as written, quotes removed.
    pub(crate) text: String,
    pub(crate) span: Span,
}

/// Splits a record at commas. A field in double quotes may hold commas, and `""` there stands for
/// one quote (RFC 4180); a quote elsewhere is an error.
pub(crate) fn parse(record: &Mapped) -> Result<Vec<Field>, Diagnostic> {
    let text = record.all();
    let mut fields = Vec::new();
    let mut start = 0;
    loop {
        let mut content = Mapped::default();
        let mut characters = text.as_str()[start..].char_indices().peekable();
        let quoted = characters
            .next_if(|&(_, character)| character == '"')
            .is_some();
        let mut open = quoted;
        let mut end = text.as_str().len();
        content.push("", text.from(start).span().start);
        while let Some((index, character)) = characters.next() {
            let index = start + index;
            let place = text.slice(index, index + character.len_utf8());
            if open && character == '"' {
                if characters.next_if(|&(_, next)| next == '"').is_none() {
                    open = false;
                    continue;
                }
            } else if !open && character == ',' {
                end = index;
                break;
            } else if !open && (quoted || character == '"') {
                return Err(
                    Diagnostic::new(place.span(), "unexpected quote in a list of fields")
                        .with_help("a field with a quote or a comma stands in double quotes"),
                );
            }
            content.push(place.as_str(), place.span().start);
        }
        let span = text.slice(start, end).span();
        if open {
            return Err(Diagnostic::new(
                span,
                "unterminated quote in a list of fields",
            ));
        }
        fields.push(field(&content, span));
        if end == text.as_str().len() {
            return Ok(fields);
        }
        start = end + 1;
    }
}

fn field(content: &Mapped, span: Span) -> Field {
    let all = content.all();
    let equals = all.as_str().find('=');
    Field {
        key: all.as_str()[..equals.unwrap_or(all.as_str().len())].to_lowercase(),
        value: equals.map(|index| all.from(index + 1).to_spanned()),
        text: all.as_str().to_owned(),
        span,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_text(text: &str) -> Result<Vec<String>, String> {
        let mut mapped = Mapped::default();
        mapped.push(text, 0);
        parse(&mapped)
            .map(|fields| fields.into_iter().map(|field| field.text).collect())
            .map_err(|error| error.message)
    }

    #[test]
    fn fields_are_split_at_commas_outside_quotes() {
        for (text, expected) in [
            ("a", &["a"][..]),
            ("a,b=c", &["a", "b=c"]),
            ("a,,b", &["a", "", "b"]),
            ("a,", &["a", ""]),
            ("\"a,b\",c", &["a,b", "c"]),
            ("\"a=\"\"b\"\"\",c", &["a=\"b\"", "c"]),
            ("\"\"", &[""]),
        ] {
            assert_eq!(parse_text(text).unwrap(), expected, "{text}");
        }
        for text in ["a\"b", "\"a", "\"a\"b", "a,\""] {
            assert!(parse_text(text).is_err(), "{text}");
        }
    }

    #[test]
    fn fields_know_their_places() {
        let mut mapped = Mapped::default();
        mapped.push("Type=bind,ro", 50);
        let fields = parse(&mapped).unwrap();
        assert_eq!(fields[0].key, "type");
        assert_eq!(fields[0].span, Span::new(50, 59));
        assert_eq!(
            fields[0].value,
            Some(Spanned::new("bind".to_owned(), Span::new(55, 59)))
        );
        assert_eq!(
            (fields[1].span, &fields[1].value),
            (Span::new(60, 62), &None)
        );
    }
}
