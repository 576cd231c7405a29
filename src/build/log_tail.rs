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
        let lines = self.assembly.push(stream, bytes);
        self.keep(elapsed, lines);
    }

    /// The kept lines, oldest first, as `0.412 text`; safe to show on a terminal. A last line without
    /// an end is included, as of `elapsed`.
    pub(crate) fn lines(mut self, elapsed: Duration) -> Vec<String> {
        let lines = self.assembly.finish();
        self.keep(elapsed, lines);
        self.lines.into()
    }

    fn keep(&mut self, elapsed: Duration, lines: Vec<String>) {
        let skipped = lines.len().saturating_sub(LINES);
        for line in lines.into_iter().skip(skipped) {
            if self.lines.len() == LINES {
                self.lines.pop_front();
            }
            self.lines
                .push_back(format!("{:.3} {line}", elapsed.as_secs_f64()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_fifty_lines_are_kept_with_their_times() {
        let mut tail = LogTail::new();
        for number in 0..70 {
            let line = format!("line {number}\n");
            tail.push(
                Duration::from_millis(number),
                Stream::Stdout,
                line.as_bytes(),
            );
        }
        tail.push(Duration::from_millis(1500), Stream::Stderr, b"no end");
        let lines = tail.lines(Duration::from_secs(2));
        assert_eq!(lines.len(), LINES);
        assert_eq!(lines[0], "0.021 line 21");
        assert_eq!(lines[48], "0.069 line 69");
        assert_eq!(lines[49], "2.000 no end");
    }

    #[test]
    fn one_chunk_of_many_lines_keeps_only_its_end() {
        let mut tail = LogTail::new();
        let chunk: String = (0..1000).map(|number| format!("{number}\n")).collect();
        tail.push(Duration::ZERO, Stream::Stdout, chunk.as_bytes());
        let lines = tail.lines(Duration::ZERO);
        assert_eq!(lines.first().map(String::as_str), Some("0.000 950"));
        assert_eq!(lines.len(), LINES);
    }
}
