use proptest::prelude::*;

use crate::dockerfile::assertions::dockerfile_holds;

use super::*;

fn messages(source: &str) -> Vec<String> {
    let errors = parse(source).err().unwrap_or_default();
    errors.into_iter().map(|error| error.message).collect()
}

/// The text under the first error.
fn excerpt(source: &str) -> &str {
    let span = parse(source).unwrap_err()[0].span;
    &source[span.start..span.end]
}

#[test]
fn wrong_triggers_are_refused() {
    for (text, message) in [
        ("", "the ONBUILD trigger holds no instruction"),
        ("FROM a", "FROM isn't allowed as an ONBUILD trigger"),
        (
            "maintainer a",
            "MAINTAINER isn't allowed as an ONBUILD trigger",
        ),
        (
            "ONBUILD RUN a",
            "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
        ),
        (
            "RUN a\nRUN b",
            "onbuild trigger should be a single expression",
        ),
        ("RUN <<E\na", "unterminated heredoc"),
        ("RNU a", "unknown instruction: RNU (did you mean RUN?)"),
    ] {
        let errors = parse_trigger(text).unwrap_err();
        assert_eq!(errors[0].message, message, "{text}");
        if !text.is_empty() && !text.contains('\n') {
            assert_eq!(
                messages(&format!("FROM a\nONBUILD {text}")),
                [message],
                "{text}"
            );
        }
    }
}

#[test]
fn files_without_a_stage_are_errors() {
    for (source, message) in [
        ("", "the Dockerfile cannot be empty"),
        ("\n# x\n", "file with no instructions"),
        ("ARG a\n", "dockerfile contains no stages to build"),
        ("RUN a\nRUN b\nFROM a", "no build stage in current context"),
    ] {
        assert_eq!(messages(source), [message], "{source:?}");
    }
}

#[test]
fn wrong_instructions_are_errors() {
    for (text, message) in [
        ("RUNN a", "unknown instruction: RUNN (did you mean RUN?)"),
        ("foo bar", "unknown instruction: foo"),
        ("FROM", "FROM requires either one or three arguments"),
        ("FROM a b", "FROM requires either one or three arguments"),
        ("FROM a is b", "FROM requires either one or three arguments"),
        ("FROM a AS 1x", INVALID_STAGE),
        (
            "FROM --platfrom=x a",
            "unknown flag: --platfrom (did you mean platform?)",
        ),
        ("RUN", "RUN requires at least one argument"),
        ("RUN []", "RUN requires at least one argument"),
        ("CMD", "CMD requires at least one argument"),
        ("ENTRYPOINT", "ENTRYPOINT requires at least one argument"),
        ("SHELL", "SHELL requires at least one argument"),
        ("SHELL []", "SHELL requires at least one argument"),
        (
            "SHELL sh -c",
            "SHELL requires the arguments to be in JSON form",
        ),
        ("ENV", "ENV requires at least one argument"),
        ("LABEL", "LABEL requires at least one argument"),
        ("EXPOSE", "EXPOSE requires at least one argument"),
        ("VOLUME", "VOLUME requires at least one argument"),
        ("VOLUME []", "VOLUME requires at least one argument"),
        ("ONBUILD", "ONBUILD requires at least one argument"),
        ("HEALTHCHECK", "HEALTHCHECK requires at least one argument"),
        ("ARG", "ARG requires at least one argument"),
        ("USER", "USER requires exactly one argument"),
        ("WORKDIR", "WORKDIR requires exactly one argument"),
        ("STOPSIGNAL", "STOPSIGNAL requires exactly one argument"),
        ("MAINTAINER", "MAINTAINER requires exactly one argument"),
        ("COPY a", COPY_ONE),
        ("COPY\t\n", COPY_ONE),
        ("COPY <<E\nE", COPY_ONE),
        (
            "COPY a <<E\nE",
            "COPY cannot accept a heredoc as a destination",
        ),
        ("RUN [\"a\", 1]", JSON_STRINGS),
        ("VOLUME [null]", JSON_STRINGS),
        ("ENV a", "ENV must have two arguments"),
        (
            "ENV a=1 b",
            "Syntax error - can't find = in \"b\". Must be of the form: name=value",
        ),
        ("ENV =1", "ENV names can not be blank"),
        ("LABEL a=1 =2", "LABEL names can not be blank"),
        ("ARG =1", "ARG names can not be blank"),
        ("RUN <<EOF\nx", "unterminated heredoc"),
        ("ONBUILD RUN <<EOF\nx", "unterminated heredoc"),
        ("MAINTAINER --boo x", "unknown flag: --boo"),
        ("CMD --help x", "unknown flag: --help"),
        (
            "COPY --chwon=a b c",
            "unknown flag: --chwon (did you mean chown?)",
        ),
        ("COPY --from b c", "missing a value on flag: --from"),
        (
            "COPY --from=a --from=b c d",
            "duplicate flag specified: --from",
        ),
        (
            "COPY --link=1 c d",
            "expecting boolean value for flag --link, not: 1",
        ),
        ("ADD --from=a c d", "unknown flag: --from"),
        ("COPY --from=$x c d", COPY_FROM),
        (
            "RUN --mount=type=bin,target=/x a",
            "unsupported mount type \"bin\" (did you mean bind?)",
        ),
        (
            "RUN --network=hst a",
            "invalid network mode \"hst\" (did you mean host?)",
        ),
        ("RUN --security=x a", "invalid security mode \"x\""),
        ("RUN --device=a,b=c a", "unexpected key 'b' in 'b=c'"),
        ("RUN --device=required a", "device name is missing"),
        ("EXPOSE 80/icmp", "invalid proto: icmp"),
        ("EXPOSE 70000", "invalid containerPort: 70000"),
        (
            "STOPSIGNAL SIGTREM",
            "invalid signal: SIGTREM (did you mean SIGTERM?)",
        ),
        (
            "VOLUME [\" \"]",
            "VOLUME specified can not be an empty string",
        ),
        ("HEALTHCHECK NONE x", "HEALTHCHECK NONE takes no arguments"),
        ("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
        (
            "HEALTHCHECK CMD []",
            "Missing command after HEALTHCHECK CMD",
        ),
        (
            "HEALTHCHECK curl x",
            "Unknown type \"CURL\" in HEALTHCHECK (try CMD)",
        ),
        (
            "HEALTHCHECK --interval=50ns CMD x",
            "Interval \"interval\" cannot be less than 1ms",
        ),
        (
            "HEALTHCHECK --timeout=-5s CMD x",
            "Interval \"timeout\" cannot be less than 1ms",
        ),
        (
            "HEALTHCHECK --timeout=5 CMD x",
            "missing unit in duration \"5\"",
        ),
        (
            "HEALTHCHECK --retries=-1 CMD x",
            "--retries cannot be negative (-1)",
        ),
        (
            "HEALTHCHECK --retries=x CMD x",
            "invalid value for --retries: \"x\"",
        ),
    ] {
        assert_eq!(messages(&format!("FROM a\n{text}")), [message], "{text}");
    }
}

const INVALID_STAGE: &str =
    "invalid name for build stage: \"1x\", name can't start with a number or contain symbols";
const COPY_ONE: &str = "COPY requires at least two arguments, but only one was provided. \
                        Destination could not be determined";
const COPY_FROM: &str = "variable expansion is not supported for --from, define a new stage with \
                         FROM using ARG from global scope as a workaround";
const JSON_STRINGS: &str = "when using JSON array syntax, arrays must be comprised of strings only";

#[test]
fn errors_point_at_what_is_wrong() {
    for (source, expected) in [
        ("FROM a\nRUNN x", "RUNN"),
        ("FROM a AS 1x", "1x"),
        ("FROM a\nCOPY \\\n  --chwon=u \\\n  x y", "--chwon=u"),
        (
            "FROM a\nRUN --mount=type=cache,target=/x,mode=9 y",
            "mode=9",
        ),
        (
            "FROM a\nRUN --mount='type=cache,target=/x,mode=9' y",
            "mode=9",
        ),
        ("FROM a\nENV a=1 \\\n # c\n b c=2", "b"),
        ("FROM a\nRUN cat > /f << EOF\nx\n", "<< EOF"),
        ("FROM a\nEXPOSE 80 \\\n 70000", "70000"),
        ("FROM a\nHEALTHCHECK --interval=5 CMD x", "5"),
        ("\u{feff}FROM a\r\nUSER\r\n", "USER"),
        ("FROM a\nSTOPSIGNAL 한국", "한국"),
    ] {
        assert_eq!(excerpt(source), expected, "{source:?}");
    }
}

#[test]
fn all_errors_of_a_file_are_reported_in_order() {
    let source =
        "# escape=x\nFROM a b\nRUNN <<E\nnot an instruction\nE\nCOPY --x --y a\nUSER\nRUN b";
    assert_eq!(
        messages(source),
        [
            "invalid escape token 'x' does not match ` or \\",
            "FROM requires either one or three arguments",
            "unknown instruction: RUNN (did you mean RUN?)",
            COPY_ONE,
            "unknown flag: --x",
            "unknown flag: --y",
            "USER requires exactly one argument",
        ]
    );
}

#[test]
fn suspicious_text_is_warned_about() {
    for (text, expected) in [
        (
            "RUN ['a', 'b']",
            &["looks like a JSON array but is not valid JSON"][..],
        ),
        (
            "CMD [\"a\", \"b\",]",
            &["looks like a JSON array but is not valid JSON"],
        ),
        (
            "ENTRYPOINT ['a']",
            &["looks like a JSON array but is not valid JSON"],
        ),
        ("RUN [ \"$a\" = \"b\" ]", &[]),
        ("RUN [ -f x ]", &[]),
        ("RUN [\"a\"]", &[]),
        ("RUN a \\\n\n b", &["Empty continuation line"]),
        (
            "HEALTHCHECK --retries=1 NONE",
            &["flags have no effect on HEALTHCHECK NONE"],
        ),
        (
            "FROM b AS x\nFROM c AS X",
            &["Duplicate stage name \"x\", stage names should be unique"],
        ),
    ] {
        let file = parse(&format!("FROM a\n{text}")).unwrap();
        let found: Vec<_> = file
            .warnings
            .iter()
            .map(|warning| warning.message.as_str())
            .collect();
        assert_eq!(found, expected, "{text}");
    }
}

fn fragment() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "FROM a\n",
        "FROM ",
        "RUN ",
        "COPY ",
        "ADD ",
        "ENV ",
        "LABEL ",
        "ARG ",
        "CMD ",
        "SHELL ",
        "ONBUILD ",
        "HEALTHCHECK ",
        "EXPOSE ",
        "VOLUME ",
        "STOPSIGNAL ",
        "USER ",
        "# ",
        "escape=`",
        "--mount=",
        "type=cache,",
        "target=/x ",
        "--from=",
        "--link ",
        "--",
        "<<EOF",
        "<<-E ",
        "EOF\n",
        "E\n",
        "\\\n",
        "`\n",
        "\n",
        "\r\n",
        " ",
        "\t",
        "a",
        "=",
        ",",
        "\"",
        "'",
        "\\",
        "$x",
        "${x:-",
        "}",
        "[",
        "]",
        "[\"a\", \"b\"]",
        "[1]",
        "CMD",
        "NONE",
        "80",
        "한",
        "\u{feff}",
        "\u{a0}",
        "AS ",
        "\u{85}",
        "\0",
    ]);
    prop_oneof![10 => words.prop_map(str::to_owned), 1 => any::<String>()]
}

proptest! {
    #[test]
    fn arbitrary_text_is_parsed_or_refused_with_valid_spans(
        parts in prop::collection::vec(fragment(), 0..30)
    ) {
        dockerfile_holds(&parts.concat());
        dockerfile_holds(&format!("FROM a\n{}", parts.concat()));
    }
}
