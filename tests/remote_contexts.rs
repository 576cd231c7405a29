//! Build contexts that are fetched over HTTP.

use crate::remote::{SECONDS, TIME, archive};
use crate::rig::Rig;
use crate::rig::registry::{Answer, Registry};

#[test]
fn an_archive_elsewhere_is_a_context_without_ignore_rules() {
    let (rig, server) = (Rig::new(), Registry::start());
    server.set("/ctx", Answer::ok(&archive()));
    let url = server.url("/ctx");
    let tar = rig.path("out.tar");
    let output = format!("type=tar,dest={}", tar.display());
    let build = |options: &[&str]| {
        let all = [
            &["build", "--progress=plain", "-o", &output],
            options,
            &[url.as_str()],
        ]
        .concat();
        rig.rbuild(all)
    };
    let has = |path: &str| {
        let files = crate::rig::image::files_of(&std::fs::read(&tar).unwrap());
        files
            .get(path)
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    };
    build(&[]).succeeds().says(&["load remote build context"]);
    assert_eq!(has("ctx/file").as_deref(), Some("packed"));
    build(&["-f", "sub/Other"]).succeeds();
    assert_eq!(has("other").as_deref(), Some("packed"));
    rig.write("absolute", "FROM base\nCOPY sub /s\n");
    let absolute = rig.context().join("absolute");
    build(&["-f", absolute.to_str().unwrap()]).succeeds();
    assert!(has("s/Other").is_some());
    build(&["-f", "missing"])
        .exits_with(1)
        .says(&["there is no Dockerfile in", &url]);
    let tmp = rig.store().join("tmp");
    assert_eq!(
        std::fs::read_dir(tmp).unwrap().count(),
        0,
        "nothing of it stays"
    );
}

#[test]
fn a_text_elsewhere_is_a_dockerfile() {
    let (rig, server) = (Rig::new(), Registry::start());
    server.set("/f", Answer::ok(b"FROM base\nCOPY context /self\n"));
    let url = server.url("/f");
    rig.rbuild(["build", "--progress=plain", &url]).succeeds();
    rig.rbuild(["build", "-f", "x", &url])
        .exits_with(1)
        .says(&["is one file, not an archive"]);
    // The same with the files of a directory.
    server.set(
        "/g",
        Answer::ok(b"FROM base\nCOPY local /l\nRUN false-command\n"),
    );
    rig.write("local", "x");
    rig.build(&["-f", &server.url("/g")])
        .exits_with(1)
        .says(&["Dockerfile:3"]);
    rig.build(&["-f", &server.url("/gone")])
        .exits_with(1)
        .says(&["cannot fetch", "answered 404"]);
}

#[test]
fn an_error_in_a_local_dockerfile_is_found_before_the_context_is_fetched() {
    let (rig, server) = (Rig::new(), Registry::start());
    let url = server.url("/ctx");
    rig.build_from_stdin(&["-f", "-", &url], b"FROM base\nNONSENSE\n")
        .exits_with(1);
    assert_eq!(server.requests(), []);
    // Nor is a context that nothing reads.
    rig.build_from_stdin(&["-f", "-", &url], b"FROM base\nRUN true\n")
        .succeeds();
    assert_eq!(server.requests(), []);
}

#[test]
fn a_named_context_over_http_is_one_file() {
    let (rig, server) = (Rig::new(), Registry::start());
    server.set("/x.tar", Answer::ok(b"bytes").header("Last-Modified", TIME));
    let context = format!("extra={}", server.url("/x.tar"));
    let image = rig.image_with(
        "FROM base\nCOPY --from=extra context /one\nCOPY --from=extra / /all/",
        &["--build-context", &context],
    );
    assert_eq!(image.text("one"), "bytes");
    assert_eq!(image.file("all/context").mtime, SECONDS);
    assert_eq!(server.requests().len(), 1);
    rig.build(&["--build-context", "x=ftp://example.invalid/x"])
        .exits_with(2)
        .says(&["only http, https, git and ssh"]);
}
