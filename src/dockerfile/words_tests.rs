use proptest::prelude::*;

use crate::dockerfile::assertions::word_holds;

use super::*;

fn environment(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|&(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn expanded(word: &str, env: &BTreeMap<String, String>) -> Result<String, String> {
    expand(word, '\\', env)
        .map(|expanded| expanded.value)
        .map_err(|error| error.to_string())
}

#[test]
fn quotes_escapes_and_plain_variables_follow_the_shell() {
    let env = environment(&[
        ("PWD", "/home"),
        ("SHELL", "bash"),
        ("KOREAN", "한국어"),
        ("NULL", ""),
    ]);
    for (word, expected) in [
        ("", ""),
        ("hello", "hello"),
        ("he'll'o", "hello"),
        (r"he\'llo", "he'llo"),
        (r"abc\tdef", "abctdef"),
        (r#""abc\tdef""#, r"abc\tdef"),
        (r#""a\\b\"c\$d""#, r#"a\b"c$d"#),
        (r"'abc\tdef'", r"abc\tdef"),
        (r"hello\", "hello"),
        (r"hello\\", r"hello\"),
        (r#""hel'lo""#, "hel'lo"),
        (r"'hello\'", r"hello\"),
        (r#""''""#, "''"),
        ("$.", "$."),
        ("he$1x", "hex"),
        ("he$12x", "hex"),
        ("he$.x", "he$.x"),
        ("he$", "he$"),
        ("he$pwd.", "he."),
        ("he$PWD", "he/home"),
        (r"he\$PWD", "he$PWD"),
        (r"he\\$PWD", r"he\/home"),
        (r#""he\$PWD""#, "he$PWD"),
        (r"'he\$PWD'", r"he\$PWD"),
        (r"he\${}", "he${}"),
        ("he${hi}xx", "hexx"),
        ("he${PWD}", "he/home"),
        ("he${1}xx", "hexx"),
        ("he${@}${*}${#}${?}${-}${$}${!}${0}xx", "hexx"),
        ("he$@$*$#$?$-$$$!$0xx", "hexx"),
        ("'he${XX}'", "he${XX}"),
        (r#""he${PWD}""#, "he/home"),
        (r#""he'$PWD'""#, "he'/home'"),
        (r#"'"hello"'"#, r#""hello""#),
        ("안녕하세요", "안녕하세요"),
        ("안'녕'하세요", "안녕하세요"),
        (r"안녕\t하세요", "안녕t하세요"),
        ("안녕$KOREAN", "안녕한국어"),
        ("a  b\tc", "a  b\tc"),
    ] {
        assert_eq!(expanded(word, &env), Ok(expected.to_owned()), "{word}");
    }
}

#[test]
fn defaults_and_alternatives_know_empty_from_unset() {
    let env = environment(&[
        ("FOO", "xxx"),
        ("BAR", ""),
        ("PWD", "/home"),
        ("SHELL", "bash"),
    ]);
    for (word, expected) in [
        ("${FOO-a} ${BAR-b} ${BAZ-c}", "xxx  c"),
        ("${FOO:-a} ${BAR:-b} ${BAZ:-c}", "xxx b c"),
        ("${FOO+a} ${BAR+b} ${BAZ+c}", "a b "),
        ("${FOO:+a} ${BAR:+b} ${BAZ:+c}", "a  "),
        ("${FOO?m}${BAR?m}${FOO:?m}", "xxxxxx"),
        ("${FOO:-}", "xxx"),
        ("${BAZ:-}", ""),
        ("he${XXX:-$PWD}xx", "he/homexx"),
        ("he${XXX:-${PWD:-yyy}}xx", "he/homexx"),
        ("he${XXX:-${YYY:-yyy}}xx", "heyyyxx"),
        ("he${PWD:+${SHELL}}xx", "hebashxx"),
        ("he${PWD:+${PWD}:}xx", "he/home:xx"),
        (r"he${XXX:-\$PWD:}xx", "he$PWD:xx"),
        (r"he${XXX:-\${PWD}z}xx", "he${PWDz}xx"),
        ("${XXX:-'a}b'}", "a}b"),
        ("${XXX:-\"a}b\"}", "a}b"),
        (r"${XXX:-a\}b}", "a}b"),
        ("\"${XXX:-a b}\"", "a b"),
    ] {
        assert_eq!(expanded(word, &env), Ok(expected.to_owned()), "{word}");
    }
}

#[test]
fn patterns_cut_and_replace() {
    let env = environment(&[
        ("FOO", "xxyy"),
        ("SPECIAL", r"()[]{}^$.*?|\x"),
        ("STARS", "xx**"),
        ("MORE", "a***yy*"),
        ("MARKS", "???y"),
        ("X", "x"),
        ("EMPTY", ""),
        ("PATH1", "/foo*/*/*.txt"),
        ("STARSLASH", r"\*/"),
        ("TMP", "/tmp/tmp/bar.txt"),
        ("SLASHTMP", "/tmp"),
        ("URL", "http://example.org"),
        ("HTTP", "http://"),
        ("HTTPS", "https://"),
        ("DEEP", "/a/foo/b/c.txt"),
        ("ANY", "/?/"),
        ("SLASH", "/"),
    ]);
    for (word, expected) in [
        (r"${SPECIAL#()[]{\}^$.\*\?|\\}", "x"),
        (r"${STARS%%\**}", "xx"),
        ("${FOO#*x*y}", "y"),
        ("${FOO##*x*y}", ""),
        ("${FOO#*}", "xxyy"),
        ("${FOO#$X}", "xyy"),
        ("${FOO#$EMPTY}", "xxyy"),
        ("${FOO#}", "xxyy"),
        ("${FOO##*x}", "yy"),
        ("${FOO##}", "xxyy"),
        (r"${MARKS#?\?}", "?y"),
        ("${ABC:-.}${FOO%x}${ABC:-.}", ".xxyy."),
        ("${FOO%y}", "xxy"),
        ("${FOO%y*}", "xxy"),
        ("${FOO%%y*}", "xx"),
        (r"${MORE%%\**\*}", "a"),
        ("${FOO%}", "xxyy"),
        ("${FOO%%$EMPTY}", "xxyy"),
        ("${UNSET#x}${UNSET%x}${UNSET/x/y}", ""),
        (
            "${PATH1/$STARSLASH/.} - ${PATH1//$STARSLASH/.}",
            "/foo.*/*.txt - /foo..*.txt",
        ),
        (
            "${TMP/$SLASHTMP/} - ${TMP//$SLASHTMP/}",
            "/tmp/bar.txt - /bar.txt",
        ),
        (
            "${DEEP/$ANY/$SLASH} - ${DEEP//$ANY/$SLASH}",
            "/foo/b/c.txt - /foo/c.txt",
        ),
        ("${URL/$HTTP/$HTTPS}", "https://example.org"),
        (r"${TMP//\//\/}", r"\/tmp\/tmp\/bar.txt"),
        ("${FOO/$EMPTY/ww}", "wwxxyy"),
        ("${FOO///}", "xxyy"),
        ("${UNSET///}", ""),
        ("${FOO/x*y/-}", "-"),
    ] {
        assert_eq!(expanded(word, &env), Ok(expected.to_owned()), "{word}");
    }
}

#[test]
fn malformed_words_are_errors() {
    let env = environment(&[("PWD", "/home"), ("BAR", ""), ("ARG", "x")]);
    for (word, expected) in [
        (
            "he'llo",
            "unexpected end of statement while looking for matching single-quote",
        ),
        (
            r"he'llo\'x'",
            "unexpected end of statement while looking for matching single-quote",
        ),
        (
            "\"hello",
            "unexpected end of statement while looking for matching double-quote",
        ),
        (
            r#""hello\""#,
            "unexpected end of statement while looking for matching double-quote",
        ),
        ("he${}xx", "syntax error: bad substitution"),
        ("he${{x}}", "syntax error: bad substitution"),
        ("he${:x}", "syntax error: bad substitution"),
        ("he${", "syntax error: missing '}'"),
        ("he${PWD", "syntax error: missing '}'"),
        ("he${PWD:", "syntax error: missing '}'"),
        ("he${PWD:-x", "syntax error: missing '}'"),
        ("he${PWD:-'x}", "syntax error: missing '}'"),
        ("he${PWD#x", "syntax error: missing '}'"),
        ("he${PWD/x", "syntax error: missing '/' in ${}"),
        ("he${PWD/x/y", "syntax error: missing '}'"),
        ("he${PWD//x}", "syntax error: missing '/' in ${}"),
        ("he${PWD//}", "syntax error: missing '/' in ${}"),
        ("he${.}", "unsupported modifier (.) in substitution"),
        ("he${XXX:YYY}", "unsupported modifier (:Y) in substitution"),
        (
            "he${PWD:=000}xx",
            "unsupported modifier (:=) in substitution",
        ),
        ("he${PWD=000}", "unsupported modifier (=) in substitution"),
        ("he${PWD^^}", "unsupported modifier (^) in substitution"),
        ("${NONE?}", "NONE: is not allowed to be unset"),
        ("${NONE:?}", "NONE: is not allowed to be unset"),
        ("${BAR:?}", "BAR: is not allowed to be empty"),
        ("${BAR:?message here$ARG}", "BAR: message herex"),
        ("${NONE?message here$ARG}", "NONE: message herex"),
        (
            r"${PWD#\x}",
            r"invalid pattern (\x) in substitution: invalid escape '\x'",
        ),
    ] {
        assert_eq!(expanded(word, &env), Err(expected.to_owned()), "{word}");
    }
}

#[test]
fn the_escape_directive_replaces_the_backslash() {
    let env = environment(&[("PWD", "/home")]);
    for (word, expected) in [
        (r"c:\$PWD", r"c:\/home"),
        ("`$PWD", "$PWD"),
        ("\"`\"\"", "\""),
        (r"a\b", r"a\b"),
    ] {
        assert_eq!(expand(word, '`', &env).unwrap().value, expected, "{word}");
    }
}

#[test]
fn results_are_split_at_blanks_that_no_quote_protects() {
    let env = environment(&[
        ("hi", "hi"),
        ("space", "abc  def"),
        ("leading", "  ab c"),
        ("trailing", "ab c   "),
    ]);
    for (word, expected) in [
        ("", &[][..]),
        ("$none", &[]),
        ("hello", &["hello"]),
        ("hello${none}bye", &["hellobye"]),
        ("hello${hi}bye", &["hellohibye"]),
        ("hello${space}bye", &["helloabc", "defbye"]),
        ("hello\"${space}\"bye", &["helloabc  defbye"]),
        ("hello \"${space}\"bye", &["hello", "abc  defbye"]),
        ("hello${leading}def", &["hello", "ab", "cdef"]),
        ("hello\"${leading}\" def", &["hello  ab c", "def"]),
        ("hello${trailing}", &["helloab", "c"]),
        ("hello${trailing}d", &["helloab", "c", "d"]),
        ("hello\"${trailing}\"d", &["helloab c   d"]),
        ("hello\" there  \"", &["hello there  "]),
        ("hello there   ", &["hello", "there"]),
        (r"hello\ there", &["hello there"]),
        (r#"hello\" there"#, &["hello\"", "there"]),
    ] {
        assert_eq!(
            expand_to_words(word, '\\', &env).unwrap().0,
            expected,
            "{word}"
        );
    }
}

#[test]
fn heredoc_bodies_keep_their_quotes() {
    let env = environment(&[("name", "world")]);
    for (body, expected) in [
        ("Hello ${name}!\n", "Hello world!\n"),
        ("Hello '${name}'!\n", "Hello 'world'!\n"),
        ("it's \"$name\n", "it's \"world\n"),
        ("\\\n", "\n"),
        ("\\\\\n", "\\\n"),
        ("\\$name\n", "$name\n"),
        ("${none:-'a'}\n", "'a'\n"),
    ] {
        assert_eq!(
            expand_heredoc(body, &env).unwrap().value,
            expected,
            "{body}"
        );
    }
}

#[test]
fn variables_are_reported_once_as_used_or_unset() {
    let env = environment(&[("A", "1"), ("B", "")]);
    let expanded = expand("$A ${B:-$C} $C ${A#$D} $A '$E'", '\\', &env).unwrap();
    assert_eq!(expanded.used, ["A", "B"]);
    assert_eq!(expanded.unset, ["C", "D"]);
}

#[test]
fn size_and_depth_are_bounded() {
    let env = environment(&[("BIG", &"x".repeat(300_000))]);
    assert_eq!(
        expand("$BIG$BIG$BIG", '\\', &env).unwrap().value.len(),
        900_000
    );
    assert_eq!(
        expand("$BIG$BIG$BIG$BIG", '\\', &env),
        Err(WordError::TooLong)
    );
    assert_eq!(
        expand("\"$BIG$BIG$BIG$BIG\"", '\\', &env),
        Err(WordError::TooLong)
    );
    assert_eq!(
        expand("${BIG//x/yyyy}", '\\', &env),
        Err(WordError::TooLong)
    );
    let nested = |depth| "${A:-".repeat(depth) + &"}".repeat(depth);
    assert_eq!(expand(&nested(MAX_DEPTH), '\\', &env).unwrap().value, "");
    assert_eq!(
        expand(&nested(MAX_DEPTH + 1), '\\', &env),
        Err(WordError::TooDeep)
    );
    assert_eq!(
        expand(&nested(100_000), '\\', &env),
        Err(WordError::TooDeep)
    );
}

/// A trimming operator behind a colon made a second look-up.
#[test]
fn a_variable_is_looked_up_once() {
    for word in ["${a:#x}", "${a:%%x}", "${a#x}", "${a//x/y}", "${a:-$b}"] {
        word_holds(word);
    }
}

proptest! {
    #[test]
    fn expansion_never_panics(word in "[a-c$\\{}:'\"\\\\/#%*?+ \n한-]{0,40}", value in "[ab/*\n]{0,12}") {
        let env = environment(&[("a", &value), ("b", "")]);
        for escape in ['\\', '`'] {
            drop(expand(&word, escape, &env));
            drop(expand_to_words(&word, escape, &env));
        }
        drop(expand_heredoc(&word, &env));
        word_holds(&word);
    }

    #[test]
    fn text_without_special_characters_stays_as_it_is(word in "[^$'\"\\\\]{0,40}") {
        let expanded = expand(&word, '\\', &environment(&[])).unwrap();
        prop_assert_eq!(expanded.value, word);
    }
}
