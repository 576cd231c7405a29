//! What covers the host's secrets in /proc comes from the host, not from a /dev/null of the image
//! (CVE-2025-31133).

use std::path::Path;

use crate::rig::Rig;
use crate::rig::forged::{Forged, Layer};
use crate::rig::image::{Image, Kind};
use crate::rig::outcome::Outcome;
use crate::rig::terminal;

const FILES: &str = "kcore keys timer_list sched_debug latency_stats";

const LOOK: &str = "FROM evil\n\
     RUN for f in $FILES; do \
           test -e /proc/$f || continue; echo $f $(stat -c %t:%T /proc/$f) $(head -c 1 /proc/$f | wc -c); done > /masked; \
         for d in acpi scsi; do test -d /proc/$d && ls /proc/$d; done > /listed; \
         for f in /proc/sys/kernel/hostname /proc/sys/kernel/core_pattern /proc/kcore /proc/keys; do \
           echo evil > $f && echo $f; done > /written 2>/dev/null; \
         cat /dev/null > /null; stat -c '%t:%T' /dev/null >> /null; \
         echo evil > /dev/null; true\n";

#[test]
fn a_dev_null_of_the_image_covers_nothing_and_is_not_written_to() {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let l = Layer::new;
    for (name, layer, kind) in [
        (
            "a link into /proc/sys",
            l().symlink("dev/null", "/proc/sys/kernel/hostname"),
            Kind::Symlink,
        ),
        (
            "a link to what is to be covered",
            l().symlink("dev/null", "/proc/kcore"),
            Kind::Symlink,
        ),
        (
            "a link up",
            l().symlink(
                "dev/null",
                "../../../../../../../proc/sys/kernel/core_pattern",
            ),
            Kind::Symlink,
        ),
        ("a file", l().file("dev/null", "not nothing"), Kind::File),
        ("a pipe", l().fifo("dev/null"), Kind::Fifo),
        ("a directory", l().directory("dev/null"), Kind::Directory),
    ] {
        let rig = Rig::empty();
        let file = rig.path("evil.tar");
        let forged = Forged::on_base(vec![layer.tar()]);
        std::fs::write(&file, forged.archive()).unwrap();
        let context = format!("evil=oci-archive:{}", file.display());
        let archive = rig.path("image.tar");
        let output = format!("type=oci,dest={}", archive.display());
        rig.dockerfile(&LOOK.replace("$FILES", FILES));
        let build = rig.build_command(&["--build-context", &context, "-o", &output]);
        let mut build = terminal::started_by(&["timeout", "-k", "5", "60"], &build);
        Outcome::of(&mut build).succeeds();
        let image = Image::open(&archive);
        let masked = image.text("masked");
        for file in FILES.split(' ') {
            let is_there = Path::new("/proc").join(file).exists();
            let line = format!("{file} 1:3 0");
            assert!(
                !is_there || masked.lines().any(|there| there == line),
                "{name}: {line}: {masked}"
            );
        }
        assert_eq!(image.text("listed"), "", "{name}");
        // The covered ones take what is written and forget it, as /dev/null does.
        let written = image.text("written");
        assert!(!written.contains("/proc/sys"), "{name}: {written}");
        assert_eq!(image.text("null"), "1:3\n", "{name}");
        let there = image.file("dev/null");
        assert_eq!(there.kind, kind, "{name}");
        if kind == Kind::File {
            assert_eq!(there.content, b"not nothing");
        }
    }
    let after = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(after, host);
}
