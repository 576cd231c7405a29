//! The last lines of a running step, kept for the report of its failure.

use std::collections::VecDeque;
use std::time::Duration;

use super::event::Stream;
use super::log_lines::LogLines;

/// How many lines a report shows at most.
const LINES: usize = 50;

/// The last 50 lines that a RUN wrote, each with the time at which it was complete.
#[derive(Debug, Default)]
pub(crate) struct LogTail {
    assembly: LogLines,
    lines: VecDeque<String>,
}

impl LogTail {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Takes what `stream` wrote `elapsed` after the step began.
    pub(crate) fn push(&mut self, elapsed: Duration, stream: Stream, bytes: &[u8]) {
        let _ = (elapsed, stream, bytes);
        todo!()
    }

    /// The kept lines, oldest first, as `0.412 text`; safe to show on a terminal. A last line without
    /// an end is included.
    pub(crate) fn lines(self, elapsed: Duration) -> Vec<String> {
        let _ = elapsed;
        todo!()
    }
}
