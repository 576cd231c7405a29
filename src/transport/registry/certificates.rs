//! The HTTP client for one registry, and the certificates that it knows.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Certificate, Identity};

use super::super::credentials;
use super::client::Options;
use super::hosts::is_loopback;
use crate::reach;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A client for one registry: no redirects of its own, the certificates for this registry. Of hosts
/// with private addresses it knows those of `private` where such addresses are refused.
pub(super) fn http_client(
    registry: &str,
    private: &[String],
    options: &Options,
) -> Result<reqwest::Client, Box<dyn std::error::Error + Send + Sync>> {
    // An error means that a provider is installed already, which serves as well.
    drop(rustls::crypto::ring::default_provider().install_default());
    let directory = credentials::docker_directory(options.docker_config.as_deref());
    let certificates = Certificates::load(directory.as_deref(), registry)?;
    let mut builder = reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("rbuild/", env!("CARGO_PKG_VERSION")))
        .tls_certs_merge(certificates.authorities);
    if let Some(identity) = certificates.identity {
        builder = builder.identity(identity);
    }
    if let Some(public) = reach::resolver(private) {
        builder = builder.dns_resolver(public);
    }
    // A proxy's loopback is another one.
    if is_loopback(registry) {
        builder = builder.no_proxy();
    }
    Ok(builder.build()?)
}

/// Certificates for one registry.
#[derive(Debug, Default)]
struct Certificates {
    /// Authorities beside those of the system.
    authorities: Vec<Certificate>,
    /// What this client proves itself with.
    identity: Option<Identity>,
}

impl Certificates {
    /// Reads docker's directories `certs.d/HOST[:PORT]`: `*.crt` are authorities, `*.cert` with the
    /// `*.key` of the same name is the client's. The error is one line.
    fn load(docker_config: Option<&Path>, registry: &str) -> Result<Self, String> {
        let mut found = Self::default();
        let own = docker_config.map(|dir| dir.join("certs.d"));
        for parent in own.into_iter().chain(["/etc/docker/certs.d".into()]) {
            found.add(&parent.join(registry))?;
        }
        Ok(found)
    }

    fn add(&mut self, directory: &Path) -> Result<(), String> {
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(format!("{}: {error}", directory.display())),
        };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            let bad = |why: String| format!("{}: {why}", path.display());
            let read = |path: &Path| fs::read(path).map_err(|error| bad(error.to_string()));
            match path.extension().and_then(OsStr::to_str) {
                Some("crt") => {
                    let bundle = Certificate::from_pem_bundle(&read(&path)?);
                    let bundle = bundle.ok().filter(|bundle| !bundle.is_empty());
                    let bundle = bundle.ok_or_else(|| bad("is no certificate".to_owned()))?;
                    self.authorities.extend(bundle);
                }
                Some("cert") => {
                    let mut pem = read(&path.with_extension("key"))?;
                    pem.push(b'\n');
                    pem.extend(read(&path)?);
                    let identity = Identity::from_pem(&pem);
                    let identity = identity
                        .map_err(|_| bad("is no certificate with its key beside it".to_owned()))?;
                    self.identity = Some(identity);
                }
                _ => {}
            }
        }
        Ok(())
    }
}
