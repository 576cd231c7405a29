//! Variable expansion in the words of a Dockerfile.
//!
//! The rules are those of BuildKit's frontend, which follow the POSIX shell where they can:
//! quotes, `$name`, and the forms of `${name}` with `:- - :+ + :? ? # ## % %% / //`.

use std::{
    collections::{BTreeMap, HashMap},
    iter::Peekable,
    str::Chars,
};

use super::pattern::Pattern;

/// The longest value that the expansion of one word may have, in bytes.
pub(crate) const MAX_LENGTH: usize = 1 << 20;

/// The most bytes that all values of the global arguments may have together, and all that the
/// instructions of a stage say once they are expanded.
pub(crate) const MAX_TOTAL: usize = 4 << 20;

/// How deep `${a:-${b:-...}}` may be nested.
pub(crate) const MAX_DEPTH: usize = 32;

/// Where variables get their values.
pub(crate) trait Lookup {
    /// `None` when the variable is not set; it may be set to nothing.
    fn get(&self, name: &str) -> Option<&str>;
}

impl Lookup for HashMap<String, String> {
    fn get(&self, name: &str) -> Option<&str> {
        Self::get(self, name).map(String::as_str)
    }
}

impl Lookup for BTreeMap<String, String> {
    fn get(&self, name: &str) -> Option<&str> {
        Self::get(self, name).map(String::as_str)
    }
}

/// The outcome of expanding one word.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Expanded {
    pub(crate) value: String,
    /// Variables that were read and have a value, each once, in order of first use.
    pub(crate) used: Vec<String>,
    /// Variables that were read and have none, each once, in order of first use.
    pub(crate) unset: Vec<String>,
}

/// Why a word cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WordError {
    #[error("syntax error: missing '}}'")]
    MissingBrace,
    #[error("syntax error: missing '/' in ${{}}")]
    MissingSlash,
    #[error("syntax error: bad substitution")]
    BadSubstitution,
    #[error("unsupported modifier ({0}) in substitution")]
    UnsupportedModifier(String),
    #[error("unexpected end of statement while looking for matching single-quote")]
    UnterminatedSingleQuote,
    #[error("unexpected end of statement while looking for matching double-quote")]
    UnterminatedDoubleQuote,
    /// `${name:?message}`
    #[error("{name}: {message}")]
    Required { name: String, message: String },
    #[error("invalid pattern ({pattern}) in substitution: invalid escape '\\{escape}'")]
    InvalidPattern { pattern: String, escape: String },
    #[error("expansion is longer than {MAX_LENGTH} bytes")]
    TooLong,
    #[error("the values of all arguments together are longer than 4 MiB")]
    TooMuch,
    #[error("substitutions are nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
}

/// Expands variables in `word` and removes its quotes.
pub(crate) fn expand(word: &str, escape: char, env: &dyn Lookup) -> Result<Expanded, WordError> {
    let mut lexer = Lexer::new(word, escape, true, env);
    let value = lexer.read_until(None, false)?.value;
    Ok(lexer.finish(value))
}

/// Expands variables in `word`, then splits the result at blanks that no quote protects.
/// Words that turn out empty are dropped; `value` of the second part is the unsplit text.
pub(crate) fn expand_to_words(
    word: &str,
    escape: char,
    env: &dyn Lookup,
) -> Result<(Vec<String>, Expanded), WordError> {
    let mut lexer = Lexer::new(word, escape, true, env);
    let output = lexer.read_until(None, false)?;
    Ok((output.words.finish(), lexer.finish(output.value)))
}

/// Expands variables in the body of a COPY or ADD heredoc: quotes are ordinary characters there,
/// and a backslash stands for the character behind it, whatever the escape directive says.
pub(crate) fn expand_heredoc(body: &str, env: &dyn Lookup) -> Result<Expanded, WordError> {
    let mut lexer = Lexer::new(body, '\\', false, env);
    lexer.limit = MAX_LENGTH + body.len();
    let value = lexer.read_until(None, false)?.value;
    Ok(lexer.finish(value))
}

/// Text with and without splitting at blanks.
#[derive(Default)]
struct Output {
    value: String,
    words: Words,
}

/// Words in the making.
#[derive(Default)]
struct Words {
    done: Vec<String>,
    word: String,
}

impl Words {
    /// Adds text whose blanks separate words.
    fn push_split(&mut self, text: &str) {
        for character in text.chars() {
            if !character.is_whitespace() {
                self.word.push(character);
            } else if !self.word.is_empty() {
                self.done.push(std::mem::take(&mut self.word));
            }
        }
    }

    fn finish(mut self) -> Vec<String> {
        if !self.word.is_empty() {
            self.done.push(self.word);
        }
        self.done
    }
}

struct Lexer<'a> {
    characters: Peekable<Chars<'a>>,
    escape: char,
    /// Quotes group; otherwise they are ordinary characters.
    quotes: bool,
    /// Escape characters stay in the text because a pattern gives them a meaning of its own.
    keep_escapes: bool,
    env: &'a dyn Lookup,
    limit: usize,
    depth: usize,
    used: Vec<String>,
    unset: Vec<String>,
}

impl<'a> Lexer<'a> {
    fn new(text: &'a str, escape: char, quotes: bool, env: &'a dyn Lookup) -> Self {
        Self {
            characters: text.chars().peekable(),
            escape,
            quotes,
            keep_escapes: false,
            env,
            limit: MAX_LENGTH,
            depth: 0,
            used: Vec::new(),
            unset: Vec::new(),
        }
    }

    fn finish(self, value: String) -> Expanded {
        Expanded {
            value,
            used: self.used,
            unset: self.unset,
        }
    }

    fn at_end(&mut self) -> bool {
        self.characters.peek().is_none()
    }

    /// Reads up to and including `stop`, or to the end without one.
    fn read_until(&mut self, stop: Option<char>, keep_escapes: bool) -> Result<Output, WordError> {
        if self.depth > MAX_DEPTH {
            return Err(WordError::TooDeep);
        }
        let outer = std::mem::replace(&mut self.keep_escapes, keep_escapes);
        let result = self.read_text(stop);
        self.keep_escapes = outer;
        result
    }

    fn read_text(&mut self, stop: Option<char>) -> Result<Output, WordError> {
        let mut output = Output::default();
        while let Some(character) = self.characters.next() {
            if Some(character) == stop {
                return Ok(output);
            }
            let start = output.value.len();
            match character {
                '$' => {
                    self.read_variable(&mut output.value)?;
                    output.words.push_split(&output.value[start..]);
                }
                '\'' if self.quotes => {
                    self.read_single_quoted(&mut output.value)?;
                    output.words.word.push_str(&output.value[start..]);
                }
                '"' if self.quotes => {
                    self.read_double_quoted(&mut output.value)?;
                    output.words.word.push_str(&output.value[start..]);
                }
                _ if character == self.escape => {
                    if self.keep_escapes {
                        output.value.push(character);
                    }
                    output.value.extend(self.characters.next());
                    output.words.word.push_str(&output.value[start..]);
                }
                _ => {
                    output.value.push(character);
                    output.words.push_split(&output.value[start..]);
                }
            }
            if output.value.len() > self.limit {
                return Err(WordError::TooLong);
            }
        }
        match stop {
            None => Ok(output),
            Some('/') => Err(WordError::MissingSlash),
            Some(_) => Err(WordError::MissingBrace),
        }
    }

    fn read_single_quoted(&mut self, value: &mut String) -> Result<(), WordError> {
        for character in self.characters.by_ref() {
            if character == '\'' {
                return Ok(());
            }
            value.push(character);
        }
        Err(WordError::UnterminatedSingleQuote)
    }

    fn read_double_quoted(&mut self, value: &mut String) -> Result<(), WordError> {
        while let Some(character) = self.characters.next() {
            match character {
                '"' => return Ok(()),
                '$' => self.read_variable(value)?,
                _ if character == self.escape => {
                    let escape = self.escape;
                    let escaped = self
                        .characters
                        .next_if(|&next| next == '"' || next == '$' || next == escape);
                    if self.keep_escapes {
                        value.push(character);
                    }
                    match escaped {
                        Some(escaped) => value.push(escaped),
                        None if !self.keep_escapes => value.push(character),
                        None => {}
                    }
                }
                _ => value.push(character),
            }
            if value.len() > self.limit {
                return Err(WordError::TooLong);
            }
        }
        Err(WordError::UnterminatedDoubleQuote)
    }

    /// Reads what follows a `$` and appends its value.
    fn read_variable(&mut self, value: &mut String) -> Result<(), WordError> {
        if self.characters.next_if_eq(&'{').is_none() {
            let name = self.read_name();
            if name.is_empty() {
                value.push('$');
            } else {
                value.push_str(self.look_up(&name).unwrap_or_default());
            }
            return Ok(());
        }
        match self.characters.peek() {
            None => return Err(WordError::MissingBrace),
            Some('{' | '}' | ':') => return Err(WordError::BadSubstitution),
            Some(_) => {}
        }
        let name = self.read_name();
        self.depth += 1;
        let substituted = self.read_substitution(&name)?;
        self.depth -= 1;
        value.push_str(&substituted);
        Ok(())
    }

    /// Reads from behind the name in `${name...}` to the closing brace.
    fn read_substitution(&mut self, name: &str) -> Result<String, WordError> {
        let modifier = self.characters.next().ok_or(WordError::MissingBrace)?;
        match modifier {
            '}' => Ok(self.look_up(name).unwrap_or_default().to_owned()),
            ':' => {
                let modifier = self.characters.next().ok_or(WordError::MissingBrace)?;
                self.read_alternative(name, modifier, true)
            }
            '+' | '-' | '?' => self.read_alternative(name, modifier, false),
            '#' | '%' => {
                let pattern = self.read_operand('}', true)?;
                self.trim(name, modifier, &pattern)
            }
            '/' => self.read_replacement(name),
            other => Err(WordError::UnsupportedModifier(other.to_string())),
        }
    }

    fn read_alternative(
        &mut self,
        name: &str,
        modifier: char,
        empty_is_unset: bool,
    ) -> Result<String, WordError> {
        let pattern = empty_is_unset && matches!(modifier, '#' | '%');
        let word = self.read_operand('}', pattern)?;
        if pattern {
            // A colon before a trimming operator changes nothing.
            return self.trim(name, modifier, &word);
        }
        let value = self.look_up(name);
        let chosen = value.filter(|value| !(empty_is_unset && value.is_empty()));
        match modifier {
            '-' => Ok(chosen.map_or(word, str::to_owned)),
            '+' => Ok(if chosen.is_some() {
                word
            } else {
                String::new()
            }),
            '?' => chosen
                .map(str::to_owned)
                .ok_or_else(|| WordError::Required {
                    name: name.to_owned(),
                    message: match (word.is_empty(), value) {
                        (false, _) => word,
                        (true, Some(_)) => "is not allowed to be empty".to_owned(),
                        (true, None) => "is not allowed to be unset".to_owned(),
                    },
                }),
            other => Err(WordError::UnsupportedModifier(format!(":{other}"))),
        }
    }

    /// Cuts the value at its start (`#`) or end (`%`); the operator doubled means the longest cut.
    fn trim(&mut self, name: &str, modifier: char, pattern: &str) -> Result<String, WordError> {
        let value = self.look_up(name).unwrap_or_default();
        let (pattern, longest) = match pattern.strip_prefix(modifier) {
            Some(pattern) => (pattern, true),
            None => (pattern, false),
        };
        let pattern = Pattern::parse(pattern)?;
        Ok(if modifier == '#' {
            pattern.trim_start(value, longest)
        } else {
            pattern.trim_end(value, longest)
        })
    }

    fn read_replacement(&mut self, name: &str) -> Result<String, WordError> {
        let all = self.characters.next_if_eq(&'/').is_some();
        let pattern = self.read_operand('/', true)?;
        let replacement = self.read_operand('}', true)?;
        let value = self.look_up(name).unwrap_or_default();
        Pattern::parse(&pattern)?.replace(value, &replacement, all, self.limit)
    }

    /// Reads a part of a substitution. Whatever is left open inside when the text ends, the
    /// missing delimiter of the substitution is what gets reported.
    fn read_operand(&mut self, stop: char, keep_escapes: bool) -> Result<String, WordError> {
        match self.read_until(Some(stop), keep_escapes) {
            Ok(output) => Ok(output.value),
            Err(error @ (WordError::TooLong | WordError::TooDeep)) => Err(error),
            Err(_) if self.at_end() && stop == '/' => Err(WordError::MissingSlash),
            Err(_) if self.at_end() => Err(WordError::MissingBrace),
            Err(error) => Err(error),
        }
    }

    /// A variable name, a positional number, or one of the shell's special parameters.
    fn read_name(&mut self) -> String {
        let mut name = String::new();
        match self.characters.peek() {
            Some(first) if first.is_numeric() => {
                while let Some(digit) = self.characters.next_if(|next| next.is_numeric()) {
                    name.push(digit);
                }
            }
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => name.extend(self.characters.next()),
            _ => {
                while let Some(character) = self
                    .characters
                    .next_if(|next| next.is_alphanumeric() || *next == '_')
                {
                    name.push(character);
                }
            }
        }
        name
    }

    fn look_up(&mut self, name: &str) -> Option<&'a str> {
        let value = self.env.get(name);
        let names = if value.is_some() {
            &mut self.used
        } else {
            &mut self.unset
        };
        if !name.is_empty() && !names.iter().any(|other| other == name) {
            names.push(name.to_owned());
        }
        value
    }
}

#[cfg(test)]
#[path = "words_tests.rs"]
mod tests;
