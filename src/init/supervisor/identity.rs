//! Who a process is: set*id(2), get*id(2).
//!
//! The credentials of a process are an index into a table, kept in a resource limit that means nothing
//! to the kernel, see [`notify::tag`]: so they pass to children and over an execve(2) without a race.

use caps::Capability;
use nix::errno::Errno;
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;

use super::caller::Caller;
use super::credentials::{Credentials, Ids};
use super::files::id;
use super::{Reply, Supervisor};
use crate::sandbox::emulation::calls::{LimitWidth, Width};
use crate::sys::notify;

/// Above every index; no program has a reason to ask for a limit like these.
const TAG: u64 = 0x7262_7569_0000_0000;

/// NGROUPS_MAX of linux/limits.h.
const MAX_GROUPS: usize = 65_536;
/// Different identities that the processes of one step may have had, and groups in all of them.
const MAX_CREDENTIALS: usize = 1 << 16;
const MAX_KNOWN_GROUPS: usize = 1 << 22;

/// PR_SET_KEEPCAPS and PR_SET_SECUREBITS of linux/prctl.h, SECBIT_NO_SETUID_FIXUP of
/// linux/securebits.h.
const SET_KEEPCAPS: u32 = 8;
const NO_SETUID_FIXUP: u64 = 1 << 2;
/// SO_PEERGROUPS of asm-generic/socket.h.
const PEER_GROUPS: i32 = 59;

impl Supervisor {
    pub(super) fn credentials(&self, caller: &Caller<'_>) -> nix::Result<&Credentials> {
        self.credentials_of(caller.pid())
    }

    /// Whether the caller has root's capabilities, and this one still.
    pub(super) fn is_capable(
        &self,
        caller: &Caller<'_>,
        capability: Capability,
    ) -> nix::Result<bool> {
        Ok(self.credentials(caller)?.is_capable() && caller.has(capability))
    }

    /// The same for what is done to files.
    pub(super) fn is_capable_on_files(
        &self,
        caller: &Caller<'_>,
        capability: Capability,
    ) -> nix::Result<bool> {
        Ok(self.credentials(caller)?.is_capable_on_files() && caller.has(capability))
    }

    fn credentials_of(&self, pid: i32) -> nix::Result<&Credentials> {
        let tag = notify::tag(pid)?;
        let index = tag
            .checked_sub(TAG)
            .and_then(|index| usize::try_from(index).ok())
            .filter(|index| *index < self.known.len())
            // The limit as it was: nobody has changed who the command is.
            .unwrap_or(0);
        Ok(&self.known[index])
    }

    pub(super) fn change(
        &mut self,
        caller: &Caller<'_>,
        change: impl FnOnce(&mut Credentials) -> nix::Result<i64>,
    ) -> nix::Result<Reply> {
        let old = self.credentials(caller)?;
        let mut new = old.clone();
        let value = change(&mut new)?;
        if new != *old {
            self.become_other(caller, new)?;
        }
        Ok(Reply::Value(value))
    }

    fn become_other(&mut self, caller: &Caller<'_>, new: Credentials) -> nix::Result<()> {
        let index = match self.index.get(&new) {
            Some(index) => *index,
            None => {
                self.known_groups += new.groups.len();
                if self.known.len() >= MAX_CREDENTIALS || self.known_groups > MAX_KNOWN_GROUPS {
                    return Err(Errno::ENOMEM);
                }
                self.known.push(new.clone());
                self.index.insert(new, self.known.len() - 1);
                self.known.len() - 1
            }
        };
        caller.check()?;
        notify::set_tag(caller.pid(), TAG + index as u64)
    }

    /// One of the calls that set an id; `apply` is the rule.
    pub(super) fn set_ids(
        &mut self,
        caller: &Caller<'_>,
        width: Width,
        capability: Capability,
        apply: impl FnOnce(&mut Credentials, [u32; 3]) -> nix::Result<()>,
    ) -> nix::Result<Reply> {
        let ids = [0, 1, 2].map(|index| id(caller, index, width));
        self.change_with(caller, capability, |credentials| {
            apply(credentials, ids).map(|()| 0)
        })
    }

    /// [`Supervisor::change`] that who is root may do if it has the capability still.
    pub(super) fn change_with(
        &mut self,
        caller: &Caller<'_>,
        capability: Capability,
        change: impl FnOnce(&mut Credentials) -> nix::Result<i64>,
    ) -> nix::Result<Reply> {
        let lacks = self.credentials(caller)?.is_capable() && !caller.has(capability);
        self.change(caller, |credentials| {
            credentials.set_lacks(lacks);
            let changed = change(credentials);
            credentials.set_lacks(false);
            changed
        })
    }

    pub(super) fn get_id(
        &self,
        caller: &Caller<'_>,
        width: Width,
        choose: impl FnOnce(&Credentials) -> u32,
    ) -> nix::Result<Reply> {
        let id = choose(self.credentials(caller)?);
        Ok(Reply::Value(i64::from(narrow(id, width))))
    }

    /// getresuid(2) and getresgid(2): three places in memory.
    pub(super) fn get_all(
        &self,
        caller: &Caller<'_>,
        width: Width,
        choose: impl FnOnce(&Credentials) -> Ids,
    ) -> nix::Result<Reply> {
        let ids = choose(self.credentials(caller)?);
        for (index, id) in [ids.real, ids.effective, ids.saved].into_iter().enumerate() {
            caller.write(caller.address(index), &encode(id, width))?;
        }
        Ok(Reply::Value(0))
    }

    pub(super) fn get_groups(&self, caller: &Caller<'_>, width: Width) -> nix::Result<Reply> {
        let groups = &self.credentials(caller)?.groups;
        let room = usize::try_from(caller.int(0)).map_err(|_| Errno::EINVAL)?;
        if room > 0 {
            if room < groups.len() {
                return Err(Errno::EINVAL);
            }
            let list: Vec<u8> = groups.iter().flat_map(|id| encode(*id, width)).collect();
            if !list.is_empty() {
                caller.write(caller.address(1), &list)?;
            }
        }
        Ok(Reply::Value(i64::try_from(groups.len()).unwrap_or(0)))
    }

    pub(super) fn set_groups(&mut self, caller: &Caller<'_>, width: Width) -> nix::Result<Reply> {
        if !self.is_capable(caller, Capability::CAP_SETGID)? {
            return Err(Errno::EPERM);
        }
        let count = usize::try_from(caller.int(0)).map_err(|_| Errno::EINVAL)?;
        if count > MAX_GROUPS {
            return Err(Errno::EINVAL);
        }
        let size = encode(0, width).len();
        let mut list = vec![0; count * size];
        if count > 0 {
            caller.read_whole(caller.address(1), &mut list)?;
        }
        let groups = list
            .chunks_exact(size)
            .map(|id| match *id {
                [a, b, c, d] => u32::from_le_bytes([a, b, c, d]),
                [a, b] => u32::from(u16::from_le_bytes([a, b])),
                _ => 0,
            })
            .collect();
        self.change(caller, |credentials| {
            credentials.set_groups(groups).map(|()| 0)
        })
    }

    /// prctl(2) where it changes what becomes of capabilities; the kernel then does it too.
    pub(super) fn prctl(&mut self, caller: &Caller<'_>) -> nix::Result<Reply> {
        let value = caller.address(1);
        self.change(caller, |credentials| {
            if caller.word(0) == SET_KEEPCAPS {
                if value <= 1 {
                    credentials.set_keeps(value != 0);
                }
            } else {
                credentials.set_unfixed(value & NO_SETUID_FIXUP != 0);
            }
            Ok(0)
        })?;
        Ok(Reply::Continue)
    }

    /// SO_PEERCRED and SO_PEERGROUPS: the process at the other end is not who the kernel thinks. One that is gone by now
    /// was root.
    pub(super) fn peer(&self, caller: &Caller<'_>) -> nix::Result<Reply> {
        let Ok(socket) = notify::steal_descriptor(caller.process()?, caller.int(0)) else {
            return Ok(Reply::Continue);
        };
        caller.check()?;
        let Ok(peer) = getsockopt(&socket, PeerCredentials) else {
            return Ok(Reply::Continue);
        };
        // A socket that is not connected has a peer of number zero.
        let (true, Ok(peers), Some(pid)) = (
            peer.pid() > 0,
            self.credentials_of(peer.pid()),
            inner_pid(peer.pid()),
        ) else {
            return Ok(Reply::Continue);
        };
        let mut length = [0; 4];
        caller.read_whole(caller.address(4), &mut length)?;
        if caller.int(2) == PEER_GROUPS {
            let groups = peers.groups.iter().flat_map(|id| id.to_le_bytes());
            let groups: Vec<u8> = groups.collect();
            let size = u32::try_from(groups.len()).unwrap_or(u32::MAX);
            let is_long = u32::from_le_bytes(length) < size;
            if !is_long && !groups.is_empty() {
                caller.write(caller.address(3), &groups)?;
            }
            caller.write(caller.address(4), &size.to_le_bytes())?;
            return if is_long {
                Err(Errno::ERANGE)
            } else {
                Ok(Reply::Value(0))
            };
        }
        let mut credentials = pid.to_le_bytes().to_vec();
        credentials.extend_from_slice(&peers.user.effective.to_le_bytes());
        credentials.extend_from_slice(&peers.group.effective.to_le_bytes());
        credentials.truncate(usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX));
        let length = u32::try_from(credentials.len()).unwrap_or(0);
        caller.write(caller.address(3), &credentials)?;
        caller.write(caller.address(4), &length.to_le_bytes())?;
        Ok(Reply::Value(0))
    }

    /// The limit that holds the index looks untouched, and cannot be touched.
    pub(super) fn get_limit(
        &self,
        caller: &Caller<'_>,
        address: u64,
        width: LimitWidth,
    ) -> nix::Result<Reply> {
        if address != 0 {
            let unlimited = match width {
                LimitWidth::Eight => vec![0xff; 16],
                #[cfg(target_arch = "x86_64")]
                LimitWidth::Four => vec![0xff; 8],
            };
            caller.write(address, &unlimited)?;
        }
        Ok(Reply::Value(0))
    }
}

/// The number that a process has in the sandbox: its innermost (proc_pid_status(5), NSpid).
fn inner_pid(pid: i32) -> Option<i32> {
    let status = std::fs::read_to_string(format!("{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_ascii_whitespace().next_back()?.parse().ok()
}

/// linux/highuid.h: what a program that knows ids of 16 bits sees.
fn narrow(id: u32, width: Width) -> u32 {
    match width {
        Width::Full => id,
        #[cfg(target_arch = "x86_64")]
        Width::Half => u16::try_from(id).unwrap_or(65534).into(),
    }
}

fn encode(id: u32, width: Width) -> Vec<u8> {
    let id = narrow(id, width);
    match width {
        Width::Full => id.to_le_bytes().to_vec(),
        #[cfg(target_arch = "x86_64")]
        Width::Half => id.to_le_bytes()[..2].to_vec(),
    }
}
