//! After builds that use a secret in every way: no file, no output and no process has it.

use std::fs;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use base64::Engine as _;

use crate::rig::outcome::Outcome;
use crate::rig::terminal::Terminal;
use crate::rig::{Rig, host, terminal};

const SECRET: &str = "Xq7-tenant-secret-Zw42/+?";

/// The secret's bytes, and what of its encodings does not depend on what is around it.
fn forms() -> Vec<Vec<u8>> {
    let mut forms = vec![SECRET.as_bytes().to_vec()];
    for before in 0..3 {
        let bytes = [&b"xx"[..before], SECRET.as_bytes()].concat();
        let text = base64::engine::general_purpose::STANDARD_NO_PAD.encode(&bytes);
        let (from, to) = ((before * 8).div_ceil(6), bytes.len() * 8 / 6);
        forms.push(text.as_bytes()[from..to].to_vec());
    }
    forms
}

fn has_secret(bytes: &[u8], forms: &[Vec<u8>]) -> bool {
    forms
        .iter()
        .any(|form| bytes.windows(form.len()).any(|window| window == form))
}

/// Reads every name and every file below `directory`, compressed ones as well, but for `except`.
fn search(directory: &Path, except: &[PathBuf], forms: &[Vec<u8>], read: &mut usize) {
    // Work directories of overlays cannot be opened, and are empty.
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries.map(Result::unwrap) {
        let path = entry.path();
        if except.contains(&path) {
            continue;
        }
        let name = path.file_name().unwrap().as_bytes();
        assert!(!has_secret(name, forms), "the name {path:?}");
        let metadata = path.symlink_metadata().unwrap();
        if metadata.is_dir() {
            search(&path, except, forms, read);
        } else if metadata.is_symlink() {
            let target = fs::read_link(&path).unwrap();
            assert!(
                !has_secret(target.as_os_str().as_bytes(), forms),
                "{path:?}"
            );
        } else if metadata.is_file() {
            let bytes = fs::read(&path).unwrap();
            *read += 1;
            assert!(!has_secret(&bytes, forms), "{path:?}");
            if bytes.starts_with(&[0x1f, 0x8b]) {
                let mut plain = Vec::new();
                flate2::read::MultiGzDecoder::new(bytes.as_slice())
                    .read_to_end(&mut plain)
                    .unwrap();
                assert!(!has_secret(&plain, forms), "{path:?}, decompressed");
            }
        }
    }
}

/// A rig whose secret is in a file outside of everything, and what builds with it.
struct Stand {
    rig: Rig,
    token: PathBuf,
}

impl Stand {
    fn new() -> Self {
        let rig = Rig::new();
        let token = rig.path("token");
        fs::write(&token, format!("{SECRET}\n")).unwrap();
        fs::create_dir(rig.path("tmp")).unwrap();
        Self { rig, token }
    }

    fn build_command(&self, dockerfile: &str, options: &[&str]) -> std::process::Command {
        self.rig.dockerfile(dockerfile);
        let secret = format!("id=s,src={}", self.token.display());
        let mut command = self.rig.command(["build", "--secret", &secret]);
        command
            .args(options)
            .arg(self.rig.context())
            .env("TMPDIR", self.rig.path("tmp"))
            .env("XDG_CACHE_HOME", self.rig.path("tmp"));
        command
    }

    /// Builds with each kind of progress; no output has the secret.
    fn build(&self, dockerfile: &str, options: &[&str]) -> Vec<Outcome> {
        let outcomes = ["plain", "rawjson", "quiet"].map(|mode| {
            let mode = format!("--progress={mode}");
            let all = [&[mode.as_str(), "--no-cache"], options].concat();
            let command = self.build_command(dockerfile, &all);
            Outcome::bounded(&command)
        });
        let all = [&["--progress=tty", "--no-cache"], options].concat();
        let command = self.build_command(dockerfile, &all);
        let bounded = terminal::bounded(&command);
        let mut terminal = Terminal::start(&bounded, 100, 40);
        terminal.end();
        self.is_clean(terminal.screen.as_bytes());
        for outcome in &outcomes {
            self.is_clean(outcome.stderr.as_bytes());
            self.is_clean(&outcome.stdout);
            for line in outcome.stderr.lines() {
                self.is_clean_json(line);
            }
        }
        outcomes.into()
    }

    fn is_clean(&self, bytes: &[u8]) {
        let shown = String::from_utf8_lossy(bytes);
        assert!(!has_secret(bytes, &forms()), "{shown}");
    }

    /// The logs of rawjson are base64 themselves.
    fn is_clean_json(&self, line: &str) {
        let Ok(value) = serde_json::from_str::<serde_json::Value>(line) else {
            return;
        };
        for log in value["logs"].as_array().into_iter().flatten() {
            let data = log["data"].as_str().unwrap_or_default();
            let data = base64::engine::general_purpose::STANDARD.decode(data);
            self.is_clean(&data.unwrap_or_default());
        }
    }

    /// No file of the store, the outputs or scratch space has the secret.
    fn nothing_is_left(&self) {
        let mut read = 0;
        search(
            &self.rig.path(""),
            std::slice::from_ref(&self.token),
            &forms(),
            &mut read,
        );
        assert!(read > 10, "{read} files were looked at");
    }
}

/// What commands do with the secret and its parts.
const USES: [&str; 9] = [
    "cat /run/secrets/s",
    "echo $T; echo $T >&2",
    "printf %s \"$T\"",
    // One write, two writes with time between them, two lines, two streams.
    "printf 'a%sb%sc\\n' $T $T",
    "printf %s ${T%tenant*}; sleep 0.3; echo ${T#Xq7-}",
    "printf '%s\\n%s\\n' ${T%secret*} ${T#*tenant-}",
    "base64 /run/secrets/s; echo -n $T | base64; echo -n user:$T | base64; echo -n us:$T | base64",
    "yes x | head -c 100000 | tr -d '\\n'; echo $T",
    "printf 'progress\\r%s\\r' $T; printf '\\033[1m%s\\033[0m' $T",
];

#[test]
fn steps_that_succeed_leave_nothing_of_their_secrets() {
    let stand = Stand::new();
    let mounts = "--mount=type=secret,id=s --mount=type=secret,id=s,env=T";
    let steps: String = USES.map(|run| format!("RUN {mounts} {run}\n")).concat();
    let archive = format!("type=oci,dest={}", stand.rig.path("out.tar").display());
    let outcomes = stand.build(
        &format!("FROM base\n{steps}"),
        &["-o", &archive, "-t", "app"],
    );
    for outcome in outcomes {
        outcome.succeeds();
    }
    for command in [&["history", "--no-trunc", "app"][..], &["inspect", "app"]] {
        let outcome = stand.rig.rbuild(command).succeeds();
        stand.is_clean(&outcome.stdout);
    }
    stand.nothing_is_left();
    stand.rig.rbuild(["store", "check"]).succeeds();
}

#[test]
fn steps_that_fail_or_are_ended_leave_nothing_of_their_secrets() {
    let stand = Stand::new();
    let mounts = "--mount=type=secret,id=s --mount=type=secret,id=s,env=T";
    for (run, limits) in [
        ("cat /run/secrets/s; echo $T > /left; false", "none"),
        (
            "printf %s $T; echo $T > /left; ulimit -c unlimited; kill -SEGV $$",
            "none",
        ),
        (
            "echo $T > /left; base64 /left; sleep 1000",
            "step-seconds=1",
        ),
        (
            "while :; do echo $T; echo $T >> /left; done",
            "written-bytes=1m,step-seconds=60",
        ),
    ] {
        let limits = ["--limits", limits];
        let options = if limits[1] == "none" {
            &[][..]
        } else {
            &limits
        };
        for outcome in stand.build(&format!("FROM base\nRUN {mounts} {run}"), options) {
            outcome.exits_with(1);
        }
    }
    stand.nothing_is_left();
}

#[test]
fn no_process_of_rbuild_shows_a_secret() {
    let stand = Stand::new();
    let dockerfile = "FROM base\nRUN --mount=type=secret,id=s --mount=type=secret,id=s,env=T \
                      echo begun; sleep 100";
    let mut child = stand
        .build_command(dockerfile, &["--progress=plain"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = child.stderr.take().unwrap();
    let (mut seen, mut buffer) = (Vec::new(), [0; 4096]);
    while !String::from_utf8_lossy(&seen).contains(" begun\n") {
        let length = stderr.read(&mut buffer).unwrap();
        assert!(length > 0, "{}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&buffer[..length]);
    }
    let binary = fs::metadata(host::binary()).unwrap();
    let mut processes = 0;
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let path = entry.path();
        let Ok(executed) = fs::metadata(path.join("exe")) else {
            continue;
        };
        if (executed.dev(), executed.ino()) != (binary.dev(), binary.ino()) {
            continue;
        }
        processes += 1;
        for file in ["cmdline", "environ", "comm", "mountinfo"] {
            let bytes = fs::read(path.join(file)).unwrap_or_default();
            assert!(!has_secret(&bytes, &forms()), "{path:?}, {file}");
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(processes >= 1);
    stand.nothing_is_left();
}
