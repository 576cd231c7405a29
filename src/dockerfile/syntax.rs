//! Which frontend a build definition asks for, before anybody parses it as a Dockerfile.

use super::span::{Span, Spanned};

const DIRECTIVES: [&str; 3] = ["syntax", "escape", "check"];

/// The value of the `syntax` directive: `# syntax=` or `// syntax=` among the directives at the
/// top, or the member `syntax` of a file that is a JSON object. A first line `#!` is skipped.
///
/// The two forms that are no Dockerfile comments serve files in other languages, which name the
/// frontend that can read them.
pub(crate) fn syntax(source: &str) -> Option<Spanned<String>> {
    let mut start = 0;
    if source.starts_with('\u{feff}') {
        start = '\u{feff}'.len_utf8();
    }
    if source[start..].starts_with("#!") {
        start = source[start..]
            .find('\n')
            .map_or(source.len(), |end| start + end + 1);
    }
    directive(source, start, "#")
        .or_else(|| directive(source, start, "//"))
        .or_else(|| member(source, start))
}

fn directive(source: &str, start: usize, comment: &str) -> Option<Spanned<String>> {
    let mut position = start;
    for line in source[start..].split_inclusive('\n') {
        let (key, value) = line.strip_prefix(comment)?.split_once('=')?;
        let key = key.trim().to_ascii_lowercase();
        let trimmed = value.trim();
        if !DIRECTIVES.contains(&key.as_str()) || trimmed.is_empty() {
            return None;
        }
        if key == "syntax" {
            let blanks = value.len() - value.trim_start().len();
            let start = position + (line.len() - value.len()) + blanks;
            let span = Span::new(start, start + trimmed.len());
            return Some(Spanned::new(trimmed.to_owned(), span));
        }
        position += line.len();
    }
    None
}

fn member(source: &str, start: usize) -> Option<Spanned<String>> {
    let object: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(&source[start..]).ok()?;
    let value = object.get("syntax")?.as_str()?;
    let place = source.find(value).unwrap_or(start);
    let span = Span::new(place, (place + value.len()).min(source.len()));
    Some(Spanned::new(value.to_owned(), span))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frontend_is_named_in_three_ways() {
        for (source, expected) in [
            ("# syntax=a/b:1\nFROM x", Some("a/b:1")),
            ("#syntax = a/b --flag \r\nFROM x", Some("a/b --flag")),
            ("# escape=`\n# SYNTAX=a/b\n", Some("a/b")),
            ("\u{feff}# syntax=a/b\n", Some("a/b")),
            ("#!/usr/bin/x\n# syntax=a/b\n", Some("a/b")),
            ("#!/usr/bin/x\n// syntax=a/b\n", Some("a/b")),
            ("// syntax=a/b\n{}", Some("a/b")),
            ("{\"syntax\": \"a/b\", \"rest\": []}", Some("a/b")),
            ("# a comment\n# syntax=a/b\n", None),
            ("\n# syntax=a/b\n", None),
            ("FROM x\n# syntax=a/b\n", None),
            ("# syntax=\nFROM x", None),
            ("{\"syntax\": 1}", None),
            ("[\"syntax\"]", None),
            ("", None),
        ] {
            let found = syntax(source);
            assert_eq!(
                found.as_ref().map(|found| found.value.as_str()),
                expected,
                "{source:?}"
            );
            if let Some(found) = found {
                assert_eq!(source[found.span.start..found.span.end], found.value);
            }
        }
    }
}
