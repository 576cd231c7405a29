//! Suggestions for misspelt names.

/// The candidate that `word` was most likely meant to be, if one is close enough. Case is ignored.
/// Of equally close ones the first wins; a candidate equal to `word` is no suggestion.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let word: Vec<char> = word.to_lowercase().chars().collect();
    let mut best: Option<(usize, &'a str)> = None;
    for candidate in candidates {
        let characters: Vec<char> = candidate.to_lowercase().chars().collect();
        let longest = characters.len().max(word.len());
        // One slip in a short word, more only where enough of the word is left.
        let most = (longest / 3).max(1);
        if longest < 2 || characters.len().abs_diff(word.len()) > most {
            continue;
        }
        let distance = edit_distance(&word, &characters);
        if distance <= most && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
    }
    best.filter(|&(distance, _)| distance > 0)
        .map(|(_, candidate)| candidate)
}

/// How many insertions, deletions, replacements and swaps of neighbours lie between two words
/// (optimal string alignment).
fn edit_distance(left: &[char], right: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=right.len()).collect();
    for (row, from) in left.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, to) in right.iter().enumerate() {
            let replaced = above[column] + usize::from(from != to);
            let mut least = replaced.min(above[column + 1] + 1).min(current[column] + 1);
            let swapped =
                row > 0 && column > 0 && *from == right[column - 1] && left[row - 1] == *to;
            if swapped {
                least = least.min(before[column - 1] + 1);
            }
            current.push(least);
        }
        before = std::mem::replace(&mut above, current);
    }
    above[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_candidate_is_suggested_if_it_is_close() {
        let names = ["RUN", "COPY", "FROM", "USER", "chown", "chmod"];
        for (word, expected) in [
            ("RUNN", Some("RUN")),
            ("cpy", Some("COPY")),
            ("form", Some("FROM")),
            ("chwon", Some("chown")),
            ("chmood", Some("chmod")),
            ("RUN", None),
            ("run", None),
            ("INSTALL", None),
            ("", None),
            ("x", None),
            ("foo", None),
            ("RNU", Some("RUN")),
            ("ru", Some("RUN")),
        ] {
            assert_eq!(nearest(word, names), expected, "{word:?}");
        }
    }
}
