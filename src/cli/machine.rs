//! Messages for programs: JSON, and the commands that a GitHub workflow understands.

use serde::Serialize;

use super::report::{Excerpt, Report};
use crate::build::log_lines::{visible, visible_json};

/// How messages about a build are written to standard error (`--error-format`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum ErrorFormat {
    /// Excerpts with underlined places.
    #[default]
    Human,
    /// One object a line; README.md has the schema.
    Json,
    /// Annotations of GitHub Actions.
    Github,
}

/// A position, both numbers counted from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct Position {
    line: usize,
    column: usize,
}

#[derive(Serialize)]
struct Place<'a> {
    file: &'a str,
    #[serde(flatten)]
    start: Position,
    end: Position,
}

#[derive(Serialize)]
struct Related<'a> {
    #[serde(flatten)]
    place: Place<'a>,
    message: &'a str,
}

#[derive(Serialize)]
struct Message<'a> {
    severity: &'static str,
    code: Option<&'a str>,
    message: &'a str,
    #[serde(flatten)]
    place: Option<Place<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    causes: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    related: Vec<Related<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    log: &'a [String],
}

/// `report` as one JSON object and a line feed.
pub(super) fn json(report: &Report<'_>) -> String {
    let place = report
        .excerpt
        .as_ref()
        .map(|excerpt| place(excerpt, excerpt.span.clone()));
    let related = report.excerpt.iter().flat_map(|excerpt| {
        report.related.iter().map(|(span, message)| Related {
            place: place_of(excerpt, span),
            message,
        })
    });
    let step = report.failed_step.as_ref();
    let message = Message {
        severity: severity(report),
        code: report.code,
        message: &report.title,
        place,
        label: report.label.as_deref(),
        causes: &report.causes,
        help: report.help.as_deref(),
        related: related.collect(),
        step: step.map(|step| step.name.as_str()),
        log: step.map_or(&[], |step| &step.log),
    };
    let text = serde_json::to_string(&message).expect("strings and numbers are JSON");
    let mut text = visible_json(text);
    text.push('\n');
    text
}

/// `report` as a workflow command and a line feed.
pub(super) fn github(report: &Report<'_>) -> String {
    let mut properties = Vec::new();
    if let Some(excerpt) = &report.excerpt {
        let place = place(excerpt, excerpt.span.clone());
        properties.push(("file", excerpt.name.to_owned()));
        properties.push(("line", place.start.line.to_string()));
        properties.push(("col", place.start.column.to_string()));
        properties.push(("endLine", place.end.line.to_string()));
        // GitHub refuses an end column on another line than the start.
        if place.end.line == place.start.line {
            properties.push(("endColumn", place.end.column.to_string()));
        }
    }
    if let Some(code) = report.code {
        properties.push(("title", code.to_owned()));
    }
    let mut message = report.title.clone();
    for cause in &report.causes {
        message.push_str(&format!("\ncaused by: {cause}"));
    }
    if let Some(help) = &report.help {
        message.push_str(&format!("\nhelp: {help}"));
    }
    let properties: Vec<String> = properties
        .into_iter()
        .map(|(key, value)| format!("{key}={}", escape_property(&value)))
        .collect();
    let blank = if properties.is_empty() { "" } else { " " };
    format!(
        "::{}{blank}{}::{}\n",
        severity(report),
        properties.join(","),
        escape_data(&message)
    )
}

fn severity(report: &Report<'_>) -> &'static str {
    if report.warning { "warning" } else { "error" }
}

/// The escapes of GitHub's toolkit: what would end the command, and what starts an escape.
fn escape_data(text: &str) -> String {
    let lines: Vec<_> = text.split('\n').map(visible).collect();
    lines.join("\n").replace('%', "%25").replace('\n', "%0A")
}

fn escape_property(text: &str) -> String {
    escape_data(text).replace(':', "%3A").replace(',', "%2C")
}

fn place<'a>(excerpt: &Excerpt<'a>, span: std::ops::Range<usize>) -> Place<'a> {
    place_of(excerpt, &span)
}

fn place_of<'a>(excerpt: &Excerpt<'a>, span: &std::ops::Range<usize>) -> Place<'a> {
    let source = excerpt.source;
    let start = source.floor_char_boundary(span.start);
    let end = source.ceil_char_boundary(span.end).max(start);
    // The line feed that ends an instruction belongs to its last line.
    let inner = source[start..end].trim_end_matches(['\r', '\n']);
    Place {
        file: excerpt.name,
        start: position(source, start),
        end: position(source, start + inner.len()),
    }
}

fn position(source: &str, offset: usize) -> Position {
    let before = &source[..offset];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    Position {
        line: 1 + before.matches('\n').count(),
        column: 1 + before[line_start..].chars().count(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::report::FailedStep;

    fn report<'a>() -> Report<'a> {
        Report {
            title: "100% wrong: a,b\nreally".to_owned(),
            excerpt: Some(Excerpt {
                name: "dir,x/Docker:file",
                source: "FROM a\nRÜN b c\n",
                span: 7..11,
            }),
            related: vec![(5..6, "of this stage".to_owned())],
            causes: vec!["it is odd".to_owned()],
            help: Some("write RUN".to_owned()),
            code: Some("Dockerfile"),
            ..Report::default()
        }
    }

    #[test]
    fn a_json_message_has_its_places_in_characters() {
        let text = json(&report());
        assert_eq!(text.lines().count(), 1);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            value,
            serde_json::json!({
                "severity": "error", "code": "Dockerfile",
                "message": "100% wrong: a,b\nreally",
                "file": "dir,x/Docker:file", "line": 2, "column": 1,
                "end": {"line": 2, "column": 4},
                "causes": ["it is odd"], "help": "write RUN",
                "related": [{
                    "file": "dir,x/Docker:file", "line": 1, "column": 6,
                    "end": {"line": 1, "column": 7}, "message": "of this stage"
                }]
            })
        );
    }

    #[test]
    fn a_message_without_a_place_has_no_place() {
        let bare = Report {
            title: "no".to_owned(),
            warning: true,
            failed_step: Some(FailedStep {
                name: "[1/1] RUN x".to_owned(),
                log: vec!["a".to_owned()],
            }),
            ..Report::default()
        };
        assert_eq!(
            json(&bare),
            "{\"severity\":\"warning\",\"code\":null,\"message\":\"no\",\"step\":\"[1/1] RUN \
             x\",\"log\":[\"a\"]}\n"
        );
        assert_eq!(github(&bare), "::warning::no\n");
    }

    #[test]
    fn a_workflow_command_cannot_be_ended_from_inside() {
        assert_eq!(
            github(&report()),
            "::error file=dir%2Cx/Docker%3Afile,line=2,col=1,endLine=2,endColumn=4,\
             title=Dockerfile::100%25 wrong: a,b%0Areally%0Acaused by: it is odd%0Ahelp: write \
             RUN\n"
        );
    }
}
