//! `rbuild run`: a command in an image, in the foreground.
//!
//! Exit codes are docker's: that of the command, 128 and the signal that ended it, 127 when the command
//! is not found, 126 when it cannot be executed, 125 when rbuild itself failed.

mod confined;
mod environment;
mod refused;
mod terminal;
mod volume;

use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use clap::{Args, Subcommand};

use super::config::Config;
use super::limits::{Chosen, Deadline, LimitArgs};
use super::report::{self, Report, causes_of};
use super::session::{self, Session};
use super::{Exit, epoch, failure, platform, run_options};
use crate::build::changes::Changes;
use crate::build::container::{self, Commit, Container, Found, Pull, Request};
use crate::build::event::EventSender;
use crate::build::{self, StepError};
use crate::oci::{Platform, Reference};
use crate::progress::{self, Mode};
use crate::sandbox::{self, Attachment, Console, Limit, Mount, Network, Status, Step, binfmt};
use crate::store::Snapshot;
use crate::sys;

pub(super) use refused::usage_error;

/// rbuild itself failed, docker's 125.
pub(super) const OWN_FAILURE: Exit = Exit::Command(125);
const NOT_EXECUTABLE: Exit = Exit::Command(126);
const NOT_FOUND: Exit = Exit::Command(127);

#[derive(Debug, Subcommand)]
pub(super) enum ContainerCommand {
    /// Run a command in an image
    Run(Box<RunArgs>),
}

#[derive(Debug, Args)]
#[command(
    disable_help_flag = true,
    after_help = "The command has the sandbox of RUN and the host's network. What it writes is thrown \
                  away unless --commit keeps it. Exit codes: that of the command, 128 and the signal \
                  that ended it, 127 command not found, 126 command not executable, 125 rbuild failed."
)]
pub(super) struct RunArgs {
    /// Nothing stays of the container; this is always so
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    rm: Option<bool>,
    /// Pass standard input on to the command
    #[arg(short, long)]
    interactive: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    tty: bool,
    /// A variable; without =VALUE that of the caller, or none; repeatable
    #[arg(short, long = "env", value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// A file with one NAME[=VALUE] per line; repeatable
    #[arg(long = "env-file", value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// A directory or file of this machine to mount, SRC:DST[:ro]; repeatable
    #[arg(short, long = "volume", value_name = "SRC:DST", value_parser = volume::bind)]
    volume: Vec<Mount>,
    /// An empty file system in memory, DST[:size=N,mode=N,exec]; repeatable
    #[arg(long = "tmpfs", value_name = "DST", value_parser = volume::tmpfs)]
    tmpfs: Vec<Mount>,
    /// Working directory, made if missing
    #[arg(short, long, value_name = "DIR", value_parser = working_directory)]
    workdir: Option<String>,
    /// Who runs the command: a name or number of the image
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Replaces ENTRYPOINT and CMD of the image
    #[arg(long, value_name = "COMMAND")]
    entrypoint: Option<String>,
    /// host, none for loopback only, or isolated for public addresses only (through pasta) [default:
    /// what config.json or the profile says, or host]
    #[arg(long, alias = "net", value_name = "MODE", value_parser = network)]
    network: Option<Network>,
    /// Only what is mounted can be written to
    #[arg(long)]
    read_only: bool,
    /// Host name [default: the beginning of the image's id]
    #[arg(short = 'h', long, value_name = "NAME", value_parser = hostname)]
    hostname: Option<String>,
    /// A line of /etc/hosts: NAME:ADDRESS or NAME=ADDRESS; repeatable
    #[arg(long = "add-host", value_name = "HOST", value_parser = run_options::host)]
    add_host: Vec<(String, std::net::IpAddr)>,
    /// Size of /dev/shm [default: 64m]
    #[arg(long, value_name = "SIZE", value_parser = run_options::size)]
    shm_size: Option<u64>,
    /// A resource limit, NAME=SOFT[:HARD], not above rbuild's own; repeatable
    #[arg(long = "ulimit", value_name = "LIMIT", value_parser = run_options::limit)]
    ulimit: Vec<Limit>,
    #[command(flatten)]
    held_to: LimitArgs,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// Show nothing of a pull
    #[arg(short, long)]
    quiet: bool,
    /// When the registry is asked: missing, always or never
    #[arg(long, value_name = "WHEN", default_value = "missing", value_parser = pull)]
    pull: Pull,
    /// The platform of the image: this machine's, or one that it emulates
    #[arg(long, env = "DOCKER_DEFAULT_PLATFORM", value_parser = runnable)]
    platform: Option<Platform>,
    /// Keep what the command wrote as an image, if it ends with 0; the id goes to standard error
    #[arg(long, value_name = "NAME", value_parser = image_name)]
    commit: Option<Reference>,
    /// With --commit, a Dockerfile instruction for the image's configuration, such as CMD or ENV;
    /// repeatable
    #[arg(long = "change", value_name = "INSTRUCTION", requires = "commit")]
    changes: Vec<String>,
    /// With --commit, comment in the image's history
    #[arg(long, value_name = "TEXT", requires = "commit")]
    message: Option<String>,
    /// With --commit, who made the image
    #[arg(long, value_name = "NAME", requires = "commit")]
    author: Option<String>,
    /// A name, an id or the beginning of one; pulled if it is not in the store
    #[arg(value_name = "IMAGE")]
    image: String,
    /// Replaces CMD of the image
    #[arg(
        value_name = "COMMAND",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    command: Vec<String>,
}

fn working_directory(text: &str) -> Result<String, String> {
    if text.starts_with('/') {
        Ok(text.to_owned())
    } else {
        Err(format!("the working directory {text:?} is not absolute"))
    }
}

fn network(text: &str) -> Result<Network, String> {
    match text {
        "host" => Ok(Network::Host),
        "none" => Ok(Network::None),
        "isolated" => Ok(Network::Isolated),
        _ => Err(format!(
            "{text:?} is not possible without root: host shares the host's network, none has \
             loopback only, isolated leads to public addresses only"
        )),
    }
}

fn hostname(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("the host name is empty".to_owned());
    }
    run_options::check_hostname(text).map(|()| text.to_owned())
}

fn pull(text: &str) -> Result<Pull, String> {
    match text {
        "missing" => Ok(Pull::Missing),
        "always" => Ok(Pull::Always),
        "never" => Ok(Pull::Never),
        _ => Err(format!("{text:?} is not known (missing, always, never)")),
    }
}

fn runnable(text: &str) -> Result<Platform, String> {
    let (wanted, host) = (platform::parse(text)?, Platform::host());
    if binfmt::can_run(&wanted) {
        Ok(wanted)
    } else {
        Err(format!(
            "{wanted} cannot be run: this machine is {host}, and has no binfmt_misc handler with the \
             flag F for it"
        ))
    }
}

fn image_name(text: &str) -> Result<Reference, String> {
    let name = build::parse_reference(text).map_err(|error| report::chain(&error))?;
    match name.digest() {
        None => Ok(name),
        Some(_) => Err("a name with a digest cannot be given to an image".to_owned()),
    }
}

/// What `--commit` and its companions ask for.
struct Keep {
    name: Reference,
    commit: Commit,
    epoch: Option<i64>,
}

impl RunArgs {
    fn keep(&self) -> Result<Option<Keep>, String> {
        let Some(name) = &self.commit else {
            return Ok(None);
        };
        let changes = Changes::parse(&self.changes).map_err(|error| error.to_string())?;
        Ok(Some(Keep {
            name: name.clone(),
            commit: Commit {
                changes,
                message: self.message.clone(),
                author: self.author.clone(),
            },
            epoch: epoch::of_environment()?,
        }))
    }

    fn request(&self, chosen: &Chosen) -> Result<Request, String> {
        if self.image.is_empty() {
            return Err("the name of the image is empty".to_owned());
        }
        if self.tty && self.interactive && !io::stdin().is_terminal() {
            return Err("the input device is not a TTY".to_owned());
        }
        let console = if self.tty {
            let (columns, rows) = window_size();
            Console::Terminal { columns, rows }
        } else {
            Console::Attached {
                input: self.interactive,
            }
        };
        let entrypoint = self.entrypoint.as_ref().map(|command| {
            let word = Some(command.clone()).filter(|command| !command.is_empty());
            word.into_iter().collect()
        });
        Ok(Request {
            entrypoint,
            command: self.command.clone(),
            environment: environment::read(&self.env_file, &self.env)?,
            mounts: self.volume.iter().chain(&self.tmpfs).cloned().collect(),
            working_directory: self.workdir.clone(),
            user: self.user.clone(),
            hostname: self.hostname.clone(),
            extra_hosts: self.add_host.clone(),
            network: self.network.unwrap_or(match chosen.network {
                build::request::Network::Default | build::request::Network::Host => Network::Host,
                build::request::Network::None => Network::None,
                build::request::Network::Isolated => Network::Isolated,
            }),
            shm_size: self.shm_size,
            limits: self.ulimit.clone(),
            held_to: chosen.limits.clone(),
            read_only: self.read_only,
            console,
            reads_input: self.interactive,
        })
    }
}

/// Columns and rows of the caller's terminal; zero where there is none.
fn window_size() -> (u16, u16) {
    sys::terminal::size(io::stdin())
        .or_else(|_| sys::terminal::size(io::stdout()))
        .unwrap_or_default()
}

/// Runs `rbuild run`.
pub(super) fn run(arguments: &RunArgs, root: &Path) -> Exit {
    let chosen = Config::load().map(|config| Chosen::new(&arguments.held_to, &config));
    let asked = chosen.and_then(|chosen| {
        let request = arguments.request(&chosen)?;
        Ok((chosen, request, arguments.keep()?))
    });
    let (chosen, request, keep) = match asked {
        Ok(asked) => asked,
        Err(message) => {
            report::print_error(&message);
            return OWN_FAILURE;
        }
    };
    let walls = confined::check(arguments, request.network).and_then(|()| session::walls());
    let Ok(_held) = walls.and_then(|walls| chosen.require(walls)) else {
        return OWN_FAILURE;
    };
    let Ok(session) = session::start_diverting(root, Mode::Quiet) else {
        return OWN_FAILURE;
    };
    chosen.enforce();
    let Ok(deadline) = Deadline::start(&chosen.limits, &session.cancel) else {
        return OWN_FAILURE;
    };
    if let Some(title) = chosen.warning() {
        report::print(&Report {
            title,
            warning: true,
            ..Report::default()
        });
    }
    let single_reason = session.single_reason.clone();
    let ended = carry_out(&session, arguments, &request, keep.as_ref());
    session.finish();
    match ended {
        Ok(exit) => exit,
        Err(_) if session::was_interrupted() => Exit::Interrupted,
        Err(_) if deadline.is_some_and(|deadline| deadline.report()) => OWN_FAILURE,
        Err(error) => {
            let (help, _) = failure::advise(&error, single_reason.as_deref());
            report::print(&Report {
                title: format!("cannot run {}: {error}", arguments.image),
                causes: causes_of(&error),
                help,
                ..Report::default()
            });
            exit_of(&error)
        }
    }
}

fn carry_out(
    session: &Session,
    arguments: &RunArgs,
    request: &Request,
    wanted: Option<&Keep>,
) -> Result<Exit, StepError> {
    let host = Platform::host();
    let platform = arguments.platform.as_ref().unwrap_or(&host);
    let (store, image) = (&session.store, &arguments.image);
    let cancel = &session.cancel;
    let found = container::find(store, image, arguments.pull, platform, cancel)?;
    let snapshot = files(session, &found, arguments.quiet)?;
    if session::was_interrupted() {
        return Err(StepError::Canceled);
    }
    let container = Container::new(&session.store, &found, &snapshot, request)?;
    let ended = in_foreground(session, request, &container).map_err(|source| match source {
        sandbox::Error::Exceeded(source) => StepError::Limit { source },
        source => StepError::Sandbox { source },
    })?;
    container.settle(&session.store, &ended)?;
    for message in ended.warnings {
        report::print(&Report {
            title: message,
            warning: true,
            ..Report::default()
        });
    }
    let code = match ended.status {
        Status::Code(code) => code,
        Status::Signal(signal) => 128 + signal,
    };
    if let Some(wanted) = wanted {
        keep(session, container, wanted, code)?;
    }
    Ok(Exit::Command(u8::try_from(code).unwrap_or(u8::MAX)))
}

/// The files of the image; progress is shown only when they have to be fetched, and unless `quiet`.
pub(super) fn files(session: &Session, found: &Found, quiet: bool) -> Result<Snapshot, StepError> {
    if let Some(snapshot) = found.stored(&session.store)? {
        return Ok(snapshot);
    }
    let (sender, receiver) = mpsc::channel();
    let mode = if quiet {
        Mode::Quiet
    } else {
        Mode::parse("auto").unwrap_or(Mode::Plain)
    };
    let progress = progress::start(mode, receiver).ok();
    let events = EventSender::new(sender);
    let fetched = found.fetch(&session.store, &events, &session.cancel);
    drop(events);
    if let Some(progress) = progress {
        progress.finish();
    }
    fetched
}

/// Runs the command between the caller's descriptors. The caller's terminal is as before when this
/// returns.
fn in_foreground(
    session: &Session,
    request: &Request,
    container: &Container,
) -> Result<sandbox::Exit, sandbox::Error> {
    let signals = session::divert_signals().map_err(sandbox::Error::Start)?;
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let has_terminal = matches!(request.console, Console::Terminal { .. });
    let reads = request.reads_input;
    let raw = (has_terminal && reads)
        .then(|| terminal::Raw::enter().map_err(sandbox::Error::Watch))
        .transpose()?;
    let window = [stdin.as_fd(), stdout.as_fd()]
        .into_iter()
        .find(|fd| sys::terminal::size(fd).is_ok());
    let attachment = Attachment {
        input: reads.then(|| stdin.as_fd()),
        output: stdout.as_fd(),
        error: stderr.as_fd(),
        window,
        signals: signals.as_fd(),
    };
    let bounds = request.held_to.of_sandbox(Vec::new());
    let ended = sandbox::run_attached(&container.spec, &bounds, &attachment, &session.cancel);
    drop(raw);
    ended
}

/// docker commit takes a container in any state. Here the command is the only way to say what goes into
/// the image, so one that failed makes none.
fn keep(
    session: &Session,
    container: Container,
    wanted: &Keep,
    code: i32,
) -> Result<(), StepError> {
    let Keep {
        name,
        commit,
        epoch,
    } = wanted;
    if code == 0 {
        let id = container.keep(&session.store, name, commit, *epoch)?;
        // Standard output is the command's.
        drop(writeln!(io::stderr(), "{id}"));
        return Ok(());
    }
    report::print(&Report {
        title: format!(
            "{} is not made: the command ended with {code}",
            name.whole()
        ),
        warning: true,
        ..Report::default()
    });
    Ok(())
}

/// docker's code for an error of rbuild or of the start of the command.
fn exit_of(error: &StepError) -> Exit {
    let StepError::Sandbox {
        source: sandbox::Error::Setup(failure),
    } = error
    else {
        return OWN_FAILURE;
    };
    let missing = failure.errno == nix::errno::Errno::ENOENT as i32;
    match failure.step {
        Step::FindProgram | Step::Execute if missing => NOT_FOUND,
        Step::FindProgram | Step::Execute => NOT_EXECUTABLE,
        _ => OWN_FAILURE,
    }
}
