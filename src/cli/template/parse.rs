//! From the text of a template to its nodes.

use super::{Expression, Function, Node, Root, TemplateError};

/// How the actions of a template nest.
pub(super) enum Stop {
    Input,
    End,
    /// `{{else}}`, or `{{else if}}` with its condition.
    Else(Option<String>),
}

/// A piece of the text: literal, or the inside of an action.
pub(super) enum Part {
    Text(String),
    Action(String),
}

pub(super) type Parts = std::iter::Peekable<std::vec::IntoIter<Part>>;

pub(super) fn split(text: &str) -> Result<Vec<Part>, TemplateError> {
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

pub(super) fn nodes(parts: &mut Parts) -> Result<(Vec<Node>, Stop), TemplateError> {
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
