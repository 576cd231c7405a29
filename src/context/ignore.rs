//! `.dockerignore`.

use std::path::Path;

#[derive(Debug, Clone, Default)]
pub(crate) struct Ignore {
    rules: Vec<Rule>,
}

/// One line of an ignore file.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    pub(crate) line: usize,
    pub(crate) text: String,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("illegal exclusion pattern: \"!\"")]
pub(crate) struct Error {
    pub(crate) line: usize,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Verdict<'a> {
    pub(crate) ignored: bool,
    pub(crate) rule: Option<&'a Rule>,
}

impl Ignore {
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        todo!()
    }
    pub(crate) fn verdict(&self, path: &Path) -> Verdict<'_> {
        todo!()
    }
}
