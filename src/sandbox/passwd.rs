//! USER and `--chown` names, looked up in the contents of an image's passwd(5) and group(5) files.

/// Who a command runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Supplementary groups, in the order of the group file.
    pub(crate) groups: Vec<u32>,
    pub(crate) home: Option<Vec<u8>>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("unable to find user {0}: no matching entries in passwd file")]
    UnknownUser(String),
    #[error("unable to find group {0}: no matching entries in group file")]
    UnknownGroup(String),
    #[error("the id {0} is not between 0 and 4294967294")]
    IdOutOfRange(String),
    #[error("the user {0:?} is not of the form user[:group]")]
    Malformed(String),
}

/// Resolves the text of USER (`""`, `user`, `user:group`, by name or number) as BuildKit does: a number
/// without an entry has group 0; a group that is named is the only one.
pub(crate) fn lookup_user(passwd: &[u8], group: &[u8], user: &str) -> Result<Identity, Error> {
    todo!()
}

/// The uid and gid of a `--chown` text: a user without `:group` has the number of the user as group when
/// it is a number, else the group of the passwd entry.
pub(crate) fn lookup_owner(passwd: &[u8], group: &[u8], owner: &str) -> Result<(u32, u32), Error> {
    todo!()
}
