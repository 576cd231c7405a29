//! Finding the markers of here-documents in an instruction.

use std::ops::Range;

/// A `<<NAME` on an instruction's line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Marker {
    /// Where it stands in the text searched, descriptor and quotes included.
    pub(crate) range: Range<usize>,
    pub(crate) name: String,
    pub(crate) expand: bool,
    pub(crate) strip_tabs: bool,
    pub(crate) fd: u32,
}

/// The heredoc markers of `line` in order.
///
/// A marker is a word of its own that starts with `<<` or a descriptor and `<<`; blanks may stand
/// before the name. Quotes are always those of the shell, whatever the escape directive says. A
/// line that ends within quotes or a substitution has no heredocs.
pub(crate) fn markers(line: &str) -> Vec<Marker> {
    if !line.contains("<<") {
        return Vec::new();
    }
    shell_words(line)
        .unwrap_or_default()
        .into_iter()
        .filter_map(|range| {
            let marker = marker(&line[range.clone()])?;
            Some(Marker { range, ..marker })
        })
        .collect()
}

/// Reads `word` as one marker and nothing else.
pub(crate) fn marker(word: &str) -> Option<Marker> {
    let digits = word.len() - word.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (fd, rest) = word.split_at(digits);
    let rest = rest.strip_prefix("<<")?;
    let (strip_tabs, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let (name, quoted) = unquote(rest.trim())?;
    (!name.is_empty()).then_some(Marker {
        range: 0..word.len(),
        name,
        expand: !quoted,
        strip_tabs,
        fd: if fd.is_empty() { 0 } else { fd.parse().ok()? },
    })
}

/// The delimiter that `text` stands for and whether a part of it is in quotes; `None` unless
/// `text` is a single word without further redirections.
fn unquote(text: &str) -> Option<(String, bool)> {
    let mut name = String::new();
    let mut quoted = false;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '<' => return None,
            '\\' => name.extend(characters.next()),
            '\'' | '"' => {
                quoted = true;
                loop {
                    match characters.next()? {
                        '<' => return None,
                        closing if closing == character => break,
                        '\\' if character == '"' => name.push(characters.next()?),
                        inner => name.push(inner),
                    }
                }
            }
            blank if blank.is_whitespace() => return None,
            other => name.push(other),
        }
    }
    Some((name, quoted))
}

/// Splits at blanks outside quotes and substitutions, quotes kept. Blanks behind `<<` do not
/// split. `None` when a quote or a brace stays open.
fn shell_words(line: &str) -> Option<Vec<Range<usize>>> {
    let mut words = Vec::new();
    let mut word_start = None;
    let mut characters = line.char_indices().peekable();
    while let Some((index, character)) = characters.next() {
        if character.is_whitespace() {
            if let Some(start) = word_start.take() {
                words.push(start..index);
            }
            continue;
        }
        word_start.get_or_insert(index);
        match character {
            '\\' => {
                characters.next();
            }
            '\'' | '"' => skip_quoted(&mut characters, character)?,
            '$' if characters.next_if(|&(_, next)| next == '{').is_some() => {
                skip_braced(&mut characters)?;
            }
            '<' if characters.next_if(|&(_, next)| next == '<').is_some() => {
                characters.next_if(|&(_, next)| next == '-');
                while characters
                    .next_if(|&(_, next)| next.is_whitespace())
                    .is_some()
                {}
            }
            _ => {}
        }
    }
    words.extend(word_start.map(|start| start..line.len()));
    Some(words)
}

type Characters<'a> = std::iter::Peekable<std::str::CharIndices<'a>>;

fn skip_quoted(characters: &mut Characters<'_>, quote: char) -> Option<()> {
    loop {
        match characters.next()?.1 {
            '\\' if quote == '"' => {
                characters.next()?;
            }
            character if character == quote => return Some(()),
            _ => {}
        }
    }
}

fn skip_braced(characters: &mut Characters<'_>) -> Option<()> {
    let mut depth = 1;
    while depth > 0 {
        match characters.next()?.1 {
            '\\' => {
                characters.next()?;
            }
            quote @ ('\'' | '"') => skip_quoted(characters, quote)?,
            '$' if characters.next_if(|&(_, next)| next == '{').is_some() => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_tells_its_name_and_flags() {
        for (word, name, expand, strip_tabs, fd) in [
            ("<<EOF", "EOF", true, false, 0),
            ("<<'EOF'", "EOF", false, false, 0),
            ("<<\"EOF\"", "EOF", false, false, 0),
            ("<<-EOF", "EOF", true, true, 0),
            ("<<-'EOF'", "EOF", false, true, 0),
            ("<<EO\"F\"", "EOF", false, false, 0),
            ("<< EOF", "EOF", true, false, 0),
            ("<<- EOF", "EOF", true, true, 0),
            ("<< -EOF", "-EOF", true, false, 0),
            ("3<<EOF", "EOF", true, false, 3),
            ("<<eo\\'f", "eo'f", true, false, 0),
            ("<<'e'o\\'f", "eo'f", false, false, 0),
            ("<<'one two'", "one two", false, false, 0),
            ("<<$EOF", "$EOF", true, false, 0),
            ("<<file.txt", "file.txt", true, false, 0),
        ] {
            let range = 0..word.len();
            let expected = Marker {
                range,
                name: name.to_owned(),
                expand,
                strip_tabs,
                fd,
            };
            assert_eq!(marker(word), Some(expected), "{word}");
        }
    }

    #[test]
    fn other_words_are_no_markers() {
        for word in [
            "",
            "EOF",
            "<<",
            "<<-",
            "<EOF",
            "<<<EOF",
            "<<EOF sh",
            "<<''",
            "<<'EOF",
            "<<EOF'",
            "\"<<EOF\"",
            "cat<<EOF",
            "99999999999<<EOF",
        ] {
            assert_eq!(marker(word), None, "{word}");
        }
    }

    #[test]
    fn markers_are_found_in_a_line() {
        for (line, names) in [
            ("RUN <<EOF", &["EOF"][..]),
            ("RUN <<  EOF  > foo", &["EOF"]),
            ("RUN << -EOF", &["-EOF"]),
            ("RUN <<A cat >a && <<B cat >b", &["A", "B"]),
            ("RUN <<EOF 3<<IN1 4<<IN2 awk -f -", &["EOF", "IN1", "IN2"]),
            ("RUN --mount=type=cache,target=/foo <<MOUNT", &["MOUNT"]),
            ("RUN <<'one two' sh", &["one two"]),
            ("RUN <<$EOF", &["$EOF"]),
            ("RUN echo ${x:-<<EOF} <<END", &["END"]),
            ("RUN '<<EOF'", &[]),
            ("RUN \"<<EOF\"", &[]),
            ("RUN echo $((1<<2))", &[]),
            ("RUN cat <<<word", &[]),
            ("RUN echo \\<<EOF", &[]),
            ("RUN echo it's <<EOF", &[]),
            ("RUN echo ${x <<EOF", &[]),
        ] {
            let found = markers(line);
            let found: Vec<_> = found.iter().map(|marker| marker.name.as_str()).collect();
            assert_eq!(found, names, "{line}");
        }
    }
}
