//! The images that a build reads: which, for which platform, found before any work starts.

use std::sync::Mutex;

use super::base::{self, Base};
use super::engine::{Engine, lock};
use super::error::{Error, StepError};
use super::event::VertexId;
use super::named;
use super::plan::{CopyFrom, PlannedBase, PlannedStage};
use crate::dockerfile::Span;
use crate::oci::Platform;
use crate::store::Snapshot;

/// An image that the build reads: where it comes from, and the platform it is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ImageKey {
    source: ImageSource,
    platform: String,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ImageSource {
    /// As the Dockerfile has it.
    Reference(String),
    /// An index into [`Request::named_contexts`].
    Named(usize),
}

impl ImageKey {
    fn new(source: ImageSource, platform: &Platform) -> Self {
        Self {
            source,
            platform: platform.to_string(),
        }
    }
}

/// A place that wants an image.
pub(super) struct Wanted {
    key: ImageKey,
    platform: Platform,
    /// The instruction and where it is.
    step: String,
    location: Span,
}

/// An image that the build reads, fetched when the first stage wants its files.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) base: Base,
    snapshot: Mutex<Option<Snapshot>>,
}

impl Image {
    /// The image's files, and whether they were there already. Several stages that ask at once wait
    /// for one transfer.
    pub(crate) fn fetch(
        &self,
        engine: &Engine<'_>,
        id: VertexId,
    ) -> Result<(Snapshot, bool), StepError> {
        let mut snapshot = lock(&self.snapshot);
        if let Some(snapshot) = &*snapshot {
            return Ok((snapshot.clone(), true));
        }
        if let Some(there) = self.base.stored(engine.store)? {
            return Ok((snapshot.insert(there).clone(), true));
        }
        let fetched = self
            .base
            .fetch(engine.store, engine.events, id, engine.cancel)?;
        Ok((snapshot.insert(fetched).clone(), false))
    }
}

fn source_of_base(base: &PlannedBase) -> Option<ImageSource> {
    match base {
        PlannedBase::Image(name) => Some(ImageSource::Reference(name.clone())),
        PlannedBase::Named(index) => Some(ImageSource::Named(*index)),
        PlannedBase::Scratch | PlannedBase::Stage(_) => None,
    }
}

impl Engine<'_> {
    /// The images that no place has asked for before, each once, with the first that wants it.
    pub(super) fn needed_images(&self) -> Vec<Wanted> {
        let mut found: Vec<Wanted> = Vec::new();
        let mut want = |source, platform: &Platform, step: &str, location| {
            let key = ImageKey::new(source, platform);
            if self.images.contains_key(&key) || found.iter().any(|there| there.key == key) {
                return;
            }
            found.push(Wanted {
                key,
                platform: platform.clone(),
                step: step.to_owned(),
                location,
            });
        };
        for stage in self.plan.stages.iter().filter(|stage| stage.needed) {
            if let Some(source) = source_of_base(&stage.base) {
                want(source, &stage.platform, &stage.from_text, stage.from_span);
            }
            for step in &stage.steps {
                for source in step.sources() {
                    let source = match source {
                        CopyFrom::Image(name) => ImageSource::Reference(name.clone()),
                        CopyFrom::Named(index) if self.is_image(*index) => {
                            ImageSource::Named(*index)
                        }
                        _ => continue,
                    };
                    let platform = &self.request.platform;
                    want(source, platform, &step.statement.text, step.location);
                }
            }
        }
        found
    }

    /// Whether the named context is one.
    pub(super) fn is_image(&self, named: usize) -> bool {
        !named::is_files(named, self.request) && !named::is_scratch(named, self.request)
    }

    pub(super) fn resolve(&mut self, wanted: Wanted) -> Result<(), Error> {
        let (request, platform) = (self.request, &wanted.platform);
        let shown = match &wanted.key.source {
            ImageSource::Reference(name) => name,
            ImageSource::Named(index) => &request.named_contexts[*index].name,
        };
        let prefix = if request.makes_index() {
            format!("{platform} ")
        } else {
            String::new()
        };
        let id = self.start_vertex(format!("[{prefix}internal] load metadata for {shown}"));
        let found = match &wanted.key.source {
            ImageSource::Reference(name) => {
                base::find_image(self.store, name, platform, request, self.cancel)
            }
            ImageSource::Named(index) => {
                let source = &request.named_contexts[*index].source;
                base::find_named(self.store, source, shown, platform, request, self.cancel)
            }
        };
        let base = self.end_vertex(id, found).map_err(|source| match source {
            StepError::Canceled => Error::Canceled,
            source => Error::Step {
                step: wanted.step,
                location: wanted.location,
                source: Box::new(source),
            },
        })?;
        let snapshot = Mutex::new(None);
        self.images.insert(wanted.key, Image { base, snapshot });
        Ok(())
    }

    /// An image by its name in the Dockerfile, for the platform of the build.
    pub(crate) fn image(&self, name: &str) -> &Image {
        let source = ImageSource::Reference(name.to_owned());
        self.resolved(source, &self.request.platform)
    }

    /// The image that a stage stands on; only for stages that stand on one.
    pub(crate) fn image_of_base(&self, stage: &PlannedStage) -> &Image {
        let source = source_of_base(&stage.base);
        let source = source.expect("only called for bases that are images");
        self.resolved(source, &stage.platform)
    }

    pub(super) fn resolved(&self, source: ImageSource, platform: &Platform) -> &Image {
        self.images
            .get(&ImageKey::new(source, platform))
            .expect("every image was resolved before the first stage began")
    }
}
