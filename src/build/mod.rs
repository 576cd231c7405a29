//! Placeholder until its owner's first commit.
pub(crate) mod event;
pub(crate) mod log_lines;
pub(crate) mod log_tail;
