//! What holds for every name of an image, however odd; the fuzz target asks it.

use super::{Digest, Platform, parse_reference};

/// A name that is understood is what it prints, and nothing in it can change the meaning of a path or
/// an address that is made with it.
pub(crate) fn names_hold(text: &str) {
    if let Ok(reference) = parse_reference(text) {
        let whole = reference.whole();
        let again = parse_reference(&whole).expect("a whole name is a name");
        assert_eq!(again.whole(), whole);
        assert_eq!(
            (again.registry(), again.repository()),
            (reference.registry(), reference.repository())
        );
        assert_eq!(
            (again.tag(), again.digest()),
            (reference.tag(), reference.digest())
        );
        let path = reference.repository();
        assert!(!path.is_empty() && !path.split('/').any(|name| matches!(name, "" | "." | "..")));
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:[]@".contains(&byte);
        assert!(whole.bytes().all(plain), "{whole:?}");
    }
    if let Ok(platform) = text.parse::<Platform>() {
        let shown = platform.to_string();
        let again: Platform = shown.parse().expect("a platform is what it prints");
        assert_eq!(again.to_string(), shown);
    }
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text);
        assert!(digest.hex().bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert!(matches!(digest.algorithm(), "sha256" | "sha512"));
    }
}
