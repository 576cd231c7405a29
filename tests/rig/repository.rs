//! A git repository of a test, and the servers that hand it out on the loopback.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::host;
use super::registry::{Answer, Registry};

/// The time of every commit.
pub(crate) const COMMIT_TIME: u64 = 1_500_000_000;

/// A work tree with its repository, below a directory that servers can be pointed to.
pub(crate) struct Repository {
    base: PathBuf,
    name: String,
}

impl Repository {
    /// An empty repository `name` in the directory `base`; its branch is `main`.
    pub(crate) fn new(base: &Path, name: &str) -> Self {
        let repository = Self {
            base: base.to_owned(),
            name: name.to_owned(),
        };
        fs::create_dir_all(repository.tree()).unwrap();
        repository.git(&["init", "--quiet", "--initial-branch=main"]);
        repository
    }

    pub(crate) fn tree(&self) -> PathBuf {
        self.base.join(&self.name)
    }

    pub(crate) fn write(&self, path: &str, contents: impl AsRef<[u8]>) -> &Self {
        let path = self.tree().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
        self
    }

    /// Commits everything and returns the commit's id.
    pub(crate) fn commit(&self) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "-m", "change"]);
        self.git(&["rev-parse", "HEAD"])
    }

    #[track_caller]
    pub(crate) fn git(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("git");
        let date = format!("{COMMIT_TIME} +0000");
        command
            .args(["-c", "protocol.file.allow=always"])
            .args(arguments)
            .current_dir(self.tree())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1");
        for who in ["AUTHOR", "COMMITTER"] {
            command
                .env(format!("GIT_{who}_NAME"), "Test")
                .env(format!("GIT_{who}_EMAIL"), "test@example.com")
                .env(format!("GIT_{who}_DATE"), &date);
        }
        let printed = String::from_utf8(host::stdout_of(&mut command)).unwrap();
        printed.trim().to_owned()
    }

    /// The repository without a work tree, `NAME.git` beside this one, as it is now.
    pub(crate) fn publish(&self) -> PathBuf {
        let bare = self.base.join(format!("{}.git", self.name));
        drop(fs::remove_dir_all(&bare));
        let path = bare.to_str().unwrap();
        self.git(&["clone", "--quiet", "--bare", "--no-local", ".", path]);
        self.git(&["--git-dir", path, "update-server-info"]);
        bare
    }

    /// Serves the published repository as plain files under `/NAME.git`, and returns its address.
    pub(crate) fn serve_files(&self, server: &Registry) -> String {
        let bare = self.publish();
        let path = format!("/{}.git", self.name);
        serve_directory(server, &bare, &path);
        server.url(&path)
    }
}

fn serve_directory(server: &Registry, directory: &Path, path: &str) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let path = format!("{path}/{name}");
        if entry.file_type().unwrap().is_dir() {
            serve_directory(server, &entry.path(), &path);
        } else {
            let bytes = fs::read(entry.path()).unwrap();
            // git asks for this one with a query.
            let query = format!("{path}?service=git-upload-pack");
            server.set(&path, Answer::ok(&bytes));
            server.set(&query, Answer::ok(&bytes));
        }
    }
}

/// `git daemon` for the repositories in a directory; it ends with the value.
pub(crate) struct Daemon {
    child: Child,
    port: u16,
}

impl Daemon {
    pub(crate) fn start(base: &Path) -> Self {
        // The port could be taken in between by another test; then the daemon ends at once.
        for _ in 0..5 {
            let free = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = free.local_addr().unwrap().port();
            drop(free);
            let mut base_path = std::ffi::OsString::from("--base-path=");
            base_path.push(base);
            let child = Command::new("git")
                .args(["daemon", "--export-all", "--reuseaddr"])
                .args(["--listen=127.0.0.1", &format!("--port={port}")])
                .arg(base_path)
                .env("GIT_CONFIG_GLOBAL", "/dev/null")
                .env("GIT_CONFIG_NOSYSTEM", "1")
                .process_group(0)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let mut daemon = Self { child, port };
            if daemon.answers() {
                return daemon;
            }
        }
        panic!("git daemon does not start");
    }

    fn answers(&mut self) -> bool {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(10) {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }

    /// The address of the repository `name.git`.
    pub(crate) fn url(&self, name: &str) -> String {
        format!("git://127.0.0.1:{}/{name}.git", self.port)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // git is a program that starts the daemon as another one, in its group.
        let group = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        let _has_ended = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
        drop(self.child.wait());
    }
}
