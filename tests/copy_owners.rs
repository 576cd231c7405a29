//! What copied files are afterwards: modes, owners, attributes and times.

use std::fs;

use crate::copy_rules::{check, row};
use crate::rig::Rig;

#[test]
fn modes_are_set_where_they_are_asked_for() {
    check(&[
        row(
            "octal, implied parents too",
            "FROM base\nCOPY --chmod=750 a /n/f",
            &["d 750 n", "f 750 n/f = a"],
        ),
        row(
            "octal for all there is",
            "FROM base\nCOPY --chmod=0701 dir /n",
            &[
                "d 701 n",
                "l n/link -> x",
                "d 701 n/sub",
                "l n/sub/dangling -> nowhere",
                "p 701 n/sub/fifo",
                "f 701 n/sub/y = y",
                "f 701 n/x = x",
            ],
        ),
        row(
            "symbolic changes the file's",
            "FROM base\nCOPY --chmod=go=u,o-w a /n/f",
            &["d 755 n", "f 664 n/f = a"],
        ),
        row(
            "X is for directories and programs",
            "FROM base\nCOPY --chmod=a=rX t b /n/",
            &[
                "d 755 n",
                "f 555 n/b = b",
                "f 444 n/x.md = x.md",
                "f 444 n/x.txt = x.txt",
            ],
        ),
        row(
            "a variable",
            "FROM base\nARG m=600\nCOPY --chmod=$m a /f",
            &["f 600 f = a"],
        ),
        row(
            "of a heredoc",
            "FROM base\nCOPY --chmod=+x <<EOF /f\nx\nEOF\n",
            &["f 755 f = x\n"],
        ),
    ]);
}

#[test]
fn owners_are_set_where_they_are_asked_for() {
    check(&[
        row(
            "context files are root's",
            "FROM base\nUSER app\nCOPY a /f",
            &["f 640 f = a"],
        ),
        row(
            "a name, with its group, created parents too",
            "FROM base\nCOPY --chown=app a /n/f",
            &["d 755 1000:1000 n", "f 640 1000:1000 n/f = a"],
        ),
        row(
            "a number is its own group",
            "FROM base\nCOPY --chown=7 a /f",
            &["f 640 7:7 f = a"],
        ),
        row(
            "a number that has a name is no exception",
            "FROM base\nCOPY --chown=65534 a /f",
            &["f 640 65534:65534 f = a"],
        ),
        row(
            "user and group",
            "FROM base\nCOPY --chown=daemon:staff a /f",
            &["f 640 1:50 f = a"],
        ),
        row(
            "root and a group",
            "FROM base\nCOPY --chown=root:staff a /f",
            &["f 640 0:50 f = a"],
        ),
        row(
            "mixed",
            "FROM base\nCOPY --chown=8:wheel a /f",
            &["f 640 8:10 f = a"],
        ),
        row(
            "a variable",
            "FROM base\nARG u=app\nCOPY --chown=$u:$u a /f",
            &["f 640 1000:1000 f = a"],
        ),
        row(
            "links too, and set-id bits stay",
            "FROM base\nCOPY --chown=3:4 dir/link b dir /n/",
            &[
                "d 755 3:4 n",
                "f 4711 3:4 n/b = b",
                "l 3:4 n/link -> x",
                "d 711 3:4 n/sub",
                "l 3:4 n/sub/dangling -> nowhere",
                "p 600 3:4 n/sub/fifo",
                "f 644 3:4 n/sub/y = y",
                "f 644 3:4 n/x = x",
            ],
        ),
        row(
            "a user that an earlier step made",
            "FROM base\nRUN echo w:x:1500:1600::/:/x >> /etc/passwd\nCOPY --chown=w a /f",
            &["f 640 1500:1600 f = a"],
        ),
        row(
            "an existing directory keeps its owner, those in it get the new one",
            "FROM base\nRUN mkdir -p /n/sub && chown 5:6 /n /n/sub\nCOPY --chown=3:4 --exclude=sub/[^y]* dir /n",
            &[
                "d 755 5:6 n",
                "l 3:4 n/link -> x",
                "d 711 3:4 n/sub",
                "f 644 3:4 n/sub/y = y",
                "f 644 3:4 n/x = x",
            ],
        ),
        row(
            "another stage's owners are kept",
            "FROM base AS one\nCOPY --chown=3:4 t /q/t\nRUN chown 5 /q/t/x.md\nFROM base\nCOPY --from=one /q /n",
            &[
                "d 755 n",
                "d 755 3:4 n/t",
                "f 644 5:4 n/t/x.md = x.md",
                "f 644 3:4 n/t/x.txt = x.txt",
            ],
        ),
        row(
            "a heredoc",
            "FROM base\nCOPY --chown=3 <<EOF /f\nx\nEOF\n",
            &["f 644 3:3 f = x\n"],
        ),
    ]);
}

#[test]
fn attributes_and_times_are_carried_over() {
    let rig = Rig::new();
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_pax_extensions([("SCHILY.xattr.user.note", &b"kept"[..])])
        .unwrap();
    crate::rig::base::append(&mut tar, tar::EntryType::Regular, "d/f", 0o644, b"x");
    rig.write("a.tar", tar.into_inner().unwrap());
    let image = rig.image(
        "FROM base AS one\nADD a.tar /q/\nFROM base\nCOPY --from=one /q/d /n\nCOPY --link --from=one /q/d/f /l/f",
    );
    for path in ["n/f", "l/f"] {
        let file = image.file(path);
        assert_eq!(file.xattrs["user.note"], b"kept", "{path}");
        assert_eq!(file.mtime, 1_600_000_000, "{path}");
    }
}

#[test]
fn a_directory_that_is_copied_to_does_not_tell_when() {
    let rig = Rig::new();
    rig.write("d/file", "");
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    let directory = fs::File::open(rig.context().join("d")).unwrap();
    directory.set_modified(time).unwrap();
    let image = rig.image("FROM base\nWORKDIR /w\nCOPY d .\nCOPY d /new");
    assert_eq!(image.file("w").mtime, 1_000_000_000);
    assert_eq!(image.file("new").mtime, 1_000_000_000);
}
