//! The rooms of the source tree import only what their place in the picture allows.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::rig::host;

/// Room, and what it may import from the crate. A room is a folder or file of `src/`; `a::b`
/// allows one module of another room and nothing else of it.
const ALLOWED: &[(&str, &[&str])] = &[
    ("main", &["cli", "init", "sandbox", "sys"]),
    (
        "cli",
        &[
            "build",
            "check",
            "context",
            "dockerfile",
            "image",
            "layer",
            "oci",
            "ownership",
            "progress",
            "reach",
            "remote",
            "sandbox",
            "store",
            "sys",
            "transport",
        ],
    ),
    (
        "build",
        &[
            "check",
            "context",
            "dockerfile",
            "image",
            "layer",
            "oci",
            "ownership",
            "remote",
            "sandbox",
            "store",
            "sys",
            "transport",
        ],
    ),
    ("image", &["layer", "oci", "store", "transport"]),
    (
        "progress",
        &["build::event", "build::log_lines", "oci", "sys"],
    ),
    (
        "init",
        &[
            "ownership::record",
            "sandbox::emulation",
            "sandbox::limits",
            "sandbox::passwd",
            "sandbox::spec",
            "sandbox::wire",
            "sys",
        ],
    ),
    ("check", &["context::ignore", "dockerfile", "oci"]),
    ("dockerfile", &[]),
    ("oci", &[]),
    ("sys", &[]),
    ("ownership", &["oci", "sys"]),
    ("layer", &["oci", "ownership", "sys"]),
    ("context", &["oci", "ownership", "sys"]),
    ("sandbox", &["oci", "ownership", "sys"]),
    ("reach", &[]),
    ("remote", &["oci", "reach", "sys"]),
    ("transport", &["layer::decompress", "oci", "reach", "sys"]),
    ("store", &["layer", "oci", "ownership", "sys"]),
    (
        "fuzzing",
        &[
            "context",
            "dockerfile",
            "layer",
            "oci",
            "ownership",
            "remote",
            "store",
            "transport",
        ],
    ),
];

#[test]
fn every_room_imports_only_what_is_below_it() {
    let mut wrong = Vec::new();
    for file in sources() {
        let room = room(&file);
        let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == room) else {
            wrong.push(format!("{}: {room} is not a known room", file.display()));
            continue;
        };
        for import in imports(&production_code(&file)) {
            let target = import.split("::").next().unwrap();
            let is_allowed = allowed
                .iter()
                .any(|allowed| import == *allowed || import.starts_with(&format!("{allowed}::")));
            if target != room && !is_allowed {
                wrong.push(format!("{}: crate::{import}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "not allowed:\n{}", wrong.join("\n"));
}

#[test]
fn unsafe_code_is_only_in_sys() {
    for file in sources() {
        if room(&file) == "sys" {
            continue;
        }
        let found = fs::read_to_string(host::source().join(&file))
            .unwrap()
            .lines()
            .map(|line| line.split("//").next().unwrap().to_owned())
            .any(|line| line.contains("unsafe ") || line.contains("allow(unsafe_code"));
        assert!(!found, "{} has unsafe code", file.display());
    }
}

#[test]
fn every_file_of_tests_is_compiled() {
    let main = fs::read_to_string(host::source().join("tests/main.rs")).unwrap();
    for entry in fs::read_dir(host::source().join("tests")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "rs") || path.ends_with("main.rs") {
            continue;
        }
        let module = path.file_stem().unwrap().to_str().unwrap();
        assert!(
            main.contains(&format!("mod {module};")),
            "tests/main.rs does not name {module}"
        );
    }
}

/// Every `.rs` file below `src`, relative to the source tree.
fn sources() -> Vec<PathBuf> {
    let mut directories = vec![PathBuf::from("src")];
    let mut files = Vec::new();
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(host::source().join(&directory)).unwrap() {
            let entry = entry.unwrap();
            let path = directory.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    assert!(!files.is_empty(), "src has no files");
    files
}

/// `src/build/plan.rs` and `src/build.rs` are both in the room `build`.
fn room(file: &Path) -> String {
    let first = file.strip_prefix("src").unwrap().components().next();
    let name = Path::new(first.unwrap().as_os_str());
    name.file_stem().unwrap().to_str().unwrap().to_owned()
}

/// The file up to its unit tests, which may build what they need from any room.
fn production_code(file: &Path) -> String {
    let text = fs::read_to_string(host::source().join(file)).unwrap();
    let is_test_file = file.file_stem().is_some_and(|stem| stem == "tests");
    if is_test_file {
        return String::new();
    }
    match text.find("#[cfg(test)]\nmod ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

/// Every path that the text names after `crate::`, with groups taken apart one level deep.
fn imports(text: &str) -> BTreeSet<String> {
    let code: String = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n");
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        let path = rest.split(|c| !is_path(c)).next().unwrap();
        match rest[path.len()..].strip_prefix('{') {
            Some(group) => {
                let group = group.split('}').next().unwrap();
                for name in group.split(',') {
                    let name = name.trim().split(|c| !is_path(c)).next().unwrap();
                    if !name.is_empty() {
                        found.insert(format!("{path}{name}"));
                    }
                }
            }
            None => drop(found.insert(path.to_owned())),
        }
    }
    found
}

#[test]
fn imports_are_found_in_every_spelling() {
    let text = "use crate::oci::{Digest, Descriptor};\nuse crate::{store, sys::fs as f};\n\
        // crate::cli\nfn f() -> crate::layer::Layer {}\npub(in crate::build) struct S;";
    let found: Vec<_> = imports(text).into_iter().collect();
    assert_eq!(
        found,
        [
            "build",
            "layer::Layer",
            "oci::Descriptor",
            "oci::Digest",
            "store",
            "sys::fs"
        ]
    );
}
