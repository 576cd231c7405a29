//! `--secret`: docker's `id=…,src=…` lists.

use std::path::Path;

use crate::build::secret::{Secret, SecretSource};

/// Parses one `--secret` value. Without `src` or `env` it is the environment variable called like
/// the id, and when there is none the file of that name, as docker has it.
pub(super) fn parse(text: &str) -> Result<Secret, String> {
    let (mut id, mut kind, mut source, mut variable) = (None, None, None, None);
    for field in text.split(',') {
        let (key, value) = field
            .split_once('=')
            .ok_or_else(|| format!("{field:?} is not KEY=VALUE (as in id=token,src=token.txt)"))?;
        let value = value.to_owned();
        match key.trim().to_ascii_lowercase().as_str() {
            "type" if matches!(value.as_str(), "file" | "env") => kind = Some(value),
            "type" => {
                return Err(format!(
                    "the secret type {value:?} is not known (file, env)"
                ));
            }
            "id" => id = Some(value),
            "source" | "src" => source = Some(value),
            "env" => variable = Some(value),
            _ => return Err(format!("the secret option {key:?} is not known")),
        }
    }
    let id = id
        .or_else(|| {
            let name = Path::new(source.as_deref()?).file_name()?;
            Some(name.to_string_lossy().into_owned())
        })
        .filter(|id| !id.is_empty())
        .ok_or_else(|| format!("the secret {text:?} has no id"))?;
    if kind.as_deref() == Some("env") && variable.is_none() {
        variable = Some(source.take().unwrap_or_else(|| id.clone()));
    }
    let source = match (source, variable) {
        (Some(_), Some(_)) => return Err(format!("the secret {id:?} has two sources")),
        (Some(path), None) => SecretSource::File(path.into()),
        (None, Some(variable)) => SecretSource::Variable(variable),
        (None, None) if kind.is_none() && std::env::var_os(&id).is_some() => {
            SecretSource::Variable(id.clone())
        }
        (None, None) => SecretSource::File(id.clone().into()),
    };
    let secret = Secret { id, source };
    // A wrong path is found before any work; the bytes are read when a step needs them.
    secret
        .read()
        .map_err(|error| super::report::chain(&error))?;
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_a_file_or_a_variable() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        std::fs::write(&path, "t").unwrap();
        let shown = path.display();
        let file = |id: &str| Secret {
            id: id.to_owned(),
            source: SecretSource::File(path.clone()),
        };
        let variable = |id: &str| Secret {
            id: id.to_owned(),
            source: SecretSource::Variable("PATH".to_owned()),
        };
        for (text, expected) in [
            (format!("id=a,src={shown}"), file("a")),
            (format!("type=file,id=a,source={shown}"), file("a")),
            (format!("src={shown}"), file("token")),
            ("id=a,env=PATH".to_owned(), variable("a")),
            ("id=PATH".to_owned(), variable("PATH")),
            ("type=env,id=a,src=PATH".to_owned(), variable("a")),
        ] {
            assert_eq!(parse(&text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_a_secret_is_said() {
        for (text, needle) in [
            ("", "KEY=VALUE"),
            ("id", "KEY=VALUE"),
            ("id=a,what=b", "what"),
            ("type=vault,id=a", "vault"),
            ("env=PATH", "no id"),
            ("id=a,src=/no/such/file", "/no/such/file"),
            ("id=a,env=NO_SUCH_VARIABLE", "NO_SUCH_VARIABLE"),
            ("id=a,src=x,env=PATH", "two sources"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(needle), "{text}: {error}");
        }
    }
}
