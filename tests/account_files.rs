//! Files of accounts that are larger than memory (CVE-2026-47262, GHSA-72x6-4j93-7w86).

use crate::rig::outcome::Outcome;
use crate::rig::{Rig, terminal};

/// What the process may have, in MiB of addresses: enough for its threads, and not for the file.
const ENOUGH: u32 = 1000;
const LARGE: u32 = 1100;

#[test]
fn a_huge_file_of_accounts_is_refused_without_being_read() {
    let rig = Rig::new();
    let huge = format!("truncate -s {LARGE}M /etc/passwd && ln -f /etc/passwd /etc/group");
    rig.write("f", "x").dockerfile(&format!(
        "FROM base AS evil\nRUN {huge}\n\
         FROM evil AS user\nUSER app:staff\nRUN true\n\
         FROM evil AS owner\nCOPY --chown=app:staff f /f\n\
         FROM evil AS group\nUSER 0:staff\nRUN true\n\
         FROM evil AS works\nCOPY --chown=1:1 f /f"
    ));
    rig.build(&["--target", "evil", "-t", "evil"]).succeeds();
    let limit = format!("ulimit -v {} && exec \"$@\"", ENOUGH * 1024);
    let program = ["timeout", "-k", "5", "120", "sh", "-c", &limit, "sh"];
    for (target, code) in [("user", 1), ("owner", 1), ("group", 1), ("works", 0)] {
        let build = rig.build_command(&["--target", target]);
        let outcome = Outcome::of(&mut terminal::started_by(&program, &build));
        assert_eq!(outcome.code, Some(code), "{target}: {}", outcome.stderr);
        let is_refused = outcome.stderr.contains("is larger than 10485760 bytes");
        assert_eq!(is_refused, code == 1, "{target}: {}", outcome.stderr);
    }
    let run = rig.command(["run", "--rm", "-u", "app", "evil", "/bin/true"]);
    let outcome = Outcome::of(&mut terminal::started_by(&program, &run));
    assert!(matches!(outcome.code, Some(125..=127)), "{outcome:?}");
    outcome.says(&["is larger than 10485760 bytes"]);
}
