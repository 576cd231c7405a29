//! A blob's way from the runtime's thread to a blocking reader.

use std::io::{self, Read};

use futures_util::StreamExt as _;
use oci_client::client::{BlobResponse, SizedStream};
use oci_client::errors::{DigestError, OciDistributionError};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::oci::Descriptor;

use super::{Connection, Error, PAUSES, block_on, retry, runtime};

/// Pieces on their way; each is what one read of the connection gave, some hundred KiB at most.
const IN_FLIGHT: usize = 4;

/// The reading end. Dropping it ends the download.
pub(super) struct Download {
    pieces: Receiver<io::Result<Vec<u8>>>,
    piece: Vec<u8>,
    position: usize,
}

/// Requests the blob and waits for the head of the answer; the body follows as it is read.
pub(super) fn start(connection: Connection, descriptor: Descriptor) -> Result<Download, Error> {
    let opened = block_on(async {
        connection
            .client
            .store_auth_if_needed(connection.reference.resolve_registry(), &connection.auth)
            .await;
        retry(|| open(&connection, &descriptor, 0)).await
    })?;
    let what = format!("blob {}", descriptor.digest);
    let body = opened.map_err(|error| connection.error(error, &what))?;
    let (sender, pieces) = channel(IN_FLIGHT);
    drop(runtime()?.spawn(run(connection, descriptor, body, sender)));
    Ok(Download {
        pieces,
        piece: Vec::new(),
        position: 0,
    })
}

/// A body, and how many of its first bytes the reader has already.
struct Response {
    stream: SizedStream,
    skip: u64,
}

async fn open(
    connection: &Connection,
    descriptor: &Descriptor,
    offset: u64,
) -> Result<Response, OciDistributionError> {
    let (client, reference) = (&connection.client, &connection.reference);
    let digest = descriptor.digest.as_str();
    if offset == 0 {
        let stream = client.pull_blob_stream(reference, digest).await?;
        return Ok(Response { stream, skip: 0 });
    }
    let response = client
        .pull_blob_stream_partial(reference, digest, offset, None)
        .await?;
    Ok(match response {
        BlobResponse::Full(stream) => Response {
            stream,
            skip: offset,
        },
        BlobResponse::Partial(stream) => Response { stream, skip: 0 },
    })
}

/// Sends the body, continuing where a connection broke off, until three tries in a row gave nothing.
async fn run(
    connection: Connection,
    descriptor: Descriptor,
    mut body: Response,
    sender: Sender<io::Result<Vec<u8>>>,
) {
    let mut got = 0;
    let mut pauses = PAUSES.iter();
    loop {
        let before = got;
        let cause = match forward(&mut body, &mut got, &sender).await {
            Ok(()) => return,
            Err(cause) => cause,
        };
        if got > before {
            pauses = PAUSES.iter();
        }
        let pause = match pauses.next() {
            Some(pause) if got < descriptor.size => pause,
            _ => {
                return drop(
                    sender
                        .send(Err(explain(&connection, &descriptor, got, cause)))
                        .await,
                );
            }
        };
        tokio::time::sleep(*pause).await;
        match open(&connection, &descriptor, got).await {
            Ok(next) => body = next,
            Err(error) => {
                let error = connection.error(error, &format!("blob {}", descriptor.digest));
                return drop(sender.send(Err(io::Error::other(error))).await);
            }
        }
    }
}

/// Sends what `body` yields; `Ok` when it is complete or nobody reads any more.
async fn forward(
    body: &mut Response,
    got: &mut u64,
    sender: &Sender<io::Result<Vec<u8>>>,
) -> io::Result<()> {
    while let Some(piece) = body.stream.next().await {
        let piece = piece?;
        let skipped = usize::try_from(body.skip).map_or(piece.len(), |skip| skip.min(piece.len()));
        body.skip -= skipped as u64;
        let fresh = piece[skipped..].to_vec();
        *got += fresh.len() as u64;
        if !fresh.is_empty() && sender.send(Ok(fresh)).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// The reader's error for a body that ended with `cause`.
fn explain(
    connection: &Connection,
    descriptor: &Descriptor,
    got: u64,
    cause: io::Error,
) -> io::Error {
    let name = connection.reference.whole();
    let what = format!("blob {}", descriptor.digest);
    if got < descriptor.size {
        let truncated = Error::Truncated {
            name,
            what,
            got,
            size: descriptor.size,
        };
        return io::Error::new(io::ErrorKind::UnexpectedEof, truncated);
    }
    match cause.downcast::<DigestError>() {
        Ok(error) => io::Error::other(connection.error(error.into(), &what)),
        Err(cause) => io::Error::other(connection.unreachable(Box::new(cause))),
    }
}

impl Read for Download {
    /// Must be called outside of the runtime's own threads.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.position == self.piece.len() {
            match self.pieces.blocking_recv() {
                None => return Ok(0),
                Some(piece) => self.piece = piece?,
            }
            self.position = 0;
        }
        let rest = &self.piece[self.position..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.position += count;
        Ok(count)
    }
}
