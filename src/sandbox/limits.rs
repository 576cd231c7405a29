//! The resource limits of setrlimit(2) by docker's names.

use nix::sys::resource::Resource;

const NAMES: [(&str, Resource); 15] = [
    ("core", Resource::RLIMIT_CORE),
    ("cpu", Resource::RLIMIT_CPU),
    ("data", Resource::RLIMIT_DATA),
    ("fsize", Resource::RLIMIT_FSIZE),
    ("locks", Resource::RLIMIT_LOCKS),
    ("memlock", Resource::RLIMIT_MEMLOCK),
    ("msgqueue", Resource::RLIMIT_MSGQUEUE),
    ("nice", Resource::RLIMIT_NICE),
    ("nofile", Resource::RLIMIT_NOFILE),
    ("nproc", Resource::RLIMIT_NPROC),
    ("rss", Resource::RLIMIT_RSS),
    ("rtprio", Resource::RLIMIT_RTPRIO),
    ("rttime", Resource::RLIMIT_RTTIME),
    ("sigpending", Resource::RLIMIT_SIGPENDING),
    ("stack", Resource::RLIMIT_STACK),
];

/// The address space, which docker has no name for: `--limits memory` sets it.
const ADDRESS_SPACE: (&str, Resource) = ("as", Resource::RLIMIT_AS);

/// The limit called `name`, as in `--ulimit name=…`.
pub(crate) fn find(name: &str) -> Option<Resource> {
    let (_, resource) = NAMES.iter().find(|(there, _)| *there == name)?;
    Some(*resource)
}

/// The limit that a [`super::Spec`] calls `name`.
pub(crate) fn of_spec(name: &str) -> Option<Resource> {
    let (own, resource) = ADDRESS_SPACE;
    find(name).or((name == own).then_some(resource))
}

/// Every name that [`find`] knows.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    NAMES.iter().map(|(name, _)| *name)
}
