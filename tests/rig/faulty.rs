//! A registry on the loopback that images can be pushed to, and that fails where a test tells it to.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use sha2::{Digest as _, Sha256};

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    pub(crate) method: String,
    /// With the query.
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    /// Of those that are [answered](Act::Answer) without the registry.
    pub(crate) body: Vec<u8>,
    /// How many requests came before.
    pub(crate) number: usize,
}

impl Heard {
    pub(crate) fn is(&self, method: &str, part: &str) -> bool {
        self.method == method && self.path.contains(part)
    }
}

/// What is done with a request.
pub(crate) enum Act {
    Serve,
    /// Hang up.
    Reset,
    /// Take so many bytes of the body, keep them, and hang up.
    CutUpload(usize),
    /// Forget all uploads that have begun, then serve.
    ForgetUploads,
    Answer(u16, Vec<(String, String)>, Vec<u8>),
    /// Write this again and again, after a pause of so many milliseconds each.
    Forever(Vec<u8>, Vec<u8>, u64),
}

type Fault = Box<dyn Fn(&Heard) -> Act + Send + Sync>;

#[derive(Default)]
struct Contents {
    blobs: BTreeMap<String, Vec<u8>>,
    /// Repository and digest.
    listed: BTreeSet<(String, String)>,
    /// `/v2/REPOSITORY/manifests/NAME`: type and bytes.
    manifests: BTreeMap<String, (String, Vec<u8>)>,
    uploads: BTreeMap<String, Vec<u8>>,
    heard: Vec<Heard>,
}

struct Shared {
    contents: Mutex<Contents>,
    fault: Mutex<Arc<Fault>>,
    stopped: AtomicBool,
}

/// The server; it stops when dropped.
pub(crate) struct Faulty {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Faulty {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let healthy: Fault = Box::new(|_| Act::Serve);
        let shared = Arc::new(Shared {
            contents: Mutex::default(),
            fault: Mutex::new(Arc::new(healthy)),
            stopped: AtomicBool::new(false),
        });
        let server = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if server.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let server = Arc::clone(&server);
                // A client that hangs up is what some tests are about.
                std::thread::spawn(move || drop(serve(stream, &server)));
            }
        });
        Self {
            address,
            shared,
            thread: Some(thread),
        }
    }

    /// `127.0.0.1:PORT`
    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// From now on requests are judged by `fault`, and no request before is known.
    pub(crate) fn fail(&self, fault: impl Fn(&Heard) -> Act + Send + Sync + 'static) {
        lock(&self.shared.contents).heard.clear();
        *lock(&self.shared.fault) = Arc::new(Box::new(fault));
    }

    pub(crate) fn heard(&self) -> Vec<Heard> {
        lock(&self.shared.contents).heard.clone()
    }

    /// The manifest `name` of `repository`.
    pub(crate) fn manifest(&self, repository: &str, name: &str) -> Option<Vec<u8>> {
        let path = format!("/v2/{repository}/manifests/{name}");
        let contents = lock(&self.shared.contents);
        contents
            .manifests
            .get(&path)
            .map(|(_, bytes)| bytes.clone())
    }

    pub(crate) fn set_manifest(
        &self,
        repository: &str,
        name: &str,
        media_type: &str,
        bytes: &[u8],
    ) {
        let path = format!("/v2/{repository}/manifests/{name}");
        let manifest = (media_type.to_owned(), bytes.to_vec());
        lock(&self.shared.contents).manifests.insert(path, manifest);
    }

    pub(crate) fn blob(&self, digest: &str) -> Option<Vec<u8>> {
        lock(&self.shared.contents).blobs.get(digest).cloned()
    }

    pub(crate) fn forget_blob(&self, digest: &str) {
        let mut contents = lock(&self.shared.contents);
        contents.blobs.remove(digest);
        contents.listed.retain(|(_, listed)| listed != digest);
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

pub(crate) fn digest_of(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn serve(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut words = first.split(' ');
    let (Some(method), Some(path)) = (words.next(), words.next()) else {
        return Ok(());
    };
    let mut heard = Heard {
        method: method.to_owned(),
        path: path.to_owned(),
        headers: BTreeMap::new(),
        body: Vec::new(),
        number: 0,
    };
    for line in reader.by_ref().lines() {
        let line = line?;
        let Some((name, value)) = line.split_once(": ") else {
            break;
        };
        heard
            .headers
            .insert(name.to_ascii_lowercase(), value.to_owned());
    }
    {
        let mut contents = lock(&shared.contents);
        heard.number = contents.heard.len();
        contents.heard.push(heard.clone());
    }
    let fault = Arc::clone(&lock(&shared.fault));
    let act = fault(&heard);
    let length = heard.headers.get("content-length");
    let length: usize = length.and_then(|text| text.parse().ok()).unwrap_or(0);
    match act {
        Act::Reset => return Ok(()),
        Act::CutUpload(count) => {
            let mut body = vec![0; count.min(length)];
            reader.read_exact(&mut body)?;
            upload_of(&mut lock(&shared.contents), &heard.path).extend(body);
            return Ok(());
        }
        Act::Answer(status, headers, reply) => {
            let mut body = Vec::new();
            reader.take(length as u64).read_to_end(&mut body)?;
            if let Some(there) = lock(&shared.contents).heard.get_mut(heard.number) {
                there.body = body;
            }
            return answer(&mut stream, status, &headers, &reply, &heard.method);
        }
        Act::Forever(head, piece, pause) => {
            stream.write_all(&head)?;
            while !shared.stopped.load(Ordering::SeqCst) {
                stream.write_all(&piece)?;
                stream.flush()?;
                std::thread::sleep(std::time::Duration::from_millis(pause));
            }
            return Ok(());
        }
        Act::ForgetUploads => lock(&shared.contents).uploads.clear(),
        Act::Serve => {}
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let (status, headers, bytes) = handle(&mut lock(&shared.contents), &heard, &body);
    answer(&mut stream, status, &headers, &bytes, &heard.method)
}

fn answer(
    stream: &mut TcpStream,
    status: u16,
    headers: &[(String, String)],
    body: &[u8],
    method: &str,
) -> io::Result<()> {
    let mut head = format!("HTTP/1.1 {status} X\r\nConnection: close\r\n");
    if status != 204 {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(head.as_bytes())?;
    stream.write_all(b"\r\n")?;
    if method != "HEAD" {
        stream.write_all(body)?;
    }
    Ok(())
}

fn upload_of<'a>(contents: &'a mut Contents, path: &str) -> &'a mut Vec<u8> {
    let name = path.split('?').next().unwrap().to_owned();
    contents.uploads.entry(name).or_default()
}

type Reply = (u16, Vec<(String, String)>, Vec<u8>);

fn header(name: &str, value: impl Into<String>) -> (String, String) {
    (name.to_owned(), value.into())
}

fn status(status: u16) -> Reply {
    (status, Vec::new(), Vec::new())
}

fn handle(contents: &mut Contents, heard: &Heard, body: &[u8]) -> Reply {
    let (path, query) = heard.path.split_once('?').unwrap_or((&heard.path, ""));
    let query: BTreeMap<String, String> = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| {
            (
                name.to_owned(),
                value.replace("%3A", ":").replace("%2F", "/"),
            )
        })
        .collect();
    if path == "/v2/" {
        return status(200);
    }
    if path.contains("/manifests/") {
        return manifests(contents, heard, path, body);
    }
    let Some((repository, rest)) = path
        .strip_prefix("/v2/")
        .and_then(|p| p.split_once("/blobs/"))
    else {
        return status(404);
    };
    let repository = repository.to_owned();
    match heard.method.as_str() {
        "GET" | "HEAD" if !rest.starts_with("uploads/") => {
            if !contents.listed.contains(&(repository, rest.to_owned())) {
                return status(404);
            }
            let bytes = contents.blobs[rest].clone();
            let range = heard.headers.get("range").map(|range| {
                let from = range.trim_start_matches("bytes=").trim_end_matches('-');
                from.parse::<usize>().unwrap()
            });
            match range {
                None => (200, Vec::new(), bytes),
                Some(from) => {
                    let range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
                    (
                        206,
                        vec![header("Content-Range", range)],
                        bytes[from..].to_vec(),
                    )
                }
            }
        }
        "POST" => {
            let from = query.get("from").zip(query.get("mount"));
            if let Some((from, digest)) = from
                && contents.listed.contains(&(from.clone(), digest.clone()))
            {
                contents.listed.insert((repository, digest.clone()));
                return status(201);
            }
            let path = format!("/v2/{repository}/blobs/uploads/{}", heard.number);
            contents.uploads.insert(path.clone(), Vec::new());
            (202, vec![header("Location", path)], Vec::new())
        }
        _ if !contents.uploads.contains_key(path) => status(404),
        "GET" | "PATCH" => {
            let there = contents.uploads.get_mut(path).unwrap();
            if heard.method == "PATCH" {
                let range = heard.headers.get("content-range");
                let start = range.and_then(|range| range.split('-').next()?.parse().ok());
                if start.unwrap_or(0) != there.len() {
                    return status(416);
                }
                there.extend(body);
            }
            let last = there.len().saturating_sub(1);
            let headers = vec![
                header("Location", path),
                header("Range", format!("0-{last}")),
            ];
            let code = if heard.method == "GET" { 204 } else { 202 };
            (code, headers, Vec::new())
        }
        "PUT" => {
            let bytes = contents.uploads.remove(path).unwrap();
            let digest = query["digest"].clone();
            if digest_of(&bytes) != digest {
                let body = br#"{"errors":[{"code":"DIGEST_INVALID","message":"wrong digest"}]}"#;
                return (400, Vec::new(), body.to_vec());
            }
            contents.blobs.insert(digest.clone(), bytes);
            contents.listed.insert((repository, digest));
            status(201)
        }
        _ => status(405),
    }
}

fn manifests(contents: &mut Contents, heard: &Heard, path: &str, body: &[u8]) -> Reply {
    if heard.method == "PUT" {
        let (place, _) = path.rsplit_once('/').unwrap();
        let digest = digest_of(body);
        let manifest = (heard.headers["content-type"].clone(), body.to_vec());
        contents.manifests.insert(path.to_owned(), manifest.clone());
        contents
            .manifests
            .insert(format!("{place}/{digest}"), manifest);
        return (
            201,
            vec![header("Docker-Content-Digest", digest)],
            Vec::new(),
        );
    }
    match contents.manifests.get(path) {
        Some((of_type, bytes)) => (200, vec![header("Content-Type", of_type)], bytes.clone()),
        None => status(404),
    }
}
