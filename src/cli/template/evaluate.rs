//! A template's nodes on a value.

use serde_json::Value;

use super::{Expression, Function, Node, Root, TemplateError};

/// What names mean at a place of the template.
pub(super) struct Scope<'a> {
    whole: &'a Value,
    dot: &'a Value,
    variables: Vec<(&'a str, Value)>,
}

impl<'a> Scope<'a> {
    pub(super) fn of(value: &'a Value) -> Self {
        Self {
            whole: value,
            dot: value,
            variables: Vec::new(),
        }
    }
}

pub(super) fn render(
    nodes: &[Node],
    scope: &Scope<'_>,
    out: &mut String,
) -> Result<(), TemplateError> {
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
