//! An image in a registry that fails where a test tells it to.

use std::fs;
use std::process::Command;

use serde_json::Value;

use super::Rig;
use super::faulty::{Act, Faulty, Heard};
use super::image::json;
use super::outcome::Outcome;

/// A registry that has `team/app:v1`, an image of three layers of which the last is large.
pub(crate) struct Stand {
    pub(crate) server: Faulty,
    pub(crate) rig: Rig,
    pub(crate) layers: Vec<String>,
}

impl Stand {
    pub(crate) fn new() -> Self {
        let server = Faulty::start();
        let rig = Rig::new();
        rig.dockerfile("FROM base\nRUN echo one > /one\nRUN head -c 300000 /dev/urandom > /large");
        let name = format!("{}/team/app:v1", server.host());
        rig.build(&["-t", &name]).succeeds();
        rig.rbuild(["push", &name]).succeeds();
        let manifest = json(&server.manifest("team/app", "v1").unwrap());
        let layers = manifest["layers"].as_array().unwrap().iter();
        let digest = |layer: &Value| layer["digest"].as_str().unwrap().to_owned();
        let layers = layers.map(digest).collect();
        Self {
            server,
            rig,
            layers,
        }
    }

    pub(crate) fn name(&self) -> String {
        format!("{}/team/app:v1", self.server.host())
    }

    pub(crate) fn last(&self) -> String {
        self.layers.last().unwrap().clone()
    }

    /// That a pull fails with these words and one error, and leaves the store as it was.
    #[track_caller]
    pub(crate) fn refused(&self, words: &[&str]) {
        let rig = Rig::new();
        let before = rig.store_listing();
        let outcome = Outcome::of(&mut pull(&rig, &self.name()));
        let outcome = outcome.exits_with(1).says(words);
        let errors = outcome.stderr.matches("error: ").count();
        assert_eq!(errors, 1, "{}", outcome.stderr);
        assert_eq!(rig.store_listing(), before, "{}", outcome.stderr);
    }

    /// That a pull gives the image that was pushed.
    #[track_caller]
    pub(crate) fn pulled(&self) -> Rig {
        let rig = Rig::new();
        Outcome::of(&mut pull(&rig, &self.name())).succeeds();
        for layer in &self.layers {
            let path = format!("store/oci/blobs/{}", layer.replace(':', "/"));
            assert_eq!(fs::read(rig.path(&path)).ok(), self.server.blob(layer));
        }
        rig
    }
}

/// `rbuild pull` with a short patience.
pub(crate) fn pull(rig: &Rig, name: &str) -> Command {
    let mut command = rig.command(["pull", name]);
    configure(rig, &mut command, r#"{"stall-seconds": 1}"#);
    command
}

pub(crate) fn configure(rig: &Rig, command: &mut Command, text: &str) {
    let path = rig.path("registries.json");
    fs::write(&path, text).unwrap();
    command.env("RBUILD_REGISTRIES", path);
}

pub(crate) fn ok(body: &[u8]) -> Act {
    Act::Answer(200, Vec::new(), body.to_vec())
}

/// Gives `act` for every request with this method whose path has `part`.
pub(crate) fn on(
    method: &'static str,
    part: &str,
    act: impl Fn() -> Act + Send + Sync + 'static,
) -> impl Fn(&Heard) -> Act + Send + Sync + 'static {
    let part = part.to_owned();
    move |heard| {
        if heard.is(method, &part) {
            act()
        } else {
            Act::Serve
        }
    }
}
