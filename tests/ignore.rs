//! `.dockerignore`: what never reaches a build.

use crate::rig::Rig;

/// The files that `COPY . /c` brings, of a fixed tree, under this ignore file.
fn left(ignore: &str) -> Vec<String> {
    let rig = Rig::new();
    for path in [
        "a.o",
        "a.c",
        "dir/b.o",
        "dir/b.c",
        "dir/sub/c.o",
        "dir/sub/keep.o",
        "#hash",
        "Dockerfile",
    ] {
        rig.write(path, "");
    }
    rig.write(".dockerignore", ignore);
    let image = rig.image("FROM base\nCOPY . /c/");
    let files = image.files();
    files
        .into_iter()
        .filter(|(_, node)| node.kind == crate::rig::image::Kind::File)
        .filter_map(|(path, _)| path.strip_prefix("c/").map(str::to_owned))
        .filter(|path| path != ".dockerignore")
        .collect()
}

#[test]
fn patterns_choose_as_dockers_do() {
    let all = [
        "#hash",
        "Dockerfile",
        "a.c",
        "a.o",
        "dir/b.c",
        "dir/b.o",
        "dir/sub/c.o",
        "dir/sub/keep.o",
    ];
    for (ignore, gone) in [
        ("", &[][..]),
        ("# a comment\n\n", &[]),
        ("*.o", &["a.o"]),
        (
            "**/*.o",
            &["a.o", "dir/b.o", "dir/sub/c.o", "dir/sub/keep.o"],
        ),
        (
            "**/*.o\n!dir/sub/keep.o",
            &["a.o", "dir/b.o", "dir/sub/c.o"],
        ),
        (
            "/dir",
            &["dir/b.c", "dir/b.o", "dir/sub/c.o", "dir/sub/keep.o"],
        ),
        (
            "dir/",
            &["dir/b.c", "dir/b.o", "dir/sub/c.o", "dir/sub/keep.o"],
        ),
        (
            "dir\n!dir/b.c",
            &["dir/b.o", "dir/sub/c.o", "dir/sub/keep.o"],
        ),
        (
            "dir/*",
            &["dir/b.c", "dir/b.o", "dir/sub/c.o", "dir/sub/keep.o"],
        ),
        ("*/*.o", &["dir/b.o"]),
        ("?.c", &["a.c"]),
        ("[a-b].o", &["a.o"]),
        (
            "*\n!a.c",
            &[
                "#hash",
                "Dockerfile",
                "a.o",
                "dir/b.c",
                "dir/b.o",
                "dir/sub/c.o",
                "dir/sub/keep.o",
            ],
        ),
        ("./a.c  ", &["a.c"]),
        ("dir/../a.o", &["a.o"]),
        ("Dockerfile", &["Dockerfile"]),
    ] {
        let expected: Vec<_> = all.iter().filter(|path| !gone.contains(path)).collect();
        let actual = left(ignore);
        assert_eq!(actual.iter().collect::<Vec<_>>(), expected, "{ignore:?}");
    }
}

#[test]
fn an_ignore_file_named_after_the_dockerfile_comes_first() {
    let rig = Rig::new();
    rig.write("a", "").write("b", "");
    rig.write(".dockerignore", "a")
        .write("other.Dockerfile.dockerignore", "b");
    rig.write("other.Dockerfile", "FROM base\nCOPY . /c/");
    let archive = rig.path("image.tar");
    let file = rig.context().join("other.Dockerfile");
    rig.build(&[
        "-f",
        file.to_str().unwrap(),
        "-o",
        &format!("type=oci,dest={}", archive.display()),
    ])
    .succeeds();
    let image = crate::rig::image::Image::open(&archive);
    assert!(image.has("c/a") && !image.has("c/b"));
}

#[test]
fn a_copy_of_an_ignored_path_names_the_rule() {
    let rig = Rig::new();
    rig.write("secret.key", "")
        .write(".dockerignore", "*.md\n*.key\n");
    rig.dockerfile("FROM base\nCOPY secret.key /");
    rig.build(&[])
        .exits_with(1)
        .says(&["secret.key", "*.key", ".dockerignore"]);
}

#[test]
fn a_bad_pattern_is_an_error_and_not_ignored() {
    let rig = Rig::new();
    rig.write(".dockerignore", "fine\n[a-\n");
    rig.dockerfile("FROM base\nCOPY . /c");
    rig.build(&[]).exits_with(1).says(&["[a-", ".dockerignore"]);
}
