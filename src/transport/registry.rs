//! Registries that speak the distribution protocol.

mod download;
mod failure;

use std::io::Read;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use oci_client::Client;
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::secrets::RegistryAuth;
use tokio::runtime::{Builder, Runtime};

use crate::oci::{Descriptor, Digest, Platform, Reference, media_type};

use super::body::Body;
use super::document::{self, Documents};
use super::error::Credentials;
use super::{Error, Resolved, Source, credentials};

const ACCEPT: &[&str] = &[
    media_type::MANIFEST,
    media_type::INDEX,
    media_type::DOCKER_MANIFEST,
    media_type::DOCKER_INDEX,
];
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// The pauses between the tries of a request, and so their number.
const PAUSES: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(1)];

/// How registries are spoken to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    /// The directory of docker's `config.json`; `None` is `$DOCKER_CONFIG`, then `$HOME/.docker`.
    pub(crate) docker_config: Option<PathBuf>,
}

struct Registry {
    reference: Reference,
    options: Options,
    connection: Mutex<Option<Connection>>,
}

/// A client with what it logs in with; cheap to clone.
#[derive(Clone)]
struct Connection {
    client: Client,
    reference: Reference,
    auth: RegistryAuth,
    credentials: Credentials,
}

/// The image that `reference` names. Registries on the loopback are spoken to in plain HTTP, all
/// others in HTTPS. Nothing is sent, and no thread started, before the first call.
pub(crate) fn registry(reference: Reference, options: &Options) -> impl Source + use<> {
    Registry {
        reference,
        options: options.clone(),
        connection: Mutex::new(None),
    }
}

impl Registry {
    fn connection(&self) -> Result<Connection, Error> {
        let mut slot = self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(connection) = &*slot {
            return Ok(connection.clone());
        }
        let connection = Connection::new(&self.reference, &self.options)?;
        *slot = Some(connection.clone());
        Ok(connection)
    }
}

impl Connection {
    fn new(reference: &Reference, options: &Options) -> Result<Self, Error> {
        let registry = reference.registry();
        let found = credentials::find(options.docker_config.as_deref(), registry);
        let (auth, credentials) = found.map_err(|why| Error::BadCredentials {
            name: reference.whole(),
            registry: registry.to_owned(),
            why,
        })?;
        // An error means that a provider is installed already, which serves as well.
        drop(rustls::crypto::ring::default_provider().install_default());
        let client = Client::try_from(client_config(registry)).map_err(|error| Error::Client {
            name: reference.whole(),
            registry: registry.to_owned(),
            cause: Box::new(error),
        })?;
        Ok(Self {
            client,
            reference: reference.clone(),
            auth,
            credentials,
        })
    }

    /// The bytes of the manifest or index that `reference` names.
    async fn pull_manifest(&self, reference: &Reference) -> Result<Vec<u8>, OciDistributionError> {
        let pull = || self.client.pull_manifest_raw(reference, &self.auth, ACCEPT);
        let (bytes, _) = retry(pull).await?;
        Ok(bytes.into())
    }
}

impl Documents for Registry {
    fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
        let connection = self.connection()?;
        let reference = self
            .reference
            .clone_with_digest(descriptor.digest.to_string());
        block_on(connection.pull_manifest(&reference))?
            .map_err(|error| connection.error(error, "the manifest"))
    }

    fn config(&self, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
        let blob = self.open_blob(descriptor)?;
        document::read(blob, &self.reference.whole(), "the config", descriptor)
    }
}

impl Source for Registry {
    fn resolve(&self, platform: &Platform) -> Result<Resolved, Error> {
        let connection = self.connection()?;
        let bytes = block_on(connection.pull_manifest(&self.reference))?
            .map_err(|error| connection.error(error, "the manifest"))?;
        let name = self.reference.whole();
        document::check_limit(&name, "the manifest", bytes.len() as u64)?;
        let digest = match self.reference.digest() {
            None => Digest::of(&bytes),
            Some(digest) => {
                let digest: Digest = digest.parse().map_err(|error| Error::BadLocation {
                    text: name.clone(),
                    why: format!("{error}"),
                })?;
                document::verify_digest(&name, "the manifest", &digest, &bytes)?;
                digest
            }
        };
        document::resolve_bytes(self, digest, bytes, platform)
    }

    fn open_blob(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send>, Error> {
        let download = download::start(self.connection()?, descriptor.clone())?;
        Ok(Box::new(Body::new(
            download,
            &self.reference.whole(),
            descriptor,
        )))
    }

    fn name(&self) -> String {
        self.reference.whole()
    }
}

fn client_config(registry: &str) -> ClientConfig {
    let local = is_loopback(registry);
    ClientConfig {
        protocol: if local {
            ClientProtocol::Http
        } else {
            ClientProtocol::Https
        },
        connect_timeout: Some(CONNECT_TIMEOUT),
        read_timeout: Some(IDLE_TIMEOUT),
        user_agent: concat!("rbuild/", env!("CARGO_PKG_VERSION")),
        // A proxy's loopback is another one. The client takes an exception only beside an address.
        http_proxy: local.then(|| "http://localhost".to_owned()),
        no_proxy: local.then(|| "*,0.0.0.0/0,::/0".to_owned()),
        ..ClientConfig::default()
    }
}

/// Whether `registry` (`host[:port]`) is this machine.
fn is_loopback(registry: &str) -> bool {
    let host = match registry.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => registry,
    };
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Makes a request again where that may help: no connection, a busy or a broken server.
async fn retry<T, F>(request: impl Fn() -> F) -> Result<T, OciDistributionError>
where
    F: Future<Output = Result<T, OciDistributionError>>,
{
    for pause in PAUSES {
        match request().await {
            Err(error) if failure::is_transient(&error) => tokio::time::sleep(pause).await,
            answer => return answer,
        }
    }
    request().await
}

/// The one runtime, started by the first request of the process.
fn runtime() -> Result<Arc<Runtime>, Error> {
    static RUNTIME: Mutex<Option<Arc<Runtime>>> = Mutex::new(None);
    let mut slot = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(runtime) = &*slot {
        return Ok(Arc::clone(runtime));
    }
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("registry")
        .enable_all()
        .build()
        .map_err(Error::Runtime)?;
    Ok(Arc::clone(slot.insert(Arc::new(runtime))))
}

fn block_on<T>(future: impl Future<Output = T>) -> Result<T, Error> {
    Ok(runtime()?.block_on(future))
}

#[cfg(test)]
mod tests {
    use super::is_loopback;

    #[test]
    fn only_this_machine_is_spoken_to_in_the_clear() {
        for local in [
            "localhost",
            "localhost:5000",
            "127.0.0.1:5000",
            "127.1.2.3",
            "[::1]:80",
        ] {
            assert!(is_loopback(local), "{local}");
        }
        for other in [
            "docker.io",
            "localhost.example:5000",
            "10.0.0.1:5000",
            "127.0.0.1.example",
        ] {
            assert!(!is_loopback(other), "{other}");
        }
    }
}
