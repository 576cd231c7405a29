//! Variables in words: every rule of the Dockerfile reference, shown through what a build makes of
//! real Dockerfiles.

use serde_json::json;

use crate::rig::Rig;
use crate::rig::image::Image;

const BEFORE: &str = "FROM scratch\nENV set=value empty= path=/a/b/c.tar.gz star='x*y*z' n=한국\n";

/// One build with a label for each word; the values in their order.
fn labels(before: &str, words: &[&str]) -> Vec<String> {
    let rig = Rig::empty();
    let lines: String = words
        .iter()
        .enumerate()
        .map(|(index, word)| format!("LABEL l{index}={word}\n"))
        .collect();
    let image = rig.image(&format!("{before}{lines}"));
    let labels = image.setting("Labels");
    (0..words.len())
        .map(|index| labels[format!("l{index}")].as_str().unwrap().to_owned())
        .collect()
}

fn expand_all(before: &str, table: &[(&str, &str)]) {
    let words: Vec<&str> = table.iter().map(|(word, _)| *word).collect();
    for ((word, expected), found) in table.iter().zip(labels(before, &words)) {
        assert_eq!(found, *expected, "{word}");
    }
}

#[test]
fn quotes_and_escapes() {
    expand_all(
        BEFORE,
        &[
            ("'$set'", "$set"),
            ("\"$set\"", "value"),
            ("a'b'\"c\"d", "abcd"),
            ("\"it's\"", "it's"),
            (r#""a\"b\$set\\c\d""#, r#"a"b$set\c\d"#),
            (r"\$set", "$set"),
            (r"a\b\\c", r"ab\c"),
            (r"'a\b'", r"a\b"),
            (r"a\ b", "a b"),
            ("\"a  b\"", "a  b"),
            ("''", ""),
            ("$n", "한국"),
        ],
    );
    expand_all(
        &format!("# escape=`\n{BEFORE}"),
        &[
            ("`$set", "$set"),
            (r"c:\$set", r"c:\value"),
            ("\"`\"\"", "\""),
        ],
    );
}

#[test]
fn names_and_special_parameters() {
    expand_all(
        BEFORE,
        &[
            ("$set", "value"),
            ("${set}s", "values"),
            ("$sets", ""),
            ("$set.x", "value.x"),
            ("$set/$set", "value/value"),
            ("a$", "a$"),
            ("a$.b", "a$.b"),
            ("a$1b", "ab"),
            ("a$12b", "ab"),
            ("a$@$*$#$?$-$$$!b", "ab"),
            ("a${@}${*}${#}${?}${-}${$}${!}${0}b", "ab"),
            ("$SET", ""),
        ],
    );
}

#[test]
fn values_for_what_is_unset_or_empty() {
    expand_all(
        BEFORE,
        &[
            ("${set:-w}", "value"),
            ("${empty:-w}", "w"),
            ("${unset:-w}", "w"),
            ("${set-w}", "value"),
            ("${empty-w}", ""),
            ("${unset-w}", "w"),
            ("${set:+w}", "w"),
            ("${empty:+w}", ""),
            ("${unset:+w}", ""),
            ("${set+w}", "w"),
            ("${empty+w}", "w"),
            ("${unset+w}", ""),
            ("${set:?m}${set?m}${empty?m}", "valuevalue"),
            ("${unset:-${set}}", "value"),
            ("${unset:-${other:-deep}}", "deep"),
            ("\"${unset:-a b}\"", "a b"),
            ("${unset:-'a}b'}", "a}b"),
        ],
    );
}

#[test]
fn patterns_cut_and_replace() {
    expand_all(
        BEFORE,
        &[
            ("${path#*/}", "a/b/c.tar.gz"),
            ("${path##*/}", "c.tar.gz"),
            ("${path%.*}", "/a/b/c.tar"),
            ("${path%%.*}", "/a/b/c"),
            ("${path#?a}", "/b/c.tar.gz"),
            ("${path#nothing}", "/a/b/c.tar.gz"),
            ("${path:#*/}", "a/b/c.tar.gz"),
            (r"${star#x\*}", "y*z"),
            (r"${star%\**}", "x*y"),
            ("${unset#x}${unset%x}", ""),
            ("${path/a/X}", "/X/b/c.tar.gz"),
            ("${path//a/X}", "/X/b/c.tXr.gz"),
            (r"${path//\//-}", "-a-b-c.tar.gz"),
            ("${path/b*/X}", "/a/X"),
            ("${path/./X}", "/a/b/cXtar.gz"),
            ("${path//./}", "/a/b/ctargz"),
            ("${path/[a]/X}", "/a/b/c.tar.gz"),
            ("${unset/a/b}", ""),
        ],
    );
}

#[test]
fn words_that_are_wrong_end_the_build_at_their_line() {
    for (word, message) in [
        ("${set", "syntax error: missing '}'"),
        ("${", "syntax error: missing '}'"),
        ("${set:-x", "syntax error: missing '}'"),
        ("${}", "syntax error: bad substitution"),
        ("${:x}", "syntax error: bad substitution"),
        ("${{set}}", "syntax error: bad substitution"),
        ("${set=x}", "unsupported modifier (=) in substitution"),
        ("${set:=x}", "unsupported modifier (:=) in substitution"),
        ("${set^^}", "unsupported modifier (^) in substitution"),
        ("${set,}", "unsupported modifier (,) in substitution"),
        ("${set/x}", "syntax error: missing '/' in ${}"),
        (
            r"${set#\x}",
            r"invalid pattern (\x) in substitution: invalid escape '\x'",
        ),
        ("${unset:?}", "unset: is not allowed to be unset"),
        ("${unset?}", "unset: is not allowed to be unset"),
        ("${empty:?}", "empty: is not allowed to be empty"),
        ("\"${unset?give $set}\"", "unset: give value"),
    ] {
        let rig = Rig::empty();
        rig.dockerfile(&format!("{BEFORE}LABEL a={word}"));
        rig.build(&[])
            .exits_with(1)
            .says(&[message, "Dockerfile:3"]);
    }
}

#[test]
fn one_instruction_sees_the_variables_from_before_it() {
    expand_all(
        "FROM scratch\nENV a=old\nENV a=new b=$a\nARG c=1 d=$c\n",
        // ARG is the exception: each of its words sees those before it.
        &[("$a", "new"), ("$b", "old"), ("$d", "1")],
    );
}

/// What the words of one instruction become.
#[test]
fn the_instructions_whose_words_are_expanded() {
    let rig = Rig::new();
    rig.write("file", "x");
    let image = |lines: &str| -> Image {
        rig.image(&format!("FROM base\nENV v=file p=8000 k=key d=/d\n{lines}"))
    };
    assert_eq!(image("COPY $v ${d}/").text("d/file"), "x");
    assert_eq!(image("ADD ${v} /$v").text("file"), "x");
    assert_eq!(
        image("ENV m=600\nCOPY --chmod=$m $v /f").file("f").mode,
        0o600
    );
    assert_eq!(image("ENV o=0:0\nCOPY --chown=$o $v /f").file("f").uid, 0);
    assert_eq!(image("WORKDIR $d/${v}").setting("WorkingDir"), "/d/file");
    assert_eq!(
        *image("LABEL $k=$v").setting("Labels"),
        json!({"key": "file"})
    );
    let env = image("ENV $k=$v").setting("Env").to_string();
    assert!(env.contains("\"key=file\""), "{env}");
    assert_eq!(image("USER ${u:-app}:$g").setting("User"), "app:");
    assert_eq!(
        *image("VOLUME $d ${d}2").setting("Volumes"),
        json!({"/d": {}, "/d2": {}})
    );
    assert_eq!(
        image("ENV s=SIGUSR1\nSTOPSIGNAL $s").setting("StopSignal"),
        "SIGUSR1"
    );
    assert_eq!(
        image("ARG a=${v}2\nLABEL l=$a").setting("Labels")["l"],
        "file2"
    );
    assert_eq!(
        image("COPY <<EOF /h\n$v '$v' \\$v\nEOF").text("h"),
        "file 'file' $v\n"
    );
    assert_eq!(image("COPY <<'EOF' /h\n$v\nEOF").text("h"), "$v\n");
    // EXPOSE splits what its words have become.
    let exposed = image("ENV ports=\"80 443/udp\"\nEXPOSE $ports $p-8001");
    assert_eq!(
        *exposed.setting("ExposedPorts"),
        json!({"80/tcp": {}, "443/udp": {}, "8000/tcp": {}, "8001/tcp": {}})
    );
}

#[test]
fn the_instructions_whose_words_are_left_alone() {
    let rig = Rig::new();
    let image = rig.image(
        "FROM base\nENV v=x\nENTRYPOINT [\"$v\"]\nSHELL [\"$v\"]\n\
         HEALTHCHECK CMD $v\nMAINTAINER $v\nONBUILD LABEL a=$v",
    );
    assert_eq!(*image.setting("Entrypoint"), json!(["$v"]));
    assert_eq!(*image.setting("Shell"), json!(["$v"]));
    assert_eq!(image.setting("Healthcheck")["Test"][1], "$v");
    assert_eq!(image.config["author"], "$v");
    assert_eq!(image.setting("OnBuild")[0], "LABEL a=$v");
    let image = rig.image("FROM base\nENV v=x\nCMD echo $v\nRUN v=own; echo $v > /out");
    assert_eq!(image.setting("Cmd")[2], "echo $v");
    assert_eq!(image.text("out"), "own\n");
}

#[test]
fn from_lines_see_global_arguments_only() {
    let rig = Rig::new();
    let image = rig.image("ARG name=ba tag=latest\nFROM ${name}se:${tag#x}\nRUN touch /x");
    assert!(image.has("x"));
    for (dockerfile, says) in [
        (
            "FROM $x",
            &["base name ($x) should not be blank", "ARG x="][..],
        ),
        (
            "FROM base\nARG y=base\nFROM ${y}",
            &["base name (${y}) should not be blank"],
        ),
        ("FROM ${x:?no-image}", &["x: no-image"]),
        (
            "FROM base\nCOPY --from=$x a b",
            &[
                "variable expansion is not supported for --from, define a new stage with FROM using \
               ARG from global scope as a workaround",
            ],
        ),
    ] {
        rig.dockerfile(dockerfile);
        rig.build(&[]).exits_with(1).says(says);
    }
}
