//! `--parents`, `--exclude` and `--link`.

use std::os::unix::fs::symlink;

use crate::rig::image::{Image, Kind};
use crate::rig::{Rig, host};

/// The paths of the last layer; a directory's ends in a slash.
fn last_layer(image: &Image) -> Vec<String> {
    let entries = &image.layers.last().unwrap().entries;
    entries
        .iter()
        .map(|(path, node)| match node.kind {
            Kind::Directory => format!("{path}/"),
            _ => path.clone(),
        })
        .collect()
}

#[track_caller]
fn check(rig: &Rig, rows: &[(&str, &[&str])]) {
    let mut wrong = Vec::new();
    for (copy, expected) in rows {
        let found = last_layer(&rig.image(&format!("FROM base\n{copy}")));
        if found != *expected {
            wrong.push(format!("{copy}\n  {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn tree() -> Rig {
    let rig = Rig::new();
    for path in [
        "a/b/c/d/foo",
        "a/b/c/d/e/bay",
        "a/b2/c/d/e/bar",
        "a/b/c2/d/e/baz",
        "a/b/c2/d/e2/baz",
        "top",
    ] {
        rig.write(path, path);
    }
    for path in ["a", "a/b", "a/b/c", "a/b/c/d", "a/b/c/d/e", "a/b2"] {
        rig.chmod(path, 0o755);
    }
    rig
}

#[test]
fn parents_are_kept_from_the_pivot_on() {
    let rig = tree();
    symlink("b", rig.context().join("a/to-b")).unwrap();
    check(
        &rig,
        &[
            (
                "COPY --parents a/b/c/d/foo /",
                &["a/", "a/b/", "a/b/c/", "a/b/c/d/", "a/b/c/d/foo"],
            ),
            (
                "COPY --parents /a/b/c/d/foo top /o",
                &[
                    "o/",
                    "o/a/",
                    "o/a/b/",
                    "o/a/b/c/",
                    "o/a/b/c/d/",
                    "o/a/b/c/d/foo",
                    "o/top",
                ],
            ),
            (
                "WORKDIR /w\nCOPY --parents ./a/b/c .",
                &[
                    "w/",
                    "w/a/",
                    "w/a/b/",
                    "w/a/b/c/",
                    "w/a/b/c/d/",
                    "w/a/b/c/d/e/",
                    "w/a/b/c/d/e/bay",
                    "w/a/b/c/d/foo",
                ],
            ),
            (
                "COPY --parents a/b/./c/d /o/",
                &[
                    "o/",
                    "o/c/",
                    "o/c/d/",
                    "o/c/d/e/",
                    "o/c/d/e/bay",
                    "o/c/d/foo",
                ],
            ),
            (
                "COPY --parents a/b/c/d/. /o/",
                &[
                    "o/",
                    "o/a/",
                    "o/a/b/",
                    "o/a/b/c/",
                    "o/a/b/c/d/",
                    "o/a/b/c/d/e/",
                    "o/a/b/c/d/e/bay",
                    "o/a/b/c/d/foo",
                ],
            ),
            (
                "COPY --parents a/./b/./c/d/foo /o/",
                &["o/", "o/b/", "o/b/c/", "o/b/c/d/", "o/b/c/d/foo"],
            ),
            (
                "COPY --parents a/./*/c/d/e /o/",
                &[
                    "o/",
                    "o/b/",
                    "o/b/c/",
                    "o/b/c/d/",
                    "o/b/c/d/e/",
                    "o/b/c/d/e/bay",
                    "o/b2/",
                    "o/b2/c/",
                    "o/b2/c/d/",
                    "o/b2/c/d/e/",
                    "o/b2/c/d/e/bar",
                ],
            ),
            (
                "COPY --parents a/b*/./c/**/e /o/",
                &[
                    "o/",
                    "o/c/",
                    "o/c/d/",
                    "o/c/d/e/",
                    "o/c/d/e/bar",
                    "o/c/d/e/bay",
                ],
            ),
            (
                "COPY --parents a/b/c*/./d/**/baz a/b*/./c/**/bar /o/",
                &[
                    "o/",
                    "o/c/",
                    "o/c/d/",
                    "o/c/d/e/",
                    "o/c/d/e/bar",
                    "o/d/",
                    "o/d/e/",
                    "o/d/e/baz",
                    "o/d/e2/",
                    "o/d/e2/baz",
                ],
            ),
            (
                "COPY --parents **/foo /o/",
                &[
                    "o/",
                    "o/a/",
                    "o/a/b/",
                    "o/a/b/c/",
                    "o/a/b/c/d/",
                    "o/a/b/c/d/foo",
                ],
            ),
            ("COPY --parents a/b/./none* /o/", &["o/"]),
            ("COPY --parents none*/c /o/", &["o/"]),
            ("COPY --parents a/to-b /o/", &["o/", "o/a/", "o/a/to-b"]),
            (
                "COPY --parents a/to-b/./c/d/foo /o/",
                &["o/", "o/c/", "o/c/d/", "o/c/d/foo"],
            ),
            (
                "COPY --parents a/b/./ /o/",
                &[
                    "o/",
                    "o/c/",
                    "o/c/d/",
                    "o/c/d/e/",
                    "o/c/d/e/bay",
                    "o/c/d/foo",
                    "o/c2/",
                    "o/c2/d/",
                    "o/c2/d/e/",
                    "o/c2/d/e/baz",
                    "o/c2/d/e2/",
                    "o/c2/d/e2/baz",
                ],
            ),
            (
                "COPY --parents --exclude=**/e a/b/c /o/",
                &[
                    "o/",
                    "o/a/",
                    "o/a/b/",
                    "o/a/b/c/",
                    "o/a/b/c/d/",
                    "o/a/b/c/d/foo",
                ],
            ),
            ("COPY --parents=false a/b/c/d/foo /o/", &["o/", "o/foo"]),
        ],
    );
}

#[test]
fn kept_parents_look_like_their_sources() {
    let rig = tree();
    rig.chmod("a", 0o701).chmod("a/b", 0o710);
    let image = rig.image("FROM base\nRUN mkdir -m 700 /o /o/a\nCOPY --parents a/b/c/d/foo /o/");
    assert_eq!(image.file("o").mode, 0o700, "the destination keeps its own");
    assert_eq!(image.file("o/a").mode, 0o701);
    assert_eq!(image.file("o/a/b").mode, 0o710);
    let image = rig.image("FROM base\nCOPY --parents --chmod=750 a/b/c/d/foo /o/");
    for path in ["o", "o/a", "o/a/b", "o/a/b/c/d/foo"] {
        assert_eq!(image.file(path).mode, 0o750, "{path}");
    }
    if host::maps_many_ids() {
        let image = rig.image(
            "FROM base\nRUN mkdir -p /o/a && chown 5:6 /o /o/a\n\
             COPY --parents --chown=3:4 a/b/c/d/foo /o/",
        );
        for (path, owner) in [
            ("o", (5, 6)),
            ("o/a", (5, 6)),
            ("o/a/b", (3, 4)),
            ("o/a/b/c/d/foo", (3, 4)),
        ] {
            let node = image.file(path);
            assert_eq!((node.uid, node.gid), owner, "{path}");
        }
    }
}

#[test]
fn parents_of_a_stage_are_kept_too() {
    let rig = tree();
    let image = rig.image(
        "FROM base AS one\nCOPY a /test/a\nFROM base\nCOPY --from=one --parents /test/a/b/./c/d /out/",
    );
    assert!(image.has("out/c/d/foo") && !image.has("out/test"));
}

#[test]
fn what_is_excluded_is_relative_to_each_source() {
    let rig = Rig::new();
    for path in [
        "d/a.o",
        "d/a.c",
        "d/sub/b.o",
        "d/sub/b.c",
        "d/sub/deep/c.o",
        "e/a.o",
        "e/b.c",
        "x.o",
        "x.c",
    ] {
        rig.write(path, path);
    }
    check(
        &rig,
        &[
            (
                "COPY --exclude=*.o d /n",
                &[
                    "n/",
                    "n/a.c",
                    "n/sub/",
                    "n/sub/b.c",
                    "n/sub/b.o",
                    "n/sub/deep/",
                    "n/sub/deep/c.o",
                ],
            ),
            (
                "COPY --exclude=**/*.o d /n",
                &["n/", "n/a.c", "n/sub/", "n/sub/b.c", "n/sub/deep/"],
            ),
            ("COPY --exclude=sub d /n", &["n/", "n/a.c", "n/a.o"]),
            ("COPY --exclude=/sub d /n", &["n/", "n/a.c", "n/a.o"]),
            ("COPY --exclude=sub/ --exclude=*.c d /n", &["n/", "n/a.o"]),
            (
                "COPY --exclude=d/sub d /n",
                &[
                    "n/",
                    "n/a.c",
                    "n/a.o",
                    "n/sub/",
                    "n/sub/b.c",
                    "n/sub/b.o",
                    "n/sub/deep/",
                    "n/sub/deep/c.o",
                ],
            ),
            (
                "COPY --exclude=sub --exclude=!sub/deep d /n",
                &[
                    "n/",
                    "n/a.c",
                    "n/a.o",
                    "n/sub/",
                    "n/sub/deep/",
                    "n/sub/deep/c.o",
                ],
            ),
            ("COPY --exclude=!a.o --exclude=* d /n", &["n/"]),
            ("COPY --exclude=* --exclude=!a.o d /n", &["n/", "n/a.o"]),
            (
                "COPY --exclude=*.o [de] /n/",
                &[
                    "n/",
                    "n/a.c",
                    "n/b.c",
                    "n/sub/",
                    "n/sub/b.c",
                    "n/sub/b.o",
                    "n/sub/deep/",
                    "n/sub/deep/c.o",
                ],
            ),
            (
                "COPY --exclude=*/*.o --exclude=Dockerfile . /n/",
                &[
                    "n/",
                    "n/d/",
                    "n/d/a.c",
                    "n/d/sub/",
                    "n/d/sub/b.c",
                    "n/d/sub/b.o",
                    "n/d/sub/deep/",
                    "n/d/sub/deep/c.o",
                    "n/e/",
                    "n/e/b.c",
                    "n/x.c",
                    "n/x.o",
                ],
            ),
            (
                "ARG what=sub\nCOPY --exclude=$what d /n",
                &["n/", "n/a.c", "n/a.o"],
            ),
            ("ADD --exclude=sub d /n", &["n/", "n/a.c", "n/a.o"]),
        ],
    );
    rig.dockerfile("FROM base\nCOPY --exclude=*.o x.* /n/");
    rig.build(&[])
        .succeeds()
        .says(&["/x.o was copied", "--exclude"]);
    let image =
        rig.image("FROM base AS one\nCOPY d /d\nFROM base\nCOPY --from=one --exclude=sub /d /n");
    assert_eq!(last_layer(&image), ["n/", "n/a.c", "n/a.o"]);
}

#[test]
fn only_what_is_chosen_is_part_of_the_key() {
    for (copy, change, is_cached) in [
        ("COPY --exclude=*.o d /n/", "d/a.o", true),
        ("COPY --exclude=*.o d /n/", "d/a.c", false),
        ("COPY --parents d/a.c /n/", "d/a.o", true),
        ("COPY --parents d/a.c /n/", "d/a.c", false),
        ("COPY --link d /n/", "d/a.c", false),
    ] {
        let rig = Rig::new();
        rig.write("d/a.o", "1").write("d/a.c", "1");
        rig.dockerfile(&format!("FROM base\n{copy}"));
        rig.build(&[]).succeeds();
        rig.write(change, "2");
        let outcome = rig.build(&[]).succeeds();
        assert_eq!(
            outcome.is_cached(copy),
            is_cached,
            "{copy} {change}\n{}",
            outcome.stderr
        );
    }
}

#[test]
fn each_flag_is_part_of_the_key() {
    let rig = Rig::new();
    rig.write("d/s/f", "1").write("d/g", "1");
    let mut tar = tar::Builder::new(Vec::new());
    crate::rig::base::append(&mut tar, tar::EntryType::Regular, "f", 0o644, b"x");
    rig.write("a.tar", tar.into_inner().unwrap());
    for (first, second) in [
        ("COPY d /n/", "COPY --link d /n/"),
        ("COPY d /n/", "COPY --parents d /n/"),
        ("COPY d /n/", "COPY --exclude=g d /n/"),
        ("COPY --exclude=g d /n/", "COPY --exclude=s d /n/"),
        ("COPY --link d /n/", "COPY --link d /m/"),
        ("COPY --link d /n/", "COPY --link --chmod=700 d /n/"),
        (
            "COPY --from=base /etc /n/",
            "COPY --from=base --exclude=passwd /etc /n/",
        ),
        (
            "COPY --from=base /etc /n/",
            "COPY --from=base --parents /etc /n/",
        ),
        ("ADD a.tar /n/", "ADD --unpack=false a.tar /n/"),
        ("ADD a.tar /n/", "ADD --link a.tar /n/"),
    ] {
        for (dockerfile, is_first) in [(first, true), (second, false), (second, true)] {
            rig.dockerfile(&format!(
                "FROM base\nENV for={}\n{dockerfile}",
                first.len() + second.len()
            ));
            let outcome = rig
                .build(if is_first && dockerfile == first {
                    &["--no-cache"]
                } else {
                    &[]
                })
                .succeeds();
            if !is_first {
                assert!(
                    !outcome.is_cached(dockerfile),
                    "{second}\n{}",
                    outcome.stderr
                );
            } else if dockerfile == second {
                assert!(
                    outcome.is_cached(dockerfile),
                    "{second}\n{}",
                    outcome.stderr
                );
            }
        }
    }
}

#[test]
fn a_linked_layer_is_used_again_on_another_base() {
    let rig = Rig::new();
    rig.write("d/file", "linked");
    let copy = "COPY --link d /opt/";
    let first = rig.image(&format!("FROM base\n{copy}\nRUN cat /opt/file"));
    rig.dockerfile(&format!(
        "FROM base\nRUN touch /new\n{copy}\nRUN cat /opt/file /new"
    ));
    let archive = rig.path("second.tar");
    let output = format!("type=oci,dest={}", archive.display());
    let outcome = rig.build(&["-o", &output]).succeeds();
    assert!(outcome.is_cached(copy), "{}", outcome.stderr);
    let second = Image::open(&archive);
    let linked =
        |image: &Image, from_end: usize| image.layers[image.layers.len() - from_end].tar.clone();
    assert!(linked(&first, 1) == linked(&second, 1), "the same layer");
    assert_eq!(second.text("opt/file"), "linked");
    assert!(second.has("new"));
}

#[test]
fn a_linked_layer_holds_files_once_whatever_it_stands_on() {
    let rig = Rig::new();
    rig.write("big", vec![b'x'; 1 << 20]);
    for base in ["", "RUN touch /1\n", "RUN touch /2\n", "RUN touch /3\n"] {
        rig.dockerfile(&format!("FROM base\n{base}COPY --link big /opt/"));
        rig.build(&["-o", "type=cacheonly"]).succeeds();
    }
    let copies = rig
        .store_listing()
        .iter()
        .filter(|line| line.ends_with("/big 1048576"))
        .count();
    assert_eq!(copies, 1);
}

#[test]
fn a_linked_layer_knows_nothing_of_what_is_below() {
    let rig = Rig::new();
    rig.write("d/file", "new")
        .write("d/sub/x", "x")
        .chmod("d/sub", 0o711);
    let below = "FROM base\nRUN mkdir -p -m 700 /real /dir/sub /dir/old && ln -s /real /to && \
                 touch /dir/sub/kept && chmod 700 /dir /dir/sub\n";
    // A link is no directory to a layer that does not see it: it is replaced.
    let image = rig.image(&format!("{below}COPY --link d /to/"));
    assert_eq!(image.file("to").kind, Kind::Directory);
    assert_eq!(image.text("to/file"), "new");
    assert!(!image.has("real/file"));
    // A directory that both have is reset, and what is in it stays.
    let image = rig.image(&format!(
        "{below}COPY --link d /dir/\nRUN ls /dir/sub/kept /dir/old /dir/sub/x > /seen"
    ));
    assert_eq!(image.file("dir").mode, 0o755);
    assert_eq!(image.file("dir/sub").mode, 0o711);
    assert!(image.has("dir/sub/kept") && image.has("dir/old"));
    assert!(
        image
            .text("seen")
            .starts_with("/dir/sub/kept\n/dir/sub/x\n")
    );
    // A file where the layer has a directory.
    let image = rig.image("FROM base\nCOPY --link d /etc/passwd/");
    assert_eq!(image.text("etc/passwd/file"), "new");
}

#[test]
fn a_build_sees_what_the_image_of_linked_layers_holds() {
    let rig = Rig::new();
    rig.write("d/a", "1").write("d/b", "1").write("e/a", "2");
    let image = rig.image(
        "FROM base\nCOPY --link d /o/\nRUN rm /o/b && cat /o/a > /one\nCOPY --link e /o/\n\
         COPY --link d /o/\nRUN cat /o/a /o/b > /two && rm /o/a\nCOPY --link d/a /o/a\nRUN cat /o/a > /three",
    );
    assert_eq!(image.text("one"), "1");
    assert_eq!(image.text("two"), "11");
    assert_eq!(image.text("three"), "1");
    assert!(image.has("o/a") && image.has("o/b"));
}

#[test]
fn linked_layers_work_first_alone_empty_and_from_stages() {
    let rig = Rig::new();
    rig.write("a", "1").write("f", "2");
    let image =
        rig.image("FROM scratch\nCOPY --link a f /\nCOPY --link none* /x/\nCOPY --link=false a /y");
    assert_eq!(image.layers.len(), 2);
    assert_eq!(image.last_layer(), ["y"]);
    let image = rig.image(
        "FROM base AS one\nRUN mkdir /q && echo 3 > /q/f && chmod 640 /q/f\n\
         FROM base\nWORKDIR /w\nCOPY --link --from=one /q .\nCOPY --link --chmod=600 <<EOF h\ntext\nEOF\n",
    );
    assert_eq!(
        (image.file("w/f").mode, image.file("w/h").mode),
        (0o640, 0o600)
    );
    assert_eq!(image.last_layer(), ["w", "w/h"]);
}

#[test]
fn a_linked_layer_has_the_mode_and_owner_that_it_is_given() {
    let rig = Rig::new();
    rig.write("d/f", "1");
    let image = rig.image("FROM base\nCOPY --link --chmod=750 d /n/");
    assert_eq!(
        (image.file("n").mode, image.file("n/f").mode),
        (0o750, 0o750)
    );
    if !host::maps_many_ids() {
        return;
    }
    for (flags, expected) in [
        ("--chown=3", (3, 3)),
        ("--chown=3:4", (3, 4)),
        ("--chown=root", (0, 0)),
        // Names need the image's files, so that with --chmod, as in BuildKit, there is no link.
        ("--chown=app --chmod=755", (1000, 1000)),
    ] {
        let image = rig.image(&format!("FROM base\nCOPY --link {flags} d /n/"));
        let node = image.file("n/f");
        assert_eq!((node.uid, node.gid), expected, "{flags}");
    }
}

#[test]
fn a_linked_layer_can_be_written_again_in_another_form() {
    let rig = Rig::new();
    rig.write("d/file", "linked");
    let dockerfile = "FROM base\nRUN mkdir -m 700 /opt\nCOPY --link d /opt/";
    // Nothing but the files is there when the first output is written.
    rig.dockerfile(dockerfile);
    rig.build(&["-o", "type=cacheonly"]).succeeds();
    let first = rig.image(dockerfile);
    for entry in ["tar", "gzip", "zstd"] {
        let archive = rig.path(entry);
        let compression = if entry == "tar" {
            "uncompressed"
        } else {
            entry
        };
        let output = format!(
            "type=oci,dest={},compression={compression}",
            archive.display()
        );
        rig.build(&["-o", &output]).succeeds();
        assert_eq!(
            Image::open(&archive).layers.last().unwrap().tar,
            first.layers.last().unwrap().tar
        );
    }
}
