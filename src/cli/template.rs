//! `--format`: the part of Go's text/template that scripts use with docker.
//!
//! `{{.A.B}}`, `{{json .A}}`, `{{index .A 0 "k"}}`, `{{len .A}}`, `{{join .A ","}}`, `{{lower .A}}`,
//! `{{upper .A}}`, `{{.A | json}}`, `{{$.A}}`, `{{range .A}}..{{else}}..{{end}}`,
//! `{{range $k, $v := .A}}`, `{{if .A}}..{{else if .B}}..{{else}}..{{end}}`, `{{- .A -}}`, comments,
//! parentheses, and the escapes `\t` and `\n` outside of actions. Anything else is refused by name.

use serde_json::Value;

/// A parsed template.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Template(Vec<Node>);

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
pub(super) enum TemplateError {
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

/// How the actions of a template nest.
enum Stop {
    Input,
    End,
    /// `{{else}}`, or `{{else if}}` with its condition.
    Else(Option<String>),
}

impl Template {
    pub(super) fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut parts = split(text)?.into_iter().peekable();
        let (nodes, end) = nodes(&mut parts)?;
        match end {
            Stop::Input => Ok(Self(nodes)),
            Stop::End | Stop::Else(_) => Err(TemplateError::UnexpectedEnd),
        }
    }

    pub(super) fn render(&self, value: &Value) -> Result<String, TemplateError> {
        let mut out = String::new();
        let scope = Scope {
            whole: value,
            dot: value,
            variables: Vec::new(),
        };
        render(&self.0, &scope, &mut out)?;
        Ok(out)
    }
}

/// A piece of the text: literal, or the inside of an action.
enum Part {
    Text(String),
    Action(String),
}

type Parts = std::iter::Peekable<std::vec::IntoIter<Part>>;

fn split(text: &str) -> Result<Vec<Part>, TemplateError> {
    let mut parts = Vec::new();
    let mut rest = text;
    let mut trim = false;
    while !rest.is_empty() {
        let start = rest.find("{{");
        let mut literal = &rest[..start.unwrap_or(rest.len())];
        let after = start.map_or("", |start| &rest[start + 2..]);
        if trim {
            literal = literal.trim_start();
        }
        if after.starts_with("- ") {
            literal = literal.trim_end();
        }
        if !literal.is_empty() {
            parts.push(Part::Text(unescape(literal)));
        }
        if start.is_none() {
            break;
        }
        let end = close(after).ok_or(TemplateError::Unclosed)?;
        let mut action = &after[..end];
        rest = &after[end + 2..];
        trim = action.ends_with(" -");
        action = action.strip_suffix(" -").unwrap_or(action);
        action = action.strip_prefix("- ").unwrap_or(action).trim();
        if !(action.starts_with("/*") && action.ends_with("*/")) {
            parts.push(Part::Action(action.to_owned()));
        }
    }
    Ok(parts)
}

/// Where the action ends; `}}` in a string does not end it.
fn close(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some('"') if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if c == '"' || c == '`' => quote = Some(c),
            None if text[at..].starts_with("}}") => return Some(at),
            None => {}
        }
    }
    None
}

fn unescape(text: &str) -> String {
    text.replace("\\t", "\t").replace("\\n", "\n")
}

fn nodes(parts: &mut Parts) -> Result<(Vec<Node>, Stop), TemplateError> {
    let mut nodes = Vec::new();
    while let Some(part) = parts.next() {
        let action = match part {
            Part::Text(text) => {
                nodes.push(Node::Text(text));
                continue;
            }
            Part::Action(action) => action,
        };
        let (word, rest) = action
            .split_once(char::is_whitespace)
            .unwrap_or((&action, ""));
        match word {
            "end" if rest.is_empty() => return Ok((nodes, Stop::End)),
            "else" => {
                let rest = rest.trim();
                let condition = rest.strip_prefix("if ").map(str::to_owned);
                if condition.is_none() && !rest.is_empty() {
                    return Err(TemplateError::Unsupported(action.clone()));
                }
                return Ok((nodes, Stop::Else(condition)));
            }
            "if" => nodes.push(branch(rest, parts)?),
            "range" => nodes.push(range(rest, parts)?),
            "with" | "define" | "template" | "block" | "break" | "continue" => {
                return Err(TemplateError::Unsupported(word.to_owned()));
            }
            _ => nodes.push(Node::Print(expression(&action)?)),
        }
    }
    Ok((nodes, Stop::Input))
}

fn branch(condition: &str, parts: &mut Parts) -> Result<Node, TemplateError> {
    let condition = expression(condition)?;
    let (then, end) = nodes(parts)?;
    let otherwise = match end {
        Stop::End => Vec::new(),
        Stop::Else(Some(condition)) => vec![branch(&condition, parts)?],
        Stop::Else(None) => match nodes(parts)? {
            (otherwise, Stop::End) => otherwise,
            _ => return Err(TemplateError::MissingEnd),
        },
        Stop::Input => return Err(TemplateError::MissingEnd),
    };
    Ok(Node::If(condition, then, otherwise))
}

fn range(text: &str, parts: &mut Parts) -> Result<Node, TemplateError> {
    let (names, over) = text.split_once(":=").unwrap_or(("", text));
    let mut variables = Vec::new();
    for name in names.split(',').map(str::trim) {
        match name.strip_prefix('$') {
            Some(name) if !name.is_empty() => variables.push(name.to_owned()),
            _ if names.is_empty() => {}
            _ => return Err(TemplateError::Unsupported(name.to_owned())),
        }
    }
    let over = expression(over)?;
    let (body, end) = nodes(parts)?;
    let otherwise = match end {
        Stop::End => Vec::new(),
        Stop::Else(None) => match nodes(parts)? {
            (otherwise, Stop::End) => otherwise,
            _ => return Err(TemplateError::MissingEnd),
        },
        Stop::Else(Some(_)) | Stop::Input => return Err(TemplateError::MissingEnd),
    };
    Ok(Node::Range {
        variables,
        over,
        body,
        otherwise,
    })
}

fn expression(text: &str) -> Result<Expression, TemplateError> {
    let tokens = tokens(text)?;
    let mut at = 0;
    let parsed = pipeline(&tokens, &mut at)?;
    match tokens.get(at) {
        None => Ok(parsed),
        Some(token) => Err(TemplateError::Unsupported(token.clone())),
    }
}

fn tokens(text: &str) -> Result<Vec<String>, TemplateError> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let end = match first {
            '(' | ')' | '|' => 1,
            '"' | '`' => {
                let mut escaped = false;
                let close = rest[1..].char_indices().find(|(_, c)| {
                    let ends = *c == first && !escaped;
                    escaped = *c == '\\' && first == '"' && !escaped;
                    ends
                });
                close.ok_or(TemplateError::Unclosed)?.0 + 2
            }
            _ => rest
                .find(|c: char| c.is_whitespace() || matches!(c, '(' | ')' | '|' | '"' | '`'))
                .unwrap_or(rest.len()),
        };
        tokens.push(rest[..end].to_owned());
        rest = rest[end..].trim_start();
    }
    Ok(tokens)
}

/// Commands joined by `|`: the result of one is the last argument of the next.
fn pipeline(tokens: &[String], at: &mut usize) -> Result<Expression, TemplateError> {
    let mut value = command(tokens, at, None)?;
    while tokens.get(*at).is_some_and(|token| token == "|") {
        *at += 1;
        value = command(tokens, at, Some(value))?;
    }
    Ok(value)
}

fn command(
    tokens: &[String],
    at: &mut usize,
    last: Option<Expression>,
) -> Result<Expression, TemplateError> {
    let function = match tokens.get(*at).map(String::as_str) {
        Some("json") => Some(Function::Json),
        Some("index") => Some(Function::Index),
        Some("len") => Some(Function::Len),
        Some("join") => Some(Function::Join),
        Some("lower") => Some(Function::Lower),
        Some("upper") => Some(Function::Upper),
        Some("not") => Some(Function::Not),
        _ => None,
    };
    let Some(function) = function else {
        let value = operand(tokens, at)?;
        return match last {
            None => Ok(value),
            Some(_) => Err(TemplateError::Unsupported(
                "| without a function".to_owned(),
            )),
        };
    };
    let name = tokens[*at].clone();
    *at += 1;
    let mut arguments = Vec::new();
    while tokens
        .get(*at)
        .is_some_and(|token| token != ")" && token != "|")
    {
        arguments.push(operand(tokens, at)?);
    }
    arguments.extend(last);
    let fits = match function {
        Function::Index => !arguments.is_empty(),
        Function::Join => arguments.len() == 2,
        _ => arguments.len() == 1,
    };
    if fits {
        Ok(Expression::Call(function, arguments))
    } else {
        let count = arguments.len();
        Err(TemplateError::Unsupported(format!(
            "{name} with {count} arguments"
        )))
    }
}

fn operand(tokens: &[String], at: &mut usize) -> Result<Expression, TemplateError> {
    let token = tokens
        .get(*at)
        .ok_or_else(|| TemplateError::Unsupported("an empty action".to_owned()))?;
    *at += 1;
    let unsupported = || TemplateError::Unsupported(token.clone());
    match token.as_bytes()[0] {
        b'(' => {
            let inner = pipeline(tokens, at)?;
            if tokens.get(*at).is_none_or(|token| token != ")") {
                return Err(unsupported());
            }
            *at += 1;
            Ok(inner)
        }
        b'.' => path(Root::Dot, &token[1..]).ok_or_else(unsupported),
        b'$' => {
            let (name, rest) = token[1..].split_once('.').unwrap_or((&token[1..], ""));
            let root = if name.is_empty() {
                Root::Whole
            } else {
                Root::Variable(name.to_owned())
            };
            path(root, rest).ok_or_else(unsupported)
        }
        // The escapes of Go's strings that scripts use are those of JSON.
        b'"' => serde_json::from_str(token)
            .map(Expression::Literal)
            .map_err(|_| unsupported()),
        b'`' => Ok(Expression::Literal(token.trim_matches('`').into())),
        b'0'..=b'9' | b'-' => token
            .parse::<i64>()
            .map(|number| Expression::Literal(number.into()))
            .map_err(|_| unsupported()),
        _ => match token.as_str() {
            "true" => Ok(Expression::Literal(true.into())),
            "false" => Ok(Expression::Literal(false.into())),
            _ => Err(unsupported()),
        },
    }
}

fn path(root: Root, text: &str) -> Option<Expression> {
    let fields: Vec<String> = match text {
        "" => Vec::new(),
        text => text.split('.').map(str::to_owned).collect(),
    };
    let good = |field: &String| {
        !field.is_empty() && field.chars().all(|c| c.is_alphanumeric() || c == '_')
    };
    fields
        .iter()
        .all(good)
        .then_some(Expression::Path(root, fields))
}

struct Scope<'a> {
    whole: &'a Value,
    dot: &'a Value,
    variables: Vec<(&'a str, Value)>,
}

fn render(nodes: &[Node], scope: &Scope<'_>, out: &mut String) -> Result<(), TemplateError> {
    for node in nodes {
        match node {
            Node::Text(text) => out.push_str(text),
            Node::Print(expression) => print(&evaluate(expression, scope)?, out),
            Node::If(condition, then, otherwise) => {
                let chosen = if is_true(&evaluate(condition, scope)?) {
                    then
                } else {
                    otherwise
                };
                render(chosen, scope, out)?;
            }
            Node::Range {
                variables,
                over,
                body,
                otherwise,
            } => {
                let items: Vec<(Value, Value)> = match evaluate(over, scope)? {
                    Value::Array(items) => (0_usize..).map(Value::from).zip(items).collect(),
                    Value::Object(map) => map
                        .into_iter()
                        .map(|(key, value)| (key.into(), value))
                        .collect(),
                    Value::Null => Vec::new(),
                    other => return Err(TemplateError::Kind("range", kind(&other))),
                };
                if items.is_empty() {
                    render(otherwise, scope, out)?;
                }
                for (key, value) in &items {
                    let mut inner = Scope {
                        whole: scope.whole,
                        dot: value,
                        variables: scope.variables.clone(),
                    };
                    let named = match variables.as_slice() {
                        [one] => vec![(one.as_str(), value.clone())],
                        [first, second, ..] => {
                            vec![(first.as_str(), key.clone()), (second, value.clone())]
                        }
                        [] => Vec::new(),
                    };
                    inner.variables.extend(named);
                    render(body, &inner, out)?;
                }
            }
        }
    }
    Ok(())
}

fn evaluate(expression: &Expression, scope: &Scope<'_>) -> Result<Value, TemplateError> {
    match expression {
        Expression::Literal(value) => Ok(value.clone()),
        Expression::Path(root, fields) => {
            let start = match root {
                Root::Dot => scope.dot,
                Root::Whole => scope.whole,
                Root::Variable(name) => {
                    let found = scope
                        .variables
                        .iter()
                        .rev()
                        .find(|(known, _)| known == name);
                    &found
                        .ok_or_else(|| TemplateError::Unsupported(format!("${name}")))?
                        .1
                }
            };
            field(start, fields)
        }
        Expression::Call(function, arguments) => {
            let arguments = arguments.iter().map(|argument| evaluate(argument, scope));
            call(*function, &arguments.collect::<Result<Vec<_>, _>>()?)
        }
    }
}

/// A label that is not there is nothing, as in docker; another field that is not there is a mistake.
fn field(start: &Value, fields: &[String]) -> Result<Value, TemplateError> {
    let mut value = start;
    for (at, name) in fields.iter().enumerate() {
        let is_map = at > 0 && fields[at - 1] == "Labels";
        value = match value.get(name) {
            Some(value) => value,
            None if is_map => &Value::Null,
            None => return Err(TemplateError::NoField(name.clone())),
        };
    }
    Ok(value.clone())
}

fn call(function: Function, arguments: &[Value]) -> Result<Value, TemplateError> {
    let first = &arguments[0];
    Ok(match function {
        Function::Json => first.to_string().into(),
        Function::Not => (!is_true(first)).into(),
        Function::Len => match first {
            Value::Array(items) => items.len().into(),
            Value::Object(map) => map.len().into(),
            Value::String(text) => text.len().into(),
            Value::Null => 0.into(),
            other => return Err(TemplateError::Kind("len", kind(other))),
        },
        Function::Index => {
            let mut value = first.clone();
            for key in &arguments[1..] {
                value = element(&value, key)?;
            }
            value
        }
        Function::Join => match (first, &arguments[1]) {
            (Value::Array(items), Value::String(separator)) => {
                let texts: Vec<String> = items.iter().map(text_of).collect();
                texts.join(separator).into()
            }
            (Value::Null, _) => "".into(),
            (other, _) => return Err(TemplateError::Kind("join", kind(other))),
        },
        Function::Lower => text_of(first).to_lowercase().into(),
        Function::Upper => text_of(first).to_uppercase().into(),
    })
}

fn element(value: &Value, key: &Value) -> Result<Value, TemplateError> {
    match (value, key) {
        (Value::Array(items), Value::Number(at)) => {
            let found = at
                .as_u64()
                .and_then(|at| items.get(usize::try_from(at).ok()?));
            found
                .cloned()
                .ok_or_else(|| TemplateError::NoField(format!("index {at}")))
        }
        // The element of a Go map that is not there is an empty one.
        (Value::Object(map), Value::String(name)) => {
            Ok(map.get(name).cloned().unwrap_or_else(|| "".into()))
        }
        (Value::Null, Value::String(_)) => Ok("".into()),
        (Value::Null, at) => Err(TemplateError::NoField(format!("index {at}"))),
        (other, _) => Err(TemplateError::Kind("index", kind(other))),
    }
}

fn kind(value: &Value) -> String {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
    .to_owned()
}

fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

fn text_of(value: &Value) -> String {
    let mut text = String::new();
    print(value, &mut text);
    text
}

/// As Go's `%v` prints it.
fn print(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("<no value>"),
        Value::String(text) => out.push_str(text),
        Value::Array(items) => {
            let texts: Vec<String> = items.iter().map(text_of).collect();
            out.push_str(&format!("[{}]", texts.join(" ")));
        }
        Value::Object(map) => {
            let texts: Vec<String> = map
                .iter()
                .map(|(name, value)| format!("{name}:{}", text_of(value)))
                .collect();
            out.push_str(&format!("map[{}]", texts.join(" ")));
        }
        Value::Bool(_) | Value::Number(_) => out.push_str(&value.to_string()),
    }
}

#[cfg(test)]
#[path = "template_tests.rs"]
mod tests;
