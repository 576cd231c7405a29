//! Here-documents of RUN, COPY and ADD.

use crate::rig::Rig;

#[test]
fn a_run_body_is_a_script_of_the_shell_and_not_expanded_by_the_builder() {
    let rig = Rig::new();
    let image = rig.image(
        "FROM base\nENV a=env\nRUN <<EOF\na=shell\necho $a > /out\nfalse\necho second >> /out\nEOF",
    );
    assert_eq!(image.text("out"), "shell\nsecond\n");
}

#[test]
fn a_run_body_with_an_interpreter_line_is_run_by_it() {
    let rig = Rig::new();
    let image = rig.image(
        "FROM base\nRUN <<EOF\n#!/bin/sed -nf\n1q\nEOF\nRUN <<EOF\n#!/bin/sh\necho $0 > /out\nEOF",
    );
    assert!(!image.text("out").is_empty());
    assert!(
        !image.has("dev/pipes"),
        "the script is not left in the image"
    );
}

#[test]
fn a_body_can_be_the_input_of_a_command() {
    let rig = Rig::new();
    let image = rig.image("FROM base\nRUN cat <<A > /a && cat <<B > /b\nfirst\nA\nsecond\nB");
    assert_eq!(
        (image.text("a"), image.text("b")),
        ("first\n".into(), "second\n".into())
    );
}

#[test]
fn a_body_runs_under_a_named_program() {
    let rig = Rig::new();
    let image = rig.image("FROM base\nRUN <<EOF sh -e\necho ok > /out\nEOF");
    assert_eq!(image.text("out"), "ok\n");
}

#[test]
fn copied_bodies_expand_unless_the_delimiter_is_quoted() {
    let rig = Rig::new();
    let image = rig.image(
        "FROM base\nENV a=value\nCOPY <<EOF /open\n\"$a\" \\$a\nEOF\nCOPY <<'EOF' /quoted\n$a\nEOF",
    );
    assert_eq!(image.text("open"), "\"value\" $a\n");
    assert_eq!(image.text("quoted"), "$a\n");
    let node = image.file("open");
    assert_eq!((node.uid, node.gid, node.mode), (0, 0, 0o644));
}

#[test]
fn several_bodies_and_files_land_in_one_directory() {
    let rig = Rig::new();
    rig.write("file", "from the context");
    let image = rig.image("FROM base\nCOPY <<one <<two file /d/\n1\none\n2\ntwo");
    assert_eq!(image.text("d/one"), "1\n");
    assert_eq!(image.text("d/two"), "2\n");
    assert_eq!(image.text("d/file"), "from the context");
}

#[test]
fn a_dash_strips_tabs_and_nothing_else() {
    let rig = Rig::new();
    let image = rig.image("FROM base\nCOPY <<-EOF /f\n\t\ttabs\n\t  spaces\n\tEOF");
    assert_eq!(image.text("f"), "tabs\n  spaces\n");
}

#[test]
fn chmod_and_add_work_with_bodies() {
    let rig = Rig::new();
    let image = rig.image(
        "FROM base\nADD --chmod=755 <<EOF /script\n#!/bin/sh\necho ran > /out\nEOF\nRUN /script",
    );
    assert_eq!(image.text("out"), "ran\n");
}

#[test]
fn a_body_that_never_ends_is_an_error_at_its_line() {
    let rig = Rig::new();
    rig.dockerfile("FROM base\nRUN <<EOF\necho\n");
    rig.build(&[])
        .exits_with(1)
        .says(&["unterminated heredoc", "Dockerfile:2"]);
}
