//! The command line and the environment of a container (moby, `daemon/commit.go` `merge` and
//! `container/container_unix.go`).

use std::ffi::OsString;

use crate::build::state::DEFAULT_PATH;
use crate::oci::ContainerConfig;

/// One `-e`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Variable {
    Set(String, OsString),
    /// A name that the caller's environment does not have: the image's variable is taken away.
    Unset(String),
}

/// What is executed; `None` when neither the caller nor the image says. An entrypoint of the caller
/// also replaces the image's CMD.
pub(super) fn arguments(
    entrypoint: Option<&[String]>,
    command: &[String],
    config: &ContainerConfig,
) -> Option<Vec<String>> {
    let of_image = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    let command = match (command, entrypoint) {
        ([], None) => of_image(&config.cmd),
        (given, _) => given.to_vec(),
    };
    let mut arguments = match entrypoint {
        Some(entrypoint) => entrypoint.to_vec(),
        None => of_image(&config.entrypoint),
    };
    arguments.extend(command);
    (!arguments.is_empty()).then_some(arguments)
}

/// PATH, HOSTNAME and with a terminal TERM, then what the image sets, then what the caller says.
pub(super) fn environment(
    image: &[String],
    given: &[Variable],
    hostname: &str,
    has_terminal: bool,
) -> Vec<(OsString, OsString)> {
    let mut overrides: Vec<(String, OsString)> = Vec::new();
    for entry in image {
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        set(&mut overrides, name, value.into());
    }
    for variable in given {
        match variable {
            Variable::Set(name, value) => set(&mut overrides, name, value.clone()),
            Variable::Unset(name) => overrides.retain(|(there, _)| there != name),
        }
    }
    let mut environment = vec![
        ("PATH".to_owned(), DEFAULT_PATH.into()),
        ("HOSTNAME".to_owned(), hostname.into()),
    ];
    if has_terminal {
        environment.push(("TERM".to_owned(), "xterm".into()));
    }
    for (name, value) in overrides {
        set(&mut environment, &name, value);
    }
    environment
        .into_iter()
        .map(|(name, value)| (name.into(), value))
        .collect()
}

fn set(environment: &mut Vec<(String, OsString)>, name: &str, value: OsString) {
    match environment.iter_mut().find(|(there, _)| there == name) {
        Some((_, there)) => *there = value,
        None => environment.push((name.to_owned(), value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn entrypoint_and_command_combine_as_docker_has_them() {
        // Image's ENTRYPOINT and CMD, --entrypoint, words behind the image.
        for (entrypoint, cmd, given, command, expected) in [
            ("", "a b", None, "", "a b"),
            ("", "a b", None, "c", "c"),
            ("e x", "a b", None, "", "e x a b"),
            ("e x", "a b", None, "c", "e x c"),
            ("e", "", None, "", "e"),
            ("e x", "a b", Some("n"), "", "n"),
            ("e x", "a b", Some("n"), "c d", "n c d"),
            ("e x", "a b", Some(""), "c d", "c d"),
            ("e x", "a b", Some(""), "", ""),
            ("", "", None, "", ""),
        ] {
            let config = ContainerConfig {
                entrypoint: Some(words(entrypoint)).filter(|list| !list.is_empty()),
                cmd: Some(words(cmd)).filter(|list| !list.is_empty()),
                ..ContainerConfig::default()
            };
            let given: Option<Vec<String>> = given.map(words);
            let found = arguments(given.as_deref(), &words(command), &config);
            let expected = Some(words(expected)).filter(|list| !list.is_empty());
            assert_eq!(
                found, expected,
                "{entrypoint:?} {cmd:?} {given:?} {command:?}"
            );
        }
    }

    #[test]
    fn the_callers_variables_come_before_the_images() {
        let given = |name: &str, value: &str| Variable::Set(name.to_owned(), value.into());
        let unset = |name: &str| Variable::Unset(name.to_owned());
        let path = format!("PATH={DEFAULT_PATH}");
        let default = [path.as_str(), "HOSTNAME=h"];
        for (image, variables, terminal, expected) in [
            ("", vec![], false, default.to_vec()),
            ("", vec![], true, [&default[..], &["TERM=xterm"]].concat()),
            (
                "TERM=dumb PATH=/b",
                vec![],
                true,
                vec!["PATH=/b", "HOSTNAME=h", "TERM=dumb"],
            ),
            (
                "A=1 B=2",
                vec![given("A", "x=y")],
                false,
                [&default[..], &["A=x=y", "B=2"]].concat(),
            ),
            ("A=1", vec![unset("A"), unset("C")], false, default.to_vec()),
            (
                "A=1",
                vec![unset("A"), given("A", "")],
                false,
                [&default[..], &["A="]].concat(),
            ),
            (
                "A=1 PATH=/b",
                vec![unset("PATH")],
                false,
                [&default[..], &["A=1"]].concat(),
            ),
            (
                "",
                vec![given("HOSTNAME", "own")],
                false,
                vec![&path, "HOSTNAME=own"],
            ),
        ] {
            let found: Vec<String> = environment(&words(image), &variables, "h", terminal)
                .into_iter()
                .map(|(name, value)| format!("{}={}", name.display(), value.display()))
                .collect();
            assert_eq!(found, expected, "{image:?} {variables:?}");
        }
    }
}
