//! What docker's configuration has to log in with.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use docker_credential::{CredentialRetrievalError, DockerCredential};
use oci_client::secrets::RegistryAuth;

use super::error::Credentials;

/// Looks `registry` up in `dir`'s `config.json`, asking credential helpers where it says so.
/// No file, or nothing for this registry, is anonymous access.
///
/// # Errors
/// One line about what is wrong with the file or the helper, without anything secret in it.
pub(super) fn find(
    dir: Option<&Path>,
    registry: &str,
) -> Result<(RegistryAuth, Credentials), String> {
    let nothing = (RegistryAuth::Anonymous, Credentials::NotFound);
    let Some(dir) = dir.map(Path::to_owned).or_else(default_dir) else {
        return Ok(nothing);
    };
    let path = dir.join("config.json");
    // Docker Hub is written as the address of its first protocol, or as people call it.
    let keys: &[&str] = match registry {
        "docker.io" | "index.docker.io" | "registry-1.docker.io" => {
            &["https://index.docker.io/v1/", "docker.io"]
        }
        _ => &[registry],
    };
    for key in keys {
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(nothing),
            Err(error) => return Err(format!("{}: {error}", path.display())),
        };
        match docker_credential::get_credential_from_reader(BufReader::new(file), key) {
            Ok(DockerCredential::UsernamePassword(user, password)) => {
                return Ok((RegistryAuth::Basic(user, password), Credentials::Found));
            }
            Ok(DockerCredential::IdentityToken(_)) => {
                return Ok((RegistryAuth::Anonymous, Credentials::IdentityToken));
            }
            Err(error) if is_absence(&error) => {}
            Err(error) => return Err(format!("{}: {}", path.display(), describe(&error))),
        }
    }
    Ok(nothing)
}

fn default_dir() -> Option<PathBuf> {
    std::env::var_os("DOCKER_CONFIG")
        .filter(|dir| !dir.is_empty())
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".docker")))
}

fn is_absence(error: &CredentialRetrievalError) -> bool {
    match error {
        CredentialRetrievalError::NoCredentialConfigured => true,
        // The sentence is part of the helpers' protocol (docker-credential-helpers, error.go).
        CredentialRetrievalError::HelperFailure { stdout, .. } => {
            stdout.contains("credentials not found in native keychain")
        }
        _ => false,
    }
}

/// The crate's own message of a failed helper repeats all that the helper wrote.
fn describe(error: &CredentialRetrievalError) -> String {
    match error {
        CredentialRetrievalError::HelperFailure { helper, .. } => format!("{helper} failed"),
        CredentialRetrievalError::HelperCommunicationError => {
            "its credential helper cannot be run".to_owned()
        }
        CredentialRetrievalError::MalformedHelperResponse => {
            "its credential helper answered in an unknown way".to_owned()
        }
        CredentialRetrievalError::ConfigReadError => "is not valid JSON".to_owned(),
        CredentialRetrievalError::CredentialMismatchError => {
            "auth contradicts username and password".to_owned()
        }
        _ => "auth is not base64 of user:password".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look_up(config: &str, registry: &str) -> Result<(RegistryAuth, Credentials), String> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.json"), config).unwrap();
        find(Some(dir.path()), registry)
    }

    #[test]
    fn docker_hub_is_found_under_each_of_its_names() {
        for key in [
            "https://index.docker.io/v1/",
            "docker.io",
            "index.docker.io",
        ] {
            let config = format!(r#"{{"auths":{{"{key}":{{"auth":"dXNlcjpwYXNz"}}}}}}"#);
            let (auth, credentials) = look_up(&config, "docker.io").unwrap();
            assert_eq!(auth, RegistryAuth::Basic("user".into(), "pass".into()));
            assert_eq!(credentials, Credentials::Found);
        }
    }

    #[test]
    fn an_absent_file_or_entry_is_anonymous_and_a_broken_file_is_an_error() {
        let missing = find(Some(Path::new("/nonexistent")), "a.test").unwrap();
        assert_eq!(missing.1, Credentials::NotFound);
        let other = r#"{"auths":{"b.test":{"auth":"dXNlcjpwYXNz"}}}"#;
        assert_eq!(look_up(other, "a.test").unwrap().1, Credentials::NotFound);
        assert!(look_up("{", "a.test").unwrap_err().contains("JSON"));
        let token = r#"{"auths":{"a.test":{"identitytoken":"x"}}}"#;
        assert_eq!(
            look_up(token, "a.test").unwrap().1,
            Credentials::IdentityToken
        );
    }
}
