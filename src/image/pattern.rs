//! The patterns of `--filter reference=`: Go's `path.Match`.

/// Whether `pattern` matches the whole of `text`. `*` and `?` match no slash; a pattern that is none
/// matches nothing.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    // Where the pattern may stand after each prefix of the text.
    let mut states = vec![0];
    for &c in &text {
        let mut next = Vec::new();
        for at in closure(&pattern, &states) {
            match pattern.get(at) {
                Some('*') if c != '/' => next.push(at),
                Some('?') if c != '/' => next.push(at + 1),
                Some('\\') if pattern.get(at + 1) == Some(&c) => next.push(at + 2),
                Some('[') => {
                    if let Some((true, end)) = class(&pattern[at..], c) {
                        next.push(at + end);
                    }
                }
                Some('*' | '?' | '\\') | None => {}
                Some(&literal) if literal == c => next.push(at + 1),
                Some(_) => {}
            }
        }
        next.sort_unstable();
        next.dedup();
        states = next;
    }
    closure(&pattern, &states).contains(&pattern.len())
}

/// The states, and those behind the stars that they may leave.
fn closure(pattern: &[char], states: &[usize]) -> Vec<usize> {
    let mut all: Vec<usize> = Vec::new();
    for &state in states {
        let mut at = state;
        while !all.contains(&at) {
            all.push(at);
            if pattern.get(at) == Some(&'*') {
                at += 1;
            }
        }
    }
    all
}

/// Whether the class at the start of `pattern` has `c`, and where it ends.
fn class(pattern: &[char], c: char) -> Option<(bool, usize)> {
    let negated = pattern.get(1) == Some(&'^');
    let mut at = if negated { 2 } else { 1 };
    let first = at;
    let mut found = false;
    loop {
        let mut take = || {
            let mut next = *pattern.get(at)?;
            if next == '\\' {
                at += 1;
                next = *pattern.get(at)?;
            }
            at += 1;
            Some(next)
        };
        let low = take()?;
        let mut high = low;
        if pattern.get(at) == Some(&'-') {
            at += 1;
            let mut take = || {
                let next = *pattern.get(at)?;
                at += 1;
                Some(next)
            };
            high = take()?;
        }
        found |= (low..=high).contains(&c);
        if pattern.get(at) == Some(&']') && at > first {
            return Some((found != negated, at + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_path_match_of_go_does() {
        for (pattern, text, expected) in [
            ("app", "app", true),
            ("app", "apps", false),
            ("a*", "app", true),
            ("a*p", "app", true),
            ("a*", "a/p", false),
            ("*/*", "a/p", true),
            ("a?p", "app", true),
            ("a?p", "a/p", false),
            ("[a-c]pp", "bpp", true),
            ("[^a-c]pp", "bpp", false),
            ("[ab", "a", false),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("*:1*", "app:1.0", true),
            ("", "", true),
            ("*", "", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }
}
