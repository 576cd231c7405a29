//! What strangers' bytes must not do: the targets of `fuzz/`, and the replay of their corpora.
//!
//! The assertions stand in the rooms that they are about.

#[cfg(test)]
mod tests;

use crate::{context, dockerfile, layer, oci, ownership, remote, store, transport};

/// Takes any bytes, and panics where something does not hold.
type Target = fn(&[u8]);

/// The targets, by their names in `fuzz/`.
const TARGETS: [(&str, Target); 7] = [
    ("dockerfile", dockerfile),
    ("document", transport::assertions::documents_hold),
    ("expansion", expansion),
    ("ignore", ignore),
    ("layer", layer::assertions::layer_holds),
    ("record", record),
    ("reference", reference),
];

/// Runs the target `name`, which must exist, on `data`.
pub(crate) fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|(known, _)| *known == name);
    target.expect("the target exists").1(data);
}

fn dockerfile(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        dockerfile::assertions::dockerfile_holds(text);
    }
}

fn expansion(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        dockerfile::assertions::word_holds(text);
    }
}

/// The first line is a path, the others are an ignore file.
fn ignore(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let (path, rules) = text.split_once('\n').unwrap_or((text, ""));
        context::assertions::ignore_holds(path, rules);
    }
}

fn reference(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        oci::assertions::names_hold(text);
        transport::assertions::location_holds(text);
        remote::assertions::address_holds(text);
    }
}

/// The first byte says where the rest is kept.
fn record(data: &[u8]) {
    match data.split_first() {
        Some((b'a', value)) => ownership::assertions::attribute_holds(value),
        Some((b't', table)) => ownership::assertions::table_holds(table),
        Some((b'm', memo)) => context::assertions::memo_holds(memo),
        Some((file, content)) => store::assertions::file_holds(*file, content),
        None => {}
    }
}
