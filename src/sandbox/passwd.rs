//! USER and `--chown` names, looked up in the contents of an image's passwd(5) and group(5) files.

use serde::{Deserialize, Serialize};

/// Who a command runs as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// All groups of the process: `gid` first, then the others in the order of the group file.
    pub(crate) groups: Vec<u32>,
    /// The home directory in the passwd entry, if there is an entry.
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
    #[error("{0:?} is not of the form user[:group]")]
    Malformed(String),
}

struct User<'a> {
    name: &'a [u8],
    uid: u32,
    gid: u32,
    home: &'a [u8],
}

struct Group<'a> {
    name: &'a [u8],
    gid: u32,
    members: &'a [u8],
}

/// Resolves the text of USER (`""`, `user`, `user:group`, by name or number) as BuildKit does: a number
/// without an entry has group 0; a group that is named is the only one.
pub(crate) fn lookup_user(passwd: &[u8], group: &[u8], user: &str) -> Result<Identity, Error> {
    let (user, named_group) = split(if user.is_empty() { "0" } else { user })?;
    let entry = find_user(passwd, user)?;
    let uid = match (&entry, number(user)?) {
        (Some(entry), _) => entry.uid,
        (None, Some(uid)) => uid,
        (None, None) => return Err(Error::UnknownUser(user.to_owned())),
    };
    let gid = match named_group {
        Some(name) => find_group(group, name)?,
        None => entry.as_ref().map_or(0, |entry| entry.gid),
    };
    let mut all = vec![gid];
    if let (Some(entry), None) = (&entry, named_group) {
        for other in groups(group).filter(|group| is_member(group.members, entry.name)) {
            if !all.contains(&other.gid) {
                all.push(other.gid);
            }
        }
    }
    Ok(Identity {
        uid,
        gid,
        groups: all,
        home: entry.map(|entry| entry.home.to_vec()),
    })
}

/// The uid and gid of a `--chown` text: a user without `:group` has the number of the user as group when
/// it is a number, else the group of the passwd entry.
pub(crate) fn lookup_owner(passwd: &[u8], group: &[u8], owner: &str) -> Result<(u32, u32), Error> {
    let (user, named_group) = split(owner)?;
    let (uid, own_group) = match number(user)? {
        Some(uid) => (uid, uid),
        None => match users(passwd).find(|entry| entry.name == user.as_bytes()) {
            Some(entry) => (entry.uid, entry.gid),
            None => return Err(Error::UnknownUser(user.to_owned())),
        },
    };
    let gid = match named_group {
        Some(name) => match number(name)? {
            Some(gid) => gid,
            None => find_group(group, name)?,
        },
        None => own_group,
    };
    Ok((uid, gid))
}

/// The names in the contents of a passwd or group file, for suggestions.
pub(crate) fn names(file: &[u8]) -> Vec<String> {
    file.split(|byte| *byte == b'\n')
        .filter_map(|line| line.split(|byte| *byte == b':').next())
        .filter_map(|name| str::from_utf8(name.trim_ascii()).ok())
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

fn split(text: &str) -> Result<(&str, Option<&str>), Error> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let malformed = user.is_empty()
        || group.is_some_and(|group| group.is_empty() || group.contains(':'))
        || text.contains(['\0', '\n']);
    if malformed {
        return Err(Error::Malformed(text.to_owned()));
    }
    Ok((user, group))
}

/// The id that a text of digits means; `None` for anything else. `u32::MAX` is no id but -1 (chown(2)).
fn number(text: &str) -> Result<Option<u32>, Error> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<u32>() {
        Ok(id) if id != u32::MAX => Ok(Some(id)),
        _ => Err(Error::IdOutOfRange(text.to_owned())),
    }
}

/// The first entry whose name or number is `user`.
fn find_user<'a>(passwd: &'a [u8], user: &str) -> Result<Option<User<'a>>, Error> {
    let id = number(user)?;
    Ok(users(passwd).find(|entry| entry.name == user.as_bytes() || Some(entry.uid) == id))
}

fn find_group(group: &[u8], name: &str) -> Result<u32, Error> {
    let id = number(name)?;
    let entry = groups(group).find(|entry| entry.name == name.as_bytes() || Some(entry.gid) == id);
    entry
        .map(|entry| entry.gid)
        .or(id)
        .ok_or_else(|| Error::UnknownGroup(name.to_owned()))
}

/// The entries that are well-formed; a line that is not must not become somebody, least of all root.
fn users(passwd: &[u8]) -> impl Iterator<Item = User<'_>> {
    passwd.split(|byte| *byte == b'\n').filter_map(|line| {
        let mut fields = line.trim_ascii().split(|byte| *byte == b':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        fields.next()?;
        let uid = id_field(fields.next()?)?;
        let gid = id_field(fields.next()?)?;
        fields.next();
        let home = fields.next().unwrap_or_default();
        Some(User {
            name,
            uid,
            gid,
            home,
        })
    })
}

fn groups(group: &[u8]) -> impl Iterator<Item = Group<'_>> {
    group.split(|byte| *byte == b'\n').filter_map(|line| {
        let mut fields = line.trim_ascii().split(|byte| *byte == b':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        fields.next()?;
        let gid = id_field(fields.next()?)?;
        let members = fields.next().unwrap_or_default();
        Some(Group { name, gid, members })
    })
}

fn id_field(field: &[u8]) -> Option<u32> {
    if field.is_empty() {
        return None;
    }
    number(str::from_utf8(field).ok()?).ok().flatten()
}

fn is_member(members: &[u8], name: &[u8]) -> bool {
    members
        .split(|byte| *byte == b',')
        .any(|member| member == name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Error, lookup_owner, lookup_user};

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n\
        broken:x:12x:0::/:\n\
        app:x:1000:1001:App,,,:/home/app:/bin/sh\n\
        bare:x:7:8\n\
        huge:x:4294967296:0::/:\n";
    const GROUP: &[u8] = b"root:x:0:root\nwheel:x:10:root,app\napp:x:1001:\nstaff:x:50:app\n";

    #[test]
    fn users_are_found_by_name_and_number() {
        let cases = [
            ("", 0, vec![0, 10], Some("/root")),
            ("root", 0, vec![0, 10], Some("/root")),
            ("app", 1000, vec![1001, 10, 50], Some("/home/app")),
            ("1000", 1000, vec![1001, 10, 50], Some("/home/app")),
            ("app:staff", 1000, vec![50], Some("/home/app")),
            ("1000:7", 1000, vec![7], Some("/home/app")),
            ("2000", 2000, vec![0], None),
            ("2000:3000", 2000, vec![3000], None),
            ("bare", 7, vec![8], Some("")),
        ];
        for (text, uid, groups, home) in cases {
            let identity = lookup_user(PASSWD, GROUP, text).unwrap();
            assert_eq!((identity.uid, identity.gid), (uid, groups[0]), "{text:?}");
            assert_eq!(identity.groups, groups, "{text:?}");
            assert_eq!(identity.home, home.map(|home| home.as_bytes().to_vec()));
        }
    }

    #[test]
    fn what_cannot_be_found_is_an_error() {
        let user = |text| lookup_user(PASSWD, GROUP, text).unwrap_err();
        assert_eq!(user("nobody"), Error::UnknownUser("nobody".into()));
        assert_eq!(user("broken"), Error::UnknownUser("broken".into()));
        assert_eq!(user("huge"), Error::UnknownUser("huge".into()));
        assert_eq!(user("app:none"), Error::UnknownGroup("none".into()));
        assert_eq!(user("4294967296"), Error::IdOutOfRange("4294967296".into()));
        assert_eq!(user("4294967295"), Error::IdOutOfRange("4294967295".into()));
        assert_eq!(user("-1"), Error::UnknownUser("-1".into()));
        assert_eq!(user("app:"), Error::Malformed("app:".into()));
        assert_eq!(user(":app"), Error::Malformed(":app".into()));
        assert_eq!(user("a:b:c"), Error::Malformed("a:b:c".into()));
    }

    #[test]
    fn owners_without_a_group_have_their_own() {
        let owner = |text| lookup_owner(PASSWD, GROUP, text);
        assert_eq!(owner("1000"), Ok((1000, 1000)));
        assert_eq!(owner("app"), Ok((1000, 1001)));
        assert_eq!(owner("app:wheel"), Ok((1000, 10)));
        assert_eq!(owner("5:6"), Ok((5, 6)));
        assert_eq!(owner("no"), Err(Error::UnknownUser("no".into())));
    }

    proptest! {
        #[test]
        fn nobody_becomes_root_by_accident(
            passwd in proptest::collection::vec(any::<u8>(), 0..200),
            group in proptest::collection::vec(any::<u8>(), 0..200),
            user in "[a-z1-9:]{1,12}",
        ) {
            if let Ok(identity) = lookup_user(&passwd, &group, &user)
                && identity.uid == 0
            {
                prop_assert!(passwd.windows(3).any(|bytes| bytes.starts_with(b":0")));
            }
        }
    }
}
