//! ARG, ENV and the expansion of words.

use crate::rig::Rig;

/// What `expression` is inside a double-quoted LABEL, after `before`.
fn expanded(before: &str, expression: &str, options: &[&str]) -> String {
    let rig = Rig::empty();
    let image = rig.image_with(
        &format!("FROM scratch\n{before}\nLABEL v=\"{expression}\""),
        options,
    );
    image.setting("Labels")["v"].as_str().unwrap().to_owned()
}

#[test]
fn words_are_expanded_as_the_reference_says() {
    let env = "ENV set=value empty= path=a/b/c.tar.gz";
    for (expression, expected) in [
        ("$set", "value"),
        ("${set}s", "values"),
        ("$unset", ""),
        (r"\$set", "$set"),
        ("${unset:-word}", "word"),
        ("${empty:-word}", "word"),
        ("${empty-word}", ""),
        ("${set:+word}", "word"),
        ("${empty:+word}", ""),
        ("${empty+word}", "word"),
        ("${unset:-${set}}", "value"),
        ("${path#*/}", "b/c.tar.gz"),
        ("${path##*/}", "c.tar.gz"),
        ("${path%.*}", "a/b/c.tar"),
        ("${path%%.*}", "a/b/c"),
        ("${path/a/x}", "x/b/c.tar.gz"),
        ("${path//a/x}", "x/b/c.txr.gz"),
    ] {
        assert_eq!(expanded(env, expression, &[]), expected, "{expression}");
    }
}

#[test]
fn a_required_variable_that_is_unset_fails_with_its_message() {
    let rig = Rig::empty();
    rig.dockerfile("FROM scratch\nLABEL v=${unset:?give me a value}");
    rig.build(&[])
        .exits_with(1)
        .says(&["give me a value", "Dockerfile:2"]);
}

#[test]
fn one_instruction_sees_the_environment_from_before_it() {
    assert_eq!(expanded("ENV a=old\nENV a=new b=$a", "$b", &[]), "old");
}

#[test]
fn a_build_arg_beats_defaults_and_only_declared_ones_are_seen() {
    assert_eq!(expanded("ARG a=default", "$a", &[]), "default");
    assert_eq!(
        expanded("ARG a=default", "$a", &["--build-arg=a=given"]),
        "given"
    );
    assert_eq!(expanded("ENV x=y", "$a", &["--build-arg=a=given"]), "");
    assert_eq!(
        expanded("ARG a b=2 c", "$a$b$c", &["--build-arg", "c=3"]),
        "23"
    );
}

#[test]
fn a_global_arg_reaches_from_lines_and_stages_that_declare_it() {
    let rig = Rig::new();
    let image = rig.image_with(
        "ARG name=nosuchimage\nARG v=global\nFROM ${name}\nLABEL before=\"$v\"\nARG v\nLABEL after=\"$v\"",
        &["--build-arg=name=base"],
    );
    assert_eq!(image.setting("Labels")["before"], "");
    assert_eq!(image.setting("Labels")["after"], "global");
}

#[test]
fn the_later_declaration_of_env_and_arg_wins() {
    assert_eq!(expanded("ARG a=arg\nENV a=env", "$a", &[]), "env");
    assert_eq!(expanded("ENV a=env\nARG a=arg", "$a", &[]), "arg");
}

#[test]
fn an_arg_is_in_the_environment_of_run_and_not_in_the_image() {
    let rig = Rig::new();
    let image = rig.image_with("FROM base\nARG a\nRUN echo $a > /out", &["--build-arg=a=1"]);
    assert_eq!(image.text("out"), "1\n");
    assert!(!image.setting("Env").to_string().contains("a=1"));
}

#[test]
fn platform_args_are_there_when_declared() {
    let arch = if cfg!(target_arch = "x86_64") {
        "amd64"
    } else {
        "arm64"
    };
    let expected = format!("linux/{arch} linux {arch} linux/{arch}");
    let declared = "ARG TARGETPLATFORM TARGETOS TARGETARCH BUILDPLATFORM";
    let words = "$TARGETPLATFORM $TARGETOS $TARGETARCH $BUILDPLATFORM";
    assert_eq!(expanded(declared, words, &[]), expected);
    assert_eq!(expanded("", "$TARGETARCH", &[]), "");
}

#[test]
fn proxy_args_need_no_declaration_and_leave_no_trace() {
    let rig = Rig::new();
    let image = rig.image_with(
        "FROM base\nRUN echo $HTTP_PROXY > /out",
        &["--build-arg=HTTP_PROXY=http://proxy.invalid:1"],
    );
    assert_eq!(image.text("out"), "http://proxy.invalid:1\n");
    assert!(!image.config.to_string().contains("proxy.invalid"));
}

#[test]
fn a_build_arg_without_a_value_takes_the_callers() {
    let rig = Rig::empty();
    rig.dockerfile("FROM scratch\nARG FROM_CALLER=default\nLABEL v=$FROM_CALLER");
    let output = format!("type=oci,dest={}", rig.path("image.tar").display());
    let mut command = rig.build_command(&["--build-arg=FROM_CALLER", "-o", &output]);
    command.env("FROM_CALLER", "value");
    crate::rig::outcome::Outcome::of(&mut command).succeeds();
    let image = crate::rig::image::Image::open(&rig.path("image.tar"));
    assert_eq!(image.setting("Labels")["v"], "value");
}
