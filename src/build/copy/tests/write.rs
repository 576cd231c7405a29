//! What is kept of each file, and what is not.

use super::*;

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
            .copy_as(&["a"], "/new/a", None, Some(&spec), &RECORDED)
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
    copy(&select(&tree, &["d"], &Filter::default()).unwrap(), &kept).unwrap();
    for name in ["a", "sub", "link"] {
        assert_eq!(owner(&format!("plain/{name}")), (0, 0), "{name}");
        assert_eq!(owner(&format!("asked/x/{name}")), (7, 8), "{name}");
        assert_eq!(owner(&format!("kept/{name}")), (1000, 1001), "{name}");
    }
    assert_eq!((owner("asked"), owner("asked/x")), ((7, 8), (7, 8)));
    assert_eq!(owner("kept"), (0, 0));
}

#[test]
fn attributes_come_along_from_a_root_file_system_only() {
    let trees = Trees::new();
    trees.files(&["a"]);
    let open = trees.open();
    for attribute in ["user.kept", "user.overlay.opaque", "user.rbuild.later"] {
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
        let selection = select(&tree, &["a"], &Filter::default()).unwrap();
        copy(&selection, &destination(&root, name)).unwrap();
        let mut attributes = sys::xattr::list_at(&root, name[1..].as_ref()).unwrap();
        // Whose the file is depends on who runs the test.
        attributes.retain(|attribute| attribute != crate::ownership::record::ATTRIBUTE);
        assert_eq!(attributes, expected);
    }
}

#[test]
fn a_heredoc_is_a_file_of_root() {
    let trees = Trees::new();
    trees.files(&["a"]);
    let open = trees.open();
    let root = sys::fs::open_directory(&trees.root("")).unwrap();
    let inline = || Selection::inline("EOF", b"text\n".to_vec());
    copy(&inline(), &destination(&root, "/file")).unwrap();
    let mut selection = select(&context(&open, None), &["a"], &Filter::default()).unwrap();
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
    let copied = copy_tree_to_host(trees.open().as_fd(), &Owners::NONE, &trees.root("")).unwrap();
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
