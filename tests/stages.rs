//! FROM: stages, targets, bases, and what runs when.

use crate::rig::Rig;

#[test]
fn scratch_is_empty_and_has_no_layers() {
    let rig = Rig::empty();
    let image = rig.image("FROM scratch\nLABEL a=b");
    assert!(image.layers.is_empty());
    assert_eq!(image.setting("Labels")["a"], "b");
}

#[test]
fn a_stage_continues_another_with_files_and_configuration() {
    let rig = Rig::new();
    let image = rig.image(
        "FROM base AS one\nWORKDIR /w\nENV A=1\nRUN touch here\n\
         FROM one\nRUN test -e here && test $A = 1 && touch there",
    );
    assert!(image.has("w/here") && image.has("w/there"));
    assert_eq!(image.setting("WorkingDir"), "/w");
}

#[test]
fn stage_names_ignore_case() {
    let rig = Rig::new();
    let image =
        rig.image("FROM base AS Build\nRUN touch /x\nFROM scratch\nCOPY --from=bUILD /x /x");
    assert!(image.has("x"));
}

#[test]
fn only_what_the_target_needs_is_built() {
    let rig = Rig::new();
    rig.dockerfile(
        "FROM base AS needed\nRUN echo needed > /f\n\
         FROM base AS unneeded\nRUN false\n\
         FROM base AS target\nCOPY --from=needed /f /f\n\
         FROM nosuchimage AS last\nRUN false",
    );
    let outcome = rig.build(&["--target=target"]).succeeds();
    outcome.step("RUN echo needed > /f");
    assert!(!outcome.stderr.contains("RUN false"), "{}", outcome.stderr);
}

#[test]
fn a_target_may_be_a_number() {
    let rig = Rig::new();
    rig.dockerfile("FROM base\nLABEL is=first\nFROM base\nRUN false");
    rig.build(&["--target=0"]).succeeds();
}

#[test]
fn a_failing_stage_ends_the_others_and_the_build() {
    let rig = Rig::new();
    let mark = format!("8{:06}", std::process::id());
    rig.dockerfile(&format!(
        "FROM base AS slow\nRUN sleep {mark}\nFROM base AS bad\nRUN sleep 1 && exit 3\n\
         FROM scratch\nCOPY --from=slow /x /\nCOPY --from=bad /x /"
    ));
    rig.build(&[]).exits_with(1).says(&["exit code: 3"]);
    assert_eq!(
        crate::rig::host::processes_with(&format!("sleep {mark}")),
        [""; 0]
    );
}

/// Builds a Dockerfile in which `MEET` stands twice: each side waits there for the other, through the
/// network that both share with the host.
fn both_sides_meet(dockerfile: &str) {
    let rig = Rig::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let meeting = std::thread::spawn(move || {
        let first = listener.accept().unwrap();
        let second = listener.accept().unwrap();
        drop((first, second));
    });
    // nc ends when the peer closes, and the peer closes when both have come.
    rig.dockerfile(&dockerfile.replace("MEET", &format!("timeout 60 nc 127.0.0.1 {port}")));
    rig.build(&[]).succeeds();
    meeting.join().unwrap();
}

#[test]
fn independent_stages_run_at_the_same_time() {
    both_sides_meet(
        "FROM base AS one\nRUN MEET && touch /one\n\
         FROM base AS two\nRUN MEET && touch /two\n\
         FROM scratch\nCOPY --from=one /one /\nCOPY --from=two /two /",
    );
}

#[test]
fn a_stage_waits_for_another_only_where_it_reads_it() {
    both_sides_meet(
        "FROM base AS one\nRUN MEET && touch /one\n\
         FROM base\nRUN MEET\nCOPY --from=one /one /",
    );
}

#[test]
fn a_base_is_found_by_tag_and_by_digest() {
    let rig = Rig::new();
    rig.dockerfile("FROM base\nRUN touch /mine");
    rig.build(&["-t", "mine:v1", "-t", "also-mine"]).succeeds();
    for name in ["mine:v1", "also-mine", "also-mine:latest"] {
        assert!(
            rig.image(&format!("FROM {name}\nRUN touch /more"))
                .has("mine"),
            "{name}"
        );
    }
    let image = rig.image("FROM also-mine\nLABEL x=y");
    assert!(image.has("mine"));
}

#[test]
fn a_base_may_be_a_layout_or_an_archive() {
    let rig = Rig::new();
    let path = |name: &str| rig.path(name).display().to_string();
    rig.dockerfile("FROM base\nRUN touch /mine\nENV X=y");
    rig.build(&[
        "-t",
        "mine",
        "-o",
        &format!("type=oci,dest={}", path("mine.tar")),
        "-o",
        &format!("type=docker,dest={}", path("mine-docker.tar")),
        "-o",
        &format!("type=oci,tar=false,dest={}", path("layout")),
    ])
    .succeeds();
    for base in [
        format!("oci-archive:{}", path("mine.tar")),
        format!("docker-archive:{}", path("mine-docker.tar")),
        format!("oci-layout://{}", path("layout")),
    ] {
        let other = Rig::empty();
        let image = other.image_with(
            "FROM given\nRUN test -e /mine && test $X = y && touch /more",
            &["--build-context", &format!("given={base}")],
        );
        assert!(image.has("mine") && image.has("more"), "{base}");
    }
}

#[test]
fn onbuild_triggers_run_in_the_child_and_are_gone_after() {
    let rig = Rig::new();
    rig.write("file", "context");
    rig.dockerfile("FROM base\nONBUILD COPY file /copied\nONBUILD RUN touch /triggered");
    rig.build(&["-t", "parent"]).succeeds();
    let child = rig.image("FROM parent\nRUN test -e /triggered");
    assert_eq!(child.text("copied"), "context");
    assert!(
        child
            .setting("OnBuild")
            .as_array()
            .is_none_or(Vec::is_empty)
    );
}

#[test]
fn platforms_other_than_this_machines_are_not_taken_for_it() {
    let rig = Rig::new();
    rig.dockerfile("FROM --platform=linux/s390x base\nRUN true");
    assert_ne!(rig.build(&[]).code, Some(0));
}
