//! `rbuild export`: the root file system of an image.

use std::fs;

use crate::rig::Rig;
use crate::rig::image::{Kind, entries_of};
use crate::rig::terminal::Terminal;

fn rig_with_image() -> Rig {
    let rig = Rig::new();
    rig.dockerfile("FROM base\nRUN rm /etc/group && echo new > /new && ln -s new /link");
    rig.build(&["-t", "flat"]).succeeds();
    rig
}

#[test]
fn an_archive_has_the_files_and_no_layers() {
    let rig = rig_with_image();
    let stdout = rig.rbuild(["export", "flat"]).succeeds().stdout;
    let file = rig.path("out.tar");
    rig.rbuild(["export", "-o", file.to_str().unwrap(), "flat"])
        .succeeds();
    assert_eq!(fs::read(&file).unwrap(), stdout);
    let entries = entries_of(&stdout);
    let find = |name: &str| {
        entries
            .iter()
            .find(|(path, _)| path == name)
            .map(|(_, node)| node)
    };
    assert_eq!(find("new").unwrap().content, b"new\n");
    assert_eq!(find("link").unwrap().kind, Kind::Symlink);
    assert!(find("etc/passwd").is_some());
    assert!(
        !entries
            .iter()
            .any(|(path, _)| path.contains("group") && path.starts_with("etc"))
    );
}

#[test]
fn a_directory_gets_the_files() {
    let rig = rig_with_image();
    let id = rig.build(&["-t", "flat"]).succeeds().id();
    let out = rig.path("out");
    rig.rbuild(["export", &id[7..19], "-o", out.to_str().unwrap()])
        .succeeds();
    assert_eq!(fs::read_to_string(out.join("link")).unwrap(), "new\n");
    assert!(out.join("bin/busybox").exists());
    assert!(!out.join("etc/group").exists());
}

#[test]
fn an_export_can_be_imported_and_run() {
    let rig = rig_with_image();
    let file = rig.path("out.tar");
    rig.rbuild(["export", "-o", file.to_str().unwrap(), "flat"])
        .succeeds();
    rig.rbuild(["import", file.to_str().unwrap(), "again"])
        .succeeds();
    let outcome = rig.run(&["again", "cat", "/new"]).succeeds();
    assert_eq!(outcome.stdout, b"new\n");
}

#[test]
fn what_cannot_be_written_is_said() {
    let rig = rig_with_image();
    fs::write(rig.path("file"), "").unwrap();
    for (output, code, why) in [
        ("out.tar.gz", 2, "not compressed"),
        ("file", 2, "ends in .tar"),
        ("no/such/out.tar", 1, "cannot write"),
    ] {
        let path = rig.path(output);
        rig.rbuild(["export", "-o", path.to_str().unwrap(), "flat"])
            .exits_with(code)
            .says(&[why]);
    }
    let mut terminal = Terminal::start(&rig.command(["export", "flat"]), 80, 24);
    assert_eq!(terminal.end(), Some(2));
    assert!(
        terminal.screen.contains("not written to a terminal"),
        "{}",
        terminal.screen
    );
}
