use super::*;
use crate::dockerfile::{
    CopyInstruction, Duration, Healthcheck, RunInstruction, RunNetwork, RunScript, RunSecurity,
    ShellOrExec, Source,
};

/// The instructions of a file whose only stage is `FROM a`, which is put in front.
fn instructions(text: &str) -> Vec<Instruction> {
    let source = format!("FROM a\n{text}");
    let file = parse(&source).unwrap_or_else(|errors| panic!("{text}: {errors:?}"));
    let statements = file.stages.into_iter().flat_map(|stage| stage.statements);
    statements.map(|statement| statement.instruction).collect()
}

fn only(text: &str) -> Instruction {
    let mut instructions = instructions(text);
    assert_eq!(instructions.len(), 1, "{text}");
    instructions.remove(0)
}

fn copied(text: &str) -> CopyInstruction {
    match only(text) {
        Instruction::Copy(copy) => copy,
        other => panic!("{other:?}"),
    }
}

fn running(text: &str) -> RunInstruction {
    match only(text) {
        Instruction::Run(run) => run,
        other => panic!("{other:?}"),
    }
}

fn values(list: &[Spanned<String>]) -> Vec<&str> {
    list.iter().map(|item| item.value.as_str()).collect()
}

fn value(item: Option<&Spanned<String>>) -> Option<&str> {
    item.map(|item| item.value.as_str())
}

#[test]
fn stages_have_a_base_a_name_and_a_platform() {
    let source = "ARG V=1\nARG W\nFROM a:$V\nRUN x\nfrom --platform=$P B As Name-1.x_\nUSER u\n";
    let file = parse(source).unwrap();
    assert_eq!(file.global_args.len(), 2);
    let [first, second] = file.stages.as_slice() else {
        panic!("two stages expected")
    };
    assert_eq!((first.index, first.base.value.as_str()), (0, "a:$V"));
    assert_eq!((&first.name, &first.platform), (&None, &None));
    assert_eq!(second.base.value, "B");
    assert_eq!(value(second.name.as_ref()), Some("name-1.x_"));
    assert_eq!(value(second.platform.as_ref()), Some("$P"));
    assert_eq!(second.from.text, "from --platform=$P B As Name-1.x_");
    assert_eq!((second.from.line, second.statements[0].line), (5, 6));
    let name = second.name.as_ref().unwrap().span;
    assert_eq!(&source[name.start..name.end], "Name-1.x_");
}

#[test]
fn a_statement_knows_its_text_and_place() {
    let source =
        "FROM a\n# why\nRun --network=none echo \\\n  # no\n  b <<E <<F  \nx\nE\ny\nF\r\nUSER u";
    let file = parse(source).unwrap();
    let [run, user] = file.stages[0].statements.as_slice() else {
        panic!("two expected")
    };
    assert_eq!(run.text, "Run --network=none echo   b <<E <<F");
    assert_eq!((run.line, user.line), (3, 10));
    assert_eq!(&source[run.keyword_span.start..run.keyword_span.end], "Run");
    assert!(source[run.span.start..run.span.end].starts_with("Run --"));
    assert!(source[run.span.start..run.span.end].ends_with("y\nF"));
    assert_eq!(values(&run.comments), ["why"]);
}

#[test]
fn run_has_a_shell_and_an_exec_form() {
    for (text, script) in [
        ("RUN echo  a", RunScript::Shell("echo  a".to_owned())),
        ("RUN -- echo", RunScript::Shell("echo".to_owned())),
        (
            "RUN [\"a\", \"b\\\"c\"]",
            RunScript::Exec(vec!["a".to_owned(), "b\"c".to_owned()]),
        ),
        ("RUN [ \"a\" ]  ", RunScript::Exec(vec!["a".to_owned()])),
        ("RUN ['a', 'b']", RunScript::Shell("['a', 'b']".to_owned())),
        (
            "RUN [\"a\"] && b",
            RunScript::Shell("[\"a\"] && b".to_owned()),
        ),
        ("RUN [\"<<EOF\"]", RunScript::Exec(vec!["<<EOF".to_owned()])),
        (
            "RUN <<EOF\nls /\n# no comment\nwhoami\nEOF",
            shell("ls /\n# no comment\nwhoami\n"),
        ),
        ("RUN <<EOF\nEOF", shell("")),
        ("RUN <<-EOF\n\t\ta\n\tb\n\tEOF", shell("a\nb\n")),
        (
            "RUN <<'EOF' | python\nprint(1)\nEOF",
            shell("<<'EOF' | python\nprint(1)\nEOF"),
        ),
        ("RUN <<EOF sh\na\\\nb\nEOF", shell("<<EOF sh\na\\\nb\nEOF")),
        ("RUN <<-EOF sh\n\ta\n\tEOF", shell("<<-EOF sh\n\ta\nEOF")),
        ("RUN <<  EOF  > f\nx\nEOF", shell("<<  EOF  > f\nx\nEOF")),
        (
            "RUN cat <<A >a && \\\n cat <<B\n1\nA\n2\nB",
            shell("cat <<A >a &&  cat <<B\n1\nA\n2\nB"),
        ),
        ("RUN 3<<E cat <&3\nx\nE", shell("3<<E cat <&3\nx\nE")),
        ("RUN <<E\r\na\r\nE\r\n", shell("a\r\n")),
        (
            "RUN <<-E\n#!/bin/awk -f\n\tx\nE",
            RunScript::File {
                name: "E".to_owned(),
                contents: "#!/bin/awk -f\nx\n".to_owned(),
            },
        ),
    ] {
        assert_eq!(running(text).script(), script, "{text}");
    }
}

fn shell(text: &str) -> RunScript {
    RunScript::Shell(text.to_owned())
}

#[test]
fn heredocs_keep_how_they_were_written() {
    let run = running("RUN <<E 3<<-'F'\n$a\nE\n\t$b\n\tF\n");
    let [first, second] = run.heredocs.as_slice() else {
        panic!("two heredocs expected")
    };
    assert_eq!(
        (first.name.as_str(), first.fd, first.body.as_str()),
        ("E", 0, "$a\n")
    );
    assert!(first.expand && !first.strip_tabs);
    assert_eq!(
        (second.name.as_str(), second.fd, second.body.as_str()),
        ("F", 3, "\t$b\n")
    );
    assert!(!second.expand && second.strip_tabs);
    assert_eq!(second.contents(), "$b\n");
}

#[test]
fn run_flags_are_typed() {
    let run = running(
        "RUN --mount=type=cache,target=/c --mount=from=b,target=$t --network=host \
         --security=insecure --device=name=vendor.com/gpu=all,required --device=a/b=c x",
    );
    assert_eq!(run.mounts.len(), 2);
    assert_eq!(value(run.mounts[1].from.as_ref()), Some("b"));
    assert_eq!(run.network.unwrap().value, RunNetwork::Host);
    assert_eq!(run.security.unwrap().value, RunSecurity::Insecure);
    let devices: Vec<_> = run
        .devices
        .iter()
        .map(|device| (device.value.name.as_str(), device.value.required))
        .collect();
    assert_eq!(devices, [("vendor.com/gpu=all", true), ("a/b=c", false)]);
}

#[test]
fn copy_takes_words_json_and_heredocs() {
    for (text, sources, destination) in [
        ("COPY a b", &["a"][..], "b"),
        ("COPY  a\tb  c/ ", &["a", "b"], "c/"),
        ("COPY [\"a b\", \"c\"]", &["a b"], "c"),
        ("COPY a \\\n # c\n b", &["a"], "b"),
        ("COPY <<E /x\n1\nE", &["<<E:1\n"], "/x"),
        ("COPY <<X <<Y /d\nY\nX\nX\nY", &["<<X:Y\n", "<<Y:X\n"], "/d"),
        ("COPY <<E f.txt /d\n1\nE", &["<<E:1\n", "f.txt"], "/d"),
        ("COPY a << E b /d\n1\nE", &["a", "<<E:1\n", "b"], "/d"),
        ("COPY <<'one two' /d\n1\none two", &["<<one two:1\n"], "/d"),
        ("COPY <<-E /d\n\t1\n\tE", &["<<E:1\n"], "/d"),
        ("COPY [\"<<E\", \"/d\"]", &["<<E"], "/d"),
    ] {
        let copy = copied(text);
        let found: Vec<String> = copy
            .sources
            .iter()
            .map(|source| match source {
                Source::Path(path) => path.value.clone(),
                Source::Heredoc(document) => {
                    format!("<<{}:{}", document.name, document.contents())
                }
            })
            .collect();
        assert_eq!(found, sources, "{text}");
        assert_eq!(copy.destination.value, destination, "{text}");
    }
}

#[test]
fn copy_and_add_flags_are_typed() {
    let copy = copied(
        "COPY --from=b --chown=u:g --chmod=u+x --link --parents=true --exclude=a --exclude=!b x y",
    );
    assert_eq!(value(copy.from.as_ref()), Some("b"));
    assert_eq!(value(copy.chown.as_ref()), Some("u:g"));
    assert_eq!(value(copy.chmod.as_ref()), Some("u+x"));
    assert_eq!((copy.link, copy.parents), (Some(true), true));
    assert_eq!(values(&copy.excludes), ["a", "!b"]);
    let copy = copied("COPY --link=false --parents=false x y");
    assert_eq!((copy.link, copy.parents), (Some(false), false));
    assert_eq!(copied("COPY x y").link, None);
    let Instruction::Add(add) =
        only("ADD --checksum=sha256:1 --keep-git-dir --unpack=false --chown=1 https://e/x /y")
    else {
        panic!("not an ADD")
    };
    assert_eq!(value(add.checksum.as_ref()), Some("sha256:1"));
    assert_eq!((add.keep_git_dir, add.unpack), (Some(true), Some(false)));
    assert_eq!(value(add.copy.chown.as_ref()), Some("1"));
}

#[test]
fn env_and_label_take_pairs_or_the_old_form() {
    for (text, pairs, legacy) in [
        ("ENV a=1", &[("a", "1")][..], false),
        (
            "ENV a=1 b='x y' c=\"x y\"\\ z d=",
            &[("a", "1"), ("b", "'x y'"), ("c", "\"x y\"\\ z"), ("d", "")],
            false,
        ),
        ("ENV a b=c d", &[("a", "b=c d")], true),
        ("ENV a   b", &[("a", "b")], true),
        ("ENV a=b=c", &[("a", "b=c")], false),
        ("ENV a=1\\\n  b=2", &[("a", "1"), ("b", "2")], false),
        (
            "LABEL a.b=\"c\" d=e\\",
            &[("a.b", "\"c\""), ("d", "e")],
            false,
        ),
        ("LABEL a b", &[("a", "b")], true),
    ] {
        let (Instruction::Env(found) | Instruction::Label(found)) = only(text) else {
            panic!("{text}")
        };
        let values: Vec<_> = found
            .pairs
            .iter()
            .map(|(key, value)| (key.value.as_str(), value.value.as_str()))
            .collect();
        assert_eq!(values, pairs, "{text}");
        assert_eq!(found.legacy, legacy, "{text}");
    }
}

#[test]
fn arg_declares_several_names() {
    let Instruction::Arg(arguments) = only("ARG a b=1 c= d=\"x y\"") else {
        panic!()
    };
    let found: Vec<_> = arguments
        .iter()
        .map(|argument| {
            (
                argument.name.value.as_str(),
                value(argument.default.as_ref()),
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            ("a", None),
            ("b", Some("1")),
            ("c", Some("")),
            ("d", Some("\"x y\""))
        ]
    );
}

#[test]
fn commands_keep_their_form() {
    for (text, exec) in [
        ("CMD a b", None),
        ("cmd [\"a\",\"b\"]", Some(&["a", "b"][..])),
        ("CMD []", Some(&[])),
        ("ENTRYPOINT [\"a\"]", Some(&["a"])),
        ("ENTRYPOINT []", Some(&[])),
        ("Entrypoint a", None),
    ] {
        let (Instruction::Cmd(command) | Instruction::Entrypoint(command)) = only(text) else {
            panic!("{text}")
        };
        match command {
            ShellOrExec::Exec(list) => assert_eq!(
                Some(list.value.as_slice()),
                exec.map(|exec| { exec.iter().map(|&item| item.to_owned()).collect::<Vec<_>>() })
                    .as_deref(),
                "{text}"
            ),
            ShellOrExec::Shell(_) => assert_eq!(exec, None, "{text}"),
        }
    }
    let expected = vec!["sh".to_owned(), "-c".to_owned()];
    assert_eq!(only("SHELL [\"sh\", \"-c\"]"), Instruction::Shell(expected));
}

#[test]
fn single_values_take_the_rest_of_the_line() {
    for (text, expected) in [
        ("USER a:b", "a:b"),
        ("WORKDIR  /a b ", "/a b"),
        ("STOPSIGNAL SIGTERM", "SIGTERM"),
        ("STOPSIGNAL $SIG", "$SIG"),
        ("MAINTAINER A B <c@d>", "A B <c@d>"),
    ] {
        let (Instruction::User(found)
        | Instruction::Workdir(found)
        | Instruction::Stopsignal(found)
        | Instruction::Maintainer(found)) = only(text)
        else {
            panic!("{text}")
        };
        assert_eq!(found.value, expected);
    }
    let Instruction::Expose(ports) = only("EXPOSE 80 $p 8000-8002/udp") else {
        panic!()
    };
    assert_eq!(values(&ports), ["80", "$p", "8000-8002/udp"]);
    for text in ["VOLUME a b", "VOLUME [\"a\", \"b\"]"] {
        let Instruction::Volume(volumes) = only(text) else {
            panic!()
        };
        assert_eq!(values(&volumes), ["a", "b"], "{text}");
    }
}

#[test]
fn healthchecks_are_typed() {
    assert_eq!(
        only("HEALTHCHECK none"),
        Instruction::Healthcheck(Healthcheck::None)
    );
    let text = "HEALTHCHECK --interval=5s --timeout=1m --start-period=0s --start-interval=1ms \
                --retries=3 cmd [\"a\", \"b\"]";
    let Instruction::Healthcheck(Healthcheck::Check {
        test: ShellOrExec::Exec(test),
        interval,
        timeout,
        start_period,
        start_interval,
        retries,
    }) = only(text)
    else {
        panic!("not a check")
    };
    assert_eq!(test.value, ["a", "b"]);
    assert_eq!(interval, Some(Duration(5_000_000_000)));
    assert_eq!(timeout, Some(Duration(60_000_000_000)));
    assert_eq!(start_period, Some(Duration(0)));
    assert_eq!(start_interval, Some(Duration(1_000_000)));
    assert_eq!(retries, Some(3));
    let Instruction::Healthcheck(Healthcheck::Check {
        test,
        interval: None,
        retries: None,
        ..
    }) = only("HEALTHCHECK --interval= CMD curl --fail x")
    else {
        panic!("not a check")
    };
    assert!(matches!(test, ShellOrExec::Shell(text) if text.value == "curl --fail x"));
}

#[test]
fn onbuild_keeps_its_trigger_verbatim() {
    for (text, trigger) in [
        ("ONBUILD RUN a  b", "RUN a  b"),
        ("onbuild   copy a b", "copy a b"),
        ("ONBUILD RUN a \\\n  b", "RUN a   b"),
        ("ONBUILD RUN <<E sh\n  a\nE\nUSER u", "RUN <<E sh\n  a\nE"),
        (
            "ONBUILD COPY <<A <<B /x\n1\nA\n2\nB",
            "COPY <<A <<B /x\n1\nA\n2\nB",
        ),
        ("ONBUILD CMD [\"<<E\"]", "CMD [\"<<E\"]"),
    ] {
        let Instruction::Onbuild(onbuild) = instructions(text).remove(0) else {
            panic!("{text}")
        };
        assert_eq!(onbuild.trigger, trigger, "{text}");
        let stored = parse_trigger(&onbuild.trigger).unwrap();
        assert_eq!(stored.text, onbuild.parsed.text, "{text}");
        if let (Instruction::Run(stored), Instruction::Run(parsed)) =
            (&stored.instruction, &onbuild.parsed.instruction)
        {
            assert_eq!(stored.script(), parsed.script(), "{text}");
        }
    }
}

#[test]
fn the_escape_directive_reaches_words_and_flags() {
    let source = "# escape=`\nFROM a\nCOPY --chown=a` b c:\\x `\n  d:\\\nENV a=b` c";
    let file = parse(source).unwrap();
    let [copy, env] = file.stages[0].statements.as_slice() else {
        panic!("two expected")
    };
    let Instruction::Copy(copy) = &copy.instruction else {
        panic!("not a COPY")
    };
    assert_eq!(value(copy.chown.as_ref()), Some("a b"));
    assert_eq!(copy.destination.value, "d:\\");
    let Instruction::Env(env) = &env.instruction else {
        panic!("not an ENV")
    };
    assert_eq!(env.pairs[0].1.value, "b` c");
}
