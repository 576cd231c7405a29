//! A table of what each phase of each vertex took, below another view.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::time::Duration;

use super::numbers::Numbers;
use super::units::size;
use super::{View, write_all};
use crate::build::event::{Event, Phase, Spent, VertexId};
use crate::build::log_lines::visible;

/// Columns of a name; what is longer loses its end.
const NAME_WIDTH: usize = 40;

pub(super) struct Timings<W: Write> {
    inner: Box<dyn View>,
    output: W,
    numbers: Numbers,
    /// That of the command itself is 0.
    rows: BTreeMap<u32, Row>,
}

#[derive(Default)]
struct Row {
    name: String,
    started: Duration,
    total: Option<Duration>,
    phases: BTreeMap<Phase, Duration>,
    /// The most that one phase went through.
    bytes: Option<u64>,
    files: Option<u64>,
    /// Parts that are no phases: `writing the archive`.
    parts: Vec<(String, Duration)>,
}

impl<W: Write> Timings<W> {
    pub(super) fn new(inner: Box<dyn View>, output: W) -> Self {
        Self {
            inner,
            output,
            numbers: Numbers::default(),
            rows: BTreeMap::new(),
        }
    }

    fn row(&mut self, id: Option<VertexId>) -> &mut Row {
        let number = id.map_or(0, |id| self.numbers.of(id));
        self.rows.entry(number).or_default()
    }

    fn note(&mut self, event: &Event, now: Duration) {
        match event {
            Event::Started { id, name } => {
                let row = self.row(Some(*id));
                row.name = visible(name).into_owned();
                row.started = now;
            }
            Event::Cached { id }
            | Event::Done { id }
            | Event::Failed { id, .. }
            | Event::Canceled { id } => {
                let row = self.row(Some(*id));
                row.total = Some(now.saturating_sub(row.started));
            }
            Event::Finished { id, label, took } => {
                let part = (visible(label).into_owned(), *took);
                self.row(Some(*id)).parts.push(part);
            }
            Event::Spent { id, spent } => self.row(*id).add(spent),
            Event::Log { .. }
            | Event::Progress { .. }
            | Event::Warning { .. }
            | Event::Built { .. } => {}
        }
    }

    /// Only phases that some row has are columns.
    fn table(&self, now: Duration) -> String {
        let used: BTreeSet<Phase> = self
            .rows
            .values()
            .flat_map(|row| row.phases.keys().copied())
            .collect();
        let columns: Vec<Phase> = Phase::ALL
            .into_iter()
            .filter(|phase| used.contains(phase))
            .collect();
        let mut table = vec![heading(&columns)];
        for (number, row) in &self.rows {
            let whole = if *number == 0 { None } else { row.total };
            table.push(row.cells(whole, &columns));
            for (label, took) in &row.parts {
                table.push(part(label, *took, columns.len()));
            }
        }
        let whole = self
            .rows
            .get(&0)
            .and_then(|row| row.phases.get(&Phase::Start));
        let whole = now + whole.copied().unwrap_or_default();
        table.push(part("whole", whole, columns.len()));
        aligned(&table)
    }
}

impl Row {
    fn add(&mut self, spent: &Spent) {
        *self.phases.entry(spent.phase).or_default() += spent.took;
        self.bytes = self.bytes.max(spent.bytes);
        self.files = self.files.max(spent.files);
    }

    fn cells(&self, total: Option<Duration>, columns: &[Phase]) -> Vec<String> {
        let own = self
            .phases
            .iter()
            .filter(|(phase, _)| **phase != Phase::Behind);
        let known: Duration = own.map(|(_, took)| *took).sum();
        let mut cells = vec![cut(&self.name)];
        cells.push(total.map(milliseconds).unwrap_or_default());
        for phase in columns {
            let took = self.phases.get(phase).copied();
            cells.push(took.map(milliseconds).unwrap_or_default());
        }
        let rest = total.map(|total| total.saturating_sub(known));
        cells.push(rest.map(milliseconds).unwrap_or_default());
        cells.push(self.bytes.map(size).unwrap_or_default());
        cells.push(
            self.files
                .map(|files| files.to_string())
                .unwrap_or_default(),
        );
        cells
    }
}

fn heading(columns: &[Phase]) -> Vec<String> {
    let phases = columns.iter().map(|phase| phase.name());
    ["milliseconds", "total"]
        .into_iter()
        .chain(phases)
        .chain(["other", "bytes", "files"])
        .map(str::to_owned)
        .collect()
}

fn part(label: &str, took: Duration, phases: usize) -> Vec<String> {
    let mut cells = vec![cut(&format!("  {label}")), milliseconds(took)];
    cells.resize(phases + 5, String::new());
    cells
}

fn cut(name: &str) -> String {
    name.chars().take(NAME_WIDTH).collect()
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1000.0)
}

/// The first column to the left, the others to the right.
fn aligned(table: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = table.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..table.first().map_or(0, Vec::len)).map(width).collect();
    let mut text = String::new();
    for row in table {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            if column == 0 {
                line.push_str(&format!("{cell:width$}"));
            } else {
                line.push_str(&format!("  {cell:>width$}"));
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

impl<W: Write> View for Timings<W> {
    fn show(&mut self, event: &Event, now: Duration) {
        self.note(event, now);
        self.inner.show(event, now);
    }

    fn tick(&mut self, now: Duration) {
        self.inner.tick(now);
    }

    fn finish(&mut self, now: Duration) {
        self.inner.finish(now);
        let table = self.table(now);
        write_all(&mut self.output, format!("\n{table}").as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::super::quiet::Quiet;
    use super::*;

    #[test]
    fn each_vertex_is_a_row_and_each_phase_that_there_was_a_column() {
        let (run, export) = (VertexId(7), VertexId(9));
        let spent = |id, phase, millis, bytes, files| Event::Spent {
            id,
            spent: Spent {
                phase,
                took: Duration::from_millis(millis),
                bytes,
                files,
            },
        };
        let started = |id, name: &str| Event::Started {
            id,
            name: name.to_owned(),
        };
        let mut output = Vec::new();
        let mut view = Timings::new(Box::new(Quiet), &mut output);
        let events = [
            (0, spent(None, Phase::Start, 5, None, None)),
            (1, started(run, "[2/2] RUN make\n")),
            (1, spent(Some(run), Phase::Command, 20, None, None)),
            (1, spent(Some(run), Phase::Capture, 3, Some(9), Some(1))),
            (1, spent(Some(run), Phase::Capture, 4, Some(2048), None)),
            (31, Event::Done { id: run }),
            (31, started(export, "exporting to image")),
            (
                32,
                Event::Finished {
                    id: export,
                    label: "exporting layers".to_owned(),
                    took: Duration::from_micros(1250),
                },
            ),
            (33, Event::Done { id: export }),
        ];
        for (at, event) in &events {
            view.show(event, Duration::from_millis(*at));
        }
        view.finish(Duration::from_millis(40));
        let expected = "
milliseconds        total  start  command  capture  other   bytes  files
                             5.0
[2/2] RUN make\\x0a   30.0            20.0      7.0    3.0  2.05kB      1
exporting to image    2.0                             2.0
  exporting layers    1.2
  whole              45.0
";
        assert_eq!(String::from_utf8(output).unwrap(), expected);
    }
}
