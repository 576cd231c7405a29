//! Owners in images, whether the kernel has them as ids or they are records: the same Dockerfile gives
//! the same layers.

use crate::rig::image::{Image, Kind, Node};
use crate::rig::outcome::Outcome;
use crate::rig::{Rig, host};

fn owner(node: &Node) -> (u64, u64) {
    (node.uid, node.gid)
}

#[track_caller]
fn assert_owners(image: &Image, expected: &[(&str, (u64, u64), u32)]) {
    for (path, ids, mode) in expected {
        let node = image.file(path);
        assert_eq!((owner(&node), node.mode), (*ids, *mode), "{path}");
    }
}

#[test]
fn every_kind_of_file_keeps_its_owner_over_ten_layers() {
    let rig = Rig::new();
    let mut dockerfile = String::from(
        "FROM base\nRUN mkdir /d && cd /d && echo 1 > file && ln -s file link && mkfifo fifo && mkdir dir && \
         chown -h 10:20 file link fifo dir && chown 30:40 .\n",
    );
    for step in 0..9 {
        dockerfile.push_str(&format!(
            "RUN touch /d/file{step} && chmod 64{} /d/fifo && touch -h /d/link && \
            test $(stat -c %u:%g /d/link) = 10:20 && test $(stat -c %u:%g /d/fifo) = 10:20\n",
            step % 8
        ));
    }
    dockerfile.push_str("RUN mv /d/link /d/moved && ln /d/fifo /d/same && echo 2 >> /d/file\n");
    let image = rig.image(&dockerfile);
    assert_owners(
        &image,
        &[
            ("d", (30, 40), 0o755),
            ("d/file", (10, 20), 0o644),
            ("d/moved", (10, 20), 0o777),
            ("d/fifo", (10, 20), 0o640),
            ("d/dir", (10, 20), 0o755),
            ("d/file8", (0, 0), 0o644),
        ],
    );
    assert!(!image.has("d/link"));
}

#[test]
fn a_user_owns_what_it_makes_in_every_way() {
    let rig = Rig::new();
    let image = rig.image(
        "FROM base\nRUN mkdir -m 2777 /shared && chown 5:6 /shared && mkdir -m 777 /open\nUSER app:wheel\n\
         WORKDIR /open\nRUN umask 027 && touch f && mkdir d && ln -s x l && mkfifo p && mknod n p && \
         ln -s behind s && echo > s && touch /shared/f && mkdir /shared/d && cp f c && id -u > id\n\
         RUN ! chown 0 f && ! chown 1 f && chown :wheel f && ! chroot / true",
    );
    assert_owners(
        &image,
        &[
            ("open/f", (1000, 10), 0o640),
            ("open/d", (1000, 10), 0o750),
            ("open/l", (1000, 10), 0o777),
            ("open/p", (1000, 10), 0o640),
            ("open/n", (1000, 10), 0o640),
            ("open/behind", (1000, 10), 0o640),
            ("shared/f", (1000, 6), 0o640),
            ("shared/d", (1000, 6), 0o2750),
        ],
    );
    assert_eq!(image.text("open/id"), "1000\n");
}

#[test]
fn owners_come_with_bases_stages_and_exports() {
    let rig = Rig::new();
    rig.write("f", "1");
    rig.dockerfile(
        "FROM base\nRUN mkdir /d && touch /d/f && ln -s f /d/l && mkfifo /d/p && chown -hR 7:8 /d && chmod 4755 /d/f",
    );
    rig.build(&["-t", "owned"]).succeeds();
    rig.dockerfile(
        "FROM owned AS first\nRUN test \"$(stat -c %u:%g:%a /d/f)\" = 7:8:4755 && chown -h 9 /d/l\n\
         FROM base\nCOPY --from=first /d /copied\nCOPY --from=owned --chown=3:4 /d /given\nCOPY --chown=5 f /f\n\
         RUN stat -c '%n %u:%g' /copied/* /given/* > /seen",
    );
    let archive = rig.path("root.tar");
    let output = format!("type=tar,dest={}", archive.display());
    let image =
        rig.image(&std::fs::read_to_string(rig.path("context/Dockerfile")).unwrap_or_default());
    assert_eq!(
        image.text("seen"),
        "/copied/f 7:8\n/copied/l 9:8\n/copied/p 7:8\n/given/f 3:4\n/given/l 3:4\n/given/p 3:4\n"
    );
    let expected: [(&str, (u64, u64), u32); 5] = [
        ("copied/f", (7, 8), 0o4755),
        ("copied/l", (9, 8), 0o777),
        ("copied/p", (7, 8), 0o644),
        ("given/l", (3, 4), 0o777),
        ("f", (5, 5), 0o644),
    ];
    assert_owners(&image, &expected);
    rig.build(&["-o", &output]).succeeds();
    let entries = crate::rig::image::entries_of(&std::fs::read(&archive).unwrap());
    for (path, ids, _) in expected {
        let found = entries
            .iter()
            .find(|(name, _)| name.trim_start_matches("./") == path);
        assert_eq!(found.map(|(_, node)| owner(node)), Some(ids), "{path}");
    }
}

#[test]
fn devices_that_a_step_makes_are_devices_in_the_image() {
    let rig = Rig::new();
    rig.dockerfile(
        "FROM base\nRUN mkdir /d && mknod /d/null c 1 3 && mknod /d/loop b 7 1 && chown 5:6 /d/loop && chmod 640 /d/loop\n\
         RUN mv /d/null /d/moved && chmod 600 /d/moved && test -c /d/moved && test -b /d/loop\n\
         USER app\nRUN ! mknod /tmp/x c 1 3",
    );
    let archive = rig.path("devices.tar");
    let output = format!("type=oci,dest={}", archive.display());
    let mut command = rig.build_command(&["-o", &output]);
    Outcome::of(command.env("RBUILD_SANDBOX", "recorded")).succeeds();
    let image = Image::open(&archive);
    assert_eq!(
        image.file("d/moved").kind,
        Kind::Character { major: 1, minor: 3 }
    );
    assert_eq!(
        image.file("d/loop").kind,
        Kind::Block { major: 7, minor: 1 }
    );
    assert_owners(
        &image,
        &[("d/loop", (5, 6), 0o640), ("d/moved", (0, 0), 0o600)],
    );
    assert!(!image.has("d/null"));
}

#[test]
fn a_secret_belongs_to_whom_the_mount_says() {
    let rig = Rig::new();
    rig.write("note", "word");
    let image = rig.image_with(
        "FROM base\nRUN --mount=type=secret,id=n,uid=1000,gid=10,mode=0440 stat -c %u:%g:%a /run/secrets/n > /seen",
        &["--secret", &format!("id=n,src={}", rig.path("context/note").display())],
    );
    assert_eq!(image.text("seen"), "1000:10:440\n");
}

#[test]
fn steps_are_found_again_and_records_are_not_in_keys() {
    let rig = Rig::new();
    rig.dockerfile("FROM base\nRUN mkdir /d && chown 7:8 /d\nRUN touch /d/f");
    rig.build(&[]).succeeds();
    let again = rig.build(&[]).succeeds();
    for instruction in ["RUN mkdir /d && chown 7:8 /d", "RUN touch /d/f"] {
        assert!(again.is_cached(instruction), "{instruction}");
    }
}

#[test]
fn a_set_user_id_program_runs_as_its_owner() {
    let Some(program) = host::compile(
        "#include <fcntl.h>\n#include <stdio.h>\n#include <unistd.h>\nint main(void) {\n\
         printf(\"%d %d %d %d\\n\", getuid(), geteuid(), getgid(), getegid());\n\
         return open(\"made\", O_CREAT | O_WRONLY, 0600) < 0; }",
    ) else {
        return;
    };
    let rig = Rig::new();
    rig.write("program", program).chmod("program", 0o755);
    let image = rig.image(
        "FROM base\nCOPY --chown=33:44 program /program\nRUN chmod 6755 /program && mkdir -m 777 /work\n\
         USER app\nWORKDIR /work\nRUN /program > seen",
    );
    assert_eq!(image.text("work/seen"), "1000 33 1000 44\n");
    let expected = [
        ("work/made", (33, 44), 0o600),
        ("program", (33, 44), 0o6755),
    ];
    assert_owners(&image, &expected);
}

#[test]
fn hard_links_share_their_owner_and_new_files_do_not_inherit_it() {
    let rig = Rig::new();
    let image = rig.image(
        "FROM base\nRUN cd /tmp && for i in 1 2 3; do ln -s x l$i && touch f$i && mkfifo p$i; done && \
         chown -h 5:6 l* f* p*\n\
         RUN cd /tmp && ln l1 same-l && ln f1 same-f && ln p1 same-p && chown -h 7:8 same-l same-f same-p && \
         stat -c '%n %u:%g %h' l1 f1 p1 > seen && rm l2 f2 p2 && ln -s y l2 && touch f2 && mkfifo p2",
    );
    assert_eq!(image.text("tmp/seen"), "l1 7:8 2\nf1 7:8 2\np1 7:8 2\n");
    for path in ["tmp/l1", "tmp/f1", "tmp/p1"] {
        let node = image.file(path);
        let ids = match &node.link {
            Some(first) if node.kind == Kind::HardLink => owner(&image.file(first)),
            _ => owner(&node),
        };
        assert_eq!(ids, (7, 8), "{path}");
    }
    for path in ["tmp/l2", "tmp/f2", "tmp/p2"] {
        assert_eq!(owner(&image.file(path)), (0, 0), "{path}");
    }
    for path in ["tmp/l3", "tmp/f3", "tmp/p3"] {
        assert_eq!(owner(&image.file(path)), (5, 6), "{path}");
    }
}

#[test]
fn a_program_cannot_tell_who_answers_its_calls() {
    if !host::maps_many_ids() {
        return;
    }
    let source = host::source().join("tests/recorded/conformance/conformance.c");
    let Some(program) = host::compile(&std::fs::read_to_string(source).unwrap()) else {
        return;
    };
    let rig = Rig::new();
    rig.write("conformance", program)
        .chmod("conformance", 0o755)
        .dockerfile(
            "FROM base\nCOPY conformance /conformance\nWORKDIR /work\n\
             RUN timeout -s KILL 200 /conformance > /seen 2>&1",
        );
    let seen = |rung: &str| {
        let archive = rig.path(rung);
        let output = format!("type=oci,dest={}", archive.display());
        let mut command = rig.build_command(&["--no-cache", "-o", &output]);
        Outcome::of(command.env("RBUILD_SANDBOX", rung)).succeeds();
        let text = Image::open(&archive).text("seen");
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let (mapped, recorded) = (seen("mapped"), seen("recorded"));
    for (line, (theirs, ours)) in mapped.iter().zip(&recorded).enumerate() {
        assert_eq!(theirs, ours, "line {}", line + 1);
    }
    assert_eq!(mapped.len(), recorded.len());
    assert!(mapped.len() > 4000, "{}", mapped.join("\n"));
}
