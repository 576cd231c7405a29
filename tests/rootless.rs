//! Owners, privileges and attributes that an unprivileged caller gets right.

use crate::rig::image::Kind;
use crate::rig::{Rig, host};

#[test]
fn owners_and_special_bits_survive_from_layer_to_layer() {
    let rig = Rig::new();
    let image = rig.image(
        "FROM base\n\
         RUN mkdir -p /srv/data && echo 1 > /srv/data/f && chown -R 1000:50 /srv/data && \
             chmod 2770 /srv/data && chmod 6755 /srv/data/f\n\
         RUN touch -d @5 /srv/data/f && chown -h 65534:65534 /srv && chmod 1755 /srv\n\
         RUN stat -c '%u:%g:%a' /srv /srv/data /srv/data/f > /tmp/seen",
    );
    assert_eq!(
        image.text("tmp/seen"),
        "65534:65534:1755\n1000:50:2770\n1000:50:6755\n"
    );
    for (path, owner, mode) in [
        ("srv", (65534, 65534), 0o1755),
        ("srv/data", (1000, 50), 0o2770),
        ("srv/data/f", (1000, 50), 0o6755),
    ] {
        let node = image.file(path);
        assert_eq!(((node.uid, node.gid), node.mode), (owner, mode), "{path}");
    }
}

#[test]
fn a_user_of_the_image_owns_what_it_makes() {
    let rig = Rig::new();
    let image = rig
        .image("FROM base\nUSER app:wheel\nRUN touch /tmp/mine\nUSER 4242\nRUN touch /tmp/other");
    let owner = |path| {
        let node = image.file(path);
        (node.uid, node.gid)
    };
    assert_eq!(owner("tmp/mine"), (1000, 10));
    assert_eq!(owner("tmp/other"), (4242, 0));
}

#[test]
fn a_user_cannot_read_what_root_keeps_to_itself() {
    if !host::maps_many_ids() {
        return;
    }
    let rig = Rig::new();
    rig.dockerfile("FROM base\nRUN echo s > /root/secret && chmod 600 /root/secret\nUSER app\nRUN cat /root/secret");
    rig.build(&[]).exits_with(1).says(&["Permission denied"]);
}

#[test]
fn workdir_belongs_to_the_current_user() {
    let rig = Rig::new();
    let image = rig.image("FROM base\nUSER app\nWORKDIR /home/app/src\nRUN touch file");
    for path in ["home/app/src", "home/app/src/file"] {
        let node = image.file(path);
        assert_eq!((node.uid, node.gid), (1000, 1000), "{path}");
    }
}

/// `setxattr PATH NAME VALUE`, as a static program: busybox has none.
const SETXATTR: &str = "#include <string.h>\n#include <stdio.h>\n#include <sys/xattr.h>\n\
    int main(int c, char **v) { if (setxattr(v[1], v[2], v[3], strlen(v[3]), 0)) { perror(v[2]); return 1; } return 0; }";

#[test]
fn extended_attributes_reach_the_layer_and_the_next_step() {
    let Some(program) = host::compile(SETXATTR) else {
        return;
    };
    let rig = Rig::new();
    rig.write("setxattr", program).chmod("setxattr", 0o755);
    let image = rig.image(
        "FROM base\nCOPY setxattr /setxattr\nRUN touch /f && /setxattr /f user.key value\n\
         FROM scratch\nCOPY --from=0 /f /f",
    );
    assert_eq!(image.file("f").xattrs["user.key"], b"value");
}

/// The bytes of `setcap cap_net_bind_service=ep`: revision 2 of the attribute, which names no user
/// namespace's root.
const NET_BIND_SERVICE: [u8; 20] = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

#[test]
fn file_capabilities_are_those_that_any_host_honours() {
    let Some(program) = host::compile(
        "#include <stdio.h>\n#include <string.h>\n#include <sys/xattr.h>\n\
         int main(int c, char **v) {\n\
         unsigned char cap[20] = {1, 0, 0, 2, 0, 4};\n\
         if (setxattr(v[1], \"security.capability\", cap, sizeof cap, 0)) { perror(v[1]); return 1; }\n\
         return 0; }",
    ) else {
        return;
    };
    let rig = Rig::new();
    rig.write("setcap", program).chmod("setcap", 0o755);
    let image = rig.image("FROM base\nCOPY setcap /setcap\nRUN touch /f && /setcap /f\nRUN touch /other\nFROM scratch\nCOPY --from=0 /f /f");
    assert_eq!(
        image.file("f").xattrs["security.capability"],
        NET_BIND_SERVICE
    );
}

#[test]
fn no_attribute_of_the_overlay_reaches_a_layer() {
    let rig = Rig::new();
    let image = rig
        .image("FROM base\nRUN mkdir /d && touch /d/f\nRUN mv /d /e && rm /e/f && chmod 700 /etc");
    for layer in &image.layers {
        for (path, node) in &layer.entries {
            assert!(
                node.xattrs.keys().all(|name| !name.contains("overlay")),
                "{path}: {:?}",
                node.xattrs
            );
        }
    }
}

#[test]
fn a_command_makes_a_device_that_is_only_recorded_or_is_told_that_it_cannot() {
    if host::is_root() {
        return host::skip("root makes devices");
    }
    let rig = Rig::new();
    let dockerfile = "FROM base\nRUN mknod /d c 1 3";
    if host::maps_many_ids() {
        rig.dockerfile(dockerfile);
        rig.build(&[]).exits_with(1);
    } else {
        let device = Kind::Character { major: 1, minor: 3 };
        assert_eq!(rig.image(dockerfile).file("d").kind, device);
    }
}

#[test]
fn whiteouts_are_never_devices_in_the_image() {
    let rig = Rig::new();
    let image = rig.image("FROM base\nRUN touch /a\nRUN rm /a /etc/group");
    for layer in &image.layers {
        for (path, node) in &layer.entries {
            assert!(!matches!(node.kind, Kind::Character { .. }), "{path}");
        }
    }
    assert!(!image.has("a") && !image.has("etc/group"));
}

#[test]
fn one_id_is_enough_for_images_of_one_owner() {
    let rig = Rig::new();
    let image = rig.image("FROM base\nRUN mkdir /d && echo 1 > /d/f && chmod 700 /d");
    let node = image.file("d/f");
    assert_eq!((node.uid, node.gid), (0, 0));
}
