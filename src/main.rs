//! rbuild: container images from Dockerfiles, anywhere a process can run.

mod build;
mod cli;
mod context;
mod dockerfile;
mod init;
mod layer;
mod oci;
mod ownership;
mod progress;
mod sandbox;
mod store;
mod sys;
mod transport;

fn main() {}
