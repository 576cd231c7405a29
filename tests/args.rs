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

/// The RUN of a Dockerfile writes what it sees to `/out`.
fn seen(rig: &Rig, dockerfile: &str, options: &[&str]) -> String {
    rig.image_with(dockerfile, options).text("out")
}

#[test]
fn global_arguments_have_their_own_scope() {
    for (global, stage, options, expected) in [
        ("ARG v=1", "LABEL v=$v", &[][..], ""),
        ("ARG v=1", "ARG v\nLABEL v=$v", &[], "1"),
        ("ARG v=1", "ARG v=2\nLABEL v=$v", &[], "2"),
        ("ARG v=1", "ARG v=2\nLABEL v=$v", &["--build-arg=v=3"], "3"),
        ("ARG v", "ARG v\nLABEL v=${v-unset}", &[], "unset"),
        ("ARG v", "ARG v\nLABEL v=$v", &["--build-arg=v=3"], "3"),
        ("ARG v=", "ARG v\nLABEL v=${v-unset}", &[], ""),
        (
            "ARG a=1 b=${a}2\nARG c=$b$b",
            "ARG c\nLABEL v=$c",
            &[],
            "1212",
        ),
        (
            "ARG a=1\nARG b=$a",
            "ARG b\nLABEL v=$b",
            &["--build-arg=a=9"],
            "9",
        ),
        ("ARG a=\"q u\"", "ARG a\nLABEL v=\"$a\"", &[], "q u"),
        // What another stage declared is its own; a stage on it has it too.
        ("FROM scratch AS x\nARG v=1", "LABEL v=$v", &[], ""),
    ] {
        let rig = Rig::empty();
        let image = rig.image_with(&format!("{global}\nFROM scratch\n{stage}"), options);
        assert_eq!(image.setting("Labels")["v"], expected, "{global} / {stage}");
    }
    let rig = Rig::empty();
    let image = rig.image("FROM scratch AS x\nARG v=1\nFROM x\nLABEL v=$v");
    assert_eq!(image.setting("Labels")["v"], "1");
}

#[test]
fn env_and_arg_win_by_their_order_in_run_too() {
    let rig = Rig::new();
    for (lines, options, expected) in [
        ("ARG v=arg\nENV v=env", &[][..], "env\n"),
        ("ENV v=env\nARG v=arg", &[], "arg\n"),
        ("ENV v=env\nARG v", &[], "env\n"),
        ("ENV v=env\nARG v", &["--build-arg=v=given"], "given\n"),
        (
            "ARG v=arg\nENV v=${v}-env",
            &["--build-arg=v=given"],
            "given-env\n",
        ),
        ("ARG v=1\nARG v=2", &[], "2\n"),
    ] {
        let dockerfile = format!("FROM base\n{lines}\nRUN echo $v > /out");
        assert_eq!(seen(&rig, &dockerfile, options), expected, "{lines}");
    }
}

#[test]
fn a_changed_argument_misses_from_its_first_use_on() {
    let rig = Rig::new();
    rig.write("file", "x");
    rig.dockerfile(
        "FROM base\nRUN echo before\nARG v\nCOPY file /a\nRUN echo after\nCOPY file /b\n\
         RUN echo $v",
    );
    rig.build(&["--build-arg=v=1"]).succeeds();
    let second = rig.build(&["--build-arg=v=2"]).succeeds();
    for (step, cached) in [
        ("RUN echo before", true),
        ("COPY file /a", true),
        // A RUN sees every argument in its environment, whether it names it or not.
        ("RUN echo after", false),
    ] {
        assert_eq!(second.is_cached(step), cached, "{step}");
    }
    let again = rig.build(&["--build-arg=v=1"]).succeeds();
    assert!(again.is_cached("RUN echo after") && again.is_cached("COPY file /b"));
}

#[test]
fn proxies_reach_a_run_in_both_cases_outside_key_and_history() {
    let rig = Rig::new();
    let dockerfile =
        "FROM base\nRUN echo $HTTP_PROXY $http_proxy $no_proxy $NO_PROXY $ALL_PROXY > /out";
    let options = [
        "--build-arg=http_proxy=http://one.invalid",
        "--build-arg=NO_PROXY=two.invalid",
        "--build-arg=ALL_PROXY=three.invalid",
    ];
    assert_eq!(
        seen(&rig, dockerfile, &options),
        "http://one.invalid http://one.invalid two.invalid two.invalid three.invalid\n"
    );
    let outcome = rig.build(&["--build-arg=http_proxy=http://other.invalid"]);
    let outcome = outcome.succeeds();
    assert!(
        outcome
            .vertices()
            .iter()
            .any(crate::rig::outcome::Vertex::is_cached)
    );
    assert!(
        !outcome.stderr.contains("not consumed"),
        "{}",
        outcome.stderr
    );
    // One that is declared is an argument like any other.
    let declared = "FROM base\nARG http_proxy\nRUN echo $http_proxy > /out";
    let image = rig.image_with(declared, &["--build-arg=http_proxy=http://one.invalid"]);
    let history = image.config["history"].to_string();
    assert!(
        history.contains("|1 http_proxy=http://one.invalid"),
        "{history}"
    );
    assert_eq!(
        seen(
            &rig,
            declared,
            &["--build-arg=http_proxy=http://two.invalid"]
        ),
        "http://two.invalid\n"
    );
}

#[test]
fn arguments_of_the_builder_need_no_declaration() {
    let rig = Rig::new();
    rig.dockerfile("FROM base\nRUN true");
    for name in [
        "BUILDKIT_INLINE_CACHE",
        "BUILDKIT_MULTI_PLATFORM",
        "BUILDKIT_BUILD_NAME",
        "BUILDKIT_CACHE_MOUNT_NS",
        "BUILDKIT_CONTEXT_KEEP_GIT_DIR",
        "BUILDKIT_SBOM_SCAN_CONTEXT",
        "BUILDKIT_SBOM_SCAN_STAGE",
    ] {
        let outcome = rig.build(&["--build-arg", &format!("{name}=1")]).succeeds();
        assert!(
            !outcome.stderr.contains("not consumed"),
            "{name}: {}",
            outcome.stderr
        );
    }
    rig.build(&["--build-arg=TYPO=1"])
        .succeeds()
        .says(&["one or more build-args were not consumed: [TYPO]"]);
    // Two of them are no variables of a RUN even when a stage declares them.
    let image = rig.image(
        "FROM base\nARG BUILDKIT_SBOM_SCAN_STAGE=true\nRUN echo \"x$BUILDKIT_SBOM_SCAN_STAGE\" > /out",
    );
    assert_eq!(image.text("out"), "x\n");
}

#[test]
fn the_host_name_of_a_run_can_be_chosen() {
    let rig = Rig::new();
    let dockerfile = "FROM base\nRUN hostname > /out && grep -c builder.example /etc/hosts >> /out";
    let found = seen(
        &rig,
        dockerfile,
        &["--build-arg=BUILDKIT_SANDBOX_HOSTNAME=builder.example"],
    );
    assert_eq!(found, "builder.example\n1\n");
    rig.dockerfile("FROM base\nRUN hostname");
    rig.build(&[]).succeeds();
    assert!(rig.build(&[]).succeeds().is_cached("RUN hostname"));
    let other = rig.build(&["--build-arg=BUILDKIT_SANDBOX_HOSTNAME=other"]);
    assert!(!other.succeeds().is_cached("RUN hostname"));
}

#[test]
fn the_epoch_is_a_number_wherever_it_comes_from() {
    let rig = Rig::empty();
    let created = |dockerfile: &str, options: &[&str]| {
        let image = rig.image_with(dockerfile, options);
        image.config["created"].as_str().unwrap().to_owned()
    };
    let plain = "FROM scratch\nLABEL a=b";
    let global = "ARG SOURCE_DATE_EPOCH=1000000000\nFROM scratch\nLABEL a=b";
    let billion = "2001-09-09T01:46:40Z";
    assert_eq!(
        created(plain, &["--build-arg=SOURCE_DATE_EPOCH=1000000000"]),
        billion
    );
    assert_eq!(created(global, &[]), billion);
    assert_eq!(
        created(global, &["--build-arg=SOURCE_DATE_EPOCH=0"]),
        "1970-01-01T00:00:00Z"
    );
    rig.dockerfile("ARG SOURCE_DATE_EPOCH=soon\nFROM scratch");
    rig.build(&[])
        .exits_with(1)
        .says(&["invalid SOURCE_DATE_EPOCH: soon", "Dockerfile:1"]);
    rig.dockerfile(plain);
    rig.build(&["--build-arg=SOURCE_DATE_EPOCH=soon"])
        .exits_with(2)
        .says(&["SOURCE_DATE_EPOCH=soon is not a number"]);
    // One of the caller's environment is an argument too.
    let output = format!("type=oci,dest={}", rig.path("image.tar").display());
    rig.dockerfile("FROM scratch\nARG SOURCE_DATE_EPOCH\nLABEL v=$SOURCE_DATE_EPOCH");
    let mut command = rig.build_command(&["-o", &output]);
    command.env("SOURCE_DATE_EPOCH", "1000000000");
    crate::rig::outcome::Outcome::of(&mut command).succeeds();
    let image = crate::rig::image::Image::open(&rig.path("image.tar"));
    assert_eq!(image.setting("Labels")["v"], "1000000000");
    assert_eq!(image.config["created"], billion);
}

#[test]
fn the_epoch_of_a_context_is_the_time_of_its_commit() {
    let rig = Rig::empty();
    rig.dockerfile("FROM scratch\nARG SOURCE_DATE_EPOCH\nLABEL v=$SOURCE_DATE_EPOCH");
    let option = "--build-arg=SOURCE_DATE_EPOCH=context";
    rig.build(&[option]).exits_with(2).says(&[
        "SOURCE_DATE_EPOCH=context",
        "is not the top of a git checkout",
    ]);
    rig.build_from_stdin(&[option, "-"], b"FROM scratch")
        .exits_with(2)
        .says(&["a context without a history"]);
    if !crate::rig::host::tool("git") {
        return;
    }
    let git = |arguments: &[&str]| {
        let mut command = std::process::Command::new("git");
        command.arg("-C").arg(rig.context()).args(arguments);
        for who in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{who}_NAME"), "a > b");
            command.env(format!("GIT_{who}_EMAIL"), "a@example.org");
        }
        command.env("GIT_AUTHOR_DATE", "1234567890 +0000");
        command.env("GIT_COMMITTER_DATE", "1000000000 +0200");
        crate::rig::host::stdout_of(&mut command);
    };
    git(&["init", "-q"]);
    git(&[
        "commit",
        "-q",
        "--allow-empty",
        "-m",
        "committer x <y> 5 +0000",
    ]);
    let output = format!("type=oci,dest={}", rig.path("image.tar").display());
    rig.build(&[option, "-o", &output]).succeeds();
    let image = crate::rig::image::Image::open(&rig.path("image.tar"));
    assert_eq!(image.setting("Labels")["v"], "1000000000");
    assert_eq!(image.config["created"], "2001-09-09T01:46:40Z");
}
