//! What a registry's refusals mean.

use oci_client::errors::{DigestError, OciDistributionError, OciErrorCode};

use super::{Connection, Error};

const ANSWER: usize = 300;

/// Whether the same request may succeed a moment later.
pub(super) fn is_transient(error: &OciDistributionError) -> bool {
    match error {
        OciDistributionError::RequestError(_) | OciDistributionError::IoError(_) => true,
        OciDistributionError::ServerError { code, .. } => *code == 429 || *code >= 500,
        OciDistributionError::RegistryError { envelope, .. } => envelope
            .errors
            .iter()
            .any(|error| error.code == OciErrorCode::Toomanyrequests),
        _ => false,
    }
}

impl Connection {
    /// The error of a request for `what`.
    pub(super) fn error(&self, error: OciDistributionError, what: &str) -> Error {
        let name = self.reference.whole();
        match error {
            OciDistributionError::UnauthorizedError { .. }
            | OciDistributionError::AuthenticationFailure(_)
            | OciDistributionError::ServerError {
                code: 401 | 403, ..
            } => self.unauthorized(),
            OciDistributionError::ServerError { code: 404, .. } => not_found(name, what),
            OciDistributionError::ServerError { code, .. } => {
                self.refused(&format!("status {code}"))
            }
            OciDistributionError::RegistryError { envelope, .. } => {
                let has = |codes: &[OciErrorCode]| {
                    let mut errors = envelope.errors.iter();
                    errors.any(|error| codes.contains(&error.code))
                };
                if has(&[OciErrorCode::Unauthorized, OciErrorCode::Denied]) {
                    self.unauthorized()
                } else if has(&[
                    OciErrorCode::ManifestUnknown,
                    OciErrorCode::ManifestBlobUnknown,
                    OciErrorCode::BlobUnknown,
                    OciErrorCode::NameUnknown,
                    OciErrorCode::NotFound,
                ]) {
                    not_found(name, what)
                } else {
                    let messages: Vec<&str> = envelope
                        .errors
                        .iter()
                        .map(|error| error.message.as_str())
                        .collect();
                    self.refused(&messages.join("; "))
                }
            }
            // An address may carry a signature in its query.
            OciDistributionError::RequestError(cause) => {
                self.unreachable(Box::new(cause.without_url()))
            }
            OciDistributionError::IoError(cause) => self.unreachable(Box::new(cause)),
            OciDistributionError::DigestError(DigestError::VerificationError {
                expected,
                actual,
            }) => Error::DigestMismatch {
                name,
                what: what.to_owned(),
                expected,
                actual,
            },
            other => self.refused(&other.to_string()),
        }
    }

    pub(super) fn unreachable(&self, cause: Box<dyn std::error::Error + Send + Sync>) -> Error {
        Error::Unreachable {
            name: self.reference.whole(),
            registry: self.reference.registry().to_owned(),
            cause,
        }
    }

    fn unauthorized(&self) -> Error {
        Error::Unauthorized {
            name: self.reference.whole(),
            registry: self.reference.registry().to_owned(),
            credentials: self.credentials,
        }
    }

    /// `answer` is the registry's text: cut, and without what a terminal would act upon.
    fn refused(&self, answer: &str) -> Error {
        Error::Refused {
            name: self.reference.whole(),
            registry: self.reference.registry().to_owned(),
            answer: answer
                .chars()
                .filter(|char| !char.is_control())
                .take(ANSWER)
                .collect(),
        }
    }
}

fn not_found(name: String, what: &str) -> Error {
    if what == "the manifest" {
        Error::NotFound { name }
    } else {
        Error::NotFound {
            name: format!("{name}: {what}"),
        }
    }
}
