//! What changes a digest, and what fails between digest and copy.

use super::*;

#[test]
fn a_file_that_changes_after_it_was_selected_fails_the_step() {
    let trees = Trees::new();
    trees.files(&["d/a", "d/b"]);
    let open = trees.open();
    let root = sys::fs::open_directory(&trees.root("")).unwrap();
    for patterns in [&["d"][..], &["d/a"]] {
        let selection = select(&context(&open, None), patterns, &Filter::default()).unwrap();
        fs::write(trees.source("d/a"), format!("now {patterns:?}")).unwrap();
        let error = copy(&selection, &destination(&root, "/to/")).unwrap_err();
        assert_eq!(error.to_string(), "\"/d/a\" changed during the build");
        let error = selection.digest(&Memo::none()).unwrap_err();
        assert_eq!(error.to_string(), "\"/d/a\" changed during the build");
    }
    let selection = select(&context(&open, None), &["d"], &Filter::default()).unwrap();
    fs::remove_file(trees.source("d/b")).unwrap();
    let error = copy(&selection, &destination(&root, "/to/")).unwrap_err();
    assert_eq!(error.to_string(), "\"/d/b\" changed during the build");
}

#[test]
fn every_input_is_in_the_digest_and_times_are_not() {
    let trees = Trees::new();
    trees.files(&["d/a", "d/sub/b", "d/ignored"]);
    symlink("a", trees.source("d/link")).unwrap();
    let mut seen = vec![trees.digest("", &["d"])];
    let mut changed = |what: &str, ignore: &str| {
        let digest = trees.digest(ignore, &["d"]);
        assert!(!seen.contains(&digest), "{what}");
        assert_eq!(trees.digest(ignore, &["d"]), digest, "{what}");
        seen.push(digest);
    };
    changed("ignore file", "d/ignored");
    fs::write(trees.source("d/a"), "D/a").unwrap();
    changed("content of the same length", "");
    chmod(&trees.source("d/a"), 0o711);
    changed("mode", "");
    chmod(&trees.source("d/sub"), 0o711);
    changed("mode of a directory", "");
    fs::rename(trees.source("d/sub/b"), trees.source("d/sub/c")).unwrap();
    changed("name", "");
    fs::remove_file(trees.source("d/link")).unwrap();
    symlink("b", trees.source("d/link")).unwrap();
    changed("target of a link", "");
    fs::write(trees.source("d/new"), "").unwrap();
    changed("added file", "");
    fs::remove_file(trees.source("d/ignored")).unwrap();
    changed("removed file", "");
    fs::create_dir(trees.source("d/new-dir")).unwrap();
    changed("added directory", "");
    fs::rename(trees.source("d/new"), trees.source("d/new-dir/new")).unwrap();
    changed("moved file", "");

    let before = trees.digest("", &["d"]);
    let dir = sys::fs::open_directory(&trees.source("d")).unwrap();
    sys::fs::set_mtime_at(&dir, "a".as_ref(), 1, 1).unwrap();
    sys::fs::set_mtime_at(&dir, "sub".as_ref(), 1, 1).unwrap();
    chmod(&trees.source("d"), 0o700);
    assert_eq!(trees.digest("", &["d"]), before, "times and the top");
}

#[test]
fn nothing_is_read_when_nothing_changed() {
    // Files that were not written just now.
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/oci");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("memo");
    let open = sys::fs::open_directory(&source).unwrap();
    let digest = |memo: &Memo| {
        let selection = select(&context(&open, None), &["."], &Filter::default()).unwrap();
        selection.digest(memo).unwrap()
    };
    let memo = Memo::open(&path, true);
    let first = digest(&memo);
    assert!(memo.files_read() > 0);
    memo.save().unwrap();
    let memo = Memo::open(&path, true);
    assert_eq!(digest(&memo), first);
    assert_eq!(memo.files_read(), 0);
    assert_eq!(digest(&Memo::none()), first);
}
