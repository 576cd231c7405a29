//! COPY of local sources and from other stages.

use std::fs;
use std::os::unix::fs::symlink;

use crate::rig::image::Kind;
use crate::rig::{Rig, host};

#[test]
fn files_belong_to_root_and_keep_mode_and_time() {
    let rig = Rig::new();
    rig.write("script", "#!/bin/sh\n").chmod("script", 0o751);
    let file = fs::File::options()
        .write(true)
        .open(rig.context().join("script"))
        .unwrap();
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    file.set_modified(time).unwrap();
    let image = rig.image("FROM base\nCOPY script /script");
    let node = image.file("script");
    assert_eq!((node.uid, node.gid, node.mode), (0, 0, 0o751));
    assert_eq!(node.mtime, 1_000_000_000);
    assert_eq!(image.last_layer(), ["script"]);
}

/// The context of the destination table: `a`, `b`, `dir/x`, `dir/sub/y`.
fn with_files() -> Rig {
    let rig = Rig::new();
    rig.write("a", "a")
        .write("b", "b")
        .write("dir/x", "x")
        .write("dir/sub/y", "y");
    rig
}

#[test]
fn destinations_follow_the_reference() {
    for (copy, expected) in [
        ("COPY a /new", &["new"][..]),
        ("COPY a /new/", &["new/a"]),
        ("COPY a /etc", &["etc/a"]),
        ("COPY a b /new/", &["new/a", "new/b"]),
        ("COPY a b /etc", &["etc/a", "etc/b"]),
        ("COPY dir /new", &["new/x", "new/sub/y"]),
        ("COPY dir /new/", &["new/x", "new/sub/y"]),
        ("COPY dir/ /etc", &["etc/x", "etc/sub/y"]),
        ("COPY dir a /new/", &["new/x", "new/sub/y", "new/a"]),
        ("COPY . /new", &["new/a", "new/b", "new/dir/sub/y"]),
        ("COPY a .", &["work/a"]),
        ("COPY a ./", &["work/a"]),
        ("COPY a sub/name", &["work/sub/name"]),
        ("COPY /a /new", &["new"]),
        ("COPY ../../a /new", &["new"]),
        ("COPY dir/../a /new", &["new"]),
        ("COPY [\"a\", \"/with space\"]", &["with space"]),
        ("COPY ? /new/", &["new/a", "new/b"]),
        ("COPY [ac] /new/", &["new/a"]),
        ("COPY d*/x /new/", &["new/x"]),
        ("COPY d* /new/", &["new/x", "new/sub/y"]),
    ] {
        let rig = with_files();
        let image = rig.image(&format!("FROM base\nWORKDIR /work\n{copy}"));
        for path in expected {
            assert!(image.has(path), "{copy}: {path} is missing");
        }
        let last = image.layers.last().unwrap();
        let files = last
            .entries
            .iter()
            .filter(|(_, node)| node.kind == Kind::File);
        let copied: Vec<_> = files.map(|(path, _)| path).collect();
        let context_files = if copy == "COPY . /new" {
            5
        } else {
            expected.len()
        };
        assert_eq!(copied.len(), context_files, "{copy}: {copied:?}");
    }
}

#[test]
fn several_sources_never_clobber_one_file() {
    let rig = with_files();
    rig.dockerfile("FROM base\nCOPY a b /new");
    rig.build(&[]).exits_with(1).says(&["Dockerfile:2", "/new"]);
}

#[test]
fn a_directory_cannot_replace_a_file_nor_a_file_a_directory() {
    let rig = with_files();
    rig.dockerfile("FROM base\nCOPY dir /etc/passwd");
    rig.build(&[]).exits_with(1).says(&["/etc/passwd"]);

    rig.write("tree/passwd/file", "");
    rig.dockerfile("FROM base\nCOPY tree /etc");
    rig.build(&[]).exits_with(1).says(&["passwd"]);
}

#[test]
fn made_directories_are_root_0755_and_existing_ones_keep_their_mode() {
    let rig = with_files();
    rig.chmod("dir", 0o700).chmod("dir/sub", 0o711);
    let image = rig.image("FROM base\nCOPY a /n1/n2/\nCOPY dir /tmp\nCOPY dir /fresh");
    assert_eq!(image.file("n1").mode, 0o755);
    assert_eq!(image.file("n1/n2").mode, 0o755);
    assert_eq!(
        image.file("tmp").mode,
        0o1777,
        "the target directory itself is the image's"
    );
    assert_eq!(image.file("tmp/sub").mode, 0o711);
    assert_eq!(image.file("fresh/sub").mode, 0o711);
}

#[test]
fn a_link_that_is_a_source_is_followed_and_one_inside_a_directory_is_copied() {
    let rig = with_files();
    symlink("a", rig.context().join("to-a")).unwrap();
    symlink("../a", rig.context().join("dir/up")).unwrap();
    let image = rig.image("FROM base\nCOPY to-a /file\nCOPY dir /d");
    assert_eq!(image.text("file"), "a");
    assert_eq!(image.file("d/up").kind, Kind::Symlink);
    assert_eq!(image.file("d/up").link.as_deref(), Some("../a"));
}

#[test]
fn a_source_link_cannot_leave_the_context() {
    let rig = with_files();
    fs::write(rig.path("secret"), "outside").unwrap();
    symlink("../secret", rig.context().join("relative")).unwrap();
    symlink(rig.path("secret"), rig.context().join("absolute")).unwrap();
    for link in ["relative", "absolute"] {
        rig.dockerfile(&format!("FROM base\nCOPY {link} /stolen"));
        let outcome = rig.build(&[]);
        assert_eq!(outcome.code, Some(1), "{link}: {}", outcome.stderr);
    }
}

#[test]
fn a_destination_link_is_followed_inside_the_image_only() {
    let rig = with_files();
    let outside = rig.path("outside");
    fs::create_dir(&outside).unwrap();
    let image = rig.image(&format!(
        "FROM base\nRUN mkdir /real && ln -s /real /absolute && ln -s ../../../../real /up && \
         ln -s {} /host\nCOPY a /absolute/\nCOPY b /up/\nCOPY a /host/",
        outside.display()
    ));
    assert!(image.has("real/a") && image.has("real/b"));
    assert_eq!(
        fs::read_dir(&outside).unwrap().count(),
        0,
        "nothing left the image"
    );
}

#[test]
fn hard_links_of_one_copy_stay_linked() {
    let rig = with_files();
    fs::hard_link(rig.context().join("dir/x"), rig.context().join("dir/x2")).unwrap();
    let image = rig.image("FROM base\nCOPY dir /d");
    let links: Vec<_> = image
        .layers
        .last()
        .unwrap()
        .entries
        .iter()
        .filter(|(_, node)| node.kind == Kind::HardLink)
        .collect();
    assert_eq!(links.len(), 1, "{links:?}");
}

#[test]
fn chown_takes_numbers_and_the_images_names() {
    for (owner, expected) in [
        ("app", (1000, 1000)),
        ("app:wheel", (1000, 10)),
        ("1234", (1234, 1234)),
        ("1234:99", (1234, 99)),
    ] {
        let rig = with_files();
        let image = rig.image(&format!("FROM base\nCOPY --chown={owner} dir /made/d"));
        for path in ["made", "made/d", "made/d/x", "made/d/sub", "made/d/sub/y"] {
            let node = image.file(path);
            assert_eq!((node.uid, node.gid), expected, "--chown={owner} {path}");
        }
    }
}

#[test]
fn chown_to_a_name_that_the_image_does_not_know_fails() {
    let rig = with_files();
    for owner in ["nosuchuser", "root:nosuchgroup"] {
        rig.dockerfile(&format!("FROM base\nCOPY --chown={owner} a /a"));
        rig.build(&[]).exits_with(1).says(&["nosuch"]);
    }
}

#[test]
fn chmod_is_octal_or_symbolic() {
    for (mode, file, directory) in [
        ("640", 0o640, 0o640),
        ("0755", 0o755, 0o755),
        ("4755", 0o4755, 0o4755),
        ("u=rwX,go=rX", 0o644, 0o755),
        ("+x", 0o755, 0o755),
        ("go-r", 0o600, 0o711),
    ] {
        let rig = with_files();
        rig.chmod("dir", 0o755).chmod("dir/sub", 0o755);
        let image = rig.image(&format!("FROM base\nCOPY --chmod={mode} dir /d"));
        assert_eq!(image.file("d/x").mode, file, "--chmod={mode}");
        assert_eq!(image.file("d/sub").mode, directory, "--chmod={mode}");
    }
}

#[test]
fn an_invalid_chmod_is_refused_before_any_work() {
    let rig = with_files();
    rig.dockerfile("FROM base\nRUN true\nCOPY --chmod=789 a /a");
    let outcome = rig.build(&[]).exits_with(1).says(&["789"]);
    assert!(
        !outcome.stderr.contains("RUN true\n#"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn copying_from_a_stage_keeps_owners_modes_and_links() {
    let rig = Rig::new();
    let image = rig.image(
        "FROM base AS made\nRUN mkdir -p /out/d && echo 1 > /out/d/f && ln -s f /out/d/l && \
         chown -R 1000:50 /out && chmod 2770 /out/d && chmod 4711 /out/d/f\n\
         FROM scratch\nCOPY --from=made /out /\nCOPY --from=0 /out/d/f /f",
    );
    let (uid, gid) = (1000, 50);
    for (path, mode) in [("d", 0o2770), ("d/f", 0o4711), ("f", 0o4711)] {
        let node = image.file(path);
        assert_eq!((node.uid, node.gid, node.mode), (uid, gid, mode), "{path}");
    }
    assert_eq!(image.file("d/l").kind, Kind::Symlink);
}

#[test]
fn copying_from_an_image_of_the_store_works() {
    let rig = Rig::new();
    let image = rig.image("FROM scratch\nCOPY --from=base /etc/passwd /users");
    assert_eq!(image.text("users"), crate::rig::base::PASSWD);
}

#[test]
fn copying_from_a_named_context_works() {
    let rig = Rig::new();
    let other = rig.path("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("file"), "named").unwrap();
    let option = format!("--build-context=extra={}", other.display());
    let image = rig.image_with("FROM base\nCOPY --from=extra file /file", &[&option]);
    assert_eq!(image.text("file"), "named");
}

#[test]
fn a_wildcard_without_a_match_copies_nothing() {
    let rig = with_files();
    let image = rig.image("FROM base\nCOPY a nothing* /new/");
    assert!(image.has("new/a"));
}

#[test]
fn a_fifo_in_the_context_is_copied() {
    let rig = with_files();
    host::stdout_of(std::process::Command::new("mkfifo").arg(rig.context().join("dir/fifo")));
    let image = rig.image("FROM base\nCOPY dir /d");
    assert_eq!(image.file("d/fifo").kind, Kind::Fifo);
}
