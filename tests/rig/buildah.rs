//! Debian's buildah: another builder of the same Dockerfiles.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::image::Image;
use super::{Rig, host};

/// buildah with its state below a rig's directory.
pub(crate) struct Buildah<'a> {
    rig: &'a Rig,
}

impl<'a> Buildah<'a> {
    pub(crate) fn new(rig: &'a Rig) -> Self {
        Self { rig }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let runtime = self.rig.path("runtime");
        fs::create_dir_all(&runtime).unwrap();
        let policy = self.rig.path("policy.json");
        fs::write(
            &policy,
            r#"{"default":[{"type":"insecureAcceptAnything"}]}"#,
        )
        .unwrap();
        let mut command = Command::new("buildah");
        command
            .args(["--storage-driver", "overlay", "--root"])
            .arg(self.rig.path("buildah"))
            .arg("--runroot")
            .arg(self.rig.path("buildah-run"))
            .arg(arguments[0]);
        if ["build", "push"].contains(&arguments[0]) {
            command.arg("--signature-policy").arg(&policy);
        }
        command
            .args(&arguments[1..])
            .env("XDG_RUNTIME_DIR", runtime)
            .env("BUILDAH_ISOLATION", "chroot")
            .current_dir(self.rig.path(""));
        command
    }

    /// Makes the image `tag` from the same tar that rbuild imported.
    pub(crate) fn import(&self, tar: &Path, tag: &str) {
        let context = self.rig.path("base-context");
        fs::create_dir(&context).unwrap();
        fs::hard_link(tar, context.join("base.tar"))
            .or_else(|_| fs::copy(tar, context.join("base.tar")).map(drop))
            .unwrap();
        fs::write(context.join("Dockerfile"), "FROM scratch\nADD base.tar /\n").unwrap();
        self.build(&context, tag);
    }

    pub(crate) fn build(&self, context: &Path, tag: &str) {
        let context = context.to_str().unwrap();
        // The format of OCI has no place for SHELL, HEALTHCHECK and ONBUILD: buildah drops them.
        host::stdout_of(&mut self.command(&[
            "build", "--format", "docker", "--layers", "-t", tag, context,
        ]));
    }

    pub(crate) fn image(&self, tag: &str) -> Image {
        let directory = self.rig.path("buildah-image");
        let destination = format!("dir:{}", directory.display());
        host::stdout_of(&mut self.command(&["push", "--disable-compression", tag, &destination]));
        let image = Image::open(&directory);
        fs::remove_dir_all(directory).unwrap();
        image
    }
}
