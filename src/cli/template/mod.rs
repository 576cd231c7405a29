//! `--format`: the part of Go's text/template that scripts use with docker.
//!
//! `{{.A.B}}`, `{{json .A}}`, `{{index .A 0 "k"}}`, `{{len .A}}`, `{{join .A ","}}`, `{{lower .A}}`,
//! `{{upper .A}}`, `{{.A | json}}`, `{{$.A}}`, `{{range .A}}..{{else}}..{{end}}`,
//! `{{range $k, $v := .A}}`, `{{if .A}}..{{else if .B}}..{{else}}..{{end}}`, `{{- .A -}}`, comments,
//! parentheses, and the escapes `\t` and `\n` outside of actions. Anything else is refused by name.

mod evaluate;
mod parse;
#[cfg(test)]
mod tests;

use serde_json::Value;

/// A parsed template.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::cli) struct Template(Vec<Node>);

#[derive(Debug, Clone, PartialEq)]
enum Node {
    Text(String),
    Print(Expression),
    If(Expression, Vec<Self>, Vec<Self>),
    Range {
        /// `$k, $v`, or `$v` alone.
        variables: Vec<String>,
        over: Expression,
        body: Vec<Self>,
        otherwise: Vec<Self>,
    },
}

#[derive(Debug, Clone, PartialEq)]
enum Expression {
    /// Fields of the current value, of the whole (`$`), or of a variable.
    Path(Root, Vec<String>),
    Literal(Value),
    Call(Function, Vec<Self>),
}

#[derive(Debug, Clone, PartialEq)]
enum Root {
    Dot,
    Whole,
    Variable(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Function {
    Json,
    Index,
    Len,
    Join,
    Lower,
    Upper,
    Not,
}

/// Why a template cannot be used, or not on this value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::cli) enum TemplateError {
    #[error("the template has a {{{{ without its }}}}")]
    Unclosed,
    #[error("{0:?} is not supported in a template")]
    Unsupported(String),
    #[error("the template has an {{{{end}}}} or {{{{else}}}} too many")]
    UnexpectedEnd,
    #[error("the template lacks an {{{{end}}}}")]
    MissingEnd,
    #[error("there is no field {0:?}")]
    NoField(String),
    #[error("{0} cannot be used on {1}")]
    Kind(&'static str, String),
}

impl Template {
    pub(in crate::cli) fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut parts = parse::split(text)?.into_iter().peekable();
        let (nodes, end) = parse::nodes(&mut parts)?;
        match end {
            parse::Stop::Input => Ok(Self(nodes)),
            parse::Stop::End | parse::Stop::Else(_) => Err(TemplateError::UnexpectedEnd),
        }
    }

    pub(in crate::cli) fn render(&self, value: &Value) -> Result<String, TemplateError> {
        let mut out = String::new();
        evaluate::render(&self.0, &evaluate::Scope::of(value), &mut out)?;
        Ok(out)
    }
}
