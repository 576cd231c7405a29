//! The patterns of `${name#pattern}` and its relatives: `*` and `?` without brackets.

use super::words::WordError;

/// Longer patterns are refused: matching costs time in proportion to pattern and value.
const MAX_TOKENS: usize = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Character(char),
    /// `?`: one character but no line end.
    One,
    /// `*`: any characters but no line end.
    Many,
}

impl Token {
    fn accepts(self, character: char) -> bool {
        match self {
            Self::Character(expected) => expected == character,
            Self::One | Self::Many => character != '\n',
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Pattern(Vec<Token>);

impl Pattern {
    /// `\` makes `*`, `?` and `\` ordinary, and is dropped before `}` and `/`, where it only hides
    /// them from the expression around the pattern.
    pub(crate) fn parse(text: &str) -> Result<Self, WordError> {
        let mut tokens = Vec::new();
        let mut characters = text.chars().peekable();
        while let Some(character) = characters.next() {
            tokens.push(match character {
                '*' => Token::Many,
                '?' => Token::One,
                '\\' => match characters.peek() {
                    Some('}' | '/') => continue,
                    Some(&escaped @ ('*' | '?' | '\\')) => {
                        characters.next();
                        Token::Character(escaped)
                    }
                    other => {
                        return Err(WordError::InvalidPattern {
                            pattern: text.to_owned(),
                            escape: other.map(char::to_string).unwrap_or_default(),
                        });
                    }
                },
                other => Token::Character(other),
            });
            if tokens.len() > MAX_TOKENS {
                return Err(WordError::TooLong);
            }
        }
        Ok(Self(tokens))
    }

    /// `value` without the shortest or longest match at its start.
    pub(crate) fn trim_start(&self, value: &str, longest: bool) -> String {
        let characters: Vec<char> = value.chars().collect();
        let end = self
            .find(&characters, 0, true, longest)
            .map_or(0, |(_, end)| end);
        characters[end..].iter().collect()
    }

    /// `value` without the shortest or longest match at its end.
    pub(crate) fn trim_end(&self, value: &str, longest: bool) -> String {
        let reversed = Self(self.0.iter().rev().copied().collect());
        let characters: Vec<char> = value.chars().rev().collect();
        let end = reversed
            .find(&characters, 0, true, longest)
            .map_or(0, |(_, end)| end);
        characters[end..].iter().rev().collect()
    }

    /// `value` with the first match, or every one, replaced; a result beyond `limit` bytes is an
    /// error. Matches are as long as possible.
    pub(crate) fn replace(
        &self,
        value: &str,
        replacement: &str,
        all: bool,
        limit: usize,
    ) -> Result<String, WordError> {
        let characters: Vec<char> = value.chars().collect();
        let mut result = String::new();
        let mut position = 0;
        let mut previous_end = None;
        while let Some((start, end)) = self.find(&characters, position, false, true) {
            result.extend(&characters[position..start]);
            // An empty match right behind another match is not a match of its own.
            if start != end || previous_end != Some(start) {
                result.push_str(replacement);
            }
            if result.len() > limit {
                return Err(WordError::TooLong);
            }
            previous_end = Some(end);
            position = end;
            if start == end {
                let Some(&character) = characters.get(end) else {
                    return Ok(result);
                };
                // A first empty match replaces once even when only one replacement is wanted.
                if all {
                    result.push(character);
                    position += 1;
                }
            }
            if !all {
                break;
            }
        }
        result.extend(&characters[position..]);
        Ok(result)
    }

    /// The leftmost match at or after `from` as a range of characters, or only one at `from` when
    /// `anchored`.
    ///
    /// All starts are followed at the same time, so the cost is bounded by the length of the value
    /// times the length of the pattern.
    fn find(
        &self,
        characters: &[char],
        from: usize,
        anchored: bool,
        longest: bool,
    ) -> Option<(usize, usize)> {
        let mut active: Vec<Option<usize>> = vec![None; self.0.len() + 1];
        let mut best: Option<(usize, usize)> = None;
        for position in from..=characters.len() {
            if best.is_none() && (!anchored || position == from) {
                self.activate(&mut active, 0, position);
            }
            if let Some(start) = active.last().copied().flatten() {
                best = Some((start, position));
                if !longest {
                    return best;
                }
            }
            if let Some((start, _)) = best {
                for state in &mut active {
                    *state = state.filter(|&other| other == start);
                }
            }
            let searching = best.is_none() && !anchored;
            let Some(&character) = characters.get(position) else {
                break;
            };
            if !searching && active.iter().all(Option::is_none) {
                break;
            }
            let mut next = vec![None; active.len()];
            for (state, token) in self.0.iter().enumerate() {
                if let Some(start) = active[state].filter(|_| token.accepts(character)) {
                    let target = if *token == Token::Many {
                        state
                    } else {
                        state + 1
                    };
                    self.activate(&mut next, target, start);
                }
            }
            active = next;
        }
        best
    }

    /// Enters `state` for the match that began at `start`, and those a `*` may skip to.
    fn activate(&self, active: &mut [Option<usize>], state: usize, start: usize) {
        let mut state = state;
        loop {
            if active[state].is_some_and(|other| other <= start) {
                return;
            }
            active[state] = Some(start);
            if self.0.get(state) != Some(&Token::Many) {
                return;
            }
            state += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_and_suffixes_are_cut_shortest_or_longest() {
        for (pattern, value, expected) in [
            ("*", "abc", ["abc", "", "abc", ""]),
            ("?", "abc", ["bc", "bc", "ab", "ab"]),
            ("*/", "a/b/c/", ["b/c/", "", "a/b/c", ""]),
            (".*", "a.b.c", ["a.b.c", "a.b.c", "a.b", "a"]),
            ("[a]", "[a]b[a]", ["b[a]", "b[a]", "[a]b", "[a]b"]),
            ("", "abc", ["abc", "abc", "abc", "abc"]),
            ("*b", "a\nb", ["a\nb", "a\nb", "a\n", "a\n"]),
            ("한*", "한국한", ["국한", "", "한국", ""]),
        ] {
            let parsed = Pattern::parse(pattern).unwrap();
            let actual = [
                parsed.trim_start(value, false),
                parsed.trim_start(value, true),
                parsed.trim_end(value, false),
                parsed.trim_end(value, true),
            ];
            assert_eq!(actual, expected, "{pattern:?} on {value:?}");
        }
    }

    #[test]
    fn the_first_match_or_every_match_is_replaced() {
        for (pattern, value, first, all) in [
            ("a", "banana", "bXnana", "bXnXnX"),
            ("a*a", "banana", "bX", "bX"),
            ("", "ab", "Xab", "XaXbX"),
            ("", "", "X", "X"),
            ("z", "ab", "ab", "ab"),
            ("*", "ab", "X", "X"),
            ("a?", "abac", "Xac", "XX"),
            ("b*", "abc\nabc", "aX\nabc", "aX\naX"),
        ] {
            let parsed = Pattern::parse(pattern).unwrap();
            assert_eq!(
                parsed.replace(value, "X", false, 100).unwrap(),
                first,
                "{pattern:?}"
            );
            assert_eq!(
                parsed.replace(value, "X", true, 100).unwrap(),
                all,
                "{pattern:?}"
            );
        }
    }

    #[test]
    fn only_wildcards_can_be_escaped() {
        for pattern in ["\\", "\\x", "\\\\\\"] {
            assert!(Pattern::parse(pattern).is_err(), "{pattern:?}");
        }
        assert!(Pattern::parse("\\*\\?\\\\\\}\\/").is_ok());
        assert_eq!(
            Pattern::parse(&"a".repeat(2000)).unwrap_err(),
            WordError::TooLong
        );
    }
}
