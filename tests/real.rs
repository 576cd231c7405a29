//! Dockerfiles of the kind that public projects ship give the same images with rbuild and buildah:
//! the same files and the same configuration.
//!
//! `tests/real` has them, each in a directory with its context. Their downloads are what Debian's
//! mirror, PyPI and npm's registry offer.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::{fs, thread};

use serde_json::Value;

use crate::rig::buildah::Buildah;
use crate::rig::image::Image;
use crate::rig::tree::Tree;
use crate::rig::{Rig, host};

const NAMES: [&str; 10] = [
    "memcached",
    "nginx",
    "node",
    "php",
    "postgres",
    "python",
    "redis",
    "ruby",
    "sshd",
    "static",
];

/// What the ten start from. With the package lists in it, their `apt-get update` has little to
/// fetch; and like Debian's own images it does not wait for the disk after every file.
const BASE: &str = "\
FROM debian
RUN echo force-unsafe-io > /etc/dpkg/dpkg.cfg.d/docker-apt-speedup && apt-get update
";

/// The members of the configuration that Dockerfiles write.
const SETTINGS: [&str; 12] = [
    "Cmd",
    "Entrypoint",
    "Env",
    "ExposedPorts",
    "Healthcheck",
    "Labels",
    "OnBuild",
    "Shell",
    "StopSignal",
    "User",
    "Volumes",
    "WorkingDir",
];

/// A difference that has to be there.
struct Known {
    /// A name of `NAMES`, or `*` for all of them.
    image: &'static str,
    /// A path, or a member of the configuration.
    subject: &'static str,
    reason: &'static str,
}

const KNOWN: [Known; 6] = [
    Known {
        image: "*",
        subject: "Labels io.buildah.version",
        reason: "buildah signs what it makes",
    },
    Known {
        image: "static",
        subject: "ExposedPorts 7007-7009/tcp",
        reason: "buildah writes a range as it is; BuildKit and rbuild write its ports",
    },
    Known {
        image: "static",
        subject: "ExposedPorts 7007/tcp",
        reason: "a port of the range",
    },
    Known {
        image: "static",
        subject: "ExposedPorts 7008/tcp",
        reason: "a port of the range",
    },
    Known {
        image: "static",
        subject: "ExposedPorts 7009/tcp",
        reason: "a port of the range",
    },
    Known {
        image: "static",
        subject: "WorkingDir",
        reason: "BuildKit and rbuild start from scratch in /, which buildah leaves unsaid",
    },
];

/// What of an image is compared.
struct Compared {
    tree: Tree,
    /// Members of maps, and variables, each for itself: `Labels maintainer`.
    settings: BTreeMap<String, Value>,
}

impl From<Image> for Compared {
    fn from(image: Image) -> Self {
        let mut settings = BTreeMap::new();
        for name in SETTINGS {
            match image.setting(name) {
                // A member that is absent and one that is empty mean the same.
                Value::Null => {}
                Value::String(text) if text.is_empty() => {}
                Value::Array(list) if list.is_empty() => {}
                Value::Array(list) if name == "Env" => {
                    for variable in list {
                        let (key, value) = variable.as_str().unwrap().split_once('=').unwrap();
                        let before = settings.insert(format!("Env {key}"), value.into());
                        assert_eq!(before, None, "{key} is in Env twice");
                    }
                }
                Value::Object(map) if name != "Healthcheck" => {
                    for (key, value) in map {
                        settings.insert(format!("{name} {key}"), value.clone());
                    }
                }
                value => drop(settings.insert(name.to_owned(), value.clone())),
            }
        }
        Self {
            tree: Tree::without_contents(&image),
            settings,
        }
    }
}

impl Compared {
    fn differences(&self, theirs: &Self) -> BTreeMap<String, String> {
        let mut differences = self.tree.differences(&theirs.tree);
        let names: BTreeSet<&String> = self.settings.keys().chain(theirs.settings.keys()).collect();
        for name in names {
            let (ours, theirs) = (self.settings.get(name), theirs.settings.get(name));
            if ours != theirs {
                let told = |value: Option<&Value>| value.map_or("absent".into(), Value::to_string);
                let both = format!("\n  rbuild:  {}\n  buildah: {}", told(ours), told(theirs));
                differences.insert(name.clone(), both);
            }
        }
        differences
    }
}

#[test]
fn real_dockerfiles_give_the_same_images() {
    if !host::tool("buildah") || !host::maps_many_ids() {
        return;
    }
    let Some(tar) = host::debian_base() else {
        return;
    };
    let rig = Rig::empty();
    // Files of the context belong to the user, as in a checkout.
    host::stdout_of(
        Command::new("cp")
            .arg("-r")
            .arg(host::source().join("tests/real"))
            .arg(rig.path("real")),
    );
    let base = rig.path("base");
    fs::create_dir(&base).unwrap();
    fs::write(base.join("Dockerfile"), BASE).unwrap();
    let (ours, theirs) = thread::scope(|scope| {
        let theirs = scope.spawn(|| with_buildah(&rig, &tar, &base));
        (with_rbuild(&rig, &tar, &base), theirs.join().unwrap())
    });

    let mut unexpected = Vec::new();
    let mut met = BTreeSet::new();
    for name in NAMES {
        for (subject, difference) in ours[name].differences(&theirs[name]) {
            let known = KNOWN
                .iter()
                .position(|known| [name, "*"].contains(&known.image) && known.subject == subject);
            match known {
                Some(known) => drop(met.insert((known, name))),
                None => unexpected.push(format!("{name}: {subject}{difference}")),
            }
        }
    }
    for (index, known) in KNOWN.iter().enumerate() {
        for name in NAMES {
            if [name, "*"].contains(&known.image) && !met.contains(&(index, name)) {
                unexpected.push(format!(
                    "{name}: {} is the same, though: {}",
                    known.subject, known.reason
                ));
            }
        }
    }
    assert!(unexpected.is_empty(), "{}", unexpected.join("\n"));
}

fn with_rbuild(rig: &Rig, tar: &Path, base: &Path) -> BTreeMap<&'static str, Compared> {
    rig.rbuild(["import", tar.to_str().unwrap(), "debian"])
        .succeeds();
    rig.rbuild(["build", "-t", "base", base.to_str().unwrap()])
        .succeeds();
    let layout = rig.path("layout");
    let output = format!(
        "type=oci,tar=false,dest={},compression=uncompressed",
        layout.display()
    );
    let build = |name| {
        let context = rig.path("real").join(name);
        rig.rbuild([
            "build",
            "--progress=plain",
            "-o",
            &output,
            context.to_str().unwrap(),
        ])
        .succeeds();
        let compared = Compared::from(Image::open(&layout));
        fs::remove_dir_all(&layout).unwrap();
        (name, compared)
    };
    NAMES.into_iter().map(build).collect()
}

fn with_buildah(rig: &Rig, tar: &Path, base: &Path) -> BTreeMap<&'static str, Compared> {
    let buildah = Buildah::new(rig);
    buildah.import(tar, "debian");
    buildah.build(base, "base");
    let build = |name| {
        buildah.build(&rig.path("real").join(name), name);
        (name, Compared::from(buildah.image(name)))
    };
    NAMES.into_iter().map(build).collect()
}

#[test]
fn every_real_dockerfile_is_compared() {
    let listed = fs::read_dir(host::source().join("tests/real")).unwrap();
    let listed: BTreeSet<_> = listed
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(listed, NAMES.map(str::to_owned).into());
}
