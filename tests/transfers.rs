//! Transfers that are killed, interrupted or shared: what stays, and what the next one makes of it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::rig::faulty::{Act, Heard};
use crate::rig::outcome::Outcome;
use crate::rig::stand::{Stand, on, pull};
use crate::rig::terminal::Terminal;
use crate::rig::{Rig, host};

/// Longer than anything that a test waits for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Answers with the first `count` bytes of `blob`, then says nothing more.
fn stalled(blob: &[u8], count: usize) -> impl Fn() -> Act + Send + Sync + 'static {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", blob.len());
    let bytes = [head.as_bytes(), &blob[..count]].concat();
    move || Act::Forever(bytes.clone(), Vec::new(), 50)
}

/// The file in which the beginning of a blob is kept.
fn partial(rig: &Rig, digest: &str) -> PathBuf {
    let (_, hex) = digest.split_once(':').unwrap();
    rig.store().join("partial").join(hex)
}

fn has_blob(rig: &Rig, digest: &str) -> bool {
    let path = format!("oci/blobs/{}", digest.replace(':', "/"));
    rig.store().join(path).exists()
}

#[track_caller]
fn wait_until(what: &str, child: &mut Child, condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        if began.elapsed() > PATIENCE {
            drop(child.kill());
            panic!("{what} did not come about");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn spawn(mut command: Command) -> Child {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// A command that pulls with the usual patience, so that only signals end it.
fn patient(rig: &Rig, name: &str) -> Command {
    rig.command(["pull", name])
}

/// Starts `command`, which downloads the last layer, and kills it when some of that has arrived.
fn killed(stand: &Stand, rig: &Rig, command: Command) {
    let last = stand.last();
    let layer = stand.server.blob(&last).unwrap();
    stand
        .server
        .fail(on("GET", &last, stalled(&layer, 280_000)));
    let mut child = spawn(command);
    let file = partial(rig, &last);
    wait_until("a beginning of the layer", &mut child, || {
        fs::metadata(&file).is_ok_and(|file| file.len() > 0)
    });
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!has_blob(rig, &last));
}

/// The first bytes of the parts of the last layer that were asked for.
fn ranges(stand: &Stand) -> Vec<Option<String>> {
    let heard = stand.server.heard();
    let asked = heard.iter().filter(|heard| heard.is("GET", &stand.last()));
    asked
        .map(|heard| heard.headers.get("range").cloned())
        .collect()
}

fn healthy(_: &Heard) -> Act {
    Act::Serve
}

#[test]
fn a_killed_pull_goes_on_where_it_was() {
    let stand = Stand::new();
    let rig = Rig::new();
    let before = rig.store_listing();
    killed(&stand, &rig, patient(&rig, &stand.name()));
    assert_eq!(rig.store_listing(), before, "nothing of it is content");
    let there = fs::metadata(partial(&rig, &stand.last())).unwrap().len();
    stand.server.fail(healthy);
    Outcome::of(&mut patient(&rig, &stand.name())).succeeds();
    assert_eq!(ranges(&stand), [Some(format!("bytes={there}-"))]);
    assert!(has_blob(&rig, &stand.last()));
    assert!(!partial(&rig, &stand.last()).exists());
    rig.dockerfile(&format!("FROM {}\nRUN test -s /large", stand.name()));
    rig.build(&[]).succeeds();
}

#[test]
fn a_killed_build_goes_on_where_it_was() {
    let stand = Stand::new();
    let rig = Rig::new();
    rig.dockerfile(&format!("FROM {}\nRUN test -s /large", stand.name()));
    killed(&stand, &rig, rig.build_command(&[]));
    stand.server.fail(healthy);
    rig.build(&[]).succeeds();
    let asked = ranges(&stand);
    assert_eq!(asked.len(), 1);
    assert!(asked[0].is_some());
}

#[test]
fn a_killed_build_that_lacks_one_layer_goes_on_where_it_was() {
    let stand = Stand::new();
    let below = format!("{}/team/app:below", stand.server.host());
    stand.rig.dockerfile("FROM base\nRUN echo one > /one");
    stand.rig.build(&["-t", &below]).succeeds();
    stand.rig.rbuild(["push", &below]).succeeds();
    let rig = Rig::empty();
    rig.rbuild(["pull", &below]).succeeds();
    rig.dockerfile(&format!("FROM {}\nRUN test -s /large", stand.name()));
    killed(&stand, &rig, rig.build_command(&[]));
    stand.server.fail(healthy);
    rig.build(&[]).succeeds();
    let asked = ranges(&stand);
    assert_eq!(asked.len(), 1);
    assert!(asked[0].is_some());
    assert!(has_blob(&rig, &stand.last()));
    assert!(!partial(&rig, &stand.last()).exists());
}

#[test]
fn a_registry_that_gives_no_parts_is_asked_for_the_whole() {
    let stand = Stand::new();
    let last = stand.last();
    let layer = stand.server.blob(&last).unwrap();
    let answer = |status: u16, range: &str, body: &[u8]| {
        let headers = vec![("Content-Range".to_owned(), range.to_owned())];
        let body = body.to_vec();
        move || Act::Answer(status, headers.clone(), body.clone())
    };
    let size = layer.len();
    for (part, tries) in [
        (answer(200, "", &layer), 1),
        (answer(416, &format!("bytes */{size}"), b""), 2),
        (
            answer(206, &format!("bytes 0-{}/{size}", size - 1), &layer),
            2,
        ),
        (
            answer(206, &format!("bytes 270000-280000/{}", size + 1), b"x"),
            2,
        ),
        (answer(206, "", &layer), 2),
    ] {
        let rig = Rig::new();
        killed(&stand, &rig, patient(&rig, &stand.name()));
        let last = last.clone();
        stand.server.fail(move |heard| {
            if heard.is("GET", &last) && heard.headers.contains_key("range") {
                part()
            } else {
                Act::Serve
            }
        });
        Outcome::of(&mut patient(&rig, &stand.name())).succeeds();
        assert_eq!(ranges(&stand).len(), tries);
        assert!(has_blob(&rig, &stand.last()));
    }
}

#[test]
fn a_wrong_beginning_is_thrown_away_and_the_blob_fetched_anew() {
    let stand = Stand::new();
    let last = stand.last();
    let size = stand.server.blob(&last).unwrap().len();
    for (wrong, expected) in [
        (
            vec![0; 100_000],
            vec![Some("bytes=100000-".to_owned()), None],
        ),
        (vec![0; size], vec![None]),
        (vec![0; size + 1], vec![None]),
    ] {
        let rig = Rig::new();
        let file = partial(&rig, &last);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, wrong).unwrap();
        stand.server.fail(healthy);
        Outcome::of(&mut patient(&rig, &stand.name())).succeeds();
        assert_eq!(ranges(&stand), expected);
        let path = format!("oci/blobs/{}", last.replace(':', "/"));
        let there = fs::read(rig.store().join(path)).unwrap();
        assert!(Some(there) == stand.server.blob(&last));
        assert!(!file.exists());
    }
}

#[test]
fn bytes_that_are_not_the_images_leave_no_beginning() {
    let stand = Stand::new();
    let last = stand.last();
    let mut forged = stand.server.blob(&last).unwrap();
    forged[20_000] ^= 1;
    stand.server.fail(on("GET", &last, move || {
        Act::Answer(200, Vec::new(), forged.clone())
    }));
    let rig = Rig::new();
    Outcome::of(&mut pull(&rig, &stand.name())).exits_with(1);
    assert!(!partial(&rig, &last).exists());
    rig.dockerfile(&format!("FROM {}", stand.name()));
    rig.build(&[]).exits_with(1);
    assert!(!partial(&rig, &last).exists());
}

#[test]
fn two_pulls_of_one_image_do_not_disturb_each_other() {
    let stand = Stand::new();
    let rig = Rig::new();
    let last = stand.last();
    let layer = stand.server.blob(&last).unwrap();
    let first_only = std::sync::atomic::AtomicBool::new(false);
    let stall = stalled(&layer, 280_000);
    let digest = last.clone();
    stand.server.fail(move |heard| {
        let seen = || first_only.swap(true, std::sync::atomic::Ordering::SeqCst);
        if heard.is("GET", &digest) && !seen() {
            stall()
        } else {
            Act::Serve
        }
    });
    let mut first = spawn(pull(&rig, &stand.name()));
    let file = partial(&rig, &last);
    wait_until("a beginning of the layer", &mut first, || {
        fs::metadata(&file).is_ok_and(|file| file.len() > 0)
    });
    Outcome::of(&mut patient(&rig, &stand.name())).succeeds();
    assert!(has_blob(&rig, &last));
    // The first gives its connection up after a second and goes on where it was.
    Outcome::from(first.wait_with_output().unwrap()).succeeds();
    let path = format!("oci/blobs/{}", last.replace(':', "/"));
    assert!(fs::read(rig.store().join(path)).unwrap() == layer);
    assert!(!file.exists());
}

#[test]
fn beginnings_are_counted_and_pruned() {
    let rig = Rig::new();
    let file = partial(&rig, &format!("sha256:{}", "ab".repeat(32)));
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, vec![1; 1 << 20]).unwrap();
    let usage = rig.rbuild(["du"]).succeeds();
    let usage = String::from_utf8(usage.stdout).unwrap();
    let row = usage.lines().find(|line| line.starts_with("Partial blobs"));
    assert!(row.unwrap().contains("1.05MB"), "{usage}");
    rig.rbuild(["builder", "prune", "-f"]).succeeds();
    assert!(!file.exists());

    // Old ones go by themselves.
    fs::write(&file, b"old").unwrap();
    let time = std::time::SystemTime::now() - Duration::from_secs(30 * 24 * 3600);
    let old = fs::File::options().write(true).open(&file).unwrap();
    old.set_modified(time).unwrap();
    drop(old);
    rig.dockerfile("FROM base");
    rig.build(&[]).succeeds();
    assert!(!file.exists());
}

/// That SIGINT ends `command` soon, once `ready`, with code 130 and one line of error.
#[track_caller]
fn interrupted(command: Command, ready: impl Fn() -> bool) {
    let mut child = spawn(command);
    wait_until("the request", &mut child, ready);
    std::thread::sleep(Duration::from_millis(100));
    let sent = Instant::now();
    host::stdout_of(Command::new("kill").args(["-s", "INT", &child.id().to_string()]));
    while child.try_wait().unwrap().is_none() {
        // The promise is a fifth of a second; the machine under a test suite may be slow, and the
        // patience with a silent server is half a minute.
        if sent.elapsed() > Duration::from_secs(5) {
            drop(child.kill());
            panic!("not ended after {:?}", sent.elapsed());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let outcome = Outcome::from(child.wait_with_output().unwrap()).exits_with(130);
    assert_eq!(
        outcome.stderr.matches("error: ").count(),
        1,
        "{}",
        outcome.stderr
    );
    assert!(outcome.stderr.contains("interrupted"), "{}", outcome.stderr);
}

#[test]
fn an_interrupt_ends_a_transfer_from_a_silent_registry() {
    let stand = Stand::new();
    let last = stand.last();
    let layer = stand.server.blob(&last).unwrap();
    let silence = || Act::Forever(Vec::new(), Vec::new(), 50);
    let heard = |method: &'static str, part: &str| {
        let part = part.to_owned();
        let server = &stand.server;
        move || server.heard().iter().any(|heard| heard.is(method, &part))
    };
    let rig = Rig::new();
    rig.dockerfile(&format!("FROM {}\nRUN true", stand.name()));
    let before = rig.store_listing();

    for command in [patient(&rig, &stand.name()), rig.build_command(&[])] {
        stand.server.fail(on("GET", "/manifests/", silence));
        interrupted(command, heard("GET", "/manifests/"));
        assert_eq!(rig.store_listing(), before);
    }
    for command in [patient(&rig, &stand.name()), rig.build_command(&[])] {
        stand.server.fail(on("GET", &last, stalled(&layer, 1000)));
        interrupted(command, heard("GET", &last));
        assert_eq!(rig.store_listing(), before);
    }
    // Between two tries it only waits.
    stand.server.fail(|_| {
        let wait = vec![("Retry-After".to_owned(), "60".to_owned())];
        Act::Answer(429, wait, Vec::new())
    });
    interrupted(patient(&rig, &stand.name()), heard("GET", "/manifests/"));

    let programs = rig.path("bin");
    fs::create_dir(&programs).unwrap();
    fs::create_dir(rig.path("docker-config")).unwrap();
    fs::write(
        rig.path("docker-config/config.json"),
        r#"{"credsStore":"slow"}"#,
    )
    .unwrap();
    let helper = programs.join("docker-credential-slow");
    let started = rig.path("started");
    let mark = format!("sleep 6{:06}", std::process::id());
    let script = format!("#!/bin/sh\ntouch {}\nexec {mark}\n", started.display());
    fs::write(&helper, script).unwrap();
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let mut command = patient(&rig, &stand.name());
    command.env("PATH", path);
    interrupted(command, || started.exists());
    assert_eq!(host::processes_with(&mark), [""; 0]);

    let before = stand.rig.store_listing();
    for (method, part) in [
        ("HEAD", "/blobs/"),
        ("PATCH", "/uploads/"),
        ("PUT", "/manifests/"),
    ] {
        stand.server.forget_blob(&last);
        stand.server.fail(on(method, part, silence));
        let push = stand.rig.command(["push", &stand.name()]);
        interrupted(push, heard(method, part));
        assert_eq!(stand.rig.store_listing(), before);
    }
}

#[test]
fn a_terminal_sees_each_layer_and_their_sum() {
    let stand = Stand::new();
    let last = stand.last();
    let layer = stand.server.blob(&last).unwrap();
    stand
        .server
        .fail(on("GET", &last, stalled(&layer, 150_000)));
    let rig = Rig::new();
    let mut terminal = Terminal::start(pull(&rig, &stand.name()).env("TERM", "xterm"), 100, 24);
    let short = &last["sha256:".len()..][..12];
    terminal.wait_for(&format!("sha256:{short} ["));
    terminal.wait_for("total [");
    terminal.wait_for("[+] Pulling ");
    stand.server.fail(healthy);
    terminal.wait_for(&format!("{short}: Pull complete"));
    terminal.wait_for("Status: Downloaded newer image for");
    assert_eq!(terminal.end(), Some(0));

    stand.server.forget_blob(&last);
    let waits = std::sync::atomic::AtomicUsize::new(0);
    stand.server.fail(on("PUT", "/uploads/", move || {
        if waits.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0 {
            std::thread::sleep(Duration::from_secs(1));
        }
        Act::Serve
    }));
    let mut push = stand.rig.command(["push", &stand.name()]);
    let mut terminal = Terminal::start(push.env("TERM", "xterm"), 100, 24);
    terminal.wait_for(&format!("sha256:{short} ["));
    terminal.wait_for("total [");
    terminal.wait_for(&format!("{short}: Pushed"));
    terminal.wait_for(": Layer already exists");
    assert_eq!(terminal.end(), Some(0));
}
