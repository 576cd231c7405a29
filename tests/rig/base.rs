//! The base image of the tests: Debian's static busybox and the few files that name its users.

use std::fs;
use std::process::Command;
use std::sync::OnceLock;

use tar::{Builder, EntryType, Header};

/// Sets every time in the base, so that it is the same image in every store.
const MTIME: u64 = 1_600_000_000;

pub(crate) const PASSWD: &str = "\
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/:/bin/false
app:x:1000:1000:app:/home/app:/bin/sh
nobody:x:65534:65534:nobody:/:/bin/false
";

pub(crate) const GROUP: &str = "\
root:x:0:root
daemon:x:1:
wheel:x:10:root
staff:x:50:app
app:x:1000:
nogroup:x:65534:
";

/// The base as an uncompressed tar. Everything in it belongs to root, so that a user without
/// subordinate ids can unpack it too.
pub(crate) fn root_filesystem() -> &'static [u8] {
    static TAR: OnceLock<Vec<u8>> = OnceLock::new();
    TAR.get_or_init(build)
}

fn build() -> Vec<u8> {
    let busybox = busybox();
    let mut tar = Builder::new(Vec::new());
    for (path, mode) in [
        ("bin/", 0o755),
        ("dev/", 0o755),
        ("etc/", 0o755),
        ("home/", 0o755),
        ("proc/", 0o555),
        ("root/", 0o700),
        ("run/", 0o755),
        ("sys/", 0o555),
        ("tmp/", 0o1777),
        ("usr/", 0o755),
        ("var/", 0o755),
    ] {
        append(&mut tar, EntryType::Directory, path, mode, b"");
    }
    append(&mut tar, EntryType::Regular, "bin/busybox", 0o755, &busybox);
    append(
        &mut tar,
        EntryType::Regular,
        "etc/passwd",
        0o644,
        PASSWD.as_bytes(),
    );
    append(
        &mut tar,
        EntryType::Regular,
        "etc/group",
        0o644,
        GROUP.as_bytes(),
    );
    for applet in applets() {
        let mut header = header(EntryType::Symlink, 0o777, 0);
        tar.append_link(&mut header, format!("bin/{applet}"), "busybox")
            .unwrap();
    }
    tar.into_inner().unwrap()
}

fn busybox() -> Vec<u8> {
    let busybox = ["/bin/busybox", "/usr/bin/busybox"]
        .iter()
        .find_map(|path| fs::read(path).ok())
        .expect("the tests need busybox-static: apt-get install busybox-static");
    let interpreter = b"/ld-linux";
    assert!(
        !busybox
            .windows(interpreter.len())
            .any(|bytes| bytes == interpreter),
        "busybox is linked dynamically; the tests need busybox-static"
    );
    busybox
}

fn applets() -> Vec<String> {
    let output = Command::new("busybox").arg("--list").output().unwrap();
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .filter(|name| *name != "busybox")
        .map(str::to_owned)
        .collect()
}

fn header(kind: EntryType, mode: u32, size: usize) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(MTIME);
    header.set_size(size as u64);
    header
}

/// Adds one entry that belongs to root.
pub(crate) fn append(
    tar: &mut Builder<Vec<u8>>,
    kind: EntryType,
    path: &str,
    mode: u32,
    contents: &[u8],
) {
    let mut header = header(kind, mode, contents.len());
    tar.append_data(&mut header, path, contents).unwrap();
}
