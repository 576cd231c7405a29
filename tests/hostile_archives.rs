//! Archives that want all memory or all disk.

use std::process::{Command, Stdio};

use crate::rig::forged::Layer;
use crate::rig::outcome::Outcome;
use crate::rig::{Rig, terminal};

/// The command with so many MiB of addresses at most, ended after two minutes.
fn with_memory(mebibytes: u32, command: &Command) -> Command {
    let limit = format!("ulimit -v {} && exec \"$@\"", mebibytes * 1024);
    terminal::started_by(
        &["timeout", "-k", "5", "120", "sh", "-c", &limit, "sh"],
        command,
    )
}

/// What the process needs for an archive of one file, with room.
const ENOUGH: u32 = 700;

fn import(rig: &Rig, write: impl FnOnce(&mut dyn std::io::Write)) -> Outcome {
    let command = rig.command(["import", "-", "imported"]);
    let mut child = with_memory(ENOUGH, &command)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = std::io::BufWriter::with_capacity(1 << 20, child.stdin.take().unwrap());
    write(&mut input);
    drop(input);
    Outcome::from(child.wait_with_output().unwrap())
}

#[test]
fn memory_does_not_grow_with_the_members_of_an_archive() {
    let rig = Rig::empty();
    // Each is of 5 KiB and makes nothing new: all of them together are more than the memory.
    let outcome = import(&rig, |out| {
        let long = "./".repeat(2000) + "name";
        drop(out.write_all(&Layer::new().file("name", "x").unfinished()));
        let member = Layer::new().hard_link("name", long).unfinished();
        for _ in 0..200_000_u32 {
            drop(out.write_all(&member));
        }
    });
    outcome.exits_with(0);
}

#[test]
fn names_and_records_of_600_mebibytes_need_no_memory() {
    for kind in [b'L', b'K', b'x', b'g'] {
        let rig = Rig::empty();
        let outcome = import(&rig, |out| {
            let header = Layer::new().raw(kind, "x", "", b"", |header| header.set_size(600 << 20));
            drop(out.write_all(&header.unfinished()));
            let zeros = vec![b'a'; 1 << 20];
            for _ in 0..20 {
                drop(out.write_all(&zeros));
            }
        });
        outcome.exits_with(1).says(&["too long"]);
    }
}

#[test]
fn bombs_end_at_the_limit_of_their_archive() {
    let rig = Rig::new();
    // 300 MiB of nothing, in a few KiB.
    let file = vec![0; 300 << 20];
    let bomb = Layer::new().raw(b'0', "zeros", "", &file, |_| {}).tar();
    let bomb = zstd::encode_all(&bomb[..], 1).unwrap();
    assert!(bomb.len() < 1 << 20);
    rig.write("bomb.tar.zst", &bomb);
    // As much in holes, which no tar has.
    let mut sparse = Layer::new();
    for number in 0..300 {
        sparse = sparse
            .records(&[("GNU.sparse.map", b"0,0"), ("GNU.sparse.size", b"1048576")])
            .file(format!("hole{number}"), "");
    }
    rig.write("sparse.tar", sparse.tar());
    let mut many = Layer::new();
    for number in 0..3000 {
        many = many.file(format!("f{number}"), "");
    }
    rig.write("many.tar", many.tar());
    for (archive, limit) in [
        ("bomb.tar.zst", "unpack-bytes=64m"),
        ("sparse.tar", "unpack-bytes=64m"),
        ("many.tar", "unpack-files=1000"),
    ] {
        rig.dockerfile(&format!("FROM base\nADD {archive} /to/"));
        let command = rig.build_command(&["--limits", limit]);
        let name = limit.split('=').next().unwrap();
        Outcome::bounded(&command).exits_with(1).says(&[name]);
    }
    rig.dockerfile("FROM base\nADD sparse.tar /to/");
    rig.build(&[]).succeeds();
}
