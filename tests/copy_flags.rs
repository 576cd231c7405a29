//! `--parents` and `--exclude`, and the flags in the cache key.

use std::os::unix::fs::symlink;

use crate::rig::Rig;
use crate::rig::image::{Image, Kind};

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
