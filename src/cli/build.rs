//! `rbuild build`: docker's options become a request, its end becomes lines and an exit code.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;

use super::build_values::{
    parse_build_arg, parse_context, parse_dockerfile, parse_named_context, parse_network,
    parse_secret_scan, parse_tag,
};
use super::built::{End, succeed};
use super::check::{self, Call};
use super::config::Config;
use super::epoch;
use super::failure;
use super::limits::{Chosen, Deadline, LimitArgs};
use super::machine::ErrorFormat;
use super::output;
use super::platform;
use super::report::{self, print_error};
use super::run_options::{self, RunArgs};
use super::secret;
use super::{Exit, cached, session};
use crate::build::event::{Event, EventSender, Phase, Spent};
use crate::build::request::{ContextSource, DockerfileSource, Network, OutputForm, Request};
use crate::build::run_options::HOSTNAME_ARGUMENT;
use crate::build::secret::Secret;
use crate::build::secret_scan::SecretScan;
use crate::build::{self, Input};
use crate::check::Finding;
use crate::oci::{Platform, Reference};
use crate::progress::Mode;
use crate::sandbox::Walls;

#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(super) struct BuildArgs {
    /// Directory, git repository or address of a tar archive with the files to build from, or - for
    /// a tar archive or a Dockerfile on stdin
    #[arg(value_name = "CONTEXT")]
    context: PathBuf,
    /// The Dockerfile [default: Dockerfile in the context], its address, or - for stdin
    #[arg(short, long, value_name = "PATH")]
    file: Option<PathBuf>,
    /// Name of the image, NAME[:TAG]; repeatable
    #[arg(short, long = "tag", value_name = "NAME")]
    tags: Vec<String>,
    /// Value of an ARG; without =VALUE it comes from the environment; repeatable
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    build_args: Vec<String>,
    /// What NAME in FROM and --from means: a directory, docker-image://, oci-layout://,
    /// oci-archive:, docker-archive:, a git repository or an https:// address; repeatable
    #[arg(long = "build-context", value_name = "NAME=VALUE")]
    build_contexts: Vec<String>,
    /// The stage to build, by name or number [default: the last]
    #[arg(long, value_name = "STAGE")]
    target: Option<String>,
    /// The platforms to build for, OS/ARCH[/VARIANT] or local, separated by commas; repeatable; several
    /// make an index [default: this machine's]
    #[arg(
        long = "platform",
        value_name = "PLATFORM",
        env = "DOCKER_DEFAULT_PLATFORM"
    )]
    platforms: Vec<String>,
    /// Label of the image; repeatable
    #[arg(long = "label", value_name = "NAME=VALUE")]
    labels: Vec<String>,
    /// Carry out every step, whatever the cache has
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
        default_value_t = false, hide_default_value = true, value_name = "BOOL",
        action = clap::ArgAction::Set)]
    no_cache: bool,
    /// Ask the registry for base images also when the store has them
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
        default_value_t = false, hide_default_value = true, value_name = "BOOL",
        action = clap::ArgAction::Set)]
    pull: bool,
    /// Network of RUN: default and host share the host's, none has loopback only, isolated leads to
    /// public addresses only (through pasta) [default: what config.json or the profile says, or default]
    #[arg(long, value_name = "MODE", value_parser = parse_network)]
    network: Option<Network>,
    /// A secret for RUN --mount=type=secret: id=ID[,src=FILE|,env=VARIABLE]; repeatable
    #[arg(long = "secret", value_name = "SECRET", value_parser = secret::parse)]
    secrets: Vec<Secret>,
    /// Look for the values of secrets in what each step leaves: fail (the default of the option), warn or
    /// off [default: what config.json or the profile says, or off]
    #[arg(long, value_name = "ACTION", num_args = 0..=1, require_equals = true,
        default_missing_value = "fail", value_parser = parse_secret_scan)]
    secret_scan: Option<SecretScan>,
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    limits: LimitArgs,
    /// How progress is shown on stderr: auto, plain, tty, quiet, rawjson
    #[arg(
        long,
        value_name = "MODE",
        default_value = "auto",
        env = "BUILDKIT_PROGRESS"
    )]
    progress: String,
    /// After the progress, show a table of the milliseconds that each phase of each step took; rawjson
    /// has them always
    #[arg(long)]
    timings: bool,
    /// Look for mistakes in the Dockerfile and build nothing; the same as --call=check
    #[arg(long)]
    check: bool,
    /// What to do with the Dockerfile: build, check, outline or targets [,format=json]
    #[arg(long, value_name = "WHAT", value_parser = Call::parse)]
    call: Option<Call>,
    /// How errors and warnings are shown: for people, as JSON lines, or as GitHub annotations
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    error_format: ErrorFormat,
    /// Show nothing but the image's id, or the error
    #[arg(short, long)]
    quiet: bool,
    /// Write the image's id to a file
    #[arg(long, value_name = "FILE")]
    iidfile: Option<PathBuf>,
    /// Write what was built to a file, as JSON
    #[arg(long, value_name = "FILE")]
    metadata_file: Option<PathBuf>,
    /// Push the image to the registries of its names; the same as -o type=registry
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
        default_value_t = false, hide_default_value = true, value_name = "BOOL",
        action = clap::ArgAction::Set)]
    push: bool,
    #[command(flatten)]
    customary: Customary,
    /// type=image|registry[,name=NAME][,push=true][,push-by-digest=true][,oci-mediatypes=false] or
    /// type=oci|docker|tar|local|cacheonly[,dest=PATH|-][,tar=false][,compression=gzip|zstd|
    /// uncompressed][,compression-level=N][,rewrite-timestamp=true]; repeatable
    #[arg(short, long = "output", value_name = "OUTPUT", value_parser = output::parse)]
    outputs: Vec<build::request::Output>,
}

/// What docker's command lines say and is always so here, as it is with BuildKit.
#[derive(Debug, Args)]
struct Customary {
    /// Nothing stays of the containers of steps; this is always so
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    rm: Option<bool>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    force_rm: Option<bool>,
    /// The image is kept in the store; this is always so
    #[arg(long)]
    load: bool,
}

impl BuildArgs {
    /// Chooses how messages come; what is said before is for people.
    pub(super) fn choose_error_format(&self) {
        report::choose_format(self.error_format);
    }

    /// Whether something is built, and not only looked at.
    pub(super) fn needs_store(&self) -> bool {
        !self.check && self.call.is_none_or(|call| call.question.is_none())
    }
}

/// Runs `rbuild build`.
pub(super) fn run(arguments: BuildArgs, root: &Path) -> Exit {
    let began = Instant::now();
    let format = arguments.error_format;
    let with_timings = arguments.timings;
    let call = match arguments.call {
        Some(call) => call,
        None if arguments.check => Call::CHECK,
        None => Call::BUILD,
    };
    let name = if arguments.quiet {
        "quiet"
    } else {
        arguments.progress.as_str()
    };
    let mode = match Mode::parse(name) {
        Ok(mode) => mode,
        Err(error) => {
            print_error(&error.to_string());
            return Exit::Usage;
        }
    };
    let files = (arguments.iidfile.clone(), arguments.metadata_file.clone());
    let chosen = Config::load().map(|config| Chosen::new(&arguments.limits, &config));
    let request = chosen.and_then(|chosen| Ok((arguments.into_request(&chosen)?, chosen)));
    let (mut request, chosen) = match request {
        Ok(request) => request,
        Err(message) => {
            print_error(&message);
            return Exit::Usage;
        }
    };
    chosen.enforce();
    if let Some(question) = call.question {
        return check::answer(question, call, &request, format);
    }
    let end = End { mode, format };
    let elapsed = || began.elapsed();
    let tell = |findings: &[Finding], events: &EventSender| end.send(findings, events);
    if let Some(answer) = cached::build(&request, &chosen.limits, root, elapsed, tell) {
        return end.of_cached(answer, with_timings, &request, &files);
    }
    request.walls = match session::walls() {
        Ok(walls) => walls.clone(),
        Err(exit) => return exit,
    };
    let _held = match chosen.require(&request.walls) {
        Ok(held) => held,
        Err(exit) => return exit,
    };
    let input = match build::load(&request) {
        Ok(input) => input,
        Err(failure) => return failure::report(&failure, None),
    };
    let started = if with_timings {
        session::start_with_timings(root, mode)
    } else {
        session::start(root, mode)
    };
    let session = match started {
        Ok(session) => session,
        Err(exit) => return exit,
    };
    session.events.send(Event::Spent {
        id: None,
        spent: Spent::new(Phase::Start, began.elapsed()),
    });
    let deadline = match Deadline::start(&chosen.limits, &session.cancel) {
        Ok(deadline) => deadline,
        Err(error) => {
            print_error(&format!("cannot start: {error}"));
            return Exit::Host;
        }
    };
    if let Some(message) = chosen.warning() {
        session.events.send(Event::Warning { id: None, message });
    }
    let built = match input {
        Input::Loaded(loaded) => Ok(loaded),
        Input::Archive(file) => build::load_archive(&request, file, &session.store),
        Input::Remote => {
            build::load_remote(&request, &session.store, &session.events, &session.cancel)
        }
    }
    .map(|loaded| {
        let known = (loaded.text.clone(), loaded.checked.findings.clone());
        let built = build::run(*loaded, &session.store, &session.events, &session.cancel);
        (known, built)
    });
    let single_reason = session.single_reason.clone();
    let findings = match &built {
        Ok((_, Ok(built))) => built.checked.findings.as_slice(),
        // Findings that end the build are shown with its error.
        Ok((_, Err(failure))) if matches!(failure.error, build::Error::Checks { .. }) => &[],
        Ok(((_, known), Err(_))) => known,
        Err(_) => &[],
    };
    end.send(findings, &session.events);
    session.finish();
    if let Ok(((text, _), _)) = &built {
        end.print(text, findings);
    }
    session::exit(match built {
        Ok((_, Ok(built))) => succeed(&built, &request, &files),
        _ if deadline.is_some_and(|deadline| deadline.report()) => Exit::Failed,
        Ok((_, Err(failure))) | Err(failure) => failure::report(&failure, single_reason.as_deref()),
    })
}

impl BuildArgs {
    fn into_request(mut self, chosen: &Chosen) -> Result<Request, String> {
        if self.push {
            self.outputs.push(output::parse("type=registry")?);
        }
        let context = parse_context(self.context)?;
        let dockerfile = match self.file {
            None => DockerfileSource::Default,
            Some(path) if path.as_os_str() == "-" => DockerfileSource::Stdin,
            Some(path) => parse_dockerfile(path)?,
        };
        if context == ContextSource::Stdin && dockerfile == DockerfileSource::Stdin {
            return Err("the context and the Dockerfile cannot both come from stdin".to_owned());
        }
        if context == ContextSource::Stdin && matches!(dockerfile, DockerfileSource::Remote(_)) {
            return Err("a context from stdin brings its own Dockerfile".to_owned());
        }
        let tags: Vec<Reference> = self
            .tags
            .iter()
            .map(|tag| parse_tag(tag))
            .collect::<Result<_, _>>()?;
        let tags = with_output_names(tags, &mut self.outputs)?;
        let mut build_args: Vec<(String, String)> = self
            .build_args
            .iter()
            .filter_map(|argument| parse_build_arg(argument).transpose())
            .collect::<Result<_, _>>()?;
        let labels = self
            .labels
            .iter()
            .map(|label| {
                let (name, value) = label.split_once('=').unwrap_or((label, ""));
                if name.is_empty() {
                    return Err(format!("the label {label:?} has no name"));
                }
                Ok((name.to_owned(), value.to_owned()))
            })
            .collect::<Result<_, _>>()?;
        let named_contexts = self
            .build_contexts
            .iter()
            .map(|text| parse_named_context(text))
            .collect::<Result<_, _>>()?;
        if self
            .outputs
            .iter()
            .filter(|output| output.form.is_stdout())
            .count()
            > 1
        {
            return Err("only one output can go to standard output".to_owned());
        }
        let platforms = platform::parse_several(&self.platforms)?;
        let is_docker =
            |output: &build::request::Output| matches!(output.form, OutputForm::DockerArchive(_));
        let makes_index = platform::makes_index(&build_args, platforms.len())?;
        if makes_index && self.outputs.iter().any(is_docker) {
            return Err(
                "docker exporter does not currently support exporting manifest lists: \
                 type=docker holds one image, type=oci holds several platforms"
                    .to_owned(),
            );
        }
        let platform = platforms.first().cloned();
        for (_, value) in build_args
            .iter()
            .filter(|(name, _)| name == HOSTNAME_ARGUMENT)
        {
            run_options::check_hostname(value)?;
        }
        let source_date_epoch = epoch::of_build(&mut build_args, &context)?;
        if source_date_epoch.is_none() && self.outputs.iter().any(|o| o.rewrite_timestamp) {
            return Err("rewrite-timestamp=true needs SOURCE_DATE_EPOCH".to_owned());
        }
        Ok(Request {
            context,
            dockerfile,
            tags,
            build_args,
            target: self.target,
            labels,
            named_contexts,
            no_cache: self.no_cache,
            pull: self.pull,
            network: self.network.unwrap_or(chosen.network),
            secrets: self.secrets,
            secret_scan: self.secret_scan.unwrap_or(chosen.secret_scan),
            run: self.run.into_options(),
            limits: chosen.limits.clone(),
            // Only who builds asks the host.
            walls: Walls::Namespaces(None),
            outputs: self.outputs,
            source_date_epoch,
            platform_given: platform.is_some(),
            platforms: match platforms {
                _ if !makes_index => Vec::new(),
                none if none.is_empty() => vec![Platform::host()],
                platforms => platforms,
            },
            platform: platform.unwrap_or_else(Platform::host),
        })
    }
}

/// The tags with the names of `type=image`, which are tags too unless they are pushed by digest only.
fn with_output_names(
    mut tags: Vec<Reference>,
    outputs: &mut [build::request::Output],
) -> Result<Vec<Reference>, String> {
    for output in outputs {
        let OutputForm::Image(image) = &mut output.form else {
            continue;
        };
        if image.push && image.names.is_empty() && tags.is_empty() {
            return Err("an image that is pushed needs a name: -t NAME or name=NAME".to_owned());
        }
        if !image.by_digest {
            let new = image.names.drain(..).filter(|name| !tags.contains(name));
            let new: Vec<Reference> = new.collect();
            tags.extend(new);
        }
    }
    Ok(tags)
}
