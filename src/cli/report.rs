//! The one message with which rbuild says what went wrong.
//!
//! Callers fill in plain data; this room decides how it looks. Everything in a [`Report`] may come
//! from a Dockerfile, a registry or a build, so no control character of it reaches the output.

use std::error::Error;
use std::ops::Range;
use std::sync::OnceLock;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use super::machine::{self, ErrorFormat};
use crate::build::log_lines::{acts_on_terminal, visible};
use crate::progress::{colour_on_stderr, width_of_stderr};

/// Lines of the file shown around those of a failed step, as BuildKit does for long instructions.
const CONTEXT_LINES: usize = 2;
const RULE: &str = "--------------------";
const LOG_RULE: &str = "------";

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
    /// For programs: the rule of a warning, or what kind of thing failed.
    pub(crate) code: Option<&'static str>,
}

/// Words `report` for a terminal of `width` columns. The text ends with a line feed.
pub(crate) fn render(report: &Report<'_>, colour: bool, width: usize) -> String {
    match (&report.excerpt, &report.failed_step) {
        (Some(excerpt), None) => render_underlined(report, excerpt, colour, width),
        _ => render_marked(report, colour),
    }
}

/// Chosen once, before the first message.
static FORMAT: OnceLock<ErrorFormat> = OnceLock::new();

/// Makes every later message of this process come in `format`; the first choice stays.
pub(crate) fn choose_format(format: ErrorFormat) {
    FORMAT.get_or_init(|| format);
}

/// Renders `report` for standard error, in the format that was chosen, and writes it there.
pub(crate) fn print(report: &Report<'_>) {
    let text = match FORMAT.get().copied().unwrap_or_default() {
        ErrorFormat::Human => render(report, colour_on_stderr(), width_of_stderr()),
        ErrorFormat::Json => machine::json(report),
        ErrorFormat::Github => machine::github(report),
    };
    // That standard error is closed leaves nobody to tell.
    drop(std::io::Write::write_all(
        &mut std::io::stderr().lock(),
        text.as_bytes(),
    ));
}

/// Prints what is good to know and no reason to worry, on one line.
pub(crate) fn note(message: &str) {
    let text = match FORMAT.get().copied().unwrap_or_default() {
        ErrorFormat::Human => format!("note: {}\n", visible(message)),
        ErrorFormat::Json | ErrorFormat::Github => {
            return print(&Report {
                title: message.to_owned(),
                warning: true,
                ..Report::default()
            });
        }
    };
    drop(std::io::Write::write_all(
        &mut std::io::stderr().lock(),
        text.as_bytes(),
    ));
}

/// Prints an error that has nothing but a message.
pub(crate) fn print_error(message: &str) {
    print(&Report {
        title: message.to_owned(),
        ..Report::default()
    });
}

/// `error` and every error below it on one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    std::iter::once(error.to_string())
        .chain(causes_of(error))
        .collect::<Vec<_>>()
        .join(": ")
}

/// What every error below `error` says, nearest first, `error` itself left out.
pub(crate) fn causes_of(error: &dyn Error) -> Vec<String> {
    std::iter::successors(error.source(), |&cause| cause.source())
        .map(ToString::to_string)
        .collect()
}

/// The excerpt with the exact place underlined, as compilers show it.
fn render_underlined(
    report: &Report<'_>,
    excerpt: &Excerpt<'_>,
    colour: bool,
    width: usize,
) -> String {
    let source = harmless_source(excerpt.source);
    let mut primary = AnnotationKind::Primary.span(inside(&source, &excerpt.span));
    if let Some(label) = &report.label {
        primary = primary.label(visible_lines(label));
    }
    let related = report.related.iter().map(|(span, text)| {
        AnnotationKind::Context
            .span(inside(&source, span))
            .label(visible_lines(text))
    });
    let snippet = Snippet::source(source.as_str())
        .path(visible(excerpt.name).into_owned())
        .annotation(primary)
        .annotations(related);
    let level = if report.warning {
        Level::WARNING
    } else {
        Level::ERROR
    };
    let mut group: Group<'_> = level
        .primary_title(visible_lines(&report.title))
        .element(snippet);
    for cause in &report.causes {
        group = group.element(
            Level::NOTE
                .with_name("caused by")
                .message(visible_lines(cause)),
        );
    }
    if let Some(help) = &report.help {
        group = group.element(Level::HELP.message(visible_lines(help)));
    }
    let renderer = if colour {
        Renderer::styled()
    } else {
        Renderer::plain()
    };
    let mut text = renderer.term_width(width).render(&[group]);
    text.push('\n');
    text
}

/// The log of the step, its lines in the file, and the message last, where the user looks first.
fn render_marked(report: &Report<'_>, colour: bool) -> String {
    let mut text = String::new();
    if let Some(step) = &report.failed_step {
        push_log(&mut text, step);
    }
    if let Some(excerpt) = &report.excerpt {
        push_marked_lines(&mut text, excerpt, colour);
    }
    let (kind, tint) = if report.warning {
        ("warning", "1;33")
    } else {
        ("error", "1;31")
    };
    let mut push = |kind: &str, tint: &str, message: &str| {
        text.push_str(&tinted(&format!("{kind}:"), tint, colour));
        text.push(' ');
        text.push_str(&visible_lines(message));
        text.push('\n');
    };
    push(kind, tint, &report.title);
    for cause in &report.causes {
        push("caused by", "1", cause);
    }
    if let Some(help) = &report.help {
        push("help", "1;36", help);
    }
    text
}

fn push_log(text: &mut String, step: &FailedStep) {
    if step.log.is_empty() {
        return;
    }
    text.push_str(&format!("{LOG_RULE}\n > {}:\n", visible(&step.name)));
    for line in &step.log {
        text.push_str(&visible(line));
        text.push('\n');
    }
    text.push_str(LOG_RULE);
    text.push('\n');
}

fn push_marked_lines(text: &mut String, excerpt: &Excerpt<'_>, colour: bool) {
    let span = inside(excerpt.source, &excerpt.span);
    let line_of = |offset: usize| excerpt.source[..offset].matches('\n').count();
    let first = line_of(span.start);
    // The line feed that ends an instruction belongs to its last line.
    let inner = excerpt.source[span.clone()].trim_end_matches(['\r', '\n']);
    let last = line_of(span.start + inner.len());
    text.push_str(&format!(
        "{}:{}\n{RULE}\n",
        visible(excerpt.name),
        first + 1
    ));
    let from = first.saturating_sub(CONTEXT_LINES);
    let shown = excerpt.source.lines().enumerate().skip(from);
    for (index, line) in shown.take(last + CONTEXT_LINES + 1 - from) {
        let mark = if (first..=last).contains(&index) {
            tinted(">>>", "1;31", colour)
        } else {
            "   ".to_owned()
        };
        text.push_str(&format!("{:4} | {mark} {}\n", index + 1, visible(line)));
    }
    text.push_str(RULE);
    text.push('\n');
}

fn tinted(text: &str, code: &str, colour: bool) -> String {
    if colour {
        format!("\x1b[{code}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

/// [`visible`], line by line.
fn visible_lines(text: &str) -> String {
    let lines: Vec<_> = text.trim_end().split('\n').map(visible).collect();
    lines.join("\n")
}

/// `source` with characters that act on a terminal replaced by others of the same length, which keeps
/// spans valid. Those of ASCII stay: annotate-snippets draws pictures for them.
fn harmless_source(source: &str) -> String {
    let harmless = |c: char| match c.len_utf8() {
        2 if acts_on_terminal(c) => '\u{b7}',
        3 if acts_on_terminal(c) => '\u{fffd}',
        _ => c,
    };
    source.chars().map(harmless).collect()
}

/// `span` as far as it lies inside `source`, on whole characters.
fn inside(source: &str, span: &Range<usize>) -> Range<usize> {
    let start = source.floor_char_boundary(span.start);
    let end = source.ceil_char_boundary(span.end);
    start..end.max(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "FROM alpine\nARG foo=1\nCOPY . .\n\nRUN make \\\n  all\n\nCMD x\n";

    fn excerpt_of<'a>(source: &'a str, part: &str) -> Excerpt<'a> {
        let start = source.find(part).unwrap();
        Excerpt {
            name: "Dockerfile",
            source,
            span: start..start + part.len(),
        }
    }

    #[test]
    fn a_diagnostic_underlines_its_place() {
        let report = Report {
            title: "unknown instruction: COPPY".to_owned(),
            excerpt: Some(excerpt_of("FROM alpine\nCOPPY a b\n", "COPPY")),
            label: Some("not an instruction".to_owned()),
            related: vec![(5..11, "of this stage".to_owned())],
            causes: vec!["the file is odd".to_owned()],
            help: Some("did you mean COPY?".to_owned()),
            ..Report::default()
        };
        assert_eq!(
            render(&report, false, 80),
            "\
error: unknown instruction: COPPY
 --> Dockerfile:2:1
  |
1 | FROM alpine
  |      ------ of this stage
2 | COPPY a b
  | ^^^^^ not an instruction
  |
  = caused by: the file is odd
  = help: did you mean COPY?
"
        );
        assert!(render(&report, true, 80).contains("\x1b["));
    }

    #[test]
    fn a_failed_step_shows_its_log_and_lines() {
        let title = "process \"/bin/sh -c make all\" did not complete successfully: exit code: 2";
        let report = Report {
            title: title.to_owned(),
            excerpt: Some(excerpt_of(SOURCE, "RUN make \\\n  all\n")),
            failed_step: Some(FailedStep {
                name: "[stage-0 3/3] RUN make   all".to_owned(),
                log: vec!["0.412 make: *** no rule\u{1b}[2J".to_owned()],
            }),
            causes: vec!["a\nb".to_owned()],
            help: Some("install make".to_owned()),
            ..Report::default()
        };
        let expected = format!(
            "\
------
 > [stage-0 3/3] RUN make   all:
0.412 make: *** no rule\\x1b[2J
------
Dockerfile:5
{RULE}
   3 |     COPY . .
   4 |     {}
   5 | >>> RUN make \\
   6 | >>>   all
   7 |     {}
   8 |     CMD x
{RULE}
error: {title}
caused by: a
b
help: install make
",
            "", ""
        );
        assert_eq!(render(&report, false, 80), expected);
        let coloured = render(&report, true, 80);
        assert!(coloured.contains("\x1b[1;31merror:\x1b[0m process"));
    }

    #[test]
    fn a_step_without_log_has_no_log_block() {
        let report = Report {
            title: "x".to_owned(),
            failed_step: Some(FailedStep::default()),
            warning: true,
            ..Report::default()
        };
        assert_eq!(render(&report, false, 80), "warning: x\n");
    }

    #[test]
    fn nothing_from_outside_acts_on_the_terminal() {
        let source = "FROM a\u{1b}[2J\u{9b}2J\u{202e}\u{200e}\nRUN \r\u{7}\n";
        for failed_step in [None, Some(FailedStep::default())] {
            let report = Report {
                title: "t\u{1b}[2J\u{7}".to_owned(),
                excerpt: Some(Excerpt {
                    name: "D\u{1b}c",
                    source,
                    span: 0..source.len(),
                }),
                label: Some("l\u{1b}\nm".to_owned()),
                related: vec![(5..9, "r\u{9b}".to_owned())],
                causes: vec!["c\u{1b}".to_owned()],
                help: Some("h\u{1b}".to_owned()),
                failed_step,
                ..Report::default()
            };
            let text = render(&report, false, 80);
            let acting: Vec<char> = text
                .chars()
                .filter(|c| *c != '\n' && acts_on_terminal(*c))
                .collect();
            assert!(acting.is_empty(), "{acting:?} in {text}");
        }
    }

    #[test]
    fn a_span_outside_of_the_source_is_cut_off() {
        for source in ["", "\n", "RUN ü", SOURCE] {
            for (start, end) in [(0, 0), (0, 999), (999, 1000), (5, 5), (6, 2), (4, 5)] {
                for failed_step in [None, Some(FailedStep::default())] {
                    let report = Report {
                        title: "t".to_owned(),
                        excerpt: Some(Excerpt {
                            name: "Dockerfile",
                            source,
                            span: start..end,
                        }),
                        related: vec![(start..end, "here".to_owned())],
                        failed_step,
                        ..Report::default()
                    };
                    assert!(render(&report, true, 20).contains('t'));
                }
            }
        }
    }

    #[test]
    fn causes_are_listed_nearest_first() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] std::num::ParseIntError);
        let inner = "x".parse::<u8>().unwrap_err();
        assert_eq!(causes_of(&inner), Vec::<String>::new());
        assert_eq!(causes_of(&Outer(inner)), ["invalid digit found in string"]);
    }
}
