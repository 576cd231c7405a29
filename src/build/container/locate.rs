//! The image of a command: in the store by name or id, else in a registry.

use crate::build::base::{self, Base};
use crate::build::error::StepError;
use crate::build::event::{Event, EventSender, VertexId};
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

/// Finds the image `text` for this machine: a name, an id, or the beginning of one. A name comes
/// before the beginning of an id, as with docker.
pub(crate) fn find(
    store: &Store,
    text: &str,
    pull: Pull,
    cancel: &Cancel,
) -> Result<Found, StepError> {
    let host = Platform::host();
    let missing = || StepError::Value {
        message: format!("there is no image {text} in the store"),
    };
    if let Some(digits) = whole_id(text) {
        let base = by_id(store, text, digits)?.ok_or_else(missing)?;
        return for_this_machine(base, &host);
    }
    let named = base::find_stored(
        store,
        &base::parse_reference(text)?,
        text,
        &Platform::host(),
    )?;
    if named.is_none()
        && is_hexadecimal(text)
        && let Some(base) = by_id(store, text, text)?
    {
        return for_this_machine(base, &host);
    }
    match (named, pull) {
        (Some(base), Pull::Never) => for_this_machine(base, &host),
        (None, Pull::Never) => Err(missing()),
        _ => base::find_by_name(store, text, &host, pull == Pull::Always, cancel).map(Found),
    }
}

/// A command of another machine would need an emulator, which is for builds that ask for one.
fn for_this_machine(base: Base, host: &Platform) -> Result<Found, StepError> {
    if base.is_for(host) {
        return Ok(Found(base));
    }
    Err(StepError::Value {
        message: format!(
            "the image {} is for {}, this machine is {host}",
            base.name,
            base.platform()
        ),
    })
}

/// The digits of `sha256:…`, or 64 of them alone, which cannot be a name.
fn whole_id(text: &str) -> Option<&str> {
    match text.strip_prefix("sha256:") {
        Some(digits) => Some(digits).filter(|digits| is_hexadecimal(digits)),
        None => Some(text).filter(|text| text.len() == 64 && is_hexadecimal(text)),
    }
}

fn is_hexadecimal(text: &str) -> bool {
    let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    !text.is_empty() && text.bytes().all(digit)
}

/// The only image in the store whose id begins with `digits`.
fn by_id(store: &Store, text: &str, digits: &str) -> Result<Option<Base>, StepError> {
    let mut found: Option<Base> = None;
    for manifest in store.manifests()? {
        // An index, or what another program put here, is no image of its own.
        let Ok(base) = base::read_stored(store, manifest, text) else {
            continue;
        };
        if !base.id().hex().starts_with(digits) {
            continue;
        }
        if found.as_ref().is_some_and(|other| other.id() != base.id()) {
            return Err(StepError::Value {
                message: format!("several images have ids that begin with {text}"),
            });
        }
        found = Some(base);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::whole_id;

    #[test]
    fn ids_are_told_from_names() {
        let digits = "0123456789abcdef".repeat(4);
        for (text, expected) in [
            (digits.clone(), Some(digits.clone())),
            (format!("sha256:{digits}"), Some(digits)),
            ("sha256:0123".to_owned(), Some("0123".to_owned())),
            ("sha256:latest".to_owned(), None),
            ("0123".to_owned(), None),
            ("name".to_owned(), None),
        ] {
            assert_eq!(whole_id(&text), expected.as_deref(), "{text}");
        }
    }
}
