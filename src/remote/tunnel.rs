//! The way of git to servers where private addresses are refused: git resolves names itself, so it gets
//! a proxy that connects to nothing else (RFC 9110, 9.3.6).

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::reach::{self, Refused};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The most that a request may have before its empty line.
const LONGEST_REQUEST: usize = 8 << 10;
const USER: &str = "rbuild";

/// A proxy on the loopback for one user of it; it ends with the value.
pub(super) struct Tunnel {
    address: SocketAddr,
    password: String,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// What a request must have: other users of this machine reach the port too.
    authorization: String,
    over: AtomicBool,
    refused: Mutex<Option<Refused>>,
}

impl Tunnel {
    pub(super) fn start() -> io::Result<Self> {
        let mut random = [0; 24];
        std::fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
        let password = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(random);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let shared = Arc::new(Shared {
            authorization: format!("Basic {}", STANDARD.encode(format!("{USER}:{password}"))),
            ..Shared::default()
        });
        let tunnel = Self {
            address: listener.local_addr()?,
            password,
            shared: Arc::clone(&shared),
        };
        std::thread::Builder::new()
            .name("tunnel".to_owned())
            .spawn(move || accept(&listener, &shared))?;
        Ok(tunnel)
    }

    /// As of git's setting `http.proxy`.
    pub(super) fn url(&self) -> String {
        format!("http://{USER}:{}@{}", self.password, self.address)
    }

    /// The last connection that was not made.
    pub(super) fn refused(&self) -> Option<Refused> {
        let refused = &self.shared.refused;
        let refused = refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.clone()
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        // Wakes the thread; if that fails, it waits for the end of the program.
        drop(TcpStream::connect_timeout(&self.address, CONNECT_TIMEOUT));
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    while let Ok((client, _)) = listener.accept() {
        if shared.over.load(Ordering::SeqCst) {
            return;
        }
        let shared = Arc::clone(shared);
        let served = std::thread::Builder::new()
            .name("tunnel".to_owned())
            .spawn(move || serve(client, &shared));
        // Without a thread the connection is closed, which git reports.
        drop(served);
    }
}

/// One connection. What fails, fails for git, which says so.
fn serve(mut client: TcpStream, shared: &Shared) -> io::Result<()> {
    client.set_read_timeout(Some(CONNECT_TIMEOUT))?;
    let request = read_request(&mut client)?;
    let answer = match target(&request, &shared.authorization) {
        Err(status) => Err(status),
        Ok((host, port)) => connect(host, port).map_err(|error| {
            let refused = reach::refused_in(&error);
            let status = match refused {
                Some(_) => "403 Forbidden",
                None => "502 Bad Gateway",
            };
            if refused.is_some() {
                *shared
                    .refused
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner) = refused;
            }
            status
        }),
    };
    let server = match answer {
        Ok(server) => server,
        Err(status) => {
            let challenge = "Proxy-Authenticate: Basic realm=\"rbuild\"\r\n";
            let text = format!("HTTP/1.1 {status}\r\n{challenge}Content-Length: 0\r\n\r\n");
            return client.write_all(text.as_bytes());
        }
    };
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    client.set_read_timeout(None)?;
    let (from, to) = (client.try_clone()?, server.try_clone()?);
    let back = std::thread::Builder::new()
        .name("tunnel".to_owned())
        .spawn(move || pass(server, client))?;
    pass(from, to);
    drop(back.join());
    Ok(())
}

/// Copies to the end, and closes both sides for this direction.
fn pass(mut from: TcpStream, mut to: TcpStream) {
    drop(io::copy(&mut from, &mut to));
    drop(to.shutdown(Shutdown::Write));
    drop(from.shutdown(Shutdown::Read));
}

/// Up to the empty line, and not a byte more: what follows is the server's.
fn read_request(client: &mut TcpStream) -> io::Result<String> {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte)?;
        request.push(byte[0]);
        if request.len() > LONGEST_REQUEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    String::from_utf8(request).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// The server that a request names, or the status that it gets.
fn target<'a>(request: &'a str, authorization: &str) -> Result<(&'a str, u16), &'static str> {
    let mut lines = request.lines();
    let mut words = lines.next().unwrap_or_default().split(' ');
    let is_known = lines
        .filter_map(|line| line.split_once(':'))
        .any(|(name, value)| {
            name.eq_ignore_ascii_case("proxy-authorization") && value.trim() == authorization
        });
    if !is_known {
        return Err("407 Proxy Authentication Required");
    }
    if words.next() != Some("CONNECT") {
        return Err("405 Method Not Allowed");
    }
    let named = words
        .next()
        .and_then(|authority| authority.rsplit_once(':'));
    let parsed = named.and_then(|(host, port)| {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Some((host, port.parse().ok()?))
    });
    parsed.ok_or("400 Bad Request")
}

fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in reach::resolve(host, port)? {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(server) => return Ok(server),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_knows_the_password_is_connected() {
        for (request, expected) in [
            (
                "CONNECT h:443 HTTP/1.1\r\nProxy-Authorization: A\r\n\r\n",
                Ok(("h", 443)),
            ),
            (
                "CONNECT [::1]:1 HTTP/1.1\r\nproxy-authorization:A\r\n\r\n",
                Ok(("::1", 1)),
            ),
            (
                "CONNECT h:443 HTTP/1.1\r\nProxy-Authorization: B\r\n\r\n",
                Err("407"),
            ),
            ("CONNECT h:443 HTTP/1.1\r\n\r\n", Err("407")),
            (
                "GET http://h/ HTTP/1.1\r\nProxy-Authorization: A\r\n\r\n",
                Err("405"),
            ),
            (
                "CONNECT h HTTP/1.1\r\nProxy-Authorization: A\r\n\r\n",
                Err("400"),
            ),
            ("", Err("407")),
        ] {
            let found = target(request, "A").map_err(|status| &status[..3]);
            assert_eq!(found, expected, "{request:?}");
        }
    }

    #[test]
    fn bytes_go_both_ways() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = server.local_addr().unwrap().port();
        let echo = std::thread::spawn(move || {
            let (mut stream, _) = server.accept().unwrap();
            let mut text = [0; 4];
            stream.read_exact(&mut text).unwrap();
            stream.write_all(&text).unwrap();
        });
        let tunnel = Tunnel::start().unwrap();
        let mut client = TcpStream::connect(tunnel.address).unwrap();
        client.set_read_timeout(Some(CONNECT_TIMEOUT)).unwrap();
        let authorization = &tunnel.shared.authorization;
        write!(
            client,
            "CONNECT 127.0.0.1:{port} HTTP/1.1\r\nProxy-Authorization: {authorization}\r\n\r\n"
        )
        .unwrap();
        assert!(
            read_request(&mut client)
                .unwrap()
                .starts_with("HTTP/1.1 200")
        );
        client.write_all(b"ping").unwrap();
        let mut text = [0; 4];
        client.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"ping");
        echo.join().unwrap();
    }
}
