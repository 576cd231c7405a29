//! The system calls that a RUN may make: `seccomp/*.json` compiled to BPF.

/// A filter list that does not compile; the unit tests rule it out for the lists in the tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot compile the seccomp filter {name}: {message}")]
pub(crate) struct Error {
    name: &'static str,
    message: String,
}

/// The programs in the order of installation, one word per instruction (`struct sock_filter` in the
/// machine's own byte order). Compiled once per process.
pub(crate) fn filters() -> Result<&'static [Vec<u64>], &'static Error> {
    todo!()
}
