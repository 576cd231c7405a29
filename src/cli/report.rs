//! The one message with which rbuild says what went wrong.
//!
//! Callers fill in plain data; this room decides how it looks. Everything in a [`Report`] may come
//! from a Dockerfile, a registry or a build, so no control character of it reaches the output.

use std::error::Error;
use std::ops::Range;

/// A place in a file that the message is about.
#[derive(Debug, Clone)]
pub(crate) struct Excerpt<'a> {
    /// The file's name as the user knows it, `Dockerfile`.
    pub(crate) name: &'a str,
    /// The whole text of the file.
    pub(crate) source: &'a str,
    /// Bytes of `source`; what lies outside of it is cut off.
    pub(crate) span: Range<usize>,
}

/// The step that failed while it was executed.
#[derive(Debug, Clone, Default)]
pub(crate) struct FailedStep {
    /// `[stage-0 2/5] RUN make`.
    pub(crate) name: String,
    /// Its last lines, oldest first; none for a step that writes no log.
    pub(crate) log: Vec<String>,
}

/// One error or warning, ready to be worded.
#[derive(Debug, Clone, Default)]
pub(crate) struct Report<'a> {
    /// What failed, on what: a lower-case fragment, without `error:`.
    pub(crate) title: String,
    pub(crate) excerpt: Option<Excerpt<'a>>,
    /// Said at the underlined place.
    pub(crate) label: Option<String>,
    /// Other places of the same file that explain the error.
    pub(crate) related: Vec<(Range<usize>, String)>,
    /// The chain of causes, nearest first.
    pub(crate) causes: Vec<String>,
    /// Present if a step failed in execution: its log is shown, and its lines are marked as BuildKit
    /// marks them. Otherwise the excerpt is underlined.
    pub(crate) failed_step: Option<FailedStep>,
    /// What the user can do about it.
    pub(crate) help: Option<String>,
    /// A warning instead of an error.
    pub(crate) warning: bool,
}

/// Words `report` for a terminal of `width` columns. The text ends with a line feed.
pub(crate) fn render(report: &Report<'_>, colour: bool, width: usize) -> String {
    let _ = (report, colour, width);
    todo!()
}

/// What every error below `error` says, nearest first, `error` itself left out.
pub(crate) fn causes_of(error: &dyn Error) -> Vec<String> {
    let _ = error;
    todo!()
}
