//! Files over HTTP: ADD of a URL, and contexts and Dockerfiles that are fetched.

use std::io::Write as _;

use tar::{Builder, EntryType};

use crate::rig::Rig;
use crate::rig::base::append;
use crate::rig::host;
use crate::rig::registry::{Answer, Registry};

pub(crate) const TIME: &str = "Wed, 21 Oct 2015 07:28:00 GMT";
pub(crate) const SECONDS: u64 = 1_445_412_480;

pub(crate) fn archive() -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    append(&mut tar, EntryType::Regular, "file", 0o640, b"packed");
    append(
        &mut tar,
        EntryType::Regular,
        "Dockerfile",
        0o644,
        b"FROM base\nCOPY . /ctx/\n",
    );
    append(
        &mut tar,
        EntryType::Regular,
        ".dockerignore",
        0o644,
        b"file\n",
    );
    append(
        &mut tar,
        EntryType::Regular,
        "sub/Other",
        0o644,
        b"FROM base\nCOPY file /other\n",
    );
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&tar.into_inner().unwrap()).unwrap();
    gzip.finish().unwrap()
}

fn digest(bytes: &[u8]) -> String {
    use std::process::{Command, Stdio};
    let mut child = Command::new("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    let printed = child.wait_with_output().unwrap().stdout;
    format!(
        "sha256:{}",
        String::from_utf8(printed[..64].to_vec()).unwrap()
    )
}

#[test]
fn a_download_is_a_private_file_with_the_time_of_the_server() {
    let (rig, server) = (Rig::new(), Registry::start());
    let answer = Answer::ok(b"content");
    server.set(
        "/a/file.txt?x=1",
        answer.clone().header("Last-Modified", TIME),
    );
    server.set("/plain", answer);
    server.set("/", Answer::ok(b"index"));
    let image = rig.image(&format!(
        "FROM base\nADD {} /to/\nADD {} /name\nADD {} /root/\nADD --chmod=754 {} /own/\n",
        server.url("/a/file.txt?x=1"),
        server.url("/plain"),
        server.url("/"),
        server.url("/plain"),
    ));
    let file = image.file("to/file.txt");
    assert_eq!(
        (&*file.content, file.mode, file.mtime, file.uid),
        (&b"content"[..], 0o600, SECONDS, 0)
    );
    let name = image.file("name");
    assert_eq!((name.mode, name.mtime), (0o600, 0));
    assert_eq!(image.text("root/__unnamed__"), "index");
    assert_eq!(image.file("own/plain").mode, 0o754);
}

#[test]
fn a_download_belongs_to_whom_the_flag_names() {
    let (rig, server) = (Rig::new(), Registry::start());
    server.set("/f", Answer::ok(b"content"));
    let url = server.url("/f");
    let image = rig.image(&format!("FROM base\nADD --chown=app:staff {url} /f"));
    let file = image.file("f");
    assert_eq!((file.uid, file.gid, file.mode), (1000, 50, 0o600));
}

#[test]
fn an_archive_is_kept_whole_unless_it_is_to_be_unpacked() {
    let (rig, server) = (Rig::new(), Registry::start());
    server.set("/x.tar.gz", Answer::ok(&archive()));
    rig.write("local.tar.gz", archive());
    let url = server.url("/x.tar.gz");
    let image = rig.image(&format!(
        "FROM base\nADD {url} local.tar.gz /both/\nADD --unpack {url} /un/\n\
         ADD --unpack=false local.tar.gz /kept/\nADD --unpack=true local.tar.gz /local/"
    ));
    assert_eq!(image.file("both/x.tar.gz").content, archive());
    assert_eq!(image.text("both/file"), "packed");
    assert_eq!(image.text("un/file"), "packed");
    assert!(!image.has("un/x.tar.gz"));
    assert_eq!(image.file("kept/local.tar.gz").content, archive());
    assert_eq!(image.text("local/file"), "packed");
}

#[test]
fn sources_are_written_in_their_order() {
    let (rig, server) = (Rig::new(), Registry::start());
    server.set("/same", Answer::ok(b"remote"));
    rig.write("same", "local");
    let url = server.url("/same");
    let image = rig.image(&format!(
        "FROM base\nADD {url} same /one/\nADD same {url} /two/"
    ));
    assert_eq!(image.text("one/same"), "local");
    assert_eq!(image.text("two/same"), "remote");
}

#[test]
fn a_file_that_did_not_change_is_asked_for_and_not_sent_again() {
    for header in [("ETag", "\"one\""), ("Last-Modified", TIME)] {
        let (rig, server) = (Rig::new(), Registry::start());
        let mut answer = Answer::ok(b"content").header(header.0, header.1);
        answer.conditional = true;
        server.set("/f", answer);
        let add = format!("ADD {} /f", server.url("/f"));
        rig.dockerfile(&format!("FROM base\n{add}"));
        rig.build(&[]).succeeds();
        assert!(rig.build(&[]).succeeds().is_cached(&add), "{header:?}");
        let requests = server.requests();
        assert_eq!(requests.len(), 2);
        let known = requests[1]
            .known_tag
            .as_ref()
            .or(requests[1].known_time.as_ref());
        assert_eq!(known.map(String::as_str), Some(header.1));
        // Another step with the same file needs no transfer either.
        let image = rig.image(&format!("FROM base\nADD {} /other", server.url("/f")));
        assert_eq!(image.text("other"), "content");

        server.set("/f", Answer::ok(b"changed").header(header.0, "\"two\""));
        assert_eq!(rig.image(&format!("FROM base\n{add}")).text("f"), "changed");
    }
}

#[test]
fn a_server_that_ignores_conditions_is_believed_its_tag() {
    let (rig, server) = (Rig::new(), Registry::start());
    server.set("/f", Answer::ok(b"content").header("ETag", "W/\"one\""));
    let add = format!("ADD {} /f", server.url("/f"));
    rig.dockerfile(&format!("FROM base\n{add}"));
    rig.build(&[]).succeeds();
    assert!(rig.build(&[]).succeeds().is_cached(&add));
}

#[test]
fn everything_about_a_download_is_in_the_key() {
    let (rig, server) = (Rig::new(), Registry::start());
    server.set("/f", Answer::ok(b"content"));
    server.set("/g", Answer::ok(b"content"));
    server.set("/t", Answer::ok(b"content").header("Last-Modified", TIME));
    server.set("/a", Answer::ok(&archive()));
    let (f, g, a) = (server.url("/f"), server.url("/g"), server.url("/a"));
    let is_cached = |add: &str| {
        rig.dockerfile(&format!("FROM base\n{add}"));
        rig.build(&[]).succeeds().is_cached(add)
    };
    for add in [
        format!("ADD {f} /to/"),
        format!("ADD {g} /to/"),
        format!("ADD {f} /to"),
        format!("ADD {f} /too/"),
        format!("ADD --chmod=644 {f} /to/"),
        format!("ADD {a} /to/"),
        format!("ADD --unpack {a} /to/"),
        format!("ADD --unpack=false {a} /to/"),
    ] {
        assert!(!is_cached(&add), "{add}");
        assert!(is_cached(&add), "{add}");
    }
    let add = format!("ADD {f} /to/");
    server.set("/f", Answer::ok(b"content").header("Last-Modified", TIME));
    assert!(!is_cached(&add), "another time");
    server.set("/f", Answer::ok(b"CONTENT").header("Last-Modified", TIME));
    assert!(!is_cached(&add), "other content");
}

#[test]
fn a_checksum_is_verified_and_then_needs_no_request() {
    let (rig, server) = (Rig::new(), Registry::start());
    server.set("/f", Answer::ok(b"content").header("Last-Modified", TIME));
    let url = server.url("/f");
    let right = digest(b"content");
    let add = format!("ADD --checksum={right} {url} /f");
    let image = rig.image(&format!("FROM base\n{add}"));
    assert_eq!(
        (image.text("f"), image.file("f").mtime),
        ("content".into(), SECONDS)
    );
    assert_eq!(server.requests().len(), 1);
    assert!(rig.build(&[]).succeeds().is_cached(&add));
    let image = rig.image(&format!(
        "FROM base\nARG SUM={right}\nADD --checksum=$SUM {url} /again"
    ));
    assert_eq!(image.file("again").mtime, SECONDS);
    assert_eq!(server.requests().len(), 1);

    let wrong = digest(b"something else");
    rig.dockerfile(&format!("FROM base\nADD --checksum={wrong} {url} /f"));
    rig.build(&[])
        .exits_with(1)
        .says(&["Dockerfile:2", "digest mismatch", &right, &wrong]);
    // What has another digest is not kept under the one that was wanted.
    rig.build(&[]).exits_with(1).says(&["digest mismatch"]);
}

#[test]
fn what_cannot_be_right_is_refused_before_any_request() {
    let (rig, server) = (Rig::new(), Registry::start());
    rig.write("local", "x");
    let url = server.url("/f");
    let digest = digest(b"x");
    for (line, why) in [
        (
            format!("ADD --checksum=sha256:12 {url} /f"),
            "invalid checksum",
        ),
        (
            format!("ADD --checksum={digest} {url} {url} /f/"),
            "multiple sources",
        ),
        (
            format!("ADD --checksum={digest} local /f"),
            "requires HTTP(S) or Git sources",
        ),
        (
            format!("ADD --checksum=xyz {url}.git /f"),
            "expected hex commit hash",
        ),
        (
            "ADD ftp://example.invalid/x /f".to_owned(),
            "only http, https, git and ssh",
        ),
        (
            "ADD file:///etc/passwd /f".to_owned(),
            "only http, https, git and ssh",
        ),
        (format!("ADD {url}.git?x=y /f"), "unexpected query \"x\""),
        (
            format!("ADD --keep-git-dir=false {url}.git?keep-git-dir=true /f"),
            "inconsistent keep-git-dir",
        ),
        (format!("COPY {url} /f"), "source can't be a URL for COPY"),
        (
            "COPY git@h:x /f".to_owned(),
            "source can't be a git ref for COPY",
        ),
    ] {
        rig.dockerfile(&format!("FROM base\nRUN echo started\n{line}"));
        let outcome = rig.build(&[]).exits_with(1).says(&["Dockerfile:3", why]);
        assert!(!outcome.stderr.contains(" started"), "{}", outcome.stderr);
    }
    // The same behind a variable shows when the step begins.
    rig.dockerfile(&format!("FROM base\nARG U={url}\nCOPY $U /f"));
    rig.build(&[])
        .exits_with(1)
        .says(&["can't be a URL for COPY"]);
    assert_eq!(server.requests(), []);
}

#[test]
fn a_transfer_goes_on_where_it_broke_off() {
    let body: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
    for (ranges, tag) in [(true, "\"x\""), (false, "\"x\""), (true, "W/\"x\"")] {
        let (rig, server) = (Rig::new(), Registry::start());
        let mut answer = Answer::ok(&body).header("ETag", tag);
        answer.ranges = ranges;
        answer.flaky = 1;
        answer.busy = 1;
        server.set("/big", answer);
        let image = rig.image(&format!("FROM base\nADD {} /big", server.url("/big")));
        assert!(image.file("big").content == body, "{ranges} {tag}");
        let resumed = server
            .requests()
            .iter()
            .any(|request| request.range.is_some());
        assert_eq!(
            resumed,
            !tag.starts_with('W'),
            "only the same file is gone on with"
        );
    }
}

#[test]
fn what_cannot_be_fetched_is_one_clear_message() {
    let (rig, server) = (Rig::new(), Registry::start());
    server.set("/busy", Answer::status(429).header("Retry-After", "0"));
    server.set("/denied", Answer::status(403));
    server.set(
        "/cut",
        Answer {
            cut: Some(3),
            ..Answer::ok(b"content")
        },
    );
    let refused = format!("http://127.0.0.1:{}/x", {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().port()
    });
    for (url, whys) in [
        (server.url("/gone"), &["answered 404"][..]),
        (server.url("/busy"), &["answered 429"]),
        (
            server.url("/denied"),
            &["answered 403", "HTTP_AUTH_TOKEN_127.0.0.1"],
        ),
        (server.url("/cut"), &["ended after 3 bytes"]),
        (
            refused,
            &[
                "127.0.0.1 cannot be reached",
                "caused by: Connection refused",
            ],
        ),
    ] {
        rig.dockerfile(&format!("FROM base\nADD {url} /f"));
        let said = rig.build(&[]).exits_with(1).says(whys);
        assert!(
            said.stderr.contains(&format!("cannot fetch {url}")),
            "{}",
            said.stderr
        );
    }
}

#[test]
fn credentials_go_to_their_host_and_nowhere_else() {
    let (rig, server, other) = (Rig::new(), Registry::start(), Registry::start());
    let other_url = other.url("/f");
    // The same address, but another server: its port differs.
    server.set("/f", Answer::status(302).header("Location", &other_url));
    server.set("/here", Answer::status(307).header("Location", "/final"));
    server.set("/final", Answer::ok(b"final"));
    other.set("/f", Answer::ok(b"content"));
    let secret = rig.path("token");
    std::fs::write(&secret, "s3cret\n").unwrap();
    let secret = secret.display();
    let token = format!("id=HTTP_AUTH_TOKEN_127.0.0.1,src={secret}");
    let add = format!(
        "FROM base\nADD {} {} /",
        server.url("/f"),
        server.url("/here")
    );
    rig.dockerfile(&add);
    let outcome = rig.build(&["--secret", &token]).succeeds();
    for request in server.requests() {
        assert_eq!(request.authorization.as_deref(), Some("Bearer s3cret"));
    }
    assert_eq!(other.requests().len(), 1);
    assert_eq!(other.requests()[0].authorization, None);
    assert!(!outcome.stderr.contains("s3cret"));
    let store = rig.store();
    assert!(!grep(&store, b"s3cret"), "the store has the secret");

    let header = format!("id=HTTP_AUTH_HEADER_127.0.0.1,src={secret}");
    rig.build(&["--secret", &header]).succeeds();
    let last = server.requests().pop().unwrap();
    assert_eq!(last.authorization.as_deref(), Some("s3cret"));
    let elsewhere = format!("id=HTTP_AUTH_TOKEN_example.invalid,src={secret}");
    rig.build(&["--secret", &elsewhere]).succeeds();
    assert_eq!(server.requests().pop().unwrap().authorization, None);

    // Of an address the password is used, and not shown; nor does the image have it.
    let url = server.url("/final").replace("//", "//me:hunter2@");
    rig.dockerfile(&format!("FROM base\nADD {url} /f"));
    let image = rig.path("shown.tar");
    let output = format!("type=oci,dest={},compression=uncompressed", image.display());
    rig.build(&["-o", &output]).succeeds();
    assert!(grep(&rig.store(), b"//xxxxx@127.0.0.1"), "no history");
    assert!(
        !grep(&rig.store(), b"hunter2"),
        "the image has the password"
    );
    let url = server.url("/gone").replace("//", "//me:hunter2@");
    rig.dockerfile("FROM base\nARG U\nADD $U /");
    let outcome = rig
        .build(&["--build-arg", &format!("U={url}")])
        .exits_with(1);
    assert_eq!(
        server.requests().pop().unwrap().authorization.as_deref(),
        Some("Basic bWU6aHVudGVyMg==")
    );
    assert!(!outcome.stderr.contains("hunter2"), "{}", outcome.stderr);
}

/// Whether a file below `directory` contains `needle`.
fn grep(directory: &std::path::Path, needle: &[u8]) -> bool {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return false;
    };
    entries.flatten().any(|entry| {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            return grep(&entry.path(), needle);
        }
        kind.is_file()
            && std::fs::read(entry.path())
                .is_ok_and(|bytes| bytes.windows(needle.len()).any(|part| part == needle))
    })
}

#[test]
fn a_redirect_must_lead_somewhere() {
    let (rig, server) = (Rig::new(), Registry::start());
    server.set("/loop", Answer::status(302).header("Location", "/loop"));
    server.set(
        "/file",
        Answer::status(302).header("Location", "file:///etc/passwd"),
    );
    for (path, why) in [("/loop", "too many"), ("/file", "neither http nor https")] {
        rig.dockerfile(&format!("FROM base\nADD {} /f", server.url(path)));
        rig.build(&[]).exits_with(1).says(&["it redirects to", why]);
    }
}

#[test]
fn an_interrupt_ends_a_server_that_says_nothing() {
    use nix::sys::signal::{Signal, kill};
    for scheme in ["http", "git"] {
        if scheme == "git" && !host::tool("git") {
            return;
        }
        let rig = Rig::new();
        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = server.local_addr().unwrap().port();
        rig.dockerfile(&format!("FROM base\nADD {scheme}://127.0.0.1:{port}/x /x"));
        let mut child = rig
            .build_command(&[])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        server.set_nonblocking(true).unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(25);
        let mut connection = None;
        let status = loop {
            if connection.is_none()
                && let Ok(accepted) = server.accept()
            {
                connection = Some(accepted);
                let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
                kill(pid, Signal::SIGINT).unwrap();
            }
            if let Some(status) = child.try_wait().unwrap() {
                break Some(status);
            }
            if std::time::Instant::now() > deadline {
                child.kill().unwrap();
                child.wait().unwrap();
                break None;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        };
        let code = status.and_then(|status| status.code());
        assert_eq!(code, Some(130), "{scheme}");
        let tmp = rig.store().join("tmp");
        assert_eq!(std::fs::read_dir(tmp).unwrap().count(), 0, "{scheme}");
    }
}
