//! The rules of COPY, row by row: a Dockerfile and everything that its last layer then holds.
//!
//! A line of an expectation is the kind of the file (`d` directory, `f` file, `l` symbolic link, `h`
//! hard link, `p` fifo), its mode, its owner where that is not root, its path, and its content or where
//! it leads. Directories that stand in a layer for what is in them have a line too.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use crate::rig::image::{Image, Kind, Node};
use crate::rig::{Rig, host};

struct Row {
    rule: &'static str,
    dockerfile: &'static str,
    layer: &'static [&'static str],
}

const fn row(rule: &'static str, dockerfile: &'static str, layer: &'static [&'static str]) -> Row {
    Row {
        rule,
        dockerfile,
        layer,
    }
}

/// Files whose content is their name, in directories of uncommon modes, and links of every kind.
fn context(rig: &Rig) {
    for path in [
        "a",
        "b",
        "dir/x",
        "dir/sub/y",
        "hard/1",
        "sp ace",
        "bang!",
        "t/x.txt",
        "t/x.md",
    ] {
        rig.write(path, path.rsplit('/').next().unwrap());
    }
    rig.chmod("a", 0o640)
        .chmod("b", 0o4711)
        .chmod("dir", 0o700)
        .chmod("dir/sub", 0o711)
        .chmod("hard", 0o755)
        .chmod("t", 0o755);
    let at = |path: &str| rig.context().join(path);
    fs::hard_link(at("hard/1"), at("hard/2")).unwrap();
    symlink("a", at("to-a")).unwrap();
    symlink("/dir", at("to-dir")).unwrap();
    symlink("x", at("dir/link")).unwrap();
    symlink("nowhere", at("dir/sub/dangling")).unwrap();
    host::stdout_of(
        Command::new("mkfifo")
            .args(["-m", "600"])
            .arg(at("dir/sub/fifo")),
    );
}

fn line(path: &str, node: &Node) -> String {
    let owner = match (node.uid, node.gid) {
        (0, 0) => String::new(),
        (uid, gid) => format!(" {uid}:{gid}"),
    };
    let (kind, more) = match node.kind {
        Kind::Directory => ("d", String::new()),
        Kind::File => (
            "f",
            format!(" = {}", String::from_utf8_lossy(&node.content)),
        ),
        Kind::Symlink => ("l", format!(" -> {}", node.link.as_deref().unwrap())),
        Kind::HardLink => ("h", format!(" -> {}", node.link.as_deref().unwrap())),
        Kind::Fifo => ("p", String::new()),
        Kind::Character { .. } | Kind::Block { .. } => ("?", String::new()),
    };
    match node.kind {
        Kind::Symlink => format!("{kind}{owner} {path}{more}"),
        _ => format!("{kind} {:o}{owner} {path}{more}", node.mode),
    }
}

fn last_layer(image: &Image) -> Vec<String> {
    let entries = &image.layers.last().unwrap().entries;
    entries
        .iter()
        .map(|(path, node)| line(path, node))
        .collect()
}

#[track_caller]
fn check(rows: &[Row]) {
    let rig = Rig::new();
    context(&rig);
    let mut wrong = Vec::new();
    for Row {
        rule,
        dockerfile,
        layer,
    } in rows
    {
        let found = last_layer(&rig.image(dockerfile));
        if found != *layer {
            wrong.push(format!("{rule}\n  {dockerfile:?}\n  {found:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn sources_name_files_and_the_contents_of_directories() {
    check(&[
        row("words", "FROM base\nCOPY a /new", &["f 640 new = a"]),
        row(
            "a json list for blanks",
            "FROM base\nCOPY [\"sp ace\", \"/n w\"]",
            &["f 644 n w = sp ace"],
        ),
        row(
            "root is 0 where no file says so",
            "FROM scratch\nCOPY --chown=root:root a /new",
            &["f 640 new = a"],
        ),
        row(
            "the root of the context",
            "FROM base\nCOPY /a /new",
            &["f 640 new = a"],
        ),
        row(
            "never above it",
            "FROM base\nCOPY ../../a /new",
            &["f 640 new = a"],
        ),
        row(
            "cleaned by text",
            "FROM base\nCOPY nowhere/../a /new",
            &["f 640 new = a"],
        ),
        row(
            "a slash after a file means nothing",
            "FROM base\nCOPY a/ /new",
            &["f 640 new = a"],
        ),
        row(
            "set-id bits stay",
            "FROM base\nCOPY b /new",
            &["f 4711 new = b"],
        ),
        row(
            "what is in a directory, and links and fifos as they are",
            "FROM base\nCOPY dir /new",
            &[
                "d 755 new",
                "l new/link -> x",
                "d 711 new/sub",
                "l new/sub/dangling -> nowhere",
                "p 600 new/sub/fifo",
                "f 644 new/sub/y = y",
                "f 644 new/x = x",
            ],
        ),
        row(
            "the same with a slash",
            "FROM base\nCOPY t/ /new/",
            &[
                "d 755 new",
                "f 644 new/x.md = x.md",
                "f 644 new/x.txt = x.txt",
            ],
        ),
        row(
            "a link is followed",
            "FROM base\nCOPY to-a /new",
            &["f 640 new = a"],
        ),
        row(
            "and keeps its own name",
            "FROM base\nCOPY to-a /new/",
            &["d 755 new", "f 640 new/to-a = a"],
        ),
        row(
            "an absolute one stays in the context",
            "FROM base\nCOPY to-dir/x /new",
            &["f 644 new = x"],
        ),
        row(
            "so is one that leads to a directory",
            "FROM base\nCOPY to-dir/sub/y to-a /new/",
            &["d 755 new", "f 640 new/to-a = a", "f 644 new/y = y"],
        ),
        row(
            "hard links are kept within one copy",
            "FROM base\nCOPY hard /new",
            &["d 755 new", "f 644 new/1 = 1", "h 644 new/2 -> new/1"],
        ),
        row(
            "and not from one source to the next",
            "FROM base\nCOPY hard/1 hard/2 /new/",
            &["d 755 new", "f 644 new/1 = 1", "f 644 new/2 = 1"],
        ),
        row(
            "a heredoc",
            "FROM base\nARG v=1\nCOPY <<EOF <<\"RAW\" /new/\n$v\nEOF\n$v\nRAW\n",
            &["d 755 new", "f 644 new/EOF = 1\n", "f 644 new/RAW = $v\n"],
        ),
        row(
            "a heredoc beside a file",
            "FROM base\nCOPY a <<EOF /new/\nx\nEOF\n",
            &["d 755 new", "f 644 new/EOF = x\n", "f 640 new/a = a"],
        ),
        row(
            "another stage, from its root",
            "FROM base AS one\nCOPY --chmod=604 a /q/f\nFROM base\nWORKDIR /w\nCOPY --from=one q/f ./new",
            &["d 755 w", "f 604 w/new = a"],
        ),
        row(
            "a stage by its number, a link inside it",
            "FROM base\nCOPY a /real/f\nRUN ln -s /real /to\nFROM base\nCOPY --from=0 /to/f /new",
            &["f 640 new = a"],
        ),
    ]);
}

#[test]
fn wildcards_match_as_filepath_match_does() {
    check(&[
        row(
            "star",
            "FROM base\nCOPY t/*.txt /new/",
            &["d 755 new", "f 644 new/x.txt = x.txt"],
        ),
        row(
            "question mark and order",
            "FROM base\nCOPY ? /new/",
            &[
                "d 755 new",
                "f 640 new/a = a",
                "f 4711 new/b = b",
                "f 644 new/x.md = x.md",
                "f 644 new/x.txt = x.txt",
            ],
        ),
        row(
            "class",
            "FROM base\nCOPY [a-b] /new/",
            &["d 755 new", "f 640 new/a = a", "f 4711 new/b = b"],
        ),
        row(
            "negated class",
            "FROM base\nCOPY [^b-z] /new/",
            &["d 755 new", "f 640 new/a = a"],
        ),
        row(
            "escaped",
            "FROM base\nCOPY t/x\\\\.m* /new/",
            &["d 755 new", "f 644 new/x.md = x.md"],
        ),
        row(
            "a star stops at a slash",
            "FROM base\nCOPY */x /new/",
            &["d 755 new", "f 644 new/x = x"],
        ),
        row(
            "two stars are one",
            "FROM base\nCOPY **/y a /new/",
            &["d 755 new", "f 640 new/a = a"],
        ),
        row(
            "a directory that matches gives its contents",
            "FROM base\nCOPY har[d] /new",
            &["d 755 new", "f 644 new/1 = 1", "h 644 new/2 -> new/1"],
        ),
        row(
            "a link that matches is followed",
            "FROM base\nCOPY to-[a] /new/",
            &["d 755 new", "f 640 new/to-a = a"],
        ),
        row(
            "no match is nothing",
            "FROM base\nCOPY a none* /new/",
            &["d 755 new", "f 640 new/a = a"],
        ),
    ]);
}

#[test]
fn destinations_are_files_or_directories() {
    check(&[
        row(
            "a new name",
            "FROM base\nCOPY a /n1/n2/new",
            &["d 755 n1", "d 755 n1/n2", "f 640 n1/n2/new = a"],
        ),
        row(
            "a slash",
            "FROM base\nCOPY a /new/",
            &["d 755 new", "f 640 new/a = a"],
        ),
        row(
            "an existing directory",
            "FROM base\nCOPY a /srv\nCOPY a /home",
            &["d 755 home", "f 640 home/a = a"],
        ),
        row(
            "an existing file",
            "FROM base\nCOPY a /f\nCOPY b /f",
            &["f 4711 f = b"],
        ),
        row(
            "the working directory",
            "FROM base\nWORKDIR /w\nCOPY a .",
            &["d 755 w", "f 640 w/a = a"],
        ),
        row(
            "the same, longer",
            "FROM base\nWORKDIR /w\nCOPY a ./",
            &["d 755 w", "f 640 w/a = a"],
        ),
        row(
            "the same, empty",
            "FROM base\nWORKDIR /w\nCOPY [\"a\", \"\"]",
            &["d 755 w", "f 640 w/a = a"],
        ),
        row(
            "below it",
            "FROM base\nWORKDIR /w\nCOPY a s/n",
            &["d 755 w", "d 755 w/s", "f 640 w/s/n = a"],
        ),
        row(
            "above it",
            "FROM base\nWORKDIR /w/v\nCOPY a ../n",
            &["d 755 w", "f 640 w/n = a"],
        ),
        row(
            "never above the root",
            "FROM base\nCOPY a ../../n",
            &["f 640 n = a"],
        ),
        row(
            "a variable",
            "FROM base\nENV d=/n\nCOPY a $d/${d#/}",
            &["d 755 n", "f 640 n/n = a"],
        ),
        row(
            "what a directory has stays, unless it is copied over",
            "FROM base\nCOPY a /new/x\nCOPY a /new/keep\nCOPY t/ /new",
            &[
                "d 755 new",
                "f 644 new/x.md = x.md",
                "f 644 new/x.txt = x.txt",
            ],
        ),
        row(
            "the directory that is copied to keeps its mode, those in it get the source's",
            "FROM base\nRUN mkdir -p /new/sub && chmod 750 /new && chmod 500 /new/sub\nCOPY dir/sub dir /new",
            &[
                "d 750 new",
                "l new/dangling -> nowhere",
                "p 600 new/fifo",
                "l new/link -> x",
                "d 711 new/sub",
                "l new/sub/dangling -> nowhere",
                "p 600 new/sub/fifo",
                "f 644 new/sub/y = y",
                "f 644 new/x = x",
                "f 644 new/y = y",
            ],
        ),
        row(
            "a relative link to a directory",
            "FROM base\nRUN mkdir /real && ln -s real /to\nCOPY a /to/",
            &["d 755 real", "f 640 real/a = a"],
        ),
        row(
            "an absolute one, without a slash",
            "FROM base\nRUN mkdir /real && ln -s /real /to\nCOPY a /to",
            &["d 755 real", "f 640 real/a = a"],
        ),
        row(
            "one that leads out stays in",
            "FROM base\nRUN ln -s ../../../tmp/out /to\nCOPY a /to/",
            &["d 1777 tmp", "d 755 tmp/out", "f 640 tmp/out/a = a"],
        ),
        row(
            "a link to a file is replaced where it leads",
            "FROM base\nCOPY b /real\nRUN ln -s real /to\nCOPY a /to",
            &["f 640 real = a"],
        ),
        row(
            "a link inside what is copied to is replaced by a file",
            "FROM base\nRUN mkdir /d && ln -s /etc/passwd /d/x.md\nCOPY t /d",
            &["d 755 d", "f 644 d/x.md = x.md", "f 644 d/x.txt = x.txt"],
        ),
        row(
            "several sources into a directory that is there",
            "FROM base\nCOPY a to-a /home",
            &["d 755 home", "f 640 home/a = a", "f 640 home/to-a = a"],
        ),
    ]);
}

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
    if !host::maps_many_ids() {
        return;
    }
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
fn what_cannot_be_copied_says_why() {
    let rig = Rig::new();
    context(&rig);
    rig.write("tree/passwd/file", "")
        .write(".dockerignore", "hidden");
    rig.write("hidden", "");
    let _listener = std::os::unix::net::UnixListener::bind(rig.context().join("socket")).unwrap();
    for (dockerfile, message) in [
        (
            "COPY a",
            "COPY requires at least two arguments, but only one was provided. Destination could not be determined",
        ),
        ("COPY none /x", "\"/none\": not found"),
        ("COPY dirr/x /x", "did you mean \"/dir\"?"),
        ("COPY hidden /x", ".dockerignore:1 hides it"),
        ("COPY a/b /x", "\"/a/b\": not found"),
        ("COPY socket /x", "it is a socket"),
        (
            "COPY a b /x",
            "when using COPY with more than one source file, the destination must be a directory and end with a /",
        ),
        (
            "ADD a b /x",
            "when using ADD with more than one source file",
        ),
        (
            "COPY dir /etc/passwd",
            "cannot copy to non-directory: /etc/passwd",
        ),
        (
            "COPY a /etc/passwd/x",
            "cannot copy to non-directory: /etc/passwd",
        ),
        (
            "COPY tree/passwd/file /etc/passwd/",
            "cannot copy to non-directory: /etc/passwd",
        ),
        (
            "RUN mkdir /d /d/a\nCOPY a /d",
            "cannot replace to directory /d/a with file",
        ),
        (
            "COPY tree /etc",
            "cannot copy to non-directory: /etc/passwd",
        ),
        ("COPY [z /x", "syntax error in pattern"),
        (
            "COPY --chmod=8 a /x",
            "invalid chmod parameter: '8'. it should be octal string and between 0 and 07777",
        ),
        (
            "COPY --chmod=10000 a /x",
            "invalid chmod parameter: '10000'",
        ),
        (
            "ARG m=u+q\nCOPY --chmod=$m a /x",
            "invalid chmod parameter: 'u+q'",
        ),
        (
            "COPY --chown=apq a /x",
            "unable to find user apq: no matching entries in passwd file (did you mean app?)",
        ),
        (
            "COPY --chown=root:stafff a /x",
            "unable to find group stafff: no matching entries in group file (did you mean staff?)",
        ),
        (
            "COPY --chown=nobodyknows a /x",
            "unable to find user nobodyknows: no matching entries in passwd file",
        ),
        (
            "FROM scratch\nCOPY --chown=app a /x",
            "unable to find user app",
        ),
        (
            "COPY --chown=4294967295 a /x",
            "is not between 0 and 4294967294",
        ),
        ("COPY --from=base /none /x", "\"/none\": not found"),
        ("COPY --checksum=sha256:0 a /x", "unknown flag: --checksum"),
        (
            "ADD --checksum=sha256:0 a /x",
            "checksum requires HTTP(S) or Git sources",
        ),
        (
            "ADD --checksum=sha256:0 a b /x/",
            "checksum can't be specified for multiple sources",
        ),
        (
            "COPY https://example.invalid/f /x",
            "source can't be a URL for COPY",
        ),
        (
            "COPY git@example.invalid:a/b.git /x",
            "source can't be a git ref for COPY",
        ),
        (
            "COPY https://example.invalid/f.git /x",
            "source can't be a git ref for COPY",
        ),
        ("COPY --parents a[ /x", "syntax error in pattern"),
        ("COPY --unpack a /x", "unknown flag: --unpack"),
        ("ADD --parents a /x", "unknown flag: --parents"),
        (
            "COPY --link=maybe a /x",
            "expecting boolean value for flag --link, not: maybe",
        ),
        (
            "COPY --exclude=[z . /x",
            "invalid excludepatterns: syntax error in pattern",
        ),
        ("COPY --exclude=! . /x", "illegal exclusion pattern: \"!\""),
        (
            "ARG e=[z\nCOPY --exclude=$e . /x",
            "invalid excludepatterns",
        ),
        ("COPY --parents none/x /x", "\"/none/x\": not found"),
        ("COPY --parents to-dir/x /x", "\"/to-dir/x\": not found"),
        ("COPY --parents none/./d* /x", "\"/none\": not found"),
        ("COPY --parents hidden /x", ".dockerignore:1 hides it"),
        (
            "COPY --link --chown=app a /x",
            "--chown=app cannot be used with --link",
        ),
        (
            "ARG u=app\nCOPY --link --chown=$u a /x",
            "--chown=app cannot be used with --link",
        ),
    ] {
        rig.dockerfile(&format!("FROM base\n{dockerfile}"));
        let outcome = rig.build(&[]);
        let is_last = outcome.code == Some(1) && outcome.stderr.contains(message);
        assert!(
            is_last,
            "{dockerfile}: {:?}\n{}",
            outcome.code, outcome.stderr
        );
        assert!(outcome.stderr.contains("Dockerfile:"), "{}", outcome.stderr);
    }
}

#[test]
fn a_socket_in_a_directory_is_left_out_and_said() {
    let rig = Rig::new();
    rig.write("d/file", "");
    let _listener = std::os::unix::net::UnixListener::bind(rig.context().join("d/socket")).unwrap();
    rig.dockerfile("FROM base\nCOPY d /d");
    rig.build(&[]).succeeds().says(&["/d/socket", "left out"]);
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
