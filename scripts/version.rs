//! Build script: tells the program which commit it is made from, where git knows.

#![expect(
    clippy::print_stdout,
    reason = "cargo reads what a build script prints"
)]

use std::process::Command;

fn main() {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
        (output.status.success() && !text.is_empty()).then_some(text)
    };
    let commit = std::env::var("RBUILD_COMMIT")
        .ok()
        .or_else(|| git(&["rev-parse", "--short=12", "HEAD"]))
        .unwrap_or_else(|| "unknown commit".to_owned());
    println!("cargo::rustc-env=RBUILD_COMMIT={commit}");
    println!("cargo::rerun-if-env-changed=RBUILD_COMMIT");
    if let Some(directory) = git(&["rev-parse", "--absolute-git-dir"]) {
        // HEAD's own log grows with every commit and checkout.
        println!("cargo::rerun-if-changed={directory}/logs/HEAD");
    }
}
