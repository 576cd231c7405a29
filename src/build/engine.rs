//! What all stages of one build share: the store, the sources, the results so far.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::archive_ahead::ArchiveAhead;
use super::behind::Behind;
use super::commit::LayerOptions;
use super::error::{Error, StepError};
use super::event::{Event, EventSender, Spent, VertexId};
use super::fetch::Fetch;
use super::images::{Image, ImageKey, ImageSource};
use super::input::DockerfileText;
use super::mount::Mounted;
use super::named;
use super::plan::{Plan, PlannedBase, PlannedStage};
use super::remote_context;
use super::request::{ContextSource, Encoding, NamedSource, Request};
use super::shared::Shared;
use super::source_tree::{OpenContext, SourceTree};
use super::stage;
use super::state::StageState;
use crate::context::digest::Memo;
use crate::context::ignore::Ignore;
use crate::context::{Context, read_ignore_file};
use crate::dockerfile::{Dockerfile, parse_trigger};
use crate::remote::Address;
use crate::sandbox::Cancel;
use crate::store::{Snapshot, Store};

/// Everything that the stages of a build read.
#[derive(Debug)]
pub(crate) struct Engine<'a> {
    pub(crate) request: &'a Request,
    pub(crate) plan: Plan,
    pub(crate) store: &'a Store,
    pub(crate) events: &'a EventSender,
    pub(crate) cancel: &'a Cancel,
    /// RFC 3339 of the source date epoch.
    pub(crate) epoch: Option<String>,
    /// The time that no file of a layer may be later than, seconds since 1970.
    pub(crate) clamp: Option<i64>,
    /// How layers of the final image are written; `None` when no output has layers.
    pub(crate) encoding: Option<Encoding>,
    pub(crate) shared: &'a Shared,
    pub(super) behind: Behind<'a>,
    pub(super) archive: Option<ArchiveAhead>,
    pub(super) images: BTreeMap<ImageKey, Image>,
    pub(crate) mounted: Mounted,
    cached: Mutex<BTreeSet<VertexId>>,
    results: Mutex<Vec<StageResult>>,
    finished: Condvar,
}

/// Where the files of the build are.
#[derive(Debug)]
pub(crate) enum ContextPlace {
    /// A directory, and the Dockerfile beside which its ignore file may stand.
    Directory {
        path: std::path::PathBuf,
        dockerfile: Option<std::path::PathBuf>,
    },
    /// No files at all.
    Empty,
    /// Files that came as an archive or from a repository: no ignore file applies, and nothing is
    /// known of them later.
    Archive(Context),
    /// Files elsewhere, fetched by the first step that reads them.
    Remote(Address),
}

impl ContextPlace {
    /// Where the context of a Dockerfile that did not come with it is.
    pub(crate) fn beside(request: &Request, dockerfile: &DockerfileText) -> Self {
        match &request.context {
            ContextSource::Directory(path) => Self::Directory {
                path: path.clone(),
                dockerfile: dockerfile.path.clone(),
            },
            ContextSource::Stdin => Self::Empty,
            ContextSource::Remote(address) => Self::Remote(address.clone()),
        }
    }
}

#[derive(Debug, Clone, Default)]
enum StageResult {
    #[default]
    Waiting,
    Done(Arc<StageState>),
    Failed,
}

/// A poisoned lock means that another stage's thread panicked; its data is still whole.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Of the thread of a stage: copies walk down as deep as a tree may be. Only what is used takes memory.
const STACK: usize = 64 << 20;

impl<'a> Engine<'a> {
    #[expect(
        clippy::too_many_arguments,
        reason = "it is the list of what a build consists of"
    )]
    pub(crate) fn new(
        request: &'a Request,
        plan: Plan,
        store: &'a Store,
        events: &'a EventSender,
        cancel: &'a Cancel,
        source_date_epoch: Option<i64>,
        encoding: Option<Encoding>,
        shared: &'a Shared,
        behind: Behind<'a>,
    ) -> Self {
        let rewrite = request
            .outputs
            .iter()
            .any(|output| output.rewrite_timestamp);
        let results = vec![StageResult::Waiting; plan.stages.len()];
        Self {
            request,
            plan,
            store,
            events,
            cancel,
            epoch: source_date_epoch.map(stage::rfc3339),
            clamp: source_date_epoch.filter(|_| rewrite),
            encoding,
            shared,
            behind,
            archive: ArchiveAhead::of(request),
            images: BTreeMap::new(),
            mounted: Mounted::default(),
            cached: Mutex::default(),
            results: Mutex::new(results),
            finished: Condvar::new(),
        }
    }

    pub(crate) fn start_vertex(&self, name: String) -> VertexId {
        let id = self.shared.next_vertex();
        self.events.send(Event::Started { id, name });
        id
    }

    /// Tells that the vertex needs no work; [`Engine::end_vertex`] has nothing to add then.
    pub(crate) fn cached_vertex(&self, id: VertexId) {
        lock(&self.cached).insert(id);
        self.events.send(Event::Cached { id });
    }

    /// Tells what a phase of the vertex took.
    pub(crate) fn spent(&self, id: VertexId, spent: Spent) {
        let id = Some(id);
        self.events.send(Event::Spent { id, spent });
    }

    /// Tells how the vertex ended.
    pub(crate) fn end_vertex<T>(
        &self,
        id: VertexId,
        result: Result<T, StepError>,
    ) -> Result<T, StepError> {
        match &result {
            Ok(_) if lock(&self.cached).remove(&id) => {}
            Ok(_) => self.events.send(Event::Done { id }),
            Err(StepError::Canceled) => self.events.send(Event::Canceled { id }),
            Err(error) => self.events.send(Event::Failed {
                id,
                message: error.to_string(),
            }),
        }
        result
    }

    pub(crate) fn layer_options(&self, stage: &PlannedStage) -> LayerOptions {
        let blob = self.encoding.filter(|_| stage.exported);
        LayerOptions {
            clamp_mtime: self.clamp,
            blob,
            ..LayerOptions::default()
        }
    }

    /// Finds every image that the build needs, and the triggers of those it stands on, before
    /// anything is carried out.
    pub(crate) fn resolve_images(&mut self, dockerfile: &Dockerfile) -> Result<(), Error> {
        let mut triggered = vec![false; self.plan.stages.len()];
        loop {
            for wanted in self.needed_images() {
                self.resolve(wanted)?;
            }
            let next = (0..self.plan.stages.len())
                .find(|index| self.plan.stages[*index].needed && !triggered[*index]);
            let Some(index) = next else { return Ok(()) };
            triggered[index] = true;
            self.add_triggers(index, dockerfile)?;
        }
    }

    fn add_triggers(&mut self, index: usize, dockerfile: &Dockerfile) -> Result<(), Error> {
        let stage = &self.plan.stages[index];
        let (name, texts) = match &stage.base {
            PlannedBase::Scratch => return Ok(()),
            _ if stage.replaced => return Ok(()),
            PlannedBase::Stage(base) => {
                let of_parent = self.plan.stages[*base].steps.iter();
                let triggers = of_parent.filter_map(|step| match &step.statement.instruction {
                    crate::dockerfile::Instruction::Onbuild(onbuild) => {
                        Some(onbuild.trigger.clone())
                    }
                    _ => None,
                });
                (stage.from_text.clone(), triggers.collect())
            }
            PlannedBase::Image(_) | PlannedBase::Named(_) => {
                let image = self.image_of_base(stage);
                (
                    image.base.name.clone(),
                    image.base.config.config.on_build.clone(),
                )
            }
        };
        let location = stage.from_span;
        let mut statements = Vec::new();
        for text in texts {
            let statement = parse_trigger(&text).map_err(|diagnostics| Error::Trigger {
                image: name.clone(),
                message: diagnostics
                    .first()
                    .map_or_else(String::new, |d| d.message.clone()),
                location,
            })?;
            statements.push(statement);
        }
        if statements.is_empty() {
            return Ok(());
        }
        self.plan
            .add_triggers(index, statements, dockerfile, self.request)
            .map_err(|diagnostics| Error::Dockerfile { diagnostics })
    }

    /// The build context, opened by the first step that reads it.
    pub(crate) fn context(&self, id: VertexId) -> Result<SourceTree, StepError> {
        if let Some(open) = self.shared.context.get() {
            return Ok(SourceTree::Context(Arc::clone(open)));
        }
        let opened = match &self.shared.place {
            ContextPlace::Directory { path, dockerfile } => {
                let (ignore, _) = read_ignore_file(path, dockerfile.as_deref())
                    .map_err(|source| StepError::Context { source })?;
                self.open_directory(path, ignore)?
            }
            ContextPlace::Remote(address) => {
                return self.shared.fetched.get(None, || {
                    let (context, _) = remote_context::fetch_main(&self.fetch(id), address)?;
                    Ok(context)
                });
            }
            ContextPlace::Empty | ContextPlace::Archive(_) => OpenContext {
                context: Context::empty(&self.store.scratch()?)
                    .map_err(|source| StepError::Context { source })?,
                memo: Memo::none(),
            },
        };
        Ok(SourceTree::Context(Arc::clone(
            self.shared.context.get_or_init(|| Arc::new(opened)),
        )))
    }

    /// What steps of the vertex `id` fetch with.
    pub(crate) fn fetch(&self, id: VertexId) -> Fetch<'_> {
        Fetch {
            store: self.store,
            request: self.request,
            events: self.events,
            cancel: self.cancel,
            id,
        }
    }

    fn open_directory(&self, path: &Path, ignore: Ignore) -> Result<OpenContext, StepError> {
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Ok(OpenContext {
            context: Context::directory(path, ignore)
                .map_err(|source| StepError::Context { source })?,
            memo: Memo::open(&self.store.context_memo(&absolute), self.store.grows()),
        })
    }

    /// A named context as a source.
    pub(crate) fn named(&self, index: usize, id: VertexId) -> Result<SourceTree, StepError> {
        let named = &self.request.named_contexts[index];
        match &named.source {
            NamedSource::Directory(path) => {
                let (ignore, _) =
                    read_ignore_file(path, None).map_err(|source| StepError::Context { source })?;
                Ok(SourceTree::Context(Arc::new(
                    self.open_directory(path, ignore)?,
                )))
            }
            NamedSource::Remote(address) => self.shared.fetched.get(Some(index), || {
                remote_context::fetch_named(&self.fetch(id), address)
            }),
            NamedSource::Image(_) => {
                let snapshot = if named::is_scratch(index, self.request) {
                    Snapshot::default()
                } else {
                    let source = ImageSource::Named(index);
                    let image = self.resolved(source, &self.request.platform);
                    image.fetch(self, id)?.0
                };
                SourceTree::rootfs(self.store, &snapshot)
            }
        }
    }

    /// Builds every needed stage, each on its own thread, and returns the target's state. A stage waits
    /// for another where it reads it, and not before. The first failure ends the others.
    pub(crate) fn build_stages(&self) -> Result<StageState, Error> {
        let needed: Vec<usize> = (0..self.plan.stages.len())
            .filter(|index| self.plan.stages[*index].needed)
            .collect();
        if let [only] = needed[..] {
            return stage::build(self, only);
        }
        if !self.store.grows() {
            return self.look_up_stages(&needed);
        }
        let first_error = Mutex::new(None);
        std::thread::scope(|scope| {
            for index in needed {
                let first_error = &first_error;
                let work = move || {
                    let result = stage::build(self, index);
                    let stored = match result {
                        Ok(state) => StageResult::Done(Arc::new(state)),
                        Err(error) => {
                            // Of several errors the one that is not a consequence counts.
                            let mut first = lock(first_error);
                            if first.is_none() || matches!(*first, Some(Error::Canceled)) {
                                *first = Some(error);
                            }
                            self.cancel.cancel();
                            StageResult::Failed
                        }
                    };
                    lock(&self.results)[index] = stored;
                    self.finished.notify_all();
                };
                std::thread::Builder::new()
                    .stack_size(STACK)
                    .spawn_scoped(scope, work)
                    .expect("a thread can be started, as scope.spawn has it");
            }
        });
        match first_error
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
        {
            Some(error) => Err(error),
            None => self.result_of(self.plan.target).map(Arc::unwrap_or_clone),
        }
    }

    /// [`Engine::build_stages`] where every step has to be in the cache: without any thread, because what
    /// turns out to be missing is made after unshare(2), which a process with several is refused.
    fn look_up_stages(&self, needed: &[usize]) -> Result<StageState, Error> {
        for index in needed {
            let state = stage::build(self, *index)?;
            lock(&self.results)[*index] = StageResult::Done(Arc::new(state));
        }
        self.result_of(self.plan.target).map(Arc::unwrap_or_clone)
    }

    /// The stage, if it is built.
    pub(crate) fn result_there(&self, index: usize) -> Option<Arc<StageState>> {
        match &lock(&self.results)[index] {
            StageResult::Done(state) => Some(Arc::clone(state)),
            StageResult::Failed | StageResult::Waiting => None,
        }
    }

    /// Waits for a stage.
    pub(crate) fn result_of(&self, index: usize) -> Result<Arc<StageState>, Error> {
        let mut results = lock(&self.results);
        loop {
            match &results[index] {
                StageResult::Done(state) => return Ok(Arc::clone(state)),
                StageResult::Failed => return Err(Error::Canceled),
                // Nobody else would build it.
                StageResult::Waiting if !self.store.grows() => return Err(Error::Canceled),
                StageResult::Waiting => {
                    results = self
                        .finished
                        .wait(results)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}
