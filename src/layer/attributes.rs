//! Which extended attributes belong in a layer, and under which names a snapshot keeps them.
//!
//! overlayfs keeps its own marks in `user.overlay.*`. An attribute of that name which a program set is
//! stored as `user.overlay.overlay.*` (Documentation/filesystems/overlayfs.rst, "Nested overlayfs
//! mounts"), so a snapshot can tell the two apart. Layers hold only what programs set: no marks of
//! overlayfs, and no records of owners, which become what they record.

use std::ffi::{OsStr, OsString};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{FileStat, SFlag};

use super::unpack::Form;
use crate::ownership::record::{self, Record};
use crate::sys;
use crate::sys::fs::Kind;

/// Name and value, as an archive spells them, sorted by name.
pub(super) type Attributes = Vec<(Vec<u8>, Vec<u8>)>;

const OVERLAY: &[u8] = b"user.overlay.";
const ESCAPED: &[u8] = b"user.overlay.overlay.";
const OPAQUE: &str = "user.overlay.opaque";
const WHITEOUT: &str = "user.overlay.whiteout";

/// How a directory tree that is packed stores attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    /// As overlayfs stores them in an upper directory.
    Snapshot,
    /// As programs see them.
    Merged,
}

/// The name in an archive of the attribute `stored`; `None` for what no archive should hold: marks of
/// overlayfs, records of owners, and labels that belong to the host (`security.selinux`, `trusted.*`).
fn archive_name(stored: &[u8], view: View) -> Option<Vec<u8>> {
    if view == View::Snapshot && stored.starts_with(OVERLAY) {
        let rest = stored.strip_prefix(ESCAPED)?;
        return Some([OVERLAY, rest].concat());
    }
    portable(stored).then(|| stored.to_vec())
}

/// The name under which an attribute of an archive is stored; `None` as for [`archive_name`].
pub(super) fn stored_name(name: &[u8], form: Form) -> Option<OsString> {
    let stored = match name.strip_prefix(OVERLAY) {
        Some(rest) if form != Form::Plain => [ESCAPED, rest].concat(),
        _ if portable(name) => name.to_vec(),
        _ => return None,
    };
    Some(OsString::from_vec(stored))
}

fn portable(name: &[u8]) -> bool {
    name.starts_with(b"user.") && !name.starts_with(record::RESERVED.as_bytes())
        || matches!(
            name,
            b"security.capability" | b"system.posix_acl_access" | b"system.posix_acl_default"
        )
}

/// The attributes of `name` in `dir` that an archive holds, and the record of its owner.
pub(super) fn read(
    dir: BorrowedFd<'_>,
    name: &OsStr,
    view: View,
) -> sys::Result<(Attributes, Option<Record>)> {
    let mut attributes = Attributes::new();
    let mut owner = None;
    for stored in sys::xattr::list_at(dir, name)? {
        if stored.as_bytes() == record::ATTRIBUTE.as_bytes() {
            let value = sys::xattr::get_at(dir, name, &stored)?;
            owner = value.and_then(|value| Record::decode(&value));
            continue;
        }
        let Some(archived) = archive_name(stored.as_bytes(), view) else {
            continue;
        };
        if let Some(value) = sys::xattr::get_at(dir, name, &stored)? {
            attributes.push((archived, value));
        }
    }
    attributes.sort_unstable();
    Ok((attributes, owner))
}

/// Whether the directory `name` of a snapshot hides the directory below it.
pub(super) fn is_opaque(dir: BorrowedFd<'_>, name: &OsStr) -> sys::Result<bool> {
    Ok(sys::xattr::get_at(dir, name, OsStr::new(OPAQUE))?.as_deref() == Some(b"y"))
}

/// Makes the directory `name` of a snapshot hide the directory below it.
pub(super) fn set_opaque(dir: BorrowedFd<'_>, name: &OsStr) -> sys::Result<()> {
    sys::xattr::set_at(dir, name, OsStr::new(OPAQUE), b"y")
}

/// Makes `name`, where nothing is, hide what the layers below have at it: a device 0:0, or an empty file
/// with an attribute where the host lets nobody make one, as containers do.
pub(super) fn set_whiteout(dir: BorrowedFd<'_>, name: &OsStr) -> sys::Result<()> {
    match sys::fs::make_node_at(dir, name, SFlag::S_IFCHR, 0, 0) {
        Err(error) if error.errno == Errno::EPERM => {
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
            sys::fs::open_at(dir, name, flags, 0o600)?;
            sys::xattr::set_at(dir, name, OsStr::new(WHITEOUT), b"y")
        }
        other => other,
    }
}

/// Whether `name` of a snapshot, which looks like `stat`, is a removal.
pub(super) fn is_whiteout(dir: BorrowedFd<'_>, name: &OsStr, stat: &FileStat) -> sys::Result<bool> {
    match Kind::of(stat) {
        Kind::CharDevice => Ok(stat.st_rdev == 0),
        Kind::Regular if stat.st_size == 0 => {
            let mark = sys::xattr::get_at(dir, name, OsStr::new(WHITEOUT))?;
            Ok(mark.as_deref() == Some(b"y"))
        }
        _ => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_overlayfs_are_escaped_in_a_snapshot_and_nowhere_else() {
        type Case = (&'static [u8], Option<&'static [u8]>, Option<&'static [u8]>);
        let cases: [Case; 9] = [
            (
                b"user.overlay.opaque",
                Some(b"user.overlay.overlay.opaque"),
                Some(b"user.overlay.opaque"),
            ),
            (
                b"user.overlay.overlay.x",
                Some(b"user.overlay.overlay.overlay.x"),
                Some(b"user.overlay.overlay.x"),
            ),
            (b"user.mime", Some(b"user.mime"), Some(b"user.mime")),
            (
                b"security.capability",
                Some(b"security.capability"),
                Some(b"security.capability"),
            ),
            (b"user.rbuild.owner", None, None),
            (b"user.rbuild.later", None, None),
            (b"security.selinux", None, None),
            (b"trusted.overlay.opaque", None, None),
            (b"system.nfs4_acl", None, None),
        ];
        for (name, overlay, plain) in cases {
            let stored = stored_name(name, Form::Overlay);
            assert_eq!(stored.as_ref().map(|n| n.as_bytes()), overlay);
            assert_eq!(
                stored_name(name, Form::Plain)
                    .as_ref()
                    .map(|n| n.as_bytes()),
                plain
            );
            if let Some(stored) = stored {
                assert_eq!(
                    archive_name(stored.as_bytes(), View::Snapshot).as_deref(),
                    Some(name)
                );
            }
        }
        assert_eq!(archive_name(b"user.overlay.opaque", View::Snapshot), None);
        assert!(archive_name(b"user.overlay.opaque", View::Merged).is_some());
    }
}
