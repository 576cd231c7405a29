//! The Dockerfile language: text in, typed stages out.
//!
//! The room is pure: it opens no files and knows nothing of images. Logical lines (continuations,
//! comments, heredocs) come first, then instructions with their flags; variables are expanded
//! later, by the caller, through `words`, because their values depend on the build.

mod arguments;
#[cfg(any(test, fuzzing))]
pub(crate) mod assertions;
mod csv;
mod diagnostic;
mod duration;
mod flags;
mod heredoc;
mod instruction;
mod lines;
mod metadata;
mod mount;
mod nearest;
mod parse;
mod pattern;
mod port;
mod run;
mod signal;
mod size;
mod span;
mod syntax;
mod text;
mod words;

pub(crate) use diagnostic::Diagnostic;
pub(crate) use duration::Duration;
pub(crate) use instruction::{
    AddInstruction, ArgDeclaration, CopyInstruction, Healthcheck, Instruction, KeyValues,
    RunInstruction, RunNetwork, RunScript, RunSecurity, ShellOrExec, Source,
};
pub(crate) use mount::{
    BindMount, CacheMount, CacheSharing, MountFlag, RunMount, SecretMount, SshMount,
};
pub(crate) use nearest::nearest;
pub(crate) use parse::{parse, parse_trigger};
pub(crate) use port::PortRange;
pub(crate) use signal::is_signal;
pub(crate) use size::parse_size;
pub(crate) use span::{Span, Spanned};
pub(crate) use syntax::syntax;
pub(crate) use words::{
    Expanded, Lookup, MAX_TOTAL, WordError, expand, expand_heredoc, expand_to_words,
};

/// A parsed Dockerfile; it has at least one stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dockerfile {
    pub(crate) directives: Directives,
    /// The ARG lines before the first FROM.
    pub(crate) global_args: Vec<Statement>,
    pub(crate) stages: Vec<Stage>,
    pub(crate) warnings: Vec<Diagnostic>,
}

/// The parser directives at the top of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Directives {
    /// The frontend image named by `# syntax=`.
    pub(crate) syntax: Option<Spanned<String>>,
    /// `\` or a backquote.
    pub(crate) escape: char,
    /// The raw value of `# check=`.
    pub(crate) check: Option<Spanned<String>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stage {
    /// Position in the file, from 0.
    pub(crate) index: usize,
    /// In lower case.
    pub(crate) name: Option<Spanned<String>>,
    /// What stands after FROM, unexpanded.
    pub(crate) base: Spanned<String>,
    /// The value of `--platform`, unexpanded.
    pub(crate) platform: Option<Spanned<String>>,
    pub(crate) from: FromLine,
    pub(crate) statements: Vec<Statement>,
}

/// The FROM line of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FromLine {
    pub(crate) span: Span,
    pub(crate) keyword_span: Span,
    pub(crate) text: String,
    /// The 1-based line that it starts on.
    pub(crate) line: usize,
    /// The comment lines directly above, without `#`.
    pub(crate) comments: Vec<Spanned<String>>,
}

/// One instruction of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Statement {
    pub(crate) instruction: Instruction,
    /// From the keyword to the end of the last line, heredocs included, without the line end.
    pub(crate) span: Span,
    pub(crate) keyword_span: Span,
    /// The logical line as the history of an image shows it: continuations joined, comments
    /// dropped, heredoc bodies left out.
    pub(crate) text: String,
    /// The 1-based line that the instruction starts on.
    pub(crate) line: usize,
    /// The comment lines directly above, without `#`.
    pub(crate) comments: Vec<Spanned<String>>,
}
