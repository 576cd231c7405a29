//! `type=ssh`: the user's agent behind a proxy that signs and lists, and does nothing else.
//!
//! The command is not trusted: with the agent itself it could add, remove and lock the user's keys
//! (draft-miller-ssh-agent, section 4). The proxy passes on two kinds of requests and answers the
//! others itself. It ends with the step.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect as connect_socket, socket,
};

use super::super::engine::Engine;
use super::super::error::StepError;
use super::super::run_options::SshAgent;
use crate::dockerfile::SshMount;
use crate::ownership::Ownership;
use crate::sandbox::Mount;
use crate::sys;

const FAILURE: u8 = 5;
const REQUEST_IDENTITIES: u8 = 11;
const SIGN_REQUEST: u8 = 13;

/// The longest message that OpenSSH's agent takes (`AGENT_MAX_LEN` in its sources).
const LONGEST: u32 = 256 * 1024;

/// Connections at one time: each costs the builder two descriptors and a thread.
const CONNECTIONS: usize = 32;

const SOCKET: &str = "agent";

/// A listening proxy; dropping it ends every connection.
#[derive(Debug)]
pub(super) struct Proxy {
    stop: UnixStream,
    thread: Option<JoinHandle<()>>,
}

/// Starts the proxy for a mount. `None` when the user gave no such agent and none is required.
pub(super) fn prepare(
    engine: &Engine<'_>,
    mount: &SshMount,
    target: OsString,
) -> Result<Option<(Proxy, Mount)>, StepError> {
    let agents = &engine.request.run.ssh;
    let Some(agent) = agents.iter().rfind(|agent| agent.id == mount.id) else {
        if !mount.required {
            return Ok(None);
        }
        let id = &mount.id;
        let message = format!("ssh agent {id}: not found (--ssh {id} gives it)");
        return Err(StepError::Value { message });
    };
    let owner = (mount.uid.unwrap_or(0), mount.gid.unwrap_or(0));
    // A socket has no room for a record, and with one id it is everybody's who runs in the step.
    let owner = match engine.store.ownership() {
        Ownership::Mapped => owner,
        Ownership::Recorded(_) | Ownership::Discarded => (0, 0),
    };
    let directory = engine.store.scratch()?;
    let start = || Proxy::start(agent, &directory, owner, mount.mode.unwrap_or(0o600));
    let proxy = start().map_err(|source| StepError::Ssh {
        id: mount.id.clone(),
        source,
    })?;
    let mount = Mount::Bind {
        source: directory.join(SOCKET).into(),
        target,
        read_only: true,
    };
    Ok(Some((proxy, mount)))
}

impl Proxy {
    fn start(
        agent: &SshAgent,
        directory: &Path,
        (uid, gid): (u32, u32),
        mode: u32,
    ) -> io::Result<Self> {
        let place = sys::fs::open_directory(directory)?;
        // The path of a socket has at most 107 bytes (unix(7)); the store's may be longer.
        let path = format!("/proc/self/fd/{}/{SOCKET}", place.as_raw_fd());
        let listener = UnixListener::bind(path)?;
        let name = OsStr::new(SOCKET);
        if (uid, gid) != (0, 0) {
            sys::fs::chown_at(&place, name, uid, gid)?;
        }
        sys::fs::chmod_at(&place, name, mode)?;
        listener.set_nonblocking(true)?;
        let (stop, stopped) = UnixStream::pair()?;
        let socket = agent.socket.clone();
        let thread = std::thread::Builder::new()
            .name("ssh proxy".to_owned())
            .spawn(move || serve(&listener, &stopped, &socket))?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // The other end is in the thread, which is there until it sees this.
        drop(self.stop.shutdown(Shutdown::Both));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// The two ends of each open connection, by its number.
type Connections = Mutex<BTreeMap<u64, (UnixStream, UnixStream)>>;

/// Accepts connections until `stopped` is closed, then ends them all.
fn serve(listener: &UnixListener, stopped: &UnixStream, agent: &Path) {
    let open = Connections::default();
    let mut next = 0;
    std::thread::scope(|scope| {
        loop {
            let mut polled = [
                PollFd::new(stopped.as_fd(), PollFlags::POLLIN),
                PollFd::new(listener.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut polled, PollTimeout::NONE) {
                Ok(_) => {}
                Err(Errno::EINTR) => continue,
                Err(_) => break,
            }
            if polled[0].any() != Some(false) {
                break;
            }
            let Ok((client, _)) = listener.accept() else {
                continue;
            };
            // Who cannot be served sees the connection close.
            let Ok(pair) = connect(client, agent) else {
                continue;
            };
            let mut list = open.lock().unwrap_or_else(PoisonError::into_inner);
            if list.len() >= CONNECTIONS {
                continue;
            }
            let (Ok(client), Ok(agent)) = (pair.0.try_clone(), pair.1.try_clone()) else {
                continue;
            };
            let number = next;
            next += 1;
            list.insert(number, pair);
            let open = &open;
            scope.spawn(move || {
                // However it ends, both sides are closed.
                drop(relay(&client, &agent));
                let mut list = open.lock().unwrap_or_else(PoisonError::into_inner);
                list.remove(&number);
            });
        }
        for (client, agent) in open.lock().unwrap_or_else(PoisonError::into_inner).values() {
            drop(client.shutdown(Shutdown::Both));
            drop(agent.shutdown(Shutdown::Both));
        }
    });
}

fn connect(client: UnixStream, agent: &Path) -> io::Result<(UnixStream, UnixStream)> {
    client.set_nonblocking(false)?;
    // An agent that does not answer the door must not hold up the end of the step.
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let agent_end = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect_socket(agent_end.as_raw_fd(), &UnixAddr::new(agent)?)?;
    let agent_end = UnixStream::from(agent_end);
    agent_end.set_nonblocking(false)?;
    Ok((client, agent_end))
}

/// Answers requests until one side has enough.
fn relay(mut client: &UnixStream, mut agent: &UnixStream) -> io::Result<()> {
    loop {
        let request = receive(client)?;
        match request.first() {
            Some(&(REQUEST_IDENTITIES | SIGN_REQUEST)) => {
                send(&mut agent, &request)?;
                let answer = receive(agent)?;
                send(&mut client, &answer)?;
            }
            _ => send(&mut client, &[FAILURE])?,
        }
    }
}

/// One message: four bytes of length and as many of content, of which the first is the type.
fn receive(mut stream: &UnixStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length);
    if length == 0 || length > LONGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut message = vec![0; length as usize];
    stream.read_exact(&mut message)?;
    Ok(message)
}

fn send(stream: &mut &UnixStream, message: &[u8]) -> io::Result<()> {
    let length = u32::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    let mut whole = length.to_be_bytes().to_vec();
    whole.extend_from_slice(message);
    stream.write_all(&whole)
}
