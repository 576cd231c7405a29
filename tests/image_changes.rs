//! Images that are made without a Dockerfile and changed by its instructions, and `system prune`.

use std::fs;

use serde_json::Value;

use crate::rig::Rig;
use crate::rig::image::json;
use crate::rig::outcome::Outcome;
use crate::rig::registry::{Answer, Registry};

fn says(rig: &Rig, arguments: &[&str]) -> String {
    let outcome = rig.rbuild(arguments).succeeds();
    String::from_utf8(outcome.stdout).unwrap()
}

#[test]
fn the_whole_store_is_pruned_as_docker_prunes_a_system() {
    let rig = Rig::new();
    rig.dockerfile("FROM base\nRUN echo one > /one");
    rig.build(&["-t", "app"]).succeeds();
    rig.dockerfile("FROM base\nRUN echo two > /two");
    rig.build(&["-t", "app"]).succeeds();
    rig.rbuild(["system", "prune"]).exits_with(2).says(&[
        "all dangling images",
        "unused build cache",
        "confirm it with -f",
    ]);
    rig.rbuild(["system", "prune", "--volumes", "-f"])
        .exits_with(2)
        .says(&["--volumes"]);
    let pruned = says(&rig, &["system", "prune", "-f"]);
    for part in ["Deleted Images:\n", "Total reclaimed space: "] {
        assert!(pruned.contains(part), "{pruned}");
    }
    assert_eq!(says(&rig, &["images", "-q"]).lines().count(), 2);
    let again = rig.build(&["-t", "app"]).succeeds();
    assert!(
        again.is_cached("RUN echo two > /two"),
        "images keep their cache"
    );
    let pruned = says(&rig, &["system", "prune", "-a", "-f"]);
    assert!(pruned.contains("untagged: app:latest\n"), "{pruned}");
    assert_eq!(says(&rig, &["images", "-q"]), "");
    assert_eq!(
        says(&Rig::empty(), &["system", "prune", "-f"]),
        "Total reclaimed space: 0B\n"
    );
}

#[test]
fn an_import_takes_instructions_a_comment_a_platform_and_an_address() {
    let rig = Rig::new();
    let import = |arguments: &[&str]| -> Outcome { rig.rbuild([&["import"], arguments].concat()) };
    import(&[
        "-c",
        "CMD [\"/bin/sh\", \"-c\", \"echo $A\"]",
        "--change=ENV A=1 B=2",
        "-c",
        "WORKDIR /srv",
        "-c",
        "LABEL a=$B",
        "-c",
        "EXPOSE 80",
        "-m",
        "my words",
        "--platform=linux/arm/v6",
        "base.tar",
        "one",
    ])
    .succeeds();
    let mut images: Value = json(says(&rig, &["inspect", "one"]).as_bytes());
    let image = images[0].take();
    assert_eq!(image["Config"]["Cmd"][2], "echo $A");
    assert_eq!(image["Config"]["Env"], serde_json::json!(["A=1", "B=2"]));
    assert_eq!(image["Config"]["WorkingDir"], "/srv");
    assert_eq!(image["Config"]["Labels"]["a"], "2");
    assert!(image["Config"]["ExposedPorts"]["80/tcp"].is_object());
    assert_eq!(image["Comment"], "my words");
    assert_eq!(
        (&image["Architecture"], &image["Variant"]),
        (&"arm".into(), &"v6".into())
    );
    let history = says(&rig, &["history", "-q", "one"]);
    assert_eq!(history.lines().count(), 1, "changes have no rows");
    import(&["-c", "RUN true", "base.tar", "two"])
        .exits_with(2)
        .says(&["RUN is not a valid change command"]);
    import(&["-c", "STOPSIGNAL nothing", "base.tar", "two"])
        .exits_with(2)
        .says(&["invalid signal"]);
    rig.rbuild(["inspect", "two"]).exits_with(1);
    // Without a name the image is there by its id.
    let id = import(&["base.tar"]).succeeds().id();
    assert_eq!(
        says(&rig, &["inspect", "-f", "{{.Id}}", &id]),
        format!("{id}\n")
    );
    let server = Registry::start();
    let bytes = fs::read(rig.path("base.tar")).unwrap();
    server.set("/root.tar", Answer::ok(&bytes));
    let comment = format!("Imported from {}", "root.tar");
    import(&[&server.url("/root.tar"), "fetched"]).succeeds();
    let found = says(&rig, &["inspect", "-f", "{{.Comment}}", "fetched"]);
    assert_eq!(found, format!("{comment}\n"));
    import(&[&server.url("/nothing.tar"), "missing"]).exits_with(1);
}

#[test]
fn a_commit_takes_instructions_a_comment_and_an_author() {
    let rig = Rig::new();
    rig.run(&[
        "--commit=made",
        "--change=CMD cat /made",
        "--change",
        "ENV A=b",
        "--message=why",
        "--author=me",
        "base",
        "sh",
        "-c",
        "echo yes > /made",
    ])
    .succeeds();
    let text = "{{.Author}} {{.Comment}} {{index .Config.Cmd 2}}";
    assert_eq!(
        says(&rig, &["inspect", "-f", text, "made"]),
        "me why cat /made\n"
    );
    assert_eq!(rig.run(&["made"]).succeeds().stdout, b"yes\n");
    assert_eq!(
        rig.run(&["made", "sh", "-c", "echo $A"]).succeeds().stdout,
        b"b\n"
    );
    let rows = |name: &str| says(&rig, &["history", "-q", name]).lines().count();
    assert_eq!(rows("made"), rows("base") + 1);
    rig.run(&["--change=ENV A=b", "base", "true"])
        .exits_with(125)
        .says(&["--commit"]);
    rig.run(&["--commit=x", "--change=FROM a", "base", "true"])
        .exits_with(125)
        .says(&["FROM is not a valid change command"]);
}
