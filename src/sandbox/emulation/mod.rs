//! Root with one id: which system calls are answered by a supervisor instead of the kernel.
//!
//! A user namespace with one id holds no second owner, so chown(2), setuid(2), mknod(2) and what shows
//! their effects are trapped (seccomp_unotify(2)) and answered from records, see
//! [`crate::ownership::record`]. This is no policy filter: the supervisor has the same user and the
//! same root as who asks, and whatever a race makes it do, the asker could do itself.
//!
//! `scripts/compare-rungs` shows that images are the same as with many ids. What a program can still tell:
//!
//! - The kernel takes every process for root: it refuses a user nothing, in files and in signals, and
//!   shows 0 in /proc/PID, in the capabilities of a user, and for pipes, sockets and terminals of one.
//! - Writing to a file leaves its set-id bits where a user would lose them.
//! - A device that was made is an empty file to open(2) and in what getdents(2) says of its type.
//! - An access control list cannot name other users (EINVAL).
//! - Records take room: `du` may count a block more of a file that has other attributes as well.
//! - A handler of signals without SA_RESTART may make any trapped call end with EINTR.
//! - Ambient capabilities and file capabilities do not change what a user may do with owners.

pub(crate) mod calls;
mod program;

pub(crate) use program::program;
#[cfg(test)]
pub(in crate::sandbox) use program::program_of;
