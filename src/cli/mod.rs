//! The command line: what was typed becomes a request, and its end becomes an exit code.

mod build;
mod build_values;
mod built;
mod cached;
mod check;
mod config;
mod disk;
mod doctor;
mod epoch;
mod exit;
mod export;
mod failure;
mod history;
mod human;
mod image;
mod images;
mod import;
mod inspect;
mod limits;
mod load;
mod login;
mod machine;
mod manifest;
mod output;
mod place;
mod platform;
mod prune;
mod pull;
mod push;
mod remove;
mod report;
mod run;
mod run_options;
mod save;
mod secret;
mod session;
mod store;
mod stored;
mod table;
mod tag;
mod template;
mod transfer;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

pub(crate) use exit::Exit;

use crate::sandbox::walls::Wanted;

/// Builds container images from Dockerfiles: no root, no daemon, no setuid helper needed.
#[derive(Debug, Parser)]
#[command(
    name = "rbuild",
    version = concat!(env!("CARGO_PKG_VERSION"), " (", env!("RBUILD_COMMIT"), ")"),
    max_term_width = 100,
    args_override_self = true,
    after_help = "Exit codes: 0 done, 1 the build failed, 2 wrong usage, 3 this host cannot do it, \
                  130 interrupted."
)]
struct Cli {
    /// Where images, layers and the cache are kept [default: $XDG_DATA_HOME/rbuild, or
    /// where there is space for layers]
    #[arg(long, global = true, env = "RBUILD_ROOT", value_name = "DIR")]
    root: Option<PathBuf>,
    /// What RUN is shut in with: the best that this host allows, or mapped, recorded (user
    /// namespaces with many ids or one), chroot (root of a container, no namespaces) or copy-only
    #[arg(
        long,
        global = true,
        env = "RBUILD_SANDBOX",
        value_name = "RUNG",
        default_value = "auto"
    )]
    sandbox: Wanted,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build an image from a Dockerfile
    Build(Box<build::BuildArgs>),
    /// Make an image from a tar archive of a root file system
    Import(import::ImportArgs),
    /// List images
    Images(images::ImagesArgs),
    /// Show how an image was made
    History(history::HistoryArgs),
    /// Show everything that is known of images
    Inspect(inspect::InspectArgs),
    /// Give an image another name
    Tag(tag::TagArgs),
    /// Remove names of images, and images without one
    Rmi(remove::RemoveArgs),
    /// Write images to an archive
    Save(save::SaveArgs),
    /// Put the images of an archive into the store
    Load(load::LoadArgs),
    /// Show what the store takes
    Du(disk::DiskArgs),
    /// Work with images, in docker's longer spelling
    #[command(subcommand)]
    Image(image::ImageCommand),
    /// Work with the cache of builds
    #[command(subcommand, visible_alias = "buildx")]
    Builder(prune::BuilderCommand),
    /// Show or remove what the store takes, in docker's spelling
    #[command(subcommand)]
    System(disk::SystemCommand),
    /// Run a command in an image
    Run(Box<run::RunArgs>),
    /// Run a command in an image, in docker's longer spelling
    #[command(subcommand)]
    Container(run::ContainerCommand),
    /// Write the root file system of an image
    Export(export::ExportArgs),
    /// Bring an image from a registry into the store
    Pull(pull::PullArgs),
    /// Bring an image to a registry
    Push(push::PushArgs),
    /// Log in to a registry
    Login(login::LoginArgs),
    /// Forget the credentials for a registry
    Logout(login::LogoutArgs),
    /// Join images for several platforms under one name
    Manifest(manifest::ManifestArgs),
    /// Look after the store itself
    #[command(subcommand)]
    Store(store::StoreCommand),
    /// Show what this host allows, and what would make it allow more
    Doctor(doctor::DoctorArgs),
}

/// Runs the command line and returns the process's exit code.
pub(crate) fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.collect();
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => {
            if is_run(&arguments)
                && let Some(exit) = run::usage_error(&error)
            {
                return exit.into();
            }
            // clap prints to where it belongs and knows that help and version are no failures.
            drop(error.print());
            return if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Success
            }
            .into();
        }
    };
    session::choose_sandbox(cli.sandbox);
    carry_out(cli.command, cli.root).into()
}

impl Command {
    /// The arguments of a build, in whichever spelling.
    fn as_build(&self) -> Option<&build::BuildArgs> {
        match self {
            Self::Build(arguments)
            | Self::Image(image::ImageCommand::Build(arguments))
            | Self::Builder(prune::BuilderCommand::Build(arguments)) => Some(arguments),
            _ => None,
        }
    }

    /// Whether it has the options of limits itself.
    fn has_limits(&self) -> bool {
        self.as_build().is_some() || matches!(self, Self::Run(_) | Self::Container(_))
    }

    /// Whether it looks into the store at all.
    fn needs_store(&self) -> bool {
        match self {
            Self::Login(_) | Self::Logout(_) | Self::Doctor(_) => false,
            _ => self.as_build().is_none_or(build::BuildArgs::needs_store),
        }
    }
}

/// `named` is the store that the caller named, if any.
fn carry_out(command: Command, named: Option<PathBuf>) -> Exit {
    use image::ImageCommand as Image;
    use prune::BuilderCommand as Builder;
    if let Some(arguments) = command.as_build() {
        arguments.choose_error_format();
    }
    let root = if command.needs_store() {
        match place::find(named.clone()) {
            Ok(root) => root,
            Err(exit) => return exit,
        }
    } else {
        PathBuf::new()
    };
    let root = root.as_path();
    if command.needs_store() && !command.has_limits() {
        match config::Config::load() {
            Ok(config) => limits::Chosen::of_config(&config).enforce(),
            Err(message) => {
                report::print_error(&message);
                return Exit::Usage;
            }
        }
    }
    match command {
        Command::Build(arguments)
        | Command::Image(Image::Build(arguments))
        | Command::Builder(Builder::Build(arguments)) => build::run(*arguments, root),
        Command::Import(arguments) | Command::Image(Image::Import(arguments)) => {
            import::run(&arguments, root)
        }
        Command::Images(arguments) | Command::Image(Image::Ls(arguments)) => {
            images::run(&arguments, root)
        }
        Command::History(arguments) | Command::Image(Image::History(arguments)) => {
            history::run(&arguments, root)
        }
        Command::Inspect(arguments) | Command::Image(Image::Inspect(arguments)) => {
            inspect::run(&arguments, root)
        }
        Command::Tag(arguments) | Command::Image(Image::Tag(arguments)) => {
            tag::run(&arguments, root)
        }
        Command::Rmi(arguments) | Command::Image(Image::Rm(arguments)) => {
            remove::run(&arguments, root)
        }
        Command::Save(arguments) | Command::Image(Image::Save(arguments)) => {
            save::run(&arguments, root)
        }
        Command::Load(arguments) | Command::Image(Image::Load(arguments)) => {
            load::run(&arguments, root)
        }
        Command::Image(Image::Prune(arguments)) => prune::run(&arguments, root),
        Command::Builder(Builder::Prune(arguments)) => prune::run_cache(&arguments, root),
        Command::Du(arguments) | Command::System(disk::SystemCommand::Df(arguments)) => {
            disk::run(&arguments, root)
        }
        Command::System(disk::SystemCommand::Prune(arguments)) => {
            prune::run_system(&arguments, root)
        }
        Command::Builder(Builder::Du) => disk::run(&disk::DiskArgs::default(), root),
        Command::Run(arguments) | Command::Container(run::ContainerCommand::Run(arguments)) => {
            run::run(&arguments, root)
        }
        Command::Export(arguments) => export::run(&arguments, root),
        Command::Pull(arguments) | Command::Image(Image::Pull(arguments)) => {
            pull::run(&arguments, root)
        }
        Command::Push(arguments) | Command::Image(Image::Push(arguments)) => {
            push::run(&arguments, root)
        }
        Command::Login(arguments) => login::run(&arguments),
        Command::Logout(arguments) => login::log_out(&arguments),
        Command::Manifest(arguments) => manifest::run(&arguments, root),
        Command::Store(store::StoreCommand::Check(arguments)) => store::run(&arguments, root),
        Command::Doctor(arguments) => doctor::run(&arguments, named),
    }
}

/// Whether these arguments, wrong as they are, begin with `rbuild run` or `rbuild container run`.
fn is_run(arguments: &[OsString]) -> bool {
    Cli::command()
        .ignore_errors(true)
        .try_get_matches_from(arguments)
        .is_ok_and(|matches| matches!(matches.subcommand_name(), Some("run" | "container")))
}
