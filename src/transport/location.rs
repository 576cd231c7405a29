//! Sources as the command line names them (`--build-context name=...`).

use std::path::PathBuf;

use crate::oci::{Reference, parse_reference};

use super::{Error, Options, Source};

/// A place that a text names.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Location {
    /// `docker-image://REF`
    Image(Reference),
    /// `oci-layout://DIR[:TAG|@DIGEST]`
    OciLayout {
        dir: PathBuf,
        selector: Option<String>,
    },
    /// `oci-archive:FILE[:TAG|@DIGEST]`
    OciArchive {
        file: PathBuf,
        selector: Option<String>,
    },
    /// `docker-archive:FILE[:NAME[:TAG]]`
    DockerArchive { file: PathBuf, name: Option<String> },
}

impl Location {
    /// Parses `text`; `None` when it has none of the prefixes, so it is a directory or a URL.
    pub(crate) fn parse(text: &str) -> Result<Option<Self>, Error> {
        let bad = |why: &str| Error::BadLocation {
            text: text.to_owned(),
            why: why.to_owned(),
        };
        let location = if let Some(name) = text.strip_prefix("docker-image://") {
            let reference = parse_reference(name);
            Self::Image(reference.map_err(|error| bad(&error.to_string()))?)
        } else if let Some(rest) = text.strip_prefix("oci-layout://") {
            let (dir, selector) = split_selector(rest);
            Self::OciLayout { dir, selector }
        } else if let Some(rest) = text.strip_prefix("oci-archive:") {
            let (file, selector) = split_selector(rest);
            Self::OciArchive { file, selector }
        } else if let Some(rest) = text.strip_prefix("docker-archive:") {
            let (file, name) = match rest.split_once(':') {
                Some((file, name)) => (file, Some(name.to_owned())),
                None => (rest, None),
            };
            let file = PathBuf::from(file);
            Self::DockerArchive { file, name }
        } else {
            return Ok(None);
        };
        let (path, chosen) = match &location {
            Self::Image(_) => return Ok(Some(location)),
            Self::OciLayout {
                dir: path,
                selector,
            }
            | Self::OciArchive {
                file: path,
                selector,
            } => (path, selector),
            Self::DockerArchive { file, name } => (file, name),
        };
        if path.as_os_str().is_empty() {
            return Err(bad("the path is empty"));
        }
        if chosen.as_ref().is_some_and(String::is_empty) {
            return Err(bad("nothing follows the last colon"));
        }
        Ok(Some(location))
    }

    /// Opens the place. Registries are not asked before the first [`Source::resolve`].
    pub(crate) fn open(&self, options: &Options) -> Result<Box<dyn Source>, Error> {
        Ok(match self {
            Self::Image(reference) => Box::new(super::registry(reference.clone(), options)),
            Self::OciLayout { dir, selector } => {
                Box::new(super::oci_layout(dir, selector.as_deref())?)
            }
            Self::OciArchive { file, selector } => {
                Box::new(super::oci_archive(file, selector.as_deref())?)
            }
            Self::DockerArchive { file, name } => {
                Box::new(super::docker_archive(file, name.as_deref())?)
            }
        })
    }
}

/// Splits `PATH@DIGEST` or `PATH:TAG`; a colon before the last slash belongs to the path.
fn split_selector(text: &str) -> (PathBuf, Option<String>) {
    let at = text.rfind("@sha256:").or_else(|| text.rfind("@sha512:"));
    if let Some(at) = at {
        return (PathBuf::from(&text[..at]), Some(text[at..].to_owned()));
    }
    match text.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (PathBuf::from(path), Some(tag.to_owned())),
        _ => (PathBuf::from(text), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_a_prefix_a_path_and_a_choice() {
        let layout = |dir: &str, selector: Option<&str>| Location::OciLayout {
            dir: dir.into(),
            selector: selector.map(str::to_owned),
        };
        let digest = format!("@{}", crate::oci::Digest::of(b""));
        let archive = |file: &str, name: Option<&str>| Location::DockerArchive {
            file: file.into(),
            name: name.map(str::to_owned),
        };
        let cases = [
            ("oci-layout:///a/b".to_owned(), layout("/a/b", None)),
            ("oci-layout://a/b:v1".to_owned(), layout("a/b", Some("v1"))),
            ("oci-layout://a:b/c".to_owned(), layout("a:b/c", None)),
            (
                format!("oci-layout://a{digest}"),
                layout("a", Some(digest.as_str())),
            ),
            ("docker-archive:x.tar".to_owned(), archive("x.tar", None)),
            (
                "docker-archive:x.tar:app:v1".to_owned(),
                archive("x.tar", Some("app:v1")),
            ),
            (
                "docker-image://alpine".to_owned(),
                Location::Image("docker.io/library/alpine:latest".parse().unwrap()),
            ),
        ];
        for (text, location) in cases {
            assert_eq!(Location::parse(&text).unwrap(), Some(location), "{text}");
        }
        assert!(Location::parse("./directory").unwrap().is_none());
        for text in ["oci-layout://", "oci-archive:x:", "docker-image://UPPER"] {
            let error = Location::parse(text).unwrap_err();
            assert!(matches!(error, Error::BadLocation { .. }), "{text}");
        }
    }
}
