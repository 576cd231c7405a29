//! The variables of a build: global arguments, and what a stage sees of ARG and ENV.

use crate::dockerfile::{ArgDeclaration, Expanded, Lookup, MAX_TOTAL, WordError, expand};
use crate::oci::Platform;

/// Arguments that need no ARG in either case of letters, go to RUN when given, and stay out of
/// history and cache keys (Dockerfile reference, "Predefined ARGs").
const PROXIES: [&str; 5] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "FTP_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
];

/// Arguments that speak to the builder and are no variables even where a stage declares them.
const NOT_IN_ENVIRONMENT: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

fn is_proxy(name: &str) -> bool {
    PROXIES.iter().any(|proxy| proxy.eq_ignore_ascii_case(name))
}

/// What the command line and the lines before the first FROM define.
#[derive(Debug, Clone, Default)]
pub(crate) struct Globals {
    build_args: Vec<(String, String)>,
    values: Vec<(String, Option<String>)>,
}

impl Globals {
    /// The build arguments, and the arguments that describe `platform` and the name of the target
    /// stage (Dockerfile reference, "Automatic platform ARGs in the global scope").
    pub(crate) fn new(
        build_args: &[(String, String)],
        platform: &Platform,
        target: Option<&str>,
    ) -> Self {
        let mut globals = Self {
            build_args: build_args.to_vec(),
            values: Vec::new(),
        };
        for prefix in ["BUILD", "TARGET"] {
            let platform = if prefix == "BUILD" {
                &Platform::host()
            } else {
                platform
            };
            let variant = platform.variant.clone().unwrap_or_default();
            let version = platform.os_version.clone().unwrap_or_default();
            for (suffix, value) in [
                ("PLATFORM", platform.to_string()),
                ("OS", platform.os.clone()),
                ("OSVERSION", version),
                ("ARCH", platform.architecture.clone()),
                ("VARIANT", variant),
            ] {
                let name = format!("{prefix}{suffix}");
                let value = globals.build_arg(&name).map_or(value, str::to_owned);
                globals.values.push((name, Some(value)));
            }
        }
        let target = globals
            .build_arg("TARGETSTAGE")
            .or(target)
            .unwrap_or("default");
        let target = ("TARGETSTAGE".to_owned(), Some(target.to_owned()));
        globals.values.push(target);
        globals
    }

    /// The value of the last `--build-arg` with this name.
    pub(crate) fn build_arg(&self, name: &str) -> Option<&str> {
        let mut found = self.build_args.iter().rev();
        found
            .find(|(there, _)| there == name)
            .map(|(_, value)| value.as_str())
    }

    /// Every name that a FROM line may use.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.values.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// Takes an ARG line before the first FROM. Returns the variables that had no value.
    pub(crate) fn declare(
        &mut self,
        declaration: &ArgDeclaration,
        escape: char,
    ) -> Result<Vec<String>, WordError> {
        let name = declaration.name.value.clone();
        let mut unset = Vec::new();
        let value = match (self.build_arg(&name), &declaration.default) {
            (Some(given), _) => Some(given.to_owned()),
            (None, Some(default)) => {
                let expanded = expand(&default.value, escape, self)?;
                unset = expanded.unset;
                Some(expanded.value)
            }
            (None, None) => self.get(&name).map(str::to_owned),
        };
        self.values.retain(|(there, _)| *there != name);
        let values = self
            .values
            .iter()
            .flat_map(|(_, value)| value)
            .chain(&value);
        if values.map(String::len).sum::<usize>() > MAX_TOTAL {
            return Err(WordError::TooMuch);
        }
        self.values.push((name, value));
        Ok(unset)
    }

    /// Names given with `--build-arg` that neither the file nor the rules above know.
    pub(crate) fn unused<'a>(&'a self, declared: &'a [String]) -> impl Iterator<Item = &'a str> {
        self.build_args
            .iter()
            .map(|(name, _)| name.as_str())
            .filter(move |name| {
                !declared.iter().any(|there| there == name)
                    && !is_proxy(name)
                    && !name.starts_with("BUILDKIT_")
                    && *name != "SOURCE_DATE_EPOCH"
                    && !self.values.iter().any(|(there, _)| there == name)
            })
    }
}

impl Lookup for Globals {
    fn get(&self, name: &str) -> Option<&str> {
        let mut found = self.values.iter().rev();
        found
            .find(|(there, _)| there == name)
            .and_then(|(_, value)| value.as_deref())
    }
}

/// The variables at one point of a stage. ARG and ENV write to one table: the later line wins
/// (BuildKit's rule; its reference says that ENV always wins).
#[derive(Debug, Clone, Default)]
pub(crate) struct Scope {
    variables: Vec<(String, String)>,
    /// The ARGs declared so far, each once, with the value that they had there.
    arguments: Vec<(String, Option<String>)>,
    proxies: Vec<(String, String)>,
    hostname: Option<String>,
}

impl Scope {
    /// The variables of a stage that begins with the environment of its base image.
    pub(crate) fn of_environment(environment: &[String], globals: &Globals) -> Self {
        let mut scope = Self::default();
        for entry in environment {
            let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
            scope.set(name, value);
        }
        for name in PROXIES {
            // The value reaches programs that know either case, as BuildKit has it.
            let lower = name.to_lowercase();
            let given = globals.build_arg(&lower).or(globals.build_arg(name));
            if let Some(value) = given {
                scope.proxies.push((name.to_owned(), value.to_owned()));
                scope.proxies.push((lower, value.to_owned()));
            }
        }
        scope.hostname = globals
            .build_arg("BUILDKIT_SANDBOX_HOSTNAME")
            .filter(|name| !name.is_empty())
            .map(str::to_owned);
        scope
    }

    /// Sets a variable, in its old place when it is known.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        set(&mut self.variables, name, value);
    }

    /// Takes one declaration of an ARG line: a build argument, else the default, else the global
    /// argument of that name; without any of them nothing is set.
    pub(crate) fn declare(
        &mut self,
        declaration: &ArgDeclaration,
        escape: char,
        globals: &Globals,
    ) -> Result<Vec<String>, WordError> {
        let name = declaration.name.value.clone();
        let mut unset = Vec::new();
        let value = match (globals.build_arg(&name), &declaration.default) {
            (Some(given), _) => Some(given.to_owned()),
            (None, Some(default)) => {
                let expanded = self.expand(&default.value, escape)?;
                unset = expanded.unset;
                Some(expanded.value)
            }
            (None, None) => globals.get(&name).map(str::to_owned),
        };
        if let Some(value) = &value
            && !NOT_IN_ENVIRONMENT.contains(&name.as_str())
        {
            self.set(&name, value);
        }
        match self.arguments.iter_mut().find(|(there, _)| *there == name) {
            Some((_, old)) => *old = value,
            None => self.arguments.push((name, value)),
        }
        Ok(unset)
    }

    pub(crate) fn expand(&self, word: &str, escape: char) -> Result<Expanded, WordError> {
        expand(word, escape, self)
    }

    /// What a RUN sees and its cache key covers, in order of first declaration.
    pub(crate) fn visible(&self) -> &[(String, String)] {
        &self.variables
    }

    /// The environment of a RUN: what is visible, and the proxies that were given.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let mut environment = self.variables.clone();
        for (name, value) in &self.proxies {
            if self.get(name).is_none() {
                environment.push((name.clone(), value.clone()));
            }
        }
        environment
    }

    /// The ARGs in scope as the history of a RUN shows them: with the value that the RUN sees, and
    /// none when there is none.
    pub(crate) fn arguments(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.arguments.iter().map(|(name, declared)| {
            let value = self.get(name).or(declared.as_deref());
            (name.as_str(), value.unwrap_or_default())
        })
    }

    /// The value that the last declaration of `name` gave it.
    pub(crate) fn declared(&self, name: &str) -> Option<&str> {
        let mut found = self.arguments.iter();
        let (_, value) = found.find(|(there, _)| there == name)?;
        value.as_deref()
    }

    /// The host name that `BUILDKIT_SANDBOX_HOSTNAME` gives to RUN.
    pub(crate) fn hostname(&self) -> Option<&str> {
        self.hostname.as_deref()
    }
}

impl Lookup for Scope {
    fn get(&self, name: &str) -> Option<&str> {
        let mut found = self.variables.iter();
        found
            .find(|(there, _)| there == name)
            .map(|(_, value)| value.as_str())
    }
}

fn set(list: &mut Vec<(String, String)>, name: &str, value: &str) {
    match list.iter_mut().find(|(there, _)| there == name) {
        Some((_, old)) => value.clone_into(old),
        None => list.push((name.to_owned(), value.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::{Span, Spanned};

    fn arg(name: &str, default: Option<&str>) -> ArgDeclaration {
        let spanned = |text: &str| Spanned::new(text.to_owned(), Span::default());
        ArgDeclaration {
            name: spanned(name),
            default: default.map(spanned),
        }
    }

    fn globals(build_args: &[(&str, &str)]) -> Globals {
        let owned: Vec<_> = build_args
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect();
        Globals::new(&owned, &Platform::new("linux", "amd64", None), None)
    }

    #[test]
    fn a_stage_sees_a_global_argument_only_once_it_declares_it() {
        let mut globals = globals(&[]);
        globals.declare(&arg("V", Some("1")), '\\').unwrap();
        let mut scope = Scope::of_environment(&[], &globals);
        assert_eq!(scope.get("V"), None);
        scope.declare(&arg("V", None), '\\', &globals).unwrap();
        assert_eq!(scope.get("V"), Some("1"));
    }

    #[test]
    fn the_later_of_arg_and_env_wins() {
        let globals = globals(&[("A", "arg")]);
        let mut scope = Scope::of_environment(&["A=base".to_owned()], &globals);
        scope.declare(&arg("A", None), '\\', &globals).unwrap();
        assert_eq!(scope.get("A"), Some("arg"));
        scope.set("A", "env");
        assert_eq!(scope.get("A"), Some("env"));
    }

    #[test]
    fn a_build_argument_beats_every_default() {
        let mut globals = globals(&[("A", "given"), ("A", "last")]);
        globals.declare(&arg("A", Some("global")), '\\').unwrap();
        assert_eq!(globals.get("A"), Some("last"));
        let mut scope = Scope::of_environment(&[], &globals);
        scope
            .declare(&arg("A", Some("stage")), '\\', &globals)
            .unwrap();
        assert_eq!(scope.get("A"), Some("last"));
    }

    #[test]
    fn proxies_reach_a_run_but_are_not_visible() {
        let globals = globals(&[("HTTP_PROXY", "http://proxy")]);
        let scope = Scope::of_environment(&[], &globals);
        assert!(scope.visible().is_empty());
        let proxy = |name: &str| (name.to_owned(), "http://proxy".to_owned());
        let expected = [proxy("HTTP_PROXY"), proxy("http_proxy")];
        assert_eq!(scope.environment(), expected);
    }

    #[test]
    fn build_arguments_that_nothing_declares_are_known() {
        let globals = globals(&[("TYPO", "1"), ("USED", "1"), ("http_proxy", "p")]);
        let declared = ["USED".to_owned()];
        assert_eq!(globals.unused(&declared).collect::<Vec<_>>(), ["TYPO"]);
    }
}
