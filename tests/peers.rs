//! The same Dockerfile built by buildah gives the same files: owners, modes, links, attributes.

use std::fs;
use std::path::Path;

use crate::rig::buildah::Buildah;
use crate::rig::image::Image;
use crate::rig::tree::Tree;
use crate::rig::{Rig, base, host};

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
    let buildah = Buildah::new(&rig);
    buildah.import(tar, "base");
    for (name, dockerfile) in dockerfiles {
        let ours = rig.image(dockerfile);
        buildah.build(&rig.context(), name);
        let tree = |image: &Image| match with_content {
            true => Tree::of(image),
            false => Tree::without_contents(image),
        };
        let differences = tree(&ours).differences(&tree(&buildah.image(name)));
        assert!(differences.is_empty(), "{name}: {differences:#?}");
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

#[test]
fn builds_with_packages_are_the_same() {
    if !host::tool("buildah") || !host::maps_many_ids() {
        return;
    }
    let Some(tar) = host::debian_base() else {
        return;
    };
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
