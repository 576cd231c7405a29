//! A build: from a request to an image in the store and its outputs.
//!
//! [`load`] reads and plans, and touches nothing; [`run`] carries the plan out. All decisions of a
//! build are made in this room; the rooms below it read, run, pack and store as they are told.

mod add;
mod add_remote;
mod ahead;
pub(crate) mod archive;
mod archive_ahead;
mod base;
mod behind;
pub(crate) mod changes;
mod commit;
mod confined;
pub(crate) mod container;
mod copy;
mod count;
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
pub(crate) mod limits;
pub(crate) mod log_lines;
mod log_tail;
mod metadata;
mod mount;
mod named;
mod order;
mod outputs;
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
pub(crate) mod secret_scan;
mod shared;
mod source_tree;
mod stage;
mod state;
mod support;
mod tar_sink;
mod turns;
mod unpacked;
mod workdir;

use std::fs::File;

pub(crate) use base::parse_reference;
pub(crate) use error::{Error, StepError};
pub(crate) use input::DockerfileText;

use behind::Behind;
use engine::{ContextPlace, Engine};
use event::{Event, EventSender};
use fetch::Fetch;
use outputs::Finished;
use plan::Plan;
use request::{ContextSource, DockerfileSource, Encoding, Output, OutputForm, Request};
use secret_scan::{Patterns, SHORTEST};
use shared::Shared;

use crate::check::Checked;
use crate::dockerfile::{Diagnostic, Dockerfile, parse};
use crate::oci::{Descriptor, Digest};
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
    /// For each platform, with the request for it alone.
    plans: Vec<(Request, Plan)>,
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
    /// Digest of the configuration, which is how docker names an image; of several platforms that of
    /// the index, if the outputs wanted one.
    pub(crate) image_id: Option<Digest>,
    /// The build made an index of its platforms.
    pub(crate) is_index: bool,
    /// The manifest or index in the store; `None` when the outputs wanted no image.
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
        .and_then(|dockerfile| plan_each(&dockerfile, request).map(|plans| (dockerfile, plans)))
        .map_err(|diagnostics| Error::Dockerfile { diagnostics })
        .and_then(|(dockerfile, plans)| {
            let mut checked: Option<Checked> = None;
            for (request, plan) in &plans {
                let found = inspect::check_planned(&text, &dockerfile, plan, request, &context)?;
                match &mut checked {
                    None => checked = Some(found),
                    Some(all) => found.findings.into_iter().for_each(|one| all.add(one)),
                }
            }
            let checked = checked.expect("a build is for one platform at least");
            Ok((dockerfile, plans, checked))
        });
    match planned {
        Ok((dockerfile, plans, checked)) => Ok(Box::new(Loaded {
            text,
            checked,
            dockerfile,
            plans,
            context,
        })),
        Err(error) => Err(Box::new(Failure {
            error,
            dockerfile: Some(text),
        })),
    }
}

/// Plans the build for each of its platforms; the first that cannot be built ends it.
fn plan_each(
    dockerfile: &Dockerfile,
    request: &Request,
) -> Result<Vec<(Request, Plan)>, Vec<Diagnostic>> {
    let requests = request.for_each_platform().into_iter();
    requests
        .map(|request| plan::plan(dockerfile, &request).map(|plan| (request, plan)))
        .collect()
}

/// Carries out a build, for one platform after the other where it is for several. The image is in the
/// store under its tags and every output is written, or there is an error, no tag has changed and no
/// output has appeared.
pub(crate) fn run(
    loaded: Loaded,
    store: &Store,
    events: &EventSender,
    cancel: &Cancel,
) -> Result<Built, Box<Failure>> {
    behind::beside(store, events, cancel, |behind| {
        carry_out(loaded, store, events, cancel, behind).map_err(|mut failure| {
            failure.error = behind.cause(failure.error);
            failure
        })
    })
}

fn carry_out(
    loaded: Loaded,
    store: &Store,
    events: &EventSender,
    cancel: &Cancel,
    behind: Behind<'_>,
) -> Result<Built, Box<Failure>> {
    let Loaded {
        text,
        mut checked,
        dockerfile,
        plans,
        context,
    } = loaded;
    let fail = |error| {
        Box::new(Failure {
            error,
            dockerfile: Some(text.clone()),
        })
    };
    let mut shared = Shared::new(context);
    if let Some((request, _)) = plans.first() {
        shared.scan = Patterns::read(&request.secrets, request.secret_scan)
            .map_err(|source| fail(Error::Secret { source }))?;
    }
    for id in shared.scan.iter().flat_map(|patterns| &patterns.short) {
        let message =
            format!("the secret {id:?} is shorter than {SHORTEST} bytes and is not looked for");
        events.send(Event::Warning { id: None, message });
    }
    let (requests, plans): (Vec<Request>, Vec<Plan>) = plans.into_iter().unzip();
    let mut engines = Vec::with_capacity(requests.len());
    for (request, plan) in requests.iter().zip(plans) {
        let seconds = request.source_date_epoch.or(plan.source_date_epoch);
        let encoding = image_encoding(request);
        let mut engine = Engine::new(
            request, plan, store, events, cancel, seconds, encoding, &shared, behind,
        );
        engine.resolve_images(&dockerfile).map_err(fail)?;
        inspect::check_platforms(&engine, &dockerfile, &mut checked);
        engines.push(engine);
    }
    // What is unused does not depend on the platform.
    if let Some(engine) = engines.first() {
        warn_of_unused_arguments(engine, &dockerfile);
    }
    let is_in_chroot =
        |engine: &Engine<'_>| engine.request.walls == Walls::Chroot && engine.plan.runs_commands();
    if engines.iter().any(is_in_chroot) {
        let message = NOT_ISOLATED.to_owned();
        events.send(Event::Warning { id: None, message });
    }
    if let Some(message) = checked.violation() {
        let findings = checked.findings;
        return Err(fail(Error::Checks { message, findings }));
    }
    let mut finished = Vec::with_capacity(engines.len());
    for engine in &engines {
        let state = engine.build_stages().map_err(fail)?;
        let config = image::configuration(&state, engine.request, engine.epoch.as_deref());
        engine
            .scan_config(&config, &state.config)
            .map_err(|source| fail(Error::Assemble { source }))?;
        finished.push(Finished {
            engine,
            state,
            config,
        });
    }
    shared.save_memo();
    if cancel.is_canceled() {
        return Err(fail(Error::Canceled));
    }
    let exported = outputs::write(&finished);
    let manifest = exported.map_err(fail)?;
    let is_index = requests.iter().any(Request::makes_index);
    let image_id = match finished.first() {
        Some(only) if !is_index => Some(image::image_id(&only.config)),
        _ => manifest.as_ref().map(|index| index.digest.clone()),
    };
    events.send(Event::Built {
        image_id: image_id.clone(),
    });
    Ok(Built {
        image_id,
        is_index,
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
