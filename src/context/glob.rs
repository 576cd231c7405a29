//! Path patterns as Go's `path/filepath.Match` and moby/patternmatcher have them.
//!
//! Matching follows all alternatives at once, so its time is the product of the two lengths and no
//! pattern can make it exponential. Texts are bytes; what is not UTF-8 counts as one character a byte.

/// A parsed pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Glob {
    tokens: Vec<Token>,
}

/// What `**` means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DoubleStar {
    /// The same as `*`: `filepath.Match`.
    Star,
    /// Any number of directories, none included: moby/patternmatcher.
    Directories,
}

/// A pattern that `filepath.Match` calls malformed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern {pattern:?}")]
pub(crate) struct BadPattern {
    pub(crate) pattern: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Literal(Symbol),
    /// `?`: one character other than `/`.
    Any,
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
    /// `*`: characters other than `/`.
    Star,
    /// `**` before something: nothing, or anything that ends in `/`.
    Directories,
    /// `**` at the end: anything.
    Rest,
}

/// A character of a text, or a byte that belongs to none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Symbol {
    Char(char),
    Byte(u8),
}

impl Glob {
    /// Parses `pattern`. All of it is checked, whatever it will be matched with.
    pub(crate) fn parse(pattern: &str, double_star: DoubleStar) -> Result<Self, BadPattern> {
        let bad = || BadPattern {
            pattern: pattern.to_owned(),
        };
        let mut tokens = Vec::new();
        let mut rest = pattern.chars().peekable();
        while let Some(char) = rest.next() {
            tokens.push(match char {
                '*' if double_star == DoubleStar::Directories && rest.peek() == Some(&'*') => {
                    rest.next();
                    rest.next_if_eq(&'/');
                    if rest.peek().is_none() {
                        Token::Rest
                    } else {
                        Token::Directories
                    }
                }
                '*' => Token::Star,
                '?' => Token::Any,
                '[' => class(&mut rest).ok_or_else(bad)?,
                '\\' => Token::Literal(Symbol::Char(rest.next().ok_or_else(bad)?)),
                char => Token::Literal(Symbol::Char(char)),
            });
        }
        Ok(Self { tokens })
    }

    /// Whether the whole of `text` matches.
    pub(crate) fn matches(&self, text: &[u8]) -> bool {
        self.advance(text).contains(&(self.tokens.len(), false))
    }

    /// Whether some text that begins with `prefix` matches.
    pub(crate) fn matches_below(&self, prefix: &[u8]) -> bool {
        !self.advance(prefix).is_empty()
    }

    /// The places in the pattern that `text` can lead to: the number of tokens passed, and whether the
    /// next one, a [`Token::Directories`], is under way.
    fn advance(&self, text: &[u8]) -> Vec<(usize, bool)> {
        let mut places = Places::new(self.tokens.len());
        self.enter(&mut places, 0);
        let mut text = text;
        while let Some((symbol, length)) = first_symbol(text) {
            text = &text[length..];
            let mut next = Places::new(self.tokens.len());
            for (place, inside) in places.list {
                self.step(&mut next, place, inside, symbol);
            }
            places = next;
            if places.list.is_empty() {
                break;
            }
        }
        places.list
    }

    /// Adds `place` and those that follow it without a character.
    fn enter(&self, places: &mut Places, place: usize) {
        let mut place = place;
        while places.add(place, false) {
            match self.tokens.get(place) {
                Some(Token::Star | Token::Directories | Token::Rest) => place += 1,
                _ => break,
            }
        }
    }

    fn step(&self, next: &mut Places, place: usize, inside: bool, symbol: Symbol) {
        let Some(token) = self.tokens.get(place) else {
            return;
        };
        let slash = symbol == Symbol::Char('/');
        match token {
            Token::Literal(literal) if *literal == symbol => self.enter(next, place + 1),
            Token::Any if !slash => self.enter(next, place + 1),
            Token::Class { negated, ranges } if in_class(*negated, ranges, symbol) => {
                self.enter(next, place + 1);
            }
            Token::Star if !slash => self.enter(next, place),
            Token::Rest => self.enter(next, place),
            Token::Directories => {
                next.add(place, true);
                if slash {
                    self.enter(next, place + 1);
                }
            }
            _ => debug_assert!(!inside, "only directories are entered in the middle"),
        }
    }
}

/// A set of places that keeps the order of insertion.
struct Places {
    seen: Vec<bool>,
    list: Vec<(usize, bool)>,
}

impl Places {
    fn new(tokens: usize) -> Self {
        Self {
            seen: vec![false; 2 * (tokens + 1)],
            list: Vec::new(),
        }
    }

    fn add(&mut self, place: usize, inside: bool) -> bool {
        let seen = &mut self.seen[2 * place + usize::from(inside)];
        if !*seen {
            *seen = true;
            self.list.push((place, inside));
            return true;
        }
        false
    }
}

/// The class after a `[`; `None` when it is malformed.
fn class(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Token> {
    let negated = rest.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        if !ranges.is_empty() && rest.next_if_eq(&']').is_some() {
            return Some(Token::Class { negated, ranges });
        }
        let low = class_char(rest)?;
        let high = if rest.next_if_eq(&'-').is_some() {
            class_char(rest)?
        } else {
            low
        };
        ranges.push((low, high));
    }
}

fn class_char(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<char> {
    match rest.next()? {
        '-' | ']' => None,
        '\\' => rest.next(),
        char => Some(char),
    }
}

/// A class may hold `/`, also by negation: neither Go's matcher nor patternmatcher keeps it out.
fn in_class(negated: bool, ranges: &[(char, char)], symbol: Symbol) -> bool {
    let char = match symbol {
        Symbol::Char(char) => char,
        Symbol::Byte(_) => char::REPLACEMENT_CHARACTER,
    };
    ranges
        .iter()
        .any(|(low, high)| (*low..=*high).contains(&char))
        != negated
}

/// The first character of `text` and its length in bytes.
fn first_symbol(text: &[u8]) -> Option<(Symbol, usize)> {
    let first = *text.first()?;
    if first.is_ascii() {
        return Some((Symbol::Char(char::from(first)), 1));
    }
    let head = &text[..text.len().min(4)];
    let valid = match std::str::from_utf8(head) {
        Ok(valid) => valid,
        Err(error) => std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default(),
    };
    Some(match valid.chars().next() {
        Some(char) => (Symbol::Char(char), char.len_utf8()),
        None => (Symbol::Byte(first), 1),
    })
}

/// Whether Go's copier takes a path component for a pattern: it holds `*`, `?` or `[` that no
/// backslash precedes. A component without them is a name, backslashes included.
pub(crate) fn has_wildcard(component: &str) -> bool {
    let mut chars = component.chars();
    while let Some(char) = chars.next() {
        match char {
            '\\' => drop(chars.next()),
            '*' | '?' | '[' => return true,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns_match_as_in_go() {
        for (pattern, text, expected) in [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*", "ab/c", false),
            ("a*/b", "abc/b", true),
            ("a*/b", "a/c/b", false),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/f", true),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", false),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[b-d]", "abc", true),
            ("ab[^c]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a☺b", true),
            ("a[^a]b", "a☺b", true),
            ("a???b", "a☺b", false),
            ("[a-ζ]*", "α", true),
            ("*[a-ζ]", "A", false),
            ("a?b", "a/b", false),
            ("[\\]a]", "]", true),
            ("[\\-x]", "-", true),
            ("[\\-x]", "a", false),
            ("*x", "xxx", true),
            ("**", "a/b", false),
        ] {
            let glob = Glob::parse(pattern, DoubleStar::Star).unwrap();
            assert_eq!(glob.matches(text.as_bytes()), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn malformed_patterns_are_refused() {
        for pattern in [
            "[", "[]a]", "[-]", "[x-]", "[-x]", "\\", "[a-b-c]", "[^", "[^bc", "a[", "[]",
        ] {
            assert!(
                Glob::parse(pattern, DoubleStar::Star).is_err(),
                "{pattern:?}"
            );
        }
    }

    #[test]
    fn a_name_that_is_not_utf8_matches_by_bytes() {
        let glob = Glob::parse("a?*", DoubleStar::Star).unwrap();
        assert!(glob.matches(b"a\xff"));
        assert!(glob.matches(b"a\xff\xfe\xc3"));
        assert!(!glob.matches(b"a"));
    }

    #[test]
    fn many_stars_take_no_exponential_time() {
        let glob = Glob::parse(&"a*".repeat(200), DoubleStar::Star).unwrap();
        assert!(!glob.matches(format!("{}b/", "a".repeat(2000)).as_bytes()));
        let glob = Glob::parse(&format!("{}x", "**/a".repeat(100)), DoubleStar::Directories);
        assert!(!glob.unwrap().matches("a/".repeat(1000).as_bytes()));
    }

    #[test]
    fn wildcards_are_seen_unless_escaped() {
        assert!(has_wildcard("a*"));
        assert!(has_wildcard("a\\\\*"));
        assert!(!has_wildcard("a\\*"));
        assert!(!has_wildcard("a-b"));
    }

    /// The definition, by trying everything; for ASCII without classes.
    fn naive(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([b'*', b'*'] | [b'*', b'*', b'/'], _) => true,
            ([b'*', b'*', rest @ ..], _) => {
                let rest = rest.strip_prefix(b"/").unwrap_or(rest);
                naive(rest, text)
                    || (0..text.len()).any(|at| text[at] == b'/' && naive(rest, &text[at + 1..]))
            }
            ([b'*', rest @ ..], _) => {
                naive(rest, text)
                    || matches!(text, [first, tail @ ..] if *first != b'/' && naive(pattern, tail))
            }
            ([b'?', rest @ ..], [first, tail @ ..]) => *first != b'/' && naive(rest, tail),
            ([first, rest @ ..], [other, tail @ ..]) => first == other && naive(rest, tail),
            ([], []) => true,
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn the_matcher_agrees_with_the_definition(
            pattern in "[ab/*?]{0,7}", text in "[ab/]{0,8}",
        ) {
            let glob = Glob::parse(&pattern, DoubleStar::Directories).unwrap();
            prop_assert_eq!(
                glob.matches(text.as_bytes()),
                naive(pattern.as_bytes(), text.as_bytes())
            );
        }

        #[test]
        fn a_match_is_below_each_of_its_prefixes(
            pattern in "[ab/*?]{0,7}", text in "[ab/]{0,8}", cut in 0_usize..8,
        ) {
            let glob = Glob::parse(&pattern, DoubleStar::Directories).unwrap();
            if glob.matches(text.as_bytes()) {
                prop_assert!(glob.matches_below(&text.as_bytes()[..cut.min(text.len())]));
            }
        }

        #[test]
        fn no_pattern_and_no_text_panics(pattern in ".{0,12}", text in proptest::collection::vec(any::<u8>(), 0..12)) {
            if let Ok(glob) = Glob::parse(&pattern, DoubleStar::Directories) {
                glob.matches(&text);
            }
        }
    }
}
