//! Messages between the parent and init, over one stream socket.
//!
//! The parent sends one [`Spec`]: its length in four little-endian bytes, then JSON; the number of its filters
//! and each of them, its length in words before it, the same way; then the command's
//! standard input and its network namespace if the spec says so. Init answers with a [`Message`] for each thing that it
//! made, the last of them [`Message::Report`], then the JSON of one [`Report`], then end of file. JSON because init and parent
//! are the same program and the messages are small.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;

use super::passwd::Identity;
use super::spec::{Report, Spec};
use crate::sys;
use crate::sys::socket::{Received, receive_byte, send_byte};

/// What one byte of init, or of the parent, announces.
#[derive(Debug)]
pub(crate) enum Message {
    /// A pidfd of pid 1.
    First(OwnedFd),
    /// The side of the command's terminal that is not the command's.
    Terminal(OwnedFd),
    /// A pidfd of the command.
    Command(OwnedFd),
    /// What the command reads; this one the parent sends, after the spec.
    Input(OwnedFd),
    /// The network namespace of the sandbox; from the parent as well, after that.
    Network(OwnedFd),
    /// The report follows.
    Report,
    /// The other side is gone.
    Closed,
}

pub(crate) fn send(socket: &UnixStream, message: &Message) -> sys::Result<()> {
    let (tag, fd) = match message {
        Message::First(fd) => (b'1', Some(fd)),
        Message::Terminal(fd) => (b't', Some(fd)),
        Message::Command(fd) => (b'c', Some(fd)),
        Message::Input(fd) => (b'i', Some(fd)),
        Message::Network(fd) => (b'n', Some(fd)),
        Message::Report => (b'r', None),
        Message::Closed => return Ok(()),
    };
    send_byte(socket, tag, fd.map(AsFd::as_fd))
}

/// The next message; only before a report has been announced.
pub(crate) fn receive(socket: &UnixStream) -> sys::Result<Message> {
    match receive_byte(socket)? {
        Received::Closed => Ok(Message::Closed),
        Received::Byte(b'1', Some(fd)) => Ok(Message::First(fd)),
        Received::Byte(b't', Some(fd)) => Ok(Message::Terminal(fd)),
        Received::Byte(b'c', Some(fd)) => Ok(Message::Command(fd)),
        Received::Byte(b'i', Some(fd)) => Ok(Message::Input(fd)),
        Received::Byte(b'n', Some(fd)) => Ok(Message::Network(fd)),
        Received::Byte(b'r', None) => Ok(Message::Report),
        Received::Byte(..) => Err(sys::Error::new("recvmsg", "", Errno::EPROTO)),
    }
}

/// An upper bound for a [`Spec`], heredoc contents included.
const MAX_SPEC: u32 = 1 << 30;

pub(crate) fn send_spec(mut socket: &UnixStream, spec: &Spec) -> io::Result<()> {
    let body = serde_json::to_vec(spec)?;
    let length = u32::try_from(body.len())
        .ok()
        .filter(|length| *length <= MAX_SPEC)
        .ok_or(io::ErrorKind::FileTooLarge)?;
    let mut bytes = Vec::with_capacity(body.len() + 64 * 1024);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&body);
    bytes.extend_from_slice(&length_of(&spec.filters)?.to_le_bytes());
    for filter in &spec.filters {
        bytes.extend_from_slice(&length_of(filter)?.to_le_bytes());
        filter
            .iter()
            .for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
    }
    socket.write_all(&bytes)
}

fn length_of<T>(list: &[T]) -> io::Result<u32> {
    let length = u32::try_from(list.len()).ok();
    Ok(length
        .filter(|length| *length <= MAX_FILTER)
        .ok_or(io::ErrorKind::FileTooLarge)?)
}

/// More than the kernel takes, of programs and of instructions in one.
const MAX_FILTER: u32 = 1 << 16;

pub(crate) fn receive_spec(socket: &UnixStream) -> io::Result<Spec> {
    let length = receive_length(socket, MAX_SPEC)?;
    let mut spec: Spec = serde_json::from_slice(&receive_bytes(socket, length as usize)?)?;
    for _ in 0..receive_length(socket, MAX_FILTER)? {
        let length = receive_length(socket, MAX_FILTER)?;
        let bytes = receive_bytes(socket, length as usize * WORD)?;
        let (words, _) = bytes.as_chunks::<WORD>();
        let filter = words.iter().copied().map(u64::from_le_bytes);
        spec.filters.push(filter.collect());
    }
    Ok(spec)
}

/// Bytes of an instruction.
const WORD: usize = 8;

fn receive_length(socket: &UnixStream, most: u32) -> io::Result<u32> {
    let mut length = [0; 4];
    (&mut &*socket).read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    if length > most {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(length)
}

fn receive_bytes(mut socket: &UnixStream, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    socket.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// One of the three standard descriptors of an init that is to be.
pub(crate) fn send_standard(control: &UnixStream, fd: BorrowedFd<'_>) -> sys::Result<()> {
    send_byte(control, STANDARD, Some(fd))
}

/// The other side of [`send_standard`]; `None` when that is gone.
pub(crate) fn receive_standard(control: &UnixStream) -> sys::Result<Option<OwnedFd>> {
    match receive_byte(control)? {
        Received::Closed => Ok(None),
        Received::Byte(STANDARD, Some(fd)) => Ok(Some(fd)),
        Received::Byte(..) => Err(sys::Error::new("recvmsg", "", Errno::EPROTO)),
    }
}

const STANDARD: u8 = b's';

/// What the command tells its supervisor: the listener of its filter, and who it is.
pub(crate) fn send_listener(
    mut channel: &UnixStream,
    listener: BorrowedFd<'_>,
    identity: &Identity,
) -> sys::Result<()> {
    let body = serde_json::to_vec(identity).expect("numbers and bytes");
    send_byte(channel, LISTENER, Some(listener))?;
    channel.write_all(&body).map_err(|error| {
        let errno = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
        sys::Error::new("write", "supervisor", errno)
    })
}

/// The other side of [`send_listener`], which closes its end afterwards; `None` when nothing came.
pub(crate) fn receive_listener(
    mut channel: &UnixStream,
) -> sys::Result<Option<(OwnedFd, Identity)>> {
    let listener = match receive_byte(channel)? {
        Received::Closed => return Ok(None),
        Received::Byte(LISTENER, Some(listener)) => listener,
        Received::Byte(..) => return Err(sys::Error::new("recvmsg", "", Errno::EPROTO)),
    };
    let mut body = Vec::new();
    let identity = channel
        .read_to_end(&mut body)
        .and_then(|_| Ok(serde_json::from_slice(&body)?))
        .map_err(|_| sys::Error::new("read", "the command", Errno::EPROTO))?;
    Ok(Some((listener, identity)))
}

const LISTENER: u8 = b'l';

pub(crate) fn send_report(mut socket: &UnixStream, report: &Report) -> io::Result<()> {
    socket.write_all(&serde_json::to_vec(report)?)
}

/// The report in all that init sent after its first byte; `None` when it is not whole.
pub(crate) fn parse_report(bytes: &[u8]) -> Option<Report> {
    serde_json::from_slice(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_as_what_they_were_sent() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let fd = || OwnedFd::from(theirs.try_clone().unwrap());
        for message in [
            Message::First(fd()),
            Message::Terminal(fd()),
            Message::Command(fd()),
            Message::Input(fd()),
            Message::Network(fd()),
            Message::Report,
        ] {
            send(&ours, &message).unwrap();
            let received = receive(&theirs).unwrap();
            let same = std::mem::discriminant(&received) == std::mem::discriminant(&message);
            assert!(same, "{message:?} became {received:?}");
        }
        send_byte(&ours, b'1', None).unwrap();
        assert_eq!(receive(&theirs).unwrap_err().errno, Errno::EPROTO);
        drop(ours);
        assert!(matches!(receive(&theirs).unwrap(), Message::Closed));
    }
}
