//! Base images whose layers are attacks: whatever becomes of the build, nothing outside the image changes,
//! and what real images have still works.

use std::fs;
use std::path::Path;

use crate::rig::Rig;
use crate::rig::forged::{Forged, Layer};
use crate::rig::image::{Image, Kind};
use crate::rig::outcome::Outcome;

/// A rig without images, and beside it a directory with one file that no layer may touch.
fn rig() -> (Rig, String) {
    let rig = Rig::empty();
    let victim = rig.path("victim");
    fs::create_dir(&victim).unwrap();
    fs::write(victim.join("kept"), "kept").unwrap();
    let victim = victim.to_str().unwrap().to_owned();
    (rig, victim)
}

#[track_caller]
fn check(victim: &str, name: &str, outcome: &Outcome) {
    outcome.is_sane(name);
    let names: Vec<_> = fs::read_dir(victim)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(names, ["kept"], "{name}");
    let kept = Path::new(victim).join("kept");
    assert_eq!(fs::read_to_string(kept).unwrap(), "kept", "{name}");
}

const LOOK: &str =
    "FROM evil\nRUN cat /etc/passwd > /seen; find / -xdev > /listing 2>/dev/null; true";

#[test]
fn layers_that_attack_are_refused_or_stay_inside() {
    let (rig, victim) = rig();
    let host = |name: &str| format!("{victim}/{name}");
    let l = Layer::new;
    // The layers, and a part of the error; none where the image can be built on.
    let cases: Vec<(&str, Vec<Layer>, Option<&str>)> = vec![
        (
            "a name with parents",
            vec![l().file("../../../../etc/evil", "x")],
            None,
        ),
        ("an absolute name", vec![l().file(host("evil"), "x")], None),
        (
            "through a link",
            vec![
                l().symlink("out", &victim)
                    .file("out/evil", "x")
                    .file("out/kept", "x"),
            ],
            None,
        ),
        (
            "through a link of a lower layer",
            vec![l().symlink("out", &victim), l().file("out/evil", "x")],
            None,
        ),
        (
            "a removal through a link of a lower layer",
            vec![l().symlink("out", &victim), l().file("out/.wh.kept", "")],
            None,
        ),
        (
            "an opaque directory through a link of a lower layer",
            vec![
                l().symlink("out", &victim),
                l().file("out/.wh..wh..opq", ""),
            ],
            None,
        ),
        (
            "a removal through a link of its own",
            vec![l().symlink("out", &victim).file("out/.wh.kept", "")],
            None,
        ),
        (
            "a directory over a link",
            vec![
                l().symlink("out", &victim)
                    .directory("out")
                    .file("out/evil", ""),
            ],
            None,
        ),
        (
            "a mode through a link",
            vec![
                l().symlink("out", &victim)
                    .raw(b'5', "out", "", b"", |h| h.set_mode(0o777)),
            ],
            None,
        ),
        (
            "a relative link",
            vec![
                l().symlink("a/out", "../../../../../..")
                    .file(format!("a/out{victim}/evil"), ""),
            ],
            None,
        ),
        (
            "links in a circle",
            vec![l().symlink("a", "b").symlink("b", "a").file("a/x", "")],
            Some("a/x"),
        ),
        (
            "a link to nothing",
            vec![l().symlink("a", "/not/there").file("a/x", "")],
            None,
        ),
        (
            "a hard link to a file of the host",
            vec![l().hard_link("l", host("kept")).file("l", "x")],
            Some("hard link"),
        ),
        (
            "a hard link through a link",
            vec![l().symlink("out", &victim).hard_link("l", "out/kept")],
            Some("hard link"),
        ),
        (
            "a hard link to a directory",
            vec![l().directory("d").hard_link("l", "d")],
            Some("hard link"),
        ),
        (
            "a hard link to what comes later",
            vec![l().hard_link("l", "f").file("f", "")],
            Some("hard link"),
        ),
        (
            "a hard link to a removal",
            vec![l().file(".wh.f", "").hard_link("l", "f")],
            Some("hard link"),
        ),
        (
            "a hard link to the root",
            vec![l().hard_link("l", "/")],
            Some("hard link"),
        ),
        (
            "a removal of nothing",
            vec![l().file(".wh.", "")],
            Some("whiteout"),
        ),
        (
            "a removal of itself",
            vec![l().file(".wh..", "")],
            Some("whiteout"),
        ),
        (
            "a removal of the parent",
            vec![l().file("etc/.wh...", "")],
            Some("whiteout"),
        ),
        (
            "a removal in a removal",
            vec![l().file(".wh.a/b", "")],
            Some("whiteout"),
        ),
        (
            "the root as a link",
            vec![l().symlink(".", "/etc")],
            Some("root"),
        ),
        (
            "the root as a link with slashes",
            vec![l().symlink(".//", &victim)],
            Some("root"),
        ),
        ("the root as a file", vec![l().file(".", "")], Some("root")),
        (
            "records of aufs",
            vec![
                l().directory(".wh..wh.plnk")
                    .file(".wh..wh.plnk/1.2", "x")
                    .file(".wh..wh.aufs", ""),
            ],
            None,
        ),
        (
            "a whiteout as a device",
            vec![l().raw(b'3', "etc/passwd", "", b"", |h| {
                h.set_device_major(0).unwrap();
                h.set_device_minor(0).unwrap();
            })],
            Some("device 0:0"),
        ),
        (
            "marks of overlayfs",
            vec![
                l().records(&[
                    ("SCHILY.xattr.user.overlay.opaque", b"y"),
                    ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
                    ("SCHILY.xattr.user.overlay.redirect", b"/root"),
                ])
                .directory("etc"),
                l().records(&[("SCHILY.xattr.user.overlay.whiteout", b"y")])
                    .file("bin/busybox.x", ""),
            ],
            None,
        ),
        (
            "records of owners",
            vec![
                l().records(&[(
                    "SCHILY.xattr.user.rbuild.owner",
                    b"\0\0\0\0\0\0\0\0b\x08\0\0\0\0\0\0\0",
                )])
                .file("disk", ""),
            ],
            None,
        ),
        (
            "a sparse file that lies",
            vec![
                l().records(&[("GNU.sparse.map", b"0,512"), ("GNU.sparse.size", b"9")])
                    .file("f", "x"),
            ],
            Some("sparse"),
        ),
        (
            "a long name of 600 MiB",
            vec![
                l().raw(b'L', "x", "", b"", |h| h.set_size(600 << 20))
                    .file("f", ""),
            ],
            Some("too long"),
        ),
        (
            "records of 600 MiB",
            vec![
                l().raw(b'x', "x", "", b"", |h| h.set_size(600 << 20))
                    .file("f", ""),
            ],
            Some("too long"),
        ),
        (
            "every kind at one name",
            vec![
                l().file("n", "x")
                    .directory("n")
                    .file("n/x", "")
                    .symlink("n", &victim)
                    .fifo("n")
                    .directory("n")
                    .symlink("n/up", "..")
                    .file("n/up/evil", "")
                    .file("n", "y"),
            ],
            None,
        ),
        (
            "a path of 5000 bytes",
            vec![l().file("n/".repeat(2500), "")],
            Some("path"),
        ),
        (
            "10,000 directories",
            vec![l().directory("d/".repeat(10_000))],
            Some("path"),
        ),
        (
            "a name of 256 bytes",
            vec![l().file("n".repeat(256), "")],
            Some("path"),
        ),
        (
            "names that act on terminals",
            vec![
                l().file("a\x1b]0;title\x07b", "")
                    .file("new\nline\r", "")
                    .file(b"\xff\xfe", ""),
            ],
            None,
        ),
        (
            "a name that acts on terminals, in an error",
            vec![l().hard_link("a\x1b]0;title\x07\r\nb", "\x1b[2Jno")],
            Some("hard link"),
        ),
        (
            "an unknown kind",
            vec![l().raw(b'Z', "z", "", b"", |_| {})],
            Some("type"),
        ),
        (
            "a contiguous file",
            vec![l().raw(b'7', "z", "", b"", |_| {})],
            Some("type"),
        ),
        (
            "times that no clock shows",
            vec![
                l().records(&[("mtime", b"-99999999999.5")])
                    .file("ancient", "")
                    .records(&[("mtime", b"1152921504606846976")])
                    .directory("late"),
            ],
            None,
        ),
        (
            "the owner -1",
            vec![l().records(&[("uid", b"4294967295")]).file("f", "")],
            Some("owner"),
        ),
    ];
    for (name, layers, error) in cases {
        let layers: Vec<Vec<u8>> = layers.into_iter().map(Layer::tar).collect();
        let alone = layers.first().unwrap().clone();
        let forged = Forged::on_base(layers);
        let outcome = rig.build_on(&forged.archive(), LOOK);
        check(&victim, name, &outcome);
        assert_eq!(
            outcome.code,
            Some(i32::from(error.is_some())),
            "{name}: {}",
            outcome.stderr
        );
        match error {
            Some(error) => assert!(outcome.stderr.contains(error), "{name}: {}", outcome.stderr),
            None => {
                let image = Image::open(&rig.path("image.tar"));
                assert_eq!(image.text("seen"), crate::rig::base::PASSWD, "{name}");
            }
        }
        // As the only layer of an image that is imported.
        let tar = rig.path("alone.tar");
        fs::write(&tar, alone).unwrap();
        let import = rig.command(["import", tar.to_str().unwrap(), "alone"]);
        let outcome = Outcome::bounded(&import);
        check(&victim, name, &outcome);
    }
    // After all of that the store is as good as new.
    rig.rbuild(["store", "check"]).exits_with(0);
}

#[test]
fn what_real_images_do_works() {
    let (rig, victim) = rig();
    let layer = Layer::new()
        .symlink("./var/run", "/run")
        .file("./var/run/pid", "1")
        .file("no/parents/at/all", "2")
        .file("./usr/lib/a.so", "3")
        .hard_link("usr/lib/b.so", "/usr/lib/a.so")
        .hard_link("./usr/lib/c.so", "./usr/lib/b.so")
        .symlink("lib", "usr/lib")
        .file("lib/d.so", "4")
        .raw(b'0', "bin/setuid", "", b"x", |header| {
            header.set_mode(0o4755);
        })
        .file("gone", "x");
    let upper = Layer::new()
        .file("./.wh.gone", "")
        .file("no/.wh..wh..opq", "")
        .file("no/new", "5");
    let unfinished = Layer::new().file("end", "of tape").unfinished();
    let garbage = [
        Layer::new().file("more", "x").tar(),
        b"garbage".repeat(1000),
    ]
    .concat();
    // The same layer twice is what `docker commit` of nothing once made.
    let upper = upper.tar();
    let forged = Forged::on_base(vec![layer.tar(), upper.clone(), upper, unfinished, garbage]);
    let look = "FROM evil\nRUN cat /run/pid /usr/lib/b.so /lib/c.so /usr/lib/d.so /no/new /end > /seen; \
                test ! -e /gone && test ! -e /no/parents && test -u /bin/setuid && test -f /more && \
                test $(stat -c %h /usr/lib/a.so) = 3 && echo fine >> /seen";
    let outcome = rig.build_on(&forged.archive(), look);
    check(&victim, "real", &outcome);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    assert_eq!(
        Image::open(&rig.path("image.tar")).text("seen"),
        "13345of tapefine\n"
    );
}

#[test]
fn what_a_size_in_records_hides_is_no_member() {
    let (rig, victim) = rig();
    let smuggled = Layer::new().file("smuggled", "evil").unfinished();
    let size = smuggled.len().to_string();
    let layer = Layer::new()
        .records(&[("size", size.as_bytes())])
        .raw(b'0', "carrier", "", &smuggled, |header| header.set_size(0))
        .file("after", "x");
    let forged = Forged::on_base(vec![layer.tar()]);
    let outcome = rig.build_on(&forged.archive(), LOOK);
    check(&victim, "smuggled", &outcome);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    let image = Image::open(&rig.path("image.tar"));
    let listing = image.text("listing");
    assert!(
        listing.contains("/carrier\n") && listing.contains("/after\n"),
        "{listing}"
    );
    assert!(!listing.contains("smuggled"), "{listing}");
}

#[test]
fn archives_that_are_cut_off_or_damaged_are_refused() {
    let (rig, victim) = rig();
    let whole = Layer::new()
        .file("a", &"x".repeat(2000))
        .file("b", "y")
        .unfinished();
    for length in [100, 511, 513, 700, 2559, 3000] {
        let forged = Forged::on_base(vec![whole[..length].to_vec()]);
        let outcome = rig.build_on(&forged.archive(), LOOK);
        check(&victim, &length.to_string(), &outcome);
        assert_eq!(outcome.code, Some(1), "{length}: {}", outcome.stderr);
    }
    rig.rbuild(["store", "check"]).exits_with(0);
}

#[test]
fn devices_and_pipes_of_a_base_are_what_they_were() {
    let (rig, victim) = rig();
    let device = |kind, path: &str, major, minor, layer: Layer| {
        layer.raw(kind, path, "", b"", |header| {
            header.set_device_major(major).unwrap();
            header.set_device_minor(minor).unwrap();
        })
    };
    let layer = device(b'3', "zero", 1, 5, Layer::new());
    let layer = device(b'4', "disk", 8, 0, layer).fifo("pipe");
    let forged = Forged::on_base(vec![layer.tar()]);
    // Nothing of this can be read as what it says, so nothing hangs.
    let outcome = rig.build_on(
        &forged.archive(),
        "FROM evil\nRUN test $(timeout 9 head -c 1 /zero | wc -c) = 0 && chmod 600 /zero && touch /pipe\nCOPY --from=evil /zero /disk /pipe /copied/",
    );
    check(&victim, "devices", &outcome);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    let image = Image::open(&rig.path("image.tar"));
    for path in ["zero", "copied/zero"] {
        assert_eq!(
            image.file(path).kind,
            Kind::Character { major: 1, minor: 5 },
            "{path}"
        );
    }
    assert_eq!(
        image.file("copied/disk").kind,
        Kind::Block { major: 8, minor: 0 }
    );
    assert_eq!(image.file("copied/pipe").kind, Kind::Fifo);
}

#[test]
fn stacks_of_layers_end_where_overlayfs_does() {
    let rig = Rig::empty();
    let of = |count: usize| {
        let layers = (0..count).map(|n| Layer::new().file(format!("l{n}"), "x").tar());
        Forged::on_base(layers.collect()).archive()
    };
    for count in [130, 480] {
        let dockerfile = format!(
            "FROM evil\nRUN test -e /l0 && test -e /l{} && touch /made",
            count - 1
        );
        let outcome = rig.build_on(&of(count), &dockerfile);
        outcome.is_sane("many layers");
        assert_eq!(outcome.code, Some(0), "{count}: {}", outcome.stderr);
        assert!(Image::open(&rig.path("image.tar")).has("made"));
    }
    let outcome = rig.build_on(&of(520), "FROM evil\nRUN test -e /l519");
    outcome.is_sane("too many layers");
    assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("500"), "{}", outcome.stderr);
}
