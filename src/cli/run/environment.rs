//! `-e` and `--env-file` (docker/cli, `opts/env.go` and `opts/file.go`).

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::build::container::Variable;

/// The variables of the files, then those of the command line.
pub(super) fn read(files: &[PathBuf], given: &[String]) -> Result<Vec<Variable>, String> {
    let mut variables = Vec::new();
    for path in files {
        let text = fs::read(path)
            .map_err(|error| format!("cannot read the variables in {}: {error}", path.display()))?;
        variables.extend(of_file(path, &text, &|name| std::env::var_os(name))?);
    }
    for text in given {
        variables.push(of_option(text, &|name| std::env::var_os(name))?);
    }
    Ok(variables)
}

type Lookup<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// A name alone is the caller's variable; one that the caller does not have is taken from the image too.
fn of_option(text: &str, caller: Lookup<'_>) -> Result<Variable, String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.into())),
        None => (text, caller(text)),
    };
    if name.is_empty() {
        return Err(format!("the variable {text:?} has no name"));
    }
    let name = name.to_owned();
    Ok(match value {
        Some(value) => Variable::Set(name, value),
        None => Variable::Unset(name),
    })
}

/// Lines of `NAME=VALUE`, the value taken as it is. A name alone that the caller does not have is
/// nothing, unlike on the command line.
fn of_file(path: &Path, text: &[u8], caller: Lookup<'_>) -> Result<Vec<Variable>, String> {
    let wrong = |number: usize, why: &str| Err(format!("{}:{number}: {why}", path.display()));
    let Ok(text) = str::from_utf8(text) else {
        return Err(format!("{} is not UTF-8", path.display()));
    };
    let mut variables = Vec::new();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = match line.split_once('=') {
            Some((name, value)) => (name, Some(value.into())),
            None => (line.trim_end(), caller(line.trim_end())),
        };
        if name.is_empty() {
            return wrong(index + 1, "the variable has no name");
        }
        if name.contains(char::is_whitespace) {
            return wrong(index + 1, "there is a blank in the name of the variable");
        }
        if line.contains('\0') {
            return wrong(index + 1, "there is a zero byte in the line");
        }
        variables.extend(value.map(|value| Variable::Set(name.to_owned(), value)));
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(name: &str) -> Option<OsString> {
        (name == "HERE").then(|| "own".into())
    }

    fn set(name: &str, value: &str) -> Variable {
        Variable::Set(name.to_owned(), value.into())
    }

    #[test]
    fn a_name_alone_is_the_callers_variable() {
        for (text, expected) in [
            ("A=b", Ok(set("A", "b"))),
            ("A=", Ok(set("A", ""))),
            ("A=b=c d", Ok(set("A", "b=c d"))),
            ("HERE", Ok(set("HERE", "own"))),
            ("GONE", Ok(Variable::Unset("GONE".to_owned()))),
            ("=b", Err("the variable \"=b\" has no name".to_owned())),
            ("", Err("the variable \"\" has no name".to_owned())),
        ] {
            assert_eq!(of_option(text, &caller), expected, "{text}");
        }
    }

    #[test]
    fn a_file_has_one_variable_per_line() {
        let read = |text: &str| of_file(Path::new("f"), text.as_bytes(), &caller);
        let text = "\u{feff}A=1\n\n  # comment\n  B=\"2\" # no comment\r\nHERE\nGONE\nC=\n";
        let expected = vec![
            set("A", "1"),
            set("B", "\"2\" # no comment"),
            set("HERE", "own"),
            set("C", ""),
        ];
        assert_eq!(read(text), Ok(expected));
        for (text, why) in [
            ("A=1\n=2", "f:2: "),
            ("A B=1", "f:1: "),
            ("A\0B=1", "f:1: "),
        ] {
            assert!(read(text).unwrap_err().starts_with(why), "{text:?}");
        }
    }
}
