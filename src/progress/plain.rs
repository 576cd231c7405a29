//! BuildKit's plain progress: numbered lines for logs and CI, stable enough to be parsed.
//!
//! Only one vertex writes at a time. Lines of the others wait until it is done, or until it had its
//! turn; so parallel stages do not shred each other's output.

use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::time::Duration;

use super::numbers::Numbers;
use super::parts::Parts;
use super::units::seconds;
use super::{View, write_all};
use crate::build::event::{Event, VertexId};
use crate::build::log_lines::{LogLines, visible};

/// How long a vertex may go on writing while others wait.
const TURN: Duration = Duration::from_secs(2);
/// Bytes that may wait; more than that ends a turn early.
const WAITING_LIMIT: usize = 256 * 1024;

pub(super) struct Plain<W: Write> {
    output: W,
    numbers: Numbers,
    vertices: BTreeMap<u32, Vertex>,
    /// Who writes, and since when; it stays the last writer after it ended.
    turn: Option<(u32, Duration)>,
    waiting: VecDeque<u32>,
    waiting_bytes: usize,
}

#[derive(Default)]
struct Vertex {
    name: String,
    started: Duration,
    log: LogLines,
    parts: Parts,
    /// Lines that wait for this vertex's turn.
    pending: Vec<String>,
    ended: bool,
}

impl<W: Write> Plain<W> {
    pub(super) fn new(output: W) -> Self {
        Self {
            output,
            numbers: Numbers::default(),
            vertices: BTreeMap::new(),
            turn: None,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
        }
    }

    fn vertex(&mut self, id: VertexId, now: Duration) -> (u32, &mut Vertex) {
        let number = self.numbers.of(id);
        let vertex = self.vertices.entry(number).or_insert_with(|| Vertex {
            started: now,
            ..Vertex::default()
        });
        (number, vertex)
    }

    /// Adds lines to what the vertex has to say. It is written at once if the vertex has its turn.
    fn say(&mut self, number: u32, lines: Vec<String>, now: Duration) {
        let Some(vertex) = self.vertices.get_mut(&number) else {
            return;
        };
        self.waiting_bytes += lines.iter().map(String::len).sum::<usize>();
        vertex.pending.extend(lines);
        if !self.waiting.contains(&number) {
            self.waiting.push_back(number);
        }
        self.write_turns(now);
    }

    /// Writes for as long as somebody may write: the vertex with the turn, and after its end, or at
    /// the end of its time, the one that has waited longest.
    fn write_turns(&mut self, now: Duration) {
        loop {
            let next = match self.turn {
                Some((number, _)) if self.waiting.contains(&number) => number,
                Some((number, since)) if !self.may_take_over(number, since, now) => return,
                _ => match self.waiting.front() {
                    Some(&number) => number,
                    None => return,
                },
            };
            self.write_pending(next, now);
        }
    }

    fn may_take_over(&self, writer: u32, since: Duration, now: Duration) -> bool {
        let ended = self.vertices.get(&writer).is_none_or(|vertex| vertex.ended);
        ended || now.saturating_sub(since) >= TURN || self.waiting_bytes > WAITING_LIMIT
    }

    fn write_pending(&mut self, number: u32, now: Duration) {
        self.waiting.retain(|&waiting| waiting != number);
        let mut text = String::new();
        if self.turn.is_none_or(|(writer, _)| writer != number) {
            if let Some((writer, _)) = self.turn {
                if self.vertices.get(&writer).is_some_and(|last| !last.ended) {
                    text.push_str(&format!("#{writer} ...\n"));
                }
                text.push('\n');
            }
            self.turn = Some((number, now));
            let name = self.vertices.get(&number).map_or("", |vertex| &vertex.name);
            text.push_str(&format!("#{number} {name}\n"));
        }
        if let Some(vertex) = self.vertices.get_mut(&number) {
            for line in vertex.pending.drain(..) {
                self.waiting_bytes -= line.len();
                text.push_str(&format!("#{number} {line}\n"));
            }
        }
        write_all(&mut self.output, text.as_bytes());
    }

    /// The last lines of a vertex: what its log still holds, and how it ended.
    fn end(&mut self, id: VertexId, now: Duration, how: impl FnOnce(&str) -> String) {
        let (number, vertex) = self.vertex(id, now);
        let took = now.saturating_sub(vertex.started);
        let mut lines = stamped(vertex.log.finish(), took);
        lines.push(how(&seconds(took)));
        vertex.ended = true;
        vertex.parts = Parts::default();
        self.say(number, lines, now);
    }
}

impl<W: Write> View for Plain<W> {
    fn show(&mut self, event: &Event, now: Duration) {
        match event {
            Event::Started { id, name } => {
                let (number, vertex) = self.vertex(*id, now);
                vertex.name = visible(name).into_owned();
                vertex.started = now;
                self.say(number, Vec::new(), now);
            }
            Event::Cached { id } => self.end(*id, now, |_| "CACHED".to_owned()),
            Event::Done { id } => self.end(*id, now, |took| format!("DONE {took}")),
            Event::Canceled { id } => self.end(*id, now, |_| "CANCELED".to_owned()),
            Event::Failed { id, message } => {
                self.end(*id, now, |_| format!("ERROR: {}", visible(message)));
            }
            Event::Log { id, stream, bytes } => {
                let (number, vertex) = self.vertex(*id, now);
                let lines = vertex.log.push(*stream, bytes);
                if !lines.is_empty() {
                    let lines = stamped(lines, now.saturating_sub(vertex.started));
                    self.say(number, lines, now);
                }
            }
            Event::Progress {
                id,
                label,
                done,
                total,
            } => {
                let (number, vertex) = self.vertex(*id, now);
                if let Some(line) = vertex.parts.advance(label, *done, *total, now) {
                    self.say(number, vec![line], now);
                }
            }
            Event::Finished { id, label, took } => {
                let (number, vertex) = self.vertex(*id, now);
                let line = vertex.parts.finish(label, *took);
                self.say(number, vec![line], now);
            }
            Event::Warning {
                id: Some(id),
                message,
            } => {
                let (number, _) = self.vertex(*id, now);
                self.say(number, vec![format!("WARN: {}", visible(message))], now);
            }
            Event::Warning { id: None, message } => {
                let line = format!("WARN: {}\n", visible(message));
                write_all(&mut self.output, line.as_bytes());
            }
            Event::Spent { .. } | Event::Built { .. } => {}
        }
    }

    fn tick(&mut self, now: Duration) {
        self.write_turns(now);
        // A write error here is that of a closed pipe, which ends no build.
        drop(self.output.flush());
    }

    fn finish(&mut self, now: Duration) {
        while let Some(&number) = self.waiting.front() {
            self.write_pending(number, now);
        }
        drop(self.output.flush());
    }
}

fn stamped(lines: Vec<String>, at: Duration) -> Vec<String> {
    let at = at.as_secs_f64();
    lines
        .into_iter()
        .map(|line| format!("{at:.3} {line}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::event::Stream;

    fn shown(events: &[(f64, Event)]) -> String {
        let mut output = Vec::new();
        let mut view = Plain::new(&mut output);
        let mut last = Duration::ZERO;
        for (at, event) in events {
            last = Duration::from_secs_f64(*at);
            view.show(event, last);
            view.tick(last);
        }
        view.finish(last);
        String::from_utf8(output).unwrap()
    }

    fn started(id: u32, name: &str) -> Event {
        let id = VertexId(id);
        let name = name.to_owned();
        Event::Started { id, name }
    }

    fn log(id: u32, bytes: &[u8]) -> Event {
        Event::Log {
            id: VertexId(id),
            stream: Stream::Stdout,
            bytes: bytes.to_vec(),
        }
    }

    fn done(id: u32) -> Event {
        Event::Done { id: VertexId(id) }
    }

    fn progress(done: u64, total: Option<u64>) -> Event {
        Event::Progress {
            id: VertexId(1),
            label: "sha256:abc".to_owned(),
            done,
            total,
        }
    }

    #[test]
    fn vertices_one_after_another_are_blocks() {
        let id = VertexId(7);
        let message = "exit code: 2".to_owned();
        let text = shown(&[
            (0.0, started(9, "[internal] load .dockerignore")),
            (0.1, done(9)),
            (0.1, started(5, "[1/3] FROM alpine")),
            (0.1, Event::Cached { id: VertexId(5) }),
            (0.2, started(7, "[2/3] RUN make")),
            (0.612, log(7, b"cc -c a\nerr")),
            (1.4, Event::Failed { id, message }),
            (1.5, started(8, "[3/3] RUN x")),
            (1.5, Event::Canceled { id: VertexId(8) }),
        ]);
        assert_eq!(
            text,
            "\
#1 [internal] load .dockerignore
#1 DONE 0.1s

#2 [1/3] FROM alpine
#2 CACHED

#3 [2/3] RUN make
#3 0.412 cc -c a
#3 1.200 err
#3 ERROR: exit code: 2

#4 [3/3] RUN x
#4 CANCELED
"
        );
    }

    #[test]
    fn two_running_vertices_take_turns() {
        let text = shown(&[
            (0.0, started(1, "[a 1/1] RUN a")),
            (0.0, started(2, "[b 1/1] RUN b")),
            (0.5, log(1, b"a one\n")),
            (0.6, log(2, b"b one\n")),
            (1.0, log(1, b"a two\n")),
            (2.5, log(2, b"b two\n")),
            (2.6, log(1, b"a three\n")),
            (3.0, done(2)),
            (3.5, done(1)),
        ]);
        assert_eq!(
            text,
            "\
#1 [a 1/1] RUN a
#1 0.500 a one
#1 1.000 a two
#1 ...

#2 [b 1/1] RUN b
#2 0.600 b one
#2 2.500 b two
#2 DONE 3.0s

#1 [a 1/1] RUN a
#1 2.600 a three
#1 DONE 3.5s
"
        );
    }

    #[test]
    fn what_waits_is_bounded() {
        let flood = "x".repeat(1000) + "\n";
        let mut events = vec![(0.0, started(1, "a")), (0.0, started(2, "b"))];
        events.extend((0..300).map(|_| (0.1, log(2, flood.as_bytes()))));
        let mut output = Vec::new();
        let mut view = Plain::new(&mut output);
        for (at, event) in &events {
            view.show(event, Duration::from_secs_f64(*at));
        }
        assert!(view.waiting_bytes <= WAITING_LIMIT);
        assert!(output.starts_with(b"#1 a\n#1 ...\n\n#2 b\n#2 0.100 xxx"));
    }

    #[test]
    fn byte_counts_are_repeated_only_when_they_moved() {
        let label = || "sha256:abc".to_owned();
        let id = VertexId(1);
        let text = shown(&[
            (0.0, started(1, "[1/1] FROM alpine")),
            (0.0, progress(0, Some(28_230_000))),
            (0.9, progress(4_000_000, Some(28_230_000))),
            (1.0, progress(5_240_000, Some(28_230_000))),
            (2.5, progress(5_250_000, Some(28_230_000))),
            (6.1, progress(5_260_000, Some(28_230_000))),
            (6.2, progress(28_230_000, Some(28_230_000))),
            (
                6.2,
                Event::Finished {
                    id,
                    label: label(),
                    took: Duration::from_millis(6200),
                },
            ),
            (6.3, done(1)),
        ]);
        assert_eq!(
            text,
            "\
#1 [1/1] FROM alpine
#1 sha256:abc 0B / 28.23MB 0.0s
#1 sha256:abc 5.24MB / 28.23MB 1.0s
#1 sha256:abc 5.26MB / 28.23MB 6.1s
#1 sha256:abc 28.23MB / 28.23MB 6.2s done
#1 DONE 6.3s
"
        );
    }

    #[test]
    fn a_part_without_bytes_is_named_at_its_start_and_end() {
        let id = VertexId(1);
        let label = || "exporting layers".to_owned();
        let text = shown(&[
            (0.0, started(1, "exporting to image")),
            (
                0.0,
                Event::Progress {
                    id,
                    label: label(),
                    done: 0,
                    total: None,
                },
            ),
            (
                0.4,
                Event::Finished {
                    id,
                    label: label(),
                    took: Duration::from_millis(400),
                },
            ),
        ]);
        assert_eq!(
            text,
            "#1 exporting to image\n#1 exporting layers\n#1 exporting layers 0.4s done\n"
        );
    }

    #[test]
    fn nothing_of_the_build_acts_on_the_terminal() {
        let text = shown(&[
            (0.0, started(1, "[1/1] RUN \u{1b}[2J")),
            (0.0, log(1, b"\x1b[32mok\x1b[0m\t\x1b]0;t\x07 \xe2\x82")),
            (0.0, log(1, b"\xac \xff\r\n")),
            (
                0.0,
                Event::Warning {
                    id: None,
                    message: "a\u{7}".to_owned(),
                },
            ),
            (
                0.0,
                Event::Warning {
                    id: Some(VertexId(1)),
                    message: "b\n".to_owned(),
                },
            ),
        ]);
        assert_eq!(
            text,
            "#1 [1/1] RUN \\x1b[2J\n#1 0.000 ok\t\\x1b]0;t\\x07 € \u{fffd}\n\
             WARN: a\\x07\n#1 WARN: b\\x0a\n"
        );
    }
}
