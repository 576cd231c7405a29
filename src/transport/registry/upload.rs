//! A blob's way to a registry: one stream, taken up again where it broke off.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::stream;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, LOCATION, RANGE};
use reqwest::{Body, Method, Response, StatusCode, Url};

use super::client::{Ask, Client, TRIES, text};
use super::failure::{Failure, PAUSES, innermost, pause_of};
use super::push::{Blob, Sent};
use crate::transport::Error;

const BUFFER: usize = 256 * 1024;
/// A registry hashes and moves a blob before it says that it has it, so it may be silent for so many
/// times as long.
const FINISHING: u32 = 20;

/// An upload that the registry has begun.
struct Session {
    location: Url,
    /// How many bytes it has.
    offset: u64,
}

/// Brings a blob to the repository, from `mount` where the registry can take it from there.
pub(super) async fn upload(
    client: &Client,
    blob: &Blob<'_>,
    mount: Option<&str>,
) -> Result<Sent, Error> {
    let mut upload = Upload {
        client,
        blob,
        mount,
        session: None,
        sent: Arc::default(),
    };
    let mut pauses = PAUSES.iter();
    let mut mark = 0;
    let mut fresh = true;
    loop {
        let tried = upload.begin_or_skip(fresh).await;
        fresh = false;
        let (error, wanted) = match tried {
            Ok(sent) => return Ok(sent),
            Err(Failure::Final(error)) => return Err(error),
            Err(Failure::Transient(error, wanted)) => (error, wanted),
        };
        let Some(pause) = pauses.next() else {
            return Err(error);
        };
        tokio::time::sleep(pause_of(*pause, wanted)).await;
        upload.recover().await;
        let offset = upload.session.as_ref().map_or(0, |session| session.offset);
        if offset > mark {
            mark = offset;
            pauses = PAUSES.iter();
        }
    }
}

struct Upload<'a> {
    client: &'a Client,
    blob: &'a Blob<'a>,
    mount: Option<&'a str>,
    session: Option<Session>,
    /// Bytes that left, of all.
    sent: Arc<AtomicU64>,
}

impl Upload<'_> {
    /// Asks whether the registry has the blob, and sends the rest of it if not.
    async fn begin_or_skip(&mut self, fresh: bool) -> Result<Sent, Failure> {
        let size = self.blob.descriptor.size;
        if self.session.is_none() {
            if self.is_there().await? {
                (self.blob.progress)(size);
                // What is there after a failure was sent before it.
                return Ok(if fresh { Sent::Existed } else { Sent::Pushed });
            }
            match self.begin().await? {
                Some(session) => self.session = Some(session),
                None => {
                    (self.blob.progress)(size);
                    return Ok(Sent::Mounted(self.mount.unwrap_or_default().to_owned()));
                }
            }
        }
        let Some(session) = &mut self.session else {
            return Err(Failure::Final(self.client.refused("no upload")));
        };
        if session.offset < size {
            let location = session.location.clone();
            let offset = session.offset;
            let response = self.stream(location.clone(), offset).await?;
            let next = self.location(&location, response.headers())?;
            self.session = Some(Session {
                location: next.unwrap_or(location),
                offset: size,
            });
        }
        self.finish().await?;
        (self.blob.progress)(size);
        Ok(Sent::Pushed)
    }

    async fn is_there(&self) -> Result<bool, Failure> {
        let digest = &self.blob.descriptor.digest;
        let url = self.client.url(&format!("blobs/{digest}"));
        let response = self.client.once(&Ask::new(Method::HEAD, url)).await?;
        match response.status().as_u16() {
            200..=299 => {
                let size = text(response.headers(), &CONTENT_LENGTH);
                let size = size.and_then(|size| size.parse::<u64>().ok());
                Ok(size.is_none_or(|size| size == self.blob.descriptor.size))
            }
            404 => Ok(false),
            _ => Err(Failure::Final(self.refusal(response).await)),
        }
    }

    /// Begins an upload; `None` when the registry took the blob from another repository instead.
    async fn begin(&self) -> Result<Option<Session>, Failure> {
        let mut url = self.client.url("blobs/uploads/");
        if let Some(from) = self.mount {
            url.query_pairs_mut()
                .append_pair("mount", self.blob.descriptor.digest.as_str())
                .append_pair("from", from);
        }
        let ask = Ask::new(Method::POST, url.clone()).header(CONTENT_LENGTH, "0");
        let response = self.client.once(&ask).await?;
        match response.status() {
            StatusCode::CREATED if self.mount.is_some() => Ok(None),
            StatusCode::ACCEPTED => {
                let location = self.location(&url, response.headers())?;
                let location = location.ok_or_else(|| {
                    Failure::Final(self.client.refused("an upload without an address"))
                })?;
                Ok(Some(Session {
                    location,
                    offset: 0,
                }))
            }
            _ => Err(Failure::Final(self.refusal(response).await)),
        }
    }

    fn location(&self, from: &Url, headers: &HeaderMap) -> Result<Option<Url>, Failure> {
        text(headers, &LOCATION)
            .map(|location| self.client.join(from, &location))
            .transpose()
            .map_err(Failure::Final)
    }

    /// Sends the blob from `offset` to its end.
    async fn stream(&mut self, location: Url, offset: u64) -> Result<Response, Failure> {
        let size = self.blob.descriptor.size;
        self.client.refresh().await?;
        let reader = self.blob.open(offset).map_err(Failure::Final)?;
        self.sent.store(offset, Ordering::Relaxed);
        let mut request = self
            .client
            .request(Method::PATCH, &location)
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(CONTENT_LENGTH, size - offset)
            .body(body(reader, size - offset, Arc::clone(&self.sent)));
        if offset > 0 {
            request = request.header(CONTENT_RANGE, format!("{offset}-{}", size - 1));
        }
        let response = self.watch(request).await?;
        match response.status().as_u16() {
            200..=299 => Ok(response),
            401 => {
                self.client.answer(response.headers()).await?;
                Err(Failure::Transient(self.client.unauthorized(), None))
            }
            404 => {
                self.session = None;
                Err(Failure::Transient(self.refusal(response).await, None))
            }
            416 => Err(Failure::Transient(self.refusal(response).await, None)),
            _ => {
                let response = self.client.settle(response).await?;
                Err(Failure::Final(self.refusal(response).await))
            }
        }
    }

    /// Waits for the answer to a request for as long as its body gets on.
    async fn watch(&self, request: reqwest::RequestBuilder) -> Result<Response, Failure> {
        let mut answer = std::pin::pin!(request.send());
        let (mut before, mut silences) = (self.sent.load(Ordering::Relaxed), 0);
        // Progress is told more often than silence is judged.
        let tick = self.client.stall.min(std::time::Duration::from_millis(200));
        let mut quiet = std::time::Duration::ZERO;
        loop {
            match tokio::time::timeout(tick, &mut answer).await {
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(error)) => return Err(self.client.unreachable(innermost(error))),
                Err(_) => quiet += tick,
            }
            let now = self.sent.load(Ordering::Relaxed);
            (self.blob.progress)(now);
            if now > before {
                (before, silences, quiet) = (now, 0, std::time::Duration::ZERO);
            } else if quiet >= self.client.stall {
                quiet = std::time::Duration::ZERO;
                silences += 1;
                let complete = now >= self.blob.descriptor.size;
                if !complete || silences >= FINISHING {
                    return Err(self.client.silent());
                }
            }
        }
    }

    /// Tells the registry that the blob is complete, and which one it is.
    async fn finish(&mut self) -> Result<(), Failure> {
        let Some(session) = &self.session else {
            return Err(Failure::Final(self.client.refused("no upload")));
        };
        let mut url = session.location.clone();
        url.query_pairs_mut()
            .append_pair("digest", self.blob.descriptor.digest.as_str());
        for _ in 0..TRIES {
            self.client.refresh().await?;
            let request = self.client.request(Method::PUT, &url);
            let response = self.watch(request.header(CONTENT_LENGTH, 0)).await?;
            match response.status().as_u16() {
                200..=299 => return Ok(()),
                401 => self.client.answer(response.headers()).await?,
                404 => {
                    self.session = None;
                    return Err(Failure::Transient(self.refusal(response).await, None));
                }
                _ => {
                    let response = self.client.settle(response).await?;
                    return Err(Failure::Final(self.refusal(response).await));
                }
            }
        }
        Err(Failure::Final(self.client.unauthorized()))
    }

    /// Asks how far a broken upload got; one that cannot be continued is begun again.
    async fn recover(&mut self) {
        let Some(session) = self.session.take() else {
            return;
        };
        let ask = Ask::new(Method::GET, session.location.clone());
        let Ok(response) = self.client.once(&ask).await else {
            return;
        };
        if response.status() != StatusCode::NO_CONTENT {
            return;
        }
        let range = text(response.headers(), &RANGE).unwrap_or_default();
        let last = range
            .rsplit_once('-')
            .and_then(|(_, last)| last.parse::<u64>().ok());
        // "0-0" is what a registry says that has one byte, and one that has none.
        let Some(last) = last.filter(|last| (1..self.blob.descriptor.size).contains(last)) else {
            return;
        };
        let Ok(next) = self.location(&session.location, response.headers()) else {
            return;
        };
        self.session = Some(Session {
            location: next.unwrap_or(session.location),
            offset: last + 1,
        });
    }

    async fn refusal(&self, response: Response) -> Error {
        let what = format!("blob {}", self.blob.descriptor.digest);
        if response.status() == StatusCode::NOT_FOUND {
            return self.client.refused("no such repository or upload");
        }
        self.client.refusal(response, &what).await
    }
}

/// A body of `left` bytes that are read as they are sent.
fn body(reader: Box<dyn Read + Send>, left: u64, sent: Arc<AtomicU64>) -> Body {
    let pieces = stream::try_unfold((reader, left), move |(mut reader, left)| {
        let sent = Arc::clone(&sent);
        async move {
            if left == 0 {
                return Ok::<_, io::Error>(None);
            }
            let most = usize::try_from(left).map_or(BUFFER, |left| left.min(BUFFER));
            let mut piece = vec![0; most];
            let count = reader.read(&mut piece)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            piece.truncate(count);
            sent.fetch_add(count as u64, Ordering::Relaxed);
            Ok(Some((piece, (reader, left - count as u64))))
        }
    });
    Body::wrap_stream(pieces)
}
