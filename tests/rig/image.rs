//! Reads a produced image without any of rbuild's code: another opinion on what is in it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::Path;

use serde_json::Value;
use tar::{Archive, EntryType};

/// An image as its consumer gets it.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) manifest_digest: String,
    pub(crate) manifest: Value,
    /// The configuration's digest, which is the image id.
    pub(crate) id: String,
    pub(crate) config: Value,
    /// The names in `org.opencontainers.image.ref.name` and `io.containerd.image.name`.
    pub(crate) names: Vec<String>,
    pub(crate) layers: Vec<Layer>,
}

#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) media_type: String,
    /// In the order of the tar.
    pub(crate) entries: Vec<(String, Node)>,
    pub(crate) tar: Vec<u8>,
}

/// One file, as a tar entry tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    pub(crate) mtime: u64,
    /// The target of a symbolic or hard link.
    pub(crate) link: Option<String>,
    pub(crate) content: Vec<u8>,
    pub(crate) xattrs: BTreeMap<String, Vec<u8>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    Symlink,
    HardLink,
    Fifo,
    Character { major: u32, minor: u32 },
    Block { major: u32, minor: u32 },
}

/// The bytes of an OCI layout or archive by path.
type Files = BTreeMap<String, Vec<u8>>;

impl Image {
    /// Reads an OCI layout (a directory, or a tar of one), or what skopeo and buildah call `dir:`.
    #[track_caller]
    pub(crate) fn open(path: &Path) -> Self {
        if path.is_dir() {
            let mut files = Files::new();
            read_directory(path, "", &mut files);
            match files.get("manifest.json") {
                Some(manifest) => Self::from_manifest(manifest, &files, Vec::new()),
                None => Self::from_layout(&files),
            }
        } else {
            Self::from_archive(&fs::read(path).unwrap())
        }
    }

    #[track_caller]
    pub(crate) fn from_archive(tar: &[u8]) -> Self {
        Self::from_layout(&files_of(tar))
    }

    #[track_caller]
    fn from_layout(files: &Files) -> Self {
        let layout = json(&files["oci-layout"]);
        assert_eq!(layout["imageLayoutVersion"], "1.0.0");
        let mut index = json(&files["index.json"]);
        let names = annotated_names(&index);
        let mut descriptor = index["manifests"][0].take();
        if media_type(&descriptor).contains("index") {
            index = json(blob(files, &descriptor));
            descriptor = index["manifests"][0].take();
        }
        Self::from_manifest(blob(files, &descriptor), files, names)
    }

    #[track_caller]
    fn from_manifest(manifest: &[u8], files: &Files, names: Vec<String>) -> Self {
        let manifest_digest = sha256(manifest);
        let manifest = json(manifest);
        let config = json(blob(files, &manifest["config"]));
        let layers = manifest["layers"].as_array().unwrap().iter();
        let layers: Vec<Layer> = layers
            .map(|layer| Layer::read(media_type(layer), blob(files, layer)))
            .collect();
        let diff_ids = config["rootfs"]["diff_ids"].as_array().unwrap();
        assert_eq!(diff_ids.len(), layers.len(), "a diff id for each layer");
        let descriptors = manifest["layers"].as_array().unwrap();
        for ((diff_id, layer), descriptor) in diff_ids.iter().zip(&layers).zip(descriptors) {
            let digest = match layer.is_compressed() {
                true => sha256(&layer.tar),
                // Found to be true when the blob was read.
                false => descriptor["digest"].as_str().unwrap().to_owned(),
            };
            assert_eq!(diff_id, &digest, "diff ids are those of the tars");
        }
        Self {
            manifest_digest,
            id: manifest["config"]["digest"].as_str().unwrap().to_owned(),
            manifest,
            config,
            names,
            layers,
        }
    }

    /// The layers applied in order: what a container sees.
    pub(crate) fn files(&self) -> BTreeMap<String, Node> {
        flatten(&self.layers)
    }

    /// The file at `path`, written without a leading slash.
    #[track_caller]
    pub(crate) fn file(&self, path: &str) -> Node {
        let mut files = self.files();
        files
            .remove(path)
            .unwrap_or_else(|| panic!("{path} is not among {:?}", files.keys()))
    }

    pub(crate) fn has(&self, path: &str) -> bool {
        self.files().contains_key(path)
    }

    #[track_caller]
    pub(crate) fn text(&self, path: &str) -> String {
        String::from_utf8(self.file(path).content).unwrap()
    }

    /// The paths of the topmost layer.
    pub(crate) fn last_layer(&self) -> Vec<&str> {
        let layer = self.layers.last().unwrap();
        layer.entries.iter().map(|(path, _)| &**path).collect()
    }

    /// A member of `config`, the part that a container runtime uses.
    pub(crate) fn setting(&self, name: &str) -> &Value {
        &self.config["config"][name]
    }
}

impl Layer {
    pub(crate) fn read(media_type: &str, blob: &[u8]) -> Self {
        let mut tar = Vec::new();
        if media_type.ends_with("gzip") {
            flate2::read::MultiGzDecoder::new(blob)
                .read_to_end(&mut tar)
                .unwrap();
        } else if media_type.ends_with("zstd") {
            tar = zstd::decode_all(blob).unwrap();
        } else {
            tar.extend_from_slice(blob);
        }
        Self {
            media_type: media_type.to_owned(),
            entries: entries_of(&tar),
            tar,
        }
    }

    fn is_compressed(&self) -> bool {
        ["gzip", "zstd"]
            .iter()
            .any(|compression| self.media_type.ends_with(compression))
    }
}

/// The regular files of a tar.
pub(crate) fn files_of(tar: &[u8]) -> Files {
    entries_of(tar)
        .into_iter()
        .filter(|(_, node)| node.kind == Kind::File)
        .map(|(path, node)| (path, node.content))
        .collect()
}

/// The entries of a tar in their order, paths without leading `./` and trailing slash.
pub(crate) fn entries_of(tar: &[u8]) -> Vec<(String, Node)> {
    let mut archive = Archive::new(tar);
    let entries = archive.entries().unwrap();
    entries
        .map(|entry| {
            let mut entry = entry.unwrap();
            let mut xattrs = BTreeMap::new();
            if let Some(extensions) = entry.pax_extensions().unwrap() {
                for extension in extensions.map(Result::unwrap) {
                    if let Some(name) = extension.key().unwrap().strip_prefix("SCHILY.xattr.") {
                        xattrs.insert(name.to_owned(), extension.value_bytes().to_vec());
                    }
                }
            }
            let path = clean(&String::from_utf8_lossy(&entry.path_bytes()));
            let link = entry
                .link_name_bytes()
                .map(|link| String::from_utf8_lossy(&link).into_owned());
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            let header = entry.header();
            let device = || {
                (
                    header.device_major().unwrap().unwrap(),
                    header.device_minor().unwrap().unwrap(),
                )
            };
            let kind = match header.entry_type() {
                EntryType::Regular | EntryType::Continuous => Kind::File,
                EntryType::Directory => Kind::Directory,
                EntryType::Symlink => Kind::Symlink,
                EntryType::Link => Kind::HardLink,
                EntryType::Fifo => Kind::Fifo,
                EntryType::Char => {
                    let (major, minor) = device();
                    Kind::Character { major, minor }
                }
                EntryType::Block => {
                    let (major, minor) = device();
                    Kind::Block { major, minor }
                }
                other => panic!("{path}: entry type {other:?}"),
            };
            let node = Node {
                kind,
                mode: header.mode().unwrap() & 0o7777,
                uid: entry.header().uid().unwrap(),
                gid: entry.header().gid().unwrap(),
                mtime: entry.header().mtime().unwrap(),
                link,
                content,
                xattrs,
            };
            (path, node)
        })
        .collect()
}

/// Applies layers in order, with the whiteouts of the image specification.
pub(crate) fn flatten(layers: &[Layer]) -> BTreeMap<String, Node> {
    let mut files: BTreeMap<String, Node> = BTreeMap::new();
    for layer in layers {
        // Whiteouts hide what lower layers have, never what stands in their own layer.
        for (path, _) in &layer.entries {
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
            if name == ".wh..wh..opq" {
                remove_below(&mut files, parent);
            } else if let Some(hidden) = name.strip_prefix(".wh.") {
                let hidden = match parent {
                    "" => hidden.to_owned(),
                    parent => format!("{parent}/{hidden}"),
                };
                files.remove(&hidden);
                remove_below(&mut files, &hidden);
            }
        }
        for (path, node) in &layer.entries {
            let name = path.rsplit('/').next().unwrap();
            if name.starts_with(".wh.") {
                continue;
            }
            if node.kind != Kind::Directory {
                remove_below(&mut files, path);
            }
            files.insert(path.clone(), node.clone());
        }
    }
    files
}

fn remove_below(files: &mut BTreeMap<String, Node>, directory: &str) {
    let prefix = match directory {
        "" => String::new(),
        directory => format!("{directory}/"),
    };
    // The root is below nothing.
    let below: Vec<String> = files
        .range(prefix.clone()..)
        .map(|(path, _)| path)
        .take_while(|path| path.starts_with(&prefix))
        .filter(|path| !path.is_empty())
        .cloned()
        .collect();
    for path in below {
        files.remove(&path);
    }
}

fn clean(path: &str) -> String {
    let path = path.trim_start_matches("./").trim_matches('/');
    if path == "." {
        String::new()
    } else {
        path.to_owned()
    }
}

fn read_directory(root: &Path, below: &str, files: &mut Files) {
    for entry in fs::read_dir(root.join(below)).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        let path = clean(&format!("{below}/{name}"));
        if entry.file_type().unwrap().is_dir() {
            read_directory(root, &path, files);
        } else {
            files.insert(path, fs::read(entry.path()).unwrap());
        }
    }
}

fn annotated_names(index: &Value) -> Vec<String> {
    let manifests = index["manifests"].as_array().unwrap().iter();
    manifests
        .flat_map(|descriptor| {
            [
                "io.containerd.image.name",
                "org.opencontainers.image.ref.name",
            ]
            .map(|key| descriptor["annotations"][key].as_str().map(str::to_owned))
        })
        .flatten()
        .collect()
}

fn media_type(descriptor: &Value) -> &str {
    descriptor["mediaType"].as_str().unwrap()
}

/// The blob of `descriptor`, after its size and digest were found to be true.
#[track_caller]
fn blob<'a>(files: &'a Files, descriptor: &Value) -> &'a [u8] {
    let digest = descriptor["digest"].as_str().unwrap();
    let blob = files
        .get(&format!("blobs/{}", digest.replace(':', "/")))
        // Where `dir:` has its blobs.
        .unwrap_or_else(|| &files[digest.trim_start_matches("sha256:")]);
    assert_eq!(descriptor["size"], blob.len(), "size of {digest}");
    assert_eq!(digest, sha256(blob), "digest of {digest}");
    blob
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    let mut digest = String::from("sha256:");
    for byte in sha2::Sha256::digest(bytes) {
        digest.push_str(&format!("{byte:02x}"));
    }
    digest
}

#[track_caller]
pub(crate) fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

#[cfg(test)]
mod self_test {
    use super::*;
    use crate::rig::base::append;

    fn layer(paths: &[&str]) -> Layer {
        let mut tar = tar::Builder::new(Vec::new());
        for path in paths {
            let kind = match path.ends_with('/') {
                true => EntryType::Directory,
                false => EntryType::Regular,
            };
            append(&mut tar, kind, path, 0o644, b"");
        }
        Layer::read("tar", &tar.into_inner().unwrap())
    }

    #[test]
    fn whiteouts_and_opaque_directories_hide_what_is_below() {
        let layers = [
            layer(&["a/", "a/1", "a/2", "b/", "b/1", "ab"]),
            layer(&["a/", "a/.wh.1", "b/", "b/.wh..wh..opq", "b/2"]),
        ];
        let left: Vec<String> = flatten(&layers).into_keys().collect();
        assert_eq!(left, ["a", "a/2", "ab", "b", "b/2"]);
    }

    #[test]
    fn a_file_that_replaces_a_directory_takes_its_children_away() {
        let left: Vec<String> = flatten(&[layer(&["a/", "a/1"]), layer(&["a"])])
            .into_keys()
            .collect();
        assert_eq!(left, ["a"]);
    }
}
