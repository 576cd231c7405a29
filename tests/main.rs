//! What rbuild does for its users, shown by running the real binary; one file per capability.
//!
//! Every test has its own store and context. A test that needs a tool which is not installed says
//! so and passes, unless `CI` is set: there it fails. `scripts/test` runs everything, as two
//! unprivileged users when it is root.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed expectation of a test is a panic, and a skip is said on its output"
)]

mod rig;

mod add;
mod add_attacks;
mod args;
mod cache;
mod cache_mounts;
mod check;
mod copy;
mod copy_errors;
mod copy_flags;
mod copy_link;
mod copy_owners;
mod copy_rules;
mod diagnostics;
mod errors;
mod escape;
mod expansion;
mod git;
mod heredoc;
mod history;
mod ignore;
mod import;
mod language;
mod layering;
mod metadata;
mod mounts;
mod onbuild;
mod output;
mod peers;
mod platform;
mod progress;
mod pull;
mod real;
mod remote;
mod reproducible;
mod rootless;
mod run;
mod run_options;
mod secrets;
mod ssh;
mod stages;
