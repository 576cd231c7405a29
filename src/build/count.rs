//! The names of a stage's steps as progress shows them: `[build 2/5] RUN make`.

use super::engine::Engine;
use super::plan::{PlannedBase, PlannedStage};
use super::scope::Scope;
use crate::dockerfile::Lookup as _;
use crate::oci::Platform;

/// How many of a stage's instructions progress counts, and at which one it is.
pub(super) struct Count {
    /// Of a build for several platforms.
    platform: Option<Platform>,
    label: String,
    done: usize,
    total: usize,
}

impl Count {
    pub(super) fn of(engine: &Engine<'_>, stage: &PlannedStage) -> Self {
        let base = usize::from(has_image(&stage.base));
        let total = base
            + stage
                .steps
                .iter()
                .filter(|step| step.writes_files())
                .count();
        let several = engine.request.makes_index();
        Self {
            platform: several.then(|| stage.platform.clone()),
            label: stage.label(engine.plan.stages.len()),
            done: 0,
            total,
        }
    }

    /// `[stage 2/5] RUN make`, as BuildKit numbers it; with several platforms `[linux/arm64 stage 2/5]`,
    /// and `[linux/amd64->arm64 stage 2/5]` where the step knows that it builds for another one.
    pub(super) fn next(&mut self, text: &str, variables: Option<&Scope>) -> String {
        self.done += 1;
        let platform = self.platform.as_ref().map(|platform| {
            let target = variables.and_then(target_of);
            format!("{platform}{} ", arrow(platform, target))
        });
        let platform = platform.unwrap_or_default();
        let separator = if self.label.is_empty() { "" } else { " " };
        let width = self.total.to_string().len();
        let (label, done, total) = (&self.label, self.done, self.total);
        format!("[{platform}{label}{separator}{done:width$}/{total}] {text}")
    }
}

/// The platform that the variables of a step say it builds for.
fn target_of(variables: &Scope) -> Option<Platform> {
    let whole = variables.get("TARGETPLATFORM").map(str::parse::<Platform>);
    if let Some(Ok(platform)) = whole {
        return Some(platform);
    }
    let part = |name| variables.get(name);
    let (os, architecture) = (part("TARGETOS"), part("TARGETARCH"));
    let variant = part("TARGETVARIANT").filter(|variant| !variant.is_empty());
    (os.is_some() || architecture.is_some()).then(|| {
        Platform::new(
            os.unwrap_or_default(),
            architecture.unwrap_or_default(),
            variant,
        )
    })
}

fn arrow(base: &Platform, target: Option<Platform>) -> String {
    let Some(mut target) = target else {
        return String::new();
    };
    if target.os.is_empty() {
        target.os.clone_from(&base.os);
    }
    if target.architecture.is_empty() {
        target.architecture.clone_from(&base.architecture);
    }
    let target = target.normalized();
    if target.os != base.os {
        format!("->{target}")
    } else if target.architecture != base.architecture {
        let variant = target.variant.map(|variant| format!("/{variant}"));
        format!("->{}{}", target.architecture, variant.unwrap_or_default())
    } else {
        String::new()
    }
}

fn has_image(base: &PlannedBase) -> bool {
    matches!(base, PlannedBase::Image(_) | PlannedBase::Named(_))
}
