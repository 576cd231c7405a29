//! The command line: what was typed becomes a request, and its end becomes an exit code.

mod build;
mod check;
mod epoch;
mod exit;
mod failure;
mod import;
mod login;
mod machine;
mod manifest;
mod output;
mod platform;
mod pull;
mod push;
mod report;
mod run_options;
mod secret;
mod session;
mod transfer;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub(crate) use exit::Exit;

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
    /// Where images, layers and the cache are kept [default: $XDG_DATA_HOME/rbuild]
    #[arg(long, global = true, env = "RBUILD_ROOT", value_name = "DIR")]
    root: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build an image from a Dockerfile
    Build(Box<build::BuildArgs>),
    /// Make an image from a tar archive of a root file system
    Import(import::ImportArgs),
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
    /// Commands about images
    #[command(subcommand)]
    Image(ImageCommand),
}

/// `rbuild image …`, docker's longer spelling.
#[derive(Debug, Subcommand)]
enum ImageCommand {
    /// Bring an image from a registry into the store
    Pull(pull::PullArgs),
    /// Bring an image to a registry
    Push(push::PushArgs),
}

/// Runs the command line and returns the process's exit code.
pub(crate) fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
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
    let root = match cli.root.map_or_else(default_root, Ok) {
        Ok(root) => root,
        Err(message) => {
            report::print_error(&message);
            return Exit::Usage.into();
        }
    };
    match cli.command {
        Command::Build(arguments) => build::run(*arguments, &root),
        Command::Import(arguments) => import::run(&arguments, &root),
        Command::Pull(arguments) | Command::Image(ImageCommand::Pull(arguments)) => {
            pull::run(&arguments, &root)
        }
        Command::Push(arguments) | Command::Image(ImageCommand::Push(arguments)) => {
            push::run(&arguments, &root)
        }
        Command::Login(arguments) => login::run(&arguments),
        Command::Logout(arguments) => login::log_out(&arguments),
        Command::Manifest(arguments) => manifest::run(&arguments, &root),
    }
    .into()
}

/// `$XDG_DATA_HOME/rbuild`, by default `~/.local/share/rbuild` (XDG Base Directory Specification).
fn default_root() -> Result<PathBuf, String> {
    let absolute = |path: PathBuf| path.is_absolute().then_some(path);
    std::env::var_os("XDG_DATA_HOME")
        .and_then(|path| absolute(path.into()))
        .or_else(|| Some(absolute(std::env::home_dir()?)?.join(".local/share")))
        .map(|data| data.join("rbuild"))
        .ok_or_else(|| "there is no home directory: give the store a place with --root DIR".into())
}
