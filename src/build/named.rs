//! `--build-context NAME=VALUE`: which names of a Dockerfile it takes over.

use super::request::{NamedSource, Request};
use crate::oci::{Platform, parse_reference};
use crate::transport::Location;

/// The last named context that is called `name`, as an index into [`Request::named_contexts`]. One
/// that is called `name::PLATFORM` comes before one that is for every platform.
///
/// Names are those of images: `alpine`, `alpine:latest` and `docker.io/library/alpine` are one.
/// `scratch` and `context` are never taken over.
pub(crate) fn find(name: &str, platform: &Platform, request: &Request) -> Option<usize> {
    if ["scratch", "context"]
        .iter()
        .any(|kept| kept.eq_ignore_ascii_case(name))
    {
        return None;
    }
    let wanted = familiar(name);
    let platform = platform.clone().normalized();
    let is_for = |text: &str| text.parse().is_ok_and(|of: Platform| of == platform);
    let find = |for_platform: bool| {
        request
            .named_contexts
            .iter()
            .rposition(|context| match context.name.split_once("::") {
                Some((name, of)) => for_platform && is_for(of) && familiar(name) == wanted,
                None => !for_platform && familiar(&context.name) == wanted,
            })
    };
    find(true).or_else(|| find(false))
}

/// Whether the named context is files, not an image.
pub(crate) fn is_files(index: usize, request: &Request) -> bool {
    !matches!(request.named_contexts[index].source, NamedSource::Image(_))
}

/// Whether the named context is `docker-image://scratch`, which is no image at all.
pub(crate) fn is_scratch(index: usize, request: &Request) -> bool {
    match &request.named_contexts[index].source {
        NamedSource::Image(Location::Image(reference)) => familiar(&reference.whole()) == "scratch",
        _ => false,
    }
}

/// The shortest form of an image's name. What is none is compared as it stands, in lower case.
fn familiar(name: &str) -> String {
    let whole = match parse_reference(name) {
        Ok(reference) => reference.whole(),
        Err(_) => name.to_lowercase(),
    };
    let short = whole
        .strip_prefix("docker.io/library/")
        .or_else(|| whole.strip_prefix("docker.io/"))
        .unwrap_or(&whole);
    short.strip_suffix(":latest").unwrap_or(short).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_has_one_short_name() {
        for (name, expected) in [
            ("alpine", "alpine"),
            ("alpine:latest", "alpine"),
            ("library/alpine", "alpine"),
            ("docker.io/library/alpine:latest", "alpine"),
            ("alpine:3", "alpine:3"),
            ("docker.io/me/app", "me/app"),
            ("localhost:5000/app:latest", "localhost:5000/app"),
            ("Stage", "stage"),
        ] {
            assert_eq!(familiar(name), expected, "{name}");
        }
    }
}
