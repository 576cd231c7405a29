//! Image names, as docker writes and completes them (distribution/reference grammar).

pub(crate) use oci_spec::distribution::Reference;

/// The longest name, registry and path together.
const LONGEST_NAME: usize = 255;
const LONGEST_TAG: usize = 128;
const DEFAULT_REGISTRY: &str = "docker.io";
const DEFAULT_TAG: &str = "latest";

/// Why a text is no name of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReferenceError {
    #[error("repository name must have at least one component")]
    Empty,
    #[error("repository name must be lowercase")]
    Uppercase,
    #[error("repository name must not be more than {LONGEST_NAME} characters")]
    TooLong,
    #[error("invalid reference format")]
    Format,
    #[error("invalid tag format")]
    Tag,
    #[error("invalid checksum digest format")]
    Digest,
    #[error("64 hexadecimal digits are an image id, not a name")]
    Identifier,
}

/// Parses `[registry/]path[:tag][@digest]`. Without a registry it is docker.io, where a path of one
/// component lies below `library/`; with neither tag nor digest the tag is `latest`.
///
/// The crate that the type comes from can parse too, but compiles regular expressions that take
/// longer than a build whose steps are all cached.
pub(crate) fn parse_reference(text: &str) -> Result<Reference, ReferenceError> {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(check_digest(digest)?)),
        None => (text, None),
    };
    // A colon before the last slash belongs to the registry's port.
    let colon = rest.rfind(':').filter(|at| !rest[*at..].contains('/'));
    let (name, tag) = match colon {
        Some(at) => (&rest[..at], Some(check_tag(&rest[at + 1..])?)),
        None => (rest, None),
    };
    if name.is_empty() {
        return Err(ReferenceError::Empty);
    }
    if name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(ReferenceError::Identifier);
    }
    let (registry, path) = match name.split_once('/') {
        Some((first, path)) if is_registry(first) => (check_registry(first)?, path),
        _ => (DEFAULT_REGISTRY, name),
    };
    check_path(path)?;
    let path = if registry == DEFAULT_REGISTRY && !path.contains('/') {
        format!("library/{path}")
    } else {
        path.to_owned()
    };
    if registry.len() + 1 + path.len() > LONGEST_NAME {
        return Err(ReferenceError::TooLong);
    }
    let registry = registry.to_owned();
    Ok(match (tag, digest) {
        (Some(tag), Some(digest)) => Reference::with_tag_and_digest(registry, path, tag, digest),
        (None, Some(digest)) => Reference::with_digest(registry, path, digest),
        (tag, None) => Reference::with_tag(
            registry,
            path,
            tag.unwrap_or_else(|| DEFAULT_TAG.to_owned()),
        ),
    })
}

/// Whether the first component of a name is a registry and not a part of the path.
fn is_registry(first: &str) -> bool {
    first == "localhost"
        || first.contains(['.', ':'])
        || first.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn check_registry(text: &str) -> Result<&str, ReferenceError> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let good_port =
        port.is_none_or(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()));
    let good_host = match host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
    {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.split('.').all(is_domain_component),
    };
    match text {
        "index.docker.io" => Ok(DEFAULT_REGISTRY),
        _ if good_host && good_port => Ok(text),
        _ => Err(ReferenceError::Format),
    }
}

fn is_domain_component(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    !text.is_empty() && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

fn check_path(path: &str) -> Result<(), ReferenceError> {
    if path.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(ReferenceError::Uppercase);
    }
    if path.split('/').all(is_path_component) {
        Ok(())
    } else {
        Err(ReferenceError::Format)
    }
}

/// Letters and digits, with a dot, one or two underscores, or any number of dashes between them.
fn is_path_component(text: &str) -> bool {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let good_separator = |separator: &str| {
        matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|b| b == b'-')
    };
    text.starts_with(is_word) && text.ends_with(is_word) && text.split(is_word).all(good_separator)
}

fn check_tag(tag: &str) -> Result<String, ReferenceError> {
    let first = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let good = tag.len() <= LONGEST_TAG
        && tag.starts_with(first)
        && tag.chars().all(|c| first(c) || matches!(c, '.' | '-'));
    good.then(|| tag.to_owned()).ok_or(ReferenceError::Tag)
}

/// Only SHA-256: what nothing here can verify is no name of anything.
fn check_digest(digest: &str) -> Result<String, ReferenceError> {
    let good = digest.strip_prefix("sha256:").is_some_and(|hex| {
        hex.len() == 64
            && hex
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    });
    good.then(|| digest.to_owned())
        .ok_or(ReferenceError::Digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn names_are_completed_as_docker_completes_them() {
        for (text, whole) in [
            ("debian", "docker.io/library/debian:latest"),
            ("debian:12", "docker.io/library/debian:12"),
            ("a/b", "docker.io/a/b:latest"),
            ("docker.io/debian", "docker.io/library/debian:latest"),
            ("index.docker.io/a/b:1", "docker.io/a/b:1"),
            ("localhost/a", "localhost/a:latest"),
            ("localhost:5000/a:v1", "localhost:5000/a:v1"),
            (
                "registry.example.org/a/b/c",
                "registry.example.org/a/b/c:latest",
            ),
            ("[::1]:5000/a", "[::1]:5000/a:latest"),
            ("UPPER/a", "UPPER/a:latest"),
            ("a__b-c.d---e", "docker.io/library/a__b-c.d---e:latest"),
            ("a:_T.a-g", "docker.io/library/a:_T.a-g"),
        ] {
            let parsed = parse_reference(text).map(|reference| reference.whole());
            assert_eq!(parsed.as_deref(), Ok(whole), "{text}");
        }
        let digest = format!("sha256:{HEX}");
        let both = parse_reference(&format!("a:1@{digest}")).unwrap();
        assert_eq!(
            (both.tag(), both.digest()),
            (Some("1"), Some(digest.as_str()))
        );
        let only = parse_reference(&format!("a@{digest}")).unwrap();
        assert_eq!((only.tag(), only.digest()), (None, Some(digest.as_str())));
    }

    #[test]
    fn what_is_no_name_is_refused_with_the_reason() {
        let long = "a/".repeat(130) + "a";
        let long_tag = format!("a:{}", "t".repeat(129));
        let sha512 = format!("a@sha512:{HEX}{HEX}");
        for (text, error) in [
            ("", ReferenceError::Empty),
            (":tag", ReferenceError::Empty),
            ("UPPER", ReferenceError::Uppercase),
            ("a/Upper", ReferenceError::Uppercase),
            (HEX, ReferenceError::Identifier),
            (&long, ReferenceError::TooLong),
            ("a:", ReferenceError::Tag),
            ("a:b:c", ReferenceError::Format),
            ("a:-b", ReferenceError::Tag),
            (&long_tag, ReferenceError::Tag),
            ("a b", ReferenceError::Format),
            ("a//b", ReferenceError::Format),
            ("/a", ReferenceError::Format),
            ("a/", ReferenceError::Format),
            ("-a", ReferenceError::Format),
            ("a___b", ReferenceError::Format),
            ("a..b", ReferenceError::Format),
            ("a._b", ReferenceError::Format),
            ("-x.y/a", ReferenceError::Format),
            ("x.y:port/a", ReferenceError::Format),
            ("[::g]/a", ReferenceError::Format),
            ("a@sha256:00", ReferenceError::Digest),
            (&sha512, ReferenceError::Digest),
            ("a@", ReferenceError::Digest),
            ("ä", ReferenceError::Format),
        ] {
            assert_eq!(
                parse_reference(text).map(|r| r.whole()),
                Err(error),
                "{text}"
            );
        }
    }
}
