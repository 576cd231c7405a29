//! Debian's docker-registry, with TLS and a password.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::outcome::Outcome;
use super::{Rig, host};

/// `user:password`, bcrypt.
const HTPASSWD: &str = "user:$2y$05$abcdefghijklmnopqrstuuWG29KuyeAicPCJODk1zjyGvyQUU2awu\n";

/// Debian's docker-registry with TLS and a password; it ends with the value.
pub(crate) struct Distribution {
    process: Child,
    pub(crate) port: u16,
    directory: PathBuf,
}

impl Distribution {
    /// `None`, and said so, where it is not installed.
    pub(crate) fn start(rig: &Rig) -> Option<Self> {
        Self::start_with(rig, "", "")
    }

    /// A registry with more keys in `http.tls` (`, key: value`), in which `CA` stands for the
    /// authority's certificate, and at the end of its configuration.
    pub(crate) fn start_with(rig: &Rig, tls: &str, more: &str) -> Option<Self> {
        if !host::tool("docker-registry") || !host::tool("openssl") {
            return None;
        }
        let directory = rig.path("registry");
        fs::create_dir(&directory).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let place = directory.display();
        let openssl = |arguments: String| {
            let mut command = Command::new("openssl");
            host::stdout_of(
                command
                    .args(arguments.split(' '))
                    .current_dir(rig.path("registry")),
            );
        };
        openssl("req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -subj /CN=ca".into());
        openssl("req -newkey rsa:2048 -nodes -keyout tls.key -out tls.csr -subj /CN=r".into());
        fs::write(
            directory.join("san"),
            "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n",
        )
        .unwrap();
        openssl(
            "x509 -req -in tls.csr -CA ca.crt -CAkey ca.key -CAcreateserial -extfile san -out tls.crt"
                .into(),
        );
        fs::write(directory.join("htpasswd"), HTPASSWD).unwrap();
        let tls = tls.replace("CA", &format!("{place}/ca.crt"));
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {place}/data}}}}\n\
             http:\n  addr: 127.0.0.1:{port}\n  tls: {{certificate: {place}/tls.crt, key: {place}/tls.key{tls}}}\n\
             auth: {{htpasswd: {{realm: r, path: {place}/htpasswd}}}}\n{more}"
        );
        fs::write(directory.join("config.yml"), config).unwrap();
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(directory.join("config.yml"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let started = Self {
            process,
            port,
            directory,
        };
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(began.elapsed() < Duration::from_secs(30), "no registry");
            std::thread::sleep(Duration::from_millis(50));
        }
        let config = rig.path("docker-config");
        fs::create_dir_all(config.join("certs.d").join(started.host())).unwrap();
        fs::copy(
            started.directory.join("ca.crt"),
            config.join("certs.d").join(started.host()).join("ca.crt"),
        )
        .unwrap();
        fs::write(
            rig.path("registries.json"),
            format!(
                r#"{{"registries":{{"{}":{{"plain-http":false}}}}}}"#,
                started.host()
            ),
        )
        .unwrap();
        Some(started)
    }

    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.host())
    }

    /// Puts a certificate of the authority for the client where rbuild looks for it.
    pub(crate) fn certify_client(&self, rig: &Rig) {
        for arguments in [
            "req -newkey rsa:2048 -nodes -keyout client.key -out client.csr -subj /CN=client",
            "x509 -req -in client.csr -CA ca.crt -CAkey ca.key -CAcreateserial -extfile san -out client.cert",
        ] {
            let mut command = Command::new("openssl");
            host::stdout_of(
                command
                    .args(arguments.split(' '))
                    .current_dir(&self.directory),
            );
        }
        for file in ["client.key", "client.cert"] {
            let place = PathBuf::from(self.authority(rig)).join(file);
            fs::copy(self.directory.join(file), place).unwrap();
        }
    }

    /// The directory with the authority's certificate and nothing else.
    pub(crate) fn authority(&self, rig: &Rig) -> String {
        let place = rig.path("docker-config/certs.d").join(self.host());
        place.display().to_string()
    }

    pub(crate) fn run(&self, rig: &Rig, arguments: &[&str]) -> Outcome {
        let mut command = rig.command(arguments);
        command.env("RBUILD_REGISTRIES", rig.path("registries.json"));
        Outcome::of(&mut command)
    }

    /// skopeo or podman, with the password and the authority.
    pub(crate) fn peer(&self, rig: &Rig, program: &str, arguments: &[&str]) -> Vec<u8> {
        let policy = rig.path("policy.json");
        fs::write(
            &policy,
            r#"{"default":[{"type":"insecureAcceptAnything"}]}"#,
        )
        .unwrap();
        let runtime = rig.path("runtime");
        fs::create_dir_all(&runtime).unwrap();
        let mut command = Command::new("timeout");
        command.args(["120", program]).args(arguments);
        command
            .env("XDG_RUNTIME_DIR", runtime)
            .current_dir(rig.path(""));
        host::stdout_of(&mut command)
    }
}

impl Drop for Distribution {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

pub(crate) fn log_in(registry: &Distribution, rig: &Rig, password: &str) -> Outcome {
    use std::io::Write as _;
    let mut child = rig
        .command(["login", "-u", "user", "--password-stdin", &registry.host()])
        .env("RBUILD_REGISTRIES", rig.path("registries.json"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    writeln!(child.stdin.take().unwrap(), "{password}").unwrap();
    Outcome::from(child.wait_with_output().unwrap())
}
