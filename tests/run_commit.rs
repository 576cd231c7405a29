//! `rbuild run --commit`: an image of what a command did.

use std::process::Command;

use crate::rig::outcome::Outcome;
use crate::rig::{Rig, host};

fn text(outcome: &Outcome) -> String {
    String::from_utf8(outcome.stdout.clone()).unwrap()
}

#[test]
fn a_kept_container_is_an_image() {
    let rig = Rig::new();
    rig.write("data", "mounted");
    rig.dockerfile("FROM base\nENV KEPT=yes\nCMD [\"cat\", \"/made\"]");
    rig.build(&["-t", "first"]).succeeds();
    let volume = format!("{}:/deep/mnt", rig.context().display());
    let outcome = rig
        .run(&[
            "--commit",
            "second",
            "-v",
            &volume,
            "--tmpfs",
            "/var/t",
            "-e",
            "SECRET=x",
            "first",
            "sh",
            "-c",
            "echo made > /made; rm /etc/group; echo shown",
        ])
        .succeeds();
    assert_eq!(
        text(&outcome),
        "shown\n",
        "standard output is the command's"
    );
    let id = outcome.stderr.lines().last().unwrap().to_owned();
    assert!(id.starts_with("sha256:"), "{}", outcome.stderr);
    assert_eq!(text(&rig.run(&["second"]).succeeds()), "made\n");
    assert_eq!(text(&rig.run(&[&id]).succeeds()), "made\n");

    let image = rig.image("FROM second");
    assert_eq!(image.last_layer(), ["etc", "etc/.wh.group", "made"]);
    assert_eq!(image.setting("Cmd"), &serde_json::json!(["cat", "/made"]));
    let env = image.setting("Env").to_string();
    assert!(env.contains("KEPT=yes") && !env.contains("SECRET"), "{env}");
    let history = image.config["history"].as_array().unwrap();
    let last = history.last().unwrap()["created_by"].as_str().unwrap();
    assert!(last.starts_with("rbuild run sh -c echo made"), "{last}");
}

#[test]
fn a_command_that_fails_or_changes_nothing_makes_no_layer() {
    let rig = Rig::new();
    rig.run(&["--commit", "failed", "base", "sh", "-c", "touch /x; exit 3"])
        .exits_with(3)
        .says(&["is not made: the command ended with 3"]);
    rig.run(&["--pull=never", "failed", "true"]).exits_with(125);
    rig.run(&["--commit", "same", "base", "true"]).succeeds();
    let (same, base) = (rig.image("FROM same"), rig.image("FROM base"));
    assert_eq!(same.layers.len(), base.layers.len());
    rig.run(&["--commit", "a@sha256:0", "base", "true"])
        .exits_with(125);
}

#[test]
fn skopeo_reads_a_kept_image_in_the_store() {
    if !host::tool("skopeo") {
        return;
    }
    let rig = Rig::new();
    rig.run(&["--commit", "kept:v1", "base", "touch", "/new"])
        .succeeds();
    let place = format!(
        "oci:{}/oci:docker.io/library/kept:v1",
        rig.store().display()
    );
    let shown = host::stdout_of(Command::new("skopeo").args(["inspect", "--config", &place]));
    let shown = String::from_utf8(shown).unwrap();
    assert!(shown.contains("rbuild run touch /new"), "{shown}");
}
