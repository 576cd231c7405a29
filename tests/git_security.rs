//! Hostile repositories and servers, and credentials that must not get about.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use crate::git::Served;
use crate::rig::image::Kind;
use crate::rig::registry::{Access, Registry};
use crate::rig::repository::Repository;

#[test]
fn credentials_reach_only_their_host_and_no_file() {
    let Some(served) = Served::new() else { return };
    let (rig, server) = (&served.rig, Registry::start());
    let url = served.repository.serve_files(&server);
    // base64 of x-access-token:s3cret
    let header = "Basic eC1hY2Nlc3MtdG9rZW46czNjcmV0";
    server.set_access(Access::Basic(header.to_owned()));
    let secret = rig.path("token");
    fs::write(&secret, "s3cret\n").unwrap();
    let add = format!("ADD --keep-git-dir {url} /r");
    rig.dockerfile(&format!("FROM base\n{add}"));
    let token = |id: &str| format!("id={id},src={}", secret.display());
    rig.build(&[])
        .exits_with(1)
        .says(&["cannot fetch", "GIT_AUTH_TOKEN"]);
    rig.build(&["--secret", &token("GIT_AUTH_TOKEN.example.invalid")])
        .exits_with(1);
    let of_host = token(&format!("GIT_AUTH_TOKEN.{}", server.host()));
    let archive = rig.path("image.tar");
    let output = format!("type=oci,dest={}", archive.display());
    let outcome = rig.build(&["--secret", &of_host, "-o", &output]).succeeds();
    assert!(!outcome.stderr.contains("s3cret") && !outcome.stderr.contains(header));
    let image = crate::rig::image::Image::open(&archive);
    for (path, node) in image.files() {
        let text = String::from_utf8_lossy(&node.content);
        let leaked = text.contains("s3cret") || text.contains(&header[6..]);
        assert!(!leaked, "{path} has the secret");
    }
    rig.build(&["--no-cache", "--secret", &token("GIT_AUTH_TOKEN")])
        .succeeds();
    fs::write(&secret, header).unwrap();
    rig.build(&["--no-cache", "--secret", &token("GIT_AUTH_HEADER")])
        .succeeds();
    fs::write(&secret, "wr0ng").unwrap();
    let outcome = rig
        .build(&["--no-cache", "--secret", &token("GIT_AUTH_TOKEN")])
        .exits_with(1);
    assert!(!outcome.stderr.contains("wr0ng"), "{}", outcome.stderr);
}

#[test]
fn no_command_line_has_a_secret() {
    let Some(served) = Served::new() else { return };
    let (rig, server) = (&served.rig, Registry::start());
    let url = served.repository.serve_files(&server);
    server.set_access(Access::Basic("Basic bWU6aHVudGVyMg==".to_owned()));
    // Stands for git: notes its arguments, and is it.
    let bin = rig.path("bin");
    fs::create_dir(&bin).unwrap();
    let notes = rig.path("notes");
    let path = std::env::var("PATH").unwrap();
    let script = format!(
        "#!/bin/sh\necho \"$*\" >> {}\nPATH={path} exec git \"$@\"\n",
        notes.display()
    );
    fs::write(bin.join("git"), script).unwrap();
    fs::set_permissions(bin.join("git"), fs::Permissions::from_mode(0o755)).unwrap();
    let secret_url = url.replace("//", "//me:hunter2@");
    rig.dockerfile("FROM base\nARG U\nADD --keep-git-dir $U /r");
    let argument = format!("U={secret_url}");
    let mut command = rig.build_command(&["--build-arg", &argument]);
    command.env("PATH", format!("{}:{path}", bin.display()));
    crate::rig::outcome::Outcome::of(&mut command).succeeds();
    let noted = fs::read_to_string(&notes).unwrap();
    assert!(
        noted.contains("fetch") && noted.contains("ls-remote"),
        "{noted}"
    );
    for secret in ["hunter2", "bWU6"] {
        assert!(!noted.contains(secret), "{noted}");
    }
}

#[test]
fn a_server_cannot_send_credentials_elsewhere() {
    let Some(served) = Served::new() else { return };
    let (rig, thief, server) = (&served.rig, Registry::start(), Registry::start());
    let stolen = served.repository.serve_files(&thief);
    for suffix in ["", "?service=git-upload-pack"] {
        let target = format!("{stolen}/info/refs{suffix}");
        let answer = crate::rig::registry::Answer::status(302).header("Location", &target);
        server.set(&format!("/r.git/info/refs{suffix}"), answer);
    }
    let add = format!("FROM base\nADD {} /r", server.url("/r.git"));
    rig.dockerfile(&add);
    let secret = rig.path("token");
    fs::write(&secret, "s3cret").unwrap();
    let token = format!("id=GIT_AUTH_TOKEN,src={}", secret.display());
    rig.build(&["--secret", &token]).exits_with(1);
    assert_eq!(thief.requests(), []);
    // Without credentials there is nothing to lose.
    rig.build(&[]).succeeds();
}

#[test]
fn a_repository_runs_nothing_and_reads_nothing_of_the_host() {
    let Some(served) = Served::new() else { return };
    let (rig, repository) = (&served.rig, &served.repository);
    let mark = rig.path("ran");
    let touch = format!("touch {}", mark.display());
    // The user's own configuration would run a program on a checkout.
    let home = rig.path("home");
    fs::create_dir_all(home.join("hooks")).unwrap();
    let hook = home.join("hooks/post-checkout");
    fs::write(&hook, format!("#!/bin/sh\n{touch}\n")).unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(
        home.join(".gitconfig"),
        format!(
            "[core]\nhooksPath = {}\nfsmonitor = {touch}\n[filter \"evil\"]\nsmudge = {touch}\n\
             [protocol \"file\"]\nallow = always\n[protocol \"ext\"]\nallow = always\n",
            home.join("hooks").display()
        ),
    )
    .unwrap();
    repository.write(".gitattributes", "* filter=evil\n");
    symlink("/etc/passwd", repository.tree().join("passwd")).unwrap();
    symlink("/", repository.tree().join("root")).unwrap();
    repository.commit();
    repository.publish();
    let add = format!("FROM base\nADD {} /r", served.url());
    rig.dockerfile(&add);
    let archive = rig.path("image.tar");
    let output = format!("type=oci,dest={}", archive.display());
    let mut command = rig.build_command(&["-o", &output]);
    crate::rig::outcome::Outcome::of(command.env("HOME", &home)).succeeds();
    assert!(!mark.exists(), "a program ran");
    let image = crate::rig::image::Image::open(&archive);
    assert_eq!(image.file("r/passwd").kind, Kind::Symlink);
    assert_eq!(image.file("r/root").kind, Kind::Symlink);

    let secret = Repository::new(&served.base, "secret");
    secret.write("secret", "x").commit();
    let path = secret.publish();
    for url in [
        format!("file://{}", path.display()),
        path.display().to_string(),
        format!("ext::sh -c {}", touch.replace(' ', "% ")),
    ] {
        let modules = format!("[submodule \"m\"]\n\tpath = m\n\turl = {url}\n");
        repository.write(".gitmodules", modules);
        let head = secret.git(&["rev-parse", "HEAD"]);
        repository.git(&["update-index", "--add", "--cacheinfo", "160000", &head, "m"]);
        repository.git(&["add", ".gitmodules"]);
        repository.git(&["commit", "--quiet", "-m", "module"]);
        repository.publish();
        let mut command = rig.build_command(&["-o", &output]);
        let outcome = crate::rig::outcome::Outcome::of(command.env("HOME", &home));
        assert!(!mark.exists(), "{url}: a program ran");
        outcome
            .exits_with(1)
            .says(&["cannot fetch", "git submodule failed"]);
    }
}

#[test]
fn ssh_is_run_without_anybodys_configuration() {
    let Some(served) = Served::new() else { return };
    let rig = &served.rig;
    // Stands for ssh: notes how it was called, and does what the server would.
    let bin = rig.path("bin");
    fs::create_dir(&bin).unwrap();
    let notes = rig.path("notes");
    let script = format!(
        "#!/bin/sh\necho \"$* agent=$SSH_AUTH_SOCK\" >> {}\nfor last; do :; done\nexec sh -c \"$last\"\n",
        notes.display()
    );
    fs::write(bin.join("ssh"), script).unwrap();
    fs::set_permissions(bin.join("ssh"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let bare = served.base.join("r.git");
    let url = format!("git@host.invalid:{}", bare.display());
    let run = |command: &mut std::process::Command| {
        command.env("PATH", &path).env("SSH_AUTH_SOCK", "/agent");
        crate::rig::outcome::Outcome::of(command).succeeds();
        let noted = fs::read_to_string(&notes).unwrap();
        fs::remove_file(&notes).unwrap();
        assert!(noted.contains("-F none"), "{noted}");
        assert!(noted.contains("StrictHostKeyChecking=yes"), "{noted}");
        noted
    };
    rig.dockerfile(&format!("FROM base\nADD {url} /r"));
    let noted = run(&mut rig.build_command(&[]));
    assert!(
        !noted.contains("/agent"),
        "the file's author chose it: {noted}"
    );
    rig.dockerfile("FROM base\nCOPY --from=x file /");
    let context = format!("x={url}");
    let noted = run(&mut rig.build_command(&["--build-context", &context]));
    assert!(noted.contains("agent=/agent"), "the user chose it: {noted}");
}

#[test]
fn a_default_branch_that_is_called_like_an_option_is_none() {
    let Some(served) = Served::new() else { return };
    let (mark, evil) = (served.rig.path("mark"), served.rig.path("evil"));
    fs::write(&evil, format!("#!/bin/sh\ntouch {}\n", mark.display())).unwrap();
    fs::set_permissions(&evil, fs::Permissions::from_mode(0o755)).unwrap();
    let bare = served.base.join("r.git");
    let git = |arguments: &[&str]| {
        let place = ["--git-dir", bare.to_str().unwrap()];
        served.repository.git(&[&place, arguments].concat())
    };
    for branch in [
        format!("--upload-pack={}", evil.display()),
        format!("--exec={}", evil.display()),
        "-".to_owned(),
        "--help".to_owned(),
    ] {
        let name = format!("refs/heads/{branch}");
        git(&["update-ref", &name, "refs/heads/main"]);
        git(&["symbolic-ref", "HEAD", &name]);
        let image = served.rig.image_with(
            &format!("FROM base\nADD --keep-git-dir {} /r", served.url()),
            &["--no-cache"],
        );
        assert_eq!(image.text("r/file"), "one", "{branch}");
        let head = image.text("r/.git/HEAD");
        assert!(!head.contains("--"), "{branch}: {head}");
        assert!(!mark.exists(), "{branch}");
    }
}
