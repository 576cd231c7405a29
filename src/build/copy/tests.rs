use super::*;

use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use crate::context::digest::Memo;
use crate::oci::Digest;
use crate::sys;

/// A source and a root, each a directory.
struct Trees {
    dir: tempfile::TempDir,
}

impl Trees {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("source")).unwrap();
        fs::create_dir(dir.path().join("root")).unwrap();
        Self { dir }
    }

    fn source(&self, path: &str) -> PathBuf {
        self.dir.path().join("source").join(path)
    }

    fn root(&self, path: &str) -> PathBuf {
        self.dir.path().join("root").join(path)
    }

    /// Makes files in the source; a name that ends in `/` is a directory, else it is the content.
    fn files(&self, paths: &[&str]) -> &Self {
        write_files(&self.source(""), paths);
        self
    }

    fn there(&self, paths: &[&str]) -> &Self {
        write_files(&self.root(""), paths);
        self
    }

    fn open(&self) -> OwnedFd {
        sys::fs::open_directory(&self.source("")).unwrap()
    }

    fn select(&self, ignore: &str, patterns: &[&str]) -> Result<Vec<String>, Error> {
        let open = self.open();
        let ignore = Ignore::parse(ignore).unwrap();
        let tree = context(&open, Some(&ignore));
        let selection = select(&tree, patterns)?;
        Ok(names(&selection))
    }

    fn digest(&self, ignore: &str, patterns: &[&str]) -> Digest {
        let open = self.open();
        let ignore = Ignore::parse(ignore).unwrap();
        let tree = context(&open, Some(&ignore));
        let selection = select(&tree, patterns).unwrap();
        selection.digest(&Memo::none()).unwrap()
    }

    fn copy(&self, patterns: &[&str], path: &str) -> Result<Copied, Error> {
        self.copy_as(patterns, path, None, None, &Ownership::Single)
    }

    fn copy_as(
        &self,
        patterns: &[&str],
        path: &str,
        owner: Option<(u32, u32)>,
        mode: Option<&ChmodSpec>,
        ownership: &Ownership,
    ) -> Result<Copied, Error> {
        let open = self.open();
        let root = sys::fs::open_directory(&self.root("")).unwrap();
        let selection = select(&context(&open, None), patterns)?;
        let destination = Destination {
            owner,
            mode,
            ownership,
            ..destination(&root, path)
        };
        copy(&selection, &destination)
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.root(path)).unwrap()
    }
}

fn context<'a>(root: &'a OwnedFd, ignore: Option<&'a Ignore>) -> Tree<'a> {
    Tree {
        root: root.as_fd(),
        origin: Origin::Context,
        ignore,
    }
}

fn destination<'a>(root: &'a OwnedFd, path: &'a str) -> Destination<'a> {
    Destination {
        root: root.as_fd(),
        path,
        is_directory: path.ends_with('/'),
        owner: None,
        mode: None,
        ownership: &Ownership::Single,
    }
}

fn write_files(base: &Path, paths: &[&str]) {
    for path in paths {
        let whole = base.join(path);
        if path.ends_with('/') {
            fs::create_dir_all(whole).unwrap();
        } else {
            fs::create_dir_all(whole.parent().unwrap()).unwrap();
            fs::write(&whole, path).unwrap();
        }
    }
}

/// `name` of a file and `name/entry` of what a directory holds.
fn names(selection: &Selection<'_>) -> Vec<String> {
    let mut names = Vec::new();
    for source in &selection.matches {
        match source {
            select::Match::Inline { name, .. } => names.push(name.clone()),
            select::Match::File { name, .. } => names.push(name.display().to_string()),
            select::Match::Directory { place, entries, .. } => {
                let mut path: Vec<String> = Vec::new();
                names.push(format!("{}/", place.path.display()));
                for entry in entries {
                    path.truncate(entry.depth - 1);
                    path.push(entry.name.display().to_string());
                    names.push(path.join("/"));
                }
            }
        }
    }
    names
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

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
            "\"/target/app\": not found (line 2 of the ignore file, `target`, hides it)",
        ),
        (
            "target",
            "target",
            "\"/target\": not found (line 1 of the ignore file, `target`, hides it)",
        ),
        (
            "target\n!target/none",
            "target",
            "\"/target\": not found (line 1 of the ignore file, `target`, hides it)",
        ),
        (
            "target",
            "app",
            "\"/app\": not found (line 1 of the ignore file, `target`, hides it)",
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
fn modes_and_times_and_links_are_kept() {
    let trees = Trees::new();
    trees.files(&["d/run", "d/other", "d/sub/x"]);
    chmod(&trees.source("d/run"), 0o4751);
    chmod(&trees.source("d/other"), 0o666);
    symlink("/nowhere", trees.source("d/link")).unwrap();
    fs::hard_link(trees.source("d/run"), trees.source("d/sub/again")).unwrap();
    nix::unistd::mkfifo(&trees.source("d/fifo"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    let dir = sys::fs::open_directory(&trees.source("d")).unwrap();
    for name in ["run", "link", "sub"] {
        sys::fs::set_mtime_at(&dir, name.as_ref(), 12_345, 678_901_234).unwrap();
    }
    trees.copy(&["d"], "/to").unwrap();
    assert_eq!(mode(&trees.root("to/run")), 0o4751);
    assert_eq!(mode(&trees.root("to/other")), 0o666, "the umask has no say");
    assert_eq!(mode(&trees.root("to/fifo")), 0o400);
    assert_eq!(
        fs::read_link(trees.root("to/link")).unwrap(),
        Path::new("/nowhere")
    );
    let stat = |path: &str| fs::symlink_metadata(trees.root(path)).unwrap();
    assert_eq!(stat("to/run").ino(), stat("to/sub/again").ino());
    for path in ["to/run", "to/link", "to/sub"] {
        let stat = stat(path);
        assert_eq!(
            (stat.mtime(), stat.mtime_nsec()),
            (12_345, 678_901_234),
            "{path}"
        );
    }
}

#[test]
fn hard_links_end_at_a_source_so_that_a_replaced_file_is_not_linked_to() {
    let trees = Trees::new();
    trees.files(&["1/x", "2/x"]);
    fs::create_dir(trees.source("3")).unwrap();
    fs::hard_link(trees.source("1/x"), trees.source("3/y")).unwrap();
    trees.copy(&["1", "2", "3"], "/to/").unwrap();
    assert_eq!(
        (trees.text("to/x"), trees.text("to/y")),
        ("2/x".into(), "1/x".into())
    );
}

#[test]
fn an_existing_file_is_replaced_and_its_other_names_are_not_written_to() {
    let trees = Trees::new();
    trees.files(&["a"]).there(&["a", "dir/"]);
    fs::write(trees.root("a"), "old").unwrap();
    fs::hard_link(trees.root("a"), trees.root("dir/other")).unwrap();
    trees.copy(&["a"], "/a").unwrap();
    assert_eq!(
        (trees.text("a"), trees.text("dir/other")),
        ("a".into(), "old".into())
    );
}

#[test]
fn chmod_changes_files_and_with_octal_digits_created_directories() {
    for (spec, file, parent) in [("700", 0o700, 0o700), ("u=rwX,go=rX", 0o755, 0o755)] {
        let trees = Trees::new();
        trees.files(&["a"]);
        chmod(&trees.source("a"), 0o711);
        let spec = ChmodSpec::parse(spec).unwrap();
        trees
            .copy_as(&["a"], "/new/a", None, Some(&spec), &Ownership::Single)
            .unwrap();
        assert_eq!(mode(&trees.root("new")), parent);
        chmod(&trees.root("new"), 0o755);
        assert_eq!(mode(&trees.root("new/a")), file);
    }
}

#[test]
fn owners_are_roots_or_as_asked() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let trees = Trees::new();
    trees.files(&["d/a", "d/sub/"]);
    symlink("a", trees.source("d/link")).unwrap();
    for path in ["d/a", "d/sub", "d/link"] {
        std::os::unix::fs::lchown(trees.source(path), Some(1000), Some(1001)).unwrap();
    }
    let owner = |path: &str| {
        let stat = fs::symlink_metadata(trees.root(path)).unwrap();
        (stat.uid(), stat.gid())
    };
    let mapped = &Ownership::Mapped;
    trees.copy_as(&["d"], "/plain", None, None, mapped).unwrap();
    trees
        .copy_as(&["d"], "/asked/x", Some((7, 8)), None, mapped)
        .unwrap();
    let open = trees.open();
    let root = sys::fs::open_directory(&trees.root("")).unwrap();
    let tree = Tree {
        origin: Origin::Rootfs,
        ..context(&open, None)
    };
    let mut kept = destination(&root, "/kept");
    kept.ownership = mapped;
    copy(&select(&tree, &["d"]).unwrap(), &kept).unwrap();
    for name in ["a", "sub", "link"] {
        assert_eq!(owner(&format!("plain/{name}")), (0, 0), "{name}");
        assert_eq!(owner(&format!("asked/x/{name}")), (7, 8), "{name}");
        assert_eq!(owner(&format!("kept/{name}")), (1000, 1001), "{name}");
    }
    assert_eq!((owner("asked"), owner("asked/x")), ((7, 8), (7, 8)));
    assert_eq!(owner("kept"), (0, 0));
    kept.ownership = &Ownership::Single;
    kept.path = "/refused";
    assert!(matches!(
        copy(&select(&tree, &["d"]).unwrap(), &kept),
        Err(Error::Owner { .. })
    ));
}

#[test]
fn attributes_come_along_from_a_root_file_system_only() {
    let trees = Trees::new();
    trees.files(&["a"]);
    let open = trees.open();
    for attribute in ["user.kept", "user.overlay.opaque"] {
        if sys::xattr::set_at(&open, "a".as_ref(), attribute.as_ref(), b"1").is_err() {
            return;
        }
    }
    let root = sys::fs::open_directory(&trees.root("")).unwrap();
    for (origin, name, expected) in [
        (Origin::Context, "/context", &[][..]),
        (Origin::Rootfs, "/rootfs", &["user.kept"]),
    ] {
        let tree = Tree {
            origin,
            ..context(&open, None)
        };
        let selection = select(&tree, &["a"]).unwrap();
        copy(&selection, &destination(&root, name)).unwrap();
        assert_eq!(
            sys::xattr::list_at(&root, name[1..].as_ref()).unwrap(),
            expected
        );
    }
}

#[test]
fn a_file_that_changes_after_it_was_selected_fails_the_step() {
    let trees = Trees::new();
    trees.files(&["d/a", "d/b"]);
    let open = trees.open();
    let root = sys::fs::open_directory(&trees.root("")).unwrap();
    for patterns in [&["d"][..], &["d/a"]] {
        let selection = select(&context(&open, None), patterns).unwrap();
        fs::write(trees.source("d/a"), format!("now {patterns:?}")).unwrap();
        let error = copy(&selection, &destination(&root, "/to/")).unwrap_err();
        assert_eq!(error.to_string(), "\"/d/a\" changed during the build");
        let error = selection.digest(&Memo::none()).unwrap_err();
        assert_eq!(error.to_string(), "\"/d/a\" changed during the build");
    }
    let selection = select(&context(&open, None), &["d"]).unwrap();
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
        let selection = select(&context(&open, None), &["."]).unwrap();
        selection.digest(memo).unwrap()
    };
    let memo = Memo::open(&path);
    let first = digest(&memo);
    assert!(memo.files_read() > 0);
    memo.save().unwrap();
    let memo = Memo::open(&path);
    assert_eq!(digest(&memo), first);
    assert_eq!(memo.files_read(), 0);
    assert_eq!(digest(&Memo::none()), first);
}

#[test]
fn a_heredoc_is_a_file_of_root() {
    let trees = Trees::new();
    trees.files(&["a"]);
    let open = trees.open();
    let root = sys::fs::open_directory(&trees.root("")).unwrap();
    let inline = || Selection::inline("EOF", b"text\n".to_vec());
    copy(&inline(), &destination(&root, "/file")).unwrap();
    let mut selection = select(&context(&open, None), &["a"]).unwrap();
    selection.append(inline());
    copy(&selection, &destination(&root, "/dir/")).unwrap();
    assert_eq!(
        (trees.text("file"), trees.text("dir/EOF")),
        ("text\n".into(), "text\n".into())
    );
    assert_eq!(trees.text("dir/a"), "a");
    assert_eq!(mode(&trees.root("file")), 0o644);
    assert_ne!(
        inline().digest(&Memo::none()).unwrap(),
        Selection::inline("EOF", b"other".to_vec())
            .digest(&Memo::none())
            .unwrap()
    );
}

#[test]
fn add_extracts_archives_and_copies_the_rest() {
    let trees = Trees::new();
    trees.files(&["a.tar", "a.txt", "d/b.tar"]);
    let open = trees.open();
    let root = sys::fs::open_directory(&trees.root("")).unwrap();
    let selection = select(&context(&open, None), &["a.*", "d"]).unwrap();
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

#[test]
fn sockets_are_skipped_in_directories_and_refused_by_name() {
    let trees = Trees::new();
    trees.files(&["d/a"]);
    let listener = std::os::unix::net::UnixListener::bind(trees.source("d/socket")).unwrap();
    let copied = trees.copy(&["d"], "/to").unwrap();
    assert_eq!(
        copied.skipped,
        [Skipped::Socket {
            path: "/d/socket".into()
        }]
    );
    assert!(!trees.root("to/socket").exists());
    assert!(matches!(
        trees.copy(&["d/socket"], "/"),
        Err(Error::Socket { .. })
    ));
    drop(listener);
}

#[test]
fn a_tree_is_copied_to_the_host() {
    let trees = Trees::new();
    trees.files(&["bin/tool", "etc/conf"]);
    chmod(&trees.source("bin/tool"), 0o755);
    symlink("tool", trees.source("bin/link")).unwrap();
    trees.there(&["etc/conf", "etc/other"]);
    let copied = copy_tree_to_host(trees.open().as_fd(), &trees.root("")).unwrap();
    assert_eq!(copied.files, 5);
    assert_eq!(mode(&trees.root("bin/tool")), 0o755);
    assert_eq!(trees.text("bin/link"), "bin/tool");
    assert_eq!(trees.text("etc/other"), "etc/other");
}

#[test]
fn a_large_file_arrives_whole() {
    let trees = Trees::new();
    let bytes: Vec<u8> = (0..3_000_001_u32)
        .map(|at| at.to_le_bytes()[at as usize % 3])
        .collect();
    fs::write(trees.source("large"), &bytes).unwrap();
    let copied = trees.copy(&["large"], "/large").unwrap();
    assert_eq!(copied.bytes, bytes.len() as u64);
    assert!(fs::read(trees.root("large")).unwrap() == bytes);
}
