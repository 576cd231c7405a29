//! Messages between the parent and init, over one stream socket.
//!
//! The parent sends one [`Spec`]: its length in four little-endian bytes, then JSON. Init answers with
//! one byte that carries a pidfd of pid 1 (none if there never was one), then the JSON of one [`Report`],
//! then end of file. JSON because init and parent are the same program and the messages are small.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;

use super::spec::{Report, Spec};

/// An upper bound for a [`Spec`], heredoc contents included.
const MAX_SPEC: u32 = 1 << 30;

pub(crate) fn send_spec(mut socket: &UnixStream, spec: &Spec) -> io::Result<()> {
    let body = serde_json::to_vec(spec)?;
    let length = u32::try_from(body.len())
        .ok()
        .filter(|length| *length <= MAX_SPEC)
        .ok_or(io::ErrorKind::FileTooLarge)?;
    socket.write_all(&length.to_le_bytes())?;
    socket.write_all(&body)
}

pub(crate) fn receive_spec(mut socket: &UnixStream) -> io::Result<Spec> {
    let mut length = [0; 4];
    socket.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    if length > MAX_SPEC {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut body = vec![0; length as usize];
    socket.read_exact(&mut body)?;
    Ok(serde_json::from_slice(&body)?)
}

pub(crate) fn send_report(mut socket: &UnixStream, report: &Report) -> io::Result<()> {
    socket.write_all(&serde_json::to_vec(report)?)
}

/// The report in all that init sent after its first byte; `None` when it is not whole.
pub(crate) fn parse_report(bytes: &[u8]) -> Option<Report> {
    serde_json::from_slice(bytes).ok()
}
