//! Images that no honest program makes: every byte of their layers, configuration and manifest is the
//! test's.

use std::fs;

use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

use super::Rig;
use super::base::append;
use super::image::sha256;
use super::outcome::Outcome;

/// An OCI archive in the making.
pub(crate) struct Forged {
    /// Uncompressed tars.
    pub(crate) layers: Vec<Vec<u8>>,
    /// The member `config` of the configuration.
    pub(crate) settings: Value,
    pub(crate) history: Vec<Value>,
}

impl Forged {
    pub(crate) fn new(layers: Vec<Vec<u8>>) -> Self {
        Self {
            layers,
            settings: json!({"Env": ["PATH=/bin"]}),
            history: Vec::new(),
        }
    }

    /// The base of the tests with these layers on it.
    pub(crate) fn on_base(layers: Vec<Vec<u8>>) -> Self {
        let base = super::base::root_filesystem().to_vec();
        Self::new([vec![base], layers].concat())
    }

    pub(crate) fn config(&self) -> Value {
        let diff_ids: Vec<String> = self.layers.iter().map(|layer| sha256(layer)).collect();
        json!({
            "architecture": match std::env::consts::ARCH { "x86_64" => "amd64", _ => "arm64" },
            "os": "linux",
            "config": self.settings,
            "history": self.history,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        })
    }

    pub(crate) fn manifest(&self, config: &[u8]) -> Value {
        let layers: Vec<Value> = self
            .layers
            .iter()
            .map(|layer| descriptor("application/vnd.oci.image.layer.v1.tar", layer))
            .collect();
        json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("application/vnd.oci.image.config.v1+json", config),
            "layers": layers,
        })
    }

    pub(crate) fn archive(&self) -> Vec<u8> {
        let config = self.config().to_string().into_bytes();
        let manifest = self.manifest(&config).to_string().into_bytes();
        self.archive_of(&config, &manifest)
    }

    /// The archive with another configuration or manifest than its own.
    pub(crate) fn archive_of(&self, config: &[u8], manifest: &[u8]) -> Vec<u8> {
        let mut index = descriptor("application/vnd.oci.image.manifest.v1+json", manifest);
        index["annotations"] = json!({"org.opencontainers.image.ref.name": "evil:latest"});
        let index = json!({"schemaVersion": 2, "manifests": [index]}).to_string();
        let mut tar = Builder::new(Vec::new());
        let mut add = |path: &str, bytes: &[u8]| {
            append(&mut tar, EntryType::Regular, path, 0o644, bytes);
        };
        add("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
        add("index.json", index.as_bytes());
        let mut written = std::collections::BTreeSet::new();
        let layers = self.layers.iter().map(Vec::as_slice);
        for blob in layers.chain([config, manifest]) {
            let digest = sha256(blob).replace(':', "/");
            if written.insert(digest.clone()) {
                add(&format!("blobs/{digest}"), blob);
            }
        }
        tar.into_inner().unwrap()
    }
}

impl Rig {
    /// Builds on the archive, which is `evil` to the Dockerfile and `evil.tar` beside the context; the
    /// result is in `image.tar`.
    pub(crate) fn build_on(&self, image: &[u8], dockerfile: &str) -> Outcome {
        let archive = self.path("evil.tar");
        fs::write(&archive, image).unwrap();
        self.dockerfile(dockerfile);
        let context = format!("evil=oci-archive:{}", archive.display());
        let output = format!("type=oci,dest={}", self.path("image.tar").display());
        Outcome::bounded(&self.build_command(&["--build-context", &context, "-o", &output]))
    }
}

pub(crate) fn descriptor(media_type: &str, blob: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": sha256(blob), "size": blob.len()})
}

/// A tar of members whose names, links and kinds are written as they are.
pub(crate) struct Layer(Vec<u8>);

impl Layer {
    pub(crate) fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds a member that belongs to root, whose header `change` may change.
    pub(crate) fn raw(
        mut self,
        kind: u8,
        path: impl AsRef<[u8]>,
        link: impl AsRef<[u8]>,
        data: &[u8],
        change: impl FnOnce(&mut Header),
    ) -> Self {
        let (path, link) = (path.as_ref(), link.as_ref());
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::new(kind));
        header.set_mode(if kind == b'5' { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_600_000_000);
        header.set_size(data.len() as u64);
        if path.len() > 100 {
            self = self.long(b'L', path);
        }
        if link.len() > 100 {
            self = self.long(b'K', link);
        }
        let gnu = header.as_gnu_mut().unwrap();
        gnu.name[..path.len().min(100)].copy_from_slice(&path[..path.len().min(100)]);
        gnu.linkname[..link.len().min(100)].copy_from_slice(&link[..link.len().min(100)]);
        change(&mut header);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    /// GNU's header for a name or target that is longer than a header has room for.
    fn long(self, kind: u8, text: &[u8]) -> Self {
        let text = [text, &[0]].concat();
        let change: fn(&mut Header) = |_| {};
        self.raw(kind, "././@LongLink", "", &text, change)
    }

    pub(crate) fn file(self, path: impl AsRef<[u8]>, data: &str) -> Self {
        self.raw(b'0', path, "", data.as_bytes(), |_| {})
    }

    pub(crate) fn directory(self, path: impl AsRef<[u8]>) -> Self {
        self.raw(b'5', path, "", b"", |_| {})
    }

    pub(crate) fn symlink(self, path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.raw(b'2', path, target, b"", |_| {})
    }

    pub(crate) fn hard_link(self, path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.raw(b'1', path, target, b"", |_| {})
    }

    pub(crate) fn fifo(self, path: impl AsRef<[u8]>) -> Self {
        self.raw(b'6', path, "", b"", |_| {})
    }

    /// PAX records about the next member.
    pub(crate) fn records(self, records: &[(&str, &[u8])]) -> Self {
        let mut body = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest;
            while length != rest + length.to_string().len() {
                length = rest + length.to_string().len();
            }
            body.extend_from_slice(format!("{length} {key}=").as_bytes());
            body.extend_from_slice(value);
            body.push(b'\n');
        }
        self.raw(b'x', "records", "", &body, |_| {})
    }

    pub(crate) fn tar(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }

    /// The members without the end of the archive.
    pub(crate) fn unfinished(self) -> Vec<u8> {
        self.0
    }
}
