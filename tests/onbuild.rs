//! ONBUILD: what a base image has its children do.

use serde_json::Value;

use crate::rig::Rig;

/// Builds `parent` under that name, then `child`.
fn child(rig: &Rig, parent: &str, child: &str) -> crate::rig::image::Image {
    rig.dockerfile(parent);
    rig.build(&["-t", "parent"]).succeeds();
    rig.image(child)
}

#[test]
fn triggers_run_in_their_order_before_the_childs_own_lines() {
    let rig = Rig::new();
    let image = child(
        &rig,
        "FROM base\nONBUILD RUN echo one >> /log\nONBUILD RUN echo two >> /log",
        "FROM parent\nRUN echo own >> /log",
    );
    assert_eq!(image.text("log"), "one\ntwo\nown\n");
}

#[test]
fn every_instruction_may_be_a_trigger() {
    let rig = Rig::new();
    rig.write("file", "context");
    rig.write("data.txt", "more");
    let image = child(
        &rig,
        "FROM base\nONBUILD ARG v=1\nONBUILD ENV E=$v\nONBUILD LABEL l=$v\nONBUILD WORKDIR /w\n\
         ONBUILD COPY file ./copied\nONBUILD ADD data.txt ./added\nONBUILD USER root\n\
         ONBUILD EXPOSE 80\nONBUILD VOLUME /v\nONBUILD STOPSIGNAL SIGUSR1\n\
         ONBUILD SHELL [\"/bin/sh\", \"-e\", \"-c\"]\nONBUILD CMD run me\n\
         ONBUILD ENTRYPOINT [\"/e\"]\nONBUILD HEALTHCHECK NONE\nONBUILD RUN [\"touch\", \"ran\"]",
        "FROM parent",
    );
    assert_eq!(image.text("w/copied"), "context");
    assert_eq!(image.text("w/added"), "more");
    assert!(image.has("w/ran"));
    assert!(image.setting("Env").to_string().contains("\"E=1\""));
    assert_eq!(image.setting("Labels")["l"], "1");
    assert_eq!(image.setting("WorkingDir"), "/w");
    assert!(image.setting("ExposedPorts")["80/tcp"].is_object());
    assert!(image.setting("Volumes")["/v"].is_object());
    assert_eq!(image.setting("StopSignal"), "SIGUSR1");
    assert_eq!(image.setting("Cmd")[1], "-e");
    assert_eq!(image.setting("Entrypoint")[0], "/e");
    assert_eq!(image.setting("Healthcheck")["Test"][0], "NONE");
}

#[test]
fn heredocs_of_triggers_keep_their_bodies() {
    let rig = Rig::new();
    let image = child(
        &rig,
        "FROM base\nONBUILD RUN <<EOF\necho first > /out\necho second >> /out\nEOF\n\
         ONBUILD COPY <<-TXT /text\n\tof $NAME\nTXT\nONBUILD RUN touch /after",
        "FROM parent",
    );
    assert_eq!(image.text("out"), "first\nsecond\n");
    assert_eq!(image.text("text"), "of \n");
    assert!(image.has("after"));
}

#[test]
fn a_trigger_may_copy_from_stages_and_images_of_the_child() {
    let rig = Rig::new();
    let image = child(
        &rig,
        "FROM base\nONBUILD COPY --from=assets /asset /from-stage\n\
         ONBUILD COPY --from=0 /asset /from-number\nONBUILD COPY --from=base /etc/group /from-image",
        "FROM base AS assets\nRUN echo asset > /asset\nFROM parent",
    );
    assert_eq!(image.text("from-stage"), "asset\n");
    assert_eq!(image.text("from-number"), "asset\n");
    assert!(image.has("from-image"));
    // A stage that only the trigger needs is built, others are not.
    rig.dockerfile(
        "FROM base AS assets\nRUN echo asset > /asset\nFROM base\nRUN false\nFROM parent",
    );
    rig.build(&[]).succeeds();
    // The stage has to be there, and before the child.
    rig.dockerfile("FROM base\nRUN touch /asset\nFROM parent\nFROM base AS assets");
    rig.build(&["--target=1"])
        .exits_with(1)
        .says(&["cannot copy from stage \"assets\"", "Dockerfile:3"]);
    rig.dockerfile("FROM parent AS it\nFROM base AS assets");
    rig.build(&[]).succeeds();
    rig.build(&["--target=it"])
        .exits_with(1)
        .says(&["circular dependency detected on stage: it", "Dockerfile:1"]);
}

#[test]
fn triggers_are_gone_after_one_child() {
    let rig = Rig::new();
    let image = child(
        &rig,
        "FROM base\nONBUILD RUN echo once >> /log",
        "FROM parent\nONBUILD RUN echo mine >> /log",
    );
    assert_eq!(image.setting("OnBuild")[0], "RUN echo mine >> /log");
    assert_eq!(image.setting("OnBuild").as_array().unwrap().len(), 1);
    let image = child(&rig, "FROM parent", "FROM parent\nRUN true");
    assert_eq!(image.text("log"), "once\n");
    assert!(image.setting("OnBuild").is_null());
}

#[test]
fn triggers_of_a_stage_run_in_the_stages_on_it() {
    let rig = Rig::new();
    let image = rig.image(
        "FROM base AS one\nONBUILD RUN echo one >> /log\nRUN echo own >> /log\n\
         FROM one AS two\nONBUILD RUN echo two >> /log\nFROM two",
    );
    assert_eq!(image.text("log"), "own\none\ntwo\n");
    assert!(image.setting("OnBuild").is_null());
    // COPY --from is no child.
    let image = rig.image(
        "FROM base AS one\nONBUILD RUN false\nRUN touch /x\nFROM scratch\nCOPY --from=one /x /x",
    );
    assert!(image.has("x"));
}

#[test]
fn words_of_a_trigger_are_expanded_in_the_child() {
    let rig = Rig::new();
    let image = child(
        &rig,
        "FROM base\nENV WHO=parent\nONBUILD LABEL who=$WHO arg=${ARG:-none}\nONBUILD ARG ARG\n\
         ONBUILD LABEL later=$ARG",
        "ARG ARG=global\nFROM parent",
    );
    assert_eq!(image.setting("Labels")["who"], "parent");
    assert_eq!(image.setting("Labels")["arg"], "none");
    assert_eq!(image.setting("Labels")["later"], "global");
    rig.dockerfile("FROM parent");
    let outcome = rig.build(&["--build-arg=ARG=given"]).succeeds();
    assert!(
        !outcome.stderr.contains("not consumed"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn the_escape_character_of_the_parent_does_not_reach_the_child() {
    let rig = Rig::new();
    rig.dockerfile("# escape=`\nFROM base\nONBUILD LABEL a=`$x b=c:\\d");
    rig.build(&["-t", "parent"]).succeeds();
    // The stored text is read with the child's.
    let image = rig.image("FROM parent");
    assert_eq!(image.setting("Labels")["a"], "`");
    assert_eq!(image.setting("Labels")["b"], "c:d");
    let image = rig.image("# escape=`\nFROM parent");
    assert_eq!(image.setting("Labels")["a"], "$x");
    assert_eq!(image.setting("Labels")["b"], "c:\\d");
}

#[test]
fn triggers_are_shown_and_kept_out_of_the_parents_history() {
    let rig = Rig::new();
    rig.dockerfile("FROM base\nONBUILD RUN touch /x");
    rig.build(&["-t", "parent"]).succeeds();
    let archive = rig.path("image.tar");
    rig.dockerfile("FROM parent");
    let output = format!("type=oci,dest={}", archive.display());
    let outcome = rig.build(&["-o", &output]).succeeds();
    outcome.step("ONBUILD RUN touch /x");
    let image = crate::rig::image::Image::open(&archive);
    let rows: Vec<&Value> = image.config["history"].as_array().unwrap().iter().collect();
    // The base's import, then the trigger as the child carried it out.
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[1]["created_by"], "RUN /bin/sh -c touch /x # buildkit");
}

#[test]
fn what_cannot_be_a_trigger_is_refused() {
    for (trigger, needle) in [
        ("FROM x", "FROM isn't allowed as an ONBUILD trigger"),
        (
            "MAINTAINER me",
            "MAINTAINER isn't allowed as an ONBUILD trigger",
        ),
        (
            "ONBUILD RUN x",
            "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
        ),
        ("RUNN x", "unknown instruction: RUNN"),
        (
            "COPY --from=$x a b",
            "variable expansion is not supported for --from",
        ),
        ("", "ONBUILD requires at least one argument"),
    ] {
        let rig = Rig::empty();
        rig.dockerfile(&format!("FROM scratch\nONBUILD {trigger}"));
        rig.build(&[]).exits_with(1).says(&["Dockerfile:2", needle]);
    }
}
