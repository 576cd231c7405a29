//! The values of the options of `rbuild build`, and of its context.

use std::path::PathBuf;

use super::report;
use crate::build;
use crate::build::request::{ContextSource, DockerfileSource, NamedContext, NamedSource, Network};
use crate::build::secret_scan::SecretScan;
use crate::oci::Reference;
use crate::remote::Address;
use crate::transport::Location;

pub(super) fn parse_network(text: &str) -> Result<Network, String> {
    match text {
        "default" => Ok(Network::Default),
        "host" => Ok(Network::Host),
        "none" => Ok(Network::None),
        "isolated" => Ok(Network::Isolated),
        _ => Err(format!(
            "{text:?} is not known (default, none, host, isolated)"
        )),
    }
}

pub(super) fn parse_secret_scan(text: &str) -> Result<SecretScan, String> {
    match text {
        "off" => Ok(SecretScan::Off),
        "warn" => Ok(SecretScan::Warn),
        "fail" => Ok(SecretScan::Fail),
        _ => Err(format!("{text:?} is not known (off, warn, fail)")),
    }
}

/// A directory, or else what BuildKit takes for an address.
pub(super) fn parse_context(path: PathBuf) -> Result<ContextSource, String> {
    if path.as_os_str() == "-" {
        return Ok(ContextSource::Stdin);
    }
    let address = match path.to_str().filter(|_| !path.is_dir()) {
        Some(text) => {
            let parsed = Address::parse_context(text);
            parsed.map_err(|error| format!("the build context {error}"))?
        }
        None => None,
    };
    Ok(match address {
        Some(address) => ContextSource::Remote(address),
        None => ContextSource::Directory(path),
    })
}

pub(super) fn parse_dockerfile(path: PathBuf) -> Result<DockerfileSource, String> {
    let text = path.to_str().filter(|text| text.contains("://"));
    match text.map(Address::parse).transpose() {
        Ok(Some(Some(Address::Http(address)))) => Ok(DockerfileSource::Remote(address)),
        Ok(Some(Some(address))) => Err(format!(
            "the Dockerfile {} is a git repository; give it as the context",
            address.shown()
        )),
        Ok(_) => Ok(DockerfileSource::Path(path)),
        Err(error) => Err(format!("the Dockerfile {error}")),
    }
}

pub(super) fn parse_tag(text: &str) -> Result<Reference, String> {
    let reference = build::parse_reference(text)
        .map_err(|error| format!("invalid tag {text:?}: {}", report::chain(&error)))?;
    if reference.digest().is_some() {
        return Err(format!(
            "invalid tag {text:?}: a name with a digest cannot be given to an image"
        ));
    }
    Ok(reference)
}

/// `NAME=VALUE`, or `NAME` for the value of the environment; a name that has none there is no
/// argument at all, as docker has it.
pub(super) fn parse_build_arg(text: &str) -> Result<Option<(String, String)>, String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, None),
    };
    if name.is_empty() {
        return Err(format!("the build argument {text:?} has no name"));
    }
    Ok(value
        .or_else(|| std::env::var(name).ok())
        .map(|value| (name.to_owned(), value)))
}

pub(super) fn parse_named_context(text: &str) -> Result<NamedContext, String> {
    let (name, value) = text
        .split_once('=')
        .filter(|(name, value)| !name.is_empty() && !value.is_empty())
        .ok_or_else(|| format!("the build context {text:?} is not NAME=VALUE"))?;
    let source = match Location::parse(value).map_err(|error| error.to_string())? {
        Some(location) => NamedSource::Image(location),
        None => match Address::parse(value) {
            Ok(Some(address)) => NamedSource::Remote(address),
            Ok(None) => NamedSource::Directory(PathBuf::from(value)),
            Err(error) => {
                return Err(format!(
                    "the build context {name} is not supported: {error} (a directory, \
                     docker-image://, oci-layout://, oci-archive:, docker-archive:, https:// and \
                     git repositories are)"
                ));
            }
        },
    };
    if let NamedSource::Directory(path) = &source
        && !path.is_dir()
    {
        return Err(format!(
            "the build context {name} ({value}) is not a directory"
        ));
    }
    Ok(NamedContext {
        name: name.to_owned(),
        source,
    })
}
