//! Requests to one registry: who asks, what is followed, what is tried again, and when it is enough.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};

use super::super::credentials::{self, Credential};
use super::super::document::LIMIT;
use super::certificates::http_client;
use super::failure::{Failure, innermost, retry, wanted_pause};
use super::hosts::Hosts;
use super::token::{self, Token};
use crate::oci::Reference;
use crate::reach;
use crate::transport::error::Credentials;
use crate::transport::{Error, Stop};

const MOST_REDIRECTS: usize = 10;
/// A document may take so many times the silence that is borne.
const DOCUMENT: u32 = 4;

/// How registries are spoken to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    /// The directory of docker's `config.json` and `certs.d`, and of no other file then; `None` is
    /// `$DOCKER_CONFIG`, else `~/.docker`, with podman's files beside it.
    pub(crate) docker_config: Option<PathBuf>,
    /// Ends what is under way.
    pub(crate) stop: Stop,
}

/// A repository of a registry, with what is needed to be let in.
pub(super) struct Client {
    http: reqwest::Client,
    pub(super) base: Url,
    /// `HOST[:PORT]`, as images call it.
    registry: String,
    pub(super) repository: String,
    /// How messages call the image.
    pub(super) name: String,
    credential: Option<Credential>,
    token_hosts: Vec<String>,
    /// Hosts that may have private addresses where those are refused.
    private: Vec<String>,
    /// The silence after which a connection is given up.
    pub(super) stall: Duration,
    pub(super) stop: Stop,
    /// What tokens are asked for: this repository first, others only where the server agrees.
    scopes: Vec<String>,
    access: Mutex<Access>,
    /// A token server on another domain was not shown the password.
    withheld: AtomicBool,
    /// It could not be reached.
    pub(super) lost: AtomicBool,
}

/// What the registry wants to see.
#[derive(Clone)]
enum Access {
    /// Not known before it refuses.
    Nothing,
    Basic,
    Token(Token),
}

/// A request without a body that has to be streamed.
pub(super) struct Ask {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Ask {
    pub(super) fn new(method: Method, url: Url) -> Self {
        Self {
            method,
            url,
            headers: HeaderMap::new(),
            body: Vec::new(),
        }
    }

    pub(super) fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }
}

/// How often a request is sent until being refused is final: the first time without a token, and once more
/// because another transfer may find that a token is over just when this one has been given it.
pub(super) const TRIES: usize = 3;

impl Client {
    /// A client for `reference`'s repository at `registry`, which is its own or a mirror. `scopes` are
    /// those of the token specification (`repository:NAME:pull`).
    pub(super) fn new(
        reference: &Reference,
        registry: &str,
        scopes: Vec<String>,
        hosts: &Hosts,
        options: &Options,
    ) -> Result<Self, Error> {
        let name = reference.whole();
        let repository = reference.repository().to_owned();
        let directory = options.docker_config.as_deref();
        let credential = credentials::find(directory, registry, &repository, &options.stop);
        if options.stop.is_wanted() {
            return Err(Error::Interrupted);
        }
        let credential = credential.map_err(|why| Error::BadCredentials {
            name: name.clone(),
            registry: registry.to_owned(),
            why,
        })?;
        let host = hosts.host(registry);
        let base = Url::parse(&host.address(registry)).map_err(|error| Error::BadLocation {
            text: name.clone(),
            why: error.to_string(),
        })?;
        let private = hosts.chosen(registry);
        let http = http_client(registry, &private, options).map_err(|cause| Error::Client {
            name: name.clone(),
            registry: registry.to_owned(),
            cause,
        })?;
        Ok(Self {
            http,
            base,
            registry: registry.to_owned(),
            repository,
            name,
            credential,
            token_hosts: host.token_hosts,
            private,
            stall: hosts.stall(),
            stop: options.stop.clone(),
            scopes,
            access: Mutex::new(Access::Nothing),
            withheld: AtomicBool::new(false),
            lost: AtomicBool::new(false),
        })
    }

    /// The same client with other credentials than those that were found.
    pub(super) fn with_credential(mut self, credential: Credential) -> Self {
        self.credential = Some(credential);
        self
    }

    /// `/v2/REPOSITORY/REST`
    pub(super) fn url(&self, rest: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("/v2/{}/{rest}", self.repository));
        url
    }

    /// Sends `ask`, again where that may help, and gives the answer whatever its status.
    pub(super) async fn send(&self, ask: &Ask) -> Result<Response, Error> {
        retry(|| self.once(ask)).await
    }

    /// Gets a document of [`LIMIT`] bytes at most; an answer that is no success is an error.
    pub(super) async fn document(&self, ask: &Ask, what: &str) -> Result<Vec<u8>, Error> {
        retry(|| async {
            let response = self.once(ask).await?;
            if !response.status().is_success() {
                return Err(Failure::Final(self.refusal(response, what).await));
            }
            self.body(response, what).await
        })
        .await
    }

    /// One try, as far as the registry lets us in. Statuses that may be others a moment later are failures.
    pub(super) async fn once(&self, ask: &Ask) -> Result<Response, Failure> {
        for left in (0..TRIES).rev() {
            self.refresh().await?;
            let (response, redirected) = self.follow(ask).await?;
            let status = response.status();
            if status != StatusCode::UNAUTHORIZED || redirected {
                return self.settle(response).await;
            }
            if left > 0 {
                self.answer(response.headers()).await?;
            }
        }
        Err(Failure::Final(self.unauthorized()))
    }

    /// Turns an answer that asks to come again into a failure.
    pub(super) async fn settle(&self, response: Response) -> Result<Response, Failure> {
        let status = response.status();
        if status != StatusCode::TOO_MANY_REQUESTS && !status.is_server_error() {
            return Ok(response);
        }
        let after = text(response.headers(), &header::RETRY_AFTER);
        let after = after.and_then(|when| wanted_pause(&when, SystemTime::now()));
        let error = self.refusal(response, "the request").await;
        Err(Failure::Transient(error, after))
    }

    /// Sends the request and goes where the answer points. Nobody but the registry itself sees the
    /// authorization. Says whether the answer is somebody else's.
    async fn follow(&self, ask: &Ask) -> Result<(Response, bool), Failure> {
        let mut url = ask.url.clone();
        for hop in 0..=MOST_REDIRECTS {
            let mut request = self.http.request(ask.method.clone(), url.clone());
            request = request.headers(ask.headers.clone());
            if !ask.body.is_empty() {
                request = request.body(ask.body.clone());
            }
            if hop == 0 {
                request = self.authorize(request, &url);
            }
            let response = self.timed(request).await?;
            let is_redirect = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
            let is_read = matches!(ask.method, Method::GET | Method::HEAD);
            match text(response.headers(), &header::LOCATION) {
                Some(location) if is_redirect && is_read => {
                    url = self.join(&url, &location).map_err(Failure::Final)?;
                }
                _ => return Ok((response, hop > 0)),
            }
        }
        Err(Failure::Final(self.refused("too many redirects")))
    }

    /// Sends a request whose answer begins before the silence is too long.
    async fn timed(&self, request: RequestBuilder) -> Result<Response, Failure> {
        self.allow(&self.base).map_err(Failure::Final)?;
        match tokio::time::timeout(self.stall, request.send()).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(match reach::refused_in(&error) {
                Some(refused) => Failure::Final(self.private(&refused)),
                None => self.unreachable(innermost(error)),
            }),
            Err(_) => Err(self.silent()),
        }
    }

    /// An address that an answer gives: not one in the clear from one that is not.
    pub(super) fn join(&self, from: &Url, location: &str) -> Result<Url, Error> {
        let Ok(mut to) = from.join(location) else {
            return Err(self.refused("an address that is none"));
        };
        let target = || format!("{}://{}", to.scheme(), to.host_str().unwrap_or_default());
        self.allow(&to)?;
        match (from.scheme(), to.scheme()) {
            ("https", "http") => {
                let answer = format!("go on at {}, which is not encrypted", target());
                Err(self.refused(&answer))
            }
            (_, "https" | "http") => {
                let cleared = to.set_username("").and(to.set_password(None));
                cleared.map_err(|()| self.refused("an address that is none"))?;
                Ok(to)
            }
            _ => Err(self.refused(&format!("go on at {}, which is no web address", target()))),
        }
    }

    /// Refuses an address that must not be connected to.
    fn allow(&self, url: &Url) -> Result<(), Error> {
        reach::check(url, &self.private).map_err(|refused| self.private(&refused))
    }

    fn private(&self, refused: &reach::Refused) -> Error {
        Error::Private {
            name: self.name.clone(),
            registry: self.registry.clone(),
            why: refused.to_string(),
        }
    }

    /// Adds the authorization to a request for the registry itself.
    pub(super) fn authorize(&self, request: RequestBuilder, url: &Url) -> RequestBuilder {
        if url.origin() != self.base.origin() {
            return request;
        }
        match (&*self.access(), &self.credential) {
            (Access::Basic, Some(Credential::Password { user, password })) => {
                request.basic_auth(user, Some(password))
            }
            (Access::Token(token), _) => request.bearer_auth(&token.value),
            _ => request,
        }
    }

    /// A request with a body of its own.
    pub(super) fn request(&self, method: Method, url: &Url) -> RequestBuilder {
        self.authorize(self.http.request(method, url.clone()), url)
    }

    /// Replaces a token that is about to expire.
    pub(super) async fn refresh(&self) -> Result<(), Failure> {
        let Access::Token(old) = self.access().clone() else {
            return Ok(());
        };
        if old.until > Instant::now() {
            return Ok(());
        }
        self.fetch_token(old.realm, old.service).await
    }

    /// Prepares what a challenge asks for.
    pub(super) async fn answer(&self, headers: &HeaderMap) -> Result<(), Failure> {
        let challenges = headers.get_all(header::WWW_AUTHENTICATE);
        let challenges = challenges.iter().filter_map(|value| value.to_str().ok());
        match token::Challenge::parse(challenges) {
            Some(token::Challenge::Bearer { realm, service }) => {
                let realm = self.join(&self.base, &realm).map_err(Failure::Final)?;
                self.fetch_token(realm, service).await
            }
            Some(token::Challenge::Basic)
                if matches!(self.credential, Some(Credential::Password { .. })) =>
            {
                *self.access() = Access::Basic;
                Ok(())
            }
            _ => Err(Failure::Final(self.unauthorized())),
        }
    }

    async fn fetch_token(&self, realm: Url, service: Option<String>) -> Result<(), Failure> {
        let shown = token::may_see_password(&self.base, &realm, &self.token_hosts);
        let credential = self.credential.as_ref().filter(|_| shown);
        if self.credential.is_some() && !shown {
            self.withheld.store(true, Ordering::Relaxed);
        }
        let mut scopes = self.scopes.as_slice();
        loop {
            let build = token::request(&self.http, &realm, service.as_deref(), scopes, credential);
            let response = self.timed(build).await?;
            let status = response.status();
            if status.is_success() {
                let bytes = self.body(response, "the token").await?;
                let token = Token::parse(&bytes, realm, service)
                    .ok_or_else(|| Failure::Final(self.refused("a token that is none")))?;
                *self.access() = Access::Token(token);
                return Ok(());
            }
            let denied = matches!(status.as_u16(), 400 | 401 | 403);
            if denied && scopes.len() > 1 {
                // Reading other repositories is only a convenience.
                scopes = &scopes[..1];
                continue;
            }
            let response = self.settle(response).await?;
            return Err(Failure::Final(if denied {
                self.unauthorized()
            } else {
                self.refusal(response, "the token").await
            }));
        }
    }

    /// The whole of a body, of [`LIMIT`] bytes at most, in a bounded time.
    async fn body(&self, mut response: Response, what: &str) -> Result<Vec<u8>, Failure> {
        let too_large = || {
            Failure::Final(Error::BadDocument {
                name: self.name.clone(),
                what: what.to_owned(),
                why: format!("has more than the {LIMIT} bytes that are accepted"),
            })
        };
        if response
            .content_length()
            .is_some_and(|length| length > LIMIT)
        {
            return Err(too_large());
        }
        let deadline = Instant::now() + self.stall * DOCUMENT;
        let mut bytes = Vec::new();
        loop {
            match tokio::time::timeout(self.stall, response.chunk()).await {
                Ok(Ok(Some(piece))) if Instant::now() < deadline => bytes.extend_from_slice(&piece),
                Ok(Ok(None)) => return Ok(bytes),
                Ok(Err(error)) => return Err(self.unreachable(innermost(error))),
                Ok(Ok(Some(_))) | Err(_) => return Err(self.silent()),
            }
            if bytes.len() as u64 > LIMIT {
                return Err(too_large());
            }
        }
    }

    /// What an answer that is no success means.
    pub(super) async fn refusal(&self, response: Response, what: &str) -> Error {
        let status = response.status().as_u16();
        let body = self.body(response, what).await.unwrap_or_default();
        match status {
            401 | 403 => self.unauthorized(),
            404 => self.not_found(what),
            _ => self.refused(&super::failure::message(status, &body)),
        }
    }

    pub(super) fn not_found(&self, what: &str) -> Error {
        Error::NotFound {
            name: if what == "the manifest" {
                self.name.clone()
            } else {
                format!("{}: {what}", self.name)
            },
        }
    }

    pub(super) fn unauthorized(&self) -> Error {
        Error::Unauthorized {
            name: self.name.clone(),
            registry: self.registry.clone(),
            credentials: match &self.credential {
                None => Credentials::NotFound,
                Some(_) if self.withheld.load(Ordering::Relaxed) => Credentials::Withheld,
                Some(_) => Credentials::Found,
            },
        }
    }

    pub(super) fn refused(&self, answer: &str) -> Error {
        Error::Refused {
            name: self.name.clone(),
            registry: self.registry.clone(),
            answer: super::failure::printable(answer),
        }
    }

    pub(super) fn unreachable(&self, cause: String) -> Failure {
        let error = Error::Unreachable {
            name: self.name.clone(),
            registry: self.registry.clone(),
            cause: cause.into(),
        };
        Failure::Transient(error, None)
    }

    /// The failure of a connection on which too little came for too long.
    pub(super) fn silent(&self) -> Failure {
        self.unreachable(format!("nothing came for {:?}", self.stall))
    }

    fn access(&self) -> MutexGuard<'_, Access> {
        self.access.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?;
    Some(value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_goes_on_without_encryption() {
        let reference = crate::oci::parse_reference("r.test/app").unwrap();
        let options = Options {
            docker_config: Some("/nonexistent".into()),
            ..Options::default()
        };
        let hosts = Hosts::default();
        let client = Client::new(&reference, "r.test", Vec::new(), &hosts, &options).unwrap();
        for (location, expected) in [
            ("/v2/x", Some("https://r.test/v2/x")),
            ("https://u:p@cdn.test/y?s=1", Some("https://cdn.test/y?s=1")),
            ("http://r.test/v2/x", None),
            ("ftp://r.test/", None),
            ("https://[", None),
        ] {
            let joined = client.join(&client.base, location).ok();
            assert_eq!(joined.as_ref().map(Url::as_str), expected, "{location}");
        }
    }
}
