//! `--check` and `--call`: a Dockerfile is looked at, and what is found printed as BuildKit prints it.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::Exit;
use super::failure::{self, of_diagnostic};
use super::machine::ErrorFormat;
use super::report::{self, Excerpt, Report};
use crate::build::DockerfileText;
use crate::build::inspect::{self, Inspection};
use crate::build::log_lines::visible;
use crate::build::request::Request;
use crate::check::outline::{Entry, Outline};
use crate::check::{Checked, Finding};
use crate::dockerfile::{Diagnostic, Span};

/// What `--call` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    Check,
    Outline,
    Targets,
}

/// `--call`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Call {
    /// `None` builds.
    pub(super) question: Option<Question>,
    json: bool,
}

impl Call {
    pub(super) const BUILD: Self = Self {
        question: None,
        json: false,
    };
    pub(super) const CHECK: Self = Self {
        question: Some(Question::Check),
        json: false,
    };

    /// Parses `build|check|outline|targets[,format=json|text]`, with the names that the frontend
    /// gives them as well.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut fields = text.split(',');
        let question = match fields.next().unwrap_or_default() {
            "build" => None,
            "check" | "lint" | "frontend.lint" => Some(Question::Check),
            "outline" | "frontend.outline" => Some(Question::Outline),
            "targets" | "frontend.targets" => Some(Question::Targets),
            other => {
                return Err(format!(
                    "{other:?} is not known (build, check, outline, targets)"
                ));
            }
        };
        let mut call = Self {
            question,
            json: false,
        };
        for field in fields {
            match field {
                "format=json" => call.json = true,
                "format=text" => call.json = false,
                other => return Err(format!("{other:?} is not known (format=json, format=text)")),
            }
        }
        Ok(call)
    }
}

/// Answers `question` about the Dockerfile of `request`. Nothing is built or fetched.
pub(super) fn answer(
    question: Question,
    call: Call,
    request: &Request,
    format: ErrorFormat,
) -> Exit {
    let inspection = match inspect::inspect(request) {
        Ok(inspection) => inspection,
        Err(failure) => return failure::report(&failure, None),
    };
    match question {
        Question::Check => {
            let exit = match inspection.check(request) {
                Ok(checked) => print_check(&inspection, &checked, call.json, format),
                Err(diagnostic) => {
                    print_errors(&inspection.text, std::slice::from_ref(&diagnostic));
                    Exit::Failed
                }
            };
            print_errors(&inspection.text, &inspection.refused);
            if inspection.refused.is_empty() {
                exit
            } else {
                Exit::Failed
            }
        }
        Question::Outline => match inspection.outline(request) {
            Some(outline) => print_outline(&inspection, &outline, call.json),
            None => {
                print_errors(&inspection.text, &inspection.refused);
                Exit::Failed
            }
        },
        Question::Targets => print_targets(&inspection, request, call.json),
    }
}

fn print_errors(text: &DockerfileText, errors: &[Diagnostic]) {
    for error in errors {
        let excerpt = excerpt(text, error.span);
        report::print(&of_diagnostic(error, Some(excerpt)));
    }
}

fn excerpt(text: &DockerfileText, span: Span) -> Excerpt<'_> {
    Excerpt {
        name: &text.name,
        source: &text.text,
        span: span.start..span.end,
    }
}

/// That standard output is closed is the only failure that is left.
fn print(text: &str) -> Exit {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) => Exit::Success,
        Err(_) => Exit::Failed,
    }
}

/// Findings end with exit code 1, as with docker's `--check`, although they fail no build.
fn print_check(
    inspection: &Inspection,
    checked: &Checked,
    as_json: bool,
    format: ErrorFormat,
) -> Exit {
    let violation = checked.violation();
    let found = !checked.findings.is_empty();
    let printed = if as_json {
        print(&check_json(inspection, checked, violation.as_deref()))
    } else if !found && !inspection.refused.is_empty() {
        // The errors that follow are the answer.
        Exit::Failed
    } else if format == ErrorFormat::Human {
        print(&check_text(&inspection.text, &checked.findings))
    } else {
        print_findings(&inspection.text, &checked.findings);
        Exit::Success
    };
    if let Some(message) = violation {
        report::print(&Report {
            title: message,
            code: Some("Checks"),
            ..Report::default()
        });
    }
    if found { Exit::Failed } else { printed }
}

fn check_text(text: &DockerfileText, findings: &[Finding]) -> String {
    let mut out = match findings.len() {
        0 => return "Check complete, no warnings found.\n".to_owned(),
        1 => "Check complete, 1 warning has been found!\n".to_owned(),
        count => format!("Check complete, {count} warnings have been found!\n"),
    };
    for finding in findings {
        out.push_str(&format!("\nWARNING: {}", finding.rule.name));
        if let Some(url) = finding.rule.url() {
            out.push_str(&format!(" - {url}"));
        }
        out.push_str(&format!("\n{}\n", visible(&finding.diagnostic.message)));
        push_excerpt(&mut out, text, finding.lines);
        for (span, why) in &finding.diagnostic.related {
            let line = 1 + text.text[..span.start].matches('\n').count();
            out.push_str(&format!("note: line {line}: {}\n", visible(why)));
        }
        if let Some(help) = &finding.diagnostic.help {
            out.push_str(&format!("help: {}\n", visible(help)));
        }
    }
    out
}

/// The lines of an instruction and some around them: as many as BuildKit shows, which are more for one
/// line than for several, and more on one side when the other has none.
fn push_excerpt(out: &mut String, text: &DockerfileText, (first, last): (usize, usize)) {
    let lines: Vec<&str> = text.text.split('\n').collect();
    let last = last.min(lines.len());
    let (mut from, mut to) = (first, last);
    let wanted = if first == last { 4 } else { 2 };
    let mut added = 0;
    while added < wanted {
        if from > 1 {
            from -= 1;
            added += 1;
        }
        if to < lines.len() {
            to += 1;
            added += 1;
        }
        added += 1;
    }
    out.push_str(&format!(
        "{}:{first}\n--------------------\n",
        visible(&text.name)
    ));
    for (index, line) in lines.iter().enumerate().take(to).skip(from - 1) {
        let number = index + 1;
        let mark = if (first..=last).contains(&number) {
            ">>>"
        } else {
            "   "
        };
        let line = visible(line.trim_end_matches('\r'));
        out.push_str(&format!(" {number:3} | {mark} {line}\n"));
    }
    out.push_str("--------------------\n");
}

/// Shows what was found while something was built: on standard error, in BuildKit's words.
pub(super) fn print_warnings(text: &DockerfileText, findings: &[Finding], format: ErrorFormat) {
    if format != ErrorFormat::Human {
        return print_findings(text, findings);
    }
    let mut out = match findings.len() {
        0 => return,
        1 => "\n 1 warning found (--check shows more):\n".to_owned(),
        count => format!("\n {count} warnings found (--check shows more):\n"),
    };
    for finding in findings {
        out.push_str(&format!(
            " - {}: {} (line {})\n",
            finding.rule.name,
            visible(&finding.diagnostic.message),
            finding.lines.0
        ));
    }
    // That standard error is closed leaves nobody to tell.
    drop(std::io::stderr().lock().write_all(out.as_bytes()));
}

/// Every finding as a warning with its excerpt.
pub(super) fn print_findings(text: &DockerfileText, findings: &[Finding]) {
    for finding in findings {
        let diagnostic = &finding.diagnostic;
        report::print(&Report {
            warning: true,
            code: Some(finding.rule.name),
            ..of_diagnostic(diagnostic, Some(excerpt(text, diagnostic.span)))
        });
    }
}

/// `pb.Location`: lines alone, as BuildKit's parser knows no columns.
fn location((first, last): (usize, usize)) -> Value {
    json!({"ranges": [{"start": {"line": first}, "end": {"line": last}}]})
}

fn pretty(value: &Value) -> String {
    let mut text = serde_json::to_string_pretty(value).expect("a JSON value can be written");
    text.push('\n');
    text
}

/// `lint.LintResults` of BuildKit.
fn check_json(inspection: &Inspection, checked: &Checked, violation: Option<&str>) -> String {
    let warnings: Vec<Value> = checked
        .findings
        .iter()
        .map(|finding| {
            let mut warning = serde_json::Map::new();
            let mut set = |key: &str, value| warning.insert(key.to_owned(), value);
            set("ruleName", finding.rule.name.into());
            set("description", finding.rule.description.into());
            if let Some(url) = finding.rule.url() {
                set("url", url.into());
            }
            set("detail", finding.diagnostic.message.as_str().into());
            set("location", location(finding.lines));
            warning.into()
        })
        .collect();
    let text = &inspection.text;
    let mut result = json!({
        "warnings": warnings,
        "sources": [{
            "filename": text.name,
            "language": "Dockerfile",
            "data": STANDARD.encode(&text.text),
        }],
    });
    let refused = inspection.refused.first();
    let error = match (refused, violation) {
        (Some(refused), _) => {
            let line = 1 + text.text[..refused.span.start].matches('\n').count();
            Some(json!({"message": refused.message, "location": location((line, line))}))
        }
        (None, Some(message)) => Some(json!({"message": message, "location": {}})),
        (None, None) => None,
    };
    if let Some(error) = error {
        result["buildError"] = error;
    }
    pretty(&result)
}

/// Adds `key` unless it is empty, as Go's `omitempty` does.
fn set_text(map: &mut serde_json::Map<String, Value>, key: &str, value: &str) {
    if !value.is_empty() {
        map.insert(key.to_owned(), value.into());
    }
}

fn entries(list: &[Entry], name: &str) -> Vec<Value> {
    list.iter()
        .map(|entry| {
            let mut map = serde_json::Map::new();
            map.insert(name.to_owned(), entry.name.as_str().into());
            set_text(&mut map, "description", &entry.description);
            set_text(&mut map, "value", &entry.value);
            if entry.required {
                map.insert("required".to_owned(), true.into());
            }
            map.insert("location".to_owned(), location(entry.lines));
            map.into()
        })
        .collect()
}

/// `outline.Outline` of BuildKit, as JSON or as its table.
fn print_outline(inspection: &Inspection, outline: &Outline, as_json: bool) -> Exit {
    if as_json {
        let mut map = serde_json::Map::new();
        set_text(&mut map, "name", &outline.name);
        set_text(&mut map, "description", &outline.description);
        for (key, list, name) in [
            ("args", &outline.args, "name"),
            ("secrets", &outline.secrets, "name"),
            ("ssh", &outline.ssh, "name"),
            ("cache", &outline.cache, "ID"),
        ] {
            if !list.is_empty() {
                map.insert(key.to_owned(), entries(list, name).into());
            }
        }
        let source = STANDARD.encode(&inspection.text.text);
        map.insert("sources".to_owned(), json!([source]));
        return print(&pretty(&map.into()));
    }
    let mut out = String::new();
    if !outline.name.is_empty() || !outline.description.is_empty() {
        let mut rows = vec![vec!["TARGET:", &outline.name]];
        if !outline.description.is_empty() {
            rows.push(vec!["DESCRIPTION:", &outline.description]);
        }
        push_table(&mut out, 1, &rows);
        out.push('\n');
    }
    let required = |entry: &Entry| if entry.required { "true" } else { "" };
    if !outline.args.is_empty() {
        let mut rows = vec![vec!["BUILD ARG", "VALUE", "DESCRIPTION"]];
        let args = outline.args.iter();
        rows.extend(args.map(|arg| vec![arg.name.as_str(), &arg.value, &arg.description]));
        push_table(&mut out, 3, &rows);
        out.push('\n');
    }
    for (title, list) in [("SECRET", &outline.secrets), ("SSH", &outline.ssh)] {
        if !list.is_empty() {
            let mut rows = vec![vec![title, "REQUIRED"]];
            rows.extend(
                list.iter()
                    .map(|entry| vec![entry.name.as_str(), required(entry)]),
            );
            push_table(&mut out, 3, &rows);
            out.push('\n');
        }
    }
    print(&out)
}

/// `targets.List` of BuildKit, as JSON or as its table.
fn print_targets(inspection: &Inspection, request: &Request, as_json: bool) -> Exit {
    let targets = inspection.targets(request);
    if as_json {
        let list: Vec<Value> = targets
            .iter()
            .map(|target| {
                let mut map = serde_json::Map::new();
                set_text(&mut map, "name", &target.name);
                if target.default {
                    map.insert("default".to_owned(), true.into());
                }
                set_text(&mut map, "description", &target.description);
                set_text(&mut map, "base", &target.base);
                set_text(&mut map, "platform", &target.platform);
                map.insert("location".to_owned(), location(target.lines));
                map.into()
            })
            .collect();
        let source = STANDARD.encode(&inspection.text.text);
        return print(&pretty(&json!({"targets": list, "sources": [source]})));
    }
    let names: Vec<String> = targets
        .iter()
        .map(|target| match (target.name.is_empty(), target.default) {
            (true, true) => "(default)".to_owned(),
            (false, true) => format!("{} (default)", target.name),
            (_, false) => target.name.clone(),
        })
        .collect();
    let mut rows = vec![vec!["TARGET", "DESCRIPTION"]];
    let described = names.iter().zip(&targets);
    rows.extend(described.map(|(name, target)| vec![name.as_str(), &target.description]));
    let mut out = String::new();
    push_table(&mut out, 1, &rows);
    print(&out)
}

/// Columns as wide as their widest cell and `gap` blanks; the last one is not filled up.
fn push_table(out: &mut String, gap: usize, rows: &[Vec<&str>]) {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        let cells = rows.iter().map(|row| visible(row[column]).chars().count());
        cells.max().unwrap_or(0) + gap
    };
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            let cell = visible(cell);
            let fill = if column + 1 < columns {
                width(column).saturating_sub(cell.chars().count())
            } else {
                0
            };
            out.push_str(&cell);
            out.push_str(&" ".repeat(fill));
        }
        out.push('\n');
    }
}
