//! Trees of git repositories: ADD, contexts, and repositories that mean harm.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;

use crate::rig::Rig;
use crate::rig::host;
use crate::rig::image::Kind;
use crate::rig::registry::Registry;
use crate::rig::repository::{COMMIT_TIME, Daemon, Repository};

/// A repository with a file, a program, a link and a directory, on a daemon.
pub(crate) struct Served {
    pub(crate) rig: Rig,
    pub(crate) base: PathBuf,
    pub(crate) repository: Repository,
    pub(crate) daemon: Daemon,
}

impl Served {
    /// `None`, and said so, where there is no git.
    pub(crate) fn new() -> Option<Self> {
        if !host::tool("git") {
            return None;
        }
        let rig = Rig::new();
        let base = rig.path("repositories");
        let repository = Repository::new(&base, "r");
        repository
            .write("file", "one")
            .write("bin/run", "#!/bin/sh\n")
            .write("sub/inner", "inner");
        let program = repository.tree().join("bin/run");
        fs::set_permissions(program, fs::Permissions::from_mode(0o700)).unwrap();
        symlink("file", repository.tree().join("link")).unwrap();
        repository.commit();
        repository.publish();
        let daemon = Daemon::start(&base);
        Some(Self {
            rig,
            base,
            repository,
            daemon,
        })
    }

    pub(crate) fn url(&self) -> String {
        self.daemon.url("r")
    }
}

#[test]
fn a_tree_comes_without_its_repository_and_with_plain_permissions() {
    let Some(served) = Served::new() else { return };
    let image = served
        .rig
        .image(&format!("FROM base\nADD {} /r", served.url()));
    let file = image.file("r/file");
    assert_eq!(
        (file.mode, file.uid, file.gid, file.mtime),
        (0o644, 0, 0, COMMIT_TIME)
    );
    assert_eq!(image.file("r/bin/run").mode, 0o755);
    assert_eq!(image.file("r/sub").mode, 0o755);
    assert_eq!(image.file("r/link").kind, Kind::Symlink);
    assert!(!image.has("r/.git"));
}

#[test]
fn a_branch_a_tag_and_a_commit_name_a_tree() {
    let Some(served) = Served::new() else { return };
    let repository = &served.repository;
    let first = repository.git(&["rev-parse", "HEAD"]);
    repository.git(&["tag", "light"]);
    repository.git(&["tag", "-a", "-m", "x", "heavy"]);
    repository.git(&["checkout", "--quiet", "-b", "team/side"]);
    repository.write("file", "side").commit();
    // A name at the end of another one is not that one.
    repository.git(&["checkout", "--quiet", "-b", "x/main"]);
    repository.write("file", "x/main").commit();
    repository.git(&["checkout", "--quiet", "main"]);
    repository.write("file", "two").commit();
    repository.publish();
    let url = served.url();
    for (suffix, content) in [
        (String::new(), "two"),
        ("#main".to_owned(), "two"),
        ("#light".to_owned(), "one"),
        ("#heavy".to_owned(), "one"),
        ("#team/side".to_owned(), "side"),
        (format!("#{first}"), "one"),
        ("#refs/heads/team/side".to_owned(), "side"),
        ("?branch=team/side".to_owned(), "side"),
        ("?tag=heavy".to_owned(), "one"),
        (format!("?ref=light&commit={first}"), "one"),
        (format!("?commit={first}"), "one"),
        (format!("?ref=light&commit={first}&fetch-by-commit"), "one"),
    ] {
        let image = served
            .rig
            .image(&format!("FROM base\nADD {url}{suffix} /r"));
        assert_eq!(image.text("r/file"), content, "{suffix}");
    }
    for (suffix, why) in [
        ("#side", "does not contain ref side"),
        ("#nothing", "does not contain ref nothing"),
        ("?ref=main&commit=00ff", "expected checksum to match 00ff"),
    ] {
        served
            .rig
            .dockerfile(&format!("FROM base\nADD {url}{suffix} /r"));
        served
            .rig
            .build(&[])
            .exits_with(1)
            .says(&["Dockerfile:2", why]);
    }
}

#[test]
fn a_part_of_the_tree_is_a_directory_inside_of_it() {
    let Some(served) = Served::new() else { return };
    symlink("/etc", served.repository.tree().join("out")).unwrap();
    symlink("../../..", served.repository.tree().join("up")).unwrap();
    served.repository.commit();
    served.repository.publish();
    let url = served.url();
    let image = served
        .rig
        .image(&format!("FROM base\nADD {url}#main:sub /r"));
    assert_eq!(image.text("r/inner"), "inner");
    assert!(!image.has("r/file"));
    for subdir in ["file", "missing", "out"] {
        served
            .rig
            .dockerfile(&format!("FROM base\nADD {url}#main:{subdir} /r"));
        let why = format!("there is no directory {subdir} in it");
        served.rig.build(&[]).exits_with(1).says(&[&why]);
    }
    // A link upwards ends at the tree's own root.
    let image = served
        .rig
        .image(&format!("FROM base\nADD {url}#main:up /r"));
    assert_eq!(image.text("r/file"), "one");
    served
        .rig
        .dockerfile(&format!("FROM base\nADD {url}#main:../x /r"));
    served
        .rig
        .build(&[])
        .exits_with(1)
        .says(&["leads out of the repository"]);
}

#[test]
fn a_commit_that_did_not_change_is_not_fetched() {
    let Some(served) = Served::new() else { return };
    let (rig, server) = (&served.rig, Registry::start());
    let commit = served.repository.git(&["rev-parse", "HEAD"]);
    let url = served.repository.serve_files(&server);
    let add = format!("ADD {url}#main /r");
    rig.dockerfile(&format!("FROM base\n{add}"));
    rig.build(&[]).succeeds();
    let objects = |from: usize| {
        let requests = server.requests();
        let asked = requests[from..].iter();
        asked
            .filter(|request| request.path.contains("/objects/"))
            .count()
    };
    let before = server.requests().len();
    assert!(objects(0) > 0);
    assert!(rig.build(&[]).succeeds().is_cached(&add));
    assert!(server.requests().len() > before, "the server was asked");
    assert_eq!(objects(before), 0, "and sent no object");
    // A commit is what it is.
    let pinned = format!("ADD {url}#{commit} /r");
    rig.dockerfile(&format!("FROM base\n{pinned}"));
    let before = server.requests().len();
    assert!(rig.build(&[]).succeeds().is_cached(&pinned));
    assert_eq!(server.requests().len(), before);
}

#[test]
fn everything_about_a_tree_is_in_the_key() {
    let Some(served) = Served::new() else { return };
    let rig = &served.rig;
    let url = served.url();
    let is_cached = |add: &str| {
        rig.dockerfile(&format!("FROM base\n{add}"));
        rig.build(&[]).succeeds().is_cached(add)
    };
    for add in [
        format!("ADD {url} /r"),
        format!("ADD {url} /s"),
        format!("ADD --keep-git-dir {url} /r"),
        format!("ADD {url}#main:sub /r"),
        format!("ADD {url}?submodules=false /r"),
        format!("ADD {url}?mtime=checkout /r"),
        format!("ADD --chmod=600 {url} /r"),
    ] {
        assert!(!is_cached(&add), "{add}");
        assert!(is_cached(&add), "{add}");
    }
    assert!(is_cached(&format!("ADD {url}#main /r")), "the same commit");
    served.repository.write("file", "two").commit();
    served.repository.publish();
    assert!(!is_cached(&format!("ADD {url} /r")), "another commit");
}

#[test]
fn the_repository_is_kept_on_request() {
    let Some(served) = Served::new() else { return };
    let url = served.url();
    for add in [
        format!("ADD --keep-git-dir=true {url} /r"),
        format!("ADD {url}?keep-git-dir=1 /r"),
    ] {
        let image = served.rig.image(&format!("FROM base\n{add}"));
        let commit = served.repository.git(&["rev-parse", "HEAD"]);
        assert_eq!(image.text("r/.git/HEAD").trim(), commit, "{add}");
        assert!(image.text("r/.git/config").contains(&url), "{add}");
    }
}

#[test]
fn submodules_come_with_their_repository() {
    let Some(served) = Served::new() else { return };
    let inner = Repository::new(&served.base, "inner");
    inner.write("deep", "deep").commit();
    inner.publish();
    let middle = Repository::new(&served.base, "middle");
    middle.write("mid", "mid");
    middle.git(&[
        "submodule",
        "--quiet",
        "add",
        &served.daemon.url("inner"),
        "inner",
    ]);
    middle.commit();
    middle.publish();
    let repository = &served.repository;
    repository.git(&["submodule", "--quiet", "add", "../middle.git", "m"]);
    repository.commit();
    repository.publish();
    let url = served.url();
    let image = served.rig.image(&format!("FROM base\nADD {url} /r"));
    assert_eq!(image.text("r/m/mid"), "mid");
    assert_eq!(image.text("r/m/inner/deep"), "deep");
    assert!(!image.has("r/m/.git") && !image.has("r/m/inner/.git"));
    let image = served
        .rig
        .image(&format!("FROM base\nADD {url}?submodules=false /r"));
    assert!(image.has("r/m") && !image.has("r/m/mid"));
}

#[test]
fn a_repository_over_plain_files_is_fetched_too() {
    let Some(served) = Served::new() else { return };
    let server = Registry::start();
    let first = served.repository.git(&["rev-parse", "HEAD"]);
    served.repository.write("file", "two").commit();
    let url = served.repository.serve_files(&server);
    for (suffix, content) in [
        (String::new(), "two"),
        (format!("#{first}"), "one"),
        ("#main:sub".to_owned(), ""),
    ] {
        let image = served
            .rig
            .image(&format!("FROM base\nADD {url}{suffix} /r"));
        match content {
            "" => assert_eq!(image.text("r/inner"), "inner"),
            content => assert_eq!(image.text("r/file"), content, "{suffix}"),
        }
    }
}

#[test]
fn a_context_is_a_tree_at_a_reference() {
    let Some(served) = Served::new() else { return };
    let rig = &served.rig;
    served
        .repository
        .write("Dockerfile", "FROM base\nCOPY . /ctx/\n")
        .write(".dockerignore", "file\n")
        .write("sub/Dockerfile", "FROM base\nCOPY inner /inner\n")
        .write("sub/Other", "FROM base\nADD inner /other\n")
        .commit();
    served.repository.publish();
    let tar = rig.path("out.tar");
    let output = format!("type=tar,dest={}", tar.display());
    let url = served.url();
    let build = |options: &[&str], suffix: &str| {
        let url = format!("{url}{suffix}");
        let all = [
            &["build", "--progress=plain", "-o", &output],
            options,
            &[url.as_str()],
        ]
        .concat();
        rig.rbuild(all)
    };
    let has = |path: &str| {
        let files = crate::rig::image::files_of(&fs::read(&tar).unwrap());
        files.contains_key(path)
    };
    build(&[], "").succeeds();
    assert!(has("ctx/file") && has("ctx/sub/inner") && !has("ctx/.git/HEAD"));
    let keep = ["--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1"];
    build(&keep, "").succeeds();
    assert!(has("ctx/.git/HEAD"));
    build(&[], "#main:sub").succeeds();
    assert!(has("inner"));
    build(&["-f", "Other"], "#main:sub").succeeds();
    assert!(has("other"));
    build(&["-f", "../Dockerfile"], "#main:sub").succeeds();
    assert!(has("inner"), "a context has nothing above it");
    build(&[], "#nothing").exits_with(1).says(&[
        "cannot fetch the build context",
        "does not contain ref nothing",
    ]);
    build(&[], "?x=y").exits_with(2).says(&["unexpected query"]);
    let tmp = rig.store().join("tmp");
    assert_eq!(fs::read_dir(tmp).unwrap().count(), 0, "nothing of it stays");

    let context = format!("source={url}#main:sub");
    let image = rig.image_with(
        "FROM base\nCOPY --from=source inner /a\nCOPY --from=source Other /b",
        &["--build-context", &context],
    );
    assert_eq!(image.text("a"), "inner");
}

#[test]
fn git_is_missed_before_any_work() {
    let rig = Rig::new();
    rig.dockerfile("FROM base\nRUN echo started\nADD https://example.invalid/r.git /r");
    // What the build itself needs is there, git is not.
    let path = rig.path("bin");
    fs::create_dir(&path).unwrap();
    for tool in ["newuidmap", "newgidmap"] {
        if let Some(found) = ["/usr/bin", "/bin"]
            .iter()
            .map(|dir| PathBuf::from(dir).join(tool))
            .find(|path| path.exists())
        {
            symlink(found, path.join(tool)).unwrap();
        }
    }
    let run = |options: &[&str]| {
        let mut command = rig.build_command(options);
        crate::rig::outcome::Outcome::of(command.env("PATH", &path))
    };
    let outcome = run(&[])
        .exits_with(1)
        .says(&["Dockerfile:3", "git is not installed"]);
    assert!(!outcome.stderr.contains(" started"), "{}", outcome.stderr);
    rig.dockerfile("FROM base\nRUN echo started\nCOPY --from=x a /");
    let outcome = run(&["--build-context", "x=git@example.invalid:x"])
        .exits_with(1)
        .says(&["git is not installed", "install git"]);
    assert!(!outcome.stderr.contains(" started"), "{}", outcome.stderr);
}

#[test]
fn flags_of_copies_hold_for_trees_too() {
    let Some(served) = Served::new() else { return };
    let url = served.url();
    let image = served.rig.image(&format!(
        "FROM base\nADD --exclude=sub --exclude=*le {url} /r\nADD --link {url}#main:sub /l/"
    ));
    assert!(image.has("r/bin/run"));
    assert!(!image.has("r/sub") && !image.has("r/file"));
    assert_eq!(image.text("l/inner"), "inner");
}

#[test]
fn a_stage_may_stand_on_a_tree() {
    let Some(served) = Served::new() else { return };
    let context = format!("source={}#main:sub", served.url());
    let image = served.rig.image_with(
        "FROM source\nCOPY --from=base /etc/group /group",
        &["--build-context", &context],
    );
    assert_eq!(image.text("inner"), "inner");
    assert!(image.has("group"));
}
