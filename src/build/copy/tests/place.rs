//! Where sources go.

use super::*;

#[test]
fn a_file_goes_into_a_directory_or_becomes_the_name() {
    for (existing, path, expected) in [
        (&[][..], "/new", "new"),
        (&[], "/new/", "new/a.txt"),
        (&[], "/x/y/new", "x/y/new"),
        (&["dir/"], "/dir", "dir/a.txt"),
        (&["file"], "/file", "file"),
        (&[], "/", "a.txt"),
        (&["dir/a.txt"], "/dir", "dir/a.txt"),
    ] {
        let trees = Trees::new();
        trees.files(&["a.txt"]).there(existing);
        let copied = trees.copy(&["a.txt"], path).unwrap();
        assert_eq!(trees.text(expected), "a.txt", "{path}");
        assert_eq!((copied.files, copied.bytes), (1, 5), "{path}");
    }
}

#[test]
fn a_directory_is_merged_file_by_file() {
    let trees = Trees::new();
    trees.files(&["d/a", "d/sub/b", "d/sub/deep/c", "d/empty/"]);
    trees.there(&["to/a/", "to/sub/old"]);
    fs::remove_dir(trees.root("to/a")).unwrap();
    chmod(&trees.root("to"), 0o700);
    chmod(&trees.source("d"), 0o711);
    chmod(&trees.source("d/sub"), 0o750);
    let copied = trees.copy(&["d"], "/to").unwrap();
    assert_eq!(copied.files, 6);
    for (path, text) in [
        ("to/a", "d/a"),
        ("to/sub/b", "d/sub/b"),
        ("to/sub/old", "to/sub/old"),
    ] {
        assert_eq!(trees.text(path), text);
    }
    assert!(trees.root("to/empty").is_dir());
    assert_eq!(
        mode(&trees.root("to")),
        0o700,
        "an existing top keeps its mode"
    );
    assert_eq!(
        mode(&trees.root("to/sub")),
        0o750,
        "a nested one gets the source's"
    );

    trees.copy(&["d"], "/made/up").unwrap();
    assert_eq!(mode(&trees.root("made")), 0o755);
    assert_eq!(mode(&trees.root("made/up")), 0o755);
}

#[test]
fn files_and_directories_do_not_replace_each_other() {
    for (existing, source, path, message) in [
        (
            "dst/a/",
            "a",
            "/dst",
            "cannot replace to directory /dst/a with file",
        ),
        ("dst", "d", "/dst", "cannot copy to non-directory: /dst"),
        (
            "dst/sub",
            "d",
            "/dst",
            "cannot copy to non-directory: /dst/sub",
        ),
        ("dst", "a", "/dst/", "cannot copy to non-directory: /dst"),
        ("dst", "a", "/dst/x", "cannot copy to non-directory: /dst"),
    ] {
        let trees = Trees::new();
        trees.files(&["a", "d/sub/x"]).there(&[existing]);
        assert_eq!(
            trees.copy(&[source], path).unwrap_err().to_string(),
            message
        );
    }
}

#[test]
fn several_files_need_a_directory() {
    let message = "when using COPY with more than one source file, the destination must be a directory and end with a /";
    for (patterns, existing, path, allowed) in [
        (&["a", "b"][..], &[][..], "/dst", false),
        (&["[ab]"], &[], "/dst", false),
        (&["a", "b"], &["dst"], "/dst", false),
        (&["a", "b"], &[], "/dst/", true),
        (&["a", "b"], &["dst/"], "/dst", true),
        (&["d", "b"], &[], "/dst", true),
        (&["a*"], &[], "/dst", true),
    ] {
        let trees = Trees::new();
        trees.files(&["a", "b", "d/x"]).there(existing);
        match trees.copy(patterns, path) {
            Ok(_) => assert!(allowed, "{patterns:?} {existing:?} {path}"),
            Err(error) => {
                assert!(!allowed, "{patterns:?} {existing:?} {path}");
                assert_eq!(error.to_string(), message);
            }
        }
    }
}

#[test]
fn links_of_the_destination_lead_around_inside_the_root() {
    let trees = Trees::new();
    trees
        .files(&["a", "d/sub/x"])
        .there(&["data/", "etc/passwd"]);
    symlink("/data", trees.root("abs")).unwrap();
    symlink("../../../data", trees.root("up")).unwrap();
    symlink("/etc/passwd", trees.root("file")).unwrap();
    symlink("/made/later", trees.root("dangling")).unwrap();
    symlink("/etc/passwd", trees.root("data/b")).unwrap();
    trees.copy(&["a"], "/abs/one").unwrap();
    trees.copy(&["a"], "/up/").unwrap();
    trees.copy(&["a"], "/file").unwrap();
    trees.copy(&["a"], "/dangling/").unwrap();
    for path in ["data/one", "data/a", "etc/passwd", "made/later/a"] {
        assert_eq!(trees.text(path), "a", "{path}");
    }
    assert!(trees.root("file").is_symlink());

    // A name below the destination is replaced, not followed.
    fs::write(trees.root("etc/passwd"), "kept").unwrap();
    fs::rename(trees.source("a"), trees.source("b")).unwrap();
    trees.copy(&["b"], "/data").unwrap();
    assert_eq!(trees.text("etc/passwd"), "kept");
    assert!(!trees.root("data/b").is_symlink());
    symlink("/data", trees.root("sub")).unwrap();
    assert!(matches!(
        trees.copy(&["d"], "/"),
        Err(Error::NotDirectory { .. })
    ));
}

#[test]
fn add_extracts_archives_and_copies_the_rest() {
    let trees = Trees::new();
    trees.files(&["a.tar", "a.txt", "d/b.tar"]);
    let open = trees.open();
    let root = sys::fs::open_directory(&trees.root("")).unwrap();
    let selection = select(&context(&open, None), &["a.*", "d"], &Filter::default()).unwrap();
    let sniff = |file: &mut File| {
        let mut text = String::new();
        io::Read::read_to_string(file, &mut text).map(|_| text.ends_with(".tar"))
    };
    let mut extracted = Vec::new();
    let mut extract = |mut file: File, directory: BorrowedFd<'_>| {
        let mut text = String::new();
        io::Read::read_to_string(&mut file, &mut text)?;
        extracted.push((text, sys::fs::read_names(directory)?.len()));
        Ok(())
    };
    let archives = Archives {
        unpack: Unpack::Archives,
        sniff: &sniff,
        extract: &mut extract,
    };
    add(&selection, &destination(&root, "/to/dir"), archives).unwrap();
    assert_eq!(extracted, [("a.tar".to_owned(), 0)]);
    assert_eq!(mode(&trees.root("to/dir")), 0o755);
    assert_eq!(trees.text("to/dir/a.txt"), "a.txt");
    assert_eq!(
        trees.text("to/dir/b.tar"),
        "d/b.tar",
        "only what is named itself"
    );
    assert!(!trees.root("to/dir/a.tar").exists());
}
