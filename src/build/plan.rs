//! From a parsed Dockerfile and a request to the stages that will be built.
//!
//! Planning is pure: nothing is fetched and nothing runs. Whatever the language has and the engine
//! does not do is refused here, so that no work starts on a build that could not end.

use std::collections::BTreeSet;

use super::confined;
use super::named;
use super::request::Request;
use super::resolve::{find_target, named_base, plan_base, plan_from, plan_mounts};
use super::scope::Globals;
use super::support;
use crate::dockerfile::{
    Diagnostic, Dockerfile, Instruction, Lookup as _, Span, Spanned, Stage, Statement, WordError,
    expand, parse_trigger,
};
use crate::oci::Platform;
use crate::sandbox::binfmt;

/// The stages to build, each after those it needs.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) escape: char,
    pub(crate) globals: Globals,
    /// Every stage of the file, in its order; those that the target does not need are not `needed`.
    pub(crate) stages: Vec<PlannedStage>,
    pub(crate) target: usize,
    /// What a global `ARG SOURCE_DATE_EPOCH=` says, in seconds since 1970.
    pub(crate) source_date_epoch: Option<i64>,
}

/// A stage with everything about it that is known before its base image is.
#[derive(Debug)]
pub(crate) struct PlannedStage {
    pub(crate) index: usize,
    pub(crate) name: Option<String>,
    pub(crate) base: PlannedBase,
    /// What the stage's image is for and its commands run on.
    pub(crate) platform: Platform,
    /// A named context stands for the whole stage: its lines mean nothing.
    pub(crate) replaced: bool,
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
    /// A trigger of the stage's base.
    pub(crate) is_trigger: bool,
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

    /// Whether it may add a layer.
    pub(crate) fn writes_files(&self) -> bool {
        matches!(
            self.statement.instruction,
            Instruction::Run(_)
                | Instruction::Copy(_)
                | Instruction::Add(_)
                | Instruction::Workdir(_)
        )
    }

    pub(crate) fn is_run(&self) -> bool {
        matches!(self.statement.instruction, Instruction::Run(_))
    }

    /// The instruction as progress shows it.
    pub(crate) fn shown(&self) -> String {
        let prefix = if self.is_trigger { "ONBUILD " } else { "" };
        format!("{prefix}{}", self.statement.text)
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

/// Each stage that is needed has a thread.
const MOST_STAGES: usize = 1000;

/// Plans the build and refuses what cannot be done here. All errors of the file are reported at once.
/// Nothing is fetched and nothing runs; of the machine it is only read what it can run, when a stage is
/// for another architecture.
pub(crate) fn plan(dockerfile: &Dockerfile, request: &Request) -> Result<Plan, Vec<Diagnostic>> {
    let plan = arrange(dockerfile, request)?;
    let unsupported = plan.unsupported(request);
    if unsupported.is_empty() {
        Ok(plan)
    } else {
        Err(unsupported)
    }
}

/// Plans the build without asking whether all of it can be done.
pub(crate) fn arrange(dockerfile: &Dockerfile, request: &Request) -> Result<Plan, Vec<Diagnostic>> {
    let escape = dockerfile.directives.escape;
    let mut errors = Vec::new();
    if let Some(stage) = dockerfile.stages.get(MOST_STAGES) {
        let message = format!("a Dockerfile cannot have more than {MOST_STAGES} stages");
        return Err(vec![Diagnostic::new(stage.base.span, message)]);
    }
    let globals = globals(dockerfile, request, &mut errors);
    let source_date_epoch = epoch_of(&globals, dockerfile, &mut errors);
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
    for index in 0..stages.len() {
        // A stage on another one has its platform, whatever its own FROM says (as BuildKit).
        if let PlannedBase::Stage(base) = stages[index].base {
            stages[index].platform = stages[base].platform.clone();
        }
    }
    let mut plan = Plan {
        escape,
        globals,
        stages,
        target,
        source_date_epoch,
    };
    plan.check_order()?;
    plan.mark();
    Ok(plan)
}

/// The arguments that FROM lines see, and stages that declare them.
fn globals(dockerfile: &Dockerfile, request: &Request, errors: &mut Vec<Diagnostic>) -> Globals {
    let last = dockerfile
        .stages
        .last()
        .and_then(|stage| stage.name.as_ref());
    let target = request
        .target
        .as_deref()
        .or(last.map(|name| name.value.as_str()));
    let mut globals = Globals::new(&request.build_args, &request.platform, target);
    for statement in &dockerfile.global_args {
        let Instruction::Arg(declarations) = &statement.instruction else {
            continue;
        };
        for declaration in declarations {
            if let Err(error) = globals.declare(declaration, dockerfile.directives.escape) {
                errors.push(Diagnostic::new(statement.span, error.to_string()));
                // Every later one would be too much as well.
                if error == WordError::TooMuch {
                    return globals;
                }
            }
        }
    }
    globals
}

/// The epoch that the file itself gives. One of the command line was read before and wins.
fn epoch_of(
    globals: &Globals,
    dockerfile: &Dockerfile,
    errors: &mut Vec<Diagnostic>,
) -> Option<i64> {
    const NAME: &str = "SOURCE_DATE_EPOCH";
    if globals.build_arg(NAME).is_some() {
        return None;
    }
    let text = globals.get(NAME).filter(|text| !text.is_empty())?;
    if let Ok(seconds) = text.parse()
        && jiff::Timestamp::from_second(seconds).is_ok()
    {
        return Some(seconds);
    }
    let declares = |statement: &&Statement| match &statement.instruction {
        Instruction::Arg(declarations) => declarations.iter().any(|one| one.name.value == NAME),
        _ => false,
    };
    let line = dockerfile.global_args.iter().rfind(declares);
    let span = line.map_or(Span::default(), |statement| statement.span);
    errors.push(
        Diagnostic::new(span, format!("invalid {NAME}: {text}"))
            .with_help("a number of seconds since 1970 is known, other values are not"),
    );
    None
}

/// What of a needed stage cannot be done here.
fn unsupported(stage: &PlannedStage, request: &Request) -> Vec<Diagnostic> {
    let of_language = |step: &Step| support::check(&step.statement, step.location, request);
    let mut found: Vec<Diagnostic> = stage.steps.iter().filter_map(of_language).collect();
    let is_run = |step: &&Step| matches!(step.statement.instruction, Instruction::Run(_));
    if let Some(run) = stage.steps.iter().find(is_run) {
        found.extend(confined::check_stage(run.location, request));
        if !binfmt::can_run(&stage.platform) {
            found.push(support::no_emulator(&stage.platform, run.location));
        }
    }
    found
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
    let base = expanded(&stage.base).and_then(|base| named_base(base, &stage.base));
    let platform = match &stage.platform {
        None => Ok(request.platform.clone()),
        Some(written) => expanded(written)
            .and_then(|expanded| support::parse_platform(&expanded, written, &globals.names())),
    };
    let (base, platform) = match (base, platform) {
        (Ok(base), Ok(platform)) => (base, platform),
        (base, platform) => {
            errors.extend(base.err());
            errors.extend(platform.err());
            (String::new(), request.platform.clone())
        }
    };
    let taken_over = stage
        .name
        .as_ref()
        .and_then(|name| named::find(&name.value, &platform, request));
    let mut planned = PlannedStage {
        index: stage.index,
        name: stage.name.as_ref().map(|name| name.value.clone()),
        base: match taken_over {
            Some(index) => PlannedBase::Named(index),
            None => plan_base(&base, stage, &platform, dockerfile, request),
        },
        platform,
        replaced: taken_over.is_some(),
        from_span: stage.from.span,
        from_text: stage.from.text.clone(),
        steps: Vec::new(),
        dependencies: BTreeSet::new(),
        needed: false,
        exported: false,
    };
    if planned.base == PlannedBase::Scratch {
        // BuildKit gives an empty stage the build's platform, whatever its own FROM says.
        planned.platform = request.platform.clone();
    }
    use_named_base(&mut planned, request);
    let own = stage.statements.iter().filter(|_| !planned.replaced);
    for statement in own {
        let location = statement.span;
        let statement = statement.clone();
        match plan_step(statement, location, false, dockerfile, request) {
            Ok(step) => planned.steps.push(step),
            Err(error) => errors.push(error),
        }
    }
    planned.find_dependencies();
    if errors.is_empty() {
        Ok(planned)
    } else {
        Err(errors)
    }
}

fn plan_step(
    statement: Statement,
    location: Span,
    is_trigger: bool,
    dockerfile: &Dockerfile,
    request: &Request,
) -> Result<Step, Diagnostic> {
    Ok(Step {
        from: plan_from(&statement, location, dockerfile, request)?,
        mounts: plan_mounts(&statement, location, dockerfile, request)?,
        statement,
        location,
        is_trigger,
    })
}

/// A named context that is no image is the file system of a stage that starts from nothing.
fn use_named_base(planned: &mut PlannedStage, request: &Request) {
    let PlannedBase::Named(index) = planned.base else {
        return;
    };
    let is_files = named::is_files(index, request);
    if !is_files && !named::is_scratch(index, request) {
        return;
    }
    planned.base = PlannedBase::Scratch;
    if is_files {
        let statement = parse_trigger("COPY . /").expect("the text is an instruction");
        planned.steps.push(Step {
            statement,
            location: planned.from_span,
            from: Some(CopyFrom::Named(index)),
            mounts: Vec::new(),
            is_trigger: false,
        });
    }
}

impl PlannedStage {
    /// Notes the stages whose result this one reads.
    fn find_dependencies(&mut self) {
        let from_steps = self.steps.iter().flat_map(Step::stages);
        self.dependencies.extend(from_steps);
        if let PlannedBase::Stage(index) = self.base {
            self.dependencies.insert(index);
        }
    }
}

impl Plan {
    /// What the engine does not do yet of what the target needs.
    pub(crate) fn unsupported(&self, request: &Request) -> Vec<Diagnostic> {
        let needed = self.stages.iter().filter(|stage| stage.needed);
        needed
            .flat_map(|stage| unsupported(stage, request))
            .collect()
    }

    /// Whether anything that the target needs is a RUN.
    pub(crate) fn runs_commands(&self) -> bool {
        let needed = self.stages.iter().filter(|stage| stage.needed);
        needed
            .flat_map(|stage| &stage.steps)
            .any(|step| matches!(step.statement.instruction, Instruction::Run(_)))
    }

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
            match plan_step(statement, location, true, dockerfile, request) {
                Ok(step) => steps.push(step),
                Err(error) => errors.push(error),
            }
        }
        let planned = &mut self.stages[stage];
        steps.append(&mut planned.steps);
        planned.steps = steps;
        planned.find_dependencies();
        errors.append(&mut unsupported(planned, request));
        if !errors.is_empty() {
            return Err(errors);
        }
        self.check_order()?;
        self.mark();
        Ok(())
    }

    /// Marks what the target needs, and the chain of stages that its layers come from.
    fn mark(&mut self) {
        let mut seen = BTreeSet::new();
        let mut next = vec![self.target];
        while let Some(index) = next.pop() {
            if seen.insert(index) {
                self.stages[index].needed = true;
                next.extend(&self.stages[index].dependencies);
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

    /// Names that ARG lines declare, anywhere in the file or in a trigger.
    pub(crate) fn declared_arguments(&self, dockerfile: &Dockerfile) -> Vec<String> {
        let of_file = dockerfile.stages.iter().flat_map(|stage| &stage.statements);
        let steps = self.stages.iter().flat_map(|stage| &stage.steps);
        dockerfile
            .global_args
            .iter()
            .chain(of_file)
            .chain(steps.map(|step| &step.statement))
            .filter_map(|statement| match &statement.instruction {
                Instruction::Arg(declarations) => Some(declarations),
                _ => None,
            })
            .flatten()
            .map(|declaration| declaration.name.value.clone())
            .collect()
    }
}
