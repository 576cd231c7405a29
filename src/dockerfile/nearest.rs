//! Suggestions for misspelt names.

/// The most edits between a word and what it was meant to be.
const MAX_DISTANCE: usize = 2;

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
        if characters.len().abs_diff(word.len()) > MAX_DISTANCE {
            continue;
        }
        let distance = edit_distance(&word, &characters);
        let close = distance <= MAX_DISTANCE && distance < characters.len().max(word.len());
        if close && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
    }
    best.filter(|&(distance, _)| distance > 0)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance, with one row of the table in memory.
fn edit_distance(left: &[char], right: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, from) in left.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, to) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_candidate_within_two_edits_is_suggested() {
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
        ] {
            assert_eq!(nearest(word, names), expected, "{word:?}");
        }
    }
}
