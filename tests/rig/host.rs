//! What the machine under the tests offers.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The binary under test: `RBUILD_BIN`, or the one that cargo built with the tests.
pub(crate) fn binary() -> PathBuf {
    std::env::var_os("RBUILD_BIN").map_or_else(
        || PathBuf::from(env!("CARGO_BIN_EXE_rbuild")),
        PathBuf::from,
    )
}

/// The source tree. The test binary may run where the one it was built in cannot be read, then
/// `CARGO_MANIFEST_DIR` names a copy.
pub(crate) fn source() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from)
}

/// Whether `name` can be run. Says why the test is skipped when it cannot; in CI that is a failure.
pub(crate) fn tool(name: &str) -> bool {
    let found = std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).any(|directory| directory.join(name).is_file())
    });
    if !found {
        let in_ci = std::env::var("CI").is_ok_and(|value| value == "true");
        assert!(!in_ci, "{name} is not installed");
        skip(&format!("{name} is not installed"));
    }
    found
}

/// Whether images may have several owners here: the caller is root or has subordinate ids.
pub(crate) fn maps_many_ids() -> bool {
    let many = is_root() || (has_range("/etc/subuid") && has_range("/etc/subgid"));
    if !many {
        skip("this user has no subordinate ids");
    }
    many
}

pub(crate) fn is_root() -> bool {
    uid() == 0
}

pub(crate) fn uid() -> u32 {
    fs::metadata("/proc/self").unwrap().uid()
}

fn has_range(path: &str) -> bool {
    let uid = uid().to_string();
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.get(2) == Some(&uid.as_str()))
        .map(|fields| fields[0].to_owned());
    fs::read_to_string(path)
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.split(':').next())
        .any(|owner| owner == uid || Some(owner) == name.as_deref())
}

/// The root file system that `scripts/quickstart-base` makes; `scripts/test` names it. Says why the
/// test is skipped when there is none.
pub(crate) fn debian_base() -> Option<PathBuf> {
    let base = std::env::var_os("RBUILD_TEST_DEBIAN").map(PathBuf::from);
    if base.is_none() {
        skip("RBUILD_TEST_DEBIAN names no base");
    }
    base
}

/// Says on the test's output that nothing was tested, and why.
pub(crate) fn skip(reason: &str) {
    println!("skipped: {reason}");
}

/// Runs another program to its end and returns what it printed; its failure is the test's.
#[track_caller]
pub(crate) fn stdout_of(command: &mut Command) -> Vec<u8> {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

/// A static program made of this C source; `None`, and said so, where there is no compiler.
pub(crate) fn compile(source: &str) -> Option<Vec<u8>> {
    if !tool("cc") {
        return None;
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("program.c");
    let program = directory.path().join("program");
    fs::write(&file, source).unwrap();
    stdout_of(
        Command::new("cc")
            .args(["-static", "-O1", "-o"])
            .arg(&program)
            .arg(&file),
    );
    Some(fs::read(program).unwrap())
}

/// The processes of this user whose command line contains `mark`.
pub(crate) fn processes_with(mark: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let is_process = entry.file_name().as_encoded_bytes()[0].is_ascii_digit();
        let command_line = entry.path().join("cmdline");
        if !is_process || entry.path() == Path::new("/proc").join(std::process::id().to_string()) {
            continue;
        }
        let Ok(line) = fs::read(command_line) else {
            continue;
        };
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(mark) {
            found.push(line);
        }
    }
    found
}
