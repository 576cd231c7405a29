//! The stand that every test builds on: a store, a context, and rbuild run as a user runs it.

pub(crate) mod base;
pub(crate) mod buildah;
pub(crate) mod distribution;
pub(crate) mod faulty;
pub(crate) mod forged;
pub(crate) mod host;
pub(crate) mod image;
pub(crate) mod outcome;
pub(crate) mod registry;
pub(crate) mod repository;
pub(crate) mod stand;
pub(crate) mod terminal;
pub(crate) mod tree;

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use image::Image;
use outcome::Outcome;

/// One store and one context in a temporary directory, gone with the value.
pub(crate) struct Rig {
    directory: PathBuf,
}

impl Rig {
    /// A store that holds the busybox base under the name `base`, and an empty context.
    pub(crate) fn new() -> Self {
        let rig = Self::empty();
        let tar = rig.path("base.tar");
        fs::write(&tar, base::root_filesystem()).unwrap();
        let mut import = rig.command([OsStr::new("import"), tar.as_os_str(), OsStr::new("base")]);
        import.env("SOURCE_DATE_EPOCH", "1400000000");
        Outcome::of(&mut import).succeeds();
        rig
    }

    /// A store that does not exist yet, and an empty context.
    pub(crate) fn empty() -> Self {
        let directory = tempfile::Builder::new()
            .prefix("rbuild-it-")
            .tempdir()
            .unwrap()
            .keep();
        fs::create_dir(directory.join("context")).unwrap();
        Self { directory }
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.path("store")
    }

    pub(crate) fn context(&self) -> PathBuf {
        self.path("context")
    }

    /// A file beside the context, for outputs and other inputs.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Writes a file of the context with mode 0644, making its directories.
    pub(crate) fn write(&self, path: &str, contents: impl AsRef<[u8]>) -> &Self {
        let path = self.context().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, contents).unwrap();
        // The test's umask is the user's, and modes are part of the cache key.
        self.set_mode(&path, 0o644);
        self
    }

    pub(crate) fn chmod(&self, path: &str, mode: u32) -> &Self {
        self.set_mode(&self.context().join(path), mode);
        self
    }

    fn set_mode(&self, path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    pub(crate) fn dockerfile(&self, text: &str) -> &Self {
        self.write("Dockerfile", text)
    }

    /// rbuild with this rig's store; nothing of the caller's environment that steers a build.
    pub(crate) fn command<I: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = I>,
    ) -> Command {
        let mut command = Command::new(host::binary());
        command
            .arg("--root")
            .arg(self.store())
            .args(arguments)
            .current_dir(&self.directory)
            .env_remove("SOURCE_DATE_EPOCH")
            .env_remove("RBUILD_ROOT")
            .env_remove("RBUILD_CONFIG")
            .env_remove("DOCKER_DEFAULT_PLATFORM")
            .env("NO_COLOR", "1")
            .env("DOCKER_CONFIG", self.path("docker-config"));
        for proxy in [
            "HTTP_PROXY",
            "HTTPS_PROXY",
            "FTP_PROXY",
            "NO_PROXY",
            "ALL_PROXY",
        ] {
            command.env_remove(proxy).env_remove(proxy.to_lowercase());
        }
        command
    }

    pub(crate) fn rbuild<I: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = I>,
    ) -> Outcome {
        Outcome::of(&mut self.command(arguments))
    }

    /// `rbuild build --progress=plain OPTIONS CONTEXT`.
    pub(crate) fn build(&self, options: &[&str]) -> Outcome {
        Outcome::of(&mut self.build_command(options))
    }

    /// `rbuild run OPTIONS`, where the options end with the image and its command. It cannot hang.
    pub(crate) fn run(&self, options: &[&str]) -> Outcome {
        let command = self.command([&["run"], options].concat());
        let mut command = terminal::bounded(&command);
        Outcome::of(command.stdin(Stdio::null()))
    }

    pub(crate) fn build_command(&self, options: &[&str]) -> Command {
        let mut command = self.command(["build", "--progress=plain"]);
        command.args(options).arg(self.context());
        command
    }

    /// Builds with `input` on standard input; `options` end with the context.
    pub(crate) fn build_from_stdin(&self, options: &[&str], input: &[u8]) -> Outcome {
        let mut child = self
            .command(["build", "--progress=plain"])
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A build that refuses early closes the pipe, which is no failure of the test.
        drop(child.stdin.take().unwrap().write_all(input));
        Outcome::from(child.wait_with_output().unwrap())
    }

    /// Builds `dockerfile` and reads the image from its OCI archive.
    pub(crate) fn image(&self, dockerfile: &str) -> Image {
        self.image_with(dockerfile, &[])
    }

    pub(crate) fn image_with(&self, dockerfile: &str, options: &[&str]) -> Image {
        self.dockerfile(dockerfile);
        let archive = self.path("image.tar");
        let output = format!("type=oci,dest={}", archive.display());
        self.build(&[&["-o", &output], options].concat()).succeeds();
        Image::open(&archive)
    }

    /// What the store holds: every path that a later command could read, with sizes.
    ///
    /// Scratch space (`tmp`), beginnings of blobs (`partial`) and lock files are not content.
    pub(crate) fn store_listing(&self) -> Vec<String> {
        let mut listing = Vec::new();
        list(&self.store(), Path::new(""), &mut listing);
        listing.sort();
        listing
    }
}

impl registry::Registry {
    /// The address of `path` on this server, in plain HTTP.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.host())
    }
}

fn list(root: &Path, below: &Path, listing: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(root.join(below)) else {
        return;
    };
    for entry in entries.map(Result::unwrap) {
        let path = below.join(entry.file_name());
        let scratch = ["tmp", "partial"]
            .iter()
            .any(|name| path == Path::new(name))
            || path.extension() == Some(OsStr::new("lock"));
        if scratch || path.file_name() == Some(OsStr::new("lock")) {
            continue;
        }
        let metadata = entry.metadata().unwrap();
        if metadata.is_dir() {
            listing.push(format!("{}/", path.display()));
            list(root, &path, listing);
        } else {
            listing.push(format!("{} {}", path.display(), metadata.len()));
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if std::env::var_os("RBUILD_KEEP").is_some() {
            return;
        }
        if fs::remove_dir_all(&self.directory).is_ok() {
            return;
        }
        // Snapshots belong to subordinate ids and overlay work directories have mode 0: only root
        // of a user namespace that maps those ids can remove them.
        for map in [&["--map-root-user", "--map-auto"][..], &["--map-root-user"]] {
            let removed = Command::new("unshare")
                .args(map)
                .args(["rm", "-rf", "--"])
                .arg(&self.directory)
                .stderr(Stdio::null())
                .status();
            if removed.is_ok_and(|status| status.success()) {
                return;
            }
        }
    }
}
