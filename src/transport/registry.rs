//! Registries that speak the distribution protocol (OCI distribution-spec), over `reqwest`.
//!
//! The client crates that there are give a password to whatever token server a registry names, follow
//! redirects out of TLS, read manifests of any size before they look at it, or cannot mount, resume an
//! upload and exchange identity tokens. A registry may be hostile, so this room speaks itself. What a
//! registry can do with it:
//!
//! - Documents have 4 MiB at most and a deadline; blobs the announced size. A connection on which
//!   nothing comes for a while (`stall-seconds` of [`hosts`]), or next to nothing, is given up.
//! - Credentials go to the registry's own scheme, host and port, and to token servers of its domain
//!   ([`token::may_see_password`]); never after a redirect. Nothing goes from https to http.
//! - Lost connections, status 429 and 5xx are tried again, a few times in a row; transfers go on where
//!   they broke off.
//! - Whatever is waited for, the caller can end it ([`Stop`]).

mod certificates;
mod client;
mod download;
mod failure;
mod hosts;
mod push;
mod token;
mod upload;

use std::io::Read;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use reqwest::Method;
use reqwest::header::ACCEPT;
use tokio::runtime::{Builder, Runtime};

use client::{Ask, Client};
use hosts::Hosts;

use super::body::Body;
use super::credentials::Credential;
use super::document::{self, Documents};
use super::{Error, Resolved, Source, Stop};
use crate::oci::{Descriptor, Digest, Platform, Reference, media_type};

pub(crate) use client::Options;
pub(crate) use push::{Repository, Sent};

const MANIFESTS: &[&str] = &[
    media_type::MANIFEST,
    media_type::INDEX,
    media_type::DOCKER_MANIFEST,
    media_type::DOCKER_INDEX,
];

struct Registry {
    reference: Reference,
    options: Options,
    clients: Mutex<Option<Clients>>,
}

/// The registry's mirrors in their order, then itself.
type Clients = Arc<Vec<Arc<Client>>>;

/// The image that `reference` names. Registries on the loopback are spoken to in plain HTTP, and those
/// that the configuration names; all others in HTTPS. Nothing is sent, and no thread started, before
/// the first call.
pub(crate) fn registry(reference: Reference, options: &Options) -> impl Source + use<> {
    Registry {
        reference,
        options: options.clone(),
        clients: Mutex::new(None),
    }
}

/// Asks `registry` (`HOST[:PORT]`) whether it lets `credential` in.
pub(crate) fn log_in(
    registry: &str,
    credential: Credential,
    options: &Options,
) -> Result<(), Error> {
    let reference =
        Reference::with_tag(registry.to_owned(), "login".to_owned(), "latest".to_owned());
    let hosts = load_hosts(&reference)?;
    let client = Client::new(&reference, registry, Vec::new(), &hosts, options)?;
    let client = client.with_credential(credential);
    let mut url = client.base.clone();
    url.set_path("/v2/");
    let ask = Ask::new(Method::GET, url);
    block_on(&client.stop, client.document(&ask, "the registry"))?;
    Ok(())
}

fn load_hosts(reference: &Reference) -> Result<Hosts, Error> {
    Hosts::load().map_err(|why| Error::BadConfiguration {
        name: reference.whole(),
        why,
    })
}

impl Registry {
    fn clients(&self) -> Result<Clients, Error> {
        let mut slot = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(clients) = &*slot {
            return Ok(Arc::clone(clients));
        }
        let hosts = load_hosts(&self.reference)?;
        let registry = self.reference.registry();
        let scope = format!("repository:{}:pull", self.reference.repository());
        let mut clients = Vec::new();
        for place in hosts
            .host(registry)
            .mirrors
            .iter()
            .map(String::as_str)
            .chain([registry])
        {
            let scopes = vec![scope.clone()];
            let client = Client::new(&self.reference, place, scopes, &hosts, &self.options)?;
            clients.push(Arc::new(client));
        }
        Ok(Arc::clone(slot.insert(Arc::new(clients))))
    }

    /// What the first of the clients that can gives; the error is the registry's own. A mirror that
    /// cannot be reached is asked no more.
    fn first<T>(&self, ask: impl Fn(&Arc<Client>) -> Result<T, Error>) -> Result<T, Error> {
        let clients = self.clients()?;
        let (registry, mirrors) = clients
            .split_last()
            .expect("a registry is its own last client");
        for mirror in mirrors {
            if mirror.lost.load(Ordering::Relaxed) {
                continue;
            }
            match ask(mirror) {
                Err(Error::Interrupted) => return Err(Error::Interrupted),
                Err(Error::Unreachable { .. }) => mirror.lost.store(true, Ordering::Relaxed),
                Err(_) => {}
                Ok(value) => return Ok(value),
            }
        }
        ask(registry)
    }

    /// The document that the image's name stands for, and its digest.
    fn top(&self) -> Result<(Digest, Vec<u8>), Error> {
        let name = self.reference.whole();
        let Some(digest) = self.reference.digest() else {
            let bytes = self.fetch_manifest(self.reference.tag().unwrap_or("latest"))?;
            return Ok((Digest::of(&bytes), bytes));
        };
        let digest: Digest = digest.parse().map_err(|error| Error::BadLocation {
            text: name.clone(),
            why: format!("{error}"),
        })?;
        let bytes = self.fetch_manifest(digest.as_str())?;
        document::verify_digest(&name, "the manifest", &digest, &bytes)?;
        Ok((digest, bytes))
    }

    /// The bytes of the manifest or index `name`, a tag or a digest.
    fn fetch_manifest(&self, name: &str) -> Result<Vec<u8>, Error> {
        self.first(|client| {
            let ask = Ask::new(Method::GET, client.url(&format!("manifests/{name}")))
                .header(ACCEPT, &MANIFESTS.join(", "));
            block_on(&client.stop, client.document(&ask, "the manifest"))
        })
    }
}

impl Documents for Registry {
    fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
        self.fetch_manifest(descriptor.digest.as_str())
    }

    fn config(&self, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
        let blob = self.open_blob(descriptor)?;
        document::read(blob, &self.reference.whole(), "the config", descriptor)
    }
}

impl Source for Registry {
    fn resolve(&self, platform: &Platform) -> Result<Resolved, Error> {
        let (digest, bytes) = self.top()?;
        document::resolve_bytes(self, digest, bytes, platform)
    }

    fn open_blob(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send>, Error> {
        Ok(self.open_blob_from(descriptor, 0)?.1)
    }

    fn open_blob_from(
        &self,
        descriptor: &Descriptor,
        offset: u64,
    ) -> Result<(u64, Box<dyn Read + Send>), Error> {
        let start = |client: &_| download::start(Arc::clone(client), descriptor.clone(), offset);
        let (from, download) = self.first(start)?;
        let body = Body::new(download, &self.reference.whole(), descriptor, from);
        Ok((from, Box::new(body)))
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn name(&self) -> String {
        self.reference.whole()
    }
}

/// The one runtime, started by the first request of the process.
fn runtime() -> Result<Arc<Runtime>, Error> {
    static RUNTIME: Mutex<Option<Arc<Runtime>>> = Mutex::new(None);
    let mut slot = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(runtime) = &*slot {
        return Ok(Arc::clone(runtime));
    }
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("registry")
        .enable_all()
        .build()
        .map_err(Error::Runtime)?;
    Ok(Arc::clone(slot.insert(Arc::new(runtime))))
}

/// Runs `work` to its end, or until the end is wanted.
fn block_on<T>(stop: &Stop, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    runtime()?.block_on(stop.or(work))
}
