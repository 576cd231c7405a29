//! What is wrong with a Dockerfile, and where.

use super::span::Span;

/// One error or warning about a Dockerfile, ready for an excerpt with a caret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Diagnostic {
    pub(crate) span: Span,
    /// A whole sentence without trailing period, worded as BuildKit words it where BuildKit
    /// reports the same error.
    pub(crate) message: String,
    /// What to write beside the caret.
    pub(crate) label: Option<Box<str>>,
    /// How to repair it.
    pub(crate) help: Option<Box<str>>,
    /// Other places that explain the error.
    pub(crate) related: Vec<(Span, String)>,
    /// The name of the rule that a warning breaks, for `# check=skip=`.
    pub(crate) rule: Option<&'static str>,
    /// Nothing is wrong with the file: this host cannot do it.
    pub(crate) of_host: bool,
}

impl Diagnostic {
    pub(crate) fn new(span: Span, message: impl Into<String>) -> Self {
        Self {
            span,
            message: message.into(),
            label: None,
            help: None,
            related: Vec::new(),
            rule: None,
            of_host: false,
        }
    }

    pub(crate) fn of_host(mut self) -> Self {
        self.of_host = true;
        self
    }

    pub(crate) fn with_label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into().into_boxed_str());
        self
    }

    pub(crate) fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into().into_boxed_str());
        self
    }

    pub(crate) fn with_rule(mut self, rule: &'static str) -> Self {
        self.rule = Some(rule);
        self
    }

    pub(crate) fn with_related(mut self, span: Span, label: impl Into<String>) -> Self {
        self.related.push((span, label.into()));
        self
    }
}
