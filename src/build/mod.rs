//! A build: from a request to an image in the store and its outputs.
//!
//! [`load`] reads and plans, and touches nothing; [`run`] carries the plan out. All decisions of a
//! build are made in this room; the rooms below it read, run, pack and store as they are told.

mod add;
mod add_remote;
mod base;
mod commit;
mod confined;
pub(crate) mod container;
mod copy;
mod downloads;
mod engine;
mod error;
pub(crate) mod event;
pub(crate) mod export;
mod fetch;
pub(crate) mod flat;
mod image;
mod images;
pub(crate) mod import;
mod input;
pub(crate) mod inspect;
pub(crate) mod joined;
mod key;
pub(crate) mod log_lines;
mod log_tail;
mod metadata;
mod mount;
mod named;
mod owner;
mod plan;
pub(crate) mod pull;
pub(crate) mod push;
mod redact;
mod remote_context;
pub(crate) mod request;
mod resolve;
mod run;
pub(crate) mod run_options;
mod scope;
pub(crate) mod secret;
mod stage;
mod state;
mod support;
mod unpacked;
mod workdir;

use std::fs::File;

pub(crate) use base::parse_reference;
pub(crate) use error::{Error, StepError};
pub(crate) use input::DockerfileText;

use engine::{ContextPlace, Engine};
use event::{Event, EventSender, VertexId};
use export::ImageBlobs;
use fetch::Fetch;
use image::Dialect;
use plan::Plan;
use request::{ContextSource, DockerfileSource, Encoding, Output, OutputForm, Request};
use state::StageState;

use crate::check::Checked;
use crate::dockerfile::{Dockerfile, parse};
use crate::oci::{Descriptor, Digest, ImageConfig};
use crate::sandbox::walls::NOT_ISOLATED;
use crate::sandbox::{Cancel, Walls};
use crate::store::Store;

/// A failed build, with the Dockerfile that its error may point into.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: Error,
    pub(crate) dockerfile: Option<DockerfileText>,
}

/// A build that is known to be possible: the file is right and all of it is supported.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) text: DockerfileText,
    /// What the checks found; nothing of it is an error.
    pub(crate) checked: Checked,
    dockerfile: Dockerfile,
    plan: Plan,
    context: ContextPlace,
}

/// What standard input or the context's directory gave.
#[derive(Debug)]
pub(crate) enum Input {
    Loaded(Box<Loaded>),
    /// A context archive; its Dockerfile is known once it is unpacked by [`load_archive`].
    Archive(File),
    /// A Dockerfile elsewhere, by itself or in the context; [`load_remote`] fetches it.
    Remote,
}

/// What a build made.
#[derive(Debug)]
pub(crate) struct Built {
    /// Digest of the configuration, which is how docker names an image.
    pub(crate) image_id: Digest,
    /// The manifest in the store; `None` when the outputs wanted no image.
    pub(crate) manifest: Option<Descriptor>,
    /// What the checks found, with what only the base images could tell.
    pub(crate) checked: Checked,
}

/// Reads and plans a build without touching the store or the network.
pub(crate) fn load(request: &Request) -> Result<Input, Box<Failure>> {
    let bare = |error| {
        Box::new(Failure {
            error,
            dockerfile: None,
        })
    };
    remote_context::check(request).map_err(bare)?;
    if let ContextSource::Directory(path) = &request.context {
        input::check_directory(path).map_err(bare)?;
    }
    if remote_context::has_dockerfile(request) {
        return Ok(Input::Remote);
    }
    if request.context == ContextSource::Stdin && request.dockerfile != DockerfileSource::Stdin {
        return match input::read_stdin().map_err(bare)? {
            input::Stdin::Archive(file) => Ok(Input::Archive(file)),
            input::Stdin::Dockerfile(text) => {
                plan_text(text, request, ContextPlace::Empty).map(Input::Loaded)
            }
        };
    }
    let text = input::read_dockerfile(request).map_err(bare)?;
    let context = inspect::place(&text, request).map_err(bare)?;
    plan_text(text, request, context).map(Input::Loaded)
}

/// Fetches the Dockerfile of an [`Input::Remote`], with the context where it is in that, and plans it.
pub(crate) fn load_remote(
    request: &Request,
    store: &Store,
    events: &EventSender,
    cancel: &Cancel,
) -> Result<Box<Loaded>, Box<Failure>> {
    let fetch = Fetch {
        store,
        request,
        events,
        cancel,
        id: remote_context::VERTEX,
    };
    match remote_context::load(&fetch) {
        Ok((text, context)) => plan_text(text, request, context),
        Err(error) => Err(Box::new(Failure {
            error,
            dockerfile: None,
        })),
    }
}

/// Unpacks a context archive into the store's scratch space, and plans what is in it.
pub(crate) fn load_archive(
    request: &Request,
    archive: File,
    store: &Store,
) -> Result<Box<Loaded>, Box<Failure>> {
    let bare = |error| {
        Box::new(Failure {
            error,
            dockerfile: None,
        })
    };
    let context = remote_context::unpack_archive(store, archive).map_err(bare)?;
    let name = "the archive on standard input";
    let read = input::read_from_archive(context.root(), &request.dockerfile, name);
    let text = read.map_err(bare)?;
    plan_text(text, request, ContextPlace::Archive(context))
}

fn plan_text(
    text: DockerfileText,
    request: &Request,
    context: ContextPlace,
) -> Result<Box<Loaded>, Box<Failure>> {
    let planned = support::check_frontend(&text.text, request)
        .map_err(|foreign| vec![foreign])
        .and_then(|()| parse(&text.text))
        .and_then(|dockerfile| plan::plan(&dockerfile, request).map(|plan| (dockerfile, plan)))
        .map_err(|diagnostics| Error::Dockerfile { diagnostics })
        .and_then(|(dockerfile, plan)| {
            inspect::check_planned(&text, &dockerfile, &plan, request, &context)
                .map(|checked| (dockerfile, plan, checked))
        });
    match planned {
        Ok((dockerfile, plan, checked)) => Ok(Box::new(Loaded {
            text,
            checked,
            dockerfile,
            plan,
            context,
        })),
        Err(error) => Err(Box::new(Failure {
            error,
            dockerfile: Some(text),
        })),
    }
}

/// Carries out a build. The image is in the store under its tags and every output is written, or
/// there is an error, no tag has changed and no output has appeared.
pub(crate) fn run(
    request: &Request,
    loaded: Loaded,
    store: &Store,
    events: &EventSender,
    cancel: &Cancel,
) -> Result<Built, Box<Failure>> {
    let Loaded {
        text,
        mut checked,
        dockerfile,
        plan,
        context,
    } = loaded;
    let fail = |error| {
        Box::new(Failure {
            error,
            dockerfile: Some(text.clone()),
        })
    };
    let seconds = request.source_date_epoch.or(plan.source_date_epoch);
    let encoding = image_encoding(request);
    let mut engine = Engine::new(
        request, plan, store, events, cancel, seconds, encoding, context,
    );
    engine.resolve_images(&dockerfile).map_err(fail)?;
    warn_of_unused_arguments(&engine, &dockerfile);
    if request.walls == Walls::Chroot && engine.plan.runs_commands() {
        let message = NOT_ISOLATED.to_owned();
        engine.events.send(Event::Warning { id: None, message });
    }
    inspect::check_platforms(&engine, &dockerfile, &mut checked);
    if let Some(message) = checked.violation() {
        let findings = checked.findings;
        return Err(fail(Error::Checks { message, findings }));
    }
    let state = engine.build_stages().map_err(fail)?;
    engine.save_memo();
    if cancel.is_canceled() {
        return Err(fail(Error::Canceled));
    }
    let config = image::configuration(&state, request, engine.epoch.as_deref());
    let id = engine.start_vertex("exporting to image".to_owned());
    let exported = export_all(&engine, &state, &config, id);
    match &exported {
        Ok(_) => events.send(Event::Done { id }),
        Err(error) => events.send(Event::Failed {
            id,
            message: error.to_string(),
        }),
    }
    let manifest = exported.map_err(fail)?;
    let image_id = image::image_id(&config);
    events.send(Event::Built {
        image_id: Some(image_id.clone()),
    });
    Ok(Built {
        image_id,
        manifest,
        checked,
    })
}

/// Only now are the triggers of the bases known, which may declare arguments too.
fn warn_of_unused_arguments(engine: &Engine<'_>, dockerfile: &Dockerfile) {
    let declared = engine.plan.declared_arguments(dockerfile);
    let unused: Vec<&str> = engine.plan.globals.unused(&declared).collect();
    if !unused.is_empty() {
        let message = format!(
            "one or more build-args were not consumed: [{}]",
            unused.join(" ")
        );
        engine.events.send(Event::Warning { id: None, message });
    }
}

/// How the image's layers are written first; `None` when nobody wants an image.
fn image_encoding(request: &Request) -> Option<Encoding> {
    let of_image = |output: &&Output| {
        matches!(
            output.form,
            OutputForm::OciArchive(_)
                | OutputForm::OciLayout(_)
                | OutputForm::DockerArchive(_)
                | OutputForm::Image(_)
        )
    };
    match request.outputs.iter().find(of_image) {
        Some(output) => Some(output.encoding),
        None if request.outputs.is_empty() || !request.tags.is_empty() => Some(Encoding::default()),
        None => None,
    }
}

/// Writes every output, then points the tags at the image.
fn export_all(
    engine: &Engine<'_>,
    state: &StageState,
    config: &ImageConfig,
    id: VertexId,
) -> Result<Option<Descriptor>, Error> {
    let mut stored = None;
    if let Some(encoding) = engine.encoding {
        let (image, took) =
            stage::timed(|| assemble(engine, state, config, encoding, Dialect::Oci));
        engine.events.send(Event::Finished {
            id,
            label: "exporting layers".to_owned(),
            took,
        });
        stored = Some(image?);
    }
    for output in &engine.request.outputs {
        write_output(engine, state, config, output, id)?;
    }
    let Some(image) = stored else { return Ok(None) };
    let (published, took) =
        stage::timed(|| image::publish(engine.store, &image, &engine.request.tags));
    published?;
    for tag in &engine.request.tags {
        let label = format!("naming to {}", tag.whole());
        engine.events.send(Event::Finished { id, label, took });
    }
    Ok(Some(image.manifest))
}

fn assemble(
    engine: &Engine<'_>,
    state: &StageState,
    config: &ImageConfig,
    encoding: Encoding,
    dialect: Dialect,
) -> Result<ImageBlobs, Error> {
    image::assemble(engine.store, state, config, encoding, dialect, engine.clamp)
        .map_err(|source| Error::Assemble { source })
}

fn write_output(
    engine: &Engine<'_>,
    state: &StageState,
    config: &ImageConfig,
    output: &Output,
    id: VertexId,
) -> Result<(), Error> {
    let names = &engine.request.tags;
    let (store, events) = (engine.store, engine.events);
    let image = |dialect| assemble(engine, state, config, output.encoding, dialect);
    let archive = |destination: &request::Destination, dialect| {
        let image = image(dialect)?;
        let label = || "writing the archive".to_owned();
        let total = Some(image.size());
        let images = [(image, names.clone())];
        let open = &|digest: &Digest| store.open_blob(digest);
        let progress = &mut |done| {
            events.send(Event::Progress {
                id,
                label: label(),
                done,
                total,
            });
        };
        let (written, took) = stage::timed(|| {
            export::to_destination::<Error>(destination, |out| {
                export::archive(open, &images, out, progress)
                    .map_err(|source| export::Error::of_archive(destination, source).into())
            })
        });
        events.send(Event::Finished {
            id,
            label: label(),
            took,
        });
        written
    };
    match &output.form {
        OutputForm::OciArchive(destination) => archive(destination, Dialect::Oci),
        OutputForm::DockerArchive(destination) => archive(destination, Dialect::Docker),
        OutputForm::OciLayout(path) => {
            let image = image(Dialect::Oci)?;
            Ok(export::layout(store, &image, names, path)?)
        }
        OutputForm::Tar(destination) => {
            flat::tar(store, &state.snapshot, destination, engine.clamp)
        }
        OutputForm::Local(path) => flat::directory(store, &state.snapshot, path),
        OutputForm::CacheOnly => Ok(()),
        OutputForm::Image(output) if output.push => {
            let dialect = if output.oci {
                Dialect::Oci
            } else {
                Dialect::Docker
            };
            push_image(engine, &image(dialect)?, output, id)
        }
        OutputForm::Image(_) => Ok(()),
    }
}

/// Pushes the image under every name that it has.
fn push_image(
    engine: &Engine<'_>,
    image: &ImageBlobs,
    output: &request::ImageOutput,
    id: VertexId,
) -> Result<(), Error> {
    for name in engine.request.tags.iter().chain(&output.names) {
        let (pushed, took) = stage::timed(|| {
            push::push_stored(
                engine.store,
                &image.manifest,
                name,
                output.by_digest,
                engine.events,
                id,
                engine.cancel,
            )
        });
        pushed.map_err(|source| match source {
            StepError::Canceled => Error::Canceled,
            source => Error::Push {
                source: Box::new(source),
            },
        })?;
        let label = format!("pushing {}", name.whole());
        engine.events.send(Event::Finished { id, label, took });
    }
    Ok(())
}
