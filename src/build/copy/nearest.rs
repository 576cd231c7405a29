//! The existing name that somebody may have meant.

/// The candidate with the fewest edits from `name`, if those are few for its length. Another case of
/// letters is no edit.
pub(crate) fn nearest(name: &str, candidates: impl IntoIterator<Item = String>) -> Option<String> {
    let wanted: Vec<char> = name.to_lowercase().chars().collect();
    let most = (wanted.len() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (edits(&wanted, &candidate.to_lowercase(), most), candidate))
        .filter(|(edits, _)| *edits <= most)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance; anything above `most` where the lengths already say so.
fn edits(wanted: &[char], other: &str, most: usize) -> usize {
    let other: Vec<char> = other.chars().collect();
    if wanted.len().abs_diff(other.len()) > most {
        return most + 1;
    }
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, from) in wanted.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, to) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_another_name_is_not() {
        let names = || ["requirements.txt", "setup.py", "README.md", "src"].map(String::from);
        for (name, expected) in [
            ("requirement.txt", Some("requirements.txt")),
            ("readme.md", Some("README.md")),
            ("setupp.py", Some("setup.py")),
            ("scr", None),
            ("package.json", None),
        ] {
            assert_eq!(nearest(name, names()).as_deref(), expected, "{name}");
        }
    }
}
