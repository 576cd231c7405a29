//! `rbuild inspect`, `rbuild image inspect`.

use std::path::Path;

use clap::Args;
use serde::Serialize as _;
use serde_json::Value;

use super::template::Template;
use super::{Exit, platform, stored};
use crate::image;
use crate::oci::Platform;

#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    /// Names or ids of images, or paths of OCI layouts or archives
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
    /// The image to take from an index [default: this machine's]
    #[arg(long, value_name = "PLATFORM", value_parser = platform::parse)]
    platform: Option<Platform>,
    /// json, or a Go template
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Accepted for docker's sake: everything here is an image
    #[arg(long = "type", value_name = "TYPE", value_parser = ["image"])]
    kind: Option<String>,
}

/// Runs `rbuild inspect`. What there is is printed, also when something is missing.
pub(super) fn run(arguments: &InspectArgs, root: &Path) -> Exit {
    let template = match arguments.format.as_deref() {
        None | Some("" | "json") => None,
        Some(text) => match Template::parse(text) {
            Ok(template) => Some(template),
            Err(error) => return stored::usage(&error.to_string()),
        },
    };
    let images = match stored::images(root) {
        Ok(images) => images,
        Err(exit) => return exit,
    };
    let mut found = Vec::new();
    let mut errors = Vec::new();
    for text in &arguments.images {
        match stored::find(&images, text, arguments.platform.as_ref()) {
            Ok(image) => found.push(image::describe(&image)),
            Err(error) => errors.push(error),
        }
    }
    let text = match &template {
        Some(template) => {
            let mut lines = String::new();
            for value in &found {
                match template.render(value) {
                    Ok(line) => lines.push_str(&(line + "\n")),
                    Err(error) => return stored::usage(&error.to_string()),
                }
            }
            lines
        }
        None if arguments.format.as_deref() == Some("json") => {
            Value::Array(found).to_string() + "\n"
        }
        None => indented(&Value::Array(found)),
    };
    let printed = stored::print(&text);
    for error in &errors {
        stored::fail(error);
    }
    if errors.is_empty() {
        printed
    } else {
        Exit::Failed
    }
}

/// With four spaces for each level, as docker has it.
fn indented(value: &Value) -> String {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    value
        .serialize(&mut serializer)
        .expect("a JSON value can be written");
    bytes.push(b'\n');
    String::from_utf8(bytes).expect("JSON is UTF-8")
}
