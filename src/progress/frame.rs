//! What the live view shows at one moment, as rows of text; drawing them is somebody else's.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::bar::bar;
use super::numbers::Numbers;
use super::units::{amount, seconds};
use crate::build::event::{Event, VertexId};
use crate::build::log_lines::{LogLines, visible};

/// Rows below a running vertex, as many as BuildKit shows.
const LOG_ROWS: usize = 6;
const PART_ROWS: usize = 8;
/// Below this width a row has no room for its time.
const WIDTH_WITH_TIME: usize = 30;
/// From this width on a part whose total is known has a bar.
const WIDTH_WITH_BAR: usize = 80;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tint {
    Plain,
    Dim,
    Blue,
    Yellow,
    Red,
}

/// One row, no wider than the frame it was made for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) text: String,
    pub(super) tint: Tint,
}

/// Everything that was told so far.
pub(super) struct State {
    /// What is being done.
    title: &'static str,
    numbers: Numbers,
    vertices: BTreeMap<u32, Vertex>,
    pub(super) warnings: Vec<String>,
    built: bool,
}

#[derive(Default)]
struct Vertex {
    name: String,
    started: Duration,
    ended: Option<(Duration, End)>,
    log: LogLines,
    tail: VecDeque<String>,
    parts: Vec<Part>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Done,
    Cached,
    Failed,
    Canceled,
}

struct Part {
    label: String,
    began: Duration,
    done: u64,
    total: Option<u64>,
    took: Option<Duration>,
}

impl State {
    pub(super) fn new(title: &'static str) -> Self {
        Self {
            title,
            numbers: Numbers::default(),
            vertices: BTreeMap::new(),
            warnings: Vec::new(),
            built: false,
        }
    }

    pub(super) fn tell(&mut self, event: &Event, now: Duration) {
        match event {
            Event::Started { id, name } => {
                let vertex = self.vertex(*id, now);
                vertex.name = on_one_row(&visible(name));
                vertex.started = now;
            }
            Event::Cached { id } => self.end(*id, End::Cached, now),
            Event::Done { id } => self.end(*id, End::Done, now),
            Event::Failed { id, .. } => self.end(*id, End::Failed, now),
            Event::Canceled { id } => self.end(*id, End::Canceled, now),
            Event::Log { id, stream, bytes } => {
                let vertex = self.vertex(*id, now);
                for line in vertex.log.push(*stream, bytes) {
                    if vertex.tail.len() == LOG_ROWS {
                        vertex.tail.pop_front();
                    }
                    vertex.tail.push_back(on_one_row(&line));
                }
            }
            Event::Progress {
                id,
                label,
                done,
                total,
            } => {
                let part = self.vertex(*id, now).part(label, now);
                part.done = *done;
                part.total = *total;
            }
            Event::Finished { id, label, took } => {
                self.vertex(*id, now).part(label, now).took = Some(*took);
            }
            Event::Warning { message, .. } => self.warnings.push(visible(message).into_owned()),
            Event::Built { .. } => self.built = true,
            Event::Spent { .. } => {}
        }
    }

    fn vertex(&mut self, id: VertexId, now: Duration) -> &mut Vertex {
        let number = self.numbers.of(id);
        self.vertices.entry(number).or_insert_with(|| Vertex {
            started: now,
            ..Vertex::default()
        })
    }

    fn end(&mut self, id: VertexId, how: End, now: Duration) {
        let vertex = self.vertex(id, now);
        vertex.ended = Some((now, how));
        vertex.tail.clear();
        vertex.parts.clear();
    }

    /// The rows at `now`, at most `height` (but always the header), each at most `width` wide. Where
    /// there is no room for everything, running vertices come before ended ones, and later ended ones
    /// before earlier.
    pub(super) fn frame(&self, now: Duration, width: usize, height: usize) -> Vec<Row> {
        let mut rows = vec![self.header(now, width)];
        let room = height.saturating_sub(1);
        let chosen = self.chosen(room);
        let mut below = room - chosen.len();
        let mut running = chosen
            .iter()
            .filter(|vertex| vertex.ended.is_none())
            .count();
        for vertex in chosen {
            rows.push(vertex.row(now, width));
            if vertex.ended.is_none() {
                let mut details = vertex.details(now, width);
                let share = below.div_ceil(running);
                details.drain(..details.len().saturating_sub(share));
                below -= details.len();
                running -= 1;
                rows.extend(details);
            }
        }
        rows
    }

    fn header(&self, now: Duration, width: usize) -> Row {
        let ended = self
            .vertices
            .values()
            .filter(|vertex| vertex.ended.is_some());
        let failed = self
            .vertices
            .values()
            .any(|vertex| vertex.ended_as(End::Failed));
        let mut text = format!(
            "[+] {} {} ({}/{})",
            self.title,
            seconds(now),
            ended.count(),
            self.vertices.len()
        );
        match self.warnings.len() {
            0 => {}
            1 => text.push_str(", 1 warning"),
            count => text.push_str(&format!(", {count} warnings")),
        }
        let tint = match (failed, self.built) {
            (true, _) => {
                text.push_str(" FAILED");
                Tint::Red
            }
            (false, true) => {
                text.push_str(" FINISHED");
                Tint::Plain
            }
            (false, false) => Tint::Plain,
        };
        let text = cut(&text, width);
        Row { text, tint }
    }

    /// The vertices that get a row, in order of their numbers.
    fn chosen(&self, room: usize) -> Vec<&Vertex> {
        let mut order: Vec<(u32, &Vertex)> = self.vertices.iter().map(|(&n, v)| (n, v)).collect();
        if order.len() > room {
            order.sort_by_key(|(number, vertex)| {
                let ended = vertex.ended.map(|(at, _)| at);
                (
                    ended.is_some(),
                    std::cmp::Reverse(ended),
                    std::cmp::Reverse(*number),
                )
            });
            order.truncate(room);
            order.sort_by_key(|(number, _)| *number);
        }
        order.into_iter().map(|(_, vertex)| vertex).collect()
    }
}

impl Vertex {
    fn ended_as(&self, end: End) -> bool {
        self.ended.is_some_and(|(_, how)| how == end)
    }

    fn part(&mut self, label: &str, now: Duration) -> &mut Part {
        let label = short(&on_one_row(&visible(label)));
        let known = self.parts.iter().position(|part| part.label == label);
        let index = known.unwrap_or_else(|| {
            self.parts.push(Part {
                label,
                began: now,
                done: 0,
                total: None,
                took: None,
            });
            self.parts.len() - 1
        });
        &mut self.parts[index]
    }

    fn row(&self, now: Duration, width: usize) -> Row {
        let (prefix, tint) = match self.ended {
            None => ("", Tint::Plain),
            Some((_, End::Done)) => ("", Tint::Blue),
            Some((_, End::Cached)) => ("CACHED ", Tint::Dim),
            Some((_, End::Failed)) => ("ERROR ", Tint::Red),
            Some((_, End::Canceled)) => ("CANCELED ", Tint::Yellow),
        };
        let until = self.ended.map_or(now, |(at, _)| at);
        let took = until.saturating_sub(self.started);
        let text = with_time(&format!(" => {prefix}{}", self.name), took, width);
        Row { text, tint }
    }

    /// The rows below a running vertex: its parts, then the end of its log.
    fn details(&self, now: Duration, width: usize) -> Vec<Row> {
        let crowded = self.parts.len() > PART_ROWS;
        let parts = self
            .parts
            .iter()
            .filter(|part| !crowded || part.took.is_none());
        let parts = parts.take(PART_ROWS).map(|part| part.row(now, width));
        let log = self.tail.iter().map(|line| Row {
            text: cut(&format!(" => => # {line}"), width),
            tint: Tint::Dim,
        });
        parts.chain(log).collect()
    }
}

impl Part {
    fn row(&self, now: Duration, width: usize) -> Row {
        let mut text = format!(" => => {}", self.label);
        if let Some(total) = self.total.filter(|_| width >= WIDTH_WITH_BAR) {
            text.push_str(&format!(" {}", bar(self.done, total)));
        }
        if self.done > 0 || self.total.is_some() {
            text.push_str(&format!(" {}", amount(self.done, self.total)));
        }
        let took = self.took.unwrap_or(now.saturating_sub(self.began));
        let tint = if self.took.is_some() {
            Tint::Blue
        } else {
            Tint::Plain
        };
        Row {
            text: with_time(&text, took, width),
            tint,
        }
    }
}

/// A digest as its first twelve digits, so that the sizes behind it stay on the row.
fn short(label: &str) -> String {
    match label.split_once("sha256:") {
        Some((before, hex)) if hex.len() == 64 && hex.is_ascii() => {
            format!("{before}sha256:{}", &hex[..12])
        }
        _ => label.to_owned(),
    }
}

fn on_one_row(text: &str) -> String {
    text.replace('\t', "    ")
}

/// `text` at the left and the time at the right end of the row.
fn with_time(text: &str, time: Duration, width: usize) -> String {
    if width < WIDTH_WITH_TIME {
        return cut(text, width);
    }
    let time = seconds(time);
    let left = cut(text, width.saturating_sub(time.len() + 1));
    let gap = width.saturating_sub(left.width() + time.len());
    format!("{left}{:gap$}{time}", "")
}

/// `text` cut to `width` columns, with dots where something is missing.
fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let dots = &"..."[..width.min(3)];
    let mut left = width - dots.len();
    let mut kept = String::new();
    for character in text.chars() {
        let columns = character.width().unwrap_or(0);
        if columns > left {
            break;
        }
        left -= columns;
        kept.push(character);
    }
    kept + dots
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::event::Stream;

    fn texts(state: &State, now: f64, width: usize, height: usize) -> Vec<String> {
        let rows = state.frame(Duration::from_secs_f64(now), width, height);
        assert!(rows.len() <= height.max(1));
        assert!(rows.iter().all(|row| row.text.width() <= width));
        rows.into_iter().map(|row| row.text).collect()
    }

    fn state_of(events: &[(f64, Event)]) -> State {
        let mut state = State::new("Building");
        for (at, event) in events {
            state.tell(event, Duration::from_secs_f64(*at));
        }
        state
    }

    fn started(id: u32, name: &str) -> Event {
        let id = VertexId(id);
        let name = name.to_owned();
        Event::Started { id, name }
    }

    fn log(id: u32, text: &str) -> Event {
        Event::Log {
            id: VertexId(id),
            stream: Stream::Stdout,
            bytes: text.as_bytes().to_vec(),
        }
    }

    fn busy() -> State {
        state_of(&[
            (0.0, started(1, "[build 1/4] FROM alpine")),
            (0.5, Event::Cached { id: VertexId(1) }),
            (0.5, started(2, "[build 2/4] RUN apk add gcc")),
            (0.5, started(3, "[stage-1 1/2] FROM debian")),
            (0.6, log(2, "one\n\u{1b}[2Jtwo\r\n")),
            (
                0.7,
                Event::Progress {
                    id: VertexId(3),
                    label: format!("sha256:{}", "ab".repeat(32)),
                    done: 5_240_000,
                    total: Some(28_230_000),
                },
            ),
        ])
    }

    #[test]
    fn running_vertices_show_logs_and_amounts_below() {
        assert_eq!(
            texts(&busy(), 3.7, 64, 20),
            [
                "[+] Building 3.7s (1/3)",
                " => CACHED [build 1/4] FROM alpine                          0.5s",
                " => [build 2/4] RUN apk add gcc                             3.2s",
                " => => # one",
                " => => # \\x1b[2Jtwo",
                " => [stage-1 1/2] FROM debian                               3.2s",
                " => => sha256:abababababab 5.24MB / 28.23MB                 3.0s",
            ]
        );
    }

    #[test]
    fn a_wide_terminal_has_room_for_bars() {
        let rows = texts(&busy(), 3.7, 80, 20);
        let expected = " => => sha256:abababababab [===>                ] 5.24MB / 28.23MB";
        assert_eq!(rows[6].trim_end_matches("3.0s").trim_end(), expected);
    }

    #[test]
    fn a_low_terminal_keeps_what_runs() {
        assert_eq!(
            texts(&busy(), 3.7, 40, 3),
            [
                "[+] Building 3.7s (1/3)",
                " => [build 2/4] RUN apk add gcc     3.2s",
                " => [stage-1 1/2] FROM debian       3.2s",
            ]
        );
        assert_eq!(texts(&busy(), 3.7, 40, 0), ["[+] Building 3.7s (1/3)"]);
    }

    #[test]
    fn a_narrow_terminal_cuts_rows() {
        assert_eq!(texts(&busy(), 3.7, 12, 20)[2], " => [buil...");
        for width in 0..100 {
            for height in 0..12 {
                texts(&busy(), 3.7, width, height);
            }
        }
    }

    #[test]
    fn only_the_last_six_log_lines_are_shown() {
        let lines: String = (0..20).map(|number| format!("{number}\n")).collect();
        let state = state_of(&[(0.0, started(1, "RUN x")), (0.1, log(1, &lines))]);
        let rows = texts(&state, 1.0, 40, 30);
        assert_eq!(rows.len(), 2 + LOG_ROWS);
        assert_eq!(rows[2], " => => # 14");
    }

    #[test]
    fn wide_characters_count_twice() {
        let state = state_of(&[(0.0, started(1, &"汉".repeat(40)))]);
        let expected = format!(" => {}...  1.0s", "汉".repeat(9));
        assert_eq!(texts(&state, 1.0, 31, 5)[1], expected);
    }

    #[test]
    fn an_end_is_said_in_words_and_tint() {
        let message = "no".to_owned();
        let state = state_of(&[
            (0.0, started(1, "a")),
            (0.0, started(2, "b")),
            (
                1.0,
                Event::Failed {
                    id: VertexId(1),
                    message,
                },
            ),
            (1.0, Event::Canceled { id: VertexId(2) }),
        ]);
        let rows = state.frame(Duration::from_secs(2), 30, 9);
        assert_eq!(rows[0].text, "[+] Building 2.0s (2/2) FAILED");
        assert_eq!(rows[1].tint, Tint::Red);
        assert!(rows[1].text.starts_with(" => ERROR a"));
        assert!(rows[2].text.starts_with(" => CANCELED b"));
    }
}
