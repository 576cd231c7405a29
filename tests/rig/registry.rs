//! A registry on the loopback for tests: speaks the distribution protocol well, or badly on request.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

/// What a path answers.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// The announced `Content-Length` where it is not the body's.
    pub(crate) length: Option<usize>,
    /// Close the connection after so many bytes of the body.
    pub(crate) cut: Option<usize>,
    /// Answer so many requests with status 503 first.
    pub(crate) busy: u32,
    /// Whether a `Range: bytes=N-` is heeded; the rest is not cut then.
    pub(crate) ranges: bool,
    /// Whether a request that knows the `ETag` or the `Last-Modified` is answered with status 304.
    pub(crate) conditional: bool,
    /// Close the connection of so many requests first, after half of the body.
    pub(crate) flaky: u32,
}

/// Who is let in.
#[derive(Debug, Clone, Default)]
pub(crate) enum Access {
    #[default]
    Everybody,
    /// Only this `Authorization` header, after a challenge for basic authentication.
    Basic(String),
    /// Only `Bearer TOKEN`. `/token` gives it to those with the header, or to everybody.
    Token {
        token: String,
        header: Option<String>,
    },
}

/// A request as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
    pub(crate) range: Option<u64>,
    /// `If-None-Match`
    pub(crate) known_tag: Option<String>,
    /// `If-Modified-Since`
    pub(crate) known_time: Option<String>,
}

#[derive(Default)]
struct State {
    answers: BTreeMap<String, Answer>,
    access: Access,
    requests: Vec<Request>,
    stopped: bool,
}

/// The server; it stops when dropped.
pub(crate) struct Registry {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    thread: Option<JoinHandle<()>>,
}

impl Answer {
    pub(crate) fn ok(body: &[u8]) -> Self {
        Self {
            status: 200,
            headers: Vec::new(),
            body: body.to_vec(),
            length: None,
            cut: None,
            busy: 0,
            ranges: false,
            conditional: false,
            flaky: 0,
        }
    }

    pub(crate) fn status(status: u16) -> Self {
        Self {
            status,
            ..Self::ok(b"")
        }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

impl Registry {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback has a free port");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if lock(&shared).stopped {
                    return;
                }
                let state = Arc::clone(&shared);
                // A client that hangs up is what some tests are about.
                std::thread::spawn(move || drop(serve(stream, &state, address)));
            }
        });
        Self {
            address,
            state,
            thread: Some(thread),
        }
    }

    /// `127.0.0.1:PORT`
    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn set_access(&self, access: Access) {
        lock(&self.state).access = access;
    }

    pub(crate) fn set(&self, path: &str, answer: Answer) {
        lock(&self.state).answers.insert(path.to_owned(), answer);
    }

    /// Serves `bytes` as the manifest `name` (a tag or a digest) of `repository`.
    pub(crate) fn set_manifest(
        &self,
        repository: &str,
        name: &str,
        media_type: &str,
        bytes: &[u8],
    ) {
        let answer = Answer::ok(bytes).header("Content-Type", media_type);
        self.set(&format!("/v2/{repository}/manifests/{name}"), answer);
    }

    pub(crate) fn set_blob(&self, repository: &str, digest: &str, bytes: &[u8]) {
        self.set(&blob_path(repository, digest), Answer::ok(bytes));
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        lock(&self.state).requests.clone()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        lock(&self.state).stopped = true;
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

pub(crate) fn blob_path(repository: &str, digest: &str) -> String {
    format!("/v2/{repository}/blobs/{digest}")
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().expect("no server thread panics")
}

fn serve(mut stream: TcpStream, state: &Mutex<State>, address: SocketAddr) -> std::io::Result<()> {
    let Some(request) = read_request(&stream)? else {
        return Ok(());
    };
    let mut answer = {
        let mut state = lock(state);
        state.requests.push(request.clone());
        choose(&mut state, &request, address)
    };
    let mut partial = String::new();
    if let (Some(offset), true) = (request.range, answer.ranges) {
        let (from, size) = (usize::try_from(offset).expect("64 bits"), answer.body.len());
        answer.body.drain(..from);
        answer.status = 206;
        answer.cut = None;
        partial = format!("Content-Range: bytes {from}-{}/{size}\r\n", size - 1);
    }
    let length = answer.length.unwrap_or(answer.body.len());
    let mut head = format!(
        "HTTP/1.1 {} X\r\nContent-Length: {length}\r\nConnection: close\r\n{partial}",
        answer.status
    );
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(head.as_bytes())?;
    stream.write_all(b"\r\n")?;
    let end = answer.cut.unwrap_or(answer.body.len());
    stream.write_all(&answer.body[..end])
}

fn choose(state: &mut State, request: &Request, address: SocketAddr) -> Answer {
    let authorization = request.authorization.as_deref();
    let challenge = match &state.access {
        Access::Everybody => None,
        Access::Basic(header) => {
            (authorization != Some(header)).then(|| "Basic realm=\"registry\"".to_owned())
        }
        Access::Token { token, header } => {
            if request.path.starts_with("/token") {
                return if header.is_none() || header.as_deref() == authorization {
                    Answer::ok(format!("{{\"token\":\"{token}\"}}").as_bytes())
                } else {
                    Answer::status(401)
                };
            }
            let expected = format!("Bearer {token}");
            let challenge = format!("Bearer realm=\"http://{address}/token\",service=\"registry\"");
            (authorization != Some(&expected)).then_some(challenge)
        }
    };
    if let Some(challenge) = challenge {
        return Answer::status(401).header("WWW-Authenticate", &challenge);
    }
    match state.answers.get_mut(&request.path) {
        Some(answer) if answer.busy > 0 => {
            answer.busy -= 1;
            Answer::status(503)
        }
        Some(answer) if answer.flaky > 0 => {
            answer.flaky -= 1;
            let half = answer.body.len() / 2;
            Answer {
                cut: Some(half),
                ..answer.clone()
            }
        }
        Some(answer) if answer.conditional && knows(request, answer) => Answer::status(304),
        Some(answer) => answer.clone(),
        None if request.path == "/v2/" => Answer::ok(b"{}"),
        None => Answer::status(404),
    }
}

/// Whether the client has what the answer would send: the tag counts, and the time without one.
fn knows(request: &Request, answer: &Answer) -> bool {
    let header = |wanted: &str| {
        let mut headers = answer.headers.iter();
        headers
            .find(|(name, _)| name == wanted)
            .map(|(_, value)| value)
    };
    match (&request.known_tag, &request.known_time) {
        (Some(tag), _) => header("ETag") == Some(tag),
        (None, Some(time)) => header("Last-Modified") == Some(time),
        (None, None) => false,
    }
}

fn read_request(stream: &TcpStream) -> std::io::Result<Option<Request>> {
    let mut lines = BufReader::new(stream).lines();
    let Some(first) = lines.next().transpose()? else {
        return Ok(None);
    };
    let mut request = Request {
        path: first.split(' ').nth(1).unwrap_or_default().to_owned(),
        authorization: None,
        range: None,
        known_tag: None,
        known_time: None,
    };
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(": ") else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "authorization" => request.authorization = Some(value.to_owned()),
            "if-none-match" => request.known_tag = Some(value.to_owned()),
            "if-modified-since" => request.known_time = Some(value.to_owned()),
            "range" => {
                let offset = value.trim_start_matches("bytes=").trim_end_matches('-');
                request.range = offset.parse().ok();
            }
            _ => {}
        }
    }
    Ok(Some(request))
}
