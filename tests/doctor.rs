//! `rbuild doctor`: what it finds on this machine, and the definitions that it prints.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::rig::outcome::Outcome;
use crate::rig::{Rig, host};

/// The rungs, from the best down.
const RUNGS: [&str; 4] = ["mapped", "recorded", "chroot", "copy-only"];

/// What this machine is expected to reach, which allows user namespaces.
fn expected() -> &'static str {
    if host::is_root() || host::maps_many_ids() {
        "mapped"
    } else {
        "recorded"
    }
}

fn report(outcome: &Outcome) -> Value {
    serde_json::from_slice(&outcome.stdout).unwrap()
}

fn probe<'a>(report: &'a Value, name: &str) -> &'a Value {
    let probes = report["probes"].as_array().unwrap();
    let found = probes.iter().find(|probe| probe["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {report}"))
}

#[test]
fn the_rung_is_the_one_that_the_ids_of_the_user_allow() {
    let rig = Rig::empty();
    let report = report(&rig.rbuild(["doctor", "--json"]).succeeds());
    assert_eq!(report["rung"], expected(), "{report}");
    assert_eq!(report["version"], 1);
    assert_eq!(report["opt_in"], Value::Null);
    assert!(report["price"].as_str().unwrap().len() > 10);
    assert_eq!(
        report["store"]["path"].as_str().unwrap(),
        rig.store().to_str().unwrap()
    );
    assert_eq!(probe(&report, "user-namespace")["ok"], true);
    assert_eq!(probe(&report, "overlay")["ok"], true);
    let lacks = report["lacks"].as_array().unwrap();
    let better = RUNGS.iter().position(|rung| *rung == expected()).unwrap();
    assert_eq!(lacks.len(), better, "one for each better rung");
}

#[test]
fn every_probe_says_what_it_found_and_why_that_matters() {
    let rig = Rig::empty();
    let report = report(&rig.rbuild(["doctor", "--json"]).succeeds());
    let mut names = Vec::new();
    for probe in report["probes"].as_array().unwrap() {
        names.push(probe["name"].as_str().unwrap().to_owned());
        assert!(probe["ok"].is_boolean(), "{probe}");
        assert!(!probe["found"].as_str().unwrap().is_empty(), "{probe}");
        assert!(!probe["why"].as_str().unwrap().is_empty(), "{probe}");
    }
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count, "names are unique");
}

#[test]
fn a_required_rung_that_is_not_reached_ends_with_3() {
    let rig = Rig::empty();
    let reached = RUNGS.iter().position(|rung| *rung == expected()).unwrap();
    for (at, rung) in RUNGS.into_iter().enumerate() {
        let outcome = rig.rbuild(["doctor", "--require", rung]);
        if at < reached {
            outcome.exits_with(3).says(&["and mapped is required"]);
        } else {
            outcome.exits_with(0);
        }
    }
    rig.rbuild(["doctor", "--require", "best"])
        .exits_with(2)
        .says(&["mapped, recorded, chroot and copy-only"]);
}

#[test]
fn people_see_a_table_and_the_line_to_add() {
    let rig = Rig::empty();
    let outcome = rig.rbuild(["doctor"]).succeeds();
    let text = String::from_utf8(outcome.stdout).unwrap();
    assert!(text.starts_with("PROBE"), "{text}");
    assert!(
        text.contains(&format!("rung:   {}\n", expected())),
        "{text}"
    );
    if expected() == "recorded" && fs::metadata("/usr/bin/newuidmap").is_ok() {
        let line = "usermod --add-subuids 100000-165535 --add-subgids 100000-165535 ";
        assert!(text.contains(line), "{text}");
    }
}

#[test]
fn without_new_privileges_the_helpers_are_powerless_and_owners_are_recorded() {
    if host::is_root() || !host::tool("setpriv") {
        return;
    }
    let rig = Rig::empty();
    let command = rig.command(["doctor", "--json"]);
    let mut confined = crate::rig::terminal::started_by(
        &["setpriv", "--no-new-privs", "--bounding-set=-all"],
        &command,
    );
    let report = report(&Outcome::of(confined.stdin(Stdio::null())).succeeds());
    assert_eq!(report["rung"], "recorded", "{report}");
    assert_eq!(probe(&report, "id-map")["ok"], false);
    if host::maps_many_ids() {
        let found = probe(&report, "newuidmap")["found"].as_str().unwrap();
        assert!(found.contains("no_new_privs"), "{found}");
        let remedies = report["lacks"][0]["remedies"].to_string();
        assert!(
            remedies.contains("allowPrivilegeEscalation: true"),
            "{remedies}"
        );
    }
}

#[test]
fn a_host_without_user_namespaces_is_told_what_to_change() {
    if host::is_root() || !host::tool("unshare") {
        return;
    }
    let rig = Rig::empty();
    // In a namespace that may have no further ones; and then as nobody's root.
    let mut command = Command::new("unshare");
    command
        .args(["--user", "--map-root-user", "sh", "-c"])
        .arg(
            "echo 0 > /proc/sys/user/max_user_namespaces && \
             exec unshare --user --map-user=5 --map-group=5 true 2>/dev/null || \
             exec \"$0\" --root \"$1\" doctor --json",
        )
        .arg(host::binary())
        .arg(rig.store());
    let outcome = Outcome::of(command.stdin(Stdio::null()));
    if outcome.code != Some(0) || outcome.stdout.is_empty() {
        return host::skip("the limit of a namespace cannot be set here");
    }
    let report = report(&outcome);
    assert_eq!(probe(&report, "user-namespace")["ok"], false);
    let found = probe(&report, "user-namespace")["found"].as_str().unwrap();
    assert!(found.contains("user.max_user_namespaces"), "{found}");
    assert!(["chroot", "copy-only"].contains(&report["rung"].as_str().unwrap()));
    let remedies = report["lacks"].to_string();
    assert!(
        remedies.contains("sysctl -w user.max_user_namespaces="),
        "{remedies}"
    );
}

#[test]
fn looking_makes_no_store_and_leaves_nothing_behind() {
    let rig = Rig::empty();
    rig.rbuild(["doctor"]).succeeds();
    assert!(!rig.store().exists());
    let left: Vec<_> = fs::read_dir(rig.store().parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["context"]);
}

#[test]
fn definitions_are_the_files_that_the_matrix_tries() {
    let rig = Rig::empty();
    for (name, file) in [
        ("k8s", "kubernetes-job.yaml"),
        ("kubernetes", "kubernetes-job.yaml"),
        ("gitlab", "gitlab-ci.yml"),
        ("github", "github-workflow.yml"),
        ("docker", "docker-run.sh"),
        ("tekton", "tekton-task.yaml"),
        ("seccomp", "seccomp-rbuild.json"),
        ("apparmor", "apparmor-rbuild"),
    ] {
        let printed = rig.rbuild(["doctor", "--for", name]).succeeds().stdout;
        let path = host::source().join("scripts/ci").join(file);
        assert_eq!(printed, fs::read(path).unwrap(), "{name}");
        let text = String::from_utf8(printed).unwrap();
        assert!(text.ends_with('\n') && !text.contains('\t'), "{name}");
        if file.ends_with("ml") {
            // YAML indents by two here, outside of the text of a script.
            let odd = text.lines().find(|line| {
                let indent = line.len() - line.trim_start().len();
                indent % 2 != 0
            });
            assert_eq!(odd, None, "{name}");
        }
    }
    rig.rbuild(["doctor", "--for", "jenkins"])
        .exits_with(2)
        .says(&["k8s, gitlab, github, docker, tekton"]);
}

#[test]
fn pods_meet_the_restricted_standard() {
    for file in ["kubernetes-job.yaml", "tekton-task.yaml"] {
        let text = fs::read_to_string(host::source().join("scripts/ci").join(file)).unwrap();
        for line in [
            "runAsNonRoot: true",
            "allowPrivilegeEscalation: false",
            "drop: [\"ALL\"]",
            "type: Localhost",
            "localhostProfile: profiles/rbuild.json",
            "emptyDir: {}",
        ] {
            assert!(text.contains(line), "{file} has no {line}");
        }
    }
}

#[test]
fn the_seccomp_profile_allows_what_a_sandbox_is_made_with() {
    let path = host::source().join("scripts/ci/seccomp-rbuild.json");
    let profile: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ALLOW");
    let denied = profile["syscalls"].to_string();
    for call in [
        "unshare",
        "clone",
        "mount",
        "fsopen",
        "pivot_root",
        "seccomp",
        "setns",
    ] {
        assert!(!denied.contains(&format!("\"{call}\"")), "{call}");
    }
    assert!(denied.contains("\"init_module\""));
}

#[test]
fn the_script_for_docker_is_one_that_a_shell_can_read() {
    let path = host::source().join("scripts/ci/docker-run.sh");
    let checked = Command::new("sh").arg("-n").arg(path).status().unwrap();
    assert!(checked.success());
}
