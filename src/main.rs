//! rbuild: container images from Dockerfiles, anywhere a process can run.
//!
//! The program has three doors. Started as `rbuild-init` by itself, it is the room that becomes the
//! sandbox of one RUN ([`init`]); as `rbuild-pasta`, it becomes pasta, which connects a sandbox
//! ([`sandbox::network`]); otherwise it is the command line ([`cli`]). Data goes one way:
//! `cli`, `build`, then what reads, runs, packs and stores, down to the values of `oci` and the
//! kernel calls of `sys`.

mod build;
mod check;
mod cli;
mod context;
mod dockerfile;
#[cfg(test)]
mod fuzzing;
mod image;
mod init;
mod layer;
mod oci;
mod ownership;
mod progress;
mod reach;
mod remote;
mod sandbox;
mod store;
mod sys;
mod transport;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().peekable();
    if arguments
        .peek()
        .is_some_and(|name| name == sandbox::spec::INIT_NAME)
    {
        return init::main();
    }
    if arguments
        .peek()
        .is_some_and(|name| name == sandbox::network::pasta::PASTA_NAME)
    {
        return sandbox::network::pasta::main(arguments.skip(1));
    }
    cli::main(arguments)
}
