//! From a parsed Dockerfile and a request to the stages that will be built.
//!
//! Planning is pure: nothing is fetched and nothing runs. Whatever the language has and the engine
//! does not do is refused here, so that no work starts on a build that could not end.

use std::collections::BTreeSet;

use super::request::Request;
use super::scope::Globals;
use super::support;
use crate::dockerfile::{
    Diagnostic, Dockerfile, Instruction, MountFlag, Span, Spanned, Stage, Statement, expand,
    nearest,
};

/// The stages to build, each after those it needs.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) escape: char,
    pub(crate) globals: Globals,
    /// Every stage of the file, in its order; those that the target does not need are not `needed`.
    pub(crate) stages: Vec<PlannedStage>,
    pub(crate) target: usize,
    /// Worth saying, fails nothing.
    pub(crate) warnings: Vec<Diagnostic>,
}

/// A stage with everything about it that is known before its base image is.
#[derive(Debug)]
pub(crate) struct PlannedStage {
    pub(crate) index: usize,
    pub(crate) name: Option<String>,
    pub(crate) base: PlannedBase,
    pub(crate) from_span: Span,
    pub(crate) from_text: String,
    pub(crate) steps: Vec<Step>,
    /// Stages whose result this one reads: its base and the `--from` of its steps.
    pub(crate) dependencies: BTreeSet<usize>,
    pub(crate) needed: bool,
    /// Part of the final image's own chain of stages, so its layers will be written as blobs.
    pub(crate) exported: bool,
}

/// What stands after FROM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PlannedBase {
    Scratch,
    Stage(usize),
    /// An index into [`Request::named_contexts`].
    Named(usize),
    /// A name for the store or a registry.
    Image(String),
}

/// One instruction to carry out.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) statement: Statement,
    /// The instruction in the Dockerfile, or the FROM line for a trigger of its base.
    pub(crate) location: Span,
    /// Where `--from` leads, when there is one.
    pub(crate) from: Option<CopyFrom>,
    /// Where `from=` of each `RUN --mount` leads, in their order.
    pub(crate) mounts: Vec<Option<CopyFrom>>,
}

impl Step {
    /// Everything but the context that the step reads.
    pub(crate) fn sources(&self) -> impl Iterator<Item = &CopyFrom> {
        self.from.iter().chain(self.mounts.iter().flatten())
    }

    /// The stages among them.
    pub(crate) fn stages(&self) -> impl Iterator<Item = usize> {
        self.sources().filter_map(|source| match source {
            CopyFrom::Stage(index) => Some(*index),
            _ => None,
        })
    }
}

/// What `--from` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CopyFrom {
    /// No files at all; only mounts know it.
    Scratch,
    Stage(usize),
    Named(usize),
    Image(String),
}

impl PlannedStage {
    /// How progress and messages call the stage; empty for the only one of a file.
    pub(crate) fn label(&self, count: usize) -> String {
        match &self.name {
            Some(name) => name.clone(),
            None if count > 1 => format!("stage-{}", self.index),
            None => String::new(),
        }
    }
}

/// Plans the build. All errors of the file are reported at once.
pub(crate) fn plan(dockerfile: &Dockerfile, request: &Request) -> Result<Plan, Vec<Diagnostic>> {
    let escape = dockerfile.directives.escape;
    let mut errors = Vec::new();
    support::check_directives(&dockerfile.directives, request, &mut errors);
    let mut globals = Globals::new(
        &request.build_args,
        &request.platform,
        request.target.as_deref(),
    );
    for statement in &dockerfile.global_args {
        let Instruction::Arg(declarations) = &statement.instruction else {
            continue;
        };
        for declaration in declarations {
            if let Err(error) = globals.declare(declaration, escape) {
                errors.push(Diagnostic::new(statement.span, error.to_string()));
            }
        }
    }
    let target = find_target(dockerfile, request.target.as_deref())?;
    let mut stages = Vec::with_capacity(dockerfile.stages.len());
    for stage in &dockerfile.stages {
        match plan_stage(stage, dockerfile, request, &globals, escape) {
            Ok(planned) => stages.push(planned),
            Err(mut found) => errors.append(&mut found),
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let mut plan = Plan {
        escape,
        globals,
        stages,
        target,
        warnings: dockerfile.warnings.clone(),
    };
    plan.check_order()?;
    plan.mark();
    let unsupported: Vec<Diagnostic> = plan
        .stages
        .iter()
        .filter(|stage| stage.needed)
        .flat_map(|stage| &stage.steps)
        .filter_map(|step| support::check(&step.statement, step.location, request))
        .collect();
    if unsupported.is_empty() {
        Ok(plan)
    } else {
        Err(unsupported)
    }
}

fn find_target(dockerfile: &Dockerfile, target: Option<&str>) -> Result<usize, Vec<Diagnostic>> {
    let last = dockerfile.stages.len() - 1;
    let Some(target) = target else {
        return Ok(last);
    };
    let lower = target.to_lowercase();
    let names = || {
        dockerfile
            .stages
            .iter()
            .filter_map(|stage| stage.name.as_ref())
    };
    let by_name = dockerfile
        .stages
        .iter()
        .rposition(|stage| stage.name.as_ref().is_some_and(|name| name.value == lower));
    let by_index = || target.parse().ok().filter(|index| *index <= last);
    by_name.or_else(by_index).ok_or_else(|| {
        let span = dockerfile.stages[last].from.span;
        let mut error = Diagnostic::new(
            span,
            format!("target stage \"{target}\" could not be found"),
        );
        if let Some(near) = nearest(&lower, names().map(|name| name.value.as_str())) {
            error = error.with_help(format!("did you mean {near}?"));
        } else {
            let known: Vec<&str> = names().map(|name| name.value.as_str()).collect();
            if !known.is_empty() {
                error = error.with_help(format!("the file has the stages {}", known.join(", ")));
            }
        }
        vec![error]
    })
}

fn plan_stage(
    stage: &Stage,
    dockerfile: &Dockerfile,
    request: &Request,
    globals: &Globals,
    escape: char,
) -> Result<PlannedStage, Vec<Diagnostic>> {
    let mut errors = Vec::new();
    let expanded = |word: &Spanned<String>| {
        expand(&word.value, escape, globals)
            .map_err(|error| Diagnostic::new(word.span, error.to_string()))
    };
    let base = match expanded(&stage.base) {
        Ok(base) if base.value.is_empty() => {
            let message = format!("base name ({}) should not be blank", stage.base.value);
            let mut error = Diagnostic::new(stage.base.span, message);
            if let Some(unset) = base.unset.first() {
                error = error.with_help(format!(
                    "{unset} has no value: declare it with ARG {unset}=… before the first FROM, or \
                     give --build-arg {unset}=…"
                ));
            }
            errors.push(error);
            String::new()
        }
        Ok(base) => base.value,
        Err(error) => {
            errors.push(error);
            String::new()
        }
    };
    if let Some(platform) = &stage.platform {
        match expanded(platform) {
            Ok(expanded) => {
                support::check_platform(&expanded.value, platform, &request.platform, &mut errors);
            }
            Err(error) => errors.push(error),
        }
    }
    let planned_base = plan_base(&base, stage, dockerfile, request);
    let mut dependencies = BTreeSet::new();
    if let PlannedBase::Stage(index) = planned_base {
        dependencies.insert(index);
    }
    let mut steps = Vec::with_capacity(stage.statements.len());
    for statement in &stage.statements {
        let step = plan_step(statement, statement.span, dockerfile, request);
        dependencies.extend(step.stages());
        errors.extend(support::check_mounts(&step, dockerfile));
        steps.push(step);
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    Ok(PlannedStage {
        index: stage.index,
        name: stage.name.as_ref().map(|name| name.value.clone()),
        base: planned_base,
        from_span: stage.from.span,
        from_text: stage.from.text.clone(),
        steps,
        dependencies,
        needed: false,
        exported: false,
    })
}

fn plan_base(base: &str, stage: &Stage, dockerfile: &Dockerfile, request: &Request) -> PlannedBase {
    if let Some(index) = named_context(base, request) {
        return PlannedBase::Named(index);
    }
    let earlier = &dockerfile.stages[..stage.index];
    let is_named = |stage: &Stage| stage.name.as_ref().is_some_and(|name| name.value == base);
    match earlier.iter().rposition(is_named) {
        Some(index) => PlannedBase::Stage(index),
        None if base == "scratch" => PlannedBase::Scratch,
        None => PlannedBase::Image(base.to_owned()),
    }
}

fn named_context(name: &str, request: &Request) -> Option<usize> {
    request
        .named_contexts
        .iter()
        .rposition(|context| context.name.eq_ignore_ascii_case(name))
}

fn plan_step(
    statement: &Statement,
    location: Span,
    dockerfile: &Dockerfile,
    request: &Request,
) -> Step {
    let from_mount = |mount: &MountFlag| {
        let from = mount.from.as_ref().filter(|from| !from.value.is_empty())?;
        Some(match resolve_name(&from.value, dockerfile, request) {
            Some(source) => source,
            None if from.value == "scratch" => CopyFrom::Scratch,
            None => CopyFrom::Image(from.value.clone()),
        })
    };
    let mounts = match &statement.instruction {
        Instruction::Run(run) => run.mounts.iter().map(from_mount).collect(),
        _ => Vec::new(),
    };
    Step {
        statement: statement.clone(),
        location,
        from: plan_from(statement, dockerfile, request),
        mounts,
    }
}

/// A named context, else a stage by name.
fn resolve_name(name: &str, dockerfile: &Dockerfile, request: &Request) -> Option<CopyFrom> {
    if let Some(index) = named_context(name, request) {
        return Some(CopyFrom::Named(index));
    }
    let lower = name.to_lowercase();
    dockerfile
        .stages
        .iter()
        .position(|stage| stage.name.as_ref().is_some_and(|name| name.value == lower))
        .map(CopyFrom::Stage)
}

/// Resolves the `--from` of COPY: a named context, else a stage by name or number, else an image.
fn plan_from(
    statement: &Statement,
    dockerfile: &Dockerfile,
    request: &Request,
) -> Option<CopyFrom> {
    let Instruction::Copy(copy) = &statement.instruction else {
        return None;
    };
    let from = &copy.from.as_ref()?.value;
    let by_index = || {
        from.parse()
            .ok()
            .filter(|index| *index < dockerfile.stages.len())
            .map(CopyFrom::Stage)
    };
    Some(
        resolve_name(from, dockerfile, request)
            .or_else(by_index)
            .unwrap_or_else(|| CopyFrom::Image(from.clone())),
    )
}

impl Plan {
    /// Adds the triggers of a stage's base before its own steps (ONBUILD).
    pub(crate) fn add_triggers(
        &mut self,
        stage: usize,
        triggers: Vec<Statement>,
        dockerfile: &Dockerfile,
        request: &Request,
    ) -> Result<(), Vec<Diagnostic>> {
        let location = self.stages[stage].from_span;
        let mut errors = Vec::new();
        let mut steps = Vec::with_capacity(triggers.len());
        for statement in triggers {
            errors.extend(support::check(&statement, location, request));
            let step = plan_step(&statement, location, dockerfile, request);
            self.stages[stage].dependencies.extend(step.stages());
            errors.extend(support::check_mounts(&step, dockerfile));
            steps.push(step);
        }
        let planned = &mut self.stages[stage];
        steps.append(&mut planned.steps);
        planned.steps = steps;
        if !errors.is_empty() {
            return Err(errors);
        }
        self.check_order()?;
        self.mark();
        Ok(())
    }

    /// Every stage reads only earlier ones, and none reads itself.
    fn check_order(&self) -> Result<(), Vec<Diagnostic>> {
        if let Some(index) = self.find_circle() {
            let stage = &self.stages[index];
            let message = format!(
                "circular dependency detected on stage: {}",
                self.name_of(index)
            );
            return Err(vec![Diagnostic::new(stage.from_span, message)]);
        }
        let mut errors = Vec::new();
        for stage in &self.stages {
            for step in &stage.steps {
                for from in step.stages().filter(|from| *from > stage.index) {
                    let verb = match step.from {
                        Some(_) => "copy",
                        None => "mount",
                    };
                    let message = format!(
                        "cannot {verb} from stage \"{}\", it needs to be defined before current \
                         stage \"{}\"",
                        self.name_of(from),
                        self.name_of(stage.index),
                    );
                    errors.push(
                        Diagnostic::new(step.location, message)
                            .with_related(self.stages[from].from_span, "it is defined here"),
                    );
                }
            }
        }
        if errors.is_empty() {
            Ok(())
        } else {
            Err(errors)
        }
    }

    fn name_of(&self, index: usize) -> String {
        self.stages[index]
            .name
            .clone()
            .unwrap_or_else(|| index.to_string())
    }

    /// The first stage that can be reached from itself.
    fn find_circle(&self) -> Option<usize> {
        (0..self.stages.len()).find(|start| {
            let mut seen = BTreeSet::new();
            let mut next: Vec<usize> = self.stages[*start].dependencies.iter().copied().collect();
            while let Some(index) = next.pop() {
                if index == *start {
                    return true;
                }
                if seen.insert(index) {
                    next.extend(&self.stages[index].dependencies);
                }
            }
            false
        })
    }

    /// Marks what the target needs, and the chain of stages that its layers come from.
    fn mark(&mut self) {
        // Triggers add dependencies to stages that were marked before.
        for stage in &mut self.stages {
            stage.needed = false;
        }
        let mut next = vec![self.target];
        while let Some(index) = next.pop() {
            if !self.stages[index].needed {
                self.stages[index].needed = true;
                next.extend(self.stages[index].dependencies.clone());
            }
        }
        let mut next = Some(self.target);
        while let Some(index) = next {
            self.stages[index].exported = true;
            next = match self.stages[index].base {
                PlannedBase::Stage(base) => Some(base),
                _ => None,
            };
        }
    }

    /// Names that ARG lines declare, anywhere in the file.
    pub(crate) fn declared_arguments(&self, dockerfile: &Dockerfile) -> Vec<String> {
        let of_stages = self
            .stages
            .iter()
            .flat_map(|stage| &stage.steps)
            .map(|s| &s.statement);
        dockerfile
            .global_args
            .iter()
            .chain(of_stages)
            .filter_map(|statement| match &statement.instruction {
                Instruction::Arg(declarations) => Some(declarations),
                _ => None,
            })
            .flatten()
            .map(|declaration| declaration.name.value.clone())
            .collect()
    }
}
