//! The image of a command: in the store by name or id, else in a registry.

use crate::build::base::{self, Base};
use crate::build::error::StepError;
use crate::build::event::{Event, EventSender, VertexId};
use crate::image;
use crate::oci::{Digest, ImageConfig, Platform};
use crate::sandbox::Cancel;
use crate::store::{Snapshot, Store};

/// When the registry is asked (docker's `--pull`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pull {
    /// When the store does not have the image.
    Missing,
    Always,
    Never,
}

/// An image whose configuration is known. Its layers may still be elsewhere.
#[derive(Debug)]
pub(crate) struct Found(Base);

impl Found {
    /// As the caller wrote it.
    pub(crate) fn name(&self) -> &str {
        &self.0.name
    }

    pub(crate) fn id(&self) -> &Digest {
        self.0.id()
    }

    pub(crate) fn config(&self) -> &ImageConfig {
        &self.0.config
    }

    /// The image's files when all of them are in the store.
    pub(crate) fn stored(&self, store: &Store) -> Result<Option<Snapshot>, StepError> {
        self.0.stored(store)
    }

    /// Brings the image's files into the store.
    pub(crate) fn fetch(
        &self,
        store: &Store,
        events: &EventSender,
        cancel: &Cancel,
    ) -> Result<Snapshot, StepError> {
        let id = VertexId(0);
        events.send(Event::Started {
            id,
            name: format!("FROM {}", self.0.pinned()),
        });
        let fetched = self.0.fetch(store, events, id, cancel);
        events.send(match &fetched {
            Ok(_) => Event::Done { id },
            Err(error) => Event::Failed {
                id,
                message: error.to_string(),
            },
        });
        fetched
    }
}

/// Finds the image `text` for `platform`: a name, an id, or the beginning of one. A name comes before
/// the beginning of an id, as with docker.
pub(crate) fn find(
    store: &Store,
    text: &str,
    pull: Pull,
    platform: &Platform,
    cancel: &Cancel,
) -> Result<Found, StepError> {
    let missing = || StepError::Value {
        message: format!("there is no image {text} in the store"),
    };
    if is_whole_id(text) {
        let base = by_id(store, text, platform)?.ok_or_else(missing)?;
        return fitting(base, platform);
    }
    let named = base::find_stored(store, &base::parse_reference(text)?, text, platform)?;
    if named.is_none()
        && let Some(base) = by_id(store, text, platform)?
    {
        return fitting(base, platform);
    }
    match (named, pull) {
        (Some(base), Pull::Never) => fitting(base, platform),
        (None, Pull::Never) => Err(missing()),
        _ => base::find_by_name(store, text, platform, pull == Pull::Always, cancel).map(Found),
    }
}

/// A command of another machine would need an emulator, which is for who asks for that machine.
fn fitting(base: Base, platform: &Platform) -> Result<Found, StepError> {
    if base.is_for(platform) {
        return Ok(Found(base));
    }
    let (name, own, host) = (&base.name, base.platform(), Platform::host());
    let message = if *platform == host {
        format!("the image {name} is for {own}, this machine is {host}")
    } else {
        format!("the image {name} is for {own}, not for {platform}")
    };
    Err(StepError::Value { message })
}

/// `sha256:…`, or 64 digits, which cannot be a name.
fn is_whole_id(text: &str) -> bool {
    match text.strip_prefix("sha256:") {
        Some(digits) => is_hexadecimal(digits),
        None => text.len() == 64 && is_hexadecimal(text),
    }
}

fn is_hexadecimal(text: &str) -> bool {
    let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    !text.is_empty() && text.bytes().all(digit)
}

/// The only image in the store whose id begins with `text`; of an index the image for `platform`.
fn by_id(store: &Store, text: &str, platform: &Platform) -> Result<Option<Base>, StepError> {
    let failed = |source: image::Error| StepError::Image { source };
    let view = store.as_view()?;
    let images = image::list(&view).map_err(failed)?;
    let Some(found) = image::find_by_id(&images, text).map_err(failed)? else {
        return Ok(None);
    };
    let index = found.index.is_some();
    let found = if index {
        let chosen = found.for_platform(&view, text, platform);
        chosen.map_err(failed)?
    } else {
        found
    };
    base::read_stored(store, found.manifest, text).map(Some)
}

#[cfg(test)]
mod tests {
    use super::is_whole_id;

    #[test]
    fn ids_are_told_from_names() {
        let digits = "0123456789abcdef".repeat(4);
        for (text, expected) in [
            (digits.clone(), true),
            (format!("sha256:{digits}"), true),
            ("sha256:0123".to_owned(), true),
            ("sha256:latest".to_owned(), false),
            ("0123".to_owned(), false),
            ("name".to_owned(), false),
        ] {
            assert_eq!(is_whole_id(&text), expected, "{text}");
        }
    }
}
