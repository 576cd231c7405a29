//! The volumes of a container.

use std::collections::HashSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

/// Directories that were mounted into a container, from mountinfo: on a file system with files of its
/// own, and not part of what every container has.
pub(super) fn of(mounts: &[u8]) -> Vec<PathBuf> {
    const OF_CONTAINERS: [&str; 6] = ["/proc", "/sys", "/dev", "/etc", "/run", "/boot"];
    const KINDS: [&[u8]; 10] = [
        b"ext4",
        b"ext3",
        b"xfs",
        b"btrfs",
        b"tmpfs",
        b"f2fs",
        b"zfs",
        b"virtiofs",
        b"bcachefs",
        b"fuse",
    ];
    let mut found: Vec<PathBuf> = mounts
        .split(|byte| *byte == b'\n')
        .filter_map(|line| {
            let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
            let separator = fields.iter().position(|field| *field == b"-")?;
            let kind = fields.get(separator + 1)?;
            let point = PathBuf::from(unescaped(fields.get(4)?));
            let is_ours = point == Path::new("/")
                || OF_CONTAINERS.iter().any(|place| point.starts_with(place));
            (KINDS.contains(kind) && !is_ours).then_some(point)
        })
        .filter(|point| point.is_dir())
        .collect();
    let mut seen = HashSet::new();
    found.retain(|point| seen.insert(point.clone()));
    found
}

/// A path of mountinfo, in which space, tab, line feed and backslash are octal.
fn unescaped(text: &[u8]) -> OsString {
    let mut path = Vec::new();
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let octal = (byte == b'\\')
            .then(|| after.get(..3))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match octal {
            Some(byte) => {
                path.push(byte);
                rest = &after[3..];
            }
            None => {
                path.push(byte);
                rest = after;
            }
        }
    }
    OsString::from_vec(path)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    #[test]
    fn paths_of_mountinfo_are_unescaped() {
        for (text, path) in [
            ("/a", "/a"),
            (r"/a\040b", "/a b"),
            (r"/a\134\011", "/a\\\t"),
            (r"/a\04", r"/a\04"),
            (r"/a\", r"/a\"),
        ] {
            assert_eq!(
                unescaped(text.as_bytes()),
                OsStr::from_bytes(path.as_bytes())
            );
        }
    }
}
