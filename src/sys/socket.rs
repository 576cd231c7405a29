//! Descriptors sent over Unix sockets (unix(7), `SCM_RIGHTS`).
#![expect(
    unsafe_code,
    reason = "a received descriptor is a number that nobody owns yet"
)]

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

use super::{Error, Result};

/// What one [`receive_byte`] found.
#[derive(Debug)]
pub(crate) enum Received {
    /// One byte, and the descriptor that came with it.
    Byte(u8, Option<OwnedFd>),
    /// The other side is gone.
    Closed,
}

/// Sends one byte, with a descriptor if there is one.
pub(crate) fn send_byte(socket: &UnixStream, byte: u8, fd: Option<BorrowedFd<'_>>) -> Result<()> {
    let numbers: Vec<_> = fd.iter().map(|fd| fd.as_raw_fd()).collect();
    let rights = [ControlMessage::ScmRights(&numbers)];
    let control = if numbers.is_empty() { &[] } else { &rights[..] };
    sendmsg::<()>(
        socket.as_fd().as_raw_fd(),
        &[IoSlice::new(&[byte])],
        control,
        MsgFlags::MSG_NOSIGNAL,
        None,
    )
    .map_err(|errno| Error::new("sendmsg", "", errno))?;
    Ok(())
}

/// Receives what [`send_byte`] sent.
pub(crate) fn receive_byte(socket: &UnixStream) -> Result<Received> {
    let failed = |errno| Error::new("recvmsg", "", errno);
    let mut byte = [0];
    let mut parts = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!([std::os::fd::RawFd; 1]);
    let message = loop {
        let received = recvmsg::<()>(
            socket.as_fd().as_raw_fd(),
            &mut parts,
            Some(&mut space),
            MsgFlags::MSG_CMSG_CLOEXEC,
        );
        match received {
            Err(Errno::EINTR) => {}
            other => break other.map_err(failed)?,
        }
    };
    if message.bytes == 0 {
        return Ok(Received::Closed);
    }
    let mut received = None;
    for control in message.cmsgs().map_err(failed)? {
        if let ControlMessageOwned::ScmRights(numbers) = control {
            for number in numbers {
                // SAFETY: the kernel just made this descriptor for us, so nobody else owns it.
                received = Some(unsafe { OwnedFd::from_raw_fd(number) });
            }
        }
    }
    Ok(Received::Byte(byte[0], received))
}
