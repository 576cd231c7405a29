//! How one run of rbuild ended, and what it printed.

use std::process::{Command, Output};

use super::terminal;

#[derive(Debug)]
pub(crate) struct Outcome {
    /// `None` when a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl From<Output> for Outcome {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Outcome {
    pub(crate) fn of(command: &mut Command) -> Self {
        command.output().unwrap().into()
    }

    /// Of a command that may hang, for two minutes.
    pub(crate) fn bounded(command: &Command) -> Self {
        Self::of(&mut terminal::bounded(command))
    }

    #[track_caller]
    pub(crate) fn succeeds(self) -> Self {
        self.exits_with(0)
    }

    #[track_caller]
    pub(crate) fn exits_with(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            Some(code),
            "stdout:\n{}\nstderr:\n{}",
            String::from_utf8_lossy(&self.stdout),
            self.stderr
        );
        self
    }

    /// Every one of `needles` is on standard error.
    #[track_caller]
    pub(crate) fn says(self, needles: &[&str]) -> Self {
        for needle in needles {
            assert!(
                self.stderr.contains(needle),
                "{needle:?} is not in:\n{}",
                self.stderr
            );
        }
        self
    }

    /// It ended with success or a message that is fit for a terminal.
    #[track_caller]
    pub(crate) fn is_sane(&self, name: &str) {
        assert!(matches!(self.code, Some(0 | 1)), "{name}: {self:?}");
        assert!(!self.stderr.contains("panicked"), "{name}: {self:?}");
        let raw = self
            .stderr
            .chars()
            .find(|c| c.is_control() && !matches!(c, '\n' | '\t'));
        assert_eq!(raw, None, "{name}: {self:?}");
    }

    /// The image id: the last line on standard output.
    #[track_caller]
    pub(crate) fn id(&self) -> String {
        let stdout = String::from_utf8_lossy(&self.stdout);
        let last = stdout.lines().last().unwrap_or_default();
        assert!(last.starts_with("sha256:"), "no image id in {stdout:?}");
        last.to_owned()
    }

    /// The vertices of plain progress, in the order in which they were first printed.
    pub(crate) fn vertices(&self) -> Vec<Vertex> {
        let mut vertices: Vec<Vertex> = Vec::new();
        for line in self.stderr.lines() {
            let Some((number, rest)) = line.strip_prefix('#').and_then(|line| line.split_once(' '))
            else {
                continue;
            };
            let Ok(number) = number.parse() else { continue };
            match vertices.iter_mut().find(|vertex| vertex.number == number) {
                Some(vertex) => vertex.lines.push(rest.to_owned()),
                None => vertices.push(Vertex {
                    number,
                    name: rest.to_owned(),
                    lines: Vec::new(),
                }),
            }
        }
        vertices
    }

    /// The vertex whose name ends with `instruction`, the text of a step without its `[2/3]`.
    #[track_caller]
    pub(crate) fn step(&self, instruction: &str) -> Vertex {
        self.vertices()
            .into_iter()
            .find(|vertex| vertex.name.ends_with(instruction))
            .unwrap_or_else(|| panic!("no step {instruction:?} in:\n{}", self.stderr))
    }

    #[track_caller]
    pub(crate) fn is_cached(&self, instruction: &str) -> bool {
        self.step(instruction).is_cached()
    }
}

/// One `#N` of plain progress.
#[derive(Debug)]
pub(crate) struct Vertex {
    pub(crate) number: u32,
    pub(crate) name: String,
    /// What followed the name, each without its `#N`.
    pub(crate) lines: Vec<String>,
}

impl Vertex {
    pub(crate) fn is_cached(&self) -> bool {
        self.lines.iter().any(|line| line == "CACHED")
    }

    /// The lines that the step itself wrote, without the seconds before them.
    pub(crate) fn log(&self) -> Vec<&str> {
        self.lines
            .iter()
            .filter_map(|line| line.split_once(' '))
            .filter(|(seconds, _)| seconds.parse::<f64>().is_ok())
            .map(|(_, text)| text)
            .collect()
    }
}
