//! The same Dockerfile built by buildah gives the same files: owners, modes, links, attributes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::rig::image::{Image, Kind, Node};
use crate::rig::{Rig, base, host};

/// What buildah or rbuild themselves put into a container; not the Dockerfile's doing.
const OF_THE_BUILDER: [&str; 8] = [
    "dev",
    "etc/hostname",
    "etc/hosts",
    "etc/mtab",
    "etc/resolv.conf",
    "proc",
    "run",
    "sys",
];

/// buildah with its state below a rig's directory.
struct Buildah<'a> {
    rig: &'a Rig,
}

impl Buildah<'_> {
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
        if ["build", "push", "from"].contains(&arguments[0]) {
            command.arg("--signature-policy").arg(&policy);
        }
        command
            .args(&arguments[1..])
            .env("XDG_RUNTIME_DIR", runtime)
            .env("BUILDAH_ISOLATION", "chroot")
            .current_dir(self.rig.path(""));
        command
    }

    /// Makes `base` from the same tar that rbuild imported.
    fn make_base(&self, tar: &Path) {
        let context = self.rig.path("base-context");
        fs::create_dir(&context).unwrap();
        fs::hard_link(tar, context.join("base.tar"))
            .or_else(|_| fs::copy(tar, context.join("base.tar")).map(drop))
            .unwrap();
        fs::write(context.join("Dockerfile"), "FROM scratch\nADD base.tar /\n").unwrap();
        self.build(&context, "base");
    }

    fn build(&self, context: &Path, tag: &str) {
        let context = context.to_str().unwrap();
        host::stdout_of(&mut self.command(&["build", "--layers", "-t", tag, context]));
    }

    fn image(&self, tag: &str) -> Image {
        let archive = self.rig.path("buildah.tar");
        let destination = format!("oci-archive:{}", archive.display());
        host::stdout_of(&mut self.command(&["push", tag, &destination]));
        Image::open(&archive)
    }
}

/// What of a file has to be equal.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fact {
    kind: Kind,
    mode: u32,
    owner: (u64, u64),
    symlink: Option<String>,
    /// The names of this file, where it has several.
    names: BTreeSet<String>,
    xattrs: BTreeMap<String, Vec<u8>>,
    content: Option<Vec<u8>>,
}

fn facts(image: &Image, with_content: bool) -> BTreeMap<String, Fact> {
    let files = image.files();
    let mut names: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (path, node) in &files {
        if node.kind == Kind::HardLink {
            let target = first_name(&files, path);
            names
                .entry(target)
                .or_default()
                .extend([path.clone(), target.to_owned()]);
        }
    }
    let own = |path: &&String| {
        !OF_THE_BUILDER.iter().any(|builder| {
            path.strip_prefix(builder)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    };
    files
        .keys()
        .filter(own)
        .map(|path| {
            let first = first_name(&files, path);
            let node = &files[first];
            let fact = Fact {
                kind: node.kind,
                mode: if node.kind == Kind::Symlink {
                    0
                } else {
                    node.mode
                },
                owner: (node.uid, node.gid),
                symlink: node.link.clone(),
                names: names.get(first).cloned().unwrap_or_default(),
                // buildah's rootless overlay leaks its bookkeeping into layers; rbuild's does not
                // (`no_attribute_of_the_overlay_reaches_a_layer`).
                xattrs: node
                    .xattrs
                    .iter()
                    .filter(|(name, _)| !name.starts_with("user.overlay."))
                    .map(|(name, value)| (name.clone(), value.clone()))
                    .collect(),
                content: with_content.then(|| node.content.clone()),
            };
            (path.clone(), fact)
        })
        .collect()
}

/// The name under which the content of `path` stands in its layer.
fn first_name<'a>(files: &'a BTreeMap<String, Node>, path: &'a str) -> &'a str {
    match &files[path] {
        node if node.kind == Kind::HardLink => {
            let target = node.link.as_deref().unwrap();
            let target = target.trim_start_matches("./").trim_start_matches('/');
            first_name(files, target)
        }
        _ => path,
    }
}

#[track_caller]
fn compare(name: &str, ours: &Image, theirs: &Image, with_content: bool) {
    let (ours, theirs) = (facts(ours, with_content), facts(theirs, with_content));
    let mut differences = Vec::new();
    let paths: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
    // The root directory is not in every layer format's dialect.
    for path in paths.into_iter().filter(|path| !path.is_empty()) {
        match (ours.get(path), theirs.get(path)) {
            (Some(ours), Some(theirs)) if ours == theirs => {}
            (ours, theirs) => differences.push(format!(
                "{path}\n  rbuild:  {}\n  buildah: {}",
                told(ours),
                told(theirs)
            )),
        }
    }
    assert!(
        differences.is_empty(),
        "{name}:\n{}",
        differences.join("\n")
    );
}

fn told(fact: Option<&Fact>) -> String {
    fact.map_or("absent".to_owned(), |fact| {
        let mut fact = fact.clone();
        if let Some(content) = &mut fact.content {
            content.truncate(40);
        }
        format!("{fact:?}")
    })
}

/// A compressed archive with every kind of member that both unpack.
fn archive() -> Vec<u8> {
    let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut tar = tar::Builder::new(gzip);
    for (path, mode, owner) in [
        ("top/", 0o750, 7),
        ("top/file", 0o4640, 8),
        ("deep/er/f", 0o600, 0),
    ] {
        let mut header = tar::Header::new_gnu();
        let is_directory = path.ends_with('/');
        header.set_entry_type(if is_directory {
            tar::EntryType::Directory
        } else {
            tar::EntryType::Regular
        });
        header.set_mode(mode);
        header.set_uid(owner);
        header.set_gid(owner + 1);
        header.set_size(0);
        tar.append_data(&mut header, path, &b""[..]).unwrap();
    }
    for (kind, path, target) in [
        (tar::EntryType::Symlink, "top/link", "/etc"),
        (tar::EntryType::Link, "top/hard", "top/file"),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        // What a hard link says of itself is what its file says.
        header.set_mode(0o4640);
        header.set_uid(8);
        header.set_gid(9);
        header.set_size(0);
        tar.append_link(&mut header, path, target).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

/// Builds every Dockerfile with both, on a base from `tar`, and compares.
fn same_as_buildah(tar: &Path, dockerfiles: &[(&str, &str)], with_content: bool) {
    let rig = Rig::empty();
    rig.rbuild(["import", tar.to_str().unwrap(), "base"])
        .succeeds();
    rig.write("dir/file", "file")
        .write("dir/sub/script", "#!/bin/sh\n")
        .chmod("dir/sub/script", 0o755);
    rig.write("app.c", "int main(void) { return 42; }\n");
    std::os::unix::fs::symlink("file", rig.context().join("dir/link")).unwrap();
    rig.write("t/a.txt", "a")
        .write("t/b.md", "b")
        .write("t/s/c.txt", "c");
    rig.write("one.tar.gz", archive()).chmod("t/s", 0o711);
    fs::hard_link(rig.context().join("t/a.txt"), rig.context().join("t/hard")).unwrap();
    std::os::unix::fs::symlink("t", rig.context().join("to-t")).unwrap();
    let buildah = Buildah { rig: &rig };
    buildah.make_base(tar);
    for (name, dockerfile) in dockerfiles {
        let ours = rig.image(dockerfile);
        buildah.build(&rig.context(), name);
        compare(name, &ours, &buildah.image(name), with_content);
    }
}

#[test]
fn copies_and_archives_are_the_same() {
    if !host::tool("buildah") || !host::maps_many_ids() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let tar = directory.path().join("base.tar");
    fs::write(&tar, base::root_filesystem()).unwrap();
    same_as_buildah(
        &tar,
        &[
            (
                "files",
                "FROM base\nCOPY t/a.txt /n1\nCOPY t/a.txt t/b.md /n2/\nCOPY t/a.txt /etc\nWORKDIR /w\nCOPY t/a.txt .\nCOPY t/a.txt s/n\nCOPY t/a.txt ../up\nCOPY [\"t/a.txt\", \"/s p\"]\n",
            ),
            (
                "trees",
                "FROM base\nRUN mkdir -p /m/s && chmod 700 /m /m/s && echo k > /m/k\nCOPY t /m\nCOPY t/ /n\nCOPY t dir /both/\nCOPY to-t /via\nCOPY to-t/s/c.txt /c\n",
            ),
            (
                "wildcards",
                "FROM base\nCOPY t/*.txt /n1/\nCOPY t/?.[mt]* /n2/\nCOPY t/[^a]* /n3/\n",
            ),
            (
                "destinations",
                "FROM base\nRUN mkdir /real && ln -s /real /abs && ln -s real /rel && echo f > /real/f && ln -s real/f /file\nCOPY t /abs/x\nCOPY t/a.txt /rel/\nCOPY t/b.md /abs\n",
            ),
            (
                "chown",
                "FROM base\nRUN echo w:x:1500:1600::/:/x >> /etc/passwd\nCOPY --chown=w t /n1\nCOPY --chown=app:wheel t/a.txt /n2/\nCOPY --chown=9:10 t /n3/n4\nCOPY --chown=11 t/a.txt /n5\n",
            ),
            (
                "chmod",
                "FROM base\nCOPY --chmod=640 t/a.txt /n1\nCOPY --chmod=4751 t/a.txt t/b.md /etc/\nADD --chmod=600 t/b.md /n2\n",
            ),
            (
                "archives",
                "FROM base\nADD one.tar.gz /n1/\nADD one.tar.gz /n2\nCOPY one.tar.gz /n3/\nADD one.* /n4/\nWORKDIR /w\nADD one.tar.gz .\n",
            ),
            (
                "stage-files",
                "FROM base AS one\nCOPY --chown=3:4 t /q\nRUN chmod 2750 /q/s && mkfifo /q/p && ln -s s /q/l\nFROM base\nCOPY --from=one /q /n\nCOPY --from=one /q/l /via\nCOPY --from=0 --chown=5 q/a.txt q/b.md /m/\n",
            ),
        ],
        true,
    );
}

#[test]
fn small_builds_on_busybox_are_the_same() {
    if !host::tool("buildah") || !host::maps_many_ids() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let tar = directory.path().join("base.tar");
    fs::write(&tar, base::root_filesystem()).unwrap();
    same_as_buildah(
        &tar,
        &[
            (
                "copies",
                "FROM base\nCOPY dir /d\nCOPY --chown=1000:50 dir/sub/script /bin/tool\nADD dir/file /x/y/\n",
            ),
            (
                "owners",
                "FROM base\nRUN echo worker:x:1500:1500::/:/bin/sh >> /etc/passwd && mkdir -p /srv/w && echo 1 > /srv/w/f && chown -R worker:50 /srv && chmod 4750 /srv/w/f && chmod 2775 /srv/w\n",
            ),
            (
                "links-and-whiteouts",
                "FROM base\nRUN mkdir /d && echo 1 > /d/a && ln /d/a /d/b && ln -s a /d/c && touch /d/gone\nRUN rm /d/gone && ln /d/b /d/e && chmod 600 /d/a\nRUN rm -r /d && mkdir /d && touch /d/new\n",
            ),
            (
                "stages",
                "FROM base AS one\nRUN mkdir -p /out/deep && echo 1 > /out/deep/f && chown 7:8 /out/deep && chmod 700 /out/deep\nFROM base\nCOPY --from=one /out /in\nCOPY --from=one /out/deep/f /f\n",
            ),
            (
                "workdir",
                "FROM base\nUSER app\nWORKDIR /home/app/a/b\nRUN touch c && mkfifo d\n",
            ),
        ],
        true,
    );
}

/// The base that `scripts/quickstart-base` makes; `scripts/test` names it.
fn debian_base() -> Option<PathBuf> {
    let base = std::env::var_os("RBUILD_TEST_DEBIAN").map(PathBuf::from);
    if base.is_none() {
        host::skip("RBUILD_TEST_DEBIAN names no base");
    }
    base
}

#[test]
fn builds_with_packages_are_the_same() {
    if !host::tool("buildah") || !host::maps_many_ids() {
        return;
    }
    let Some(tar) = debian_base() else { return };
    // Logs, keys and caches differ from run to run, so contents are not compared.
    same_as_buildah(
        &tar,
        &[
            (
                "packages",
                "FROM base\nRUN apt-get update && apt-get install -y --no-install-recommends nginx-light openssh-server\n",
            ),
            (
                "application",
                "FROM base\nRUN useradd --create-home worker\nCOPY dir /srv/app\nRUN chown -R worker:worker /srv/app && passwd -d worker\n",
            ),
            (
                "compiled",
                "FROM base AS build\nRUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev\n\
                 COPY app.c .\nRUN gcc -static -o /app app.c\nFROM scratch\nCOPY --from=build /app /app\n",
            ),
        ],
        false,
    );
}
