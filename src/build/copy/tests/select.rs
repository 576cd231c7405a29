//! What sources name.

use super::*;

#[test]
fn sources_name_files_as_in_a_dockerfile() {
    let trees = Trees::new();
    trees.files(&[
        "a.txt", "b.txt", "c.md", "d/a.txt", "d/e/x", "f[1].txt", "g/a.txt",
    ]);
    symlink("d", trees.source("link")).unwrap();
    symlink("/d/../a.txt", trees.source("file-link")).unwrap();
    for (patterns, expected) in [
        (&["a.txt"][..], &["a.txt"][..]),
        (&["/a.txt"], &["a.txt"]),
        (&["../../a.txt"], &["a.txt"]),
        (&["a.txt/"], &["a.txt"]),
        (&["d"], &["d/", "a.txt", "e", "e/x"]),
        (&["*.txt"], &["a.txt", "b.txt", "f[1].txt"]),
        (&["?.txt", "c.md"], &["a.txt", "b.txt", "c.md"]),
        (&["[^a].txt"], &["b.txt"]),
        (&["*/a.txt"], &["a.txt", "a.txt"]),
        (&["f[[]1].txt"], &["f[1].txt"]),
        (&["d/*"], &["a.txt", "d/e/", "x"]),
        (&["link"], &["d/", "a.txt", "e", "e/x"]),
        (&["link/a*"], &["a.txt"]),
        (&["link/e/x"], &["x"]),
        (&["file-l*"], &["file-link"]),
        (&["none*"], &[]),
        (&["none/*"], &[]),
    ] {
        assert_eq!(
            trees.select("", patterns).unwrap(),
            expected,
            "{patterns:?}"
        );
    }
    assert!(matches!(
        trees.select("", &["a["]),
        Err(Error::Pattern { .. })
    ));
}

#[test]
fn a_missing_source_names_the_rule_that_hides_it_or_the_name_that_was_meant() {
    let trees = Trees::new();
    trees.files(&["target/app", "src/main.rs", "README.md"]);
    symlink("target/app", trees.source("app")).unwrap();
    for (ignore, path, expected) in [
        ("", "nothing", "\"/nothing\": not found"),
        (
            "",
            "src/mian.rs",
            "\"/src/mian.rs\": not found (did you mean \"/src/main.rs\"?)",
        ),
        (
            "",
            "Readme.md",
            "\"/Readme.md\": not found (did you mean \"/README.md\"?)",
        ),
        (
            "# x\ntarget",
            "target/app",
            "\"/target/app\": not found (.dockerignore:2 hides it: target)",
        ),
        (
            "target",
            "target",
            "\"/target\": not found (.dockerignore:1 hides it: target)",
        ),
        (
            "target\n!target/none",
            "target",
            "\"/target\": not found (.dockerignore:1 hides it: target)",
        ),
        (
            "target",
            "app",
            "\"/app\": not found (.dockerignore:1 hides it: target)",
        ),
        ("", "src/main.rs/x", "\"/src/main.rs/x\": not found"),
    ] {
        let error = trees.select(ignore, &[path]).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{path}: {error}");
    }
}

#[test]
fn ignored_files_are_no_part_of_directories_and_wildcards() {
    let trees = Trees::new();
    trees.files(&[
        "a",
        "b",
        "node_modules/x/y",
        "node_modules/keep/z",
        "docs/old/1",
    ]);
    for (ignore, patterns, expected) in [
        ("node_modules\ndocs", &["."][..], &["/", "a", "b"][..]),
        (
            "node_modules\n!node_modules/keep\ndocs/old",
            &["."],
            &[
                "/",
                "a",
                "b",
                "docs",
                "node_modules",
                "node_modules/keep",
                "node_modules/keep/z",
            ],
        ),
        ("*\n!b", &["*"], &["b"]),
        ("*", &["."], &["/"]),
        ("a", &["?"], &["b"]),
        ("docs/**\n!docs/none", &["docs"], &["docs/"]),
    ] {
        assert_eq!(
            trees.select(ignore, patterns).unwrap(),
            expected,
            "{ignore:?}"
        );
    }
}

#[test]
fn a_source_never_leads_out_of_its_root() {
    let trees = Trees::new();
    fs::write(trees.dir.path().join("secret"), "").unwrap();
    symlink("../secret", trees.source("up")).unwrap();
    symlink(trees.dir.path().join("secret"), trees.source("absolute")).unwrap();
    symlink("loop", trees.source("loop")).unwrap();
    for path in ["up", "absolute", "../secret"] {
        assert!(
            matches!(trees.select("", &[path]), Err(Error::NotFound { .. })),
            "{path}"
        );
    }
    assert!(matches!(
        trees.select("", &["loop"]),
        Err(Error::Source { .. })
    ));
}
