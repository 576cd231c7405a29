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

pub(crate) struct Row {
    rule: &'static str,
    dockerfile: &'static str,
    layer: &'static [&'static str],
}

pub(crate) const fn row(
    rule: &'static str,
    dockerfile: &'static str,
    layer: &'static [&'static str],
) -> Row {
    Row {
        rule,
        dockerfile,
        layer,
    }
}

/// Files whose content is their name, in directories of uncommon modes, and links of every kind.
pub(crate) fn context(rig: &Rig) {
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
pub(crate) fn check(rows: &[Row]) {
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
