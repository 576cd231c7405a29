//! The commands on stored images: what they choose, and how they show it.

use serde_json::Value;

use crate::rig::Rig;
use crate::rig::outcome::Outcome;

const APP: &str = "FROM base\nRUN echo 1 > /one\nENV A=1\nLABEL stage=test\nCMD [\"sh\"]\n";

fn stdout(outcome: &Outcome) -> String {
    String::from_utf8(outcome.stdout.clone()).unwrap()
}

fn says(rig: &Rig, arguments: &[&str]) -> String {
    stdout(&rig.rbuild(arguments).succeeds())
}

/// A rig with `app:latest`, made of [`APP`].
fn app() -> Rig {
    let rig = Rig::new();
    rig.dockerfile(APP).build(&["-t", "app"]).succeeds();
    rig
}

fn lines(rig: &Rig, arguments: &[&str]) -> Vec<String> {
    says(rig, arguments).lines().map(str::to_owned).collect()
}

#[test]
fn a_store_that_is_not_there_has_no_images() {
    let rig = Rig::empty();
    assert_eq!(says(&rig, &["images", "-q"]), "");
    assert!(says(&rig, &["images"]).starts_with("REPOSITORY"));
    assert!(!rig.store().exists());
    for command in [
        &["history", "app"][..],
        &["inspect", "app"],
        &["tag", "app", "b"],
        &["rmi", "app"],
        &["save", "app"],
    ] {
        let outcome = rig.rbuild(command).exits_with(1);
        outcome.says(&["No such image: app:latest"]);
    }
    for command in [&["image", "prune", "-f"][..], &["builder", "prune", "-af"]] {
        assert_eq!(says(&rig, command), "Total reclaimed space: 0B\n");
    }
}

#[test]
fn filters_and_formats_choose_what_is_shown() {
    let rig = app();
    rig.rbuild(["tag", "base", "example.org:5000/other:v1"])
        .succeeds();
    let names = |options: &[&str]| {
        let format = ["images", "--format", "{{.Repository}}:{{.Tag}}"];
        lines(&rig, &[&format, options].concat())
    };
    for (filter, expected) in [
        ("label=stage", &["app:latest"][..]),
        ("label=stage=test", &["app:latest"]),
        ("label=stage=prod", &[]),
        ("dangling=true", &[]),
        ("before=app", &["base:latest", "example.org:5000/other:v1"]),
        ("since=base", &["app:latest"]),
        ("reference=*p", &["app:latest"]),
        ("reference=*/other", &["example.org:5000/other:v1"]),
        (
            "until=2015-01-01",
            &["base:latest", "example.org:5000/other:v1"],
        ),
    ] {
        assert_eq!(names(&["--filter", filter]), expected, "{filter}");
    }
    let json: Value = serde_json::from_str(&says(&rig, &["images", "--format", "json", "app"]))
        .expect("one object on a line");
    assert_eq!(
        (&json["Repository"], &json["Tag"]),
        (&"app".into(), &"latest".into())
    );
    let full = says(&rig, &["images", "-q", "--no-trunc", "app"]);
    assert!(full.starts_with("sha256:") && full.len() == 72, "{full}");
    let digests = lines(&rig, &["images", "--digests", "app"]);
    assert!(
        digests[0].contains("DIGEST") && digests[1].contains(" sha256:"),
        "{digests:?}"
    );
    let env = says(
        &rig,
        &[
            "inspect",
            "-f",
            "{{json .Config.Env}} {{.Config.Labels.stage}}",
            "app",
        ],
    );
    assert!(
        env.starts_with("[\"PATH=") && env.ends_with("\"A=1\"] test\n"),
        "{env}"
    );
    let ranged = says(
        &rig,
        &["inspect", "-f", "{{range .RepoTags}}{{.}},{{end}}", "base"],
    );
    assert_eq!(ranged, "base:latest,example.org:5000/other:v1,\n");
    let table = lines(
        &rig,
        &[
            "images",
            "--format",
            "table {{.Tag}}\\t{{.Repository}}",
            "app",
        ],
    );
    assert_eq!(table, ["TAG       REPOSITORY", "latest    app"]);
    for (arguments, needle) in [
        (&["images", "--format", "{{.Colour}}"][..], "\"Colour\""),
        (&["images", "--format", "{{printf .ID}}"], "\"printf\""),
        (&["images", "--filter", "colour=red"], "colour"),
        (&["images", "--filter", "until=soon"], "soon"),
        (&["inspect", "-f", "{{with .Id}}{{end}}", "app"], "\"with\""),
    ] {
        rig.rbuild(arguments).exits_with(2).says(&[needle]);
    }
}

#[test]
fn images_are_named_by_ids_and_digests_too() {
    let rig = app();
    let id = says(&rig, &["inspect", "-f", "{{.Id}}", "app"]);
    let id = id.trim();
    let digest = says(&rig, &["inspect", "-f", "{{index .RepoDigests 0}}", "app"]);
    for name in [
        id,
        &id[7..],
        &id[7..19],
        &id[..19],
        digest.trim(),
        "docker.io/library/app",
    ] {
        assert_eq!(
            says(&rig, &["inspect", "-f", "{{.Id}}", name]).trim(),
            id,
            "{name}"
        );
    }
    rig.rbuild(["inspect", "app", "missing"])
        .exits_with(1)
        .says(&["No such image: missing:latest"]);
    rig.rbuild(["tag", "app", "second"]).succeeds();
    rig.rbuild(["rmi", &id[7..19]])
        .exits_with(1)
        .says(&["conflict: unable to delete", "must be forced"]);
    let removed = lines(&rig, &["rmi", "-f", &id[7..19]]);
    assert_eq!(
        removed[..2],
        ["Untagged: app:latest", "Untagged: second:latest"]
    );
    rig.rbuild(["rmi", "-f", "missing"]).succeeds();
    rig.rbuild(["rmi", "missing"]).exits_with(1);
}

#[test]
fn an_image_that_lost_its_name_dangles_until_it_is_pruned() {
    let rig = app();
    rig.dockerfile("FROM base\nRUN echo 2 > /two\n")
        .build(&["-t", "app"])
        .succeeds();
    let table = lines(&rig, &["images", "-f", "dangling=true"]);
    assert!(table[1].starts_with("<none>       <none>    "), "{table:?}");
    rig.rbuild(["image", "prune"])
        .exits_with(2)
        .says(&["no terminal", "-f"]);
    assert_eq!(lines(&rig, &["images", "-q"]).len(), 3);
    rig.rbuild(["image", "prune", "-f", "--filter", "label!=stage"])
        .succeeds();
    assert_eq!(lines(&rig, &["images", "-q"]).len(), 3);
    let pruned = says(
        &rig,
        &["image", "prune", "-f", "--filter", "label=stage=test"],
    );
    assert!(
        pruned.starts_with("Deleted Images:\ndeleted: sha256:"),
        "{pruned}"
    );
    assert!(pruned.contains("\n\nTotal reclaimed space: "), "{pruned}");
    assert_eq!(lines(&rig, &["images", "-q"]).len(), 2);
    let pruned = says(&rig, &["image", "prune", "-a", "-f"]);
    assert!(pruned.contains("\nuntagged: base:latest\n"), "{pruned}");
    assert_eq!(says(&rig, &["images", "-q"]), "");
}

#[test]
fn histories_and_descriptions_of_archives_and_layouts() {
    let rig = app();
    let archive = rig.path("app.tar");
    let layout = rig.path("layout");
    rig.rbuild(["save", "-o", archive.to_str().unwrap(), "app"])
        .succeeds();
    let output = format!("type=oci,tar=false,dest={}", layout.display());
    rig.build(&["-o", &output]).succeeds();
    let id = says(&rig, &["inspect", "-f", "{{.Id}}", "app"]);
    let empty = Rig::empty();
    for path in [&archive, &layout] {
        let path = path.to_str().unwrap();
        assert_eq!(says(&empty, &["inspect", "-f", "{{.Id}}", path]), id);
        assert_eq!(lines(&empty, &["history", path]).len(), 6);
    }
}
