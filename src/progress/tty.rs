//! The live view: a frame that is drawn over the one before it.
//!
//! Each frame is one write that overwrites row by row, so nothing flickers. The cursor is never
//! hidden and no mode is changed: a build that is killed leaves nothing to restore.

use std::io::Write;
use std::time::Duration;

use unicode_width::UnicodeWidthStr as _;

use super::frame::{Row, State, Tint};
use super::{View, size_of_stderr, write_all};
use crate::build::event::Event;

pub(super) struct Tty<W: Write> {
    output: W,
    colour: bool,
    size: fn() -> (usize, usize),
    state: State,
    drawn: Drawn,
}

/// What is on the terminal above the cursor.
#[derive(Default)]
struct Drawn {
    widths: Vec<usize>,
    terminal_width: usize,
}

impl<W: Write> Tty<W> {
    pub(super) fn new(output: W, colour: bool, title: &'static str) -> Self {
        Self {
            output,
            colour,
            size: size_of_stderr,
            state: State::new(title),
            drawn: Drawn::default(),
        }
    }

    fn draw(&mut self, rows: &[Row], terminal_width: usize) {
        let mut text = self.drawn.over(terminal_width);
        for row in rows {
            match tint_code(row.tint).filter(|_| self.colour) {
                Some(code) => text.push_str(&format!("\x1b[{code}m{}\x1b[0m", row.text)),
                None => text.push_str(&row.text),
            }
            text.push_str("\x1b[K\n");
        }
        text.push_str("\x1b[J");
        write_all(&mut self.output, text.as_bytes());
        drop(self.output.flush());
        self.drawn = Drawn {
            widths: rows.iter().map(|row| row.text.width()).collect(),
            terminal_width,
        };
    }
}

impl Drawn {
    /// The sequences that put the cursor where the last frame begins. A terminal that became narrower
    /// has wrapped the rows that no longer fit.
    fn over(&self, terminal_width: usize) -> String {
        let rows: usize = self
            .widths
            .iter()
            .map(|width| width.div_ceil(terminal_width.max(1)).max(1))
            .sum();
        match rows {
            0 => String::new(),
            _ if terminal_width == self.terminal_width => format!("\r\x1b[{rows}A"),
            _ => format!("\r\x1b[{rows}A\x1b[J"),
        }
    }
}

fn tint_code(tint: Tint) -> Option<&'static str> {
    match tint {
        Tint::Plain => None,
        Tint::Dim => Some("2"),
        Tint::Blue => Some("34"),
        Tint::Yellow => Some("33"),
        Tint::Red => Some("31"),
    }
}

impl<W: Write> View for Tty<W> {
    fn show(&mut self, event: &Event, now: Duration) {
        self.state.tell(event, now);
    }

    fn tick(&mut self, now: Duration) {
        let (width, height) = (self.size)();
        // The last column stays empty, as terminals differ in what follows a character there; the
        // last row is the cursor's.
        let rows = self.state.frame(now, width - 1, height - 1);
        self.draw(&rows, width);
    }

    /// Leaves everything that happened on the terminal, and the warnings in full.
    fn finish(&mut self, now: Duration) {
        let (width, _) = (self.size)();
        let rows = self.state.frame(now, width - 1, usize::MAX);
        self.draw(&rows, width);
        for warning in &self.state.warnings {
            write_all(&mut self.output, format!("WARN: {warning}\n").as_bytes());
        }
        drop(self.output.flush());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::event::VertexId;

    fn drawn_by(colour: bool) -> String {
        let id = VertexId(1);
        let name = "[1/1] FROM scratch".to_owned();
        let mut output = Vec::new();
        let mut view = Tty::new(&mut output, colour, "Building");
        view.size = || (31, 10);
        view.show(&Event::Started { id, name }, Duration::ZERO);
        view.tick(Duration::from_millis(100));
        view.show(&Event::Done { id }, Duration::from_millis(200));
        view.finish(Duration::from_millis(200));
        String::from_utf8(output).unwrap()
    }

    #[test]
    fn a_frame_is_drawn_over_the_last_one() {
        assert_eq!(
            drawn_by(false),
            "[+] Building 0.1s (0/1)\x1b[K\n\
             \u{20}=> [1/1] FROM scratch    0.1s\x1b[K\n\x1b[J\
             \r\x1b[2A\
             [+] Building 0.2s (1/1)\x1b[K\n\
             \u{20}=> [1/1] FROM scratch    0.2s\x1b[K\n\x1b[J"
        );
    }

    #[test]
    fn colour_wraps_rows_only_where_it_is_wanted() {
        assert!(drawn_by(true).contains("\x1b[34m => [1/1] FROM scratch    0.2s\x1b[0m\x1b[K\n"));
    }

    #[test]
    fn rows_that_a_narrower_terminal_wrapped_are_counted() {
        let drawn = Drawn {
            widths: vec![79, 10, 0],
            terminal_width: 80,
        };
        assert_eq!(drawn.over(80), "\r\x1b[3A");
        assert_eq!(drawn.over(40), "\r\x1b[4A\x1b[J");
    }
}
