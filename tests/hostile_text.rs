//! Text of strangers: no byte of it that acts on a terminal gets to one.

use std::fs;
use std::process::Command;

use serde_json::json;

use crate::rig::Rig;
use crate::rig::forged::{Forged, Layer};
use crate::rig::outcome::Outcome;
use crate::rig::terminal::{self, Terminal};

/// A title, a bell, a cleared screen, a return, both of C1's introducers and a mark that turns text around.
const EVIL: &str = "\u{1b}]0;stolen\u{7}\u{1b}[2J\rgone\u{9b}2J\u{9d}x\u{202e}txt\u{8}\u{7f}";

/// What of [`EVIL`] must not be in `text`; a terminal's own lines end with a return.
#[track_caller]
fn is_harmless(name: &str, text: &str, is_live: bool) {
    let text = match is_live {
        // What rbuild itself draws: cursor movements, erasures and colours, nothing else.
        true => without_drawing(text),
        false => text.to_owned(),
    };
    let raw = text.chars().find(|c| {
        (c.is_control() && !matches!(c, '\n' | '\t')) || matches!(c, '\u{202a}'..='\u{202e}')
    });
    assert_eq!(raw, None, "{name}: {text:?}");
}

fn without_drawing(text: &str) -> String {
    let mut left = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('\u{1b}') {
        left.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let parameters = after.strip_prefix('[').map(|after| {
            after.trim_start_matches(|c: char| c.is_ascii_digit() || matches!(c, ';' | '?'))
        });
        // `CSI 2 J` would clear the screen; rbuild only erases from the cursor on.
        let drawn = parameters
            .filter(|end| end.starts_with(['A', 'F', 'G', 'K', 'm', 'h', 'l', 'J', 'C', 'B', 'E']));
        match drawn {
            Some(end) if !after.starts_with("[2J") => rest = &end[1..],
            _ => {
                left.push('\u{1b}');
                rest = after;
            }
        }
    }
    left.push_str(rest);
    left.replace("\r\n", "\n").replace('\r', "")
}

/// An image in the store whose every text is evil, and a context in which every name is.
fn rig() -> Rig {
    let rig = Rig::new();
    let mut forged = Forged::on_base(vec![Layer::new().file(format!("file{EVIL}"), "x").tar()]);
    forged.settings = json!({
        "Env": ["PATH=/bin", format!("EVIL={EVIL}")],
        "Labels": {EVIL: EVIL},
        "Cmd": [EVIL],
        "Entrypoint": [EVIL],
        "WorkingDir": format!("/{EVIL}"),
        "StopSignal": EVIL,
        "Volumes": {format!("/{EVIL}"): {}},
        "ExposedPorts": {EVIL: {}},
    });
    forged.history = vec![
        json!({"created": "2020-01-01T00:00:00Z", "created_by": EVIL, "comment": EVIL, "author": EVIL}),
        json!({"created": EVIL, "created_by": format!("a\nb\t{EVIL}")}),
    ];
    fs::write(rig.path("evil.tar"), forged.archive()).unwrap();
    let archive = rig.path("evil.tar");
    rig.rbuild(["load", "-i", archive.to_str().unwrap()])
        .exits_with(0);
    rig.write(&format!("name{EVIL}").replace('/', "_"), "x");
    rig
}

/// The commands that show an image.
const SHOWING: [&[&str]; 14] = [
    &["images"],
    &["images", "--format", "{{.Repository}} {{.Tag}} {{.ID}}"],
    &["images", "--format", "json"],
    &["history", "evil"],
    &["history", "--no-trunc", "evil"],
    &["history", "--format", "{{.CreatedBy}} {{.Comment}}", "evil"],
    &["history", "--format", "table {{.CreatedBy}}", "evil"],
    &["inspect", "evil"],
    &["inspect", "--format", "json", "evil"],
    &[
        "inspect",
        "--format",
        "{{.Config.Env}} {{.Config.Labels}} {{.Config.WorkingDir}}",
        "evil",
    ],
    &["inspect", "--format", "{{json .Config}}", "evil"],
    &["inspect", EVIL],
    &["history", EVIL],
    &["system", "df"],
];

#[test]
fn what_an_image_says_does_not_steer_a_terminal() {
    let rig = rig();
    for arguments in SHOWING {
        let mut terminal = Terminal::start(&rig.command(arguments), 120, 40);
        terminal.end();
        assert!(!terminal.screen.is_empty(), "{arguments:?}");
        is_harmless(&format!("{arguments:?}"), &terminal.screen, true);
    }
}

#[test]
fn tables_and_messages_are_harmless_in_files_too() {
    let rig = rig();
    for arguments in SHOWING {
        let outcome = rig.rbuild(arguments);
        is_harmless(&format!("{arguments:?}"), &outcome.stderr, false);
        // A template of one's own is for programs, which get what the image says.
        let is_own = arguments
            .iter()
            .any(|word| word.starts_with("{{") && !word.starts_with("{{json"));
        if !is_own {
            let stdout = String::from_utf8(outcome.stdout).unwrap();
            let shown = stdout
                .chars()
                .find(|c| matches!(c, '\u{0}'..='\u{8}' | '\u{b}'..='\u{1f}'));
            assert_eq!(shown, None, "{arguments:?}: {stdout:?}");
        }
    }
}

/// Builds that show evil text in their names, logs, warnings and errors.
fn dockerfiles() -> Vec<(&'static str, String)> {
    let run = "RUN printf 'text \\033]0;x\\007\\033[2J\\r\\233 \\302\\233 \\377 end\\n'; printf '\\033[2J' >&2";
    vec![
        (
            "a step's name and log",
            format!("FROM base\nENV A=\"{EVIL}\"\n{run} # {EVIL}"),
        ),
        (
            "a failed step",
            format!("FROM base\n{run}; echo '{EVIL}'; exit 7"),
        ),
        (
            "a name of a stage",
            format!("FROM base AS {EVIL}\nRUN true"),
        ),
        ("a syntax error", format!("FROM base\n{EVIL} x")),
        ("an unknown flag", format!("FROM base\nRUN --{EVIL}=x true")),
        (
            "a file that is not there",
            format!("FROM base\nCOPY [\"no{EVIL}\", \"/\"]"),
        ),
        (
            "a name that a wildcard finds",
            "FROM base\nCOPY name* /\nRUN ls /; cat /name*/x".to_owned(),
        ),
        (
            "a name that is no directory",
            "FROM base\nCOPY name* /f\nCOPY . /f/x/".to_owned(),
        ),
        ("a user", format!("FROM base\nUSER {EVIL}\nRUN true")),
        (
            "an owner",
            format!("FROM base\nCOPY --chown={EVIL} Dockerfile /"),
        ),
        ("a base that is not there", format!("FROM {EVIL}")),
        (
            "a program that is not there",
            format!("FROM base\nRUN [\"{}\"]", EVIL.escape_unicode()),
        ),
        (
            "a program with that name",
            "FROM base\nRUN [\"/no\\u001b[2J\"]".to_owned(),
        ),
        (
            "a shell",
            "FROM base\nSHELL [\"/no\\u001b[2J\"]\nRUN true".to_owned(),
        ),
        (
            "a working directory",
            "FROM base\nRUN printf x > \"$(printf '/a\\033[2J')\"\nRUN cd /a*; cat /a*/x"
                .to_owned(),
        ),
        (
            "an image whose every text is evil",
            "FROM evil\nRUN env; ls -l /; pwd".to_owned(),
        ),
        (
            "a removal's name",
            "FROM base\nRUN touch \"$(printf '/.wh.a\\033[2J')\"".to_owned(),
        ),
        (
            "a missing variable",
            format!("FROM base\nARG A=${{B:?{EVIL}}}"),
        ),
        (
            "a target of a mount",
            "FROM base\nRUN --mount=type=bind,from=base,source=/x\u{1b}[2J,target=/y true"
                .to_owned(),
        ),
        (
            "a pattern",
            "FROM base\nCOPY [\"[\u{1b}[2J\", \"/\"]".to_owned(),
        ),
        ("an archive", "FROM base\nADD evil.tar /".to_owned()),
    ]
}

fn bounded(rig: &Rig, options: &[&str]) -> Command {
    let mut command = rig.command(["build"]);
    command.args(options).arg(rig.context());
    terminal::started_by(&["timeout", "--foreground", "-k", "5", "60"], &command)
}

fn with_archive(rig: &Rig) {
    let evil = Layer::new()
        .hard_link(format!("l{EVIL}"), format!("no{EVIL}"))
        .tar();
    rig.write("evil.tar", evil);
}

#[test]
fn builds_write_nothing_raw_in_any_form() {
    let rig = rig();
    with_archive(&rig);
    for (name, dockerfile) in dockerfiles() {
        rig.dockerfile(&dockerfile);
        for options in [
            &["--progress=plain"][..],
            &["--progress=quiet"],
            &["--progress=rawjson"],
            &["--progress=plain", "--error-format=json"],
            &["--progress=plain", "--error-format=github"],
            &["--check"],
            &["--call=outline"],
            &["--call=targets"],
        ] {
            let outcome = Outcome::of(&mut bounded(&rig, options));
            let name = format!("{name} {options:?}");
            assert!(matches!(outcome.code, Some(0..=2)), "{name}: {outcome:?}");
            assert!(!outcome.stderr.contains("panicked"), "{name}: {outcome:?}");
            is_harmless(&name, &outcome.stderr, false);
            is_harmless(&name, &String::from_utf8(outcome.stdout).unwrap(), false);
        }
    }
    rig.write(".dockerignore", format!("[{EVIL}\n!\n"));
    rig.dockerfile("FROM base\nCOPY . /");
    let outcome = Outcome::of(&mut bounded(&rig, &["--progress=plain"])).exits_with(1);
    is_harmless("an ignore file", &outcome.stderr, false);
}

#[test]
fn the_live_view_of_a_build_draws_nothing_but_its_own() {
    let rig = rig();
    with_archive(&rig);
    for (name, dockerfile) in dockerfiles() {
        rig.dockerfile(&dockerfile);
        let mut terminal = Terminal::start(&bounded(&rig, &[]), 100, 30);
        terminal.end();
        is_harmless(name, &terminal.screen, true);
    }
}
