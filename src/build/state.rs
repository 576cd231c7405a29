//! What a stage is after some of its steps.

use super::add;
use super::scope::{Globals, Scope};
use crate::oci::{ContainerConfig, DiffId, History, ImageConfig, Platform, RootFs};
use crate::store::Snapshot;

/// The search path of images that name none (BuildKit's `system.DefaultPathEnvUnix`).
pub(crate) const DEFAULT_PATH: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What tools that read histories expect of one that follows BuildKit's conventions.
const HISTORY_COMMENT: &str = "buildkit.dockerfile.v0";

/// What another builder wrote about its own build; it says nothing of an image built on that one.
pub(super) const BUILDERS_OWN: [&str; 3] = [
    "moby.buildkit.buildinfo.v0",
    "moby.buildkit.buildinfo.v1",
    "moby.buildkit.cache.v0",
];

/// A stage at one point: its files, its configuration, its variables.
#[derive(Debug, Clone)]
pub(crate) struct StageState {
    pub(crate) snapshot: Snapshot,
    pub(crate) config: ImageConfig,
    pub(crate) scope: Scope,
    /// CMD was set in this stage, so ENTRYPOINT leaves it.
    pub(crate) cmd_set: bool,
    /// Bytes that its instructions had once they were expanded.
    pub(crate) expanded: usize,
}

impl StageState {
    /// `FROM scratch`.
    pub(crate) fn scratch(platform: &Platform, globals: &Globals) -> Self {
        let config = ImageConfig {
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            variant: platform.variant.clone(),
            rootfs: RootFs::default(),
            config: ContainerConfig {
                working_dir: "/".to_owned(),
                ..ContainerConfig::default()
            },
            ..ImageConfig::default()
        };
        Self::of_image(Snapshot::default(), config, globals)
    }

    /// A stage on an image.
    pub(crate) fn of_image(snapshot: Snapshot, mut config: ImageConfig, globals: &Globals) -> Self {
        let environment = &mut config.config.env;
        // Windows finds its programs by itself.
        if config.os != "windows" && !environment.iter().any(|entry| entry.starts_with("PATH=")) {
            environment.push(format!("PATH={DEFAULT_PATH}"));
        }
        config.config.on_build.clear();
        let scope = Scope::of_environment(environment, globals);
        let directory = &mut config.config.working_dir;
        if !directory.is_empty() {
            *directory = add::join("/", directory);
        }
        config.created = None;
        for stale in BUILDERS_OWN {
            config.other.remove(stale);
        }
        Self {
            snapshot,
            config,
            scope,
            cmd_set: false,
            expanded: 0,
        }
    }

    /// A stage on another one: all of it but its triggers.
    pub(crate) fn of_stage(mut parent: Self) -> Self {
        parent.config.config.on_build.clear();
        parent.cmd_set = false;
        parent
    }

    /// The shell of shell forms.
    pub(crate) fn shell(&self) -> Vec<String> {
        if self.config.config.shell.is_empty() {
            vec!["/bin/sh".to_owned(), "-c".to_owned()]
        } else {
            self.config.config.shell.clone()
        }
    }

    /// The working directory; `/` when none was set.
    pub(crate) fn working_directory(&self) -> &str {
        match self.config.config.working_dir.as_str() {
            "" => "/",
            directory => directory,
        }
    }

    /// Sets an ENV variable in the configuration and for the steps that follow.
    pub(crate) fn set_environment(&mut self, name: &str, value: &str) {
        let entry = format!("{name}={value}");
        let list = &mut self.config.config.env;
        let same = |there: &&mut String| there.split('=').next() == Some(name);
        match list.iter_mut().find(same) {
            Some(there) => *there = entry,
            None => list.push(entry),
        }
        self.scope.set(name, value);
    }

    /// Records an instruction that changed no files. Without an epoch the row has no time until
    /// [`super::image::configuration`] knows the layers around it.
    pub(crate) fn add_history(&mut self, created_by: String, epoch: Option<&str>) {
        self.push_history(created_by, true, epoch.map(str::to_owned));
    }

    /// Records a step and the layer it made, if it made one, at the time it did.
    pub(crate) fn add_layer(
        &mut self,
        created_by: String,
        layer: Option<DiffId>,
        created: &str,
        epoch: Option<&str>,
    ) {
        let empty = layer.is_none();
        self.config.rootfs.diff_ids.extend(layer);
        let created = match epoch {
            None if empty => None,
            epoch => Some(epoch.unwrap_or(created).to_owned()),
        };
        self.push_history(created_by, empty, created);
    }

    fn push_history(&mut self, created_by: String, empty_layer: bool, created: Option<String>) {
        self.config.history.push(History {
            created,
            created_by: Some(created_by),
            comment: Some(HISTORY_COMMENT.to_owned()),
            empty_layer,
            ..History::default()
        });
    }
}
