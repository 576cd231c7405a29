//! A repository as the place that images are brought to.

use std::io::{self, Read};

use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderName};

use super::client::{Ask, Client, Options, text};
use super::{block_on, load_hosts, upload};
use crate::oci::{Descriptor, Digest, Reference};
use crate::transport::Error;

const DOCKER_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// A repository that is written to. Mirrors have no part in it.
pub(crate) struct Repository {
    client: Client,
}

/// How a blob came to its repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sent {
    Existed,
    /// From this other repository of the registry.
    Mounted(String),
    Pushed,
}

/// A blob to send.
pub(super) struct Blob<'a> {
    pub(super) descriptor: &'a Descriptor,
    /// Opens it from its start.
    open: &'a (dyn Fn() -> Result<Box<dyn Read + Send>, Error> + Sync),
    /// Told how many bytes are there.
    pub(super) progress: &'a (dyn Fn(u64) + Sync),
}

impl Blob<'_> {
    /// The blob's bytes from `offset` on.
    pub(super) fn open(&self, offset: u64) -> Result<Box<dyn Read + Send>, Error> {
        let mut reader = (self.open)()?;
        let skipped = io::copy(&mut (&mut reader).take(offset), &mut io::sink());
        skipped.map_err(|cause| Error::Read {
            path: self.descriptor.digest.to_string().into(),
            cause,
        })?;
        Ok(reader)
    }
}

impl Repository {
    /// The repository of `reference`. `others` are repositories of the same registry from which blobs
    /// may be taken. Nothing is sent before the first call.
    pub(crate) fn open(
        reference: &Reference,
        others: &[String],
        options: &Options,
    ) -> Result<Self, Error> {
        let hosts = load_hosts(reference)?;
        let mut scopes = vec![format!("repository:{}:pull,push", reference.repository())];
        scopes.extend(
            others
                .iter()
                .map(|other| format!("repository:{other}:pull")),
        );
        let client = Client::new(reference, reference.registry(), scopes, &hosts, options)?;
        Ok(Self { client })
    }

    /// Brings a blob to the repository unless it is there; `mount` is another repository that has it.
    /// Blocks, and may be called from several threads; memory does not grow with the blob.
    pub(crate) fn send_blob(
        &self,
        descriptor: &Descriptor,
        mount: Option<&str>,
        open: &(dyn Fn() -> Result<Box<dyn Read + Send>, Error> + Sync),
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Sent, Error> {
        let blob = Blob {
            descriptor,
            open,
            progress,
        };
        let upload = upload::upload(&self.client, &blob, mount);
        block_on(&self.client.stop, upload)
    }

    /// Puts a manifest or an index, all parts of which are there, under `name`: a tag or its digest.
    pub(crate) fn send_manifest(
        &self,
        name: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<(), Error> {
        let mut ask = Ask::new(Method::PUT, self.client.url(&format!("manifests/{name}")))
            .header(CONTENT_TYPE, media_type);
        ask.body = bytes.to_vec();
        let response = block_on(&self.client.stop, async {
            let response = self.client.send(&ask).await?;
            if !response.status().is_success() {
                return Err(self.client.refusal(response, "the manifest").await);
            }
            Ok(response)
        })?;
        let digest = Digest::of(bytes);
        match text(response.headers(), &DOCKER_DIGEST) {
            Some(other) if other != digest.as_str() => Err(Error::DigestMismatch {
                name: self.client.name.clone(),
                what: "the manifest that the registry keeps".to_owned(),
                expected: digest.to_string(),
                actual: super::failure::printable(&other),
            }),
            _ => Ok(()),
        }
    }
}
