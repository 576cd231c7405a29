//! Root with one id: which system calls are answered by a supervisor instead of the kernel.
//!
//! A user namespace with one id holds no second owner, so chown(2), setuid(2), mknod(2) and what shows
//! their effects are trapped (seccomp_unotify(2)) and answered from records, see
//! [`crate::ownership::record`]. This is no policy filter: the supervisor has the same user and the
//! same root as who asks, and whatever a race makes it do, the asker could do itself.

pub(crate) mod calls;
mod program;

pub(crate) use program::program;
