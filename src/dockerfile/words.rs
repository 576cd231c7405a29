//! Variable expansion in the words of a Dockerfile.

/// Where variables get their values.
pub(crate) trait Lookup {
    fn get(&self, name: &str) -> Option<&str>;
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

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WordError {
    #[error("syntax error: missing '}}'")]
    MissingBrace,
}

/// Expands variables in `word` and removes its quotes.
pub(crate) fn expand(word: &str, escape: char, env: &dyn Lookup) -> Result<Expanded, WordError> {
    todo!()
}

/// Expands variables in `word`, then splits the result at unquoted blanks.
pub(crate) fn expand_to_words(
    word: &str,
    escape: char,
    env: &dyn Lookup,
) -> Result<(Vec<String>, Expanded), WordError> {
    todo!()
}

/// Expands variables in the body of a heredoc: quotes stay, `\$` stands for `$`.
pub(crate) fn expand_heredoc(body: &str, env: &dyn Lookup) -> Result<Expanded, WordError> {
    todo!()
}
