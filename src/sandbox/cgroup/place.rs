//! Where the cgroup of this process is in the file system.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

/// The path of this process in the v2 hierarchy, from proc_pid_cgroup(5). Hybrid hosts list those of v1
/// besides it.
pub(super) fn own(cgroups: &str) -> Option<&str> {
    cgroups.lines().find_map(|line| line.strip_prefix("0::"))
}

/// The directories that may be `own`, one for each cgroup2 mount of proc_pid_mountinfo(5) that reaches
/// so far. Both files tell paths from the root of the reader's cgroup namespace: what has `..` lies
/// outside of it.
pub(super) fn directories(own: &str, mounts: &str) -> Vec<PathBuf> {
    mounts
        .lines()
        .filter_map(|line| {
            let (fields, of_source) = line.split_once(" - ")?;
            if !of_source.starts_with("cgroup2 ") {
                return None;
            }
            let mut fields = fields.split(' ').skip(3).map(unescape);
            let (root, point) = (fields.next()?, fields.next()?);
            let below = Path::new(own).strip_prefix(&root).ok()?;
            let is_inside = below
                .components()
                .all(|component| matches!(component, Component::Normal(_)));
            is_inside.then(|| point.join(below))
        })
        .collect()
}

/// A path of mountinfo, in which space, tab, line feed and backslash are octal.
fn unescape(field: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let octal = after
            .get(..3)
            .filter(|_| byte == b'\\')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(octal.unwrap_or(byte));
        rest = if octal.is_some() { &after[3..] } else { after };
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cgroup_of_v2_is_the_one_without_a_controller() {
        for (text, path) in [
            ("0::/user.slice/x.scope\n", Some("/user.slice/x.scope")),
            ("9:name=systemd:/\n4:memory:/a\n0::/b\n", Some("/b")),
            ("4:memory:/a\n", None),
            ("", None),
        ] {
            assert_eq!(own(text), path, "{text:?}");
        }
    }

    #[test]
    fn the_directory_is_found_below_every_mount_that_reaches_it() {
        let host =
            "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let hybrid = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
            35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let bound = "50 40 0:26 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        let outer = "50 40 0:26 /../.. /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        let spaced = "50 40 0:26 / /my\\040tree rw - cgroup2 cgroup rw\n";
        for (own, mounts, expected) in [
            ("/a/b", host, Some("/sys/fs/cgroup/a/b")),
            ("/", host, Some("/sys/fs/cgroup")),
            ("/a", hybrid, Some("/sys/fs/cgroup/unified/a")),
            ("/docker/abc/x", bound, Some("/sys/fs/cgroup/x")),
            ("/docker/abc", bound, Some("/sys/fs/cgroup")),
            ("/docker/abcd", bound, None),
            ("/", outer, None),
            ("/../other", host, None),
            ("/a", spaced, Some("/my tree/a")),
            ("/a", "", None),
            ("/a", "31 23 0:28 - cgroup2 x rw\n", None),
        ] {
            let found = directories(own, mounts);
            assert_eq!(found.first().map(PathBuf::as_path), expected.map(Path::new));
        }
    }
}
