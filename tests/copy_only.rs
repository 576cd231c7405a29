//! `--sandbox=copy-only`: what can be built where no command can run, by an ordinary user.

use std::process::{Command, Stdio};

use crate::rig::base::append;
use crate::rig::image::{Image, Kind};
use crate::rig::outcome::Outcome;
use crate::rig::terminal::{bounded, started_by};
use crate::rig::{Rig, host};

/// A store with a base that has files of other owners, a set-user-ID program, modes that forbid their
/// owner everything, and a device.
fn rig() -> Rig {
    let rig = Rig::empty();
    let mut tar = tar::Builder::new(Vec::new());
    for (path, mode) in [
        ("etc/", 0o755),
        ("srv/", 0o2775),
        ("usr/", 0o755),
        ("dev/", 0o755),
        ("locked/", 0o500),
    ] {
        append(&mut tar, tar::EntryType::Directory, path, mode, b"");
    }
    append(
        &mut tar,
        tar::EntryType::Regular,
        "etc/passwd",
        0o644,
        b"root:x:0:0::/:/sh\napp:x:1000:1000::/:/sh\n",
    );
    append(
        &mut tar,
        tar::EntryType::Regular,
        "etc/group",
        0o644,
        b"root:x:0:\nshadow:x:42:\n",
    );
    for (kind, path, mode, (uid, gid)) in [
        (tar::EntryType::Regular, "etc/shadow", 0o640, (0, 42)),
        (tar::EntryType::Regular, "usr/su", 0o4755, (0, 10)),
        (tar::EntryType::Regular, "locked/none", 0, (0, 0)),
        (tar::EntryType::Regular, "locked/read", 0o2444, (7, 0)),
        (tar::EntryType::Fifo, "srv/pipe", 0o600, (33, 33)),
        (tar::EntryType::Char, "dev/null", 0o666, (0, 5)),
        (tar::EntryType::Symlink, "srv/link", 0o777, (7, 8)),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(uid);
        header.set_gid(gid);
        header.set_mtime(1_600_000_000);
        header.set_size(0);
        if kind == tar::EntryType::Char {
            header.set_device_major(1).unwrap();
            header.set_device_minor(3).unwrap();
        }
        if kind == tar::EntryType::Symlink {
            tar.append_link(&mut header, path, "pipe").unwrap();
        } else {
            tar.append_data(&mut header, path, &b""[..]).unwrap();
        }
    }
    let path = rig.path("base.tar");
    std::fs::write(&path, tar.into_inner().unwrap()).unwrap();
    let path = path.display().to_string();
    Outcome::of(&mut command(&rig, &["import", &path, "base"])).succeeds();
    rig
}

fn command(rig: &Rig, arguments: &[&str]) -> Command {
    let rbuild = rig.command([&["--sandbox=copy-only"], arguments].concat());
    let mut command = bounded(&rbuild);
    command.stdin(Stdio::null());
    command
}

fn image(rig: &Rig, dockerfile: &str) -> Image {
    rig.dockerfile(dockerfile);
    let archive = rig.path("image.tar");
    let output = format!("type=oci,dest={}", archive.display());
    let context = rig.context().display().to_string();
    Outcome::of(&mut command(rig, &["build", "-o", &output, &context])).succeeds();
    Image::open(&archive)
}

#[test]
fn a_dockerfile_without_run_builds_with_the_right_owners() {
    let rig = rig();
    rig.write("a/file", "1").write("a/b/other", "2");
    rig.write("a/read", "3").chmod("a/read", 0o444);
    let image = image(
        &rig,
        "FROM base AS one\nCOPY --chown=app:shadow a /data\nFROM base\nENV A=b\nUSER app\nWORKDIR /w/d\n\
         COPY a/file /srv/link2\nCOPY --from=one --chown=5:6 /data/b /moved\nCOPY --chmod=444 a/read /locked/more\nCOPY --from=one / /all/\n\
         COPY --link --chown=3:4 a /linked\nADD a/file /w/\nUSER root",
    );
    for (path, owner, mode) in [
        ("w/d", (1000, 1000), 0o755),
        ("moved/other", (5, 6), 0o644),
        ("all/data/file", (1000, 42), 0o644),
        ("all/etc/shadow", (0, 42), 0o640),
        ("all/usr/su", (0, 10), 0o4755),
        ("all/srv/pipe", (33, 33), 0o600),
        ("all/srv/link", (7, 8), 0o777),
        ("linked/file", (3, 4), 0o644),
        ("w/file", (0, 0), 0o644),
        ("all/data/read", (1000, 42), 0o444),
        ("locked/more", (0, 0), 0o444),
        ("all/locked", (0, 0), 0o500),
        ("all/locked/none", (0, 0), 0),
        ("all/locked/read", (7, 0), 0o2444),
    ] {
        let file = image.file(path);
        assert_eq!(((file.uid, file.gid), file.mode), (owner, mode), "{path}");
    }
    let null = image.file("all/dev/null");
    assert_eq!(null.kind, Kind::Character { major: 1, minor: 3 });
    assert_eq!((null.uid, null.gid), (0, 5));
}

#[test]
fn an_owner_with_the_number_of_the_user_is_recorded_like_any_other() {
    let rig = rig();
    rig.write("file", "1");
    let uid = host::uid();
    let image = image(
        &rig,
        &format!("FROM base\nCOPY --chown={uid}:{uid} file /d/file"),
    );
    for path in ["d", "d/file"] {
        assert_eq!(image.file(path).uid, u64::from(uid), "{path}");
    }
}

#[test]
fn replaced_and_hidden_files_come_out_as_with_an_overlay() {
    let rig = rig();
    rig.write("file", "1").write("dir/in", "2");
    let text = "FROM base\nCOPY dir /x\nCOPY file /x/in\nCOPY dir /y\nFROM scratch\nCOPY --from=0 /x /\n\
        COPY --link file /l/f\nCOPY file /l/f";
    let flat = image(&rig, text);
    assert_eq!(flat.text("in"), "1");
    assert_eq!(flat.layers.len(), 3);
    let again = image(&rig, text);
    assert_eq!(flat.config["rootfs"], again.config["rootfs"]);
}

#[test]
fn a_dockerfile_with_run_is_refused_before_any_work() {
    let rig = rig();
    let before = rig.store_listing();
    rig.dockerfile("FROM nowhere.invalid/image\nCOPY . /\nRUN make\nRUN make install");
    let context = rig.context().display().to_string();
    let outcome = Outcome::of(&mut command(&rig, &["build", "--progress=plain", &context]))
        .exits_with(3)
        .says(&["Dockerfile:3:1", "RUN cannot be carried out", "copy-only"]);
    assert!(!outcome.stderr.contains("metadata"), "{}", outcome.stderr);
    assert!(
        !outcome.stderr.contains("Dockerfile:4"),
        "{}",
        outcome.stderr
    );
    assert_eq!(rig.store_listing(), before);
    Outcome::of(&mut command(&rig, &["run", "base", "true"]))
        .exits_with(125)
        .says(&["cannot run base"]);
}

#[test]
fn a_trigger_that_runs_is_refused_at_its_from_line() {
    let rig = rig();
    image(&rig, "FROM base\nONBUILD RUN true");
    let context = rig.context().display().to_string();
    Outcome::of(&mut command(&rig, &["build", "-t", "parent", &context])).succeeds();
    rig.dockerfile("FROM parent");
    Outcome::of(&mut command(&rig, &["build", &context]))
        .exits_with(3)
        .says(&["Dockerfile:1:1"]);
}

#[test]
fn images_are_kept_and_moved_as_anywhere() {
    let rig = rig();
    let saved = rig.path("saved.tar").display().to_string();
    let tree = rig.path("tree.tar").display().to_string();
    for arguments in [
        &["images"][..],
        &["tag", "base", "other"],
        &["save", "-o", &saved, "other"],
        &["rmi", "-f", "other"],
        &["load", "-i", &saved],
        &["export", "base", "-o", &tree],
        &["builder", "prune", "-af"],
    ] {
        Outcome::of(&mut command(&rig, arguments)).succeeds();
    }
    let entries = crate::rig::image::entries_of(&std::fs::read(&tree).unwrap());
    let (_, shadow) = entries
        .iter()
        .find(|(name, _)| name == "etc/shadow")
        .unwrap();
    assert_eq!((shadow.uid, shadow.gid), (0, 42));
}

#[test]
fn a_host_without_namespaces_or_root_falls_to_copying() {
    if !host::tool("setpriv") || !host::tool("unshare") {
        return;
    }
    let rig = rig();
    // Root of a namespace that may have none below it, without any capability.
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && \
        exec setpriv --bounding-set=-all --inh-caps=-all --ambient-caps=-all \"$@\"";
    let bare = [
        "timeout",
        "-k",
        "5",
        "120",
        "unshare",
        "--map-root-user",
        "sh",
        "-c",
        script,
        "sh",
    ];
    let context = rig.context().display().to_string();
    let rbuild = rig.command(["build", &context]);
    rig.write("file", "1")
        .dockerfile("FROM base\nCOPY file /etc/");
    Outcome::of(&mut started_by(&bare, &rbuild)).succeeds();
    rig.dockerfile("FROM base\nRUN true");
    Outcome::of(&mut started_by(&bare, &rbuild))
        .exits_with(3)
        .says(&["Dockerfile:2:1", "max_user_namespaces"]);
}

#[test]
fn a_rung_that_was_asked_for_is_taken_or_refused_with_the_reason() {
    let rig = Rig::new();
    rig.dockerfile("FROM base\nRUN true");
    rig.build(&["--sandbox=chroot"])
        .exits_with(3)
        .says(&["--sandbox=chroot cannot be had here", "takes root"]);
    rig.build(&["--sandbox=podman"])
        .exits_with(2)
        .says(&["podman"]);
    let mapped = rig.build(&["--sandbox=mapped"]);
    if host::maps_many_ids() {
        mapped.succeeds();
    } else {
        mapped
            .exits_with(3)
            .says(&["--sandbox=mapped cannot be had here"]);
    }
}
