//! Where the time of a build goes: the phases of each step, for programs and for people.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::rig::Rig;

/// The phases of each vertex by its name, those of the command under none.
fn phases_of(rig: &Rig, options: &[&str]) -> BTreeMap<String, BTreeMap<String, Value>> {
    let context = rig.context();
    let mut arguments = vec!["build", "--progress=rawjson"];
    arguments.extend(options);
    arguments.push(context.to_str().unwrap());
    let stderr = rig.rbuild(arguments).succeeds().stderr;
    let mut names = BTreeMap::new();
    let mut phases: BTreeMap<String, BTreeMap<String, Value>> = BTreeMap::new();
    for line in stderr.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        let vertex = event["vertex"].as_u64().unwrap_or(0);
        match event["type"].as_str().unwrap() {
            "started" => {
                let name = event["name"].as_str().unwrap();
                let name = name.rsplit("] ").next().unwrap();
                names.insert(vertex, name.to_owned());
            }
            "phase" => {
                let seconds = event["seconds"].as_f64().unwrap();
                assert!((0.0..60.0).contains(&seconds), "{line}");
                let name = names.get(&vertex).cloned().unwrap_or_default();
                let phase = event["phase"].as_str().unwrap().to_owned();
                phases.entry(name).or_default().insert(phase, event);
            }
            _ => {}
        }
    }
    phases
}

fn names(phases: &BTreeMap<String, Value>) -> Vec<&str> {
    phases.keys().map(String::as_str).collect()
}

#[test]
fn each_step_says_how_long_each_of_its_phases_took() {
    let rig = Rig::new();
    rig.write("file", "content\n");
    rig.dockerfile("FROM base\nWORKDIR /w\nCOPY file /file\nRUN sleep 0.1; echo > /made");
    let output = format!("type=oci,dest={}", rig.path("out.tar").display());
    let phases = phases_of(&rig, &["-o", &output]);
    assert_eq!(names(&phases[""]), ["start"]);
    let copy = &phases["COPY file /file"];
    let written = ["capture", "compress", "key", "publish", "write"];
    assert_eq!(names(copy), written);
    assert_eq!(names(&phases["WORKDIR /w"]), written);
    let run = &phases["RUN sleep 0.1; echo > /made"];
    assert_eq!(
        names(run),
        [
            "capture", "command", "compress", "key", "publish", "sandbox", "teardown"
        ]
    );
    assert_eq!(copy["write"]["bytes"], 8);
    assert_eq!(copy["capture"]["files"], 1);
    assert!(copy["compress"]["bytes"].as_u64() > Some(20));
    assert!(run["command"]["seconds"].as_f64() >= Some(0.1), "{run:?}");
}

#[test]
fn a_cached_step_has_only_its_key() {
    let rig = Rig::new();
    rig.write("file", "content\n");
    rig.dockerfile("FROM base\nCOPY file /file\nRUN echo > /made");
    phases_of(&rig, &[]);
    let phases = phases_of(&rig, &[]);
    assert_eq!(names(&phases["COPY file /file"]), ["key"]);
    assert_eq!(names(&phases["RUN echo > /made"]), ["key"]);
}

#[test]
fn a_base_from_elsewhere_is_pulled_and_unpacked() {
    let rig = Rig::new();
    rig.dockerfile("FROM base\nRUN echo > /made");
    let layout = rig.path("layout");
    let output = format!("type=oci,tar=false,dest={}", layout.display());
    rig.build(&["-o", &output]).succeeds();
    let other = Rig::empty();
    other.dockerfile("FROM elsewhere");
    let context = format!("elsewhere=oci-layout://{}", layout.display());
    let phases = phases_of(&other, &["--build-context", &context]);
    let (_, from) = phases
        .iter()
        .find(|(name, _)| name.starts_with("FROM"))
        .unwrap();
    assert_eq!(names(from), ["pull", "unpack"]);
    assert!(from["pull"]["bytes"].as_u64() > Some(100));
    assert!(from["unpack"]["files"].as_u64() > Some(0));
}

#[test]
fn timings_are_a_table_below_the_progress() {
    let rig = Rig::new();
    rig.dockerfile("FROM base\nRUN echo > /made");
    let outcome = rig.build(&["--timings"]).succeeds();
    let (progress, table) = outcome.stderr.split_once("\n\nmilliseconds").unwrap();
    assert!(progress.contains("#1 "), "{progress}");
    let columns: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(
        columns,
        [
            "total", "start", "key", "sandbox", "command", "teardown", "capture", "compress",
            "publish", "other", "bytes", "files"
        ]
    );
    let step = table.lines().find(|line| line.contains("RUN echo > /made"));
    let numbers = step
        .unwrap()
        .split("/made")
        .nth(1)
        .unwrap()
        .split_whitespace();
    let total: f64 = numbers.clone().next().unwrap().parse().unwrap();
    assert!(total > 0.0, "{table}");
    assert!(table.lines().last().unwrap().starts_with("  whole"));
    // Alone with -q, and never between the lines of rawjson.
    let context = rig.context();
    let context = context.to_str().unwrap();
    let quiet = rig.rbuild(["build", "-q", "--timings", context]).succeeds();
    assert!(
        quiet.stderr.starts_with("\nmilliseconds"),
        "{}",
        quiet.stderr
    );
    let json = rig.rbuild(["build", "--progress=rawjson", "--timings", context]);
    for line in json.succeeds().stderr.lines() {
        assert!(line.starts_with('{'), "{line}");
    }
}
