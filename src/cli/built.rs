//! The end of `rbuild build`: lines, files and the exit code.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::machine::ErrorFormat;
use super::report::print_error;
use super::{Exit, cached, check};
use crate::build::event::{Event, EventSender};
use crate::build::request::Request;
use crate::build::{Built, DockerfileText};
use crate::check::Finding;
use crate::oci::Reference;
use crate::progress::{self, Mode};

/// How the end of a build is told.
pub(super) struct End {
    pub(super) mode: Mode,
    pub(super) format: ErrorFormat,
}

impl End {
    /// Of a build that needed no session.
    pub(super) fn of_cached(
        &self,
        answer: cached::Answer,
        with_timings: bool,
        request: &Request,
        files: &(Option<PathBuf>, Option<PathBuf>),
    ) -> Exit {
        let findings = &answer.built.checked.findings;
        let shown = if with_timings {
            progress::start_with_timings(self.mode, answer.events)
        } else {
            progress::start(self.mode, answer.events)
        };
        match shown {
            Ok(shown) => shown.finish(),
            Err(error) => {
                print_error(&format!("cannot start: {error}"));
                return Exit::Host;
            }
        }
        self.print(&answer.text, findings);
        succeed(&answer.built, request, files)
    }

    /// Where programs read the events, they read the findings there.
    pub(super) fn send(&self, findings: &[Finding], events: &EventSender) {
        if self.mode != Mode::RawJson {
            return;
        }
        for finding in findings {
            let message = format!("{}: {}", finding.rule.name, finding.diagnostic.message);
            events.send(Event::Warning { id: None, message });
        }
    }

    pub(super) fn print(&self, text: &DockerfileText, findings: &[Finding]) {
        if !matches!(self.mode, Mode::Quiet | Mode::RawJson) {
            check::print_warnings(text, findings, self.format);
        }
    }
}

/// Writes the id to where it was asked for; the last line of stdout is the image's id.
pub(super) fn succeed(
    built: &Built,
    request: &Request,
    files: &(Option<PathBuf>, Option<PathBuf>),
) -> Exit {
    let id = built.image_id.as_ref().map(ToString::to_string);
    // As with buildx, the file is empty when the outputs of several platforms wanted no index.
    let id_text = id.clone().unwrap_or_default();
    let (iidfile, metadata_file) = files;
    let mut writes: Vec<(&Path, Vec<u8>)> = Vec::new();
    if let Some(path) = iidfile {
        writes.push((path, id_text.into_bytes()));
    }
    if let Some(path) = metadata_file {
        writes.push((path, metadata(built, request)));
    }
    for (path, bytes) in writes {
        if let Err(error) = std::fs::write(path, bytes) {
            print_error(&format!("cannot write {}: {error}", path.display()));
            return Exit::Failed;
        }
    }
    let stdout_is_taken = request.outputs.iter().any(|output| output.form.is_stdout());
    match id {
        Some(id) if !stdout_is_taken && writeln!(std::io::stdout(), "{id}").is_err() => {
            Exit::Failed
        }
        _ => Exit::Success,
    }
}

/// The keys that buildx writes.
fn metadata(built: &Built, request: &Request) -> Vec<u8> {
    let mut metadata = serde_json::Map::new();
    let mut set = |name: &str, value: serde_json::Value| metadata.insert(name.to_owned(), value);
    if let Some(id) = built.image_id.as_ref().filter(|_| !built.is_index) {
        set("containerimage.config.digest", id.to_string().into());
    }
    if let Some(manifest) = &built.manifest {
        set("containerimage.digest", manifest.digest.to_string().into());
        let descriptor = serde_json::to_value(manifest).expect("a descriptor is JSON");
        set("containerimage.descriptor", descriptor);
    }
    if !request.tags.is_empty() {
        let names: Vec<String> = request.tags.iter().map(Reference::whole).collect();
        set("image.name", names.join(",").into());
    }
    let mut bytes = serde_json::to_vec_pretty(&metadata).expect("a JSON value can be written");
    bytes.push(b'\n');
    bytes
}
