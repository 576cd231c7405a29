//! Rows as docker prints them: a table, JSON lines, or a template for each.

use serde_json::{Map, Value};

use super::template::{Template, TemplateError};
use crate::build::log_lines::visible;

/// Narrower columns, and the space after each (docker's tabwriter).
const NARROWEST: usize = 10;
const PADDING: usize = 3;

/// How rows are printed.
#[derive(Debug, Clone)]
pub(super) enum Format {
    /// The template of a line, and whether the headings come before.
    Lines {
        template: Template,
        heading: bool,
    },
    Json,
}

impl Format {
    /// Parses `--format`. `table` alone, or none, is `default`: a template whose fields are separated
    /// by tabs.
    pub(super) fn parse(text: Option<&str>, default: &str) -> Result<Self, TemplateError> {
        let table = |text: &str| {
            Ok(Self::Lines {
                template: Template::parse(text)?,
                heading: true,
            })
        };
        match text {
            None | Some("table" | "") => table(default),
            Some("json") => Ok(Self::Json),
            Some(text) => match text.strip_prefix("table ") {
                Some(rest) => table(rest),
                None => Ok(Self::Lines {
                    template: Template::parse(text)?,
                    heading: false,
                }),
            },
        }
    }

    /// Every row on a line. `headings` has the names of the columns by those of the fields.
    pub(super) fn print(
        &self,
        headings: &[(&str, &str)],
        rows: &[Value],
    ) -> Result<String, TemplateError> {
        match self {
            Self::Json => Ok(rows.iter().map(|row| format!("{row}\n")).collect()),
            Self::Lines { template, heading } => {
                let mut lines = Vec::new();
                if *heading {
                    let names: Map<String, Value> = headings
                        .iter()
                        .map(|(field, name)| ((*field).to_owned(), Value::from(*name)))
                        .collect();
                    lines.push(template.render(&Value::Object(names))?);
                }
                for row in rows {
                    lines.push(template.render(row)?);
                }
                // A table is for people: what an image says must not steer their terminal. Programs
                // get what it says.
                if *heading {
                    return Ok(align(&lines));
                }
                Ok(lines.iter().map(|line| format!("{line}\n")).collect())
            }
        }
    }
}

/// Pads what stands before each tab to the widest of its column.
pub(super) fn align(lines: &[String]) -> String {
    use unicode_width::UnicodeWidthStr as _;
    let lines: Vec<String> = lines
        .iter()
        .map(|line| {
            let cells: Vec<_> = line.split('\t').map(visible).collect();
            cells.join("\t")
        })
        .collect();
    let mut widths: Vec<usize> = Vec::new();
    for line in &lines {
        let cells: Vec<&str> = line.split('\t').collect();
        for (at, cell) in cells[..cells.len() - 1].iter().enumerate() {
            if widths.len() == at {
                widths.push(NARROWEST);
            }
            widths[at] = widths[at].max(cell.width() + PADDING);
        }
    }
    let mut text = String::new();
    for line in &lines {
        let cells: Vec<&str> = line.split('\t').collect();
        for (at, cell) in cells.iter().enumerate() {
            text.push_str(cell);
            if at + 1 < cells.len() {
                let padding = widths[at] - cell.width();
                text.extend(std::iter::repeat_n(' ', padding));
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_table_has_padded_columns_under_headings() {
        let headings = [("Name", "REPOSITORY"), ("Tag", "TAG"), ("Size", "SIZE")];
        let rows = [
            json!({"Name": "app", "Tag": "latest", "Size": "1.2MB"}),
            json!({"Name": "a/long/name", "Tag": "1", "Size": "3B"}),
        ];
        let printed = |format: Option<&str>| {
            let format = Format::parse(format, "{{.Name}}\t{{.Tag}}\t{{.Size}}").unwrap();
            format.print(&headings, &rows).unwrap()
        };
        let table = "REPOSITORY    TAG       SIZE\napp           latest    1.2MB\na/long/name   1         3B\n";
        assert_eq!(printed(None), table);
        assert_eq!(printed(Some("table")), table);
        assert_eq!(
            printed(Some("table {{.Tag}}\\t{{.Name}}")),
            "TAG       REPOSITORY\nlatest    app\n1         a/long/name\n"
        );
        assert_eq!(
            printed(Some("{{.Name}}:{{.Tag}}")),
            "app:latest\na/long/name:1\n"
        );
        assert_eq!(
            printed(Some("json")).lines().next(),
            Some(r#"{"Name":"app","Size":"1.2MB","Tag":"latest"}"#)
        );
        let evil = [json!({"Name": "a\u{1b}[2Jb"})];
        let format = Format::parse(None, "{{.Name}}").unwrap();
        assert!(!format.print(&headings, &evil).unwrap().contains('\u{1b}'));
        let format = Format::parse(Some("{{.Nope}}"), "").unwrap();
        assert!(format.print(&headings, &rows).is_err());
    }
}
