//! Messages between the parent and init, over one stream socket.
//!
//! The parent sends a [`Ground`], JSON with its length in four little-endian bytes before it, and the network
//! namespace if that has one; later one [`Spec`] in four parts, each with its length, as all of them together:
//! JSON, and what would be long in that, lists of paths and filters, each again of such parts; then the
//! command's standard input if the spec says so. Init answers with a [`Message`] for each thing that it
//! made, the last of them [`Message::Report`], then one [`Report`], JSON with its length, then end of file. JSON
//! because init and parent are the same program and the messages are small.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;

use super::passwd::Identity;
use super::spec::{Emulation, Ground, Report, Spec};
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
    /// The network namespace of the sandbox; from the parent as well, after the ground.
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

pub(crate) fn send_ground(mut socket: &UnixStream, ground: &Ground) -> io::Result<()> {
    let mut bytes = Vec::new();
    push_part(&mut bytes, &serde_json::to_vec(ground)?)?;
    socket.write_all(&bytes)
}

pub(crate) fn receive_ground(socket: &UnixStream) -> io::Result<Ground> {
    Ok(serde_json::from_slice(&receive_part(socket)?)?)
}

pub(crate) fn send_spec(socket: &UnixStream, spec: &Spec) -> io::Result<()> {
    let mut bytes = vec![0; LENGTH];
    push_part(&mut bytes, &serde_json::to_vec(spec)?)?;
    push_list(&mut bytes, spec.lowers.iter().map(|path| path.as_bytes()))?;
    push_tables(&mut bytes, spec.emulation.as_ref())?;
    let filters = spec.filters.iter().map(|filter| -> Vec<u8> {
        let words = filter.iter().flat_map(|word| word.to_le_bytes());
        words.collect()
    });
    push_list(&mut bytes, filters)?;
    write_whole(socket, bytes)
}

fn push_tables(bytes: &mut Vec<u8>, emulation: Option<&Emulation>) -> io::Result<()> {
    let tables = emulation.iter().flat_map(|emulation| &emulation.tables);
    push_list(bytes, tables.map(|path| path.as_bytes()))
}

/// Writes `bytes`, which have room for their length at the start.
fn write_whole(mut socket: &UnixStream, mut bytes: Vec<u8>) -> io::Result<()> {
    let whole = length(bytes.len() - LENGTH)?;
    bytes[..LENGTH].copy_from_slice(&whole);
    socket.write_all(&bytes)
}

/// Bytes of the length before a part, and of an instruction.
const LENGTH: usize = 4;
const WORD: usize = 8;

fn length(length: usize) -> io::Result<[u8; LENGTH]> {
    let length = u32::try_from(length)
        .ok()
        .filter(|length| *length <= MAX_SPEC)
        .ok_or(io::ErrorKind::FileTooLarge)?;
    Ok(length.to_le_bytes())
}

fn push_part(bytes: &mut Vec<u8>, part: &[u8]) -> io::Result<()> {
    bytes.extend_from_slice(&length(part.len())?);
    bytes.extend_from_slice(part);
    Ok(())
}

/// As one part.
fn push_list<P: AsRef<[u8]>>(
    bytes: &mut Vec<u8>,
    mut parts: impl Iterator<Item = P>,
) -> io::Result<()> {
    let mut list = Vec::new();
    parts.try_for_each(|part| push_part(&mut list, part.as_ref()))?;
    push_part(bytes, &list)
}

pub(crate) fn receive_spec(socket: &UnixStream) -> io::Result<Spec> {
    parse_spec(&receive_part(socket)?).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// What [`push_part`] wrote.
fn receive_part(mut socket: &UnixStream) -> io::Result<Vec<u8>> {
    let mut whole = [0; LENGTH];
    socket.read_exact(&mut whole)?;
    let whole = u32::from_le_bytes(whole);
    if whole > MAX_SPEC {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; whole as usize];
    socket.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn parse_spec(bytes: &[u8]) -> Option<Spec> {
    let all = parts(bytes)?;
    let [body, lowers, tables, filters] = all[..] else {
        return None;
    };
    let mut spec: Spec = serde_json::from_slice(body).ok()?;
    spec.lowers = paths(lowers)?;
    if let Some(emulation) = &mut spec.emulation {
        emulation.tables = paths(tables)?;
    }
    for filter in parts(filters)? {
        let (words, _) = filter.as_chunks::<WORD>();
        let words = words.iter().copied().map(u64::from_le_bytes);
        spec.filters.push(words.collect());
    }
    Some(spec)
}

fn paths(list: &[u8]) -> Option<Vec<OsString>> {
    let paths = parts(list)?.into_iter();
    Some(
        paths
            .map(|path| OsString::from_vec(path.to_vec()))
            .collect(),
    )
}

/// What [`push_part`] wrote one after the other.
fn parts(mut bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut parts = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk::<LENGTH>()?;
        let (part, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        parts.push(part);
        bytes = rest;
    }
    Some(parts)
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

/// What pid 1 tells the supervisor: what it needs, and the upper directory.
pub(crate) fn send_emulation(
    channel: &UnixStream,
    emulation: &Emulation,
    upper: &OsStr,
) -> io::Result<()> {
    let mut bytes = vec![0; LENGTH];
    push_part(&mut bytes, &serde_json::to_vec(emulation)?)?;
    push_tables(&mut bytes, Some(emulation))?;
    push_part(&mut bytes, upper.as_bytes())?;
    write_whole(channel, bytes)
}

/// The other side of [`send_emulation`].
pub(crate) fn receive_emulation(channel: &UnixStream) -> io::Result<(Emulation, OsString)> {
    let bytes = receive_part(channel)?;
    parse_emulation(&bytes).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn parse_emulation(bytes: &[u8]) -> Option<(Emulation, OsString)> {
    let all = parts(bytes)?;
    let [body, tables, upper] = all[..] else {
        return None;
    };
    let mut emulation: Emulation = serde_json::from_slice(body).ok()?;
    emulation.tables = paths(tables)?;
    Some((emulation, OsString::from_vec(upper.to_vec())))
}

/// What the command tells its supervisor: the listener of its filter, and who it is.
pub(crate) fn send_listener(
    mut channel: &UnixStream,
    listener: BorrowedFd<'_>,
    identity: &Identity,
) -> sys::Result<()> {
    let body = serde_json::to_vec(identity).expect("numbers and bytes");
    send_byte(channel, LISTENER, Some(listener))?;
    let written = channel
        .write_all(&body)
        .and_then(|()| channel.shutdown(Shutdown::Write));
    written.map_err(|error| {
        let errno = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
        sys::Error::new("write", "supervisor", errno)
    })
}

/// The other side of [`send_listener`], after which nothing comes; `None` when that did not come either.
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
    let mut bytes = Vec::new();
    push_part(&mut bytes, &serde_json::to_vec(report)?)?;
    socket.write_all(&bytes)
}

/// The report in all that init sent after announcing it; `None` while it is not whole.
pub(crate) fn parse_report(bytes: &[u8]) -> Option<Report> {
    let (length, body) = bytes.split_first_chunk::<LENGTH>()?;
    let body = body.get(..u32::from_le_bytes(*length) as usize)?;
    serde_json::from_slice(body).ok()
}

#[cfg(test)]
mod tests {
    use super::super::spec::{Console, Network};
    use super::*;

    #[test]
    fn a_spec_arrives_with_its_lists() {
        let paths = |texts: &[&[u8]]| -> Vec<OsString> {
            let texts = texts.iter().map(|text| text.to_vec());
            texts.map(OsString::from_vec).collect()
        };
        let spec = Spec {
            tree: None,
            lowers: paths(&[b"/a", b"", b"/not \xff text"]),
            upper: "/upper".into(),
            work: "/work".into(),
            args: paths(&[b"true"]),
            env: Vec::new(),
            cwd: "/".into(),
            console: Console::Captured,
            read_only: false,
            user: String::new(),
            hostname: "h".to_owned(),
            network: Network::Host,
            resolv_conf: Vec::new(),
            hosts: Vec::new(),
            shm_size: 0,
            limits: Vec::new(),
            insecure: false,
            mounts: Vec::new(),
            filters: vec![vec![1, u64::MAX], Vec::new(), vec![7]],
            emulation: Some(Emulation {
                filter: vec![9],
                tables: paths(&[b"/a/owners"]),
                table: "/t".into(),
            }),
        };
        let (ours, theirs) = UnixStream::pair().unwrap();
        send_spec(&ours, &spec).unwrap();
        let received = receive_spec(&theirs).unwrap();
        assert_eq!(format!("{received:?}"), format!("{spec:?}"));
        drop(ours);
        assert!(receive_spec(&theirs).is_err());
        for damaged in [&b""[..], b"\x01", b"\x09\0\0\0x", b"\0\0\0\0"] {
            assert!(parse_spec(damaged).is_none(), "{damaged:?}");
        }
    }

    #[test]
    fn the_ground_and_the_orders_of_the_supervisor_arrive_and_nothing_after_them_is_read() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let ground = Ground::Namespaces {
            network: Network::None,
            shm_size: 1 << 40,
            is_emulated: true,
        };
        let emulation = Emulation {
            filter: vec![9, u64::MAX],
            tables: vec!["/a/owners".into(), OsString::from_vec(b"/\xff".to_vec())],
            table: "/t".into(),
        };
        send_ground(&ours, &ground).unwrap();
        send_emulation(&ours, &emulation, OsStr::new("/upper")).unwrap();
        send(&ours, &Message::Report).unwrap();
        assert_eq!(receive_ground(&theirs).unwrap(), ground);
        let received = receive_emulation(&theirs).unwrap();
        assert_eq!(received, (emulation, OsString::from("/upper")));
        assert!(matches!(receive(&theirs).unwrap(), Message::Report));
        drop(ours);
        assert!(receive_ground(&theirs).is_err());
        assert!(receive_emulation(&theirs).is_err());
    }

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
