//! One file over HTTP: redirects, conditions, and transfers that go on where they broke off.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::time::Duration;

use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Client, Response, StatusCode, Url};

use super::address::{self, HttpAddress};
use super::authorization::Authorization;
use super::error::Error;
use crate::oci::{Digest, Hasher};
use crate::reach;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// The pauses between the tries of a transfer that gets nowhere, and so their number.
const PAUSES: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(1)];
/// A server that wants to be left alone for longer (`Retry-After`) is not waited for that long.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
const MOST_REDIRECTS: usize = 10;
/// How often a transfer looks whether it should end.
const GLANCE: Duration = Duration::from_millis(100);

/// What to fetch, and as whom.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub(crate) address: &'a HttpAddress,
    /// The `Authorization` for the address's own server, instead of that in the address.
    pub(crate) authorization: Option<Authorization>,
    /// What is known of an earlier answer whose content is still there.
    pub(crate) known: Option<&'a Validators>,
}

/// What a server calls a state of a file (RFC 9110, 8.8).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Validators {
    pub(crate) etag: Option<String>,
    pub(crate) last_modified: Option<String>,
}

/// What came of a request.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The file is what it was when the server sent the known validators.
    NotModified,
    /// The file is written, from its start to its end.
    Complete {
        digest: Digest,
        size: u64,
        validators: Validators,
    },
}

/// Who watches a transfer.
pub(crate) struct Watch<'a> {
    /// Called with the bytes that are there and, where known, those that will be.
    pub(crate) progress: &'a mut dyn FnMut(u64, Option<u64>),
    /// Asked every now and then; `true` ends the transfer.
    pub(crate) stop: &'a dyn Fn() -> bool,
}

/// Fetches the file into `out`, which is empty. Blocks; memory does not grow with the file.
///
/// Lost connections, status 429 and 5xx are tried again, three times in a row at most. Redirects are
/// followed, but not from https to http, and only the address's own server gets the authorization.
pub(crate) fn fetch(
    request: &Request<'_>,
    out: &mut File,
    watch: &mut Watch<'_>,
) -> Result<Answer, Error> {
    let fail = |source: Box<dyn std::error::Error + Send + Sync>| Error::Client {
        url: request.address.shown(),
        source,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| fail(error.into()))?;
    // An error means that a provider is installed already, which serves as well.
    drop(rustls::crypto::ring::default_provider().install_default());
    let mut client = Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(IDLE_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("rbuild/", env!("CARGO_PKG_VERSION")));
    if let Some(public) = reach::resolver(&[]) {
        client = client.dns_resolver(public);
    }
    let client = client.build().map_err(|error| fail(error.into()))?;
    let Watch { progress, stop } = watch;
    let mut transfer = Transfer {
        request,
        client,
        out,
        got: 0,
        hasher: Hasher::new(),
        validators: Validators::default(),
        progress: *progress,
    };
    let result = runtime.block_on(async {
        let mut run = Box::pin(transfer.run());
        loop {
            match tokio::time::timeout(GLANCE, &mut run).await {
                Ok(result) => return result,
                Err(_) if stop() => {
                    let url = request.address.shown();
                    return Err(Error::Stopped { url });
                }
                Err(_) => {}
            }
        }
    });
    // A name that is still being looked up must not hold the build's end up.
    runtime.shutdown_background();
    result
}

struct Transfer<'a> {
    request: &'a Request<'a>,
    client: Client,
    out: &'a mut File,
    got: u64,
    hasher: Hasher,
    /// Of the answer whose bytes were written.
    validators: Validators,
    progress: &'a mut dyn FnMut(u64, Option<u64>),
}

enum Failure {
    Final(Error),
    /// The same may succeed a moment later, or when the server says.
    Transient(Error, Option<Duration>),
}

impl Transfer<'_> {
    async fn run(&mut self) -> Result<Answer, Error> {
        let mut pauses = PAUSES.iter();
        let mut most = 0;
        loop {
            let (error, wanted) = match self.attempt().await {
                Ok(answer) => return Ok(answer),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Transient(error, wanted)) => (error, wanted),
            };
            if self.got > most {
                most = self.got;
                pauses = PAUSES.iter();
            }
            let Some(pause) = pauses.next() else {
                return Err(error);
            };
            let pause = wanted.map_or(*pause, |wanted| wanted.min(LONGEST_PAUSE));
            tokio::time::sleep(pause).await;
        }
    }

    async fn attempt(&mut self) -> Result<Answer, Failure> {
        // A part can be added only to what is known to be the same file.
        let precondition = match &self.validators {
            Validators {
                etag: Some(etag), ..
            } if !etag.starts_with("W/") => Some(etag.clone()),
            Validators {
                etag: None,
                last_modified: Some(time),
            } => Some(time.clone()),
            _ => None,
        };
        let precondition = precondition.filter(|_| self.got > 0);
        let mut response = self.send(precondition.as_deref()).await?;
        let status = response.status();
        let validators = Validators {
            etag: text(response.headers(), &header::ETAG),
            last_modified: text(response.headers(), &header::LAST_MODIFIED),
        };
        let same = |known: &Validators| {
            let etags = known.etag.as_deref().zip(validators.etag.as_deref());
            etags.is_some_and(|(known, new)| strong(known) == strong(new))
        };
        // Some servers send tags and do not heed conditions.
        if let Some(known) = self.request.known
            && (status == StatusCode::NOT_MODIFIED || status == StatusCode::OK && same(known))
        {
            return Ok(Answer::NotModified);
        }
        match status {
            StatusCode::PARTIAL_CONTENT
                if precondition.is_some() && range_start(response.headers()) == Some(self.got) => {}
            StatusCode::OK => self.restart(validators)?,
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE if self.got > 0 => {
                self.restart(Validators::default())?;
                return Err(Failure::Transient(self.refused(status), None));
            }
            status => {
                let after = text(response.headers(), &header::RETRY_AFTER)
                    .and_then(|seconds| seconds.parse().ok())
                    .map(Duration::from_secs);
                let error = self.refused(status);
                return Err(
                    if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
                        Failure::Transient(error, after)
                    } else {
                        Failure::Final(error)
                    },
                );
            }
        }
        let total = response.content_length().map(|length| self.got + length);
        while let Some(piece) = response.chunk().await.map_err(|error| self.cut(error))? {
            self.out
                .write_all(&piece)
                .map_err(|source| Failure::Final(self.unwritable(source)))?;
            self.hasher.update(&piece);
            self.got += piece.len() as u64;
            (self.progress)(self.got, total);
        }
        Ok(Answer::Complete {
            digest: std::mem::take(&mut self.hasher).finish(),
            size: self.got,
            validators: std::mem::take(&mut self.validators),
        })
    }

    /// Follows redirects to an answer.
    async fn send(&self, precondition: Option<&str>) -> Result<Response, Failure> {
        let first = self.request.address.url();
        let authorization = self.request.authorization.as_ref();
        let authorization = authorization.or(self.request.address.authorization.as_ref());
        let mut url = first.clone();
        for _ in 0..=MOST_REDIRECTS {
            let mut get = self.client.get(url.clone());
            if let Some(authorization) = authorization
                && is_same_server(first, &url)
            {
                let mut value = HeaderValue::from_str(authorization.expose()).map_err(|error| {
                    Failure::Final(Error::Client {
                        url: self.request.address.shown(),
                        source: error.into(),
                    })
                })?;
                value.set_sensitive(true);
                get = get.header(header::AUTHORIZATION, value);
            }
            if let Some(precondition) = precondition {
                get = get
                    .header(header::RANGE, format!("bytes={}-", self.got))
                    .header(header::IF_RANGE, precondition);
            } else if let Some(known) = self.request.known {
                if let Some(etag) = &known.etag {
                    get = get.header(header::IF_NONE_MATCH, etag);
                }
                if let Some(time) = &known.last_modified {
                    get = get.header(header::IF_MODIFIED_SINCE, time);
                }
            }
            let private = |source| {
                let url = self.request.address.shown();
                Failure::Final(Error::Private { url, source })
            };
            reach::check(&url, &[]).map_err(private)?;
            let response = get.send().await.map_err(|error| {
                if let Some(refused) = reach::refused_in(&error) {
                    return private(refused);
                }
                let source = innermost(error).into();
                let host = url.host_str().unwrap_or_default().to_owned();
                let url = self.request.address.shown();
                Failure::Transient(Error::Unreachable { url, host, source }, None)
            })?;
            let is_redirect = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
            match text(response.headers(), &header::LOCATION) {
                Some(location) if is_redirect => {
                    let next = redirect(&url, &location);
                    url = next.map_err(|(target, why)| self.bad_redirect(&target, why))?;
                }
                _ => return Ok(response),
            }
        }
        Err(self.bad_redirect(&url, "which is one redirect too many"))
    }

    fn bad_redirect(&self, target: &Url, why: &'static str) -> Failure {
        Failure::Final(Error::Redirect {
            url: self.request.address.shown(),
            target: address::shown(target),
            why,
        })
    }

    /// Forgets what was written: another answer begins.
    fn restart(&mut self, validators: Validators) -> Result<(), Failure> {
        self.hasher = Hasher::new();
        self.got = 0;
        self.validators = validators;
        self.out
            .set_len(0)
            .and_then(|()| self.out.seek(SeekFrom::Start(0)))
            .map(drop)
            .map_err(|source| Failure::Final(self.unwritable(source)))
    }

    fn unwritable(&self, source: io::Error) -> Error {
        Error::Write {
            url: self.request.address.shown(),
            source,
        }
    }

    fn refused(&self, status: StatusCode) -> Error {
        Error::Status {
            url: self.request.address.shown(),
            host: self.request.address.host().to_owned(),
            status: status.to_string(),
            denied: matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN),
        }
    }

    fn cut(&self, error: reqwest::Error) -> Failure {
        let error = Error::Cut {
            url: self.request.address.shown(),
            got: self.got,
            source: innermost(error).into(),
        };
        Failure::Transient(error, None)
    }
}

/// The reason at the bottom of a client's error; the layers above only say that a request was sent.
fn innermost(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut reason: &dyn std::error::Error = &error;
    while let Some(source) = reason.source() {
        reason = source;
    }
    reason.to_string()
}

/// Where a redirect leads, or why it is not followed.
fn redirect(from: &Url, location: &str) -> Result<Url, (Url, &'static str)> {
    let Ok(to) = from.join(location) else {
        return Err((from.clone(), "and on to something that is no address"));
    };
    match (from.scheme(), to.scheme()) {
        (_, "https") | ("http", "http") => Ok(to),
        ("https", "http") => Err((to, "which is not encrypted")),
        _ => Err((to, "which is neither http nor https")),
    }
}

/// Whether `to` is where the authorization for `first` may go.
fn is_same_server(first: &Url, to: &Url) -> bool {
    let port = |url: &Url| url.port_or_known_default();
    let is_upgrade = first.port().is_none() && to.scheme() == "https" && to.port().is_none();
    first.host_str() == to.host_str() && (port(first) == port(to) || is_upgrade)
}

fn text(headers: &HeaderMap, name: &header::HeaderName) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?;
    Some(value.to_owned())
}

/// An entity tag without its weakness.
fn strong(etag: &str) -> &str {
    etag.strip_prefix("W/").unwrap_or(etag)
}

/// Where the part that a server sends begins (`Content-Range: bytes 100-199/200`).
fn range_start(headers: &HeaderMap) -> Option<u64> {
    let range = text(headers, &header::CONTENT_RANGE)?;
    let (start, _) = range.strip_prefix("bytes ")?.split_once('-')?;
    start.parse().ok()
}

/// The seconds since 1970 of a `Last-Modified`, in the one form that servers may send (RFC 9110, 5.6.7).
pub(crate) fn parse_time(text: &str) -> Option<i64> {
    let time = jiff::fmt::rfc2822::DateTimeParser::new()
        .parse_timestamp(text)
        .ok()?;
    Some(time.as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_header_is_read() {
        for (text, seconds) in [
            ("Wed, 21 Oct 2015 07:28:00 GMT", Some(1_445_412_480)),
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("yesterday", None),
        ] {
            assert_eq!(parse_time(text), seconds, "{text}");
        }
    }

    #[test]
    fn a_redirect_leads_to_a_server_at_least_as_safe() {
        for (from, location, to) in [
            ("https://h/a/b", "c", Ok("https://h/a/c")),
            ("https://h/a", "//x/c", Ok("https://x/c")),
            ("http://h/a", "http://x/", Ok("http://x/")),
            ("http://h/a", "https://x/", Ok("https://x/")),
            ("https://h/a", "http://h/a", Err("not encrypted")),
            ("http://h/a", "ftp://h/a", Err("neither")),
            ("http://h/a", "http://[", Err("no address")),
        ] {
            let from = Url::parse(from).unwrap();
            match (redirect(&from, location), to) {
                (Ok(found), Ok(to)) => assert_eq!(found.as_str(), to),
                (Err((_, why)), Err(expected)) => assert!(why.contains(expected), "{why}"),
                (found, _) => panic!("{from} {location}: {found:?}"),
            }
        }
    }

    #[test]
    fn credentials_stay_with_their_server() {
        for (first, to, same) in [
            ("https://h/a", "https://h/b", true),
            ("http://h/a", "https://h/b", true),
            ("https://h/a", "https://h:444/b", false),
            ("http://h:80/a", "http://h/b", true),
            ("http://h:8080/a", "https://h/b", false),
            ("https://h/a", "https://x.h/b", false),
        ] {
            let parse = |text| Url::parse(text).unwrap();
            assert_eq!(
                is_same_server(&parse(first), &parse(to)),
                same,
                "{first} {to}"
            );
        }
    }
}
