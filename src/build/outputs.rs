//! The end of a build: its result, or the index of its results, in every output and under its tags.

use super::engine::Engine;
use super::error::{Error, StepError};
use super::event::{Event, VertexId};
use super::export::{self, Bundle};
use super::image::{self, Dialect};
use super::request::{Destination, Encoding, ImageOutput, Output, OutputForm};
use super::state::StageState;
use super::{archive, flat, push, stage};
use crate::oci::{Descriptor, Digest, ImageConfig, Platform};

/// What was built for one platform.
#[derive(Debug)]
pub(super) struct Finished<'a> {
    pub(super) engine: &'a Engine<'a>,
    pub(super) state: StageState,
    pub(super) config: ImageConfig,
}

/// All platforms of one build; the request and the store are the same for each.
struct Export<'a> {
    all: &'a [Finished<'a>],
    engine: &'a Engine<'a>,
    id: VertexId,
}

/// Writes every output, then points the tags at the image or index, which is returned if there is one.
pub(super) fn write(all: &[Finished<'_>]) -> Result<Option<Descriptor>, Error> {
    let Some(first) = all.first() else {
        return Ok(None);
    };
    let engine = first.engine;
    let id = engine.start_vertex("exporting to image".to_owned());
    let export = Export { all, engine, id };
    let exported = export.write();
    match &exported {
        Ok(_) => engine.events.send(Event::Done { id }),
        Err(error) => engine.events.send(Event::Failed {
            id,
            message: error.to_string(),
        }),
    }
    exported
}

/// The directory of a platform where an output holds the files of several: `linux_arm_v7`.
fn directory_name(platform: &Platform) -> String {
    platform.to_string().replace('/', "_")
}

impl Export<'_> {
    fn write(&self) -> Result<Option<Descriptor>, Error> {
        let mut stored = None;
        if let Some(encoding) = self.engine.encoding {
            let (bundle, took) = stage::timed(|| {
                self.engine.behind.finish()?;
                self.assemble(encoding, Dialect::Oci)
            });
            self.finished("exporting layers".to_owned(), took);
            stored = Some(bundle?);
        }
        for output in &self.engine.request.outputs {
            self.write_output(output)?;
        }
        let Some(bundle) = stored else {
            return Ok(None);
        };
        let tags = &self.engine.request.tags;
        let (published, took) = stage::timed(|| image::publish(self.engine.store, &bundle, tags));
        published?;
        for tag in tags {
            self.finished(format!("naming to {}", tag.whole()), took);
        }
        Ok(Some(bundle.top))
    }

    /// What was built, when it makes an image and no index.
    fn only(&self) -> Option<&Finished<'_>> {
        let makes_index = self.engine.request.makes_index();
        self.all.first().filter(|_| !makes_index)
    }

    fn finished(&self, label: String, took: std::time::Duration) {
        let id = self.id;
        self.engine.events.send(Event::Finished { id, label, took });
    }

    /// The image, or the index with all images.
    fn assemble(&self, encoding: Encoding, dialect: Dialect) -> Result<Bundle, Error> {
        let store = self.engine.store;
        let one = |finished: &Finished<'_>| {
            let (state, config) = (&finished.state, &finished.config);
            image::assemble(
                store,
                state,
                config,
                encoding,
                dialect,
                finished.engine.clamp,
            )
            .map_err(|source| Error::Assemble { source })
        };
        if let Some(only) = self.only() {
            return one(only).map(Bundle::from);
        }
        let images = self.all.iter().map(one).collect::<Result<_, _>>()?;
        Ok(image::join(store, images, dialect)?)
    }

    fn write_output(&self, output: &Output) -> Result<(), Error> {
        let store = self.engine.store;
        match &output.form {
            OutputForm::OciArchive(destination) => {
                self.archive(destination, output.encoding, Dialect::Oci)
            }
            OutputForm::DockerArchive(destination) => {
                self.archive(destination, output.encoding, Dialect::Docker)
            }
            OutputForm::OciLayout(path) => {
                let bundle = self.assemble(output.encoding, Dialect::Oci)?;
                let names = &self.engine.request.tags;
                Ok(export::layout(store, &bundle, names, path)?)
            }
            OutputForm::Tar(destination) => match self.only() {
                Some(only) => {
                    flat::tar(store, &only.state.snapshot, destination, self.engine.clamp)
                }
                None => {
                    let trees = self.all.iter().map(|finished| {
                        let name = directory_name(&finished.engine.request.platform);
                        (name, &finished.state.snapshot)
                    });
                    let trees: Vec<_> = trees.collect();
                    flat::tar_of_several(store, &trees, destination, self.engine.clamp)
                }
            },
            OutputForm::Local(path) => self.all.iter().try_for_each(|finished| {
                let path = match self.only() {
                    Some(_) => path.clone(),
                    None => path.join(directory_name(&finished.engine.request.platform)),
                };
                flat::directory(store, &finished.state.snapshot, &path)
            }),
            OutputForm::CacheOnly => Ok(()),
            OutputForm::Image(image) if image.push => {
                let dialect = if image.oci {
                    Dialect::Oci
                } else {
                    Dialect::Docker
                };
                self.push(&self.assemble(output.encoding, dialect)?, image)
            }
            OutputForm::Image(_) => Ok(()),
        }
    }

    fn archive(
        &self,
        destination: &Destination,
        encoding: Encoding,
        dialect: Dialect,
    ) -> Result<(), Error> {
        const LABEL: &str = "writing the archive";
        let (store, id) = (self.engine.store, self.id);
        let bundle = self.assemble(encoding, dialect)?;
        let total = Some(bundle.size());
        let images = [(bundle, self.engine.request.tags.clone())];
        let open = &|digest: &Digest| store.open_blob(digest);
        let progress = &mut |done| {
            self.engine.events.send(Event::Progress {
                id,
                label: LABEL.to_owned(),
                done,
                total,
            });
        };
        let (written, took) = stage::timed(|| {
            if let Destination::File(path) = destination
                && let Some(ahead) = &self.engine.archive
                && ahead.finish(open, &images, path, progress).is_some()
            {
                return Ok(());
            }
            export::to_destination::<Error>(destination, |out| {
                archive::write(open, &images, out, progress)
                    .map_err(|source| export::Error::of_archive(destination, source).into())
            })
        });
        self.finished(LABEL.to_owned(), took);
        written
    }

    /// Pushes under every name that the build has.
    fn push(&self, bundle: &Bundle, output: &ImageOutput) -> Result<(), Error> {
        let engine = self.engine;
        for name in engine.request.tags.iter().chain(&output.names) {
            let (pushed, took) = stage::timed(|| {
                push::push_stored(
                    engine.store,
                    &bundle.top,
                    name,
                    output.by_digest,
                    engine.events,
                    self.id,
                    engine.cancel,
                )
            });
            pushed.map_err(|source| match source {
                StepError::Canceled => Error::Canceled,
                source => Error::Push {
                    source: Box::new(source),
                },
            })?;
            self.finished(format!("pushing {}", name.whole()), took);
        }
        Ok(())
    }
}
