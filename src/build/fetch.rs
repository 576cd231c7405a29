//! Fetching for a build: what is in the store already, credentials among its secrets, progress.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use super::error::StepError;
use super::event::{Event, EventSender, VertexId};
use super::key::KeyBuilder;
use super::request::Request;
use super::secret::find;
use super::stage::timed;
use crate::oci::{Digest, Platform};
use crate::remote::{
    self, Answer, Authorization, GitReference, HttpAddress, Repository, Resolved, Validators, Watch,
};
use crate::sandbox::Cancel;
use crate::store::{Download, Store};

/// What a fetch uses of the build it is for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fetch<'a> {
    pub(crate) store: &'a Store,
    pub(crate) request: &'a Request,
    pub(crate) events: &'a EventSender,
    pub(crate) cancel: &'a Cancel,
    /// The vertex whose part the fetch is.
    pub(crate) id: VertexId,
}

impl Fetch<'_> {
    /// Does `work` as a vertex of its own.
    pub(crate) fn as_vertex<T>(
        &self,
        name: String,
        work: impl FnOnce() -> Result<T, StepError>,
    ) -> Result<T, StepError> {
        self.events.as_vertex(self.id, name, work)
    }

    /// Brings the file's content into the store, unless the server says that it is there. With
    /// `expected` its digest is that one, and content that this address gave is not asked for again.
    pub(crate) fn file(
        &self,
        address: &HttpAddress,
        expected: Option<&Digest>,
    ) -> Result<Download, StepError> {
        let key = download_key(address, &self.request.platform);
        let known = self.store.download(&key);
        if let (Some(known), Some(expected)) = (&known, expected)
            && known.digest == *expected
        {
            return Ok(known.clone());
        }
        let known = known.filter(|_| expected.is_none());
        let validators = known.as_ref().map(|known| Validators {
            etag: known.etag.clone(),
            last_modified: known.last_modified.clone(),
        });
        let mut file = self.store.loose_file()?;
        let answer = self.transfer(address, validators.as_ref(), file.as_file_mut())?;
        let (digest, size, validators) = match (answer, known) {
            (Answer::NotModified, Some(known)) => return Ok(known),
            (Answer::NotModified, None) => {
                unreachable!("a server is only asked about what is known")
            }
            (
                Answer::Complete {
                    digest,
                    size,
                    validators,
                },
                _,
            ) => (digest, size, validators),
        };
        if let Some(expected) = expected
            && digest != *expected
        {
            return Err(remote::Error::Digest {
                url: address.shown(),
                expected: expected.to_string(),
                actual: digest.to_string(),
            }
            .into());
        }
        self.store.publish_file(file, &digest)?;
        let download = Download {
            digest,
            size,
            etag: validators.etag,
            last_modified: validators.last_modified,
        };
        self.store.remember_download(&key, &download)?;
        Ok(download)
    }

    /// Fetches the file into one without a name, for this build only, at its start; and its time.
    pub(crate) fn nameless_file(&self, address: &HttpAddress) -> Result<(File, i64), StepError> {
        let mut file = self.store.loose_file()?.into_file();
        let mtime = match self.transfer(address, None, &mut file)? {
            Answer::Complete { validators, .. } => mtime_of(validators.last_modified.as_deref()),
            Answer::NotModified => 0,
        };
        file.seek(SeekFrom::Start(0))
            .map_err(|source| remote::Error::Write {
                url: address.shown(),
                source,
            })?;
        Ok((file, mtime))
    }

    fn transfer(
        &self,
        address: &HttpAddress,
        known: Option<&Validators>,
        out: &mut File,
    ) -> Result<Answer, StepError> {
        let request = remote::Request {
            address,
            authorization: self.http_authorization(address.host())?,
            known,
        };
        let label = address.shown();
        let progress = &mut |done, total| {
            self.events.send(Event::Progress {
                id: self.id,
                label: label.clone(),
                done,
                total,
            });
        };
        let stop = &|| self.cancel.is_canceled();
        let (answer, took) = timed(|| remote::fetch(&request, out, &mut Watch { progress, stop }));
        let answer = answer?;
        if matches!(answer, Answer::Complete { .. }) {
            self.events.send(Event::Finished {
                id: self.id,
                label,
                took,
            });
        }
        Ok(answer)
    }

    /// What the reference stands for now.
    pub(crate) fn resolve(&self, reference: &GitReference) -> Result<Resolved, StepError> {
        let scratch = self.store.scratch()?;
        Ok(self.repository(reference, &scratch)?.resolve()?)
    }

    /// The files of the reference, in the store's scratch space.
    pub(crate) fn check_out(
        &self,
        reference: &GitReference,
        resolved: &Resolved,
        keep_git_dir: bool,
    ) -> Result<OwnedFd, StepError> {
        let scratch = self.store.scratch()?;
        let repository = self.repository(reference, &scratch)?;
        let label = format!("{} {}", reference.shown(), resolved.commit);
        let (tree, took) = timed(|| repository.check_out(resolved, &scratch, keep_git_dir));
        let tree = tree?;
        self.events.send(Event::Finished {
            id: self.id,
            label,
            took,
        });
        Ok(tree)
    }

    fn repository<'a>(
        &'a self,
        reference: &'a GitReference,
        scratch: &Path,
    ) -> Result<Repository<'a>, StepError> {
        let authorization = self.git_authorization(reference)?;
        // The user's agent signs for repositories that the user names, not for those of a Dockerfile.
        let agent = self.request.names_repository(reference);
        let stop = self.cancel.as_fd();
        Ok(Repository::open(
            reference,
            authorization,
            agent,
            scratch,
            stop,
        )?)
    }

    /// The header that `HTTP_AUTH_TOKEN_<host>` or `HTTP_AUTH_HEADER_<host>` gives. As with BuildKit
    /// the token counts when both are there.
    fn http_authorization(&self, host: &str) -> Result<Option<Authorization>, StepError> {
        if let Some(token) = self.secret(&format!("HTTP_AUTH_TOKEN_{host}"))? {
            return Ok(Some(Authorization::bearer(&token)));
        }
        let header = self.secret(&format!("HTTP_AUTH_HEADER_{host}"))?;
        Ok(header.map(Authorization::header))
    }

    /// The header for a repository: the host's own secrets before the general ones, headers before
    /// tokens, as with BuildKit.
    fn git_authorization(
        &self,
        reference: &GitReference,
    ) -> Result<Option<Authorization>, StepError> {
        let host = &reference.host;
        for suffix in [format!(".{host}"), String::new()] {
            if let Some(header) = self.secret(&format!("GIT_AUTH_HEADER{suffix}"))? {
                return Ok(Some(Authorization::header(header)));
            }
            if let Some(token) = self.secret(&format!("GIT_AUTH_TOKEN{suffix}"))? {
                return Ok(Some(Authorization::basic("x-access-token", &token)));
            }
        }
        Ok(None)
    }

    /// The text of the secret `id` as a part of a header: without the line end that files have.
    fn secret(&self, id: &str) -> Result<Option<String>, StepError> {
        let Some(secret) = find(&self.request.secrets, id) else {
            return Ok(None);
        };
        let bytes = secret
            .read()
            .map_err(|source| StepError::Secret { source })?;
        let text = String::from_utf8(bytes).ok();
        let text = text.map(|text| text.trim_end_matches(['\r', '\n']).to_owned());
        match text {
            Some(text) if !text.chars().any(char::is_control) => Ok(Some(text)),
            _ => Err(StepError::Value {
                message: format!("the secret {id:?} is not one line of text"),
            }),
        }
    }
}

/// The time that the server gave a file, in seconds since 1970; the epoch itself where it gave none, as
/// with BuildKit.
pub(crate) fn mtime_of(last_modified: Option<&str>) -> i64 {
    last_modified.and_then(remote::parse_time).unwrap_or(0)
}

/// Under which what an address gave is remembered. It is the whole address: what the query says may
/// decide about the content.
fn download_key(address: &HttpAddress, platform: &Platform) -> Digest {
    let mut key = KeyBuilder::new("download", None, platform);
    key.field("url", address.url().as_str());
    key.finish()
}

/// Copies a blob to the file `path`, which is new, with a time.
pub(crate) fn copy_blob(
    store: &Store,
    digest: &Digest,
    path: &Path,
    mtime: i64,
) -> Result<(), StepError> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut blob = store.open_blob(digest)?;
    let mut write = || -> io::Result<()> {
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        io::copy(&mut blob, &mut file)?;
        crate::sys::fs::set_mtime(&file, mtime, 0).map_err(io::Error::from)
    };
    write().map_err(|source| StepError::Scratch {
        path: path.to_owned(),
        source,
    })
}
