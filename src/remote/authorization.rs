//! What a request proves itself with.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The value of an `Authorization` header. It shows itself to servers only.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Authorization(String);

impl Authorization {
    /// A whole header value, as the user has it.
    pub(crate) fn header(text: String) -> Self {
        Self(text)
    }

    pub(crate) fn bearer(token: &str) -> Self {
        Self(format!("Bearer {token}"))
    }

    pub(crate) fn basic(user: &str, password: &str) -> Self {
        Self(format!(
            "Basic {}",
            STANDARD.encode(format!("{user}:{password}"))
        ))
    }

    pub(super) fn expose(&self) -> &str {
        &self.0
    }

    /// `message` without the value, or the part of it that is the secret.
    pub(super) fn redact(&self, message: &str) -> String {
        let secret = self.0.rsplit(' ').next().unwrap_or(&self.0);
        if secret.is_empty() {
            return message.to_owned();
        }
        message.replace(secret, "xxxxx")
    }
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authorization(xxxxx)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_in_messages() {
        let basic = Authorization::basic("me", "hunter2");
        assert_eq!(basic.expose(), "Basic bWU6aHVudGVyMg==");
        assert!(!format!("{basic:?}").contains("bWU6"));
        assert_eq!(
            Authorization::bearer("s3cret").redact("no s3cret"),
            "no xxxxx"
        );
        assert_eq!(Authorization::header(String::new()).redact("text"), "text");
    }
}
