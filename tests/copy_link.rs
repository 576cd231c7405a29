//! `--link`: a layer that knows nothing of what it is put on.

use crate::rig::Rig;
use crate::rig::image::{Image, Kind};

#[test]
fn a_linked_layer_is_used_again_on_another_base() {
    let rig = Rig::new();
    rig.write("d/file", "linked");
    let copy = "COPY --link d /opt/";
    let first = rig.image(&format!("FROM base\n{copy}\nRUN cat /opt/file"));
    rig.dockerfile(&format!(
        "FROM base\nRUN touch /new\n{copy}\nRUN cat /opt/file /new"
    ));
    let archive = rig.path("second.tar");
    let output = format!("type=oci,dest={}", archive.display());
    let outcome = rig.build(&["-o", &output]).succeeds();
    assert!(outcome.is_cached(copy), "{}", outcome.stderr);
    let second = Image::open(&archive);
    let linked =
        |image: &Image, from_end: usize| image.layers[image.layers.len() - from_end].tar.clone();
    assert!(linked(&first, 1) == linked(&second, 1), "the same layer");
    assert_eq!(second.text("opt/file"), "linked");
    assert!(second.has("new"));
}

#[test]
fn a_linked_layer_holds_files_once_whatever_it_stands_on() {
    let rig = Rig::new();
    rig.write("big", vec![b'x'; 1 << 20]);
    for base in ["", "RUN touch /1\n", "RUN touch /2\n", "RUN touch /3\n"] {
        rig.dockerfile(&format!("FROM base\n{base}COPY --link big /opt/"));
        rig.build(&["-o", "type=cacheonly"]).succeeds();
    }
    let copies = rig
        .store_listing()
        .iter()
        .filter(|line| line.ends_with("/big 1048576"))
        .count();
    assert_eq!(copies, 1);
}

#[test]
fn a_linked_layer_knows_nothing_of_what_is_below() {
    let rig = Rig::new();
    rig.write("d/file", "new")
        .write("d/sub/x", "x")
        .chmod("d/sub", 0o711);
    let below = "FROM base\nRUN mkdir -p -m 700 /real /dir/sub /dir/old && ln -s /real /to && \
                 touch /dir/sub/kept && chmod 700 /dir /dir/sub\n";
    // A link is no directory to a layer that does not see it: it is replaced.
    let image = rig.image(&format!("{below}COPY --link d /to/"));
    assert_eq!(image.file("to").kind, Kind::Directory);
    assert_eq!(image.text("to/file"), "new");
    assert!(!image.has("real/file"));
    // A directory that both have is reset, and what is in it stays.
    let image = rig.image(&format!(
        "{below}COPY --link d /dir/\nRUN ls /dir/sub/kept /dir/old /dir/sub/x > /seen"
    ));
    assert_eq!(image.file("dir").mode, 0o755);
    assert_eq!(image.file("dir/sub").mode, 0o711);
    assert!(image.has("dir/sub/kept") && image.has("dir/old"));
    assert!(
        image
            .text("seen")
            .starts_with("/dir/sub/kept\n/dir/sub/x\n")
    );
    // A file where the layer has a directory.
    let image = rig.image("FROM base\nCOPY --link d /etc/passwd/");
    assert_eq!(image.text("etc/passwd/file"), "new");
}

#[test]
fn a_build_sees_what_the_image_of_linked_layers_holds() {
    let rig = Rig::new();
    rig.write("d/a", "1").write("d/b", "1").write("e/a", "2");
    let image = rig.image(
        "FROM base\nCOPY --link d /o/\nRUN rm /o/b && cat /o/a > /one\nCOPY --link e /o/\n\
         COPY --link d /o/\nRUN cat /o/a /o/b > /two && rm /o/a\nCOPY --link d/a /o/a\nRUN cat /o/a > /three",
    );
    assert_eq!(image.text("one"), "1");
    assert_eq!(image.text("two"), "11");
    assert_eq!(image.text("three"), "1");
    assert!(image.has("o/a") && image.has("o/b"));
}

#[test]
fn linked_layers_work_first_alone_empty_and_from_stages() {
    let rig = Rig::new();
    rig.write("a", "1").write("f", "2");
    let image =
        rig.image("FROM scratch\nCOPY --link a f /\nCOPY --link none* /x/\nCOPY --link=false a /y");
    assert_eq!(image.layers.len(), 2);
    assert_eq!(image.last_layer(), ["y"]);
    let image = rig.image(
        "FROM base AS one\nRUN mkdir /q && echo 3 > /q/f && chmod 640 /q/f\n\
         FROM base\nWORKDIR /w\nCOPY --link --from=one /q .\nCOPY --link --chmod=600 <<EOF h\ntext\nEOF\n",
    );
    assert_eq!(
        (image.file("w/f").mode, image.file("w/h").mode),
        (0o640, 0o600)
    );
    assert_eq!(image.last_layer(), ["w", "w/h"]);
}

#[test]
fn a_linked_layer_has_the_mode_and_owner_that_it_is_given() {
    let rig = Rig::new();
    rig.write("d/f", "1");
    let image = rig.image("FROM base\nCOPY --link --chmod=750 d /n/");
    assert_eq!(
        (image.file("n").mode, image.file("n/f").mode),
        (0o750, 0o750)
    );
    for (flags, expected) in [
        ("--chown=3", (3, 3)),
        ("--chown=3:4", (3, 4)),
        ("--chown=root", (0, 0)),
        // Names need the image's files, so that with --chmod, as in BuildKit, there is no link.
        ("--chown=app --chmod=755", (1000, 1000)),
    ] {
        let image = rig.image(&format!("FROM base\nCOPY --link {flags} d /n/"));
        let node = image.file("n/f");
        assert_eq!((node.uid, node.gid), expected, "{flags}");
    }
}

#[test]
fn a_linked_layer_can_be_written_again_in_another_form() {
    let rig = Rig::new();
    rig.write("d/file", "linked");
    let dockerfile = "FROM base\nRUN mkdir -m 700 /opt\nCOPY --link d /opt/";
    // Nothing but the files is there when the first output is written.
    rig.dockerfile(dockerfile);
    rig.build(&["-o", "type=cacheonly"]).succeeds();
    let first = rig.image(dockerfile);
    for entry in ["tar", "gzip", "zstd"] {
        let archive = rig.path(entry);
        let compression = if entry == "tar" {
            "uncompressed"
        } else {
            entry
        };
        let output = format!(
            "type=oci,dest={},compression={compression}",
            archive.display()
        );
        rig.build(&["-o", &output]).succeeds();
        assert_eq!(
            Image::open(&archive).layers.last().unwrap().tar,
            first.layers.last().unwrap().tar
        );
    }
}
