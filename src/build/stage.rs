//! One stage: its base, then its steps in order, each looked up before it is carried out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::add::{self, CopyStep, Known};
use super::ahead::Ahead;
use super::archive_ahead::NextLayer;
use super::behind::Job;
use super::commit::{LayerOptions, Lineage, commit};
use super::count::Count;
use super::engine::Engine;
use super::error::{Error, StepError};
use super::event::{Event, Phase, Spent, VertexId};
use super::metadata::{self, Evaluation};
use super::mount::Mounts;
use super::plan::{CopyFrom, PlannedBase, PlannedStage, Step};
use super::run::Run;
use super::secret_scan::LayerScan;
use super::source_tree::SourceTree;
use super::state::StageState;
use super::workdir;
use crate::dockerfile::Instruction;
use crate::oci::Digest;
use crate::store::{Active, CacheRecord, Snapshot};

/// Builds a stage; the stages that it reads are being built on other threads.
pub(crate) fn build(engine: &Engine<'_>, index: usize) -> Result<StageState, Error> {
    let stage = &engine.plan.stages[index];
    let mut count = Count::of(engine, stage);
    let mut state = start(engine, stage, &mut count)?;
    let mut known = None;
    for (number, step) in stage.steps.iter().enumerate() {
        let later = &stage.steps[number + 1..];
        let is_last = index == engine.plan.target && !later.iter().any(Step::writes_files);
        if engine.cancel.is_canceled() {
            return Err(Error::Canceled);
        }
        let before = engine.shared.scan.is_some().then(|| state.config.clone());
        let around = Around {
            is_last,
            later,
            known: &mut known,
        };
        let done = execute(engine, stage, &mut state, step, around, &mut count);
        let done = done.and_then(|()| match before {
            Some(before) => engine.scan_config(&state.config, &before),
            None => Ok(()),
        });
        done.map_err(|source| match source {
            StepError::Canceled => Error::Canceled,
            source => Error::Step {
                step: step.statement.text.clone(),
                location: step.location,
                source: Box::new(source),
            },
        })?;
    }
    Ok(state)
}

/// The state after FROM.
fn start(
    engine: &Engine<'_>,
    stage: &PlannedStage,
    count: &mut Count,
) -> Result<StageState, Error> {
    let globals = &engine.plan.globals;
    match &stage.base {
        PlannedBase::Scratch => Ok(StageState::scratch(&stage.platform, globals)),
        PlannedBase::Stage(base) => {
            let state = engine.result_of(*base)?;
            Ok(StageState::of_stage(Arc::unwrap_or_clone(state)))
        }
        PlannedBase::Image(_) | PlannedBase::Named(_) => {
            let image = engine.image_of_base(stage);
            let id =
                engine.start_vertex(count.next(&format!("FROM {}", image.base.pinned()), None));
            let fetched = image.fetch(engine, id).map(|(snapshot, was_there)| {
                if was_there {
                    engine.cached_vertex(id);
                }
                snapshot
            });
            let snapshot = engine
                .end_vertex(id, fetched)
                .map_err(|source| match source {
                    StepError::Canceled => Error::Canceled,
                    source => Error::Step {
                        step: stage.from_text.clone(),
                        location: stage.from_span,
                        source: Box::new(source),
                    },
                })?;
            Ok(StageState::of_image(
                snapshot,
                image.base.config.clone(),
                globals,
            ))
        }
    }
}

/// What the steps before and after mean for one.
struct Around<'a, 'b> {
    /// No step of the build waits for its layer.
    is_last: bool,
    later: &'a [Step],
    /// What was found out for the step, then what it found out for the next.
    known: &'b mut Option<Known>,
}

fn execute<'a>(
    engine: &'a Engine<'a>,
    stage: &'a PlannedStage,
    state: &mut StageState,
    step: &Step,
    around: Around<'a, '_>,
    count: &mut Count,
) -> Result<(), StepError> {
    let escape = engine.plan.escape;
    let evaluation = Evaluation {
        escape,
        globals: &engine.plan.globals,
        epoch: engine.epoch.as_deref(),
    };
    if metadata::apply(state, &step.statement, evaluation)? {
        return Ok(());
    }
    let mut files = Files {
        engine,
        stage,
        state,
        step,
        around,
        is_linked: false,
        is_commands: step.is_run(),
    };
    match &step.statement.instruction {
        Instruction::Run(instruction) => {
            let run = Run::new(instruction, files.state, engine);
            let created_by = run_history(&run, files.state);
            for from in step.stages() {
                engine.result_of(from).map_err(|_| StepError::Canceled)?;
            }
            let id = engine.start_vertex(count.next(&step.shown(), Some(&files.state.scope)));
            let began = Instant::now();
            let key = Mounts::resolve(engine, id, instruction, step, files.state).map(|mounts| {
                (
                    run.key(files.state, engine, &stage.platform, &mounts),
                    mounts,
                )
            });
            let is_followed = files.around.later.iter().any(Step::is_run);
            files.step(id, began, key, &created_by, |active, state, mounts| {
                run.execute(engine, (state, active), &mounts, id, is_followed)
            })
        }
        Instruction::Copy(_) | Instruction::Add(_) => {
            let (copy, add) = match &step.statement.instruction {
                Instruction::Add(add) => (&add.copy, Some(add)),
                Instruction::Copy(copy) => (copy, None),
                _ => unreachable!("the arm above lets nothing else through"),
            };
            if let Some(CopyFrom::Stage(from)) = step.from {
                // Waiting is no part of the step.
                engine.result_of(from).map_err(|_| StepError::Canceled)?;
            }
            let id = engine.start_vertex(count.next(&step.shown(), Some(&files.state.scope)));
            let fetch = engine.fetch(id);
            let began = Instant::now();
            let made = CopyStep::new(copy, add, files.state, escape).and_then(|mut copy| {
                copy.resolve(&fetch)?;
                Ok((copy, source_of(engine, id, step.from.as_ref())?))
            });
            let (copy, source) = match made {
                Ok(made) => made,
                Err(error) => return engine.end_vertex(id, Err(error)),
            };
            let created_by = format!("{} # buildkit", copy.shown);
            files.is_linked = copy.is_linked;
            let key = copy.key(
                engine.store,
                &source,
                files.state,
                &stage.platform,
                engine.clamp,
                files.around.known.take(),
            );
            files.step(id, began, key, &created_by, |active, _, selection| {
                let (copied, took) = timed(|| copy.execute(&fetch, &source, selection, active));
                let copied = copied?;
                let spent = Spent {
                    bytes: Some(copied.bytes),
                    files: Some(copied.files),
                    ..Spent::new(Phase::Write, took)
                };
                engine.spent(id, spent);
                for skipped in copied.skipped {
                    let message = skipped.to_string();
                    engine.events.send(Event::Warning {
                        id: Some(id),
                        message,
                    });
                }
                Ok(Remember::Yes)
            })
        }
        Instruction::Workdir(path) => {
            let id = engine.start_vertex(count.next(&step.shown(), Some(&files.state.scope)));
            let expanded = files
                .state
                .scope
                .expand(&path.value, escape)
                .map_err(|source| StepError::Word { source });
            let path = match expanded {
                Ok(expanded) => add::join(files.state.working_directory(), &expanded.value),
                Err(error) => return engine.end_vertex(id, Err(error)),
            };
            let began = Instant::now();
            let key = workdir::workdir_key(files.state, &path, &stage.platform, engine.clamp);
            let created_by = format!("WORKDIR {path}");
            files.step(
                id,
                began,
                Ok((key, ())),
                &created_by,
                |active, state, ()| {
                    let (made, took) =
                        timed(|| workdir::create_workdir(engine.store, state, active, &path));
                    made?;
                    engine.spent(id, Spent::new(Phase::Write, took));
                    Ok(Remember::Yes)
                },
            )?;
            state.config.config.working_dir = path;
            Ok(())
        }
        _ => unreachable!("every other instruction only changes the configuration"),
    }
}

/// `RUN |1 A=b /bin/sh -c make # buildkit`, the text that `docker history` has for a RUN.
fn run_history(run: &Run, state: &StageState) -> String {
    let arguments = state.scope.arguments();
    if arguments.len() == 0 {
        return format!("RUN {} # buildkit", run.shown);
    }
    let count = arguments.len();
    let shown: Vec<String> = arguments.map(|(n, v)| format!("{n}={v}")).collect();
    format!("RUN |{count} {} {} # buildkit", shown.join(" "), run.shown)
}

/// The tree that a COPY or a mount reads.
pub(super) fn source_of(
    engine: &Engine<'_>,
    id: VertexId,
    from: Option<&CopyFrom>,
) -> Result<SourceTree, StepError> {
    match from {
        None => engine.context(id),
        Some(CopyFrom::Scratch) => SourceTree::rootfs(engine.store, &Snapshot::default()),
        Some(CopyFrom::Stage(index)) => {
            let state = engine.result_of(*index).map_err(|_| StepError::Canceled)?;
            SourceTree::rootfs(engine.store, &state.snapshot)
        }
        Some(CopyFrom::Named(index)) => engine.named(*index, id),
        Some(CopyFrom::Image(name)) => {
            let (snapshot, _) = engine.image(name).fetch(engine, id)?;
            SourceTree::rootfs(engine.store, &snapshot)
        }
    }
}

/// Whether later builds may find what a step made under its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remember {
    Yes,
    /// What it read is no longer what the key says.
    No,
}

/// The steps that write files, alike but for what they write.
struct Files<'a, 'b> {
    engine: &'a Engine<'a>,
    stage: &'a PlannedStage,
    state: &'b mut StageState,
    step: &'b Step,
    around: Around<'a, 'b>,
    /// The layer is made from nothing, then put on what the stage has.
    is_linked: bool,
    /// A command of the image writes the layer.
    is_commands: bool,
}

impl Files<'_, '_> {
    /// Looks the step up under `key`, which was begun at `began`, else lets `write` write it into a new layer.
    fn step<T>(
        &mut self,
        id: VertexId,
        began: Instant,
        key: Result<(Digest, T), StepError>,
        created_by: &str,
        write: impl FnOnce(&Active, &StageState, T) -> Result<Remember, StepError>,
    ) -> Result<(), StepError> {
        let engine = self.engine;
        let made = key.and_then(|(key, input)| {
            let is_old = engine.request.no_cache && !engine.shared.was_made(&key);
            let cached = if is_old {
                None
            } else {
                engine.store.cached(&key)
            };
            engine.spent(id, Spent::new(Phase::Key, began.elapsed()));
            match cached {
                Some(record) => {
                    engine.scan_cached(id, &record, &self.state.snapshot)?;
                    engine.cached_vertex(id);
                    Ok(record)
                }
                None => self.write_beside(id, &key, input, write),
            }
        });
        let record = engine.end_vertex(id, made)?;
        let below = &self.state.snapshot;
        let made = engine
            .store
            .snapshot_above(record.chain_id.as_ref(), below)?;
        self.state.snapshot = match &record.diff_id {
            Some(layer) if self.is_linked => engine.store.link(&made, layer.clone(), below)?,
            None if self.is_linked => self.state.snapshot.clone(),
            _ => made,
        };
        let epoch = engine.epoch.as_deref();
        self.state.add_layer(
            created_by.to_owned(),
            record.diff_id,
            &record.created,
            epoch,
        );
        Ok(())
    }

    /// Writes the layer, and finds out meanwhile what the next step will ask for.
    fn write_beside<T>(
        &mut self,
        id: VertexId,
        key: &Digest,
        input: T,
        write: impl FnOnce(&Active, &StageState, T) -> Result<Remember, StepError>,
    ) -> Result<CacheRecord, StepError> {
        let platform = &self.stage.platform;
        let steps = (self.step, self.around.later.first());
        let Some(ahead) = Ahead::of(self.engine, platform, steps, self.state) else {
            return self.write(id, key, input, write);
        };
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("ahead".into());
            let found = thread.spawn_scoped(scope, || ahead.find_out());
            let written = self.write(id, key, input, write);
            *self.around.known = found
                .ok()
                .and_then(|found| found.join().expect("it does not panic"));
            written
        })
    }

    fn write<T>(
        &self,
        id: VertexId,
        key: &Digest,
        input: T,
        write: impl FnOnce(&Active, &StageState, T) -> Result<Remember, StepError>,
    ) -> Result<CacheRecord, StepError> {
        let engine = self.engine;
        let nothing = Snapshot::default();
        let below = if self.is_linked {
            &nothing
        } else {
            &self.state.snapshot
        };
        let active = engine.store.prepare(below)?;
        let remember = write(&active, self.state, input)?;
        if engine.cancel.is_canceled() {
            return Err(StepError::Canceled);
        }
        let ahead = match self.around.is_last {
            true => None,
            false => engine.behind.room(),
        };
        let made = engine.layer_options(self.stage);
        let lineage = made.blob.map(|encoding| {
            let context = engine.shared.absolute_context();
            let platform = &self.stage.platform;
            Lineage::new(&self.step.statement.text, context, platform, encoding)
        });
        let options = LayerOptions {
            ahead,
            is_commands: self.is_commands,
            lineage,
            ..made
        };
        let scan = engine.shared.scan.as_ref().map(LayerScan::new);
        let archive = engine.archive.as_ref().map(|ahead| NextLayer {
            ahead,
            store: engine.store,
            below: &self.state.config.rootfs.diff_ids,
        });
        let archive = archive.filter(|_| self.stage.exported);
        let committed = commit(engine.store, active, options, scan, archive);
        engine.shared.reserve.settle();
        let committed = committed?;
        for spent in committed.spent {
            engine.spent(id, spent);
        }
        engine.warn_of_leaks(id, &committed.leaks);
        if let Some(left) = committed.left {
            let job = Job {
                id,
                step: self.step.statement.text.clone(),
                location: self.step.location,
                left,
            };
            let behind = engine.behind.leave(job);
            behind.map_err(|source| StepError::Compress { source })?;
        }
        let record = CacheRecord {
            chain_id: committed.snapshot.chain_id().cloned(),
            diff_id: committed.diff_id,
            created: now(),
        };
        if remember == Remember::Yes {
            // Builds that made the same at once go on with one result, so that what they make of it is
            // found by the others.
            if !engine.request.no_cache
                && let Some(theirs) = engine.store.cached(key)
            {
                engine.scan_cached(id, &theirs, &self.state.snapshot)?;
                return Ok(theirs);
            }
            engine.store.remember(key, &record)?;
            engine.shared.note_made(key);
        }
        Ok(record)
    }
}

/// RFC 3339, to the nanosecond.
pub(crate) fn now() -> String {
    jiff::Timestamp::now().to_string()
}

/// Seconds since 1970 as RFC 3339 has them.
pub(super) fn rfc3339(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| String::new(), |time| time.to_string())
}

/// How long a part of the work took, for events.
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed())
}
