//! A blob's way from the runtime's thread to a blocking reader.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::{Method, Response, StatusCode};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::client::{Ask, Client, text};
use super::failure::{Failure, PAUSES, innermost, pause_of, retry};
use super::{block_on, runtime};
use crate::oci::Descriptor;
use crate::transport::Error;

/// Pieces on their way; each is what one read of the connection gave, some hundred KiB at most.
const IN_FLIGHT: usize = 8;
/// A connection that gives fewer bytes than this in the time of a stall is as good as silent, and one
/// that gave fewer in all was no success.
const DRIP: u64 = 1024;

/// What one read of the connection gave.
type Piece = Box<dyn AsRef<[u8]> + Send + Sync>;

/// The reading end. Dropping it ends the download.
pub(super) struct Download {
    pieces: Receiver<io::Result<Piece>>,
    piece: Option<Piece>,
    position: usize,
}

/// Requests the blob from byte `offset` on and waits for the head of the answer; the body follows as it
/// is read. A registry that does not give that part is asked for the whole; the number says where the
/// body begins, at `offset` or at 0.
pub(super) fn start(
    client: Arc<Client>,
    descriptor: Descriptor,
    offset: u64,
) -> Result<(u64, Download), Error> {
    let begin = retry(|| begin(&client, &descriptor, offset));
    let (from, response) = block_on(&client.stop, begin)?;
    let (sender, pieces) = channel(IN_FLIGHT);
    let body = Body { response, skip: 0 };
    drop(runtime()?.spawn(run(client, descriptor, from, body, sender)));
    let download = Download {
        pieces,
        piece: None,
        position: 0,
    };
    Ok((from, download))
}

/// A body, and how many of its first bytes the reader has already.
struct Body {
    response: Response,
    skip: u64,
}

/// What a registry gives that was asked for a part.
enum Opened {
    Whole(Response),
    /// From the wanted byte on.
    Rest(Response),
    /// The blob has no such part.
    Beyond,
    OtherPart,
}

async fn begin(
    client: &Client,
    descriptor: &Descriptor,
    offset: u64,
) -> Result<(u64, Response), Failure> {
    match ask(client, descriptor, offset).await? {
        Opened::Rest(response) => Ok((offset, response)),
        Opened::Whole(response) => Ok((0, response)),
        Opened::Beyond | Opened::OtherPart => match ask(client, descriptor, 0).await? {
            Opened::Whole(response) => Ok((0, response)),
            _ => Err(Failure::Final(client.refused("a part of a blob"))),
        },
    }
}

/// Goes on with a blob of which the reader has `offset` bytes.
async fn open(client: &Client, descriptor: &Descriptor, offset: u64) -> Result<Body, Failure> {
    match ask(client, descriptor, offset).await? {
        Opened::Rest(response) => Ok(Body { response, skip: 0 }),
        Opened::Whole(response) => Ok(Body {
            response,
            skip: offset,
        }),
        Opened::Beyond => {
            let error = truncated(client, descriptor, offset);
            Err(Failure::Transient(error, None))
        }
        Opened::OtherPart => Err(Failure::Final(
            client.refused("another part than was asked for"),
        )),
    }
}

async fn ask(client: &Client, descriptor: &Descriptor, offset: u64) -> Result<Opened, Failure> {
    let what = format!("blob {}", descriptor.digest);
    let url = client.url(&format!("blobs/{}", descriptor.digest));
    let mut ask = Ask::new(Method::GET, url);
    if offset > 0 {
        ask = ask.header(RANGE, &format!("bytes={offset}-"));
    }
    let response = client.once(&ask).await?;
    match response.status() {
        StatusCode::OK => Ok(Opened::Whole(response)),
        StatusCode::PARTIAL_CONTENT if offset > 0 => {
            let range = text(response.headers(), &CONTENT_RANGE).unwrap_or_default();
            if is_rest(&range, offset, descriptor.size) {
                Ok(Opened::Rest(response))
            } else {
                Ok(Opened::OtherPart)
            }
        }
        StatusCode::RANGE_NOT_SATISFIABLE if offset > 0 => Ok(Opened::Beyond),
        _ => Err(Failure::Final(client.refusal(response, &what).await)),
    }
}

/// Whether the part that a server sends (`bytes 100-199/200`, `bytes 100-199/*`) begins at `offset` of
/// a blob of `size` bytes.
fn is_rest(range: &str, offset: u64, size: u64) -> bool {
    let parts = || {
        let (part, whole) = range.strip_prefix("bytes ")?.split_once('/')?;
        Some((part.split_once('-')?.0, whole))
    };
    parts().is_some_and(|(start, whole)| {
        start.parse() == Ok(offset) && (whole == "*" || whole.parse() == Ok(size))
    })
}

/// Sends the body, continuing where a connection broke off, until several tries in a row gave nothing.
async fn run(
    client: Arc<Client>,
    descriptor: Descriptor,
    from: u64,
    body: Body,
    sender: Sender<io::Result<Piece>>,
) {
    let mut transfer = Transfer {
        client: &client,
        descriptor: &descriptor,
        sender: &sender,
        got: from,
    };
    if let Err(error) = client.stop.or(transfer.run(body)).await {
        let kind = match error {
            Error::Truncated { .. } => io::ErrorKind::UnexpectedEof,
            _ => io::ErrorKind::Other,
        };
        drop(sender.send(Err(io::Error::new(kind, error))).await);
    }
}

struct Transfer<'a> {
    client: &'a Client,
    descriptor: &'a Descriptor,
    sender: &'a Sender<io::Result<Piece>>,
    got: u64,
}

impl Transfer<'_> {
    async fn run(&mut self, body: Body) -> Result<(), Error> {
        let mut body = Some(body);
        let mut pauses = PAUSES.iter();
        let mut mark = self.got;
        loop {
            let failure = match body.take() {
                Some(body) => self.forward(body).await,
                None => match open(self.client, self.descriptor, self.got).await {
                    Ok(next) => {
                        body = Some(next);
                        continue;
                    }
                    Err(failure) => Err(failure),
                },
            };
            let (error, wanted) = match failure {
                Ok(()) => return Ok(()),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Transient(error, wanted)) => (error, wanted),
            };
            if self.got >= mark + DRIP {
                mark = self.got;
                pauses = PAUSES.iter();
            }
            match pauses.next() {
                Some(pause) if self.got <= self.descriptor.size => {
                    tokio::time::sleep(pause_of(*pause, wanted)).await;
                }
                _ => return Err(error),
            }
        }
    }

    /// Sends what `body` yields; `Ok` when it is complete or nobody reads any more.
    async fn forward(&mut self, mut body: Body) -> Result<(), Failure> {
        let mut waited = Duration::ZERO;
        let mut came = 0;
        loop {
            let began = Instant::now();
            let stall = self.client.stall;
            let piece = match tokio::time::timeout(stall, body.response.chunk()).await {
                Ok(Ok(Some(piece))) => piece,
                Ok(Ok(None)) if self.got >= self.descriptor.size => return Ok(()),
                Ok(Ok(None)) => return Err(self.cut(None)),
                Ok(Err(error)) => return Err(self.cut(Some(innermost(error)))),
                Err(_) => return Err(self.client.silent()),
            };
            // Only the time in which the registry was waited for counts.
            waited += began.elapsed();
            came += piece.len() as u64;
            if waited >= stall {
                if came < DRIP {
                    return Err(self.client.silent());
                }
                (waited, came) = (Duration::ZERO, 0);
            }
            let skipped =
                usize::try_from(body.skip).map_or(piece.len(), |skip| skip.min(piece.len()));
            body.skip -= skipped as u64;
            let fresh: Piece = match skipped {
                0 => Box::new(piece),
                _ => Box::new(piece[skipped..].to_vec()),
            };
            let length = (*fresh).as_ref().len() as u64;
            self.got += length;
            if length > 0 && self.sender.send(Ok(fresh)).await.is_err() {
                return Ok(());
            }
            if self.got > self.descriptor.size {
                return Ok(());
            }
        }
    }

    /// The failure of a body that ended too early.
    fn cut(&self, cause: Option<String>) -> Failure {
        match cause {
            Some(cause) if self.got >= self.descriptor.size => self.client.unreachable(cause),
            _ => Failure::Transient(truncated(self.client, self.descriptor, self.got), None),
        }
    }
}

fn truncated(client: &Client, descriptor: &Descriptor, got: u64) -> Error {
    Error::Truncated {
        name: client.name.clone(),
        what: format!("blob {}", descriptor.digest),
        got,
        size: descriptor.size,
    }
}

impl Read for Download {
    /// Must be called outside of the runtime's own threads.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(piece) = &self.piece {
                let rest = &(**piece).as_ref()[self.position..];
                if !rest.is_empty() {
                    let count = rest.len().min(buffer.len());
                    buffer[..count].copy_from_slice(&rest[..count]);
                    self.position += count;
                    return Ok(count);
                }
            }
            match self.pieces.blocking_recv() {
                None => return Ok(0),
                Some(piece) => self.piece = Some(piece?),
            }
            self.position = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_rest;

    #[test]
    fn a_part_is_the_rest_only_where_it_says_so() {
        for (range, expected) in [
            ("bytes 100-199/200", true),
            ("bytes 100-150/200", true),
            ("bytes 100-199/*", true),
            ("bytes 100-199/201", false),
            ("bytes 0-199/200", false),
            ("bytes */200", false),
            ("100-199/200", false),
            ("bytes 100-199", false),
            ("", false),
        ] {
            assert_eq!(is_rest(range, 100, 200), expected, "{range}");
        }
    }
}
