//! What the language has and this engine does not do yet: refused with its place, before any work.

use super::copy::ChmodSpec;
use super::plan::{CopyFrom, Step};
use super::request::Request;
use crate::dockerfile::{
    Diagnostic, Directives, Dockerfile, Instruction, RunSecurity, Source, Span, Spanned, Statement,
};
use crate::oci::Platform;

/// Refuses a foreign frontend. `docker/dockerfile` in any version is the language built in here.
pub(crate) fn check_directives(
    directives: &Directives,
    request: &Request,
    errors: &mut Vec<Diagnostic>,
) {
    let argument = request
        .build_args
        .iter()
        .rev()
        .find(|(name, _)| name == "BUILDKIT_SYNTAX");
    let (syntax, span) = match (argument, &directives.syntax) {
        (Some((_, value)), syntax) => (
            value.as_str(),
            syntax
                .as_ref()
                .map_or(Span::default(), |syntax| syntax.span),
        ),
        (None, Some(syntax)) => (syntax.value.as_str(), syntax.span),
        (None, None) => return,
    };
    if !is_built_in(syntax) {
        errors.push(
            Diagnostic::new(span, format!("the frontend {syntax} is not supported"))
                .with_label("rbuild runs no frontend images")
                .with_help(
                    "docker/dockerfile is built in; --build-arg BUILDKIT_SYNTAX=dockerfile.v0 \
                     ignores this line",
                ),
        );
    }
}

fn is_built_in(syntax: &str) -> bool {
    if syntax == "dockerfile.v0" {
        return true;
    }
    let name = syntax.strip_prefix("docker.io/").unwrap_or(syntax);
    let name = name.split(['@', ' ']).next().unwrap_or(name);
    let name = name.split(':').next().unwrap_or(name);
    matches!(name, "docker/dockerfile" | "docker/dockerfile-upstream")
}

/// Refuses a stage for another platform than the build's.
pub(crate) fn check_platform(
    expanded: &str,
    written: &Spanned<String>,
    wanted: &Platform,
    errors: &mut Vec<Diagnostic>,
) {
    let mut parts = expanded.splitn(3, '/');
    let (os, architecture, variant) = (
        parts.next().unwrap_or(""),
        parts.next().unwrap_or(""),
        parts.next(),
    );
    if expanded.is_empty() {
        errors.push(Diagnostic::new(
            written.span,
            format!("empty platform value from expression {}", written.value),
        ));
    } else if !Platform::new(os, architecture, variant).satisfies(wanted) {
        errors.push(
            Diagnostic::new(
                written.span,
                format!("the platform {expanded} is not supported: this build is for {wanted}"),
            )
            .with_help("only the platform of this machine can be built"),
        );
    }
}

/// The part of an instruction that is not supported, if it has one.
pub(crate) fn check(
    statement: &Statement,
    location: Span,
    request: &Request,
) -> Option<Diagnostic> {
    // A trigger of the base image has no text here: its place is the FROM line.
    let own = statement.span == location;
    let at = |span: Span| if own { span } else { location };
    let refuse = |span: Span, what: &str| {
        Some(
            Diagnostic::new(at(span), format!("{what} is not supported yet"))
                .with_help("nothing was built: rbuild carries out every instruction or none"),
        )
    };
    match &statement.instruction {
        Instruction::Run(run) => {
            if let Some(device) = run.devices.first() {
                return Some(
                    Diagnostic::new(
                        at(device.span),
                        format!("RUN --device={} is not supported", device.value.name),
                    )
                    .with_help("a build without root has no devices to give"),
                );
            }
            match &run.security {
                Some(security)
                    if security.value == RunSecurity::Insecure && !request.run.allow_insecure =>
                {
                    Some(
                        Diagnostic::new(at(security.span), "security.insecure is not allowed")
                            .with_help("--allow security.insecure on the command line allows it"),
                    )
                }
                _ => None,
            }
        }
        Instruction::Copy(copy) => check_copy(copy, &at, &refuse, statement),
        Instruction::Add(add) => {
            if let Some(checksum) = &add.checksum {
                return refuse(checksum.span, "ADD --checksum");
            }
            if add.keep_git_dir.is_some() {
                return refuse(statement.keyword_span, "ADD --keep-git-dir");
            }
            if add.unpack.is_some() {
                return refuse(statement.keyword_span, "ADD --unpack");
            }
            for source in &add.copy.sources {
                if let Source::Path(path) = source
                    && is_remote(&path.value)
                {
                    return refuse(path.span, "ADD of a remote source");
                }
            }
            check_copy(&add.copy, &at, &refuse, statement)
        }
        _ => None,
    }
}

/// Numbers of stages in `from=` of mounts, which are names only: BuildKit would take them for images.
pub(crate) fn check_mounts(step: &Step, dockerfile: &Dockerfile) -> Vec<Diagnostic> {
    let Instruction::Run(run) = &step.statement.instruction else {
        return Vec::new();
    };
    let own = step.statement.span == step.location;
    let numbered = run
        .mounts
        .iter()
        .zip(&step.mounts)
        .filter_map(|(mount, source)| {
            let from = mount.from.as_ref()?;
            let index: usize = from.value.parse().ok()?;
            let is_stage = index < dockerfile.stages.len();
            if !is_stage || !matches!(source, Some(CopyFrom::Image(_))) {
                return None;
            }
            let span = if own { from.span } else { step.location };
            let message = format!("a mount cannot name the stage {index} by its number");
            Some(Diagnostic::new(span, message).with_help("give the stage a name with AS"))
        });
    numbered.collect()
}

fn check_copy(
    copy: &crate::dockerfile::CopyInstruction,
    at: &dyn Fn(Span) -> Span,
    refuse: &dyn Fn(Span, &str) -> Option<Diagnostic>,
    statement: &Statement,
) -> Option<Diagnostic> {
    if copy.link == Some(true) {
        return refuse(statement.keyword_span, "--link");
    }
    if copy.parents {
        return refuse(statement.keyword_span, "--parents");
    }
    if let Some(chmod) = &copy.chmod
        && !chmod.value.contains(['$', '\\', '`', '"', '\''])
        && let Err(error) = ChmodSpec::parse(&chmod.value)
    {
        return Some(Diagnostic::new(at(chmod.span), error.to_string()));
    }
    copy.excludes
        .first()
        .and_then(|exclude| refuse(exclude.span, "--exclude"))
}

/// Whether ADD would fetch this source: a URL, or a git reference.
fn is_remote(source: &str) -> bool {
    ["http://", "https://", "git://", "ssh://", "git@"]
        .iter()
        .any(|prefix| source.starts_with(prefix))
}
