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

mod account_files;
mod add;
mod add_attacks;
mod archive_ahead;
mod args;
mod behind;
mod block_reuse;
mod broken_contexts;
mod cache;
mod cache_mounts;
mod cached_path;
mod cgroup_limits;
mod check;
mod chroot;
mod config_keys;
mod copy;
mod copy_errors;
mod copy_flags;
mod copy_link;
mod copy_only;
mod copy_owners;
mod copy_rules;
mod crash;
mod decompressors;
mod deep_stacks;
mod diagnostics;
mod doctor;
mod errors;
mod escape;
mod expansion;
mod export;
mod foreign_layers;
mod full_disk;
mod git;
mod git_security;
mod heredoc;
mod history;
mod hostile_archives;
mod hostile_files;
mod hostile_images;
mod hostile_layers;
mod hostile_text;
mod ignore;
mod image_changes;
mod images;
mod images_archives;
mod images_garbage;
mod images_platforms;
mod import;
mod isolated;
mod language;
mod layering;
mod limits;
mod limits_fetch;
mod login;
mod masks;
mod metadata;
mod mounts;
mod multi_platform;
mod name_service;
mod onbuild;
mod one_store;
mod output;
mod outside;
mod owners;
mod pax_records;
mod peers;
mod place;
mod platform;
mod power_loss;
mod progress;
mod propagation;
mod pull;
mod push;
mod real;
mod recorded;
mod recorded_attacks;
mod registries;
mod registry_access;
mod registry_documents;
mod remote;
mod remote_contexts;
mod reproducible;
mod reserve;
mod rootless;
mod run;
mod run_commit;
mod run_image;
mod run_options;
mod run_terminal;
mod run_volumes;
mod sandbox_view;
mod secret_scan;
mod secrets;
mod secrets_scan;
mod ssh;
mod stages;
mod store_check;
mod store_damages;
mod store_private;
mod store_stress;
mod tag_capture;
mod tenants;
mod timings;
mod transfers;
mod tutorial;
